"""recommend.onnx and recommend_portable.onnx: raw columns → item ids, all in one graph.

The user encoder's graph is extended on both sides. Before its core, histories are packed as the
engine packs them: unknown items dropped, the last ones kept, as wide as the longest. Behind it
come the search (`heads`), the second stage, popular items for requests of which nothing is known,
and the ids. So one run answers like `Engine.recommend`; docs/plugin.md lists inputs and outputs.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shortlist.export.heads import (
    PLUGIN_DOMAIN,
    Head,
    Packed,
    PluginHead,
    Popular,
)
from shortlist.export.parts import Parts
from shortlist.export.reranking import STAGES, Known, add_first_k, add_second_stage
from shortlist.export.sources import add_source
from shortlist.training.graphs.nodes import Nodes

OUTPUTS = {
    "item_ids": ["batch", "top_n"],
    "scores": ["batch", "top_n"],
    "counts": ["batch"],
    "rows": ["batch", "top_n"],
    "source": ["batch"],
}
_CODES = "coded/history"


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
    # ONNX Runtime fuses nodes only where it knows the rank, which our operator cannot tell.
    graph.value_info.append(
        helper.make_tensor_value_info(packed.codes, TensorProto.INT64, ["batch", "width"])
    )
    graph.name = "recommend"
    if isinstance(head, PluginHead):
        proto.opset_import.append(helper.make_opsetid(PLUGIN_DOMAIN, 1))
    return proto


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
    source, has_history, is_unknown = add_source(nodes, parts.features, n_known)
    order = np.argsort(-parts.popularity, kind="stable")
    popular = Popular(order, parts.popularity[order])
    k = "top_n" if parts.scorer is None else add_first_k(nodes, parts.n_candidates)
    hits = head.search(nodes, embedding, k, _CODES, "exclude_seen", is_unknown, popular)
    if parts.scorer is not None:
        known = Known(_CODES, n_known, has_history)
        hits = add_second_stage(nodes, parts, head, hits, known, proto)
    names = {hits.rows: "rows", hits.scores: "scores", hits.counts: "counts"}
    _name_outputs(nodes, names | {source: "source"})
    # Row −1 is the last entry: no id. An engine has rows beyond too, and other ids for them.
    last = nodes.constant(len(parts.item_ids), np.int64)
    nodes.add("Gather", "item_ids_by_row", nodes.add("Min", "rows", last))
    nodes.rename_last("item_ids")


def _name_outputs(nodes: Nodes, names: dict[str, str]) -> None:
    """Give values the names of the graph's outputs."""
    for node in nodes.nodes:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                values[i] = names.get(name, name)


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
        usual[STAGES] = np.array([2])
    return [tensor, *(numpy_helper.from_array(value, name) for name, value in usual.items())]


def _set_interface(graph: Any, parts: Parts, head: Head) -> None:
    info = helper.make_tensor_value_info
    graph.input.extend(
        [
            info("top_n", TensorProto.INT64, [1]),
            info("exclude_seen", TensorProto.BOOL, [1]),
            *([] if parts.scorer is None else [info(STAGES, TensorProto.INT64, [1])]),
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
