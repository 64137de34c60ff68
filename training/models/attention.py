"""Layers of self-attention, in the form that tf2onnx converts and ONNX Runtime fuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from shortlist.training.models.layers import dropout, fold, normal

if TYPE_CHECKING:
    from shortlist.training.data.arrays import Tensor

NORM_EPSILON = 1e-6


class LayerNorm(keras.layers.Layer):  # type: ignore[misc]
    """Bring vectors (…, dim) to mean 0 and variance 1, then scale and shift by learned factors."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gain = self.add_weight(name="gain", shape=(dim,), initializer="ones")
        self.shift = self.add_weight(name="shift", shape=(dim,), initializer="zeros")

    def call(self, values: Tensor, training: bool = False) -> Tensor:
        """Normalise; ``training`` picks a faster square that ONNX Runtime would not fuse."""
        difference = values - ops.mean(values, axis=-1, keepdims=True)
        square = tf.square(difference) if training else tf.pow(difference, 2.0)
        deviation = ops.sqrt(ops.mean(square, axis=-1, keepdims=True) + NORM_EPSILON)
        return difference / deviation * self.gain + self.shift


class Block(keras.layers.Layer):  # type: ignore[misc]
    """One layer: attention, then two dense layers; both residual, with the norm before them."""

    def __init__(
        self,
        dim: int,
        n_heads: int,
        hidden: int,
        rate: float,
        seed: int,
        *,
        head_width: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_heads = n_heads
        self.rate = rate
        self.width = n_heads * (head_width or dim // n_heads)  # of all heads together
        self.attention_norm = LayerNorm(dim, name="attention_norm")
        self.attention, self.attention_bias = self._dense("attention", dim, 3 * self.width, seed)
        self.mix, self.mix_bias = self._dense("output", self.width, dim, seed + 1)
        self.inner_norm = LayerNorm(dim, name="inner_norm")
        self.inner, self.inner_bias = self._dense("inner", dim, hidden, seed + 2)
        self.outer, self.outer_bias = self._dense("outer", hidden, dim, seed + 3)

    def _dense(self, name: str, n_in: int, n_out: int, seed: int) -> tuple[Tensor, Tensor]:
        matrix = self.add_weight(
            name=name, shape=(n_in, n_out), initializer=normal((2 * n_in) ** -0.5, seed)
        )
        return matrix, self.add_weight(name=f"{name}_bias", shape=(n_out,), initializer="zeros")

    def call(
        self, values: Tensor, preference: Tensor, *, last: Tensor = None, seed: Tensor = None
    ) -> Tensor:
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
        width = self.width
        matrix, bias = ops.convert_to_tensor(self.attention), self.attention_bias
        scale = (width // self.n_heads) ** -0.5
        if last is not None:
            query = ops.matmul(ops.matmul(last, normed), matrix[:, :width] * scale)
            query = only_place(query + bias[:width] * scale, self.n_heads)
            both = ops.matmul(normed, matrix[:, width:]) + bias[width:]
            key, value = split_parts(both, 2, self.n_heads)
            values = ops.matmul(last, values)
        elif training:
            query, key, value = tf.split(apply(normed, matrix, bias, training), 3, axis=-1)
            query, key, value = (
                split_heads(part, self.n_heads) for part in (query * scale, key, value)
            )
        else:
            matrix = tf.concat([matrix[:, :width] * scale, matrix[:, width:]], axis=1)
            bias = tf.concat([bias[:width] * scale, bias[width:]], axis=0)
            query, key, value = split_parts(ops.matmul(normed, matrix) + bias, 3, self.n_heads)
        scores = tf.matmul(query, key, transpose_b=True) + preference
        mixed = join_heads(ops.matmul(tf.nn.softmax(scores), value), is_one=last is not None)
        mixed = apply(mixed, self.mix, self.mix_bias, training)
        values = values + dropout(mixed, self.rate, fold(seed, 0))
        inner = self.inner_norm(values, training=training)
        inner = apply(inner, self.inner, self.inner_bias, training)
        inner = dropout(keras.activations.gelu(inner, approximate=True), self.rate, fold(seed, 1))
        inner = apply(inner, self.outer, self.outer_bias, training)
        return values + dropout(inner, self.rate, fold(seed, 2))


def apply(values: Tensor, matrix: Tensor, bias: Tensor, training: bool) -> Tensor:
    """Multiply (batch, length, n_in) by (n_in, n_out) and add a bias.

    In training as one large product: the gradient of a batched one sums many matrices.
    """
    if training:
        return tf.tensordot(values, ops.convert_to_tensor(matrix), 1) + bias
    return ops.matmul(values, matrix) + bias


def split_heads(values: Tensor, n_heads: int) -> Tensor:
    """Turn (batch, length, dim) into (batch, n_heads, length, dim / n_heads)."""
    shape = (-1, ops.shape(values)[1], n_heads, values.shape[-1] // n_heads)
    return ops.transpose(ops.reshape(values, shape), (0, 2, 1, 3))


def split_parts(values: Tensor, n_parts: int, n_heads: int) -> list[Tensor]:
    """Cut (batch, length, n_parts · dim) into parts, each split as by `split_heads`."""
    shape, width = tf.shape(values), values.shape[-1] // n_parts // n_heads
    parts = tf.reshape(values, [shape[0], shape[1], n_parts, n_heads, width])
    parts = tf.transpose(parts, (2, 0, 3, 1, 4))
    return [tf.gather(parts, i) for i in range(n_parts)]


def only_place(values: Tensor, n_heads: int) -> Tensor:
    """Turn (batch, 1, dim) into (batch, n_heads, 1, dim / n_heads)."""
    return tf.reshape(values, (-1, n_heads, 1, values.shape[-1] // n_heads))


def join_heads(values: Tensor, *, is_one: bool = False) -> Tensor:
    """Undo `split_heads`, or `only_place`."""
    dim = values.shape[1] * values.shape[-1]
    if is_one:
        return tf.reshape(values, (-1, 1, dim))
    values = tf.transpose(values, (0, 2, 1, 3))
    shape = tf.shape(values)
    return tf.reshape(values, [shape[0], shape[1], dim])
