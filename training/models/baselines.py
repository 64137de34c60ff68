"""Closed-form models: counts, neighbours, linear models. Baselines, and models of bundles.

All implement `Ranker` of `training.evaluation.evaluate` after ``fit(train, catalogue)``: so they
stand beside a bundle in an evaluation, for catalogues of any size. `linear` makes models of
bundles of them: a score is the dot product of a user's embedding and ``item_vectors()``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse
from scipy.linalg import lapack

import shortlist
from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.features.feature import DAY
from shortlist.training.splits.parts import IdArray

_SCORES_AT_ONCE = 1 << 24  # 128 MiB of float64
_ROWS_AT_ONCE = 1024  # of a matrix that is worked on in its place
# Score of the most popular item of which a history says nothing: below every positive score, and a
# billionth of it is still a normal float32.
_FLOOR = 1e-20


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
        self._fit(users[used], items[used], weights[used].astype(np.float64))
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


class Popularity(Baseline):
    """Rank by the number of train events, or the sum of their weights."""

    _vectors: npt.NDArray[np.float32]

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """See `Baseline.item_vectors`."""
        return self._vectors

    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        counts = np.bincount(items, weights, minlength=self.n_items)
        self._vectors = counts[:, None].astype(np.float32)
        self._index = shortlist.Index(self._vectors, metric="dot")

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        return _search(self._index, np.ones((len(histories), 1)), excluded, top_n)


class ItemItem(Baseline):
    """A score is a weighted sum over the history: ``score(j) = Σ_i decay^age(i) · W_ij``.

    Age is 0 for the latest event; an item that comes again counts once, as its latest event. Items
    of which the history says nothing (score 0) follow those it speaks for, by popularity. With
    `with_trend` each score is raised by what is popular now.
    """

    decay = 1.0
    trend, trend_days = 0.0, 0.0
    weights: Any  # (n_items, n_items), sparse or dense
    _floor: Floats
    _trend: Floats

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

    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        self.weights = self._item_weights(users, items, weights)
        counts = np.bincount(items, weights, minlength=self.n_items)
        self._floor = _FLOOR * counts / max(counts.max(initial=0.0), 1.0)

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        # A user's vector is as long as the catalogue and nearly all zero: a sparse product.
        scores = _history_matrix(histories, self.n_items, self.decay) @ self.weights
        dense: Floats = scores.toarray() if sparse.issparse(scores) else scores
        dense = dense + self._trend
        return top_rows(np.where(dense == 0.0, self._floor, dense), excluded, top_n)

    @abstractmethod
    def _item_weights(self, users: Rows, items: Rows, weights: Floats) -> Any:
        """Compute W from events as for `_fit`."""


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
        _require(
            n_neighbours >= 1 and shrink >= 0,
            f"n_neighbours={n_neighbours}, shrink={shrink}",
            "n_neighbours ≥ 1 and shrink ≥ 0",
        )
        self.n_neighbours = n_neighbours
        self.shrink = shrink

    def _item_weights(self, users: Rows, items: Rows, weights: Floats) -> Any:
        seen = _user_item_matrix(users, items, weights, self.n_items)
        both = (seen.T @ seen).tocoo()
        count = both.diagonal()
        off = both.row != both.col
        i, j, together = both.row[off], both.col[off], both.data[off]
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
        _require(
            window >= 1 and 0 < decay_gap <= 1 and 0 < decay_age <= 1,
            f"window={window}, decay_gap={decay_gap}, decay_age={decay_age}",
            "window ≥ 1 and decays in (0, 1]",
        )
        self.window = window
        self.decay_gap = decay_gap
        self.decay = decay_age
        self.power = power

    def _item_weights(self, users: Rows, items: Rows, weights: Floats) -> Any:
        shape = (self.n_items, self.n_items)
        follows = sparse.csr_matrix(shape, dtype=np.float64)
        for gap in range(1, self.window + 1):
            same = users[gap:] == users[:-gap]
            i, j = items[:-gap][same], items[gap:][same]
            weight = self.decay_gap ** (gap - 1) * (weights[:-gap] * weights[gap:])[same]
            follows = follows + sparse.csr_matrix((weight, (i, j)), shape=shape)
        count = np.bincount(items, weights, minlength=self.n_items)
        count[count == 0] = 1.0
        return sparse.diags(1 / count) @ follows @ sparse.diags(count**-self.power)


class EASE(ItemItem):
    """Embarrassingly shallow autoencoder (Steck, WWW 2019): a linear item-item model, closed form.

    ``B = I − P / diag(P)`` with ``P = (XᵀX + l2 · I)⁻¹``; ``score = history · B``.

    Parameters
    ----------
    l2 : float
        Regularisation.
    max_items : int
        Refuse larger catalogues: memory is about 20 · n_items² bytes, time grows with n_items³.
    """

    def __init__(self, l2: float = 400.0, max_items: int = 20_000) -> None:
        _require(l2 > 0, f"l2={l2}", "l2 > 0")
        self.l2 = l2
        self.max_items = max_items

    def _item_weights(self, users: Rows, items: Rows, weights: Floats) -> Any:
        if self.n_items > self.max_items:
            raise DataError(
                f"EASE: got {self.n_items} items, expected at most max_items="
                f"{self.max_items}. Fix: use ItemKNN, or raise max_items if "
                f"{20 * self.n_items**2 / 2**30:.0f} GiB are there"
            )
        seen = _user_item_matrix(users, items, weights, self.n_items)
        gram = (seen.T @ seen).toarray()
        gram[np.diag_indices(self.n_items)] += self.l2
        return _ease_weights(gram)


def _ease_weights(gram: Floats) -> Floats:
    """Return ``I − P / diag(P)`` with ``P = gram⁻¹``, symmetric positive definite; in its place."""
    # Column-major and row-major are one for a symmetric matrix: LAPACK then copies nothing.
    factor, failed = lapack.dpotrf(gram.T, overwrite_a=1, clean=0)
    if not failed:
        inverse, failed = lapack.dpotri(factor, overwrite_c=1)
    if failed:
        raise DataError(
            "linear.ease_l2: the item-item matrix cannot be inverted in float64, expected a larger "
            "value; 100 and more are usual"
        )
    diagonal = inverse.diagonal().copy()
    weights: Floats = inverse.T  # the triangle that dpotri fills is the lower one here
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        weights[start:stop, start:stop] = np.tril(weights[start:stop, start:stop])
        block = weights[start:stop, start:stop]
        weights[start:stop, start:stop] = block + np.tril(block, -1).T
        weights[start:stop, stop:] = weights[stop:, start:stop].T
    weights /= -diagonal
    np.fill_diagonal(weights, 0.0)
    return weights


class ImplicitALS(Baseline):
    """Matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM 2008).

    Items are factorised with the library ``implicit``; a user's vector is solved from the history
    alone, ``(VᵀV + α V_hᵀ V_h + l2 · I)⁻¹ (1 + α) V_hᵀ 1``, so that any history can be ranked.

    Parameters
    ----------
    dim : int
        Length of the vectors.
    l2 : float
        Regularisation.
    alpha : float
        Confidence in an event is 1 + alpha × its weight.
    iterations : int
        Rounds of the alternation.
    seed : int
        Of the first vectors.
    """

    def __init__(
        self,
        dim: int = 64,
        l2: float = 0.05,
        alpha: float = 10.0,
        iterations: int = 15,
        seed: int = 1,
    ) -> None:
        _require(
            dim >= 1 and l2 > 0 and alpha > 0 and iterations >= 1,
            f"dim={dim}, l2={l2}, alpha={alpha}, iterations={iterations}",
            "dim and iterations ≥ 1, l2 and alpha > 0",
        )
        self.dim, self.l2, self.alpha = dim, l2, alpha
        self.iterations, self.seed = iterations, seed

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """See `Baseline.item_vectors`: the items' factors, so turned that ``VᵀV + l2 · I`` is I."""
        turned = np.linalg.solve(np.linalg.cholesky(self._gram), self._vectors.T)
        return turned.T.astype(np.float32)

    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        try:
            from implicit.cpu.als import AlternatingLeastSquares
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise DataError(
                f"implicit ALS: {error}; expected the libraries implicit and threadpoolctl. Fix: "
                "pip install 'shortlist[ials]', or use another model"
            ) from error
        seen = _user_item_matrix(users, items, weights, self.n_items)
        seen.data = 1.0 + self.alpha * seen.data  # the library takes confidences
        with threadpool_limits(1, "blas"):  # as the library asks for
            model = AlternatingLeastSquares(
                factors=self.dim,
                regularization=self.l2,
                iterations=self.iterations,
                num_threads=1,  # with more, sums depend on their order
                random_state=self.seed,
                dtype=np.float64,
            )
            model.fit(seen, show_progress=False)
        self._vectors = model.item_factors
        self._gram = self._vectors.T @ self._vectors + self.l2 * np.eye(self.dim)
        self._index = shortlist.Index(self._vectors.astype(np.float32), metric="dot")

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        queries = np.zeros((len(histories), self.dim))
        for user, rows in enumerate(histories):
            known = self._vectors[np.unique(rows)]
            wanted = (1.0 + self.alpha) * known.sum(axis=0)
            queries[user] = np.linalg.solve(self._gram + self.alpha * known.T @ known, wanted)
        return _search(self._index, queries, excluded, top_n)


