"""recommend.onnx and recommend_portable.onnx: raw columns → item ids, all in one graph.

The user encoder's graph is extended on both sides. Before its core, histories are packed as the
engine packs them: unknown items dropped, the last ones kept, as wide as the longest. Behind it
come the search (`heads`), the second stage, popular items for requests of which nothing is known,
and the ids. So one run answers like `Engine.recommend`; docs/plugin.md lists inputs and outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from shortlist._signals import FEATURES, HISTORY, POPULAR
from shortlist.export.heads import (
    PLUGIN_DOMAIN,
    Found,
    Head,
    Packed,
    PluginHead,
    Popular,
    choose,
)
from shortlist.export.lookup import ROWS, RawFeature
from shortlist.export.nodes import Nodes
from shortlist.requests import MISSING_INT

OUTPUTS = {
    "item_ids": ["batch", "top_n"],
    "scores": ["batch", "top_n"],
    "counts": ["batch"],
    "rows": ["batch", "top_n"],
    "source": ["batch"],
}
_CODES = "coded/history"
_SCORER = "scorer/"
Branch = tuple[Nodes, Found]


@dataclass(frozen=True)
class Parts:
    """What a graph that recommends is made of.

    Attributes
    ----------
    encoder : onnx.ModelProto
        The user encoder with its lookups, as `add_lookups` returns it. Not changed.
    features : sequence of RawFeature
        The user's features, without history and event features.
    gap : float or None
        Seconds between two events where ages are declared and not given; None = not declared.
    has_kinds : bool
        Whether the encoder takes kinds of events.
    max_history : int
        Items of a history the encoder looks at.
    item_ids : ndarray of shape (n_items,)
        int64 or str.
    popularity : ndarray of shape (n_items,), float32
        Score of each item for a request of which nothing is known: its events in training, or what
        the model says.
    scorer : onnx.ModelProto or None
        The second stage.
    n_candidates, history_length : int
        Of the second stage.
    """

    encoder: onnx.ModelProto
    features: Sequence[RawFeature]
    gap: float | None
    has_kinds: bool
    max_history: int
    item_ids: npt.NDArray[Any]
    popularity: npt.NDArray[np.float32]
    scorer: onnx.ModelProto | None = None
    n_candidates: int = 1
    history_length: int = 1


def recommend_graph(parts: Parts, head: Head) -> onnx.ModelProto:
    """Build the graph; docs/plugin.md describes it for hosts.

    Parameters
    ----------
    parts : Parts
    head : Head
        `PluginHead` or `PortableHead`.

    Returns
    -------
    onnx.ModelProto
        Inputs: the encoder's, `top_n` int64 (1,), and optional `exclude_seen` bool (1,), true if
        left out, `stages` int64 (1,) where there is a second stage, 2 if left out, and the head's
        filters. Outputs: see `OUTPUTS`.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(parts.encoder)
    graph = proto.graph
    _drop_rows_input(graph)
    packing = Nodes("packed")
    packed = head.pack(packing, _CODES, parts.max_history)
    renamed = {_CODES: packed.codes}
    if parts.has_kinds:
        renamed["history_kinds"] = _pack_kinds(packing, packed)
    if parts.gap is not None:
        renamed["history_ages"] = _pack_ages(packing, packed, parts.gap)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    tail = Nodes("answer")
    _answer(tail, parts, head, packed.n_known, proto)
    looked_up = next(i for i, node in enumerate(graph.node) if _CODES in node.output) + 1
    nodes = [*graph.node[:looked_up], *packing.nodes, *graph.node[looked_up:], *tail.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*head.initializers(), *_ids(parts)])
    _set_interface(graph, parts, head)
    # ONNX Runtime fuses nodes only where it knows the rank, which our operator cannot tell. Fused
    # otherwise than in the engine, they would round otherwise.
    graph.value_info.append(
        helper.make_tensor_value_info(packed.codes, TensorProto.INT64, ["batch", "width"])
    )
    graph.name = "recommend"
    if isinstance(head, PluginHead):
        proto.opset_import.append(helper.make_opsetid(PLUGIN_DOMAIN, 1))
    return proto


def _drop_rows_input(graph: Any) -> None:
    """Take the engine's short cut `history_rows` out of the encoder: codes come from `history`."""
    made_by = {name: node for node in graph.node for name in node.output}
    chosen = made_by[_CODES]  # Where(is a row, row + 1, looked up)
    is_row, code, looked_up = chosen.input
    for node in (made_by[is_row], made_by[code], chosen):
        graph.node.remove(node)
    made_by[looked_up].output[0] = _CODES
    for values in (graph.input, graph.initializer):
        values.remove(next(value for value in values if value.name == ROWS))


def _axis(nodes: Nodes) -> list[str]:
    return [nodes.constant([1], np.int64)]


