"""Tables of a graph as 8-bit numbers, each row with a scale of its own.

A row of a table is looked up as whole numbers and multiplied by its scale: three standard operators
more, a quarter of the bytes, on disk and in memory. A table that is taken whole, by a product or an
operator of ours, is written the same way, and ONNX Runtime multiplies it out when it opens the
graph. A table that is a product of one or two columns and rows is written as these.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from shortlist.export.heads import PLUGIN_DOMAIN
from shortlist.export.passes.view import attributes_of, with_subgraphs

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["byte_tables", "digests", "rounded_rows", "smallest"]

LEAST_WIDTH = 8  # numbers of a row: below that its scale would cost what is saved
LEAST_BYTES = 1024
LARGEST = 127
SAME = 1e-6  # parts of the largest number: less is the rounding of float32


def rounded_rows(
    values: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round rows (n, width) to 8 bits: codes (n, width) from −127 to 127, and scales (n, 1)."""
    largest = np.abs(values).max(axis=1, keepdims=True).astype(np.float64)
    scales = (largest / LARGEST).astype(np.float32)
    return np.rint(values / np.where(scales > 0, scales, 1)).astype(np.int8), scales


def digests(proto: onnx.ModelProto) -> set[bytes]:
    """Return what identifies the content of each table of a graph."""
    return {_digest(tensor) for tensor in proto.graph.initializer if _is_table(tensor)}


def byte_tables(proto: onnx.ModelProto, shared: set[bytes]) -> None:
    """Keep tables of float32 as 8-bit numbers, and tables of codes in as few bytes as they need.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed in place. Its large tensors are in memory.
    shared : set of bytes
        The tables (`digests`) that may be rounded: those that all graphs have which answer alike.
    """
    graph = proto.graph
    inputs = {value.name for value in graph.input}
    readers: dict[str, list[Any]] = {}
    for part in with_subgraphs(graph):
        for node in part.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
    rounded: dict[str, tuple[Any, Any]] = {}
    whole = []
    for tensor in list(graph.initializer):
        if tensor.name in inputs or not _is_table(tensor):
            continue
        found, is_shared = readers.get(tensor.name, []), _digest(tensor) in shared
        if tensor.data_type == TensorProto.FLOAT and all(_looks_up(n, tensor.name) for n in found):
            parts = _factors(numpy_helper.to_array(tensor))
            if parts is None and is_shared:
                parts = rounded_rows(numpy_helper.to_array(tensor))
            if parts is not None:
                rounded[tensor.name] = parts
                graph.initializer.remove(tensor)
        elif not is_shared:
            continue
        elif all(_takes_whole(n) or _looks_up(n, tensor.name) for n in found):
            whole.append(tensor)
    for part in with_subgraphs(graph):
        _look_up_codes(part, rounded)
    nodes = [node for tensor in whole for node in _made_whole(graph, tensor)]
    _put_first(graph, nodes)
    for name, parts in rounded.items():
        for part, values in zip(("codes", "scales"), parts, strict=True):
            graph.initializer.append(numpy_helper.from_array(values, f"{name}/{part}"))


def _factors(values: npt.NDArray[np.float32]) -> tuple[Any, Any] | None:
    """Return columns (n, k) and rows (k, width), k 1 or 2, whose product is the table, or None."""
    table = values.astype(np.float64)
    _, directions = np.linalg.eigh(table.T @ table)  # of the smallest part of the table first
    for k in (1, 2):
        rows = directions[:, -k:].T
        columns = table @ rows.T
        if np.abs(columns @ rows - table).max() <= SAME * np.abs(table).max():
            return columns.astype(np.float32), rows.astype(np.float32)
    return None


def _digest(tensor: TensorProto) -> bytes:
    return hashlib.sha256(numpy_helper.to_array(tensor).tobytes()).digest()


def _is_table(tensor: TensorProto) -> bool:
    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.dims) != 2:
        return False
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64):
        return False
    n_bytes = int(np.prod(tensor.dims)) * 4
    return bool(tensor.dims[1] >= LEAST_WIDTH and n_bytes >= LEAST_BYTES)


def _looks_up(node: Any, name: str) -> bool:
    """Say whether a node reads a value as a table of rows, and not as the rows' numbers."""
    is_gather = node.op_type == "Gather" and not node.domain
    return bool(
        is_gather
        and node.input[0] == name
        and node.input[1] != name
        and attributes_of(node).get("axis", 0) == 0
    )


def _takes_whole(node: Any) -> bool:
    """Say whether a node multiplies by a table, or is an operator of ours."""
    return node.domain == PLUGIN_DOMAIN or (node.op_type in ("MatMul", "Gemm") and not node.domain)


def _look_up_codes(graph: Any, tables: dict[str, tuple[Any, Any]]) -> None:
    """Put lookups of codes and scales, or of columns, in the places of those of float32 rows."""
    nodes = []
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables:
            nodes.append(node)
            continue
        table, places, result = node.input[0], node.input[1], node.output[0]
        codes, numbers, scales = (f"{result}/{part}" for part in ("codes", "numbers", "scales"))
        nodes.append(helper.make_node("Gather", [f"{table}/codes", places], [codes], codes))
        factor, kind = f"{table}/scales", "Mul"
        if tables[table][0].dtype == np.int8:
            cast = {"to": TensorProto.FLOAT}
            nodes.append(helper.make_node("Cast", [codes], [numbers], numbers, **cast))
            nodes.append(helper.make_node("Gather", [factor, places], [scales], scales))
            codes, factor = numbers, scales
        elif len(tables[table][1]) > 1:
            kind = "MatMul"
        nodes.append(helper.make_node(kind, [codes, factor], [result], node.name or result))
    _set_nodes(graph, nodes)


def _made_whole(graph: Any, tensor: TensorProto) -> list[Any]:
    """Replace a table by its codes, and give the nodes that make it again under its name."""
    name, values = tensor.name, numpy_helper.to_array(tensor)
    graph.initializer.remove(tensor)
    codes, numbers = f"{name}/codes", f"{name}/numbers"
    if tensor.data_type != TensorProto.FLOAT:
        small = values.astype(smallest(values))
        graph.initializer.append(numpy_helper.from_array(small, codes))
        return [helper.make_node("Cast", [codes], [name], name, to=tensor.data_type)]
    rows, scales = rounded_rows(values)
    graph.initializer.append(numpy_helper.from_array(rows, codes))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scales"))
    return [
        helper.make_node("Cast", [codes], [numbers], numbers, to=TensorProto.FLOAT),
        helper.make_node("Mul", [numbers, f"{name}/scales"], [name], name),
    ]


def smallest(values: npt.NDArray[np.integer]) -> np.dtype[Any]:
    """Return the smallest signed type that holds whole numbers."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    kinds = [np.iinfo(kind) for kind in (np.int8, np.int16, np.int32)]
    fit = (kind.dtype for kind in kinds if kind.min <= low and high <= kind.max)
    return next(fit, values.dtype)


def _put_first(graph: Any, nodes: list[Any]) -> None:
    _set_nodes(graph, [*nodes, *graph.node])


def _set_nodes(graph: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
