"""What the layers put into a graph that is only to be exported, never to be run.

tf2onnx makes a GRU a loop; it copies every constant many times. So while `exporting` is open,
a recurrence is one operation, for `export.graph` to write as ONNX's GRU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

GRU = "PyFunc"  # any operation with free inputs and outputs will do


class StandIns:
    """What was replaced in one graph."""


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
