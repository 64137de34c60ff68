"""Item-item models: a score is a weighted sum over the items of the history. Neighbours, counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.features.feature import DAY
from shortlist.training.models.baselines import (
    Counted,
    Sums,
    require,
    top_rows,
    user_item_matrix,
)
from shortlist.training.models.sums import STEPS, sum_followers, sum_products, sum_weights
from shortlist.training.splits.parts import IdArray

# Score of the most popular item of which a history says nothing: below every positive score, and a
# billionth of it is still a normal float32.
FLOOR = 1e-20
MAX_PAIRS = 200_000_000  # that ItemKNN should hold, 16 bytes each


class ItemItem(Counted):
    """A score is a weighted sum over the history: ``score(j) = Σ_i decay^age(i) · W_ij``.

    Age is 0 for the latest event; an item that comes again counts once, as its latest event. Items
    of which the history says nothing (score 0) follow those it speaks for, by popularity. With
    `with_trend` each score is raised by what is popular now, with `with_repeats` by how often and
    how lately the user had the item.
    """

    decay = 1.0
    repeat = 0.0
    trend, trend_days = 0.0, 0.0
    weights: Any  # (n_items, n_items), sparse or dense
    _floor: Floats
    _trend: Floats | float = 0.0

    def with_trend(self, trend: float, days: float) -> Self:
        """Add to each score ``trend`` times the item's events of the last days.

        Parameters
        ----------
        trend : float
            What the item with most of those events gains; the others gain in proportion.
        days : float
            Before the newest train event.
        """
        self.trend, self.trend_days = trend, days
        return self

    def with_repeats(self, repeat: float, decay: float) -> Self:
        """Let every event of the history count, and speak for its own item too.

        An item i of the history then has the weight ``Σ decay^age`` over all its events.

        Parameters
        ----------
        repeat : float
            What such a weight adds to the score of the item itself, above 0.
        decay : float
            Weight of an event, lost with each later one; in (0, 1].
        """
        require(
            repeat > 0 and 0 < decay <= 1,
            f"repeat={repeat}, decay={decay}",
            "repeat > 0 and decay in (0, 1]",
        )
        self.repeat, self.decay = repeat, decay
        return self

    def fit(
        self,
        train: pl.DataFrame,
        catalogue: IdArray,
        weights: npt.NDArray[np.floating] | None = None,
    ) -> Self:
        """See `Baseline.fit`; for a trend the events need times."""
        self._trend = np.zeros(len(catalogue))
        if self.trend > 0.0:
            self._trend = self.trend * _recent_share(train, catalogue, weights, self.trend_days)
        return super().fit(train, catalogue, weights)

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """See `Baseline.item_vectors`."""
        vectors = np.empty((self.n_items, self.n_items + 1), np.float32)
        vectors[:, 0] = self._trend + self._floor
        weights = self.weights.toarray() if sparse.issparse(self.weights) else self.weights
        vectors[:, 1:] = weights.T
        return vectors

    def count(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        """See `Counted.count`: ``counts`` of items, ``pairs`` and what else the model needs."""
        counts = sum_weights(items, weights, n_items)
        return {"counts": counts, **self._count_pairs(users, items, weights, n_items)}

    def solve(self, sums: Sums) -> Self:
        """See `Counted.solve`; the trend is what `fit` left, or none."""
        self.n_items = len(sums["counts"])
        self.weights = self._item_weights(sums)
        if self.repeat > 0.0:
            self.weights = _with_diagonal(self.weights, self.repeat)
        counts = sums["counts"] / STEPS
        self._floor = FLOOR * counts / max(counts.max(initial=0.0), 1.0)
        return self

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        # A user's vector is as long as the catalogue and nearly all zero: a sparse product.
        history = _history_matrix(histories, self.n_items, self.decay, all_events=self.repeat > 0.0)
        scores = history @ self.weights
        dense: Floats = scores.toarray() if sparse.issparse(scores) else scores
        dense = dense + self._trend
        return top_rows(np.where(dense == 0.0, self._floor, dense), excluded, top_n)

    @abstractmethod
    def _count_pairs(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        """Add up ``pairs`` (n_items, n_items) and others, as for `count`."""

    @abstractmethod
    def _item_weights(self, sums: Sums) -> Any:
        """Compute W from what was counted."""


def count_pairs(events: pl.DataFrame) -> int:
    """Count the pairs of items of one user: ItemKNN holds them all."""
    return int((events.group_by("user_id").len()["len"].cast(pl.Int64) ** 2).sum())


class ItemKNN(ItemItem):
    """Item neighbours by cosine of their sets of users (Deshpande and Karypis, TOIS 2004).

    ``score(j) = Σ_{i in history} c_ij / (√(c_i c_j) + shrink)`` with c_ij users of both items, over
    those i that have j among their ``n_neighbours`` best. With weights, c_ij sums the products of a
    user's largest weights of both items.

    Parameters
    ----------
    n_neighbours : int
        Neighbours kept of each item.
    shrink : float
        Damps similarities that rest on few users.
    """

    def __init__(self, n_neighbours: int = 20, shrink: float = 10.0) -> None:
        require(
            n_neighbours >= 1 and shrink >= 0,
            f"n_neighbours={n_neighbours}, shrink={shrink}",
            "n_neighbours ≥ 1 and shrink ≥ 0",
        )
        self.n_neighbours = n_neighbours
        self.shrink = shrink

    def _count_pairs(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        return {"pairs": sum_products(user_item_matrix(users, items, weights, n_items))}

    def _item_weights(self, sums: Sums) -> Any:
        both = sparse.coo_matrix(sums["pairs"])
        count = both.diagonal() / STEPS
        off = both.row != both.col
        i, j, together = both.row[off], both.col[off], both.data[off] / STEPS
        cosine = together / (np.sqrt(count[i] * count[j]) + self.shrink)
        return _strongest(i, j, cosine, self.n_items, self.n_neighbours)


class RecencyItemKNN(ItemItem):
    """Directed co-occurrence with recency: what follows the latest items of the history.

    ``C_ij = Σ decay_gap^(gap−1)`` over all places where j comes ``gap`` ≤ ``window`` events after
    i in a user's train events; ``score(j) = Σ_i decay_age^age(i) · C_ij / (n_i · n_j^power)`` with
    age 0 for the latest event and n train events of an item. With weights, a pair counts the
    product of its events' weights, and n sums an item's weights.

    Parameters
    ----------
    window : int
        Largest gap that counts, in events.
    decay_gap, decay_age : float
        Weight lost per event between the pair, and per event since the history's item; in (0, 1].
    power : float
        How strongly popular items are damped; 0 not at all.
    """

    def __init__(
        self,
        window: int = 10,
        decay_gap: float = 0.8,
        decay_age: float = 0.7,
        power: float = 0.1,
    ) -> None:
        require(
            window >= 1 and 0 < decay_gap <= 1 and 0 < decay_age <= 1,
            f"window={window}, decay_gap={decay_gap}, decay_age={decay_age}",
            "window ≥ 1 and decays in (0, 1]",
        )
        self.window = window
        self.decay_gap = decay_gap
        self.decay = decay_age
        self.power = power

    def _count_pairs(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        pairs = sum_followers(
            users, items, weights, n_items, window=self.window, gap_decay=self.decay_gap
        )
        return {"pairs": pairs}

    def _item_weights(self, sums: Sums) -> Any:
        follows = sparse.csr_matrix(sums["pairs"]) / STEPS
        count = sums["counts"] / STEPS
        count[count == 0] = 1.0
        return sparse.diags(1 / count) @ follows @ sparse.diags(count**-self.power)


def _with_diagonal(weights: Any, value: float) -> Any:
    """Add a value to each item's weight for itself; dense weights change."""
    if sparse.issparse(weights):
        return weights + sparse.diags(np.full(weights.shape[0], float(value)))
    weights[np.diag_indices(len(weights))] += value
    return weights


