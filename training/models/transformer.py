"""User encoder ``transformer``: causal self-attention over the history (SASRec, pre-norm).

Attention and layer norm are written out in the form that tf2onnx converts and ONNX Runtime fuses.
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

from shortlist.training.models.layers import (
    FeatureEncoder,
    constant,
    dropout,
    fold,
    inverse_softplus,
    l2_normalize,
    normal,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.training.features import Feature

HIDDEN_SCORE = -1e9
NORM_EPSILON = 1e-6
HALF_LIFE_DAYS = 30.0  # of the preference for late times, to start with
SLOPES = (0.3, 0.03)  # first and last head's preference for late positions, to start with


class LayerNorm(keras.layers.Layer):  # type: ignore[misc]
    """Bring vectors (…, dim) to mean 0 and variance 1, then scale and shift by learned factors."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gain = self.add_weight(name="gain", shape=(dim,), initializer="ones")
        self.shift = self.add_weight(name="shift", shape=(dim,), initializer="zeros")

    def call(self, values: Any, training: bool = False) -> Any:
        """Normalise; ``training`` picks a faster square that ONNX Runtime would not fuse."""
        difference = values - ops.mean(values, axis=-1, keepdims=True)
        square = tf.square(difference) if training else tf.pow(difference, 2.0)
        deviation = ops.sqrt(ops.mean(square, axis=-1, keepdims=True) + NORM_EPSILON)
        return difference / deviation * self.gain + self.shift


