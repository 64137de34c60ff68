"""Building blocks of the encoders; every operation here exports through tf2onnx.

Dropout is drawn from a seed tensor that the training step passes in (``seed=None`` means none),
never from hidden generator state: a resumed run then repeats the uninterrupted one exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from shortlist.training.models import stand_ins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.training.features import Feature

HALF_LIVES = (1.0, 7.0, 60.0)  # days, to start with: a visit, a week, a season
EPSILON = 1e-12  # added to squared norms: a zero row stays zero, never NaN


def l2_normalize(vectors: Any) -> Any:
    """Scale rows (…, dim) to length 1; a zero row stays zero."""
    norm_squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(norm_squared, EPSILON))


def normalize_parts(vectors: Any, n_parts: int) -> Any:
    """Scale rows (batch, dim) to length 1, each of ``n_parts`` equal parts to the same length."""
    if n_parts == 1:
        return l2_normalize(vectors)
    width = vectors.shape[-1]
    parts = l2_normalize(ops.reshape(vectors, (-1, n_parts, width // n_parts)))
    return ops.reshape(parts, (-1, width)) * n_parts**-0.5


def take_parts(vectors: Any, n_parts: int) -> list[Any]:
    """Undo `normalize_parts`: ``n_parts`` tensors of rows of length 1, from vectors (…, dim)."""
    if n_parts == 1:
        return [vectors]
    return [part * n_parts**0.5 for part in tf.split(vectors, n_parts, axis=-1)]


def dropout(values: Any, rate: float, seed: Any) -> Any:
    """Zero a part ``rate`` of the values and scale up the rest; no-op without a seed (2,) int32."""
    if seed is None or rate == 0.0:
        return values
    return values * keep_mask(tf.shape(values), rate, seed) / (1.0 - rate)


def keep_mask(shape: Any, rate: float, seed: Any) -> Any:
    """Draw a float32 mask of the shape: 0 with probability ``rate``, else 1."""
    return tf.cast(tf.random.stateless_uniform(shape, seed) >= rate, tf.float32)


def fold(seed: Any, number: int) -> Any:
    """Derive an independent seed, or None from None."""
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, number)


def look_up(table: Any, codes: Any) -> Any:
    """Take rows of a variable without ever reading all of it, nor in the gradient."""
    exported = stand_ins.present()
    return tf.gather(table.value if exported is None else exported.rows_for(table), codes)


class FeatureEncoder(keras.layers.Layer):  # type: ignore[misc]
    """Embed the declared features of one side: one vector (batch, dim) per feature.

    Codes have a learned vector each; of several, the mean counts. Code 0 (missing, unknown)
    contributes a zero vector. Numbers scale learned vectors. Words and character n-grams of a
    text have a mean each, so that the many n-grams do not drown the words.
    """

    def __init__(self, features: Sequence[Feature], dim: int, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = list(features)
        self.dim = dim
        self.tables = {
            feature.name: self.add_weight(
                name=f"{feature.name}_table",
                shape=(_table_rows(feature), dim),
                initializer=keras.initializers.RandomNormal(stddev=dim**-0.5 / 4, seed=seed + i),
            )
            for i, feature in enumerate(self.features)
        }

    def call(self, inputs: dict[str, Any], training: bool = False) -> list[Any]:
        """Return one tensor (batch, dim) float32 per feature, in declaration order.

        ``training`` picks a way to sum long lists that is several times faster with gradients,
        but has no ONNX form; the sums are the same.
        """
        return [self._embed(f, inputs[f.name], bool(training)) for f in self.features]

    @property
    def lookup_tables(self) -> list[Any]:
        """The tables of which a step reads single rows."""
        return [
            self.tables[feature.name]
            for feature in self.features
            if feature.form in ("code", "codes") and feature.kind != "text"
        ]

    def _embed(self, feature: Feature, values: Any, training: bool) -> Any:
        table = self.tables[feature.name]
        if feature.form == "number":
            return ops.expand_dims(values, -1) * table
        if feature.form == "dense":
            return ops.matmul(values, table)
        known = ops.cast(values > 0, "float32")
        if feature.form == "code":
            return look_up(table, values) * ops.expand_dims(known, -1)
        if feature.kind == "text":
            is_word = known * ops.cast(values <= feature.spec.buckets, "float32")
            weights = _mean_weights(is_word) + _mean_weights(known - is_word)
        else:
            weights = _mean_weights(known)
        if training and feature.kind == "text":
            return _sparse_sum(table, values, weights)
        vectors = look_up(table, values)
        return ops.sum(vectors * ops.expand_dims(weights, -1), axis=1)


def _table_rows(feature: Feature) -> int:
    if feature.form == "number":
        return 1
    return feature.n_columns if feature.form == "dense" else feature.n_codes


def _mean_weights(flags: Any) -> Any:
    """Weights (batch, n) that make a sum over the flagged places their mean."""
    return flags / ops.maximum(ops.sum(flags, axis=1, keepdims=True), 1.0)


def _sparse_sum(table: Any, codes: Any, weights: Any) -> Any:
    """Sum table rows by weight: (batch, dim), never holding (batch, n, dim) numbers."""
    codes, weights = tf.convert_to_tensor(codes), tf.convert_to_tensor(weights)
    places = tf.where(codes > 0)
    rows = tf.stack([places[:, 0], tf.gather_nd(codes, places)], axis=1)
    shape = tf.stack([tf.shape(codes, tf.int64)[0], tf.constant(table.shape[0], tf.int64)])
    matrix = tf.SparseTensor(rows, tf.gather_nd(weights, places), shape)
    return tf.sparse.sparse_dense_matmul(matrix, tf.convert_to_tensor(table))


class ItemEncoder(keras.layers.Layer):  # type: ignore[misc]
    """Item embedding = L2-normalised(id embedding + content embeddings).

    With several members (`encoders.Members`) each part of an embedding is normalised by itself.
    An unknown id (code 0) has no id embedding, so a new item gets its vector from its content.
    """

    def __init__(
        self,
        n_items: int,
        features: Sequence[Feature],
        dim: int,
        seed: int,
        n_members: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_members = n_members
        self.id_table = self.add_weight(
            name="id_table",
            shape=(n_items + 1, dim),
            initializer=keras.initializers.RandomNormal(stddev=dim**-0.5, seed=seed),
        )
        self.content = FeatureEncoder(features, dim, seed + 100, name="content")

    @property
    def tables(self) -> list[Any]:
        """The tables of which a step reads single rows, that of the ids first."""
        return [self.id_table, *self.content.lookup_tables]

    def call(self, inputs: dict[str, Any], id_keep: Any = None, training: bool = False) -> Any:
        """Encode items.

        Parameters
        ----------
        inputs : dict of tensors
            ``item_id`` codes (batch,) and the item features.
        id_keep : tensor of shape (batch, 1), float32, optional
            0 hides an item's id embedding (id dropout in training).
        training : bool
            As for `FeatureEncoder.call`.

        Returns
        -------
        tensor of shape (batch, dim), float32, rows of length 1
        """
        codes = inputs["item_id"]
        known = ops.expand_dims(ops.cast(codes > 0, "float32"), -1)
        total = look_up(self.id_table, codes) * known
        if id_keep is not None:
            total = total * id_keep
        for vectors in self.content(inputs, training=training):
            total = total + vectors
        return normalize_parts(total, self.n_members)


class HistoryLookup(keras.layers.Layer):  # type: ignore[misc]
    """Constant table of item vectors by item code; row 0 (padding, unknown) is zero."""

    def __init__(self, n_items: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = self.add_weight(
            name="item_vectors", shape=(n_items + 1, dim), initializer="zeros", trainable=False
        )

    def call(self, codes: Any) -> Any:
        """Look codes (batch, length) up: vectors (batch, length, dim)."""
        return look_up(self.table, codes)


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
        if self.has_kinds:
            n_kinds = declared["history_kinds"].n_codes
            self.kind_table = self.add_weight(
                name="kind_table", shape=(n_kinds, dim), initializer=normal(0.02, seed + 4)
            )
            self.kind_logits = self.add_weight(
                name="kind_logits", shape=(n_kinds, n_heads), initializer="zeros"
            )
        if self.has_ages:
            self.age_rates = self.add_weight(
                name="age_rates",
                shape=(len(HALF_LIVES),),
                initializer=constant([inverse_softplus(math.log(2) / d) for d in HALF_LIVES]),
            )
        n_means = len(decays) + 1 + n_heads + (len(HALF_LIVES) if self.has_ages else 0)
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

    def call(
        self,
        codes: Any,
        vectors: Any,
        inputs: dict[str, Any],
        *,
        n_targets: int = 1,
        seed: Any = None,
    ) -> Any:
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

        Returns
        -------
        tensor of shape (batch * n_targets, dim), float32, rows of length 1
            The targets of a row stay together.
        """
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
        mixed = ops.sum(means * self.mix, axis=1) + self.start
        parts = [ops.reshape(means, (-1, n_means * dim))]
        parts += [
            ops.repeat(part, n_targets, axis=0) if n_targets > 1 else part
            for part in self.profile(inputs, training=seed is not None)
        ]
        joined = dropout(ops.concatenate(parts, axis=-1), self.rate, fold(seed, 0))
        inner = ops.matmul(joined, self.inner) + self.inner_bias
        inner = dropout(keras.activations.gelu(inner, approximate=True), self.rate, fold(seed, 1))
        return l2_normalize(mixed + ops.matmul(inner, self.outer))

    def _weights(self, codes: Any, logits: Any, n_targets: int, ages: Any) -> Any:
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
        logits = ops.where(used > 0, logits, -1e9)
        attended = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True)) * used
        parts = [decayed, used, attended]
        if ages is not None:
            # Only differences of ages count, so "now" need not be known: less than 0 is fine too.
            rates = ops.softplus(self.age_rates)[:, None]
            faded = ops.where(used > 0, -ages[:, None, None, :] * rates, -1e9)
            parts.append(ops.exp(faded - ops.max(faded, axis=-1, keepdims=True)) * used)
        weights = ops.concatenate(parts, axis=2)
        weights = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-6)
        if n_targets == 1:
            return ops.squeeze(weights, 1)
        shape = (-1, n_targets * self.mix.shape[0], tf.shape(codes)[1])
        return tf.reshape(weights, shape)


def constant(values: list[float]) -> Any:
    """Initialise a vector with the given values."""
    return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype)


def normal(stddev: float, seed: int) -> Any:
    """Initialise with normally distributed numbers of mean 0."""
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def inverse_softplus(value: float) -> float:
    """Find the number whose softplus is the given one."""
    return math.log(math.expm1(value))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
