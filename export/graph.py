"""Keras model → ONNX graph, converted by tf2onnx and then not believed until it is checked.

tf2onnx reports an operation it cannot convert in its log and writes an invalid graph all the same;
here that is an `ExportError` that names the operation.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
import tensorflow as tf

from shortlist.export.checks import MAX_BYTES, check_interface, check_model, rename_value
from shortlist.export.errors import ExportError
from shortlist.export.handlers import HANDLERS
from shortlist.export.passes import name_by_place, simplify
from shortlist.training.graphs.sessions import open_session
from shortlist.training.models import stand_ins

OPSET = 18  # the newest tf2onnx 1.17 knows
GRAPH_TOLERANCE = 2e-5  # float32 sums in another order: 2e-6 measured on unit-length outputs

Batch = dict[str, npt.NDArray[Any]]
_UNSUPPORTED = re.compile(r"Tensorflow op \[(?P<name>.*): (?P<op>\w+)\] is not supported")


def keras_to_onnx(
    model: keras.Model,
    output: str,
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    n_codes: Mapping[str, int] | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Convert a Keras model with named inputs and one output.

    Parameters
    ----------
    model : keras.Model
        Functional model; the names of its inputs become the graph's.
    output : str
        Name of the graph's output.
    dims : mapping of str to sequence of str, optional
        Names of an input's dynamic dimensions in order; default ("batch", "length", …).
    n_codes : mapping of str to int, optional
        Codes of the integer inputs: 0 … n − 1. What depends on one of them alone becomes a table.
    opset : int
        ONNX operator set, at most 18.

    Returns
    -------
    onnx.ModelProto
        Simplified; checked with onnx.checker (full_check) and opened once by ONNX Runtime.

    Raises
    ------
    ExportError
        An operation has no ONNX form (named), inputs or outputs are not the expected ones, or the
        graph is invalid or over 2 GiB.
    """
    wrapped, signature = _with_listed_inputs(model)
    with (
        _unsupported_operations() as unsupported,
        stand_ins.exporting() as replaced,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # deprecations inside TensorFlow and tf2onnx
        proto = _convert(wrapped, signature, opset, output)
    _refuse_unsupported(unsupported, output)
    _rename_output(proto, output)
    _name_dims(proto, dims or {})
    check_interface(proto, [spec.name for spec in signature], output)
    check_model(proto, output)
    name_by_place(proto)
    _put_tables(proto, replaced, output)
    return simplify(proto, n_codes or {})


def _put_tables(proto: onnx.ModelProto, replaced: stand_ins.StandIns, output: str) -> None:
    """Put the tables of embeddings in the places of the rows that stood for them."""
    lost = dict(replaced.tables)
    for tensor in proto.graph.initializer:
        key = tensor.raw_data
        if key in replaced.tables:
            rows = np.ascontiguousarray(replaced.tables[key], dtype="<f4")
            tensor.dims[:] = rows.shape
            tensor.raw_data = rows.tobytes()
            lost.pop(key, None)
    if lost:
        names = ", ".join(table.name for table in lost.values())
        raise ExportError(f"{output}: the graph lost the tables {names} on the way; report this")
    if proto.ByteSize() > MAX_BYTES:
        raise ExportError(
            f"{output}: the graph has {proto.ByteSize():,} bytes, expected at most {MAX_BYTES:,}; "
            "use a smaller dim or fewer items"
        )


def _with_listed_inputs(model: keras.Model) -> tuple[keras.Model, list[Any]]:
    """Wrap a model with a dict of inputs so that it takes a list: all that tf2onnx can call."""
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in inputs]
    taken = model.input
    call = {tensor.name: tensor for tensor in inputs} if isinstance(taken, Mapping) else inputs
    if not isinstance(taken, (Mapping, list)):
        call = inputs[0]
    result = model(call)
    if isinstance(result, Mapping):
        if len(result) != 1:
            raise ExportError(f"model {model.name!r}: expected one output, found {list(result)}")
        result = next(iter(result.values()))
    return keras.Model(inputs, result), signature


def _convert(wrapped: keras.Model, signature: list[Any], opset: int, output: str) -> Any:
    import tf2onnx

    try:
        proto, _ = tf2onnx.convert.from_keras(
            wrapped,
            input_signature=signature,
            opset=opset,
            custom_op_handlers=HANDLERS,
        )
    except Exception as error:  # whatever tf2onnx trips over, the reader needs the graph's name
        raise ExportError(f"{output}: tf2onnx could not convert the model: {error}") from error
    return proto


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        match = _UNSUPPORTED.search(record.getMessage())
        if match:
            self.operations.append(f"{match['op']} (at {match['name']})")