def _require(good: bool, got: str, expected: str) -> None:
    if not good:
        raise DataError(f"baseline: got {got}, expected {expected}. Fix: use such values")


def _user_item_matrix(users: Rows, items: Rows, weights: Floats, n_items: int) -> Any:
    """Return the CSR matrix (n_users, n_items) of a user's largest weight with an item, else 0."""
    n_users = int(users[-1]) + 1 if len(users) else 0
    order = np.lexsort((-weights, items, users))
    key = users[order] * n_items + items[order]
    first = order[np.concatenate([[True], key[1:] != key[:-1]])] if len(order) else order
    entries = (weights[first], (users[first], items[first]))
    return sparse.csr_matrix(entries, shape=(n_users, n_items))


def _history_matrix(histories: list[Rows], n_items: int, decay: float = 1.0) -> Any:
    """Return the CSR matrix of decay^age (age 0 is the latest event); repeats keep the latest."""
    lengths = np.array([len(rows) for rows in histories], dtype=np.int64)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.concatenate([*histories, np.empty(0, np.int64)])
    users = np.repeat(np.arange(len(histories)), lengths)
    age = np.repeat(splits[1:], lengths) - 1 - np.arange(len(rows))
    order = np.lexsort((age, rows, users))
    key = users[order] * n_items + rows[order]
    first = order[np.concatenate([[True], key[1:] != key[:-1]])] if len(order) else order
    # Weights below 1e-12 of the latest cannot change a list worth showing.
    recent = first[age[first] * -np.log(decay) < 28] if decay < 1 else first
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


def _search(
    index: shortlist.Index, queries: npt.NDArray[np.floating], excluded: list[Rows], top_n: int
) -> Rows:
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
