"""Sums and products in fewer nodes, with the constants put together. See `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from shortlist.export.passes.view import attributes_of, become

if TYPE_CHECKING:
    from shortlist.export.passes.view import GraphView


def add_while_multiplying(view: GraphView, node: Any) -> bool:
    """Product of two matrices and a sum: Gemm."""
    if node.op_type != "Add":
        return False
    for product, added in (node.input[:], node.input[::-1]):
        matmul = view.maker(product, "MatMul")
        if matmul is None or not view.is_read_once(product):
            continue
        if any(view.rank(name) != 2 for name in matmul.input):
            continue
        shape, result = view.shape(added), view.shape(product)
        if not shape or result is None or len(shape) > 2 or shape[-1] not in (1, result[-1]):
            continue
        rows = shape[0] if len(shape) == 2 else 1
        if rows not in (1, result[0]) and not _are_dynamic(rows, result[0]):
            continue
        become(node, "Gemm", [*matmul.input, added])
        return True
    return False


def _are_dynamic(*dims: Any) -> bool:
    """Say whether no dimension is known: in our graphs the first one then is the batch."""
    return all(isinstance(dim, str) for dim in dims)


def multiply_numbers(view: GraphView, node: Any) -> bool:
    """Product of a column (n, 1) with a constant row (1, m): that of two matrices."""
    if node.op_type != "Mul":
        return False
    for value, factor in (node.input[:], node.input[::-1]):
        row, shape = view.array(factor), view.shape(value)
        if row is None or shape is None or len(shape) != 2 or shape[1] != 1:
            continue
        if row.ndim == 2 and row.shape[0] == 1 and row.shape[1] > 1:
            become(node, "MatMul", [value, factor])
            return True
    return False


def multiply_matrices(view: GraphView, node: Any) -> bool:
    """Product with a constant matrix of a product with a smaller one: with the product of both."""
    if node.op_type not in ("MatMul", "Gemm") or attributes_of(node):
        return False
    before, second = view.maker(node.input[0], "MatMul"), view.array(node.input[1])
    first = None if before is None else view.array(before.input[1])
    if first is None or second is None or first.ndim != 2 or second.ndim != 2:
        return False
    if first.shape[0] > first.shape[1] or not view.is_read_once(node.input[0]):
        return False
    if node.op_type == "Gemm" and view.rank(before.input[0]) != 2:
        return False
    node.input[0] = before.input[0]
    node.input[1] = view.add_constant(first @ second, node.input[1])
    return True


def scale_weights(view: GraphView, node: Any) -> bool:
    """Product with a constant of a product with a matrix (and a bias): into the matrix."""
    if node.op_type not in ("Mul", "Div"):
        return False
    places = (0, 1) if node.op_type == "Mul" else (1,)
    for place in places:
        factor, value = view.array(node.input[place]), node.input[1 - place]
        if factor is None or factor.ndim > 1 or factor.dtype != np.float32:
            continue
        maker = view.maker(value, "MatMul", "Gemm", "Add")
        if maker is None or not view.is_read_once(value):
            continue
        factor = factor if node.op_type == "Mul" else (1 / factor).astype(np.float32)
        inputs = _scaled(view, maker, factor)
        if inputs is not None:
            become(node, maker.op_type, inputs, maker.attribute)
            return True
    return False


def _scaled(view: GraphView, maker: Any, factor: Any) -> list[str] | None:
    """Return the inputs with which a node gives its result times a factor (…, n) or ()."""
    inputs = list(maker.input)
    if maker.op_type == "Add":
        for place in (0, 1):
            bias, product = view.array(inputs[place]), view.maker(inputs[1 - place], "MatMul")
            if bias is None or bias.ndim > 1 or product is None:
                continue
            if not view.is_read_once(inputs[1 - place]):
                continue
            scaled = _scaled(view, product, factor)
            if scaled is None:
                continue
            for i, name in enumerate(scaled):
                product.input[i] = name
            inputs[place] = view.add_constant(bias * factor, inputs[place])
            return inputs
        return None
    matrix = view.array(inputs[1])
    if matrix is None or matrix.ndim != 2 or attributes_of(maker):
        return None
    if maker.op_type == "Gemm":
        bias = view.array(inputs[2]) if len(inputs) > 2 else None
        if bias is None or bias.ndim > 1:
            return None
        inputs[2] = view.add_constant(bias * factor, inputs[2])
    inputs[1] = view.add_constant(matrix * factor, inputs[1])
    return inputs


def join_sums(view: GraphView, node: Any) -> bool:
    """Join sums of sums: constants together, and three or more terms at once."""
    if node.op_type not in ("Add", "Sum"):
        return False
    for place, name in enumerate(node.input):
        before = view.maker(name, "Add", "Sum")
        if before is None or not view.is_read_once(name):
            continue
        terms = [*node.input[:place], *before.input, *node.input[place + 1 :]]
        known = [term for term in terms if term in view.constants]
        others = [term for term in terms if term not in view.constants]
        if len(known) > 1:
            arrays = [view.array(term) for term in known]
            known = [view.add_constant(sum(arrays[1:], arrays[0]), known[0])]  # type: ignore[arg-type]
        elif known or not _are_rows(view, terms):
            continue
        become(node, "Add" if len(others) + len(known) == 2 else "Sum", [*others, *known])
        return True
    return False


def _are_rows(view: GraphView, names: list[str]) -> bool:
    """Say whether all values have one shape, so that the order of a sum is no matter of size."""
    shapes = [view.shape(name) for name in names]
    return all(shape is not None and shape == shapes[0] and "" not in shape for shape in shapes)


def normalise_at_once(view: GraphView, node: Any) -> bool:
    """``x / √max(Σ x², least)`` as a division by a norm."""
    if node.op_type != "Mul" or view.opset < 18:
        return False
    for value, factor in (node.input[:], node.input[::-1]):
        inverse = view.maker(factor, "Reciprocal")
        root = None if inverse is None else view.maker(inverse.input[0], "Sqrt")
        most = None if root is None else view.maker(root.input[0], "Max")
        if most is None or len(most.input) != 2:
            continue
        total = view.maker(most.input[0], "ReduceSum")
        least = view.scalar(most.input[1])
        square = None if total is None else view.maker(total.input[0], "Mul")
        if square is None or least is None or list(square.input) != [value, value]:
            continue
        if attributes_of(total).get("keepdims", 1) != 1 or len(total.input) < 2:
            continue
        norm, cut = view.new_name(node.name), view.new_name(node.name)
        limit = view.add_constant(np.asarray(np.sqrt(least), np.float32), node.name)
        place = view.nodes.index(node)
        view.nodes[place:place] = [
            helper.make_node("ReduceL2", [value, total.input[1]], [norm], norm),
            helper.make_node("Max", [norm, limit], [cut], cut),
        ]
        become(node, "Div", [value, cut])
        return True
    return False
