"""The item index of a bundle under another storage, and the graphs that read its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from shortlist.export.compression.graphs import PLUGIN, PORTABLE
from shortlist.export.portable import PortableHead
from shortlist.export.tensors import index_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from shortlist.export.compression.graphs import Graphs
    from shortlist.index import Index

__all__ = ["read_index_again"]

_BYTES, _ROWS = "index", "items"  # what the graphs call the file and its rows


def read_index_again(graphs: Graphs, directory: Path, index: Index) -> None:
    """Let the graphs read an index in place of one of float32 rows.

    Parameters
    ----------
    graphs : dict of str to onnx.ModelProto
        Changed in place.
    directory : Path
        Where `index` is saved as items.index.
    index : Index
    """
    if PLUGIN in graphs:
        _put(graphs[PLUGIN], [index_bytes(directory, _BYTES)])
    if PORTABLE in graphs:
        proto, head = graphs[PORTABLE], PortableHead(directory, index)
        _put(proto, head.initializers())
        _multiply_out(proto.graph)


def _put(proto: onnx.ModelProto, tensors: list[TensorProto]) -> None:
    names = {tensor.name for tensor in tensors}
    old = [tensor for tensor in proto.graph.initializer if tensor.name in names]
    for tensor in old:
        proto.graph.initializer.remove(tensor)
    proto.graph.initializer.extend(tensors)


def _multiply_out(graph: onnx.GraphProto) -> None:
    """Make float32 rows of those of the index, where it has others, for all that read them."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    if tensors[_ROWS].data_type == TensorProto.FLOAT:
        return
    numbers = f"{_ROWS}/numbers"
    nodes = [helper.make_node("Cast", [_ROWS], [numbers], numbers, to=TensorProto.FLOAT)]
    if "scales" in tensors:
        nodes.append(
            helper.make_node("Mul", [numbers, "scales"], [f"{numbers}/scaled"], f"{numbers}/scaled")
        )
    result = nodes[-1].output[0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = result if name == _ROWS else name
    for node in reversed(nodes):
        graph.node.insert(0, node)
