"""The networks of the tiny bundles, by onnx.helper: sums of table rows, two kinds of reranker."""

import hashlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from shortlist.training.config import feature_spec
from shortlist.training.config.feature_spec import FeatureSpec
from shortlist.training.features.feature import Feature
from shortlist.training.graphs.nodes import Nodes

DIM = 8
DECLARED = set(feature_spec.KINDS) - {"history", "ignore"}
KINDS = ["view", "purchase"]
KIND_GAINS = [0.0, 0.5, -0.25]  # of an unknown kind, a view, a purchase
STATE = "session_state"
N_LATEST, DECAY, WEIGHT = 5, 0.5, 0.75  # of the reranker of counts


def make_feature(name, kind, dtype, vocabulary=(), mean=0.0, std=1.0, side="user", **more):
    """A fitted feature, as add_lookups wants it; `more` of a Feature, or of its FeatureSpec."""
    fitted = {key: more.pop(key) for key in ("reference", "width") if key in more}
    if kind in DECLARED:
        fitted["spec"] = FeatureSpec(kind, **more)
    return Feature(name, side, kind, dtype, list(vocabulary), mean, std, **fitted)


def table(name, n_codes):
    """A random embedding table (n_codes, DIM) float32 whose row 0 (missing) is zero."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    values = np.random.default_rng(seed).normal(size=(n_codes, DIM)).astype(np.float32)
    values[0] = 0
    return values


def sum_graph(features, output):
    """A core graph: the sum of what every feature says.

    A code says its table's row, a list of codes the sum of its rows, a text its row as many times
    as it has words, a number itself times ones, dense columns their product with a matrix. In a
    history that has kinds and ages each row counts times 1 + the kind's gain, and divided by 1 +
    the days from the event to the newest one.
    """
    nodes = Nodes("tiny")
    terms = [_term(nodes, feature, features) for feature in features]
    nodes.add("Sum", *[term for term in terms if term])
    nodes.rename_last(output)
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIM])
    return _model(nodes, output, [_input(feature) for feature in features], result)


def _input(feature):
    is_float = feature.form in ("number", "dense", "ages")
    shapes = {"codes": ["length"], "ages": ["length"], "dense": [feature.n_columns]}
    shape = ["batch", *shapes.get(feature.form, [])]
    if feature.kind in ("text", "multi_categorical"):  # each has a length of its own
        shape[1] = f"n_{feature.name}"
    kind = TensorProto.FLOAT if is_float else TensorProto.INT64
    return helper.make_tensor_value_info(feature.name, kind, shape)


def _term(nodes, feature, features):
    """What one feature adds: (batch, DIM); "" for what is told of the history's events."""
    name, one = feature.name, nodes.constant([1], np.int64)
    if feature.kind.startswith("history_"):
        return ""
    if feature.form == "number":
        column = nodes.add("Unsqueeze", name, nodes.constant([-1], np.int64))
        return nodes.add("Mul", column, nodes.constant(np.ones((1, DIM)), np.float32))
    if feature.form == "dense":
        weights = table(name, feature.n_columns + 1)[1:]
        return nodes.add("MatMul", name, nodes.constant(weights, np.float32))
    if feature.kind == "text":
        is_word = nodes.add("Greater", name, nodes.constant(0, np.int64))
        number = nodes.add("Cast", is_word, to=TensorProto.FLOAT)
        number = nodes.add("ReduceSum", number, one, keepdims=1)
        return nodes.add("Mul", number, nodes.constant(table(name, 2)[1:], np.float32))
    weights = table("item_id" if feature.kind == "history" else name, feature.n_codes)
    rows = nodes.add("Gather", nodes.constant(weights, np.float32), name)
    if feature.form == "code":
        return rows
    if feature.kind == "history":
        rows = _weighted(nodes, rows, {other.name for other in features})
    return nodes.add("ReduceSum", rows, one, keepdims=0)


def _weighted(nodes, rows, names):
    """Weigh the items of a history (batch, length, DIM) by what is told of their events."""
    if "history_kinds" in names:
        gains = nodes.constant(1 + np.array(KIND_GAINS).reshape(-1, 1), np.float32)
        rows = nodes.add("Mul", rows, nodes.add("Gather", gains, "history_kinds"))
    if "history_ages" in names:  # in days; the newest event is in the last column
        first, last, axis = (nodes.constant([n], np.int64) for n in (-1, 2**62, 1))
        newest = nodes.add("Slice", "history_ages", first, last, axis)
        days = nodes.add("Sub", "history_ages", newest)
        days = nodes.add("Max", days, nodes.constant(0, np.float32))
        slower = nodes.add("Add", days, nodes.constant(1, np.float32))
        rows = nodes.add("Div", rows, nodes.add("Unsqueeze", slower, nodes.constant([2], np.int64)))
    return rows


