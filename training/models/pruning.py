"""Smaller user encoders out of trained ones: whole hidden units, heads, blocks and old items go.

What a unit or a head is worth is how much the loss on held-out events would change without it, to
first order: the square of the sum of gradient times weight over what it writes (Molchanov et al.,
Importance Estimation for Neural Network Pruning, CVPR 2019). A head goes from all blocks, as these
share its preference for late places.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from shortlist.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from shortlist.training.models.two_tower import TwoTower

__all__ = ["Importance", "Shape", "check_prunable", "importance", "shapes", "take_part"]

UNITS = 8  # hidden units stay a multiple of this
PRUNABLE = ("pool", "transformer")

# Histories, one target of each, and what else the user model takes.
Batch = tuple["npt.NDArray[np.int64]", "npt.NDArray[np.int64]", dict[str, "npt.NDArray[Any]"]]


@dataclass(frozen=True)
class Importance:
    """What the parts of an encoder are worth, in any unit.

    Attributes
    ----------
    units : list of ndarray of shape (hidden,), float64
        Of each block; of a pooled encoder one.
    heads : ndarray of shape (n_heads,), float64
        Over all blocks; empty without attention blocks.
    """

    units: list[npt.NDArray[np.float64]]
    heads: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """What stays of an encoder.

    Attributes
    ----------
    blocks : tuple of int
        Those that stay.
    n_heads, hidden : int
        Heads, and hidden units of each block, that stay.
    length : int
        Items of a history that are looked at.
    cost : float
        Multiplications for a full history, as a part of those of the whole encoder.
    """

    blocks: tuple[int, ...]
    n_heads: int
    hidden: int
    length: int
    cost: float


def check_prunable(encoder: str, n_members: int) -> None:
    """Refuse encoders of which no whole part can go."""
    if encoder not in PRUNABLE or n_members > 1:
        found = f"{n_members} members" if n_members > 1 else f"the encoder {encoder!r}"
        raise DataError(
            f"--prune: got a bundle of {found}, expected the encoder "
            f"{' or '.join(map(repr, PRUNABLE))}. Fix: leave --prune out, or --distil pool"
        )


def importance(model: TwoTower, batches: Iterable[Batch]) -> Importance:
    """Measure what each hidden unit and head is worth on held-out events.

    Parameters
    ----------
    model : TwoTower
    batches : iterable of (history, target, user inputs)
        Item codes (batch, length) and (batch,), and what the user model takes besides.
    """
    encoder, is_pool = model.user_encoder, model.config.model.encoder == "pool"
    parts: list[Any] = [encoder] if is_pool else encoder.blocks
    weights = [part.outer for part in parts] + ([] if is_pool else [b.mix for b in parts])
    items = tf.constant(model.item_vectors())
    temperature = model.config.train.temperature
    sums = [np.zeros(weight.shape[0]) for weight in weights]
    for history, target, inputs in batches:
        with tf.GradientTape() as tape:
            users = model.user_model({"history": history, **inputs})
            logits = tf.matmul(users, items, transpose_b=True) / temperature
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target - 1, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        for total, weight, gradient in zip(sums, weights, gradients, strict=True):
            product = tf.reduce_sum(gradient * weight.value, axis=1).numpy()
            total += np.square(product)  # of a row: what its unit, or one number of a head, writes
    n = len(parts)
    heads = np.zeros(0)
    if not is_pool:
        n_heads = model.config.model.n_heads
        heads = sum(total.reshape(n_heads, -1).sum(axis=1) for total in sums[n:])
    return Importance(sums[:n], np.asarray(heads))


def shapes(model: TwoTower, part: float) -> list[Shape]:
    """List the encoders that do without a part of the multiplications, each as wide as it can be.

    Raises
    ------
    DataError
        Nothing is left to take away.
    """
    settings = model.config.model
    blocks = (0,) if settings.encoder == "pool" else tuple(range(settings.n_blocks))
    n_heads = (1,) if settings.encoder == "pool" else range(1, settings.n_heads + 1)
    whole = _cost(model, len(blocks), settings.n_heads, settings.hidden, settings.history_length)
    lengths = {settings.history_length, -(-settings.history_length // 2)}
    found = []
    for n, heads, length in itertools.product(
        range(1, len(blocks) + 1), n_heads, sorted(lengths, reverse=True)
    ):
        hidden = settings.hidden
        while hidden > 0 and _cost(model, n, heads, hidden, length) > (1.0 - part) * whole:
            hidden -= UNITS
        if hidden < UNITS:
            continue
        cost = _cost(model, n, heads, hidden, length) / whole
        kept = itertools.combinations(blocks, n)
        found += [Shape(chosen, heads, hidden, length, cost) for chosen in kept]
    if not found:
        raise DataError(
            f"--prune: got {part}, of which nothing is left of an encoder of {settings.hidden} "
            f"hidden units and {len(blocks)} blocks; take less"
        )
    return found


def _cost(model: TwoTower, n_blocks: int, n_heads: int, hidden: int, length: int) -> float:
    """Count the multiplications of an encoder for one full history."""
    settings = model.config.model
    dim = settings.dim
    if settings.encoder == "pool":
        means, width = model.user_encoder.mix.shape[0], model.user_encoder.inner.shape[0]
        return float(length * dim * means + (width + dim) * hidden)
    heads = n_heads * (settings.head_width or dim // settings.n_heads)
    full = length * (4 * dim * heads + 2 * dim * hidden) + 2 * length**2 * heads
    last = length * (2 * dim * heads + 2 * heads) + 2 * dim * (heads + hidden)
    return float((n_blocks - 1) * full + last)


def take_part(model: TwoTower, old: TwoTower, shape: Shape, worth: Importance) -> None:
    """Give a model of a smaller shape the parts of a trained one that are worth most."""
    old_weights = {id(w): w.numpy() for w in old.weights}
    for new, before in zip(model.item_encoder.weights, old.item_encoder.weights, strict=True):
        new.assign(before)
    if model.config.model.encoder == "pool":
        units = _best(worth.units[0], shape.hidden)
        _copy(model.user_encoder, old.user_encoder, units)
        return
    encoder, before = model.user_encoder, old.user_encoder
    heads = _best(worth.heads, shape.n_heads)
    inside = {id(w) for block in before.blocks for w in block.weights}
    outside = [w for w in before.weights if id(w) not in inside]
    inside = {id(w) for block in encoder.blocks for w in block.weights}
    for new, weight in zip(
        [w for w in encoder.weights if id(w) not in inside], outside, strict=True
    ):
        value = old_weights[id(weight)]
        if weight.name == "positions":  # of a full history the last ones count
            value = value[-shape.length :]
        is_of_heads = value.shape != tuple(new.shape)
        new.assign(value[heads] if is_of_heads else value)
    for block, number in zip(encoder.blocks, shape.blocks, strict=True):
        units = _best(worth.units[number], shape.hidden)
        _copy_block(block, before.blocks[number], units, heads)


def _best(worth: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.int64]:
    """Return the places of the n that are worth most, in their order."""
    return np.sort(np.argsort(-worth, kind="stable")[:n])


def _copy(new: Any, old: Any, units: npt.NDArray[np.int64]) -> None:
    """Copy a layer's weights, of the two dense layers some hidden units alone."""
    for own, weight in zip(new.weights, old.weights, strict=True):
        value = weight.numpy()
        match weight.name:
            case "inner":
                value = value[:, units]
            case "inner_bias" | "outer":
                value = value[units]
        own.assign(value)


def _copy_block(
    new: Any, old: Any, units: npt.NDArray[np.int64], heads: npt.NDArray[np.int64]
) -> None:
    """Copy a block: some hidden units, and the numbers of some heads."""
    width = old.width // old.n_heads
    numbers = (heads[:, None] * width + np.arange(width)).ravel()
    parts = np.concatenate([numbers + i * old.width for i in range(3)])  # queries, keys, values
    _copy(_Only(new), _Only(old), units)
    new.attention.assign(old.attention.numpy()[:, parts])
    new.attention_bias.assign(old.attention_bias.numpy()[parts])
    new.mix.assign(old.mix.numpy()[numbers])


class _Only:
    """The weights of a block whose shape no head is in."""

    def __init__(self, block: Any) -> None:
        of_heads = {id(w) for w in (block.attention, block.attention_bias, block.mix)}
        self.weights = [w for w in block.weights if id(w) not in of_heads]
