"""Products with constant matrices in 8-bit numbers, by ONNX Runtime's own quantisation.

What is multiplied is rounded by scales that are measured on requests beforehand and then fixed. (A
scale taken from the batch itself would let one request change the answer to another.) Only products
are rounded: with every operation rounded an encoder collapses. The graph says it with standard
operators, QuantizeLinear and DequantizeLinear, which ONNX Runtime runs as 8-bit products.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shortlist.export.host_graphs import Answer

__all__ = ["byte_products"]

PRODUCTS = ("MatMul",)  # ONNX Runtime has no 8-bit Gemm with a result in float32
LEAST_BYTES = 1 << 14  # of a matrix in float32: a smaller product gains nothing
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")  # keeps its advice off the log


def byte_products(proto: onnx.ModelProto, batches: Sequence[Answer]) -> onnx.ModelProto:
    """Return a graph whose products with constant matrices take 8-bit numbers.

    Parameters
    ----------
    proto : onnx.ModelProto
        An encoder in float32; it stays as it is.
    batches : sequence of dict of ndarray
        Inputs of it, such as it will get: they say how large the numbers are.

    Returns
    -------
    onnx.ModelProto
        Each column of a matrix has its scale, and so has what is multiplied by it. The matrices
        keep 7 bits: with 8, processors without 8-bit dot products would overflow.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantise

    names = [node.name for node in _products(proto)]
    if not names:
        return proto
    left = iter(batches)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Answer | None:
            return next(left, None)

    with TemporaryDirectory() as folder, _quietly():
        given, result = Path(folder) / "given.onnx", Path(folder) / "result.onnx"
        prepared = onnx.ModelProto()
        prepared.CopyFrom(proto)
        onnx.helper.set_model_props(prepared, dict([_PREPARED]))
        onnx.save(prepared, given)
        quantise(
            given,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
                "QDQKeepRemovableActivations": True,
            },
        )
        smaller = onnx.load(result)
    del smaller.metadata_props[:]
    smaller.metadata_props.extend(proto.metadata_props)
    return smaller


def _products(proto: onnx.ModelProto) -> list[Any]:
    """Find the products with constant matrices that are worth it."""
    matrices = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[0] * tensor.dims[1] * 4 >= LEAST_BYTES
    }
    return [n for n in proto.graph.node if n.op_type in PRODUCTS and n.input[1] in matrices]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the quantisation's log off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