@contextlib.contextmanager
def _unsupported_operations() -> Iterator[list[str]]:
    """Keep tf2onnx's log off the terminal and collect the operations it gave up on."""
    listener, logger = _Listener(), logging.getLogger("tf2onnx")
    handlers, propagate = logger.handlers[:], logger.propagate
    logger.handlers, logger.propagate = [listener], False
    try:
        yield listener.operations
    finally:
        logger.handlers, logger.propagate = handlers, propagate


def _refuse_unsupported(unsupported: Sequence[str], output: str) -> None:
    if unsupported:
        raise ExportError(
            f"{output}: tf2onnx cannot convert {', '.join(dict.fromkeys(unsupported))}; "
            "replace the layer that uses it"
        )


def _rename_output(proto: onnx.ModelProto, output: str) -> None:
    if len(proto.graph.output) != 1:
        names = [value.name for value in proto.graph.output]
        raise ExportError(f"{output}: expected one graph output, found {names}")
    rename_value(proto, proto.graph.output[0].name, output)


def _name_dims(proto: onnx.ModelProto, dims: Mapping[str, Sequence[str]]) -> None:
    renamed: dict[str, str] = {}
    for value in proto.graph.input:
        names = dims.get(value.name, ("batch", "length"))
        for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            if dim.dim_value == 0:
                renamed[dim.dim_param] = name
                dim.dim_param = name
    for value in (*proto.graph.output, *proto.graph.value_info):
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param in renamed:
                dim.dim_param = renamed[dim.dim_param]
            elif place == 0 and dim.dim_value == 0 and value.name == proto.graph.output[0].name:
                dim.dim_param = "batch"


def random_batches(model: keras.Model, n_codes: Mapping[str, int], *, seed: int = 0) -> list[Batch]:
    """Draw encoded inputs that reach the corners: batch 1, all padding, one long history.

    Parameters
    ----------
    model : keras.Model
        Its inputs say which arrays to draw.
    n_codes : mapping of str to int
        Number of codes (vocabulary + 1) of every integer input.
    seed : int
        Of the random generator.

    Returns
    -------
    list of dict of ndarray
        Four batches of 1, 33, 4 and 5 rows; histories of 7, 20, 1 and 300 codes.
    """
    random = np.random.default_rng(seed)
    batches = []
    for rows, length, padded in ((1, 7, 0.0), (33, 20, 0.3), (4, 1, 1.0), (5, 300, 0.1)):
        batch: Batch = {}
        for tensor in model.inputs:
            shape = (rows, *(dim or length for dim in tensor.shape[1:]))
            if tensor.name in n_codes:
                codes = random.integers(1, n_codes[tensor.name], shape)
                batch[tensor.name] = np.where(random.random(shape) < padded, 0, codes)
            else:
                batch[tensor.name] = random.normal(size=shape).astype(np.float32)
        batches.append(batch)
    return batches


def check_parity(
    proto: onnx.ModelProto,
    model: keras.Model,
    batches: Sequence[Batch],
    *,
    tolerance: float = GRAPH_TOLERANCE,
) -> float:
    """Run the same batches through Keras and ONNX Runtime.

    Returns
    -------
    float
        The largest absolute difference.

    Raises
    ------
    ExportError
        A difference over `tolerance` × max(1, largest Keras value), or NaN on one side.
    """
    output = proto.graph.output[0].name
    session = open_session(proto.SerializeToString(), name=output)
    worst = 0.0
    for batch in batches:
        expected = _call(model, batch)
        (answer,) = session.run([output], batch)
        if answer.shape != expected.shape:
            raise ExportError(f"{output}: Keras gives {expected.shape}, ONNX {answer.shape}")
        difference = float(np.abs(answer - expected).max(initial=0.0))
        limit = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
        if not difference <= limit:  # NaN fails here too
            rows = len(next(iter(batch.values())))
            raise ExportError(
                f"{output}: Keras and ONNX differ by {difference:.3g} on a batch of {rows}, "
                f"expected at most {limit:.3g}"
            )
        worst = max(worst, difference)
    return worst


def _call(model: keras.Model, batch: Batch) -> npt.NDArray[np.float32]:
    inputs: Any = batch
    if not isinstance(model.input, Mapping):
        inputs = [batch[tensor.name] for tensor in model.inputs]
    result = model(inputs if len(model.inputs) > 1 or isinstance(inputs, dict) else inputs[0])
    if isinstance(result, Mapping):
        result = next(iter(result.values()))
    return np.asarray(result)
