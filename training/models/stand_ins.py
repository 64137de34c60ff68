"""What the layers put into a graph that is only to be exported, never to be run.

tf2onnx makes a GRU a loop, and it copies every constant many times. So while `exporting` is open,
a recurrence is one operation, for `export.graph` to write as ONNX's GRU, and a table of embeddings
is two rows of noise, for `export.graph` to put the table in their place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

GRU = "PyFunc"  # any operation with free inputs and outputs will do


class StandIns:
    """The tables that were replaced in one graph.

    Attributes
    ----------
    tables : dict of bytes to variable
        By the content of the two rows that stand for each.
    """

    def __init__(self) -> None:
        self.tables: dict[bytes, Any] = {}
        self._rows: dict[int, NDArray[np.float32]] = {}

    def rows_for(self, table: Any) -> Any:
        """Give the rows (2, dim) that stand for a variable (n_rows, dim), the same every time."""
        if id(table) not in self._rows:
            random = np.random.default_rng(len(self._rows))
            rows = random.normal(size=(2, table.shape[1])).astype(np.float32)
            self._rows[id(table)] = rows
            self.tables[rows.tobytes()] = table
        return tf.constant(self._rows[id(table)])


_present: ContextVar[StandIns | None] = ContextVar("stand_ins", default=None)


def present() -> StandIns | None:
    """Give the stand-ins of the graph that is exported now; None at all other times."""
    return _present.get()


@contextlib.contextmanager
def exporting() -> Iterator[StandIns]:
    """Trace models for export within a with block."""
    token = _present.set(StandIns())
    try:
        yield _present.get()  # type: ignore[misc]
    finally:
        _present.reset(token)


def gru(values: Any, n_known: Any, first: Any, *weights: Any) -> tuple[Any, Any]:
    """Stand for `recurrence.last_states`, with its arguments and shapes."""
    inputs = [values, n_known, first, *weights]
    states, last = tf.raw_ops.PyFunc(input=inputs, token="gru", Tout=[tf.float32, tf.float32])
    states.set_shape((*values.shape[:2], first.shape[-1]))
    last.set_shape(first.shape)
    return states, last
