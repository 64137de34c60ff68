"""Weights of models as named arrays, as checkpoints keep them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from shortlist.errors import DataError


def assign_weights(
    variables: Iterable[tuple[str, Any]], weights: Mapping[str, NDArray[np.float32]], where: str
) -> None:
    """Copy weights into named variables; names and shapes must match."""
    for name, variable in variables:
        got = weights.get(name)
        if got is None or got.shape != tuple(variable.shape):
            raise DataError(
                f"{where}: {name!r}: got {'nothing' if got is None else got.shape}, expected "
                f"{tuple(variable.shape)}; it was trained with other settings"
            )
        variable.assign(got)


def snapshot(variable: tf.Variable) -> NDArray[Any]:
    """Read a variable without a copy: read-only; TensorFlow copies before it next writes there."""
    values: NDArray[Any] = np.asarray(memoryview(tf.convert_to_tensor(variable)))
    return values
