"""Embeddings cut to their first numbers, as `train.matryoshka` trains them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from shortlist.errors import DataError
from shortlist.export.compression.graphs import ENCODER, ITEM_ENCODER, PLUGIN, PORTABLE, SESSION
from shortlist.index import Index
from shortlist.training.graphs.nodes import Nodes

if TYPE_CHECKING:
    import onnx

    from shortlist.export.compression.graphs import Graphs

__all__ = ["cut_graphs", "cut_index"]

USER, ITEM = "user_embedding", "item_embedding"
EPSILON = 1e-12  # as in training, so that a zero row stays zero


def cut_index(index: Index, dim: int) -> Index:
    """Build an index of the first numbers of each row, brought to length 1.

    Raises
    ------
    DataError
        The rows are no longer, or their length says something.
    """
    if index.metric != "cosine" or dim >= index.dim:
        raise DataError(
            f"--dim: got {dim}, expected a number below {index.dim} and an index by cosine, got "
            f"{index.metric}. Fix: leave --dim out"
        )
    rows = index.vectors(np.arange(len(index)))[:, :dim]
    return Index(rows, index.item_ids, "cosine")


def cut_graphs(graphs: Graphs, dim: int) -> None:
    """Let encoders give the first numbers of their embeddings, brought to length 1.

    Parameters
    ----------
    graphs : dict of str to onnx.ModelProto
        Changed in place.
    dim : int

    Raises
    ------
    DataError
        The bundle has a session encoder, whose embedding is part of its state.
    """
    if SESSION in graphs:
        raise DataError(
            f"--dim: got {dim} for a bundle with a session encoder, expected one without: a "
            "recurrent encoder's state holds the whole embedding. Fix: leave --dim out"
        )
    for name in (ENCODER, PLUGIN, PORTABLE):
        if name in graphs:
            _cut(graphs[name], USER, dim)
    if not _cut_table(graphs[ITEM_ENCODER], dim):
        _cut(graphs[ITEM_ENCODER], ITEM, dim)


def _cut(proto: onnx.ModelProto, value: str, dim: int) -> None:
    """Append the cut to the node that makes a value, under the value's name."""
    graph = proto.graph
    place = next(i for i, node in enumerate(graph.node) if value in node.output)
    maker, whole = graph.node[place], f"{value}/whole"
    maker.output[:] = [whole if name == value else name for name in maker.output]
    nodes = Nodes(f"{value}/cut")
    zero, end, axis = (nodes.constant([number], np.int64) for number in (0, dim, 1))
    first = nodes.add("Slice", whole, zero, end, axis)
    square = nodes.add("ReduceSum", nodes.add("Mul", first, first), axis, keepdims=1)
    square = nodes.add("Max", square, nodes.constant(EPSILON, np.float32))
    nodes.add("Div", first, nodes.add("Sqrt", square))
    nodes.rename_last(value)
    for node in reversed(nodes.nodes):
        graph.node.insert(place + 1, node)
    _set_width(graph, value, dim)


def _cut_table(proto: onnx.ModelProto, dim: int) -> bool:
    """Cut the rows of a table, where these are the items' embeddings as they are."""
    graph = proto.graph
    maker = next(node for node in graph.node if ITEM in node.output)
    tensor = next((t for t in graph.initializer if t.name == maker.input[0]), None)
    if maker.op_type != "Gather" or tensor is None or tensor.data_type != TensorProto.FLOAT:
        return False
    rows = numpy_helper.to_array(tensor)[:, :dim]
    lengths = np.sqrt(np.maximum(np.square(rows).sum(axis=1, keepdims=True), EPSILON))
    tensor.CopyFrom(numpy_helper.from_array((rows / lengths).astype(np.float32), tensor.name))
    _set_width(graph, ITEM, dim)
    return True


def _set_width(graph: Any, value: str, dim: int) -> None:
    del graph.value_info[:]
    for output in graph.output:
        if output.name == value:
            info = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", dim])
            output.CopyFrom(info)
