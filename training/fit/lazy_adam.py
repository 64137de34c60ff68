"""Adam for tables of embeddings: a step updates the rows it looked up, and no others.

The moments of a row stand still while it is not looked up, where Adam's would fade and go on moving
it; weight decay acts on the rows of the step alone. With all rows in every step it is Adam exactly.
Time grows with the rows of a step, not with the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # those of keras.optimizers.Adam


class LazyAdam:
    """Moments of some tables, and their update.

    Parameters
    ----------
    tables : sequence of keras.Variable, each of shape (n_rows, dim)
    weight_decay : float
        Decoupled, of the rows that are updated.
    """

    def __init__(self, tables: Sequence[Any], *, weight_decay: float = 0.0) -> None:
        self.tables = list(tables)
        self.weight_decay = weight_decay
        self.moments = [
            tuple(tf.Variable(tf.zeros(table.shape), trainable=False) for _ in range(2))
            for table in self.tables
        ]

    @property
    def variables(self) -> list[Any]:
        """First and second moment of each table."""
        return [moment for pair in self.moments for moment in pair]

    def apply(self, gradients: Sequence[Any], *, iteration: Any, learning_rate: Any) -> None:
        """Update the tables.

        Parameters
        ----------
        gradients : sequence of tf.IndexedSlices
            One a table; rows may be repeated.
        iteration : scalar tensor, int64
            Number of the step, from 1.
        learning_rate : scalar tensor, float32
        """
        step = tf.cast(iteration, tf.float32)
        size = learning_rate * tf.sqrt(1.0 - BETA_2**step) / (1.0 - BETA_1**step)
        for table, (first, second), gradient in zip(
            self.tables, self.moments, gradients, strict=True
        ):
            rows, places = tf.unique(gradient.indices)
            slope = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
            mean = tf.gather(first, rows)
            mean += (slope - mean) * (1.0 - BETA_1)
            square = tf.gather(second, rows)
            square += (tf.square(slope) - square) * (1.0 - BETA_2)
            change = mean * size / (tf.sqrt(square) + EPSILON)
            if self.weight_decay > 0.0:
                change += tf.gather(table.value, rows) * (self.weight_decay * learning_rate)
            first.scatter_update(tf.IndexedSlices(mean, rows))
            second.scatter_update(tf.IndexedSlices(square, rows))
            table.value.scatter_sub(tf.IndexedSlices(change, rows))
