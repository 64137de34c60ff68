"""ai.shortlist.RerankDense and RerankFollowers: against NumPy, and errors that say the fix."""

import dataclasses
import itertools
import time

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import shortlist
from shortlist import _core
from shortlist.export.rerankers import DenseReranker, FollowerReranker, FollowerTable
from shortlist.training.graphs.nodes import Nodes

N_CODES, LENGTH = 60, 9
INPUTS = {
    "rows": TensorProto.INT64,
    "scores": TensorProto.FLOAT,
    "codes": TensorProto.INT64,
    "history": TensorProto.INT64,
    "n_known": TensorProto.INT64,
    "top_n": TensorProto.INT64,
    "stages": TensorProto.INT64,
}


def session(reranker, history_length=6, n_threads=1):
    nodes = Nodes("again")
    outputs = reranker.add(nodes, list(INPUTS), history_length)
    info = helper.make_tensor_value_info
    types = (TensorProto.INT64, TensorProto.FLOAT, TensorProto.INT64)
    graph = helper.make_graph(
        nodes.nodes,
        "again",
        [info(name, kind, None) for name, kind in INPUTS.items()],
        [info(name, kind, None) for name, kind in zip(outputs, types, strict=True)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.shortlist", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = n_threads, 4
    options.register_custom_ops_library(shortlist.plugin_path())
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def dense(n_factors=7, hidden=(9, 4), activation="relu", output="linear", table=None):
    random = np.random.default_rng(3)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    n_features = 5 if table is None else 6
    sizes = (n_features, *hidden, 1)
    layers = [(normal(a, b), normal(b)) for a, b in itertools.pairwise(sizes)]
    tables = (normal(N_CODES, n_factors), normal(N_CODES, n_factors), normal(N_CODES))
    std = np.abs(normal(n_features)) + 0.5
    return DenseReranker(*tables, normal(n_features), std, layers, activation, output, 3, table)


def follower_table():
    random = np.random.default_rng(4)
    codes = np.array([random.permutation(N_CODES)[:8] for _ in range(N_CODES)], np.int32)
    codes[0] = 0
    shares = random.random((N_CODES, 8)).astype(np.float32)
    return FollowerTable(codes, shares, np.array([0.25, 0.5, 1], np.float32))


def followers():
    return FollowerReranker(follower_table(), 0.7)


def requests(n, m=40, **given):
    """Histories and candidates with gaps: new items, missing places, nothing known."""
    random = np.random.default_rng(5)
    rows = np.argsort(random.random((n, N_CODES + 20)), axis=1)[:, :m]
    scores = -np.sort(-random.normal(size=(n, m)).astype(np.float32))
    history = random.integers(-2, N_CODES, (n, LENGTH)) * (random.random((n, LENGTH)) < 0.7)
    for i in range(0, n, 3):
        rows[i, m - 2 :], scores[i, m - 2 :] = -1, -np.inf
    history[1::5] = 0
    feeds = {
        "rows": rows,
        "scores": scores,
        "codes": np.where((rows >= 0) & (rows < N_CODES - 1), rows + 1, 0),
        "history": history,
        "n_known": (history > 0).sum(axis=1),
        "top_n": np.array([12]),
        "stages": np.array([2]),
    }
    return feeds | given


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh((x + 0.044715 * x**3) * np.sqrt(2 / np.pi))),
}


def dense_scores(reranker, feeds, i, history_length=6):
    """Compute one request's scores in float64."""
    latest = feeds["history"][i][feeds["history"][i] > 0][-history_length:]
    codes = feeds["codes"][i]
    of_history = reranker.of_history.astype(np.float64)[latest]
    of_candidate = reranker.of_candidate.astype(np.float64)[codes]
    features = np.stack(
        [
            np.full(len(codes), np.log(1 + len(latest))),
            np.where(np.isneginf(feeds["scores"][i]), 0, feeds["scores"][i]),
            of_candidate @ of_history.sum(axis=0),
            of_candidate @ of_history[-reranker.n_latest :].sum(axis=0),
            reranker.popularity[codes],
        ],
        axis=1,
    )
    if reranker.followers is not None:
        sums = sum_shares(reranker.followers, feeds, i)
        features = np.concatenate([features, sums[:, None]], axis=1)
    values = (features - reranker.mean) / reranker.std
    values[codes == 0, 2:] = 0
    for matrix, bias in reranker.layers[:-1]:
        values = ACTIVATIONS[reranker.activation](values @ matrix.astype(np.float64) + bias)
    values = (values @ reranker.layers[-1][0].astype(np.float64) + reranker.layers[-1][1])[:, 0]
    return ACTIVATIONS["sigmoid"](values) if reranker.output == "sigmoid" else values