def step_graph(features):
    """What `sum_graph` says of a history, item by item: the state is the sum of its rows so far."""
    nodes = Nodes("step")
    history, *others = features
    rows = nodes.constant(table("item_id", history.n_codes), np.float32)
    first, last, axis = (nodes.constant([n], np.int64) for n in (-1, 2**62, 1))
    newest = nodes.add("Slice", nodes.add("Gather", rows, "history"), first, last, axis)
    newest = nodes.add("ReduceSum", newest, axis, keepdims=0)
    state = nodes.add("Add", STATE, newest)
    told = [_term(nodes, feature, features) for feature in others if feature.name != STATE]
    nodes.add("Concat", nodes.add("Sum", state, *told), state, axis=-1)
    nodes.rename_last("session")
    result = helper.make_tensor_value_info("session", TensorProto.FLOAT, ["batch", 2 * DIM])
    return _model(nodes, "session", [_input(feature) for feature in features], result)


def scorer_graph():
    """A scorer: candidate code + (sum of the history's codes) · similarity."""
    nodes = Nodes("sums")
    code = nodes.add("Cast", "candidates", to=TensorProto.FLOAT)
    codes = nodes.add("Cast", "history", to=TensorProto.FLOAT)
    total = nodes.add("ReduceSum", codes, nodes.constant([1], np.int64), keepdims=1)
    nodes.add("Add", nodes.add("Mul", "similarity", total), code)
    return _scorer(nodes)


def thirds_graph():
    """A scorer of few scores: candidate code modulo 3."""
    nodes = Nodes("thirds")
    rest = nodes.add("Mod", "candidates", nodes.constant(3, np.int64))
    nodes.add("Cast", rest, to=TensorProto.FLOAT)
    return _scorer(nodes)


def followers_of(n_items):
    """What follows each item: {row: [(row, share)]}, the most frequent follower first."""
    return {row: [((row + 1) % n_items, 1.0), ((3 * row + 2) % n_items, 0.5)]
            for row in range(0, n_items, 2)}  # fmt: skip


def followers_graph(n_items):
    """A scorer of counts: similarity + WEIGHT · Σ DECAY^age · share over the latest items."""
    codes = np.zeros((n_items + 1, 2), np.int64)
    shares = np.zeros((n_items + 1, 2), np.float32)
    for row, followers in followers_of(n_items).items():
        codes[row + 1] = [follower + 1 for follower, _ in followers]
        shares[row + 1] = [share for _, share in followers]
    nodes = Nodes("counts")

    def whole(values):
        return nodes.constant(values, np.int64)

    padded = nodes.add("Pad", "history", whole([0, N_LATEST, 0, 0]))
    latest = nodes.add("Slice", padded, whole([-N_LATEST]), whole([2**62]), whole([1]))
    fading = DECAY ** np.arange(N_LATEST - 1, -1, -1.0).reshape(1, N_LATEST, 1)
    share = nodes.add("Gather", nodes.constant(shares, np.float32), latest)
    share = nodes.add("Mul", share, nodes.constant(fading * WEIGHT, np.float32))
    follower = nodes.add("Gather", whole(codes), latest)
    flat = whole([0, 1, -1])  # (batch, 1, N_LATEST · followers), against (batch, n, 1)
    share, follower = (nodes.add("Reshape", part, flat) for part in (
        nodes.add("Unsqueeze", share, whole([1])), nodes.add("Unsqueeze", follower, whole([1]))
    ))  # fmt: skip
    candidates = nodes.add("Unsqueeze", "candidates", whole([2]))
    is_follower = nodes.add("Cast", nodes.add("Equal", follower, candidates), to=TensorProto.FLOAT)
    gain = nodes.add("ReduceSum", nodes.add("Mul", is_follower, share), whole([2]), keepdims=0)
    is_known = nodes.add("Cast", nodes.add("Greater", "candidates", whole(0)), to=TensorProto.FLOAT)
    nodes.add("Add", "similarity", nodes.add("Mul", gain, is_known))
    return _scorer(nodes)


def _scorer(nodes):
    nodes.rename_last("score")
    inputs = [
        helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("candidates", TensorProto.INT64, ["batch", "n"]),
        helper.make_tensor_value_info("similarity", TensorProto.FLOAT, ["batch", "n"]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", "n"])
    return _model(nodes, "scorer", inputs, output)


def _model(nodes, name, inputs, output):
    """Constants become initializers, as exported graphs have them."""
    constants = [node for node in nodes.nodes if node.op_type == "Constant"]
    weights = []
    for node in constants:
        weights.append(numpy_helper.from_array(numpy_helper.to_array(node.attribute[0].t)))
        weights[-1].name = node.output[0]
    kept = [node for node in nodes.nodes if node.op_type != "Constant"]
    graph = helper.make_graph(kept, name, inputs, [output], initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
