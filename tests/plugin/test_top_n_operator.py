"""ai.shortlist.TopN in ONNX Runtime: the answers of Index.search, and errors that say the fix."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import shortlist
from shortlist import Index
from shortlist.bundle.storages import STORAGES
from shortlist.export.tensors import index_bytes

DIM, N_ITEMS = 12, 300
INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def options(n_threads=1):
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = n_threads
    chosen.log_severity_level = 4
    chosen.register_custom_ops_library(shortlist.plugin_path())
    return chosen


def session(folder, inputs=("queries", "top_n", "index"), outputs=3, n_threads=1, **attributes):
    info = helper.make_tensor_value_info
    declared = {
        "queries": info("queries", FLOAT, ["n", "dim"]),
        "top_n": info("top_n", INT64, None),
        "exclude": info("exclude", INT64, None),
        "rows_": info("rows_", INT64, ["m"]),
        "scores_": info("scores_", FLOAT, ["m"]),
        "use": info("use", TensorProto.BOOL, None),
        "splits": info("splits", INT64, ["m"]),
        "also": info("also", INT64, ["a"]),
        "also_splits": info("also_splits", INT64, ["b"]),
        "allow": info("allow", INT64, ["c"]),
        "allow_splits": info("allow_splits", INT64, ["d"]),
        "mask": info("mask", TensorProto.UINT8, ["e"]),
        "seen": info("seen", INT64, None),
        "exclude_seen": info("exclude_seen", TensorProto.BOOL, None),
    }
    names = ["rows", "scores", "counts", "codes"][:outputs]
    node = helper.make_node("TopN", list(inputs), names, domain="ai.shortlist", **attributes)
    graph = helper.make_graph(
        [node],
        "search",
        [declared[name] for name in inputs if name in declared],
        [info(name, FLOAT if name == "scores" else INT64, None) for name in names],
        initializer=[index_bytes(folder, "index")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.shortlist", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "g.onnx")
    return onnxruntime.InferenceSession(folder / "g.onnx", options(n_threads))


def make_index(folder, metric="cosine", storage="float32", ids=None):
    random = np.random.default_rng(1)
    vectors = random.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    vectors[7] = vectors[200] = vectors[3]  # equal scores
    index = Index(vectors, ids, metric, storage=storage)
    index.save(folder / "items.index")
    return index


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_answers_are_the_index_search_bit_for_bit(metric, storage, tmp_path, rng):
    index = make_index(tmp_path, metric, storage, ids=[f"é{i}" for i in range(N_ITEMS)])
    queries = rng.normal(size=(150, DIM)).astype(np.float32)  # more than one task of the operator
    queries[4] = index.vectors([3])[0]
    seen = rng.integers(-1, N_ITEMS, (150, 9))
    run = session(tmp_path, ("queries", "top_n", "index", "exclude"), metric=metric)
    for top_n in (1, 10, N_ITEMS + 5):
        feeds = {"queries": queries, "top_n": np.array([top_n]), "exclude": seen}
        rows, scores, counts = run.run(None, feeds)
        lists = [[f"é{row}" for row in row_list if row >= 0] for row_list in seen]
        expected = index.search(queries, top_n=top_n, exclude=lists)
        assert np.array_equal(rows, expected.indices)
        assert scores.tobytes() == expected.scores.tobytes()
        assert np.array_equal(counts, expected.counts)


def test_lists_of_other_lengths_come_as_values_and_row_splits(tmp_path, rng):
    index = make_index(tmp_path)
    queries = rng.normal(size=(3, DIM)).astype(np.float32)
    best = index.search(queries, top_n=2).indices
    values, splits = np.array([best[0, 0], best[2, 0], best[2, 1]]), np.array([0, 1, 1, 3])
    run = session(tmp_path, ("queries", "top_n", "index", "exclude", "splits"))
    feeds = {"queries": queries, "top_n": np.array(2), "exclude": values, "splits": splits}
    rows = run.run(["rows"], feeds)[0]
    assert rows[0, 0] == best[0, 1]
    assert rows[1].tolist() == best[1].tolist()
    assert not set(rows[2]) & set(best[2])


FILTERS = ("queries", "top_n", "index", "exclude", "", "rows_", "scores_", "use",
           "also", "also_splits", "allow", "allow_splits", "mask")  # fmt: skip


def filtered(n, **given):
    """Feeds of n queries and no filter, but for what is given."""
    empty, random = np.empty(0, np.int64), np.random.default_rng(8)
    feeds = {
        "queries": random.normal(size=(n, DIM)).astype(np.float32),
        "top_n": np.array(4),
        "exclude": np.full((n, 1), -1),
        "rows_": np.array([5, 9, 2, 70, 11]),
        "scores_": np.array([8, 6, 6, 1, 0], np.float32),
        "use": np.zeros(n, np.bool_),
        **dict.fromkeys(("also", "also_splits", "allow", "allow_splits"), empty),
        "mask": np.empty(0, np.uint8),
    }
    return feeds | given


def test_lists_and_masks_of_a_run_are_the_filters_of_a_search(tmp_path):
    index, run = make_index(tmp_path), session(tmp_path, FILTERS)
    n = 70  # more than one task
    lists = [[i % 300, (7 * i) % 300, 3, 200] for i in range(n)]
    flat, splits = np.concatenate(lists), 4 * np.arange(n + 1)
    mask = np.arange(N_ITEMS) % 3 == 0
    allowed = np.flatnonzero(mask)
    queries = filtered(n)["queries"]
    for given, expected in (
        ({}, {}),
        ({"also": flat, "also_splits": splits}, {"exclude": lists}),
        ({"also": flat, "also_splits": splits, "exclude": np.full((n, 1), 17)},
         {"exclude": [[*part, 17] for part in lists]}),
        ({"allow": flat, "allow_splits": splits}, {"allow": lists}),
        ({"allow": allowed, "allow_splits": np.array([0, len(allowed)])},
         {"allow": allowed.tolist()}),
        ({"mask": mask.astype(np.uint8)}, {"allow": allowed.tolist()}),
    ):  # fmt: skip
        rows, scores, counts = run.run(None, filtered(n, **given))
        found = index.search(queries, top_n=4, **expected)
        assert np.array_equal(rows, found.indices)
        assert scores.tobytes() == found.scores.tobytes()
        assert np.array_equal(counts, found.counts)


def test_the_fallback_keeps_to_lists_and_masks(tmp_path):
    make_index(tmp_path)
    run = session(tmp_path, FILTERS)
    use, mask = np.array([True, True]), np.ones(N_ITEMS, np.uint8)
    mask[[5, 2]] = 0
    for given, expected in (
        ({"mask": mask}, [[9, 70, 11, -1]] * 2),
        ({"allow": np.array([2, 9]), "allow_splits": np.array([0, 2])}, [[9, 2, -1, -1]] * 2),
        ({"allow": np.array([2]), "allow_splits": np.array([0, 1, 1])},
         [[2, -1, -1, -1], [-1] * 4]),
        ({"also": np.array([9]), "also_splits": np.array([0, 0, 1])},
         [[5, 9, 2, 70], [5, 2, 70, 11]]),
    ):  # fmt: skip
        rows, _, counts = run.run(None, filtered(2, use=use, **given))
        assert rows.tolist() == expected
        assert counts.tolist() == [sum(row >= 0 for row in part) for part in expected]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"also_splits": np.array([0, 0])}, r"also_exclude_splits: got shape \(2\), expected"),
        ({"also": np.array([1]), "also_splits": np.array([0, 0, 0, 0])},
         "also_exclude_splits: got other numbers, expected ascending ones from 0 to 1"),
        ({"allow_splits": np.array([0, 0, 0])}, r"allow_splits: got shape \(3\), expected \(4,\)"),
        ({"mask": np.ones(7, np.uint8)}, r"allow_mask: got shape \(7\), expected \(300,\)"),
        ({"mask": np.ones(300, np.uint8), "allow_splits": np.array([0, 0])},
         "allow_mask: got it beside allow, expected at most one"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named(given, message, tmp_path):
    make_index(tmp_path)
    run = session(tmp_path, FILTERS)
    with pytest.raises(Exception, match=message):
        run.run(None, filtered(3, **given))


SEEN = (*FILTERS, "seen", "exclude_seen")


def test_codes_that_were_seen_do_not_come_back_and_rows_come_with_their_codes(tmp_path):
    index, run = make_index(tmp_path), session(tmp_path, SEEN, outputs=4)
    n = 70
    seen = np.array([[0, i + 1, -4, 201, (7 * i) % 300 + 1] for i in range(n)])
    lists = [[code - 1 for code in codes if code > 0] for codes in seen.tolist()]
    feeds = filtered(n, seen=seen, exclude_seen=np.array([True]))
    for given, expected in (
        ({}, lists),
        ({"exclude": np.full((n, 1), 17)}, [[*part, 17] for part in lists]),
        ({"exclude_seen": np.array([False])}, [[] for _ in lists]),
    ):
        rows, scores, counts, codes = run.run(None, feeds | given)
        found = index.search(feeds["queries"], top_n=4, exclude=expected)
        assert np.array_equal(rows, found.indices)
        assert np.array_equal(codes, rows + 1)
        assert scores.tobytes() == found.scores.tobytes()
        assert np.array_equal(counts, found.counts)
    use = np.ones(n, np.bool_)  # fallback rows are 5, 9, 2, 70, 11
    rows, _, _, codes = run.run(None, feeds | {"use": use, "seen": np.full((n, 2), 10)})
    assert rows.tolist() == [[5, 2, 70, 11]] * n
    assert codes.tolist() == [[6, 3, 71, 12]] * n
    mask = (np.arange(N_ITEMS) == 3).astype(np.uint8)
    assert run.run(["codes"], feeds | {"mask": mask})[0][0].tolist() == [4, 0, 0, 0]
    with pytest.raises(Exception, match=r"seen_codes: got shape \(2, 1\), expected \(70, width\)"):
        run.run(None, feeds | {"seen": np.zeros((2, 1), np.int64)})
    bare = session(tmp_path, SEEN[:-1])  # exclude_seen left out counts as true
    found = index.search(feeds["queries"], top_n=4, exclude=lists)
    del feeds["exclude_seen"]
    assert np.array_equal(bare.run(["rows"], feeds)[0], found.indices)


FALLBACK = ("queries", "top_n", "index", "exclude", "", "rows_", "scores_", "use")


def test_queries_that_ask_for_it_get_the_fallback_without_what_is_excluded(tmp_path, rng):
    index = make_index(tmp_path)
    run = session(tmp_path, FALLBACK)
    queries = rng.normal(size=(4, DIM)).astype(np.float32)
    feeds = {
        "queries": queries,
        "top_n": np.array(3),
        "exclude": np.array([[5, -1], [-1, -1], [9, 5], [-1, 2]]),
        "rows_": np.array([5, 9, 2, 70]),
        "scores_": np.array([8, 6, 6, 1], np.float32),
        "use": np.array([True, False, True, False]),
    }
    rows, scores, counts = run.run(None, feeds)
    assert rows[0].tolist() == [9, 2, 70]
    assert scores[0].tolist() == [6, 6, 1]
    assert (rows[2].tolist(), scores[2].tolist()) == ([2, 70, -1], [6, 1, -np.inf])
    assert counts.tolist() == [3, 3, 2, 3]
    expected = index.search(queries[[1, 3]], top_n=3, exclude=[[], [2]])
    assert np.array_equal(rows[[1, 3]], expected.indices)
    assert scores[[1, 3]].tobytes() == expected.scores.tobytes()
    for bad in ({"use": feeds["use"][:3]}, {"scores_": feeds["scores_"][:3]}):
        with pytest.raises(Exception, match=r"use_fallback: got shape .*expected \(4,\), with"):
            run.run(None, feeds | bad)


def pack(limit, codes):
    info = helper.make_tensor_value_info
    names = ["packed", "places", "n_known"]
    node = helper.make_node("PackHistory", ["codes"], names, domain="ai.shortlist", limit=limit)
    graph = helper.make_graph(
        [node], "pack", [info("codes", INT64, None)], [info(name, INT64, None) for name in names]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.shortlist", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return onnxruntime.InferenceSession(model, options()).run(None, {"codes": codes})


def test_histories_are_packed_to_the_right_as_wide_as_the_longest():
    codes = np.array([[4, 0, 7, 0, 9], [0, 0, 0, 0, 0], [0, -3, 2, 0, 0]])
    packed, places, n_known = pack(10, codes)
    assert packed.tolist() == [[4, 7, 9], [0, 0, 0], [0, 0, 2]]
    assert places.tolist() == [[0, 2, 4], [0, 0, 0], [0, 0, 2]]
    assert n_known.tolist() == [3, 0, 1]
    packed, places, n_known = pack(2, codes)
    assert (packed.tolist(), n_known.tolist()) == ([[7, 9], [0, 0], [0, 2]], [3, 0, 1])
    assert pack(5, np.zeros((2, 0), np.int64))[0].tolist() == [[0], [0]]
    with pytest.raises(Exception, match="PackHistory: limit: got 0, expected at least 1"):
        pack(0, codes)
    with pytest.raises(Exception, match=r"codes: got shape \(5\), expected \(n, length\)"):
        pack(1, codes[0])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_batches_of_any_size_and_threads_answer_alike_and_outputs_may_be_left_out(
    n_threads, tmp_path, rng
):
    index = make_index(tmp_path)
    run = session(tmp_path, outputs=1, n_threads=n_threads)
    for n in (0, 1, 64, 65, 500):
        queries = rng.normal(size=(n, DIM)).astype(np.float32)
        (rows,) = run.run(None, {"queries": queries, "top_n": np.array(4)})
        assert np.array_equal(rows, index.search(queries, top_n=4).indices)


GOOD = np.ones((70, DIM), np.float32)
NAN = np.where(np.arange(70)[:, None] == 66, np.float32(np.nan), GOOD)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"queries": GOOD[:, :5]}, r"queries: got shape \(70, 5\), expected \(n, 12\)"),
        ({"queries": NAN}, r"queries: row 2 holds a NaN .*; rows count from 64"),
        ({"top_n": np.array(0)}, "top_n: got 0, expected at least 1"),
        ({"top_n": np.array([1, 2])}, r"top_n: got shape \(2\), expected one number"),
        ({"top_n": np.array(2**40)}, "top_n: got 1099511627776 for 70 queries, expected at most"),
        ({"exclude": np.zeros((2, 3), np.int64)}, r"exclude: got shape \(2, 3\), expected \(70, w"),
        ({"exclude": np.full((70, 1), N_ITEMS)}, "exclude: got row 300; the index has 300 rows"),
    ],
)
def test_bad_inputs_are_named_with_what_was_expected(bad, message, tmp_path):
    make_index(tmp_path)
    run = session(tmp_path, ("queries", "top_n", "index", "exclude"))
    feeds = {"queries": GOOD, "top_n": np.array(3), "exclude": np.full((70, 1), -1)}
    with pytest.raises(Exception, match=message):
        run.run(None, feeds | bad)
    assert run.run(["counts"], feeds)[0].tolist() == [3] * 70


@pytest.mark.parametrize("splits", [[0, 2], [0, 2, 1, 3], [1, 1, 1, 3], [0, 1, 2, 4]])
def test_row_splits_that_do_not_fit_are_refused(splits, tmp_path):
    make_index(tmp_path)
    run = session(tmp_path, ("queries", "top_n", "index", "exclude", "splits"))
    feeds = {"queries": GOOD[:3], "top_n": np.array(3), "exclude": np.arange(3)}
    with pytest.raises(Exception, match=r"exclude_splits: got .*expected"):
        run.run(None, feeds | {"splits": np.array(splits)})


def test_an_index_that_is_damaged_cut_or_of_another_metric_is_refused_at_load(tmp_path):
    make_index(tmp_path, "dot")
    with pytest.raises(Exception, match=r"index: got the metric dot, expected cosine, which the g"):
        session(tmp_path, metric="cosine")
    whole = (tmp_path / "items.index").read_bytes()
    for place in (0, 40, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 4
        (tmp_path / "items.index").write_bytes(changed)
        with pytest.raises(Exception, match=r"TopN: index: .*expected.*found"):
            session(tmp_path)
    (tmp_path / "items.index").write_bytes(whole[:100])
    with pytest.raises(Exception, match=r"index: size: expected at least 456 bytes, found 100"):
        session(tmp_path)


def test_an_index_that_is_no_constant_is_refused(tmp_path):
    make_index(tmp_path)
    session(tmp_path)
    proto = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    del proto.graph.initializer[:]
    value = helper.make_tensor_value_info("index", TensorProto.UINT8, ["size"])
    proto.graph.input.append(value)
    onnx.save(proto, tmp_path / "g.onnx")
    with pytest.raises(Exception, match="index: got no constant, expected an initializer"):
        onnxruntime.InferenceSession(tmp_path / "g.onnx", options())


def test_a_loaded_graph_outlives_its_folder_and_shares_the_file_with_others(tmp_path, rng):
    folder = tmp_path / "a"
    folder.mkdir()
    index = make_index(folder)
    runs = [session(folder) for _ in range(3)]
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mapped = [line for line in maps if str(folder / "items.index") in line]
    assert len(mapped) >= 3  # mapped, not copied: the pages are in memory once
    shutil.rmtree(folder)
    queries = rng.normal(size=(2, DIM)).astype(np.float32)
    expected = index.search(queries, top_n=3).indices
    for run in runs:
        assert np.array_equal(
            run.run(["rows"], {"queries": queries, "top_n": np.array(3)})[0], expected
        )


def test_many_sessions_come_and_go(tmp_path):
    make_index(tmp_path)
    run = session(tmp_path)
    for _ in range(20):
        run = onnxruntime.InferenceSession(tmp_path / "g.onnx", options())
    assert run.run(["counts"], {"queries": GOOD[:1], "top_n": np.array(2)})[0].tolist() == [2]
