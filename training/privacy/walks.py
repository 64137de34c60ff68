"""Synthetic histories, drawn from what was released: training data that costs no privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shortlist.training.data.events import DEFAULT_KIND, Dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Floats, Rows

DATASET = "synthetic walks of a private release"
FEDERATED = "synthetic walks of a federation"
N_BEST = 50  # a next item is one of so many
_AT_ONCE = 500


def draw_walks(
    weights: NDArray[np.float32],
    popular: Floats,
    *,
    n_walks: int,
    length: int,
    decay: float,
    seed: int,
) -> Rows:
    """Draw walks: the first item by popularity, each next one by its score after those before.

    Parameters
    ----------
    weights : ndarray of shape (n_items, n_items)
        As `denoise.item_weights` gives them.
    popular : ndarray of shape (n_items,)
        Positive.
    n_walks, length : int
        Walks end early where the catalogue does: at most n_items − 1 items.
    decay : float
        Weight of an item, lost with each later one.
    seed : int

    Returns
    -------
    ndarray of shape (n_walks, length), int64
        Item rows, each item once a walk.
    """
    n_items = len(popular)
    length = min(length, n_items - 1)
    random = np.random.default_rng(seed)
    walks = np.empty((n_walks, length), np.int64)
    chances = popular / popular.sum()
    for start in range(0, n_walks, _AT_ONCE):
        walk = walks[start : start + _AT_ONCE]
        walk[:, 0] = random.choice(n_items, len(walk), p=chances)
        scores = np.zeros((len(walk), n_items), np.float32)
        everyone = np.arange(len(walk))
        for place in range(1, length):
            scores *= decay
            scores += weights[walk[:, place - 1]]
            scores[everyone, walk[:, place - 1]] = -np.inf
            walk[:, place] = _drawn(scores, popular, random)
    return walks


def _drawn(scores: NDArray[np.float32], popular: Floats, random: np.random.Generator) -> Rows:
    """Draw one of the best items of each row, by its score; by popularity where none is over 0."""
    n_best = min(N_BEST, scores.shape[1])
    best = np.argpartition(-scores, n_best - 1, axis=1)[:, :n_best]
    value = np.take_along_axis(scores, best, axis=1).astype(np.float64)
    chance = np.maximum(value, 0.0)
    is_open = np.isfinite(value)
    chance += np.where(is_open, 1e-9 * popular[best] / popular.max(), 0.0)
    chance /= np.maximum(chance.max(axis=1, keepdims=True), 1e-30)
    # The largest of log(chance) + Gumbel noise is a draw by chance.
    with np.errstate(divide="ignore"):
        noisy = np.log(chance) + random.gumbel(size=chance.shape)
    drawn: Rows = best[np.arange(len(best)), np.argmax(noisy, axis=1)]
    return drawn


def walks_dataset(walks: Rows, items: pl.DataFrame, user_ids: pl.DataType) -> Dataset:
    """Make a data set of walks over the items of a table, row r of which is item row r.

    Its users are numbers of the walks, of the type ``user_ids``: so requests may name their own.
    """
    n_walks, length = walks.shape
    ids = items["item_id"].gather(walks.ravel())
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_walks, dtype=np.int64), length),
            "item_id": ids,
            "timestamp": np.tile(np.arange(length, dtype=np.int64), n_walks),
        }
    ).with_columns(
        pl.col("user_id").cast(user_ids), kind=pl.lit(DEFAULT_KIND), value=pl.lit(None, pl.Float32)
    )
    return Dataset(DATASET, events, items=items, has_times=False)