class Block(keras.layers.Layer):  # type: ignore[misc]
    """One layer: attention, then two dense layers; both residual, with the norm before them."""

    def __init__(
        self, dim: int, n_heads: int, hidden: int, rate: float, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n_heads = n_heads
        self.rate = rate
        self.attention_norm = LayerNorm(dim, name="attention_norm")
        self.attention, self.attention_bias = self._dense("attention", dim, 3 * dim, seed)
        self.mix, self.mix_bias = self._dense("output", dim, dim, seed + 1)
        self.inner_norm = LayerNorm(dim, name="inner_norm")
        self.inner, self.inner_bias = self._dense("inner", dim, hidden, seed + 2)
        self.outer, self.outer_bias = self._dense("outer", hidden, dim, seed + 3)

    def _dense(self, name: str, n_in: int, n_out: int, seed: int) -> tuple[Any, Any]:
        matrix = self.add_weight(
            name=name, shape=(n_in, n_out), initializer=normal((2 * n_in) ** -0.5, seed)
        )
        return matrix, self.add_weight(name=f"{name}_bias", shape=(n_out,), initializer="zeros")

    def call(self, values: Any, preference: Any, *, last: Any = None, seed: Any = None) -> Any:
        """Update vectors (batch, length, dim).

        Parameters
        ----------
        values : tensor of shape (batch, length, dim), float32
        preference : tensor of shape (batch, n_heads, length or 1, length), float32
            Added to the scores; very low where a query must not look.
        last : tensor of shape (batch, 1, length), float32, optional
            1 at the only place whose result is wanted: gives (batch, 1, dim).
        seed : tensor of shape (2,), int32, optional
            Randomness of dropout; None at inference.
        """
        training = seed is not None
        normed = self.attention_norm(values, training=training)
        if last is None:
            query, key, value = tf.split(
                apply(normed, self.attention, self.attention_bias, training), 3, axis=-1
            )
        else:
            dim = values.shape[-1]
            matrix, bias = ops.convert_to_tensor(self.attention), self.attention_bias
            query = ops.matmul(ops.matmul(last, normed), matrix[:, :dim]) + bias[:dim]
            both = ops.matmul(normed, matrix[:, dim:]) + bias[dim:]
            key, value = both[..., :dim], both[..., dim:]
            values = ops.matmul(last, values)
        mixed = self._attend(query, key, value, preference)
        mixed = apply(mixed, self.mix, self.mix_bias, training)
        values = values + dropout(mixed, self.rate, fold(seed, 0))
        inner = self.inner_norm(values, training=training)
        inner = apply(inner, self.inner, self.inner_bias, training)
        inner = dropout(keras.activations.gelu(inner, approximate=True), self.rate, fold(seed, 1))
        inner = apply(inner, self.outer, self.outer_bias, training)
        return values + dropout(inner, self.rate, fold(seed, 2))

    def _attend(self, query: Any, key: Any, value: Any, preference: Any) -> Any:
        n_heads = self.n_heads
        query = split_heads(query * (query.shape[-1] // n_heads) ** -0.5, n_heads)
        scores = tf.matmul(query, split_heads(key, n_heads), transpose_b=True) + preference
        return join_heads(ops.matmul(tf.nn.softmax(scores), split_heads(value, n_heads)))


def split_heads(values: Any, n_heads: int) -> Any:
    """Turn (batch, length, dim) into (batch, n_heads, length, dim / n_heads)."""
    shape = (-1, ops.shape(values)[1], n_heads, values.shape[-1] // n_heads)
    return ops.transpose(ops.reshape(values, shape), (0, 2, 1, 3))


def join_heads(values: Any) -> Any:
    """Undo `split_heads`."""
    dim = values.shape[1] * values.shape[-1]
    values = ops.transpose(values, (0, 2, 1, 3))
    return ops.reshape(values, (-1, ops.shape(values)[1], dim))


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
        return Block(dim, n_heads, hidden, self.rate, seed, name=name)

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
        codes: Any,
        vectors: Any,
        inputs: dict[str, Any],
        *,
        n_targets: int = 1,
        seed: Any = None,
    ) -> Any:
        """Encode users; arguments and result as for `PoolEncoder.call`.

        ``n_targets`` = 0 gives an embedding after each place of the row. Unless it is 1, each
        target sees the whole row before it, however long that is.
        """
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
        for part in self.profile(inputs, training=seed is not None):
            values = values + ops.expand_dims(part, 1)
        values = self.final_norm(values, training=seed is not None)
        return l2_normalize(ops.reshape(values, (-1, values.shape[-1])))

    def _tokens(self, vectors: Any, rank: Any, used: Any, inputs: dict[str, Any]) -> Any:
        """Give what the first layer reads: item, kind and position, or the start vector."""
        if self.has_kinds:
            kinds = inputs["history_kinds"]
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            vectors = vectors + ops.take(self.kind_table, kinds, axis=0) * is_known / self.scale
        place = ops.clip(ops.cast(rank, "int32") - 1, 0, self.history_length - 1)
        tokens = vectors * self.scale + ops.take(self.positions, place, axis=0)
        return ops.where(ops.expand_dims(used, -1) > 0, tokens, self.start)

    def _preference(self, places: Any, key_places: Any, ages: Any, key_ages: Any) -> Any:
        """Give what is added to the scores, unmasked: (batch, n_heads, queries or 1, keys).

        ``places`` (batch, queries) count from the newest item, which is 0, down; ``ages`` are days.
        """
        slopes = ops.softplus(self.slopes)[None, :, None, None]
        preference = key_places[:, None, None, :] * slopes
        if self.has_ages:
            rates = ops.softplus(self.age_rates)[None, :, None, None]
            preference = preference - key_ages[:, None, None, :] * rates
        return preference


def apply(values: Any, matrix: Any, bias: Any, training: bool) -> Any:
    """Multiply (batch, length, n_in) by (n_in, n_out) and add a bias.

    In training as one large product: the gradient of a batched one sums many matrices.
    """
    if training:
        return tf.tensordot(values, ops.convert_to_tensor(matrix), 1) + bias
    return ops.matmul(values, matrix) + bias


def _up_to_itself(used: Any) -> Any:
    """Let each place look at the used places before it, and at itself: (batch, length, length)."""
    places = tf.range(tf.shape(used)[1])
    is_before = places[:, None] > places[None, :]
    is_same = tf.equal(places[:, None], places[None, :])
    return tf.logical_or(tf.logical_and(is_before[None], used[:, None, :] > 0), is_same[None])
