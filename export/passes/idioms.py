"""Idioms of the conversion, each put in fewer nodes. See `rules` for what a rule is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from shortlist.export.passes.view import attributes_of, become

if TYPE_CHECKING:
    from shortlist.export.passes.view import GraphView

INTEGERS = (TensorProto.INT64, TensorProto.INT32)
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
_REARRANGED = ("Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "ReduceProd", "Cast")
_LARGE = 10**9  # where tf2onnx ends slices that are cut nowhere


def drop_casts(view: GraphView, node: Any) -> bool:
    """Cast to the type a value has."""
    if node.op_type != "Cast":
        return False
    kind = attributes_of(node)["to"]
    if view.dtype(node.input[0]) == kind:
        return _take_out(view, node)
    before = view.maker(node.input[0], "Cast")
    if before is None or not _are_places(view, before.input[0]):
        return False
    node.input[0] = before.input[0]
    return True


def cast_later(view: GraphView, node: Any) -> bool:
    """Rearrange places before they are cast, so that casts there and back meet."""
    if node.op_type not in ("Gather", "Slice", "Squeeze", "Unsqueeze"):
        return False
    cast = view.maker(node.input[0], "Cast")
    if cast is None or not _are_places(view, cast.input[0]) or node.output[0] in view.outputs:
        return False
    if attributes_of(cast)["to"] not in INTEGERS or not view.is_read_once(node.input[0]):
        return False
    node.input[0] = cast.input[0]
    result = view.new_name(node.output[0])
    view.nodes.insert(
        view.nodes.index(node) + 1,
        helper.make_node("Cast", [result], [node.output[0]], result, to=attributes_of(cast)["to"]),
    )
    node.output[0] = result
    return True


def _are_places(view: GraphView, name: str) -> bool:
    """Say whether integers are sizes or places in arrays, which any integer type holds."""
    maker = view.maker(name, "Shape", "TopK", "ArgMax", "Range", *_REARRANGED)
    if maker is None or view.dtype(name) not in INTEGERS:
        return False
    return maker.op_type not in _REARRANGED or _are_places(view, maker.input[0])


def drop_identities(view: GraphView, node: Any) -> bool:
    """Identity, and Slice that cuts nothing off."""
    if node.op_type == "Identity":
        return _take_out(view, node)
    if node.op_type != "Slice":
        return False
    starts, ends, steps = (
        view.array(node.input[i]) if len(node.input) > i else None for i in (1, 2, 4)
    )
    if starts is None or ends is None:
        return False
    is_whole = (starts == 0).all() and (ends >= _LARGE).all()
    return bool(is_whole and (steps is None or (steps == 1).all())) and _take_out(view, node)


def drop_round_trips(view: GraphView, node: Any) -> bool:
    """Squeeze of an Unsqueeze at the same axes, or the other way round."""
    others = {"Squeeze": "Unsqueeze", "Unsqueeze": "Squeeze"}
    if node.op_type not in others or len(node.input) < 2 or node.output[0] in view.outputs:
        return False
    before = view.maker(node.input[0], others[node.op_type])
    if before is None or len(before.input) < 2:
        return False
    axes, others_axes = view.array(node.input[1]), view.array(before.input[1])
    if axes is None or others_axes is None or axes.tolist() != others_axes.tolist():
        return False
    view.replace(node.output[0], before.input[0])
    return True


def transpose_before_softmax(view: GraphView, node: Any) -> bool:
    """Softmax over what becomes the last axis: over the last axis it needs no copies."""
    softmax = view.maker(node.input[0], "Softmax") if node.op_type == "Transpose" else None
    if softmax is None or not view.is_read_once(node.input[0]):
        return False
    perm = attributes_of(node).get("perm", [])
    axis = attributes_of(softmax).get("axis", -1)
    if not perm or perm[-1] == len(perm) - 1 or perm[-1] != axis % len(perm):
        return False
    moved = view.new_name(node.output[0])
    view.nodes.insert(
        view.nodes.index(node),
        helper.make_node("Transpose", [softmax.input[0]], [moved], moved, perm=perm),
    )
    become(node, "Softmax", [moved])
    node.attribute.append(helper.make_attribute("axis", -1))
    return True


def compare_integers(view: GraphView, node: Any) -> bool:
    """Comparison of integers that were cast to float for it."""
    if node.op_type not in _COMPARISONS:
        return False
    cast = view.maker(node.input[0], "Cast")
    limit = view.scalar(node.input[1])
    if cast is None or limit is None or limit != int(limit) or abs(limit) > 2**24:
        return False
    kind = view.dtype(cast.input[0])
    if kind not in INTEGERS or view.dtype(node.input[0]) != TensorProto.FLOAT:
        return False
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    node.input[0] = cast.input[0]
    node.input[1] = view.add_constant(np.asarray(limit, dtype), node.input[1])
    return True


def choose_where(view: GraphView, node: Any) -> bool:
    """``c · a + (1 − c) · b`` of a mask c, which is how tf2onnx writes some selections."""
    if node.op_type != "Add":
        return False
    for first, second in (node.input[:], node.input[::-1]):
        yes, no = _masked(view, first, is_inverse=False), _masked(view, second, is_inverse=True)
        if yes is not None and no is not None and yes[0] == no[0]:
            where = helper.make_node("Where", [yes[0], yes[1], no[1]], node.output, node.name)
            node.CopyFrom(where)
            return True
    return False


def _masked(view: GraphView, name: str, *, is_inverse: bool) -> tuple[str, str] | None:
    """Read ``Mul(Cast(mask), value)``: (mask, value)."""
    product = view.maker(name, "Mul")
    for mask, value in () if product is None else (product.input[:], product.input[::-1]):
        cast = view.maker(mask, "Cast")
        if cast is None or view.dtype(cast.input[0]) != TensorProto.BOOL:
            continue
        source = cast.input[0]
        if is_inverse:
            inverse = view.maker(source, "Not")
            if inverse is None:
                continue
            source = inverse.input[0]
        return source, value
    return None


def multiply_at_once(view: GraphView, node: Any) -> bool:
    """Product with a matrix that is taken in two dimensions and brought back: Keras's tensordot."""
    if node.op_type != "Reshape":
        return False
    product = view.maker(node.input[0], "MatMul")
    flat = None if product is None else view.maker(product.input[0], "Reshape")
    if flat is None or view.rank(product.input[1]) != 2:
        return False
    matrix, inner = view.shape(product.input[1]), view.shape(flat.input[0])
    shape = view.array(flat.input[1])
    if shape is None or inner is None or matrix is None or len(inner) < 3:
        return False
    if shape.tolist() != [-1, inner[-1]] or not isinstance(matrix[1], int):
        return False
    if not _is_same_but_last(view, node.input[1], flat.input[0], len(inner), matrix[1]):
        return False
    become(node, "MatMul", [flat.input[0], product.input[1]])
    return True


def _is_same_but_last(view: GraphView, shape: str, value: str, rank: int, last: int) -> bool:
    """Say whether a shape is a value's with another last dimension."""
    joined = view.maker(_behind_casts(view, shape), "Concat")
    if joined is None or len(joined.input) != 2:
        return False
    if view.scalar(_behind_casts(view, joined.input[1])) != last:
        return False
    taken = view.maker(_behind_casts(view, joined.input[0]), "Gather", "Slice")
    if taken is None:
        return False
    whole = view.maker(_behind_casts(view, taken.input[0]), "Shape")
    chosen = view.array(taken.input[1]) if taken.op_type == "Gather" else None
    is_front = chosen is not None and chosen.tolist() == list(range(rank - 1))
    return is_front and whole is not None and whole.input[0] == value


def _behind_casts(view: GraphView, name: str) -> str:
    while (cast := view.maker(name, "Cast")) is not None:
        name = cast.input[0]
    return name


def _take_out(view: GraphView, node: Any) -> bool:
    """Let all who read a node's result read its first input."""
    if node.output[0] not in view.outputs:
        view.replace(node.output[0], node.input[0])
        return bool(view.readers.get(node.output[0]))
    return False
