"""User encoder ``gru``: a gated recurrent unit over the history (GRU4Rec).

Its state after each item is a target's embedding in training; at inference the whole recurrence is
one operation, which the export turns into ONNX's fused GRU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from shortlist.training.models.layers import (
    FeatureEncoder,
    dropout,
    fold,
    l2_normalize,
    normal,
    rows_by_age,
)
from shortlist.training.models.recurrence import every_state, last_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import Feature


class GruEncoder(keras.layers.Layer):  # type: ignore[misc]
    """Stacked GRU layers over the known items of the history, oldest first.

    Padding and unknown codes may stand anywhere: the known items are moved together before the
    first layer. Items older than ``history_length`` do not count at inference. An empty history
    leaves the learned first state and the user features. Kinds of events add a learned vector
    each; with ages, the time that passed since the item before scales another one.
    """

    is_causal = True

    def __init__(
        self,
        features: Sequence[Feature],
        dim: int,
        *,
        hidden: int,
        history_length: int,
        dropout: float,
        n_blocks: int,
        seed: int,
        event_features: Sequence[Feature] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        declared = {feature.name: feature for feature in event_features}
        self.history_length = history_length
        self.rate = dropout
        self.scale = self.add_weight(
            name="scale", shape=(), initializer=keras.initializers.Constant(math.sqrt(dim))
        )
        self.has_ages = "history_ages" in declared
        if self.has_ages:
            self.pause = self.add_weight(name="pause", shape=(dim,), initializer=normal(0.1, seed))
        self.has_kinds = "history_kinds" in declared
        if self.has_kinds:
            shape = (declared["history_kinds"].n_codes, dim)
            self.kind_table = self.add_weight(
                name="kind_table", shape=shape, initializer=normal(0.1, seed + 2)
            )
        self.blocks = [
            self._weights(hidden if i else dim, hidden, seed + 10 * (i + 1), f"block_{i}")
            for i in range(n_blocks)
        ]
        self.outer = self.add_weight(
            name="outer", shape=(hidden, dim), initializer=normal(hidden**-0.5, seed + 3)
        )
        # A loop that Python runs operation by operation is several times slower.
        self.run = tf.function(every_state, reduce_retracing=True)
        self.profile = FeatureEncoder(features, dim, seed + 200, name="profile")

    def _weights(self, n_in: int, n_units: int, seed: int, name: str) -> dict[str, Tensor]:
        shapes = {
            "first": (n_units,),
            "kernel": (3 * n_units, n_in),
            "recurrent": (3 * n_units, n_units),
            "bias": (6 * n_units,),
        }
        begin = {
            "kernel": normal(n_in**-0.5, seed),
            "recurrent": normal(n_units**-0.5, seed + 1),
        }
        return {
            part: self.add_weight(
                name=f"{name}_{part}", shape=shape, initializer=begin.get(part, "zeros")
            )
            for part, shape in shapes.items()
        }

    def call(
        self,
        codes: Tensor,
        vectors: Tensor,
        inputs: dict[str, Tensor],
        *,
        n_targets: int = 1,
        seed: Tensor = None,
    ) -> Tensor:
        """Encode users; arguments and result as for `TransformerEncoder.call`."""
        if n_targets == 1 and seed is None:
            return self._encode_last(codes, vectors, inputs)
        known = ops.cast(codes > 0, "float32")
        rank = ops.cumsum(known, axis=1)  # of an item among the known ones, from 1
        n_known = ops.sum(known, axis=1)
        used = known
        if n_targets == 1:
            used = known * ops.cast(rank > n_known[:, None] - self.history_length, "float32")
        length = tf.shape(used)[1]
        # Descending: the used places in their order, then the others.
        keys = used * ops.cast(length - tf.range(length), "float32")
        values = self._tokens(vectors, inputs, keys)
        values = tf.transpose(dropout(values, self.rate, fold(seed, 0)), (1, 0, 2))
        if n_targets == 1:
            states = self._last(values, ops.cast(ops.sum(used, axis=1), "int32"))[:, None]
        else:
            states = self._every(values, ops.cast(rank, "int32"), seed)[:, -n_targets:]
        result = ops.matmul(states, self.outer)
        for part in self.profile(inputs, training=seed is not None):
            result = result + ops.expand_dims(part, 1)
        return l2_normalize(ops.reshape(result, (-1, result.shape[-1])))

    def _encode_last(self, codes: Tensor, vectors: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Encode users at the end of their history, in as few operations as there can be."""
        known, _, row = rows_by_age(codes, self.history_length)
        n_used = tf.minimum(tf.reduce_sum(known, axis=1), self.history_length)
        # The oldest used place first; others, whose row is the last one, behind.
        keys = np.append(np.arange(1.0, self.history_length + 1), 0).astype(np.float32)
        values = self._tokens(vectors, inputs, tf.gather(keys, row))
        last = self._last(tf.transpose(values, (1, 0, 2)), ops.cast(n_used, "int32"))
        result = ops.matmul(last, self.outer)
        for part in self.profile(inputs):
            result = result + part
        return l2_normalize(result)

    def _tokens(self, vectors: Tensor, inputs: dict[str, Tensor], keys: Tensor) -> Tensor:
        """Give what the first layer reads, by descending keys: item, kind and pause before it."""
        order = tf.math.top_k(keys, k=tf.shape(keys)[1]).indices
        tokens = vectors * self.scale
        if self.has_kinds:
            kinds = inputs["history_kinds"]
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            tokens = tokens + tf.gather(self.kind_table, kinds) * is_known
        tokens = tf.gather(tokens, order, batch_dims=1)
        if self.has_ages:
            ages = tf.gather(inputs["history_ages"], order, batch_dims=1)
            pauses = ops.maximum(ages[:, :-1] - ages[:, 1:], 0.0)
            pauses = ops.pad(ops.log(1.0 + pauses), ((0, 0), (1, 0)))
            tokens = tokens + ops.expand_dims(pauses, -1) * self.pause
        return tokens

    def _last(self, values: Tensor, n_used: Tensor) -> Tensor:
        """Give the last layer's state after each row's last item: (batch, hidden)."""
        zero = ops.cast(ops.expand_dims(tf.minimum(n_used, 0), -1), "float32")
        for block in self.blocks:
            first, *weights = map(tf.convert_to_tensor, block.values())
            firsts = zero + first
            values, last = last_states(
                values, ops.maximum(n_used, 1), firsts, *weights, run=self.run
            )
        return tf.where(ops.expand_dims(n_used, -1) > 0, last, firsts)

    def _every(self, values: Tensor, rank: Tensor, seed: Tensor) -> Tensor:
        """Give the last layer's state after each place of the row: (batch, length, hidden)."""
        n_rows = tf.shape(rank)[0]
        for i, block in enumerate(self.blocks):
            first, *weights = map(tf.convert_to_tensor, block.values())
            firsts = tf.tile(first[None], (n_rows, 1))
            values = every_state(values, firsts, *weights)
            values = dropout(values, self.rate, fold(seed, i + 1))
        values = tf.concat([firsts[None], values], axis=0)
        return tf.gather(tf.transpose(values, (1, 0, 2)), rank, batch_dims=1)
