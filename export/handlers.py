"""Operations that tf2onnx has no form for, or not a good one."""

from typing import Any

import numpy as np
import onnx

from shortlist.training.models import stand_ins


def _write_erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """Convert Erfc, which the exact gelu uses and tf2onnx lacks, as 1 − Erf."""
    dtype = context.get_dtype(node.output[0])
    shapes, dtypes = [context.get_shape(node.output[0])], [dtype]
    context.remove_node(node.name)
    one = context.make_const(
        f"{name}_one", np.array(1, dtype=np.float64 if dtype == 11 else np.float32)
    )
    erf = context.make_node("Erf", [node.input[0]], shapes=shapes, dtypes=dtypes)
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=node.name,
        outputs=[node.output[0]],
        shapes=shapes,
        dtypes=dtypes,
    )


def _write_gru(context: Any, node: Any, name: str, args: Any) -> None:
    """Write the stand-in of a recurrence as GRU, whose weights already have its order of gates."""
    values, n_known, first, *weights = node.input
    states, last = node.output
    shapes, n_units = [context.get_shape(output) for output in node.output], _width(context, first)
    context.remove_node(node.name)

    def add(op: str, inputs: list[str], **attributes: Any) -> str:
        return str(context.make_node(op, inputs, **attributes).output[0])

    def const(label: str, value: Any) -> str:
        return str(context.make_const(f"{name}_{label}", np.asarray(value)).output[0])

    front, direction = const("front", [0]), const("direction", [1])
    kernel, recurrent, bias = (add("Unsqueeze", [weight, front]) for weight in weights)
    lengths = add("Cast", [n_known], attr={"to": onnx.TensorProto.INT32})
    gru = context.make_node(
        "GRU",
        [values, kernel, recurrent, bias, lengths, add("Unsqueeze", [first, front])],
        attr={"hidden_size": n_units, "linear_before_reset": 1},
        output_count=2,
    )
    for output_of_gru, axis, output, shape in zip(
        gru.output, (direction, front), (states, last), shapes, strict=True
    ):
        context.make_node(
            "Squeeze",
            [output_of_gru, axis],
            outputs=[output],
            shapes=[shape],
            dtypes=[onnx.TensorProto.FLOAT],
        )


def _write_scatter(context: Any, node: Any, name: str, args: Any) -> None:
    """Write values (batch, length) at places (row, column) of a matrix, each row in its own.

    Of ScatterND, which tf2onnx would write, ONNX Runtime shares the updates out among threads:
    where an item comes twice, one of them may be lost.
    """
    matrix, places, values = node.input
    shapes, dtypes = [context.get_shape(node.output[0])], [context.get_dtype(node.output[0])]
    reduction = "add" if node.type == "TensorScatterAdd" else "max"
    context.remove_node(node.name)
    column = context.make_const(f"{name}_column", np.array(1)).output[0]
    columns = context.make_node("Gather", [places, column], attr={"axis": 2}).output[0]
    context.make_node(
        "ScatterElements",
        [matrix, columns, values],
        attr={"axis": 1, "reduction": reduction},
        name=node.name,
        outputs=[node.output[0]],
        shapes=shapes,
        dtypes=dtypes,
    )


def _width(context: Any, value: str) -> int:
    return int(context.get_shape(value)[-1])


HANDLERS: dict[str, tuple[Any, list[str]]] = {
    "Erfc": (_write_erfc, []),
    stand_ins.GRU: (_write_gru, []),
    "TensorScatterAdd": (_write_scatter, []),
    "TensorScatterMax": (_write_scatter, []),
}
