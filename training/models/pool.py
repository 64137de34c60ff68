"""User encoder ``pool``: weighted means of the history's item vectors and a residual MLP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from shortlist.training.models.layers import (
    HIDDEN_SCORE,
    FeatureEncoder,
    byte_dropout,
    constant,
    dropout,
    fold,
    inverse_softplus,
    l2_normalize,
    normal,
    quick_gelu,
    take_places,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import Feature

MOST_BY_MATRIX = 64  # dim up to which a product with zeros beside diagonals beats two operations
HALF_LIVES = (1.0, 7.0, 60.0)  # days, to start with: a visit, a week, a season


class PoolEncoder(keras.layers.Layer):  # type: ignore[misc]
    """User encoder ``pool``: weighted means of the history's item vectors and a residual MLP.

    Three kinds of mean: by learned exponential decay with age, plain, and by attention. The age
    of an item is the number of known items after it, so padding and unknown codes may stand
    anywhere; items older than ``history_length`` do not count, so any length may come in. An
    empty history leaves a learned start vector and the user features. With kinds of events
    declared, each kind adds a learned vector and a learned weight; with ages, three more means
    fade with the days that have passed, at learned half-lives.
    """

    is_causal = False
    takes_places = True

    def __init__(
        self,
        features: Sequence[Feature],
        dim: int,
        *,
        hidden: int,
        history_length: int,
        dropout: float,
        decay: float,
        seed: int,
        n_heads: int = 2,
        event_features: Sequence[Feature] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        declared = {feature.name: feature for feature in event_features}
        self.has_kinds = "history_kinds" in declared
        self.has_ages = "history_ages" in declared
        self.history_length = history_length
        self.rate = dropout
        n_means = self._add_means(dim, n_heads, decay, seed)
        if self.has_kinds:
            self._add_kinds(dim, n_heads, declared["history_kinds"].n_codes, seed)
        if self.has_ages:
            n_means += self._add_ages()
        self.mix = self.add_weight(
            name="mix",
            shape=(n_means, dim),
            initializer=keras.initializers.Constant(1.0 / n_means),
        )
        self.start = self.add_weight(name="start", shape=(dim,), initializer=normal(0.1, seed + 1))
        self.profile = FeatureEncoder(features, dim, seed + 200, name="profile")
        width = dim * (n_means + len(self.profile.features))
        self.inner = self.add_weight(
            name="inner", shape=(width, hidden), initializer=normal(width**-0.5, seed + 2)
        )
        self.inner_bias = self.add_weight(name="inner_bias", shape=(hidden,), initializer="zeros")
        self.outer = self.add_weight(
            name="outer", shape=(hidden, dim), initializer=normal(0.1 * hidden**-0.5, seed + 3)
        )

    def _add_means(self, dim: int, n_heads: int, decay: float, seed: int) -> int:
        """Add the means by decay and attention; returns how many there are with the plain one."""
        decays = [decay**2, decay, decay**0.25]
        self.decay_logits = self.add_weight(
            name="decay_logits",
            shape=(len(decays),),
            initializer=constant([_logit(value) for value in decays]),
        )
        self.attention = self.add_weight(
            name="attention", shape=(dim, n_heads), initializer=normal(0.1, seed)
        )
        self.attention_slope = self.add_weight(
            name="attention_slope", shape=(n_heads,), initializer=constant([0.05] * n_heads)
        )
        return len(decays) + 1 + n_heads

    def _add_kinds(self, dim: int, n_heads: int, n_kinds: int, seed: int) -> None:
        """Add a vector and a weight of each kind of event."""
        self.kind_table = self.add_weight(
            name="kind_table", shape=(n_kinds, dim), initializer=normal(0.02, seed + 4)
        )
        self.kind_logits = self.add_weight(
            name="kind_logits", shape=(n_kinds, n_heads), initializer="zeros"
        )

    def _add_ages(self) -> int:
        """Add the means that fade with the days; returns how many there are."""
        self.age_rates = self.add_weight(
            name="age_rates",
            shape=(len(HALF_LIVES),),
            initializer=constant([inverse_softplus(math.log(2) / d) for d in HALF_LIVES]),
        )
        return len(HALF_LIVES)

    def call(
        self,
        codes: Tensor,
        vectors: Tensor,
        inputs: dict[str, Tensor],
        *,
        n_targets: int = 1,
        seed: Tensor = None,
        places: Tensor = None,
    ) -> Tensor:
        """Encode users, at the end of their history or before each of their last events.

        Parameters
        ----------
        codes : tensor of shape (batch, length), int64
            Item codes, oldest first; 0 anywhere is skipped.
        vectors : tensor of shape (batch, length, dim), float32
            The items' vectors.
        inputs : dict of tensors
            The user features, batch rows; ``history_kinds`` codes and ``history_ages`` days, each
            (batch, length) like the item codes, if they are declared.
        n_targets : int
            Embeddings per row: number s sees all but the last ``n_targets - 1 - s`` codes.
        seed : tensor of shape (2,), int32, optional
            Randomness of dropout; None at inference.
        places : tensor of shape (n_places,), int64, optional
            Rows of the result to compute; the others would cost as much.

        Returns
        -------
        tensor of shape (batch * n_targets, dim), float32, rows of length 1
            The targets of a row stay together. With ``places`` these rows alone.
        """
        if n_targets == 1 and seed is None:
            return self._encode_last(codes, vectors, inputs)
        n_means, dim = self.mix.shape
        logits = ops.matmul(vectors, self.attention)
        if self.has_kinds:
            kinds = inputs["history_kinds"]
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            vectors = vectors + ops.take(self.kind_table, kinds, axis=0) * is_known
            logits = logits + ops.take(self.kind_logits, kinds, axis=0) * is_known
        ages = inputs["history_ages"] if self.has_ages else None
        weights = self._weights(codes, logits, n_targets, ages)
        means = ops.matmul(weights, vectors)  # (batch, n_targets * n_means, dim)
        means = ops.reshape(means, (-1, n_means, dim))
        if places is not None:
            means = take_places(means, places)
        mixed = ops.sum(means * self.mix, axis=1) + self.start
        parts = [ops.reshape(means, (-1, n_means * dim))]
        for part in self.profile(inputs, training=seed is not None):
            if places is not None:
                parts.append(tf.gather(part, places // n_targets))
            else:
                parts.append(ops.repeat(part, n_targets, axis=0) if n_targets > 1 else part)
        drop, gelu = (dropout, _gelu) if places is None else (byte_dropout, quick_gelu)
        joined = drop(ops.concatenate(parts, axis=-1), self.rate, fold(seed, 0))
        inner = ops.matmul(joined, self.inner) + self.inner_bias
        inner = drop(gelu(inner), self.rate, fold(seed, 1))
        return l2_normalize(mixed + ops.matmul(inner, self.outer))

    def _encode_last(self, codes: Tensor, vectors: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Encode users at the end of their history, in as few operations as there can be.

        Every mean is a softmax: of a number by an item's age plus one by the item. What depends
        on an item alone is looked up once the export has put it into a table.
        """
        n_means, dim = self.mix.shape
        known = tf.minimum(codes, 1)
        age = tf.cumsum(known, axis=1, exclusive=True, reverse=True)  # known items after each
        by_age = tf.gather(self._logits_by_age(), tf.minimum(age, self.history_length))
        of_heads = ops.convert_to_tensor(self.attention)
        by_item = ops.matmul(vectors, self._at_heads(of_heads))
        by_item = by_item + tf.where(codes > 0, 0.0, HIDDEN_SCORE)[:, :, None]
        logits = by_item + by_age
        if self.has_kinds:
            kinds = inputs["history_kinds"] * known
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            vectors = vectors + tf.gather(self.kind_table, kinds) * is_known
            of_kinds = self._at_heads(ops.convert_to_tensor(self.kind_logits))
            logits = logits + tf.gather(of_kinds, kinds) * is_known
        if self.has_ages:
            n_others = n_means - len(HALF_LIVES)
            rates = tf.pad(ops.softplus(self.age_rates), [[n_others, 0]])
            logits = logits - inputs["history_ages"][:, :, None] * rates
        weights = tf.nn.softmax(tf.transpose(logits, (0, 2, 1)))
        means = ops.matmul(weights, vectors)  # of an empty history: of padding, which is 0
        flat = ops.reshape(means, (-1, n_means * dim))
        mixed = self._mixed(means, flat)
        matrix = ops.convert_to_tensor(self.inner)
        inner = ops.matmul(flat, matrix[: n_means * dim])
        bias = self.inner_bias
        for i, part in enumerate(self.profile(inputs), n_means):
            bias = bias + ops.matmul(part, matrix[i * dim : (i + 1) * dim])
        inner = _gelu(inner + bias)
        return l2_normalize(mixed + ops.matmul(inner, self.outer))

    def _mixed(self, means: Tensor, flat: Tensor) -> Tensor:
        """Weigh the means number by number: (batch, dim). As one product where that costs less."""
        n_means, dim = self.mix.shape
        if dim > MOST_BY_MATRIX:
            return ops.sum(means * self.mix, axis=1) + self.start
        diagonals = tf.linalg.diag(tf.convert_to_tensor(self.mix))  # (n_means, dim, dim)
        return ops.matmul(flat, tf.reshape(diagonals, (n_means * dim, dim))) + self.start

    def _logits_by_age(self) -> Tensor:
        """Make the table (history_length + 1, n_means): by age, and for what is too old."""
        ages = tf.range(self.history_length, dtype="float32")[:, None]
        log_decay = -ops.softplus(-self.decay_logits)
        decayed = tf.pad(ages * log_decay, [[0, 0], [0, 1]])  # and the plain mean
        heads = self._at_heads(-ages * ops.softplus(self.attention_slope))
        n_front = decayed.shape[1]
        table = tf.concat([decayed, heads[:, n_front:]], axis=1)
        return tf.pad(table, [[0, 1], [0, 0]], constant_values=HIDDEN_SCORE)

    def _at_heads(self, values: Tensor) -> Tensor:
        """Put columns (n, n_heads) in the places of the attention's means, zeros in the others."""
        n_front = self.decay_logits.shape[0] + 1
        n_behind = self.mix.shape[0] - n_front - values.shape[1]
        return tf.pad(values, [[0, 0], [n_front, n_behind]])

    def _weights(self, codes: Tensor, logits: Tensor, n_targets: int, ages: Tensor) -> Tensor:
        """Weights of the means: (batch, n_targets * n_means, length), each row sums to 1 or 0."""
        known = ops.expand_dims(ops.cast(codes > 0, "float32"), 1)  # (batch, 1, length)
        position = ops.cumsum(known, axis=2)
        if n_targets > 1:
            places = tf.range(tf.shape(codes)[1])
            ends = places[-1] - tf.range(n_targets - 1, -1, -1)
            seen = tf.cast(places[None, :] <= ends[:, None], tf.float32)
            known = known * seen[None]  # (batch, n_targets, length)
        age = ops.sum(known, axis=2, keepdims=True) - position
        used = known * ops.cast(age < self.history_length, "float32")
        age = ops.expand_dims(age * used, 2)
        used = ops.expand_dims(used, 2)  # (batch, n_targets, 1, length)
        log_decay = -ops.softplus(-self.decay_logits)[:, None]
        decayed = ops.exp(age * log_decay) * used
        logits = ops.expand_dims(ops.transpose(logits, (0, 2, 1)), 1)
        logits = logits - age * ops.softplus(self.attention_slope)[:, None]
        logits = ops.where(used > 0, logits, HIDDEN_SCORE)
        attended = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True)) * used
        parts = [decayed, used, attended]
        if ages is not None:
            # Only differences of ages count, so "now" need not be known: less than 0 is fine too.
            rates = ops.softplus(self.age_rates)[:, None]
            faded = ops.where(used > 0, -ages[:, None, None, :] * rates, HIDDEN_SCORE)
            parts.append(ops.exp(faded - ops.max(faded, axis=-1, keepdims=True)) * used)
        weights = ops.concatenate(parts, axis=2)
        weights = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-6)
        if n_targets == 1:
            return ops.squeeze(weights, 1)
        shape = (-1, n_targets * self.mix.shape[0], tf.shape(codes)[1])
        return tf.reshape(weights, shape)


def _gelu(values: Tensor) -> Tensor:
    return keras.activations.gelu(values, approximate=True)


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
