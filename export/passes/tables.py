"""Functions of an id, computed for every id there is.

Much of an encoder depends on one item or one category alone: its embedding, scaled, masked where
the code is 0, multiplied by a matrix. Such a part of a graph becomes one Gather of a table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from shortlist.export.passes.view import attributes_of
from shortlist.training.graphs.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from shortlist.export.passes.view import GraphView

# What tables may take in all beyond those they replace: bytes, and parts of the tables that they
# are made from.
FREE_BYTES = 1 << 20
FREE_PART = 0.25
# A larger constant is an input of the graph that is run once: copies of a catalogue cost memory.
FED_BYTES = 1 << 20
BLOCK = 1 << 16  # codes for which the nodes run at once
_UNARY = {
    "Abs", "Cast", "Exp", "Floor", "Identity", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Relu",
    "Sigmoid", "Sign", "Softplus", "Sqrt", "Tanh",
}  # fmt: skip
_BROADCAST = {
    "Add", "And", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip
_REDUCTIONS = {"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}


def tabulate(view: GraphView, n_codes: Mapping[str, int]) -> bool:
    """Look up what depends on one integer input alone.

    Parameters
    ----------
    view : GraphView
    n_codes : mapping of str to int
        Codes of every integer input: 0 … n − 1.
    """
    refused: set[str] = set()
    changed = False
    for name, n in (dict(n_codes) | _masked(view, n_codes)).items():
        while (frontier := _frontier(view, name, refused)) is not None:
            value, ancestors = frontier
            if _replace(view, name, n, value, ancestors):
                changed = True
            else:
                refused.add(value)
    return changed


def _masked(view: GraphView, n_codes: Mapping[str, int]) -> dict[str, int]:
    """Find codes times a mask that is 1 where another code is above 0: they are codes as well."""
    masked = {}
    for node in view.nodes:
        if node.op_type != "Mul":
            continue
        for codes, mask in (node.input[:], node.input[::-1]):
            least = view.maker(mask, "Min")
            if codes not in n_codes or least is None or view.scalar(least.input[1]) != 1:
                continue
            if least.input[0] in n_codes:
                masked[node.output[0]] = n_codes[codes]
    return masked


def _frontier(view: GraphView, source: str, refused: set[str]) -> tuple[str, list[Any]] | None:
    """Find a value that depends on a source by rows, and that something else reads."""
    rank = view.rank(source)
    if rank is None:
        return None
    trailing = {source: 0}  # dimensions behind the source's own
    for node in view.nodes:
        width = _trailing_of(view, node, trailing, rank)
        if width is not None and node.output[0] not in refused:
            trailing[node.output[0]] = width
    for node in reversed(view.nodes):
        value = node.output[0]
        if value == source or value not in trailing:
            continue
        readers = view.readers.get(value, [])
        if value not in view.outputs and all(r.output[0] in trailing for r in readers):
            continue
        ancestors = _ancestors(view, value, source)
        is_lookup = len(ancestors) == 1 and node.op_type == "Gather"
        if not is_lookup and any(n.op_type in ("Gather", "MatMul", "Gemm") for n in ancestors):
            return value, ancestors
        refused.add(value)
    return None


def _trailing_of(view: GraphView, node: Any, trailing: dict[str, int], rank: int) -> int | None:
    """Return how many dimensions a node adds to the source's, None if it mixes rows."""
    if node.domain or len(node.output) != 1:
        return None
    inputs = [name for name in node.input if name]
    by_row = [name for name in inputs if name in trailing]
    others = [name for name in inputs if name not in trailing]
    if not by_row or any(name not in view.constants for name in others):
        return None
    width = trailing[by_row[0]]
    match node.op_type:
        case op if op in _UNARY:
            return width
        case op if op in _BROADCAST:
            is_alike = all(trailing[name] == width for name in by_row)
            is_behind = all(_is_behind(view, name, width) for name in others)
            return width if is_alike and is_behind else None
        case "Gather" if len(by_row) == 1 and node.input[1] == by_row[0]:
            if attributes_of(node).get("axis", 0) != 0:
                return None
            return width + len(view.constants[node.input[0]].dims) - 1
        case "MatMul" if len(by_row) == 1 and node.input[0] == by_row[0]:
            is_matrix = len(view.constants[node.input[1]].dims) == 2
            return width if is_matrix and width >= 1 else None
        case "Gemm" if len(by_row) == 1 and node.input[0] == by_row[0] and rank == 1:
            is_bias = len(node.input) < 3 or _is_behind(view, node.input[2], 1)
            return width if is_bias and not node.attribute else None
        case "Unsqueeze" | "Squeeze":
            axes = _axes(view, node, rank + width)
            if axes is None or any(axis < rank for axis in axes):
                return None
            return width + (len(axes) if node.op_type == "Unsqueeze" else -len(axes))
        case op if op in _REDUCTIONS and view.opset >= 18:
            axes = _axes(view, node, rank + width)
            if not axes or any(axis < rank for axis in axes):
                return None
            return width if attributes_of(node).get("keepdims", 1) else width - len(axes)
    return None


