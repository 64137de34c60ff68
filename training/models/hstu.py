"""User encoder ``hstu``: gated pointwise attention (Zhai et al., ICML 2024).

Instead of a softmax, each score passes a SiLU alone, so that strengths add up; a gate multiplies
what was gathered. Biases are learned for every distance in items and, with ages declared, for the
magnitude of the distance in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from shortlist.training.models.attention import (
    LayerNorm,
    apply,
    join_heads,
    only_place,
    split_heads,
    split_parts,
)
from shortlist.training.models.layers import HIDDEN_SCORE, dropout, fold, normal
from shortlist.training.models.transformer import TransformerEncoder

if TYPE_CHECKING:
    from shortlist.training.data.arrays import Tensor

N_TIME_BUCKETS = 24  # bucket n: from 2^n − 1 to 2^(n + 1) − 1 hours; the last is for all longer


class GatedBlock(keras.layers.Layer):  # type: ignore[misc]
    """One layer: queries, keys, values and gates from one product, then pointwise attention."""

    def __init__(
        self,
        dim: int,
        n_heads: int,
        history_length: int,
        rate: float,
        seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.n_heads = n_heads
        self.history_length = history_length
        self.rate = rate
        self.norm = LayerNorm(dim, name="norm")
        scale = (2 * dim) ** -0.5
        self.parts = self.add_weight(
            name="parts", shape=(dim, 4 * dim), initializer=normal(scale, seed)
        )
        self.parts_bias = self.add_weight(name="parts_bias", shape=(4 * dim,), initializer="zeros")
        self.mixed_norm = LayerNorm(dim, name="mixed_norm")
        self.mix = self.add_weight(
            name="mix", shape=(dim, dim), initializer=normal(scale, seed + 1)
        )
        self.mix_bias = self.add_weight(name="mix_bias", shape=(dim,), initializer="zeros")

    def call(
        self, values: Tensor, preference: Tensor, *, last: Tensor = None, seed: Tensor = None
    ) -> Tensor:
        """Update vectors; arguments and result as for `attention.Block.call`."""
        training = seed is not None
        normed = self.norm(values, training=training)
        dim, n, matrix, bias = self.dim, 2 * self.dim, self.parts, self.parts_bias
        if last is not None:
            matrix = ops.convert_to_tensor(matrix)
            own = tf.nn.silu(ops.matmul(ops.matmul(last, normed), matrix[:, :n]) + bias[:n])
            both = tf.nn.silu(ops.matmul(normed, matrix[:, n:]) + bias[n:])
            query, gate = only_place(own[..., :dim], self.n_heads), own[..., dim:]
            key, value = split_parts(both, 2, self.n_heads)
            values = ops.matmul(last, values)
        elif training:
            parts = tf.nn.silu(apply(normed, matrix, bias, training))
            query, gate, key, value = tf.split(parts, 4, axis=-1)
            query, key, value = (split_heads(part, self.n_heads) for part in (query, key, value))
        else:
            parts = tf.nn.silu(ops.matmul(normed, matrix) + bias)
            query, _, key, value = split_parts(parts, 4, self.n_heads)
            gate = parts[..., dim:n]
        query = query * (dim // self.n_heads) ** -0.5
        scores = tf.matmul(query, key, transpose_b=True) + preference
        # What is hidden has a score of −1e9, whose SiLU is 0. Always divided by the same number:
        # the more items agree, the stronger the result.
        weights = tf.nn.silu(scores) / self.history_length
        mixed = join_heads(ops.matmul(weights, value), is_one=last is not None)
        mixed = self.mixed_norm(mixed, training=training) * gate
        mixed = dropout(mixed, self.rate, fold(seed, 0))
        return values + apply(mixed, self.mix, self.mix_bias, training)


class HstuEncoder(TransformerEncoder):
    """Gated pointwise attention over the history; everything else as in `TransformerEncoder`."""

    needs_a_key = False

    def _block(self, dim: int, n_heads: int, hidden: int, seed: int, name: str) -> Any:
        return GatedBlock(dim, n_heads, self.history_length, self.rate, seed, name=name)

    def _add_preference(self, n_heads: int) -> None:
        self.distances = self.add_weight(
            name="distances", shape=(self.history_length, n_heads), initializer="zeros"
        )
        if self.has_ages:
            self.times = self.add_weight(
                name="times", shape=(N_TIME_BUCKETS, n_heads), initializer="zeros"
            )

    def _preference(
        self, places: Tensor, key_places: Tensor, ages: Tensor, key_ages: Tensor
    ) -> Tensor:
        """Look the biases of all distances up: (batch, n_heads, queries, keys)."""
        distance = ops.cast(places[:, :, None] - key_places[:, None, :], "int32")
        distance = ops.clip(distance, 0, self.history_length - 1)
        bias = ops.take(self.distances, distance, axis=0)
        if self.has_ages:
            bias = bias + self._by_time(key_ages[:, None, :] - ages[:, :, None])
        return ops.transpose(bias, (0, 3, 1, 2))

    def _of_keys(self, row: Tensor, ages: Tensor, newest: Tensor) -> Tensor:
        """See `TransformerEncoder._of_keys`."""
        table = tf.convert_to_tensor(self.distances)
        table = tf.pad(table, [[0, 1], [0, 0]], constant_values=HIDDEN_SCORE)
        bias = tf.gather(table, row)
        if self.has_ages:
            now = ops.matmul(newest, ops.expand_dims(ages, -1))[:, :, 0]
            bias = bias + self._by_time(ages - now)
        return ops.expand_dims(tf.transpose(bias, (0, 2, 1)), 2)

    def _of_pairs(self, age: Tensor, row: Tensor, ages: Tensor) -> Tensor:
        """See `TransformerEncoder._of_pairs`."""
        table = tf.convert_to_tensor(self.distances)  # what comes later is hidden
        table = tf.pad(table, [[1, 0], [0, 0]], constant_values=HIDDEN_SCORE)
        distance = ops.expand_dims(age, 1) - ops.expand_dims(age, 2) + 1
        bias = tf.gather(table, tf.clip_by_value(distance, 0, self.history_length))
        is_hidden = np.zeros((self.history_length + 1, 1), np.float32)
        is_hidden[-1] = HIDDEN_SCORE
        bias = bias + ops.expand_dims(tf.gather(is_hidden, row), 1)
        if self.has_ages:
            bias = bias + self._by_time(ops.expand_dims(ages, 1) - ops.expand_dims(ages, 2))
        return tf.transpose(bias, (0, 3, 1, 2))

    def _by_time(self, days: Tensor) -> Tensor:
        """Look the biases of distances in time up."""
        hours = ops.maximum(days, 0.0) * 24.0
        bucket = ops.cast(ops.log(1.0 + hours) * 1.442695, "int32")  # logarithm of base 2
        return tf.gather(self.times, ops.minimum(bucket, N_TIME_BUCKETS - 1))
