"""User encoder ``hstu``: gated pointwise attention (Zhai et al., ICML 2024).

Instead of a softmax, each score passes a SiLU alone, so that strengths add up; a gate multiplies
what was gathered. Biases are learned for every distance in items and, with ages declared, for the
magnitude of the distance in time.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from shortlist.training.models.layers import dropout, fold, normal
from shortlist.training.models.transformer import (
    LayerNorm,
    TransformerEncoder,
    apply,
    join_heads,
    split_heads,
)

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

    def call(self, values: Any, preference: Any, *, last: Any = None, seed: Any = None) -> Any:
        """Update vectors; arguments and result as for `transformer.Block.call`."""
        training = seed is not None
        normed = self.norm(values, training=training)
        if last is None:
            parts = tf.nn.silu(apply(normed, self.parts, self.parts_bias, training))
            query, gate, key, value = tf.split(parts, 4, axis=-1)
        else:
            n, matrix, bias = 2 * self.dim, ops.convert_to_tensor(self.parts), self.parts_bias
            own = tf.nn.silu(ops.matmul(ops.matmul(last, normed), matrix[:, :n]) + bias[:n])
            both = tf.nn.silu(ops.matmul(normed, matrix[:, n:]) + bias[n:])
            query, gate = own[..., : self.dim], own[..., self.dim :]
            key, value = both[..., : self.dim], both[..., self.dim :]
            values = ops.matmul(last, values)
        query = split_heads(query * (self.dim // self.n_heads) ** -0.5, self.n_heads)
        scores = tf.matmul(query, split_heads(key, self.n_heads), transpose_b=True) + preference
        # What is hidden has a score of −1e9, whose SiLU is 0. Always divided by the same number:
        # the more items agree, the stronger the result.
        weights = tf.nn.silu(scores) / self.history_length
        mixed = join_heads(ops.matmul(weights, split_heads(value, self.n_heads)))
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

    def _preference(self, places: Any, key_places: Any, ages: Any, key_ages: Any) -> Any:
        """Look the biases of all distances up: (batch, n_heads, queries, keys)."""
        distance = ops.cast(places[:, :, None] - key_places[:, None, :], "int32")
        distance = ops.clip(distance, 0, self.history_length - 1)
        bias = ops.take(self.distances, distance, axis=0)
        if self.has_ages:
            hours = ops.maximum(key_ages[:, None, :] - ages[:, :, None], 0.0) * 24.0
            bucket = ops.cast(ops.log(1.0 + hours) * 1.442695, "int32")  # logarithm of base 2
            bucket = ops.clip(bucket, 0, N_TIME_BUCKETS - 1)
            bias = bias + ops.take(self.times, bucket, axis=0)
        return ops.transpose(bias, (0, 3, 1, 2))
