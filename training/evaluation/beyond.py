"""What lists are like beside being right: varied, fair to items, true to a user's own mixture.

Of lists of k items, for n items in all:

=============  ==========================================================================
ILD@k          intra-list distance: mean of 1 − cos(v_i, v_j) over the pairs i ≠ j of a list,
               then over users (Ziegler et al., WWW 2005), v the item vectors of the bundle
Gini@k         Σ_j (2j − n − 1) x_j / ((n − 1) Σ x), x_1 ≤ … ≤ x_n how often each item stands in a
               list: 0 all alike, 1 one item takes all (Shani and Gunawardana, 2011)
KL column@k    calibration: Σ_g p_g · ln(p_g / q̃_g), averaged over users; p and q the shares of the
               values g of a column in the history and in the list, q̃ = 0.99 q + 0.01 p, an item's
               unit split evenly among its values (Steck, RecSys 2018); 0 is calibrated
=============  ==========================================================================

Coverage and novelty are in `metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from shortlist.training.evaluation.evaluate import Evaluation
    from shortlist.training.splits.parts import ItemLists

__all__ = ["BeyondAccuracy", "ColumnShares", "ItemColumn", "Share", "beyond_accuracy"]

_STECK_ALPHA = 0.01
_FLOATS_AT_ONCE = 1 << 22  # of vectors
_MOST_NUMBERS = 12  # different numbers that stand for themselves; more become four ranges
_SHOWN = 12  # values of a column, the rest is one row


@dataclass(frozen=True)
class Share:
    """What part of a whole the items of one value of a column are.

    Attributes
    ----------
    value : str
    n_items : int
        Items that have it.
    catalogue, histories : float
        Part of the items, and of the events of the users' histories.
    lists : dict of str to float
        Part of the places of each ranker's lists.
    """

    value: str
    n_items: int
    catalogue: float
    histories: float
    lists: dict[str, float]


@dataclass(frozen=True)
class ColumnShares:
    """The shares of the values of one column of the item table, most of the histories first."""

    column: str
    rows: tuple[Share, ...]


@dataclass(frozen=True)
class BeyondAccuracy:
    """What lists are like beside being right.

    Attributes
    ----------
    k : int
        Length of the lists.
    metrics : dict of str to dict
        Of each ranker: ILD, Gini, coverage, novelty, and the KL of each column.
    columns : tuple of ColumnShares
        Of the bundles.
    """

    k: int
    metrics: dict[str, dict[str, float]]
    columns: tuple[ColumnShares, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)


class ItemVectors(Protocol):
    """Where the vectors of items come from."""

    def of(self, rows: Rows) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return vectors (n, dim) of catalogue rows (n,), and which rows have one."""


class ItemColumn:
    """A column of the item table as weights of its values.

    Attributes
    ----------
    name : str
    values : list of str
    weights : sparse matrix of shape (n_items, n_values)
        How much of an item's unit each of its values has; a row of zeros where it has none.
    """

    def __init__(self, name: str, column: pl.Series) -> None:
        from scipy import sparse

        self.name = name
        lists = _as_lists(name, column)
        flat = pl.DataFrame({"row": np.arange(len(lists)), "value": lists}).explode("value")
        flat = flat.drop_nulls("value").unique(maintain_order=True)
        if flat.height == 0:
            raise DataError(
                f"by_column: {name!r} has no value in any row of the item table; leave it out"
            )
        self.values: list[str] = flat["value"].unique().sort().to_list()
        place = {value: code for code, value in enumerate(self.values)}
        codes = np.array([place[value] for value in flat["value"].to_list()], np.int64)
        rows = flat["row"].to_numpy()
        shape = (len(lists), len(self.values))
        n_values = np.bincount(rows, minlength=len(lists))
        self.weights: Any = sparse.csr_matrix((1.0 / n_values[rows], (rows, codes)), shape=shape)

    def of_lists(self, lists: Any) -> Any:
        """Return the mass (n_users, n_values) of each value in a matrix (n_users, n_items)."""
        return lists @ self.weights