def _pack_kinds(nodes: Nodes, packed: Packed) -> str:
    is_item = nodes.add("Greater", packed.codes, nodes.constant(0, np.int64))
    taken = nodes.add("GatherElements", "history_kinds", packed.places, axis=1)
    # ONNX text constants are tensors of bytes; NumPy objects carry them.
    return nodes.add("Where", is_item, taken, nodes.constant("", np.object_))


def _pack_ages(nodes: Nodes, packed: Packed, gap: float) -> str:
    """Ages of the kept events; where one is missing, the usual gap for each later event."""
    is_item = nodes.add("Greater", packed.codes, nodes.constant(0, np.int64))
    taken = nodes.add("GatherElements", "history_ages", packed.places, axis=1)
    shape = nodes.add("Shape", packed.codes)
    width = nodes.add("Gather", shape, nodes.constant(1, np.int64))
    one = nodes.constant(1, np.int64)
    down = nodes.constant(-1, np.int64)
    later = nodes.add("Range", nodes.add("Sub", width, one), down, down)
    usual = nodes.add(
        "Mul", nodes.add("Cast", later, to=TensorProto.FLOAT), nodes.constant(gap, np.float32)
    )
    filled = nodes.add("Where", nodes.add("IsNaN", taken), usual, taken)
    return nodes.add("Where", is_item, filled, nodes.constant(np.nan, np.float32))


def _answer(nodes: Nodes, parts: Parts, head: Head, n_known: str, proto: onnx.ModelProto) -> None:
    """Append everything behind the encoder; the last nodes have the names of the outputs."""
    embedding = proto.graph.output[0].name
    no_history = nodes.add("Equal", n_known, nodes.constant(0, np.int64))
    features = _has_feature(nodes, parts.features)
    lesser, is_unknown = nodes.constant(POPULAR, np.int64), no_history
    if features:
        lesser = nodes.add("Where", features, nodes.constant(FEATURES, np.int64), lesser)
        is_unknown = nodes.add("And", no_history, nodes.add("Not", features))
    nodes.add("Where", no_history, lesser, nodes.constant(HISTORY, np.int64))
    nodes.rename_last("source")
    order = np.argsort(-parts.popularity, kind="stable")
    popular = Popular(order, parts.popularity[order])
    k = "top_n"
    if parts.scorer is not None:
        are_two = nodes.add("Equal", "stages", nodes.constant([2], np.int64))
        sizes = (nodes.constant([size], np.int64) for size in (parts.n_candidates, 1))
        k = nodes.add("Max", k, nodes.add("Where", are_two, *sizes))
    found = head.search(nodes, embedding, k, _CODES, "exclude_seen", is_unknown, popular)
    if parts.scorer is not None:
        again, once = Nodes("again"), Nodes("once")
        history = head.pack(again, _CODES, parts.history_length).codes
        best = _rerank(again, parts.scorer, found, history, k, proto)
        best = choose(again, no_history, _first(again, found), best)
        found = _either(nodes, are_two, (again, best), (once, _copy(once, found)))
    _name_outputs(nodes, {found.rows: "rows", found.scores: "scores", found.counts: "counts"})
    nodes.add("Gather", "item_ids_by_row", "rows")  # row −1 is the last entry: no id
    nodes.rename_last("item_ids")


def _copy(nodes: Nodes, found: Found) -> Found:
    """Give values of the outer graph other names, as the result of a branch needs them."""
    return Found(*(nodes.add("Identity", v) for v in (found.rows, found.scores, found.counts)))


def _either(nodes: Nodes, condition: str, yes: Branch, no: Branch) -> Found:
    """Append the one node that runs one of two branches."""
    types = (TensorProto.INT64, TensorProto.FLOAT, TensorProto.INT64)
    shapes = (["batch", "found"], ["batch", "found"], ["batch"])
    graphs = []
    for branch, found in (yes, no):
        outputs = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in zip(
                (found.rows, found.scores, found.counts), types, shapes, strict=True
            )
        ]
        graphs.append(helper.make_graph(branch.nodes, branch.name, [], outputs))
    branches = {"then_branch": graphs[0], "else_branch": graphs[1]}
    return Found(*nodes.add_many("If", 3, condition, **branches))


def _name_outputs(nodes: Nodes, names: dict[str, str]) -> None:
    """Give values the names of the graph's outputs."""
    for node in nodes.nodes:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                values[i] = names.get(name, name)


def _first(nodes: Nodes, found: Found) -> Found:
    """Cut what the first stage found for the second one to `top_n`."""
    zero = nodes.constant([0], np.int64)

    def cut(values: str) -> str:
        return nodes.add("Slice", values, zero, "top_n", *_axis(nodes))

    return Found(cut(found.rows), cut(found.scores), nodes.add("Min", found.counts, "top_n"))


