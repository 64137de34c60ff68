"""What items follow which in the train part: first item vectors, and a teacher for the loss.

Counting is strong where events are few (see `item_item.RecencyItemKNN`); EASE may teach as well.
Their scores are a sum over the history, so that the mean item embedding by the teacher's
probabilities, all that the loss needs of them, is a sum too: one sparse product a step, whatever
the number of items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import sparse
from scipy.sparse.linalg import svds

from shortlist.training.data.arrays import Rows, Tensor
from shortlist.training.models.sums import STEPS, sum_followers

WINDOW = 10  # largest gap between two events that counts
GAP_DECAY = 0.8  # weight lost per event between the two
N_FOLLOWERS = 40  # kept of each item by the teacher


def count_followers(
    rows: Rows,
    lengths: Rows,
    n_items: int,
    weights: npt.NDArray[np.floating] | None = None,
    *,
    window: int = WINDOW,
    gap_decay: float = GAP_DECAY,
) -> Any:
    """Count how often item j comes after item i, less with each event between them.

    Parameters
    ----------
    rows : ndarray of shape (n_events,), int64
        Item rows, grouped by user, oldest first.
    lengths : ndarray of shape (n_users,), int64
        Events of each user.
    n_items : int
    weights : ndarray of shape (n_events,), optional
        ``split.weights``: a pair counts the product of its events' weights, as in
        `item_item.RecencyItemKNN`; events of weight 0 or below (dislikes) are in none.
    window : int
        Largest gap between two events that counts.
    gap_decay : float
        Weight lost per event between the two.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n_items, n_items), float64
    """
    counted = np.ones(len(rows)) if weights is None else np.maximum(weights, 0.0).astype(float)
    users = np.repeat(np.arange(len(lengths)), lengths)
    follows = sum_followers(users, rows, counted, n_items, window=window, gap_decay=gap_decay)
    follows.eliminate_zeros()
    return follows / STEPS


def first_vectors(follows: Any, dim: int, seed: int, n_members: int = 1) -> npt.NDArray[np.float32]:
    """Factorise the counts: items that occur together get similar vectors of length 1.

    Positive pointwise mutual information, truncated singular value decomposition (Levy and
    Goldberg, NeurIPS 2014).

    Returns
    -------
    ndarray of shape (n_items, n_members · dim), float32
        The vectors of each member, by noise of its own. What the counts leave open (no partner,
        small catalogue) is noise alone.
    """
    rng = np.random.default_rng(seed)
    n_items = follows.shape[0]
    noise = [rng.normal(0.0, dim**-0.5, (n_items, dim))]
    both = (follows + follows.T).tocoo()
    total = np.asarray(both.sum(axis=0)).ravel()
    information = np.log(both.data * total.sum() / (total[both.row] * total[both.col]))
    is_some = information > 0
    matrix = sparse.csr_matrix(
        (information[is_some], (both.row[is_some], both.col[is_some])), shape=both.shape
    )
    n_factors = min(dim, n_items - 1, matrix.nnz)
    vectors = np.zeros((n_items, dim))
    scale = 1.0
    if n_factors >= 1:
        left, values, _ = svds(matrix, k=n_factors, v0=rng.normal(size=n_items))
        vectors[:, :n_factors] = left * np.sqrt(values)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        scale = 0.1
    noise += [rng.normal(0.0, dim**-0.5, (n_items, dim)) for _ in range(n_members - 1)]
    parts = [(vectors + scale * part).astype(np.float32) for part in noise]
    return np.concatenate(parts, axis=1)


def damp_popular(follows: Any, power: float = 0.25) -> Any:
    """Divide the counts of `count_followers` by the popularity of what follows, to a power."""
    popularity = np.maximum(np.asarray(follows.sum(axis=0)).ravel(), 1.0)
    return follows @ sparse.diags(popularity**-power)


def positive_weights(weights: npt.NDArray[np.float64]) -> Any:
    """Keep the largest positive item-item weights (n_items, n_items) of each row, such as EASE's.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n_items, n_items), float64
    """
    n_kept = min(N_FOLLOWERS, len(weights))
    parts = []
    for start in range(0, len(weights), 1024):  # the copies of all rows at once would be large
        block = weights[start : start + 1024]
        columns = np.argpartition(-block, n_kept - 1, axis=1)[:, :n_kept]
        values = np.maximum(np.take_along_axis(block, columns, axis=1), 0.0).ravel()
        rows = np.repeat(np.arange(len(block)), n_kept)
        part = sparse.csr_matrix((values, (rows, columns.ravel())), shape=block.shape)
        part.eliminate_zeros()
        parts.append(part)
    return sparse.vstack(parts, format="csr")


def strongest(mass: Any) -> Any:
    """Keep the `N_FOLLOWERS` largest entries of each row, scaled so that they sum to 1."""
    entries = mass.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    row, column, data = entries.row[order], entries.col[order], entries.data[order]
    is_first = np.arange(len(row)) - np.searchsorted(row, row) < N_FOLLOWERS
    row, column, data = row[is_first], column[is_first], data[is_first]
    data = data / np.bincount(row, data, minlength=mass.shape[0])[row]
    return sparse.csr_matrix((data, (row, column)), shape=mass.shape)


class Teacher:
    """A target distribution: each item of the history spreads its weight over other items.

    Parameters
    ----------
    mass : csr_matrix of shape (n_items, n_items)
        What item i says of item j, 0 or more, in any scale: `damp_popular`, `positive_weights`,
        or a sum of `strongest` of them. The largest entries of a row count.
    decay : float
        Weight of a history's item, lost with each later one.
    """

    def __init__(self, mass: Any, *, decay: float) -> None:
        n_items = mass.shape[0]
        self.decay = decay
        entries = strongest(mass).tocoo()
        row, column, chance = entries.row, entries.col, entries.data
        place = np.arange(len(row)) - np.searchsorted(row, row)
        columns = np.zeros((n_items + 1, N_FOLLOWERS), np.int64)
        chances = np.zeros((n_items + 1, N_FOLLOWERS), np.float32)
        columns[row + 1, place], chances[row + 1, place] = column, chance
        self._columns, self._chances = tf.constant(columns), tf.constant(chances)
        has_followers = np.bincount(row, minlength=n_items) > 0
        self._knows = tf.constant(np.concatenate([[False], has_followers])[:, None], tf.float32)

    def mean_items(
        self, history: Tensor, items: Tensor, n_targets: int, _: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Average the item embeddings by the teacher's probabilities.

        Parameters
        ----------
        history : tensor of shape (batch, length), int64
            Item codes, oldest first; 0 is skipped.
        items : tensor of shape (n_items, dim), float32
        n_targets : int
            Of each row; 0 = one at each place.

        Returns
        -------
        tensor of shape (batch * n_targets, dim), float32
        tensor of shape (batch * n_targets, 1), float32
            1 where the teacher knows an item of the history, else 0 (and so is the mean).
        """
        codes, numbers = tf.unique(tf.reshape(history, (-1,)))
        table = self._mean_followers(codes, items)
        known = tf.gather(self._knows, codes)
        both = tf.gather(tf.concat([table, known], axis=1), tf.reshape(numbers, tf.shape(history)))
        places = tf.range(tf.shape(history)[1])
        age = tf.cast(places[:, None] - places[None, :], tf.float32)
        weights = tf.where(age < 0.0, 0.0, self.decay ** tf.maximum(age, 0.0))
        sums = tf.matmul(weights, both)[:, -n_targets:]
        sums = tf.reshape(sums, (-1, sums.shape[-1]))
        mass = sums[:, -1:]
        return sums[:, :-1] / tf.maximum(mass, 1e-6), tf.cast(mass > 1e-6, tf.float32)

    def _mean_followers(self, codes: Tensor, items: Tensor) -> Tensor:
        """Mean embedding of what follows each item, (n_codes, dim); 0 for code 0."""
        columns = tf.reshape(tf.gather(self._columns, codes), (-1,))
        chances = tf.reshape(tf.gather(self._chances, codes), (-1,))
        n_codes = tf.size(codes, tf.int64)
        places = tf.stack([tf.repeat(tf.range(n_codes), N_FOLLOWERS), columns], axis=1)
        shape = (n_codes, tf.shape(items, tf.int64)[0])
        return tf.sparse.sparse_dense_matmul(tf.SparseTensor(places, chances, shape), items)