def _as_lists(name: str, column: pl.Series) -> pl.Series:
    """Write each item's values as a list of texts; null or an empty list where it has none."""
    kind = column.dtype
    if isinstance(kind, pl.List | pl.Array):
        if kind.inner is not None and kind.inner.is_float():
            raise DataError(
                f"by_column: {name!r} is a column of vectors, expected one of categories, tags, "
                "text or numbers"
            )
        return column.cast(pl.List(pl.String))
    if kind in (pl.Date, pl.Datetime):
        column = column.dt.year()
    if column.dtype.is_numeric() and column.n_unique() > _MOST_NUMBERS:
        column = _ranges(column)
    texts = column.cast(pl.String)
    return texts.to_frame("value").select(pl.concat_list("value")).to_series()


def _ranges(numbers: pl.Series) -> pl.Series:
    """Write numbers as the quarter of the items that they lie in."""
    values = numbers.cast(pl.Float64).fill_nan(None)
    ends = [values.quantile(part, "lower") for part in (0.25, 0.5, 0.75)]
    edges = sorted({end for end in ends if end is not None})
    between = [f"> {low:g}, ≤ {high:g}" for low, high in pairwise(edges)]
    labels = [f"≤ {edges[0]:g}", *between, f"> {edges[-1]:g}"]
    place = np.searchsorted(np.array(edges), values.fill_null(0.0).to_numpy(), side="left")
    return pl.Series(numbers.name, np.array(labels)[place]).set(values.is_null(), None)


def beyond_accuracy(
    evaluations: Mapping[str, Evaluation],
    accuracy: Mapping[str, Mapping[str, float]],
    bundles: Sequence[str],
    histories: ItemLists,
    vectors: ItemVectors,
    columns: Sequence[ItemColumn] = (),
) -> BeyondAccuracy:
    """Measure the lists of all rankers at the first cut-off.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        All of the same users.
    accuracy : mapping of str to mapping
        Their metrics: coverage and novelty are among them.
    bundles : sequence of str
        Those whose shares of columns are of interest.
    histories : ItemLists
        Of those users and perhaps of others.
    vectors : ItemVectors
    columns : sequence of ItemColumn
        Row r of each is the catalogue's row r.
    """
    first = next(iter(evaluations.values()))
    k = first.ks[0]
    known = _matrix(*_events_of(histories, first.user_ids), len(first.user_ids), histories)
    masses = [column.of_lists(known) for column in columns]
    metrics: dict[str, dict[str, float]] = {}
    shown: dict[str, list[Any]] = {}
    for name, evaluation in evaluations.items():
        ranked = evaluation.ranked_rows[:, :k]
        rows = np.append(evaluation.item_rows, -1)[ranked]
        own = {
            f"ILD@{k}": _mean(_distances(rows, vectors)),
            f"Gini@{k}": _gini(ranked, len(evaluation.item_rows)),
            f"coverage@{k}": accuracy[name][f"coverage@{k}"],
            f"novelty@{k}": accuracy[name][f"novelty@{k}"],
        }
        users, places = np.nonzero(rows >= 0)
        lists = _matrix(users, rows[users, places], len(rows), histories)
        of_lists = [column.of_lists(lists) for column in columns]
        for column, before, after in zip(columns, masses, of_lists, strict=True):
            own[f"KL {column.name}@{k}"] = _mean(_divergences(before, after))
        metrics[name] = {metric: value for metric, value in own.items() if np.isfinite(value)}
        if name in bundles:
            shown[name] = [(mass, lists.sum()) for mass in of_lists]
    shares = []
    for i, column in enumerate(columns):
        lists_of = {name: pairs[i] for name, pairs in shown.items()}
        shares.append(_shares(column, (masses[i], known.sum()), lists_of, first.item_rows))
    return BeyondAccuracy(k, metrics, tuple(shares))


def _events_of(histories: ItemLists, user_ids: npt.NDArray[Any]) -> tuple[Rows, Rows]:
    """Return (user number, item row) of each event of some users' histories."""
    is_chosen = np.isin(histories.user_ids, user_ids)
    lengths = histories.lengths
    rows = histories.rows[np.repeat(is_chosen, lengths)]
    return np.repeat(np.arange(int(is_chosen.sum())), lengths[is_chosen]), rows


def _matrix(users: Rows, rows: Rows, n_users: int, histories: ItemLists) -> Any:
    """Return how often each user has each item: sparse (n_users, n_items)."""
    from scipy import sparse

    shape = (n_users, len(histories.catalogue))
    return sparse.csr_matrix((np.ones(len(rows)), (users, rows)), shape=shape)