def _history_matrix(
    histories: list[Rows], n_items: int, decay: float, *, all_events: bool = False
) -> Any:
    """Return the CSR matrix of decay^age (age 0 is the latest event).

    Of an item that comes again the latest event counts, or the sum of all.
    """
    lengths = np.array([len(rows) for rows in histories], dtype=np.int64)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.concatenate([*histories, np.empty(0, np.int64)])
    users = np.repeat(np.arange(len(histories)), lengths)
    age = np.repeat(splits[1:], lengths) - 1 - np.arange(len(rows))
    order = np.lexsort((age, rows, users))
    key = users[order] * n_items + rows[order]
    first = order[np.concatenate([[True], key[1:] != key[:-1]])] if len(order) else order
    counted = order if all_events else first
    # Weights below 1e-12 of the latest cannot change a list worth showing.
    recent = counted[age[counted] * -np.log(decay) < 28] if decay < 1 else counted
    return sparse.csr_matrix(
        (decay ** age[recent].astype(np.float64), (users[recent], rows[recent])),
        shape=(len(histories), n_items),
    )


def _recent_share(
    train: pl.DataFrame,
    catalogue: IdArray,
    weights: npt.NDArray[np.floating] | None,
    days: float,
) -> Floats:
    """Return each item's events of the last days, by weight: 1 for the item with most."""
    weight = pl.Series("weight", np.ones(train.height) if weights is None else weights)
    is_recent = pl.col("timestamp") > pl.col("timestamp").max() - days * DAY
    recent = train.with_columns(weight).filter(is_recent, pl.col("weight") > 0)
    of_item = recent.group_by("item_id").agg(pl.col("weight").sum())
    ids = pl.Series("item_id", catalogue, dtype=train["item_id"].dtype).to_frame()
    sums = ids.join(of_item, on="item_id", how="left", maintain_order="left")["weight"]
    counts = sums.fill_null(0.0).to_numpy()
    share: Floats = counts / max(counts.max(initial=0.0), 1e-30)
    return share


def _strongest(i: Rows, j: Rows, weight: Floats, n_items: int, n_kept: int) -> Any:
    """Keep the ``n_kept`` strongest j of each i (ties: lower j) as a CSR matrix."""
    order = np.lexsort((j, -weight, i))
    starts = np.searchsorted(i[order], np.arange(n_items))
    place = np.arange(len(order)) - starts[i[order]]
    best = order[place < n_kept]
    return sparse.csr_matrix((weight[best], (i[best], j[best])), shape=(n_items, n_items))