def sum_shares(table, feeds, i):
    latest = feeds["history"][i][feeds["history"][i] > 0][-len(table.fading) :]
    codes, totals = feeds["codes"][i], np.zeros(len(feeds["codes"][i]))
    for fading, item in zip(table.fading[::-1], latest[::-1], strict=False):
        is_it = table.codes[item][:, None] == codes
        totals += fading * (is_it * table.shares[item][:, None]).sum(axis=0)
    return totals * (codes > 0)


def follower_scores(reranker, feeds, i):
    first = np.where(np.isneginf(feeds["scores"][i]), 0, feeds["scores"][i])
    return first + reranker.weight * sum_shares(reranker.followers, feeds, i)


def check(found, feeds, scores_of):
    rows, scores, counts = found
    top_n = int(feeds["top_n"][0])
    for i in range(len(rows)):
        n = min(top_n, int((feeds["rows"][i] >= 0).sum()))
        assert counts[i] == n
        assert rows[i, n:].tolist() == [-1] * (top_n - n)
        assert np.isneginf(scores[i, n:]).all()
        if not (feeds["history"][i] > 0).any():
            assert np.array_equal(rows[i, :n], feeds["rows"][i, :n])
            assert np.array_equal(scores[i, :n], feeds["scores"][i, :n])
            continue
        expected = scores_of(i)
        place = {row: k for k, row in enumerate(feeds["rows"][i].tolist())}
        chosen = [place[row] for row in rows[i, :n].tolist()]
        np.testing.assert_allclose(scores[i, :n], expected[chosen], rtol=2e-5, atol=2e-5)
        best = -np.sort(-expected[feeds["rows"][i] >= 0])[:n]
        np.testing.assert_allclose(scores[i, :n], best, rtol=2e-5, atol=2e-5)


RERANKERS = [
    dense(activation="gelu"),
    dense(activation="gelu", table=follower_table()),
    followers(),
]


@pytest.mark.parametrize("table", [None, follower_table()])
@pytest.mark.parametrize("output", ["linear", "sigmoid"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize(("n_factors", "hidden"), [(7, (9, 4)), (32, ()), (16, (1,)), (33, (64,))])
def test_the_network_ranks_as_in_numpy(n_factors, hidden, activation, output, table):
    reranker = dense(n_factors, hidden, activation, output, table)
    run = session(reranker)
    for top_n in (1, 12, 40, 70):
        feeds = requests(23, top_n=np.array([top_n]))
        check(run.run(None, feeds), feeds, lambda i, f=feeds: dense_scores(reranker, f, i))


def test_followers_rank_as_in_numpy():
    reranker = followers()
    run = session(reranker)
    for top_n in (1, 12, 70):
        feeds = requests(23, top_n=np.array([top_n]))
        check(run.run(None, feeds), feeds, lambda i, f=feeds: follower_scores(reranker, f, i))


@pytest.mark.parametrize("reranker", RERANKERS)
def test_neither_levels_nor_batches_nor_threads_change_a_bit(reranker):
    feeds = requests(37)
    run = session(reranker)
    expected = run.run(None, feeds)
    for a, b in zip(session(reranker, n_threads=3).run(None, feeds), expected, strict=True):
        assert a.tobytes() == b.tobytes()
    for i in range(37):
        one = {k: v[i : i + 1] if k not in ("top_n", "stages") else v for k, v in feeds.items()}
        for a, b in zip(run.run(None, one), expected, strict=True):
            assert a.tobytes() == b[i : i + 1].tobytes()
    level = _core.simd_level()
    try:
        for other in _core.simd_levels():
            _core.set_simd_level(other)
            found = run.run(None, feeds)
            assert all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))
    finally:
        _core.set_simd_level(level)


@pytest.mark.parametrize("reranker", RERANKERS)
def test_places_without_an_item_change_no_bit_and_cost_no_ranking(reranker):
    feeds = requests(9)
    extra = 1 << 20
    wide = dict(feeds)
    for name, nothing in (("rows", -1), ("scores", -np.inf), ("codes", 0)):
        wide[name] = np.pad(feeds[name], ((0, 0), (0, extra)), constant_values=nothing)
    run = session(reranker)
    start = time.process_time()
    found = run.run(None, wide)
    assert time.process_time() - start < 2
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, run.run(None, feeds), strict=True))
    nothing = np.full((2, 40), -1)
    lowest = np.full((2, 40), -np.inf, np.float32)
    none = requests(2, rows=nothing, codes=0 * nothing, scores=lowest)
    rows, scores, counts = run.run(None, none)
    assert np.all(rows == -1)
    assert np.all(np.isneginf(scores))
    assert counts.tolist() == [0, 0]


