"""`Engine.explain`: every reason is what an engine that is asked again would say."""

import datetime
import itertools
import json

import numpy as np
import pytest
from worlds import N_ITEMS, ids_of, make_world

import shortlist
from shortlist import DataError
from shortlist.loading import load

CLOSE = 2e-6  # float32 sums of the tiny encoder, relative to the largest score
WORLDS = {
    "one stage": {"scorer": None},
    "dot": {"scorer": None, "metric": "dot"},
    "euclidean": {"scorer": None, "metric": "euclidean", "dtype": "string"},
    "network": {"scorer": "sums"},
    "counts": {"scorer": "followers", "dtype": "string"},
    "events": {"scorer": None, "has_events": True, "with_users": False},
    "short": {"scorer": None, "max_history": 4, "with_users": False},
}


@pytest.fixture(scope="module", params=WORLDS)
def made(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("explain") / "tiny.shortlist"
    world = make_world(path, **WORLDS[request.param])
    with load(path) as engine:
        yield world, engine


def some_requests(world, n, seed=3):
    rng = np.random.default_rng(seed)
    dtype = "string" if isinstance(world.item_ids[0], str) else "int64"
    known, requests = list(world.item_ids), []
    for i in range(n):
        history = [known[row] for row in rng.integers(0, N_ITEMS, 2 + i % 6)]
        history.insert(1, ids_of([99_991], dtype)[0])  # that nobody knows
        request = {"history": [x.item() if hasattr(x, "item") else x for x in history]}
        if i % 3 == 0:
            request |= {"city": "Köln", "age": 41.5, "tags": ["b"]}
        if world.manifest["event_features"]:
            request["history_kinds"] = ["view", None, "purchase", "view"] * 3
            request["history_kinds"] = request["history_kinds"][: len(history)]
            request["history_ages"] = [1e5 * (len(history) - k) for k in range(len(history))]
        requests.append(request)
    return requests


def without(request, reasons):
    """A request without some reasons, as a caller would write it."""
    items = {reason.item_id for reason in reasons if reason.feature is None}
    left = {key: value for key, value in request.items() if not key.startswith("history")}
    kept = [k for k, item in enumerate(request["history"]) if item not in items]
    for name in request.keys() - left.keys():
        left[name] = [request[name][k] for k in kept]
    for reason in reasons:
        left.pop(reason.feature, None)
    return left


def margins(engine, world, requests, item_id, seen, top_n, **options):
    """Scores of an item, minus the top_n-th best of the others: there are no more than 64."""
    others = [item for item in world.item_ids.tolist() if item not in {*seen, item_id}]
    scores = engine.score(requests, [[item_id, *others]] * len(requests), **options).astype(float)
    return scores[:, 0] - np.sort(scores[:, 1:], axis=1)[:, -top_n]


def pieces_of(engine, world, request):
    """What a caller could leave out: each known item, each feature."""
    known = [item for item in request["history"] if item in list(world.item_ids)]
    window = known[-world.manifest["max_history"] :]
    reason = shortlist.Reason
    pieces = [reason(item, None, None, None, 0.0, False) for item in dict.fromkeys(window)]
    features = [name for name in request if not name.startswith("history")]
    return pieces + [reason(None, name, None, None, 0.0, False) for name in features]


def test_every_reason_is_the_best_of_all_that_could_be_left_out(made):
    world, engine = made
    top_n, n_reasons = 4, 3
    requests = some_requests(world, 9)
    said = engine.explain(requests, top_n, n_reasons, thorough=True)
    n_found = 0
    for i, request in enumerate(requests):
        listed = said.item_ids[i].tolist()
        ask = (engine, world)
        seen = request["history"]
        pieces = pieces_of(engine, world, request)
        for item, reasons in zip(listed, said.reasons[i], strict=True):
            left = []
            (margin,) = margins(*ask, [request], item, seen, top_n)
            for step in range(n_reasons):
                names = {(r.item_id, r.feature) for r in left}
                rest = [p for p in pieces if (p.item_id, p.feature) not in names]
                asked = [without(request, [*left, piece]) for piece in rest]
                lost = margin - margins(*ask, asked, item, seen, top_n) if rest else np.zeros(0)
                scale = CLOSE * max(1.0, float(np.abs(engine.score([request], [[item]])).max()))
                if step >= len(reasons):
                    assert (lost <= scale).all()
                    break
                reason = reasons[step]
                keys = [(p.item_id, p.feature) for p in rest]
                place = keys.index((reason.item_id, reason.feature))
                assert reason.drop == pytest.approx(lost[place], abs=4 * scale)
                assert lost[place] >= lost.max() - 4 * scale
                left.append(reason)
                margin -= lost[place]
                n_found += 1
    assert n_found > 40


def test_leaving_the_list_is_what_a_replay_says(made):
    world, engine = made
    requests, asked, said = some_requests(world, 24), [], []
    found = engine.explain(requests, 5, 3)
    for i, request in enumerate(requests):
        for item, reasons in zip(found.item_ids[i].tolist(), found.reasons[i], strict=True):
            for n in range(1, len(reasons) + 1):
                asked.append((without(request, reasons[:n]), request["history"], item))
                said.append(reasons[n - 1].leaves_list)
    replays = engine.recommend(
        [request for request, _, _ in asked], 5, exclude=[history for _, history, _ in asked]
    )
    found = replays.item_ids.tolist()
    gone = [item not in ids for (_, _, item), ids in zip(asked, found, strict=True)]
    assert said == gone
    assert set(said) == {True, False}  # both are among them


def test_the_answer_is_that_of_recommend(made):
    world, engine = made
    requests = [*some_requests(world, 5), {}, {"user_id": None}]
    for options in ({}, {"exclude_seen": False}, {"stages": 1}, {"top_n": 60}):
        answer, said = engine.recommend(requests, **options), engine.explain(requests, **options)
        assert said.item_ids.tolist() == answer.item_ids.tolist()
        assert said.answer.scores.tobytes() == answer.scores.tobytes()
        assert said.answer.source.tolist() == answer.source.tolist()
        assert said.answer.stages.tolist() == answer.stages.tolist()
        assert said.answer.counts.tolist() == answer.counts.tolist()


@pytest.mark.parametrize("n_reasons", [1, 2])
def test_quick_reasons_begin_as_the_thorough_ones(made, n_reasons):
    world, engine = made
    requests = some_requests(world, 6)
    quick = engine.explain(requests, 5, n_reasons)
    whole = engine.explain(requests, 5, 5, thorough=True)
    for mine, theirs in zip(quick.reasons, whole.reasons, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert one[:1] == other[:1]


def test_filters_hold_in_the_replays_too(engine, world):
    ids = world.item_ids.tolist()
    request = {"history": ids[:6]}
    every = engine.explain([request], 3, 2)
    behind = engine.recommend([request], 12).item_ids[0].tolist()
    for options in ({"exclude": behind[1:3]}, {"allow": [behind[:4]]}, {"where": "n_events > 3"}):
        said = engine.explain([request], 3, 2, **options)
        for item, reasons in zip(said.item_ids[0].tolist(), said.reasons[0], strict=True):
            for n in range(1, len(reasons) + 1):
                exclude = [[*ids[:6], *options.get("exclude", [])]]
                rest = {**options, "exclude": exclude}
                again = engine.recommend([without(request, reasons[:n])], 3, **rest)
                assert reasons[n - 1].leaves_list == (item not in again.item_ids[0])
    assert len(every.reasons[0]) == 3


def test_a_stored_user_is_explained_as_the_same_request(engine, world):
    stored = engine.explain(user_ids=[9], top_n=4)
    row = {user["user_id"]: user for user in world.stored.to_pylist()}[9]
    given = {name: value for name, value in row.items() if value is not None and name != "user_id"}
    own = engine.explain([given], 4)
    assert stored.answer.source.tolist() == ["stored history"]
    assert stored.reasons == own.reasons
    assert any(stored.reasons[0])


def test_popular_items_have_no_reasons_and_say_so(engine):
    said = engine.explain([{}], 3)
    assert said.reasons == [[[], [], []]]
    assert "popular items: nothing is known of this request" in str(said)
    assert said.to_arrow().num_rows == 0


def test_features_alone_can_be_reasons(engine, world):
    request = {"city": "Köln", "age": 22.0}
    said = engine.explain([request], 3, 2, thorough=True)
    assert said.answer.source.tolist() == ["features"]
    for item, reasons in zip(said.item_ids[0].tolist(), said.reasons[0], strict=True):
        asked = [request, {"age": 22.0}, {"city": "Köln"}]
        found = margins(engine, world, asked, item, [], 3, stages=1)
        lost = found[0] - found[1:]
        assert reasons[0].feature == ("city", "age")[int(lost.argmax())]
        assert reasons[0].drop == pytest.approx(float(lost.max()), abs=1e-6)
    assert "your " in str(said)


def test_the_last_thing_that_is_known_leaves_popular_items(engine):
    said, popular = engine.explain([{"city": "Köln"}], 3, 2), engine.recommend([{}], 3)
    for item, reasons in zip(said.item_ids[0].tolist(), said.reasons[0], strict=True):
        assert [r.leaves_list for r in reasons] == [item not in popular.item_ids[0]] * len(reasons)


def test_items_of_one_group_are_left_out_together(plain_world):
    n_events = plain_world.items.column("n_events").to_pylist()
    rows = [row for row, number in enumerate(n_events) if number == 26]
    group = plain_world.item_ids[rows[:2]].tolist()
    other = plain_world.item_ids[[1, 2, 3]].tolist()
    request = {"history": [group[0], *other, group[1]]}
    with load(plain_world.path) as engine:
        said = engine.explain([request], 4, 3, 1, explain_by="n_events", thorough=True)
        found = [reason for reasons in said.reasons[0] for reason in reasons if reason.group == 26]
        assert found
        assert {reason.item_id for reason in found} == {group[1]}  # the newest
        of_item = dict(zip(plain_world.item_ids.tolist(), n_events, strict=True))
        for item, reasons in zip(said.item_ids[0].tolist(), said.reasons[0], strict=True):
            left = [k for k in request["history"] if of_item[k] != reasons[0].group]
            pair, seen = [request, {"history": left}], request["history"]
            before, after = margins(engine, plain_world, pair, item, seen, 4, stages=1)
            assert reasons[0].drop == pytest.approx(before - after, abs=1e-6)
        assert "26" in [reason.name for reasons in said.reasons[0] for reason in reasons]


def test_kinds_say_what_stays_excluded(tmp_path):
    path = tmp_path / "tiny.shortlist"
    world = make_world(path, scorer=None, has_events=True, with_users=False)
    ids = [int(item) for item in world.item_ids[:4]]
    request = {"history": ids, "history_kinds": ["view", "purchase", "view", "view"]}
    with load(path) as engine:
        said = engine.explain([request], 38, 1, exclude_seen=("purchase",))
        answer = engine.recommend([request], 38, exclude_seen=("purchase",))
    assert said.item_ids.tolist() == answer.item_ids.tolist()
    assert ids[1] not in said.item_ids
    assert ids[0] in said.item_ids


def test_items_that_changed_are_judged_as_they_are_now(world):
    with load(world.path) as engine:
        ids = world.item_ids.tolist()
        engine.remove_items([ids[2]])
        engine.upsert_items([{"item_id": 7_777, "year": 1999.0, "genres": ["war"]}])
        request = {"history": [ids[0], ids[2], ids[5], 7_777]}
        said = engine.explain([request], 6, 3)
        named = {reason.item_id for reasons in said.reasons[0] for reason in reasons}
        assert named <= {ids[0], ids[2], ids[5]}
        assert ids[2] in named  # it counts in histories
        assert not {ids[2], 7_777} & set(said.item_ids[0].tolist())
        for item, reasons in zip(said.item_ids[0].tolist(), said.reasons[0], strict=True):
            for n in range(1, len(reasons) + 1):
                left = without(request, reasons[:n])
                again = engine.recommend([left], 6, exclude=[request["history"]])
                assert reasons[n - 1].leaves_list == (item not in again.item_ids[0])


def test_a_table_of_reasons(engine, world):
    requests = [{"history": world.item_ids[:5].tolist()}, {}]
    said = engine.explain(requests, 3, 2)
    table = said.to_arrow()
    assert table.column_names == [
        "request", "rank", "item_id", "reason", "reason_item_id", "reason_feature",
        "reason_group", "drop", "leaves_list",
    ]  # fmt: skip
    assert table.num_rows == sum(map(len, itertools.chain(*said.reasons)))
    first = said.to_dicts()[0]["items"][0]
    assert first["item_id"] == said.item_ids[0, 0]
    assert first["reasons"] == [reason.to_dict() for reason in said.reasons[0][0]]


def test_sentences_name_the_fewest_reasons_that_do(engine, world):
    said = engine.explain([{"history": world.item_ids[:6].tolist()}], 5, 3)
    for place, reasons in enumerate(said.reasons[0]):
        sentence, leaves = said.sentence(0, place), [r.leaves_list for r in reasons]
        if True in leaves:
            names = [reason.name for reason in reasons[: leaves.index(True) + 1]]
            assert sentence.startswith("without ")
            assert all(name in sentence for name in names)
            assert sentence.endswith("this would not be in the top 5")
        elif reasons:
            assert sentence.startswith("even without ")
        else:
            assert sentence == "nothing that is known of this request speaks for it"


def test_a_place_without_an_item_has_no_sentence(engine, world):
    said = engine.explain([{"history": world.item_ids[:3].tolist()}], 50)
    n_items = int(said.answer.counts[0])
    assert said.sentence(0, n_items - 1)
    for place in (n_items, 49, 50, -1):
        with pytest.raises(IndexError, match=f"place: got {place}, expected one from 0 to"):
            said.sentence(0, place)


def test_groups_of_any_type_can_be_written_as_json():
    of = {group: shortlist.Reason(1, None, group, None, 0.5, True) for group in ("a", 3, 1.5, True)}
    assert [reason.to_dict()["group"] for reason in of.values()] == list(of)
    day = shortlist.Reason(1, None, datetime.date(2024, 5, 1), None, 0.5, True)
    assert json.loads(json.dumps(day.to_dict()))["group"] == "2024-05-01"


def test_unknown_ids_may_be_an_error(engine):
    with pytest.raises(DataError, match="'history' row 0, entry 0 is 3, which is no item"):
        engine.explain([{"history": [3]}], unknown="error")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_reasons": 0}, ValueError, "n_reasons: got 0; expected an int >= 1"),
        ({"n_reasons": 101}, ValueError, "n_reasons: got 101, expected 1 to 100"),
        ({"n_reasons": True}, TypeError, "n_reasons: got True of type bool"),
        ({"top_n": 0}, ValueError, "top_n: got 0"),
        ({"thorough": 1}, TypeError, "thorough: got 1"),
        ({"explain_by": "seris"}, DataError, "explain_by: unknown column 'seris'"),
        ({"explain_by": 3}, TypeError, "explain_by: got 3, expected the name of a column"),
        ({"explain_by": "genres"}, DataError, "'genres' has several values an item"),
        ({"stages": 3}, ValueError, "stages: got 3"),
        ({"where": "yar > 3"}, DataError, "where: 'yar > 3': expected a column"),
    ],
)
def test_bad_options_are_named(engine, options, error, message):
    with pytest.raises(error, match=".*".join(map(str, [message[:20]]))) as raised:
        engine.explain([{"history": [100]}], **options)
    assert message in str(raised.value)


def test_no_requests_have_no_reasons(engine):
    said = engine.explain([], 3)
    assert len(said) == 0
    assert said.reasons == []
