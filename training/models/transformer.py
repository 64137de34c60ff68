"""User encoder ``transformer``: causal self-attention over the history (SASRec, pre-norm).

The scores of attention carry a learned, linear preference for late positions (and, where ages are
declared, for late times): what it adds for "now" cancels, so that now need not be known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from shortlist.training.models.attention import Block, LayerNorm
from shortlist.training.models.layers import (
    HIDDEN_SCORE,
    FeatureEncoder,
    constant,
    dropout,
    fold,
    inverse_softplus,
    l2_normalize,
    normal,
    rows_by_age,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import Feature

HALF_LIFE_DAYS = 30.0  # of the preference for late times, to start with
SLOPES = (0.3, 0.03)  # first and last head's preference for late positions, to start with


class TransformerEncoder(keras.layers.Layer):  # type: ignore[misc]
    """Causal self-attention over the item vectors of the history.

    A position counts the known items before it, so padding and unknown codes may stand anywhere;
    items older than ``history_length`` do not count, so any length may come in. A place without
    an item holds a learned start vector that only itself looks at: an empty history leaves it and
    the user features. Kinds of events add a learned vector each.
    """

    is_causal = True
    needs_a_key = True  # a softmax over nothing would spread over everything

    def __init__(
        self,
        features: Sequence[Feature],
        dim: int,
        *,
        hidden: int,
        history_length: int,
        dropout: float,
        n_blocks: int,
        n_heads: int,
        seed: int,
        head_width: int = 0,
        event_features: Sequence[Feature] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.head_width = head_width
        declared = {feature.name: feature for feature in event_features}
        self.history_length = history_length
        self.rate = dropout
        self.scale = self.add_weight(
            name="scale", shape=(), initializer=keras.initializers.Constant(math.sqrt(dim))
        )
        self.start = self.add_weight(name="start", shape=(dim,), initializer=normal(1.0, seed))
        self.positions = self.add_weight(
            name="positions", shape=(history_length, dim), initializer=normal(0.1, seed + 1)
        )
        self.has_ages = "history_ages" in declared
        self._add_preference(n_heads)
        self.has_kinds = "history_kinds" in declared
        if self.has_kinds:
            shape = (declared["history_kinds"].n_codes, dim)
            self.kind_table = self.add_weight(
                name="kind_table", shape=shape, initializer=normal(0.1, seed + 2)
            )
        self.blocks = [
            self._block(dim, n_heads, hidden, seed + 10 * (i + 1), f"block_{i}")
            for i in range(n_blocks)
        ]
        self.profile = FeatureEncoder(features, dim, seed + 200, name="profile")
        self.final_norm = LayerNorm(dim, name="final_norm")

    def _block(self, dim: int, n_heads: int, hidden: int, seed: int, name: str) -> Any:
        width = self.head_width
        return Block(dim, n_heads, hidden, self.rate, seed, head_width=width, name=name)

    def _add_preference(self, n_heads: int) -> None:
        slopes = [inverse_softplus(slope) for slope in np.geomspace(*SLOPES, n_heads).tolist()]
        self.slopes = self.add_weight(name="slopes", shape=(n_heads,), initializer=constant(slopes))
        if self.has_ages:
            rate = inverse_softplus(math.log(2) / HALF_LIFE_DAYS)
            self.age_rates = self.add_weight(
                name="age_rates", shape=(n_heads,), initializer=constant([rate] * n_heads)
            )

    def call(
        self,
        codes: Tensor,
        vectors: Tensor,
        inputs: dict[str, Tensor],
        *,
        n_targets: int = 1,
        seed: Tensor = None,
    ) -> Tensor:
        """Encode users; arguments and result as for `PoolEncoder.call`.

        ``n_targets`` = 0 gives an embedding after each place of the row. Unless it is 1, each
        target sees the whole row before it, however long that is.
        """
        if n_targets == 1 and seed is None:
            return self._encode_last(codes, vectors, inputs)
        known = ops.cast(codes > 0, "float32")
        rank = ops.cumsum(known, axis=1)  # of an item among the known ones, from 1
        n_known = ops.sum(known, axis=1, keepdims=True)
        n_older = ops.maximum(n_known - self.history_length, 0.0) if n_targets == 1 else 0.0
        used = known * ops.cast(rank > n_older, "float32")
        values = dropout(
            self._tokens(vectors, rank - n_older, used, inputs), self.rate, fold(seed, 0)
        )
        places = rank - n_known
        ages = inputs["history_ages"] if self.has_ages else None
        seen = _up_to_itself(used)
        if not self.needs_a_key:
            seen = tf.logical_and(seen, used[:, None, :] > 0)
        preference = self._preference(places, places, ages, ages)
        causal = tf.where(seen[:, None], preference, HIDDEN_SCORE)
        seeds = [fold(seed, n) for n in range(1, len(self.blocks) + 1)]
        if n_targets != 1:
            for block, own in zip(self.blocks, seeds, strict=True):
                values = block(values, causal, seed=own)
            values = values[:, -n_targets:]  # all of them for 0
        else:
            for block, own in zip(self.blocks[:-1], seeds, strict=False):
                values = block(values, causal, seed=own)
            # Only the newest item's result is wanted, so the last layer has a single query. In an
            # empty history all places are alike, and their mean is any of them.
            newest = ops.cast(rank >= n_known, "float32")
            newest = newest * ops.where(n_known > 0, known, 1.0)
            newest = newest / ops.sum(newest, axis=1, keepdims=True)
            age = None if ages is None else ops.sum(ages * newest, axis=1, keepdims=True)
            preference = self._preference(ops.zeros_like(n_known), places, age, ages)
            preference = ops.where(used[:, None, None, :] > 0, preference, HIDDEN_SCORE)
            last = newest[:, None, :]
            values = self.blocks[-1](values, preference, last=last, seed=seeds[-1])
        return self._finish(values, inputs, training=seed is not None)

    def _encode_last(self, codes: Tensor, vectors: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Encode users at the end of their history, in as few operations as there can be.

        A place that must not be looked at, without an item or with one that is too old, is the last
        row of the tables by age. Of an empty history all places are alike.
        """
        known, age, row = rows_by_age(codes, self.history_length)
        n_used = tf.minimum(tf.reduce_sum(known, axis=1, keepdims=True), self.history_length)
        is_item = ops.expand_dims(codes > 0, -1)
        values = tf.where(is_item, vectors * self.scale, tf.convert_to_tensor(self.start))
        positions = tf.pad(tf.convert_to_tensor(self.positions), [[1, 0], [0, 0]])
        values = values + tf.gather(positions, tf.maximum(n_used - age, 0))
        if self.has_kinds:
            kinds = inputs["history_kinds"] * known
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            values = values + tf.gather(self.kind_table, kinds) * is_known
        ages = inputs["history_ages"] if self.has_ages else None
        for block in self.blocks[:-1]:
            values = block(values, self._of_pairs(age, row, ages))
        is_newest = np.full(self.history_length + 1, HIDDEN_SCORE, np.float32)
        is_newest[0] = 0.0
        newest = ops.expand_dims(tf.nn.softmax(tf.gather(is_newest, row)), 1)
        values = self.blocks[-1](values, self._of_keys(row, ages, newest), last=newest)
        return self._finish(values, inputs, training=False)

    def _finish(self, values: Tensor, inputs: dict[str, Tensor], *, training: bool) -> Tensor:
        """Add the user features to vectors (batch, targets, dim), and bring them to length 1."""
        for part in self.profile(inputs, training=training):
            values = values + ops.expand_dims(part, 1)
        values = self.final_norm(values, training=training)
        return l2_normalize(ops.reshape(values, (-1, values.shape[-1])))

    def _of_keys(self, row: Tensor, ages: Tensor, newest: Tensor) -> Tensor:
        """Give what the newest item's query adds to the scores: (batch, n_heads, 1, length)."""
        by_age = -tf.range(self.history_length, dtype="float32")[:, None]
        by_age = by_age * ops.softplus(self.slopes)
        table = tf.pad(by_age, [[0, 1], [0, 0]], constant_values=HIDDEN_SCORE)
        preference = tf.gather(table, row)
        if self.has_ages:
            preference = preference - ops.expand_dims(ages, -1) * ops.softplus(self.age_rates)
        return ops.expand_dims(tf.transpose(preference, (0, 2, 1)), 2)

    def _of_pairs(self, age: Tensor, row: Tensor, ages: Tensor) -> Tensor:
        """Give what each place's query adds to the scores: (batch, n_heads, length, length)."""
        is_before = ops.expand_dims(age, 1) >= ops.expand_dims(age, 2)
        of_keys = self._of_keys(row, ages, None)
        return tf.where(ops.expand_dims(is_before, 1), of_keys, HIDDEN_SCORE)

    def _tokens(
        self, vectors: Tensor, rank: Tensor, used: Tensor, inputs: dict[str, Tensor]
    ) -> Tensor:
        """Give what the first layer reads: item, kind and position, or the start vector."""
        if self.has_kinds:
            kinds = inputs["history_kinds"]
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            vectors = vectors + ops.take(self.kind_table, kinds, axis=0) * is_known / self.scale
        place = ops.clip(ops.cast(rank, "int32") - 1, 0, self.history_length - 1)
        tokens = vectors * self.scale + ops.take(self.positions, place, axis=0)
        return ops.where(ops.expand_dims(used, -1) > 0, tokens, self.start)

    def _preference(
        self, places: Tensor, key_places: Tensor, ages: Tensor, key_ages: Tensor
    ) -> Tensor:
        """Give what is added to the scores, unmasked: (batch, n_heads, queries or 1, keys).

        ``places`` (batch, queries) count from the newest item, which is 0, down; ``ages`` are days.
        """
        slopes = ops.softplus(self.slopes)[None, :, None, None]
        preference = key_places[:, None, None, :] * slopes
        if self.has_ages:
            rates = ops.softplus(self.age_rates)[None, :, None, None]
            preference = preference - key_ages[:, None, None, :] * rates
        return preference


def _up_to_itself(used: Tensor) -> Tensor:
    """Let each place look at the used places before it, and at itself: (batch, length, length)."""
    places = tf.range(tf.shape(used)[1])
    is_before = places[:, None] > places[None, :]
    is_same = tf.equal(places[:, None], places[None, :])
    return tf.logical_or(tf.logical_and(is_before[None], used[:, None, :] > 0), is_same[None])