def _rerank(
    nodes: Nodes,
    scorer: onnx.ModelProto,
    found: Found,
    history: str,
    k: str,
    proto: onnx.ModelProto,
) -> Found:
    """Score the candidates and put them in order: best first, ties by the lower row."""
    zero = nodes.constant(0, np.int64)
    is_none = nodes.add("Less", found.rows, zero)
    codes = found.codes or nodes.add("Add", found.rows, nodes.constant(1, np.int64))
    similarity = nodes.add("Where", is_none, nodes.constant(0, np.float32), found.scores)
    inputs = {"history": history, "candidates": codes, "similarity": similarity}
    score = _insert(nodes, scorer, inputs, proto)
    score = nodes.add("Where", is_none, nodes.constant(-np.inf, np.float32), score)
    # TopK takes the first of equals, so the candidates go into the order of their rows before.
    rows, order = nodes.add_many("TopK", 2, found.rows, k, axis=1, largest=0)
    score = nodes.add("GatherElements", score, order, axis=1)
    best, places = nodes.add_many("TopK", 2, score, "top_n", axis=1)
    rows = nodes.add("GatherElements", rows, places, axis=1)
    return Found(rows, best, nodes.add("Min", found.counts, "top_n"))


def _insert(
    nodes: Nodes, graph: onnx.ModelProto, inputs: dict[str, str], proto: onnx.ModelProto
) -> str:
    """Append another graph's nodes and constants under a prefix; returns its output."""
    added = onnx.compose.add_prefix(graph, prefix=_SCORER)
    renamed = {_SCORER + name: value for name, value in inputs.items()}
    for node in added.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    nodes.nodes.extend(added.graph.node)
    proto.graph.initializer.extend(added.graph.initializer)
    return str(added.graph.output[0].name)


def _has_feature(nodes: Nodes, features: Sequence[RawFeature]) -> str:
    """Say for each request whether any feature is known, as `FeatureColumn.is_known`; "" = none."""
    found = ""
    for feature in features:
        known = _is_known(nodes, feature)
        found = nodes.add("Or", found, known) if found else known
    return found


def _is_known(nodes: Nodes, feature: RawFeature) -> str:
    match feature.kind:
        case "categorical" | "multi_categorical":
            codes = f"coded/{feature.name}"
            known = nodes.add("Greater", codes, nodes.constant(0, np.int64))
            if feature.has_own_missing:
                largest = nodes.constant(feature.n_values, np.int64)
                known = nodes.add("And", known, nodes.add("LessOrEqual", codes, largest))
        case "text":
            number = nodes.add(
                "LabelEncoder",
                feature.name,
                domain="ai.onnx.ml",
                keys_strings=[""],
                values_int64s=[0],
                default_int64=1,
            )
            known = nodes.add("Greater", number, nodes.constant(0, np.int64))
        case "timestamp":
            missing = nodes.constant(MISSING_INT, np.int64)
            known = nodes.add("Not", nodes.add("Equal", feature.name, missing))
        case _:
            known = nodes.add("Not", nodes.add("IsNaN", feature.name))
    if feature.kind not in ("multi_categorical", "vector"):
        return known
    number = nodes.add("Cast", known, to=TensorProto.INT64)
    number = nodes.add("ReduceSum", number, *_axis(nodes), keepdims=0)
    return nodes.add("Greater", number, nodes.constant(0, np.int64))


def _ids(parts: Parts) -> list[TensorProto]:
    is_text = parts.item_ids.dtype.kind in "OU"
    ids = parts.item_ids.tolist()
    if is_text:
        values = [text.encode() for text in [*ids, ""]]
        tensor = helper.make_tensor("item_ids_by_row", TensorProto.STRING, [len(values)], values)
    else:
        tensor = numpy_helper.from_array(np.array([*ids, -1], np.int64), "item_ids_by_row")
    usual = {"exclude_seen": np.array([True])}
    if parts.scorer is not None:
        usual["stages"] = np.array([2])
    return [tensor, *(numpy_helper.from_array(value, name) for name, value in usual.items())]


def _set_interface(graph: Any, parts: Parts, head: Head) -> None:
    info = helper.make_tensor_value_info
    graph.input.extend(
        [
            info("top_n", TensorProto.INT64, [1]),
            info("exclude_seen", TensorProto.BOOL, [1]),
            *([] if parts.scorer is None else [info("stages", TensorProto.INT64, [1])]),
            *head.inputs(),
        ]
    )
    is_text = parts.item_ids.dtype.kind in "OU"
    types = {"item_ids": TensorProto.STRING if is_text else TensorProto.INT64}
    types["scores"] = TensorProto.FLOAT
    del graph.output[:]
    del graph.value_info[:]
    graph.output.extend(
        info(name, types.get(name, TensorProto.INT64), shape) for name, shape in OUTPUTS.items()
    )
