"""Skips: who skipped items gets the answers of `Engine.recommend(feedback=…)`, bit for bit."""

import numpy as np
import pytest
from c_engine import CEngine, column, lists, requests_of
from c_library import INVALID_ARGUMENT, CError, address
from c_requests import MISSING, check_same
from worlds import STORED_FEATURES

import shortlist


@pytest.fixture(scope="module", params=["bundle", "text_bundle"])
def engines(request):
    world = request.getfixturevalue(request.param)
    with shortlist.load(world.path) as engine, CEngine(world.path) as c_engine:
        yield world, engine, c_engine


@pytest.fixture(scope="module")
def people(engines):
    """For each user what was clicked and what was skipped since, as rows of items."""
    known = list(engines[0].users)
    strange = ["x", "y"] if isinstance(known[0], str) else [77, 78]
    return {
        known[0]: ([20, 21], [11]),
        known[1]: ([30], [12, 13, 35]),
        known[2]: ([], [14]),
        strange[0]: ([8], [2, 9]),
        strange[1]: ([], [0, 1]),
    }


@pytest.fixture
def log(people, engines, tmp_path):
    ids = engines[0].item_ids.tolist()
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        for user, (clicked, skipped) in people.items():
            for kind, rows in (("click", clicked), ("skip", skipped)):
                for row in rows:
                    log.append(user_id=user, item_id=ids[row], kind=kind, timestamp=1000 + row)
        yield log


def joined(world, people):
    """What a host makes of its log: whole histories, what is stored of users, and the skips."""
    is_text, ids = world.item_ids.dtype.kind == "U", world.item_ids.tolist()
    stored = dict(zip(world.users, zip(*STORED_FEATURES.values(), strict=True), strict=True))
    of = [stored.get(user, (None,) * len(STORED_FEATURES)) for user in people]
    city, level, tags, age = (list(values) for values in zip(*of, strict=True))
    histories = [
        [ids[row] for row in (*world.users.get(user, ()), *clicked)]
        for user, (clicked, _) in people.items()
    ]
    columns = [
        lists("history", histories, object if is_text else np.int64),
        column("city", np.array([value or "" for value in city], object)),
        column("level", [MISSING if value is None else value for value in level]),
        lists("tags", [value or [] for value in tags], object),
        column("age", np.array([np.nan if v is None else v for v in age], np.float32)),
    ]
    return columns, [[ids[row] for row in skipped] for _, skipped in people.values()]


def test_skips_are_left_out_and_push_as_the_log_of_python_does(engines, people, log):
    world, engine, c_engine = engines
    columns, skipped = joined(world, people)
    n = len(people)
    for top_n in (5, 55):
        for exclude_seen in (True, False):
            expected = engine.recommend(
                user_ids=list(people), top_n=top_n, exclude_seen=exclude_seen, feedback=log
            )
            found = c_engine.recommend(columns, n, top_n, not exclude_seen, skipped=skipped)
            check_same(found, expected)
    assert set(expected.source) == {"history", "features", "popular"}
    pushed = c_engine.recommend(columns, n, 5, True, skipped=skipped).scores
    assert pushed.tobytes() != c_engine.recommend(columns, n, 5, True).scores.tobytes()


def test_skips_of_stored_users_join_what_is_stored(engines):
    world, _, c_engine = engines
    users, ids = list(world.users)[:2], world.item_ids.tolist()
    kind = object if isinstance(ids[0], str) else np.int64
    of_users = [column("user_id", np.array(users, kind))]
    stored = [lists("history", [[ids[row] for row in world.users[u]] for u in users], kind)]
    skipped = [[ids[11]], [ids[12], ids[35]]]
    found = c_engine.recommend(of_users, 2, 55, skipped=skipped)
    expected = c_engine.recommend(of_users + stored, 2, 55, skipped=skipped)
    assert found.sources.tolist() == [2, 2]
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.item_ids.tolist() == expected.item_ids.tolist()


@pytest.mark.parametrize("stages", [1, 2])
def test_skips_push_before_a_reranker_chooses(bundle, stages, tmp_path):
    ids = bundle.item_ids.tolist()
    with (
        shortlist.load(bundle.path) as engine,
        CEngine(bundle.path) as c_engine,
        shortlist.FeedbackLog(tmp_path / "feedback.log") as log,
    ):
        for row, kind in ((3, "click"), (8, "click"), (9, "skip"), (30, "skip")):
            log.append(user_id=77, item_id=ids[row], kind=kind, timestamp=1000 + row)
        expected = engine.recommend(user_ids=[77], stages=stages, feedback=log)
        history = lists("history", [[ids[3], ids[8]]], np.int64)
        skipped = [[ids[9], ids[30]]]
        check_same(c_engine.recommend([history], 1, stages=stages, skipped=skipped), expected)


def test_skips_keep_to_their_requests_through_batches(bundle):
    ids, n = bundle.item_ids.tolist(), 1300
    histories = [[ids[i % 40], ids[(7 * i + 3) % 40]] for i in range(n)]
    skipped = [[] if i % 3 == 0 else [ids[(i + 5) % 40], ids[i * i % 40]] for i in range(n)]
    with CEngine(bundle.path) as c_engine:
        whole = c_engine.recommend([lists("history", histories, np.int64)], n, skipped=skipped)
        for i in (0, 1, 500, 1023, 1024, 1025, n - 1):
            alone = c_engine.recommend(
                [lists("history", [histories[i]], np.int64)], 1, skipped=[skipped[i]]
            )
            assert whole.item_ids[i].tolist() == alone.item_ids[0].tolist()
            np.testing.assert_allclose(whole.scores[i], alone.scores[0], rtol=1e-5)


def test_skips_may_be_rows_and_unknown_ones_are_nothing(bundle):
    ids = bundle.item_ids.tolist()
    history = [column("history", [[ids[3]]])]
    with CEngine(bundle.path) as c_engine:

        def ask(skipped, as_rows=False):
            requests = requests_of(history, 1, 10, skipped=[skipped], as_rows=as_rows)
            found = c_engine.ask(requests)
            return found.item_ids.tolist(), found.scores.tobytes()

        assert ask([ids[9], ids[4]]) == ask([9, 4], as_rows=True) != ask([])
        assert ask([5, 6]) == ask([-1, -7], as_rows=True) == ask([])


def refused(engine, requests, match):
    with pytest.raises(CError, match=match) as caught:
        engine.ask(requests)
    assert caught.value.status == INVALID_ARGUMENT


@pytest.mark.parametrize("splits", [[0, 2, 1], [0, 1, 3], [1, 1, 2], None])
def test_splits_of_skips_that_are_wrong_are_named(bundle, splits):
    requests = requests_of([], 2, 5, skipped=[[100], [107]])
    values = None if splits is None else np.array(splits)
    requests.skipped_splits = None if splits is None else address(values)
    got = "NULL; expected n_requests" if splits is None else r"3 splits from \d to \d; expected"
    with CEngine(bundle.path) as c_engine:
        refused(c_engine, requests, rf"^requests\.skipped_splits: got {got}")


def test_skips_that_no_item_can_be_are_named(bundle):
    with CEngine(bundle.path) as c_engine:
        refused(c_engine, requests_of([], 1, 5, skipped=[["é100"]]),
                r"requests\.skipped: got texts; expected numbers")  # fmt: skip
        refused(c_engine, requests_of([], 1, 5, skipped=[[40]], as_rows=True),
                "rows: got 40 at position 0; the index has 40 rows")  # fmt: skip
