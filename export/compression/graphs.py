"""The graphs of a bundle: read with their large tensors, changed alike, written again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from shortlist.export.tensors import DATA_FILE, SharedTensors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENCODER", "ITEM_ENCODER", "PLUGIN", "PORTABLE", "SCORER", "SESSION"]
__all__ += ["Graphs", "read_graphs", "transplant", "write_graphs"]

PLUGIN, PORTABLE = "recommend.onnx", "recommend_portable.onnx"
ENCODER, ITEM_ENCODER = "user_encoder.onnx", "item_encoder.onnx"
SESSION, SCORER = "session_encoder.onnx", "scorer.onnx"
_ALL = (PLUGIN, PORTABLE, ENCODER, ITEM_ENCODER, SESSION, SCORER)

Graphs = dict[str, onnx.ModelProto]


def read_graphs(directory: Path) -> Graphs:
    """Read the graphs of a bundle by file name.

    Tensors of graphs.data come along; those of items.index stay references.
    """
    graphs = {}
    for name in _ALL:
        if not (directory / name).exists():
            continue
        proto = onnx.load(directory / name, load_external_data=False)
        for tensor in proto.graph.initializer:
            if uses_external_data(tensor) and _location(tensor) == DATA_FILE:
                load_external_data_for_tensor(tensor, str(directory))
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]
        graphs[name] = proto
    return graphs


def write_graphs(graphs: Graphs, directory: Path) -> None:
    """Write graphs, each large tensor of all of them once; `graphs` is spent then."""
    shared = SharedTensors(directory)
    for name, proto in graphs.items():
        shared.save(proto, name)


def _location(tensor: TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def transplant(before: onnx.ModelProto, after: onnx.ModelProto, host: onnx.ModelProto) -> None:
    """Change a graph that holds another one as that one was changed.

    Parameters
    ----------
    before, after : onnx.ModelProto
        A graph, and the same with some nodes added, whose results others of its nodes now read.
    host : onnx.ModelProto
        Changed in place. It holds the nodes of `before`, under the same names.
    """
    old = {node.output[0]: node for node in before.graph.node}
    added = {name: n for n in after.graph.node if n.output[0] not in old for name in n.output}
    renamed: dict[tuple[str, int], str] = {}
    for node in after.graph.node:
        same = old.get(node.output[0])
        if same is None:
            continue
        for place, (name, former) in enumerate(zip(node.input, same.input, strict=True)):
            if name != former:
                renamed[node.output[0], place] = name
    nodes: list[Any] = []
    there: set[str] = set()

    def put(name: str) -> None:
        maker = added.get(name)
        if maker is None or name in there:
            return
        for source in maker.input:
            put(source)
        nodes.append(maker)
        there.update(maker.output)

    for node in host.graph.node:
        for place in range(len(node.input)):
            name = renamed.get((node.output[0], place))
            if name is not None:
                put(name)
                node.input[place] = name
        nodes.append(node)
    _replace(host.graph.node, nodes)
    known = {tensor.name for tensor in before.graph.initializer}
    host.graph.initializer.extend(t for t in after.graph.initializer if t.name not in known)


def _replace(field: Any, values: list[Any]) -> None:
    """Put messages into a repeated field; they may be those that are there."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)
