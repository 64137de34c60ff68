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

    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import Feature

HIDDEN_SCORE = -1e9  # a softmax gives it nothing beside any other
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)
EPSILON = 1e-12  # added to squared norms: a zero row stays zero, never NaN


def l2_normalize(vectors: Tensor) -> Tensor:
    """Scale rows (…, dim) to length 1; a zero row stays zero."""
    norm_squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(norm_squared, EPSILON))


def normalize_parts(vectors: Tensor, n_parts: int) -> Tensor:
    """Scale rows (batch, dim) to length 1, each of ``n_parts`` equal parts to the same length."""
    if n_parts == 1:
        return l2_normalize(vectors)
    width = vectors.shape[-1]
    parts = l2_normalize(ops.reshape(vectors, (-1, n_parts, width // n_parts)))
    return ops.reshape(parts, (-1, width)) * n_parts**-0.5


def take_parts(vectors: Tensor, n_parts: int) -> list[Tensor]:
    """Undo `normalize_parts`: ``n_parts`` tensors of rows of length 1, from vectors (…, dim)."""
    if n_parts == 1:
        return [vectors]
    return [part * n_parts**0.5 for part in tf.split(vectors, n_parts, axis=-1)]


def dropout(values: Tensor, rate: float, seed: Tensor) -> Tensor:
    """Zero a part ``rate`` of the values and scale up the rest; no-op without a seed (2,) int32."""
    if seed is None or rate == 0.0:
        return values
    return values * keep_mask(tf.shape(values), rate, seed) / (1.0 - rate)


def byte_dropout(values: Tensor, rate: float, seed: Tensor) -> Tensor:
    """Do what `dropout` does with a byte for each value: two times cheaper, the rate in 256ths."""
    dropped = round(rate * 256)
    if seed is None or dropped == 0:
        return values
    size = tf.size(values)
    drawn = tf.random.stateless_uniform([size // 4 + 1], seed, None, None, tf.int32)
    kept = tf.reshape(tf.bitcast(drawn, tf.uint8), [-1])[:size] >= dropped
    return tf.where(tf.reshape(kept, tf.shape(values)), values * (256 / (256 - dropped)), 0.0)


@tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
def quick_gelu(values: Tensor) -> Any:
    """Compute GELU by tanh, as ``values · sigmoid(2u)``, with half the operations of Keras'."""
    square = values * values
    chance = tf.sigmoid(values * (square * (0.044715 * GELU_SLOPE) + GELU_SLOPE))
    result = values * chance

    def gradient(above: Tensor) -> Tensor:
        slope = square * (3 * 0.044715 * GELU_SLOPE) + GELU_SLOPE
        return above * (chance + (result - result * chance) * slope)

    return result, gradient


def keep_mask(shape: Any, rate: float, seed: Tensor) -> Tensor:
    """Draw a float32 mask of the shape: 0 with probability ``rate``, else 1."""
    return tf.cast(tf.random.stateless_uniform(shape, seed) >= rate, tf.float32)


def fold(seed: Tensor, number: int) -> Tensor:
    """Derive an independent seed, or None from None."""
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, number)


@tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
def take_places(values: Tensor, places: Tensor) -> Any:
    """Take rows of values (n, …), each at most once, with a gradient that adds nothing up."""

    def gradient(above: Tensor) -> tuple[Tensor, None]:
        numbers = tf.range(1, tf.size(places) + 1)
        back = tf.scatter_nd(places[:, None], numbers, [tf.shape(values, tf.int64)[0]])
        nothing = tf.zeros(tf.concat([[1], tf.shape(above)[1:]], axis=0))
        return tf.gather(tf.concat([nothing, above], axis=0), back), None

    return tf.gather(values, places), gradient


def look_up(table: Any, codes: Tensor) -> Tensor:
    """Take rows of a variable without ever reading all of it, nor in the gradient."""
    exported = stand_ins.present()
    return tf.gather(table.value if exported is None else exported.rows_for(table), codes)


def rows_by_age(codes: Tensor, history_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count for item codes (batch, length) of histories, oldest first: each int64 (batch, length).

    Returns
    -------
    known, age, row
        1 where there is an item; the items after each place; the age of an item that counts, and
        ``history_length`` where there is none or it is too old.
    """
    known = tf.minimum(codes, 1)
    age = tf.cumsum(known, axis=1, exclusive=True, reverse=True)
    row = tf.where(codes > 0, tf.minimum(age, history_length), history_length)
    return known, age, row


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

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> list[Tensor]:
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

    def _embed(self, feature: Feature, values: Tensor, training: bool) -> Tensor:
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


def _mean_weights(flags: Tensor) -> Tensor:
    """Weights (batch, n) that make a sum over the flagged places their mean."""
    return flags / ops.maximum(ops.sum(flags, axis=1, keepdims=True), 1.0)


def _sparse_sum(table: Any, codes: Tensor, weights: Tensor) -> Tensor:
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

    def call(
        self, inputs: dict[str, Tensor], id_keep: Tensor = None, training: bool = False
    ) -> Tensor:
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

    def call(self, codes: Tensor) -> Tensor:
        """Look codes (batch, length) up: vectors (batch, length, dim)."""
        return look_up(self.table, codes)


def constant(values: list[float]) -> Any:
    """Initialise a vector with the given values."""
    return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype)


def normal(stddev: float, seed: int) -> Any:
    """Initialise with normally distributed numbers of mean 0."""
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def inverse_softplus(value: float) -> float:
    """Find the number whose softplus is the given one."""
    return math.log(math.expm1(value))