def _is_behind(view: GraphView, name: str, width: int) -> bool:
    """Say whether a constant has no dimension but the last `width`, or those of size 1."""
    dims = list(view.constants[name].dims)
    return bool(math.prod(dims[: len(dims) - width] if width else dims) == 1)


def _axes(view: GraphView, node: Any, rank: int) -> list[int] | None:
    axes = view.array(node.input[1]) if len(node.input) > 1 else None
    if axes is None:
        return None
    full = rank + len(axes) if node.op_type == "Unsqueeze" else rank
    return [int(axis) % full for axis in axes]


def _ancestors(view: GraphView, value: str, source: str) -> list[Any]:
    """Return the nodes between a source and a value, in order."""
    wanted, nodes = {value}, []
    for node in reversed(view.nodes):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted |= {name for name in node.input if name in view.makers and name != source}
    return nodes[::-1]


def _replace(view: GraphView, source: str, n_codes: int, value: str, ancestors: list[Any]) -> bool:
    """Put a table in place of the nodes, if it is not too large."""
    sources = {name for node in ancestors for name in node.input if name in view.constants}
    inside = {node.output[0] for node in ancestors}
    freed = {
        name for name in sources if all(reader.output[0] in inside for reader in view.readers[name])
    }
    # What others read of the nodes between stays, and so do their tables.
    for node in ancestors[:-1]:
        if any(r.output[0] not in inside for r in view.readers.get(node.output[0], [])):
            freed -= set(node.input)
    dtype = helper.tensor_dtype_to_np_dtype(view.dtype(value))
    shape, rank = view.shape(value), view.rank(source)
    behind = ["?"] if shape is None or rank is None else shape[rank:]
    known = [dim for dim in behind if isinstance(dim, int)]
    if len(known) < len(behind):
        return False
    size = n_codes * math.prod(known) * dtype.itemsize
    used = sum(view.n_bytes(name) for name in sources)
    if size - sum(view.n_bytes(name) for name in freed) > max(FREE_BYTES, FREE_PART * used):
        return False
    table = view.add_constant(_evaluate(view, source, n_codes, value, ancestors), value)
    place = view.nodes.index(ancestors[-1])
    view.nodes[place] = helper.make_node("Gather", [table, source], [value], value, axis=0)
    view.makers[value] = view.nodes[place]
    view.readers.setdefault(source, []).append(view.nodes[place])
    view.readers[table] = [view.nodes[place]]
    _forget(view, ancestors[-1])
    return True


def _forget(view: GraphView, node: Any) -> None:
    """Let a node read nothing any more, and those before it that nobody reads then."""
    for name in dict.fromkeys(node.input):
        readers = [r for r in view.readers.get(name, []) if r is not node]
        view.readers[name] = readers
        maker = view.makers.get(name)
        if not readers and maker is not None and name not in view.outputs:
            view.nodes.remove(maker)
            del view.makers[name]
            _forget(view, maker)


def _evaluate(
    view: GraphView, source: str, n_codes: int, value: str, ancestors: list[Any]
) -> NDArray[Any]:
    """Run the nodes for every code."""
    names = {name for node in ancestors for name in node.input if name in view.constants}
    tensors, tables = [], {}
    for name in sorted(names):
        if view.n_bytes(name) > FED_BYTES:
            tables[name] = numpy_helper.to_array(view.constants[name])
            continue
        tensors.append(type(view.constants[name])())
        tensors[-1].CopyFrom(view.constants[name])
        tensors[-1].name = name
    rank = view.rank(source) or 1
    codes = np.arange(n_codes).reshape((n_codes, 1)[:rank])
    kind = view.dtype(source)
    graph = helper.make_graph(
        ancestors,
        "table",
        [
            helper.make_tensor_value_info(source, kind, ["n", "one"][:rank]),
            *(
                helper.make_tensor_value_info(name, view.constants[name].data_type, table.shape)
                for name, table in tables.items()
            ),
        ],
        [helper.make_tensor_value_info(value, view.dtype(value), None)],
        tensors,
    )
    model = helper.make_model(
        graph, opset_imports=view.proto.opset_import, ir_version=view.proto.ir_version
    )
    session = open_session(model.SerializeToString(), name=value)
    codes = codes.astype(helper.tensor_dtype_to_np_dtype(kind))
    found: NDArray[Any] | None = None
    for start in range(0, n_codes, BLOCK):
        (rows,) = session.run([value], {source: codes[start : start + BLOCK], **tables})
        if found is None:
            found = np.empty((n_codes, *rows.shape[rank:]), rows.dtype)
        found[start : start + BLOCK] = rows.reshape((-1, *found.shape[1:]))
    return np.asarray(found)