@pytest.mark.parametrize("reranker", RERANKERS)
def test_one_stage_keeps_the_first_answer(reranker):
    feeds = requests(9, stages=np.array([1]))
    rows, scores, counts = session(reranker).run(None, feeds)
    assert np.array_equal(rows, feeds["rows"][:, :12])
    assert np.array_equal(scores, feeds["scores"][:, :12])
    assert np.array_equal(counts, (rows >= 0).sum(axis=1))
    assert [len(part) for part in session(reranker).run(None, requests(0))] == [0, 0, 0]


def test_equal_scores_go_to_the_lower_row():
    layers = [(np.zeros((5, 1), np.float32), np.ones(1, np.float32))]
    feeds = requests(4, history=np.ones((4, LENGTH), np.int64), n_known=np.full(4, LENGTH))
    rows, scores, _ = session(dataclasses.replace(dense(), layers=layers)).run(None, feeds)
    for found, given in zip(rows, feeds["rows"], strict=True):
        assert found.tolist() == sorted(row for row in given.tolist() if row >= 0)[:12]
    assert np.unique(scores).tolist() == [1.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": np.zeros(9, np.int64)}, r"rows: got shape \(9\), expected \(n, m\)"),
        ({"scores": np.zeros((9, 3), np.float32)}, r"scores: got shape \(9, 3\), expected \(9, 4"),
        ({"codes": np.full((9, 40), N_CODES)}, "codes: got 60, expected 0 to 59, the rows of the"),
        ({"codes": np.full((9, 40), -1)}, "codes: got -1, expected 0 to 59"),
        ({"history": np.full((9, 3), 99)}, "history: got 99, expected 0 to 59"),
        ({"history": np.ones((2, 3), np.int64)}, r"history: got shape \(2, 3\), expected \(9, len"),
        ({"n_known": np.ones(3, np.int64)}, r"n_known: got shape \(3\), expected \(9,\)"),
        ({"top_n": np.array([0])}, "top_n: got 0, expected at least 1"),
        ({"stages": np.array([3])}, "stages: got 3, expected 1 or 2"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reranker", RERANKERS)
def test_bad_inputs_are_named_with_what_was_expected(reranker, given, message):
    run = session(reranker)
    with pytest.raises(Exception, match=message):
        run.run(None, requests(9, n_known=np.ones(9, np.int64)) | given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "elu"}, "activation: got 'elu', expected relu, tanh, sigmoid or gelu"),
        ({"output": "softmax"}, "output: got 'softmax', expected linear or sigmoid"),
        ({"n_latest": 0}, "n_latest: got 0, expected at least 1"),
        ({"popularity": np.zeros(3, np.float32)}, r"popularity: got shape \(3\), expected \(60,\)"),
        ({"of_candidate": np.zeros((3, 7), np.float32)}, r"of_candidate: got shape \(3, 7\), exp"),
        ({"mean": np.zeros(4, np.float32)}, r"mean and std: got \(4\) and \(5\), expected \(5,\)"),
        ({"layers": dense().layers[1:]}, "sizes: got other numbers, expected 5 first, 1 at the"),
        ({"layers": dense().layers[:1]}, "sizes: got other numbers, expected 5 first, 1 at the"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_at_load(changes, message):
    with pytest.raises(Exception, match=message):
        session(dataclasses.replace(dense(), **changes))


@pytest.mark.parametrize("take", [lambda table: followers(), lambda table: dense(table=table)])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shares": np.zeros((3, 8), np.float32)},
            r"shares: got shape \(3, 8\), expected \(60, 8\)",
        ),
        ({"fading": np.zeros(0, np.float32)}, "fading: got no numbers, expected one for each"),
    ],
)
def test_followers_that_do_not_fit_are_refused_at_load(take, changes, message):
    changed = dataclasses.replace(follower_table(), **changes)
    with pytest.raises(Exception, match=message):
        session(dataclasses.replace(take(changed), followers=changed))


def test_followers_of_other_items_are_refused_at_load():
    table = follower_table()
    table = dataclasses.replace(table, codes=table.codes[:9], shares=table.shares[:9])
    with pytest.raises(Exception, match="followers: got 9 rows, expected 60 as of_history"):
        session(dense(table=table))