def _mean(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _distances(rows: Rows, vectors: ItemVectors) -> Floats:
    """Return the intra-list distance of each list (n_users,), NaN below two vectors.

    The cosines of all pairs are the squared length of the sum of the unit vectors, less their own.
    """
    n_users, k = rows.shape
    out = np.full(n_users, np.nan)
    dim = vectors.of(rows[:1, :1].ravel())[0].shape[1]
    at_once = max(1, _FLOATS_AT_ONCE // (k * dim))
    for start in range(0, n_users, at_once):
        block = rows[start : start + at_once]
        values, is_there = vectors.of(block.ravel())
        length = np.linalg.norm(values, axis=1)
        is_unit = is_there & (length > 0)
        units = values * np.divide(1.0, length, out=np.zeros_like(length), where=is_unit)[:, None]
        total = units.reshape(len(block), k, dim).sum(axis=1, dtype=np.float64)
        n = is_there.reshape(block.shape).sum(axis=1)
        cosines = (total**2).sum(axis=1) - is_unit.reshape(block.shape).sum(axis=1)
        pairs = n * (n - 1)
        distance = 1.0 - cosines / np.maximum(pairs, 1)
        out[start : start + at_once] = np.where(pairs > 0, np.clip(distance, 0.0, 2.0), np.nan)
    return out


def _gini(ranked: Rows, n_items: int) -> float:
    shown = np.sort(np.bincount(ranked[ranked >= 0], minlength=n_items)).astype(np.float64)
    if n_items < 2 or shown[-1] == 0.0:
        return 0.0
    place = np.arange(1, n_items + 1)
    return float(((2 * place - n_items - 1) * shown).sum() / ((n_items - 1) * shown.sum()))


def _divergences(before: Any, after: Any) -> Floats:
    """Return Steck's KL of each user (n_users,), NaN for histories without a value."""
    total = np.asarray(before.sum(axis=1)).ravel()
    places = np.asarray(after.sum(axis=1)).ravel()
    held = before.tocoo()
    if held.nnz == 0:
        return np.full(len(total), np.nan)
    p = held.data / total[held.row]
    q = np.asarray(after[held.row, held.col]).ravel() / np.maximum(places[held.row], 1e-12)
    terms = p * np.log(p / ((1 - _STECK_ALPHA) * q + _STECK_ALPHA * p))
    sums = np.bincount(held.row, terms, minlength=len(total))
    return np.where(total > 0, sums, np.nan)


def _shares(
    column: ItemColumn,
    history: tuple[Any, float],
    lists: Mapping[str, tuple[Any, float]],
    item_rows: Rows,
) -> ColumnShares:
    """Sum masses up; what is left of each whole belongs to items without a value."""

    def parts(mass: Any, whole: float) -> Floats:
        sums = np.asarray(mass.sum(axis=0)).ravel() / max(whole, 1e-12)
        order = np.append(sums[first], [sums[rest].sum()])
        return np.append(order, max(0.0, 1.0 - sums.sum()))

    weights = column.weights[item_rows]
    by_history = np.asarray(history[0].sum(axis=0)).ravel()
    order = np.argsort(-by_history, kind="stable")
    first, rest = order[:_SHOWN], order[_SHOWN:]
    n_items = np.asarray((weights > 0).sum(axis=0)).ravel()
    none = int((np.asarray(weights.sum(axis=1)).ravel() == 0).sum())
    n_rest = int((np.asarray(weights[:, rest].sum(axis=1)).ravel() > 0).sum()) if len(rest) else 0
    names = [column.values[i] for i in first] + [f"({len(rest):,} other values)", "(no value)"]
    counts = [*n_items[first].tolist(), n_rest, none]
    catalogue, histories = parts(weights, float(len(item_rows))), parts(*history)
    by_ranker = {name: parts(*pair) for name, pair in lists.items()}
    rows = []
    for i, (name, n) in enumerate(zip(names, counts, strict=True)):
        if n:
            own = {ranker: float(values[i]) for ranker, values in by_ranker.items()}
            rows.append(Share(name, n, float(catalogue[i]), float(histories[i]), own))
    return ColumnShares(column.name, tuple(rows))
