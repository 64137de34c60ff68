"""Raw requests in, exact top-N out, from the best source there is."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from shortlist import _core
from shortlist._columns.requests import normalise
from shortlist.errors import ShortlistError
from shortlist.loading import load


def expected_rows(world, rows, seen, top_n, mask=None):
    """Top rows by float64 brute force for a history of item rows."""
    query = world.vectors[rows].astype(np.float64).sum(0)
    items = world.vectors.astype(np.float64)
    scores = items @ query / np.linalg.norm(items, axis=1) / np.linalg.norm(query)
    scores[list(seen)] = -np.inf
    if mask is not None:
        scores[~mask] = -np.inf
    best = np.argsort(-scores, kind="stable")[:top_n]
    return [int(row) for row in best if np.isfinite(scores[row])]


@pytest.mark.parametrize("which", ["world", "text_world", "plain_world"])
def test_a_history_gets_the_exact_top_n_of_its_embedding_without_seen_items(which, request):
    world = request.getfixturevalue(which)
    with load(world.path) as engine:
        answer = engine.recommend(
            {"history": [world.item_ids[[3, 8, 1]].tolist()]}, top_n=5, stages=1
        )
    expected = expected_rows(world, [3, 8, 1], {3, 8, 1}, 5)
    assert answer.indices.tolist() == [expected]
    assert answer.item_ids.tolist() == [world.item_ids[expected].tolist()]
    assert answer.source.tolist() == ["history"]
    assert answer.counts.tolist() == [5]
    assert (np.diff(answer.scores) <= 0).all()


def test_each_answer_says_its_source_and_the_best_one_wins(engine, world):
    ids = world.item_ids.tolist()
    requests = [
        {"user_id": 5, "history": [ids[7]]},
        {"user_id": 5},
        {"user_id": 5, "history": []},
        {"user_id": 5, "history": [1, 2]},
        {"user_id": 12},
        {"user_id": 77, "city": "Köln"},
        {"user_id": 77},
        {},
    ]
    assert engine.recommend(requests).source.tolist() == [
        "history",
        "stored history",
        "stored history",
        "stored history",
        "features",
        "features",
        "popular",
        "popular",
    ]


def test_unknown_feature_values_are_no_signal(engine):
    requests = [
        {"city": "Atlantis"},
        {"tags": ["x"]},
        {"level": 9},
        {"age": float("nan")},
        {"age": 3},
    ]
    assert engine.recommend(requests).source.tolist() == ["popular"] * 4 + ["features"]


def test_unknown_items_in_a_history_change_nothing(engine, world):
    known = world.item_ids[[4, 9]].tolist()
    answer = engine.recommend({"history": [known, [999, known[0], 998, known[1], 997]]}, top_n=7)
    assert answer.item_ids[0].tolist() == answer.item_ids[1].tolist()
    assert answer.scores[0].tobytes() == answer.scores[1].tobytes()


def test_only_the_last_items_of_a_long_history_are_encoded_but_all_are_excluded(engine, world):
    rows = list(range(20))
    answer = engine.recommend({"history": [world.item_ids[rows].tolist()]}, top_n=N_LEFT, stages=1)
    assert answer.indices.tolist() == [expected_rows(world, rows[-6:], rows, N_LEFT)]


N_LEFT = 20


def test_a_known_users_stored_history_is_excluded_even_when_the_request_has_its_own(engine, world):
    request = {"user_id": [9], "history": [world.item_ids[[0]].tolist()], "age": [30.0]}
    answer = engine.recommend(request, top_n=40)
    assert not set(answer.indices[0].tolist()) & {0, 3, 4, 5, 6}
    assert answer.counts.tolist() == [35]
    everything = engine.recommend(request, top_n=40, exclude_seen=False)
    assert everything.counts.tolist() == [40]


def test_stored_features_are_used_and_the_requests_own_win(engine):
    stored = engine.encode_users({"user_id": [5]})
    same = engine.encode_users([{"user_id": 5, "city": "Köln", "tags": ["b", "a"], "age": 40}])
    np.testing.assert_allclose(stored, same, rtol=1e-6)
    other = engine.encode_users(
        [{"user_id": 5, "city": "北京", "tags": ["a"], "level": 3, "age": 1}]
    )
    assert np.abs(stored - other).max() > 0.1
    partly = engine.encode_users(
        [{"user_id": 5, "city": "北京", "tags": ["a"]}, {"user_id": 9, "city": None, "tags": None}]
    )
    full = engine.encode_users(
        [{"user_id": 5, "city": "北京", "tags": ["a"], "level": 1, "age": 40}]
    )
    np.testing.assert_allclose(partly[:1], full, rtol=1e-6)


def test_requests_without_any_signal_get_the_items_of_most_events(engine, world):
    answer = engine.recommend([{}], top_n=40)
    expected = np.lexsort((np.arange(40), -world.n_events))
    assert answer.indices[0].tolist() == expected.tolist()
    assert answer.scores[0].tolist() == world.n_events[expected].tolist()


def test_fewer_allowed_items_than_top_n_give_short_rows(engine, world):
    seen = world.item_ids[:38].tolist()
    answer = engine.recommend([{"history": seen}, {}], top_n=50)
    assert answer.counts.tolist() == [2, 40]
    assert answer.item_ids[0, 2:].tolist() == [-1] * 48
    assert np.isneginf(answer.scores[0, 2:]).all()
    assert set(answer.item_ids[0, :2].tolist()) == set(world.item_ids[38:].tolist())


def test_a_batch_gives_each_request_what_it_gets_alone_across_the_batch_cut(engine, world):
    random = np.random.default_rng(0)
    requests = []
    for i in range(_core.max_batch + 40):
        history = random.choice(world.item_ids, random.integers(0, 9), replace=False).tolist()
        requests.append([{"history": history}, {"user_id": 5}, {"city": "Köln"}, {}][i % 4])
    batch = engine.recommend(requests, top_n=6)
    assert batch.item_ids.shape == (len(requests), 6)
    for i in (*range(24), *range(_core.max_batch - 4, _core.max_batch + 8)):
        alone = engine.recommend([requests[i]], top_n=6)
        assert alone.item_ids[0].tolist() == batch.item_ids[i].tolist()
        assert alone.source[0] == batch.source[i]
        np.testing.assert_allclose(alone.scores[0], batch.scores[i], rtol=1e-5, atol=1e-6)


def test_empty_requests_give_empty_answers(engine):
    for requests in ([], {}, {"history": []}, pa.table({"user_id": pa.array([], pa.int64())})):
        answer = engine.recommend(requests, top_n=4)
        assert answer.item_ids.shape == answer.scores.shape == answer.titles.shape == (0, 4)
        assert answer.counts.shape == answer.source.shape == (0,)
        assert answer.to_dicts() == []
    assert engine.encode_users([]).shape == (0, 8)


def test_where_keeps_only_items_whose_row_satisfies_it_and_is_cached(engine, world):
    where = (pc.field("year") >= 2000) & (pc.field("year") < 2010)
    mask = (np.arange(40) >= 20) & (np.arange(40) < 30)
    answer = engine.recommend(
        [{"history": [int(world.item_ids[21])]}, {}], top_n=30, where=where, stages=1
    )
    assert answer.indices[0, :9].tolist() == expected_rows(world, [21], {21}, 30, mask)
    assert answer.counts.tolist() == [9, 10]
    assert set(answer.indices[1, :10].tolist()) == set(range(20, 30))
    again = (pc.field("year") >= 2000) & (pc.field("year") < 2010)
    items = engine._switch.loaded.state.items
    assert items.mask(again) is items.mask(where)


def test_a_where_that_allows_nothing_gives_rows_without_items(engine, world):
    answer = engine.recommend(
        [{"history": [int(world.item_ids[0])]}, {}], where=pc.field("year") > 3000
    )
    assert answer.counts.tolist() == [0, 0]
    assert (answer.item_ids == -1).all()


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (2000, TypeError, r"where: got int, expected"),
        (pc.field("price") < 2, ValueError, r"where: .*price.*the item table has .*year \(int64\)"),
        (pc.field("year") == "x", ValueError, r"where: .*the item table has"),
    ],
)
def test_a_where_that_does_not_fit_the_table_is_an_error(engine, where, error, message):
    with pytest.raises(error, match=message):
        engine.recommend([{}], where=where)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"top_n": 0}, ValueError, "top_n: got 0"),
        ({"top_n": True}, TypeError, "top_n: got True"),
        ({"top_n": 2.0}, TypeError, "top_n: got 2.0"),
        ({"exclude_seen": "no"}, TypeError, "exclude_seen: got 'no', expected True, False, or"),
    ],
)
def test_wrong_arguments_are_named(engine, arguments, error, message):
    with pytest.raises(error, match=message):
        engine.recommend([{}], **arguments)


def test_titles_are_none_where_an_item_has_none_and_empty_at_missing_places(engine, world):
    answer = engine.recommend({"history": [world.item_ids[:37].tolist()]}, top_n=4)
    titles = dict(zip(answer.indices[0].tolist(), answer.titles[0].tolist(), strict=True))
    assert titles[37] == "Film 37 ☕"
    assert titles[-1] == ""
    assert engine.recommend([{}], top_n=40).titles[0].tolist().count(None) == 8


def test_dicts_are_plain_json_and_leave_missing_places_out(text_engine, text_world):
    answer = text_engine.recommend({"history": [text_world.item_ids[:38].tolist()]}, top_n=9)
    (told,) = json.loads(json.dumps(answer.to_dicts()))
    assert told["source"] == "history"
    assert [item["item_id"] for item in told["items"]] == answer.item_ids[0, :2].tolist()
    assert told["items"][0]["title"].startswith("Film 3")


def test_the_text_form_shows_sources_scores_and_titles(engine):
    text = repr(engine.recommend([{"user_id": 5}] + [{}] * 9, top_n=12))
    assert text.startswith(
        "10 requests, top 12\nrequest 0, user 5, from stored history: 12 items\n"
    )
    assert "… 2 more" in text
    assert "… 5 more requests" in text
    assert "Film 31 ☕" in text


def test_items_are_encoded_from_raw_columns_new_ones_from_content(engine, world):
    known = engine.encode_items({"item_id": world.item_ids[:3]})
    np.testing.assert_allclose(known, world.vectors[:3], rtol=1e-5)
    rows = [{"item_id": 1, "genres": ["war"], "year": 2000}, {"genres": ["war"], "year": 2000.0}]
    new = engine.encode_items(rows)
    np.testing.assert_array_equal(new[0], new[1])
    assert np.abs(new).max() > 0
    with pytest.raises(ValueError, match=r"unknown column 'history'"):
        engine.encode_items({"history": [[1]]})


def test_calls_from_several_threads_get_the_same_answers(engine, world):
    requests = {"history": [world.item_ids[[i, i + 1]].tolist() for i in range(30)]}
    expected = engine.recommend(requests).item_ids
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(engine.recommend(requests).item_ids, expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_report_says_what_runs_and_a_closed_engine_says_so(world):
    with load(world.path, device="auto", n_threads=2) as engine:
        told = json.loads(json.dumps(engine.report()))
        assert told["providers"]["recommend"] in (
            "CPUExecutionProvider",
            "CUDAExecutionProvider",
        )
        assert (told["n_threads"], told["n_items"], told["metric"]) == (2, 40, "cosine")
        assert "40 items" in repr(engine)
    with pytest.raises(ShortlistError, match="engine: it is closed"):
        engine.recommend([{}])
    engine.close()


def test_devices_are_checked_and_cuda_is_never_silently_the_cpu(world):
    with pytest.raises(ValueError, match=r"device: got 'gpu', expected one of auto, cpu, cuda"):
        load(world.path, device="gpu")
    with pytest.raises(
        ShortlistError, match=r"device: got 'cuda', but this onnxruntime offers only"
    ):
        load(world.path, device="cuda")


FRESH = """
import sys
import shortlist
{use}
heavy = ("tensorflow", "keras", "tf2onnx", "onnx", "polars", "pandas", "shortlist.training",
         "shortlist.export")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    "use",
    [
        "import shortlist.engine, shortlist.bundle, shortlist._columns.requests",
        "from shortlist.loading import load\n"
        "with load({path!r}) as engine:\n"
        "    answer = engine.recommend([{{'user_id': 5}}, {{'history': [100]}}, {{}}])\n"
        "    answer.titles, repr(answer), engine.report(), engine.bundle.summary()",
    ],
)
def test_serving_in_a_fresh_process_imports_nothing_heavy(world, use):
    code = FRESH.format(use=use.format(path=str(world.path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_serving_does_not_even_load_onnxruntime_or_pyarrow():
    code = (
        "import sys, shortlist.engine; "
        "print([name for name in ('onnxruntime', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_batches_end_before_a_column_has_too_many_values(world):
    lengths = [3, 9_000, 2, *[1] * 200, 2_000_000, 5, 5]
    tags = [["a"] * 7_000 if i == 150 else [] for i in range(len(lengths))]
    requests = {"history": [[100] * length for length in lengths], "tags": tags}

    def starts(requests):
        with load(world.path) as engine:
            loaded = engine._switch.loaded
            columns = normalise(requests, loaded.schema)
            return loaded.core.batch_starts(columns.n_requests, columns.for_core(loaded.schema))

    # 116 x 9,000 values; the long row of tags allows 149 requests; 2,000,000 stand alone.
    assert starts(requests) == [0, 116, 203, 204]
    assert starts({"user_id": [5] * 2_500}) == [0, _core.max_batch, 2 * _core.max_batch]


def test_user_ids_at_both_ends_of_64_bits_are_found(make_tiny_bundle, tmp_path):
    far = [-(2**63) + 1, -6 * 10**18, 0, 6 * 10**18, 2**63 - 1]
    lists = pa.array([[100], [107], [114], [121], [128]], pa.list_(pa.int64()))
    stored = pa.table({"user_id": pa.array(far), "history": lists})
    world = make_tiny_bundle(tmp_path / "far.shortlist", user_features=False, stored=stored)
    with load(world.path) as engine:
        answers = engine.recommend({"user_id": far}, top_n=40)
        alone = [
            engine.recommend([{"history": history}], top_n=40) for history in lists.to_pylist()
        ]
    assert answers.source.tolist() == ["stored history"] * 5
    assert answers.item_ids.tolist() == [answer.item_ids[0].tolist() for answer in alone]


@pytest.mark.parametrize("scorer", ["sums", "followers", "thirds", None])
@pytest.mark.parametrize("search", ["index", "graph"])
def test_more_items_than_there_are_cost_their_places_alone(
    make_tiny_bundle, tmp_path, scorer, search
):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist", scorer=scorer)
    requests = [{"user_id": 9}, {"history": [100, 107]}, {"city": "Köln"}, {}]
    n = 1 << 20
    with load(world.path, search=search) as engine:
        expected = engine.recommend(requests, top_n=40)
        start = time.process_time()
        many = engine.recommend(requests, top_n=n)
        assert time.process_time() - start < 5
        if search == "index":
            kept = engine.recommend(requests, top_n=50, where=pc.field("year") > 1990)
            assert kept.counts.max() <= 40
    assert many.item_ids.shape == many.scores.shape == (4, n)
    assert many.counts.tolist() == expected.counts.tolist()
    for row, count in enumerate(expected.counts):
        assert many.item_ids[row, :count].tolist() == expected.item_ids[row, :count].tolist()
        assert many.scores[row, :count].tolist() == expected.scores[row, :count].tolist()
    assert np.all(many.item_ids[:, 40:] == -1)
    assert np.all(np.isneginf(many.scores[:, 40:]))
