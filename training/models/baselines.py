"""What closed-form models share, and the simplest of them. Baselines, and models of bundles.

All implement `Ranker` of `training.evaluation.evaluate` after ``fit(train, catalogue)``: so they
stand beside a bundle in an evaluation, for catalogues of any size. `linear` makes models of
bundles of them: a score is the dot product of a user's embedding and ``item_vectors()``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

import shortlist
from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.models.sums import STEPS, sum_weights
from shortlist.training.splits.parts import IdArray

Sums: TypeAlias = dict[str, Any]

_SCORES_AT_ONCE = 1 << 24  # 128 MiB of float64


class Baseline(ABC):
    """Fit on train events; rank by scores computed from a user's history."""

    n_items: int = 0

    def fit(
        self,
        train: pl.DataFrame,
        catalogue: IdArray,
        weights: npt.NDArray[np.floating] | None = None,
    ) -> Self:
        """Learn from train events.

        Parameters
        ----------
        train : polars.DataFrame
            ``split.train``: sorted by user and time.
        catalogue : ndarray of shape (n_items,)
            ``split.catalogue``; item row r is ``catalogue[r]``.
        weights : ndarray of shape (n_events,), optional
            ``split.weights(train)``: how much each event counts; without it, each counts 1. Events
            of weight 0 or below (dislikes) are no positive signal and are left out.

        Returns
        -------
        Self
        """
        self.n_items = len(catalogue)
        self._fit(*signals(train, catalogue, weights))
        return self

    def rank(
        self,
        histories: list[Rows],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> Rows:
        """Rank items, score descending, ties by the lower row.

        See `Ranker.rank`. ``user_ids`` are not used: the history says everything.
        """
        if self.n_items == 0:
            raise DataError(
                f"{type(self).__name__}: got rank before fit, expected a fitted model. "
                "Fix: call fit(train, catalogue) first"
            )
        at_once = max(1, _SCORES_AT_ONCE // self.n_items)
        nothing = np.empty(0, np.int64)
        excluded = histories if exclude_seen else [nothing] * len(histories)
        blocks = [
            self._rank(histories[start : start + at_once], excluded[start : start + at_once], top_n)
            for start in range(0, len(histories), at_once)
        ]
        return np.concatenate([*blocks, np.empty((0, top_n), np.int64)])

    @abstractmethod
    def item_vectors(self) -> npt.NDArray[np.float32]:
        """Return (n_items, dim): scores are their dot products with a user's embedding.

        Of `Popularity` a user's embedding is (1,); of the `ItemItem` models (1, w_1, …, w_n) with
        the weight ``decay^age`` of each item of the history, else 0; of `ImplicitALS` it is
        ``(I + α Σ v vᵀ)⁻¹ (1 + α) Σ v`` over the vectors v of the history's items.
        """

    @abstractmethod
    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        """Learn from events sorted by user and time: users, item rows, weights, (n_events,)."""

    @abstractmethod
    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        """Rank for a block of users, none of the excluded rows; see `rank`."""


class Counted(Baseline):
    """A baseline that is made of sums over users: sums of parts of the users can be added."""

    @abstractmethod
    def count(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        """Add up what the model is made of.

        Parameters
        ----------
        users, items, weights : ndarray of shape (n_events,)
            What `signals` gives.
        n_items : int

        Returns
        -------
        dict of str to ndarray or scipy.sparse.csr_matrix, int64
            Sums by name, in whole steps (`sums.STEPS`); the same names and shapes for any users.
        """

    @abstractmethod
    def solve(self, sums: Sums) -> Self:
        """Make the model of the sums over all users."""

    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        self.solve(self.count(users, items, weights, self.n_items))


class Popularity(Counted):
    """Rank by the number of train events, or the sum of their weights."""

    _vectors: npt.NDArray[np.float32]

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """See `Baseline.item_vectors`."""
        return self._vectors

    def count(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        """See `Counted.count`: ``counts``."""
        return {"counts": sum_weights(items, weights, n_items)}

    def solve(self, sums: Sums) -> Self:
        """See `Counted.solve`."""
        self.n_items = len(sums["counts"])
        self._vectors = (sums["counts"] / STEPS)[:, None].astype(np.float32)
        self._index = shortlist.Index(self._vectors, metric="dot")
        return self

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        return search(self._index, np.ones((len(histories), 1)), excluded, top_n)


def signals(
    train: pl.DataFrame, catalogue: IdArray, weights: npt.NDArray[np.floating] | None = None
) -> tuple[Rows, Rows, Floats]:
    """Return user numbers, item rows and weights (n_signals,) of the events of positive weight.

    Parameters are those of `Baseline.fit`.
    """
    ids = pl.Series("item_id", catalogue, dtype=train["item_id"].dtype)
    table = ids.to_frame().with_row_index("row")
    rows = train.join(table, on="item_id", how="left", maintain_order="left")["row"]
    if rows.null_count():
        unknown = train["item_id"].filter(rows.is_null())[0]
        raise DataError(
            f"train: got item_id {unknown!r}, expected ids of the catalogue. "
            "Fix: pass the split's own catalogue"
        )
    users = train["user_id"].rle_id().to_numpy().astype(np.int64)
    items = rows.cast(pl.Int64).to_numpy()
    if weights is None:
        weights = np.ones(len(items))
    used = weights > 0
    return users[used], items[used], weights[used].astype(np.float64)


def require(good: bool, got: str, expected: str) -> None:
    """Raise a DataError unless the settings of a model are good."""
    if not good:
        raise DataError(f"baseline: got {got}, expected {expected}. Fix: use such values")


def user_item_matrix(users: Rows, items: Rows, weights: Floats, n_items: int) -> Any:
    """Return the CSR matrix (n_users, n_items) of a user's largest weight with an item, else 0."""
    n_users = int(users[-1]) + 1 if len(users) else 0
    order = np.lexsort((-weights, items, users))
    key = users[order] * n_items + items[order]
    first = order[np.concatenate([[True], key[1:] != key[:-1]])] if len(order) else order
    entries = (weights[first], (users[first], items[first]))
    return sparse.csr_matrix(entries, shape=(n_users, n_items))


def search(
    index: shortlist.Index, queries: npt.NDArray[np.floating], excluded: list[Rows], top_n: int
) -> Rows:
    """Search for queries (n_users, dim): rows (n_users, top_n), none excluded."""
    return index.search(queries.astype(np.float32), top_n, exclude=excluded).indices


def top_rows(scores: Floats, excluded: list[Rows], top_n: int) -> Rows:
    """Return the best rows (n_users, top_n), none excluded: score descending, then row.

    ``scores`` (n_users, n_items) change.
    """
    for user, rows in enumerate(excluded):
        scores[user, rows] = -np.inf
    n_users, n_items = scores.shape
    n = min(top_n, n_items)
    least = np.partition(scores, n_items - n, axis=1)[:, n_items - n]
    users, rows = np.nonzero((scores >= least[:, None]) & (scores > -np.inf))
    order = np.lexsort((rows, -scores[users, rows], users))
    users, rows = users[order], rows[order]
    place = np.arange(len(users)) - np.searchsorted(users, np.arange(n_users))[users]
    out = np.full((n_users, top_n), -1, dtype=np.int64)
    is_shown = place < top_n
    out[users[is_shown], place[is_shown]] = rows[is_shown]
    return out
