"""What `Engine.similar` does: items like an item, by vectors, by what followed it, or by both."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shortlist import _checks
from shortlist._catalogue.filters import Filters, RowFilters, rows_of
from shortlist._catalogue.state import Catalogue
from shortlist._columns.ragged import Ragged
from shortlist._columns.reading import Array, id_column
from shortlist._serving.loaded_bundle import LoadedBundle, check_many
from shortlist.errors import DataError
from shortlist.recommendations import ITEM, Recommendations

WAYS = ("vectors", "followers", "mix")


class AskedItems(NamedTuple):
    """What was asked for, counted, as `Recommendations` tells of requests."""

    user_ids: Array
    n_given: Array
    n_known: Array


class Found(NamedTuple):
    """Rows (n, top_n), −1 at missing places, their scores and how many are real."""

    rows: Array
    scores: Array
    counts: Array


def check_way(by: Any) -> str:
    """Return how items are compared."""
    if not isinstance(by, str) or by not in WAYS:
        raise ValueError(f"by: got {by!r:.60}, expected one of {', '.join(WAYS)}")
    return by


def read_item_ids(item_ids: Any, loaded: LoadedBundle, state: Catalogue) -> Array:
    """Return the rows of item ids in one state of the items.

    Raises
    ------
    TypeError, DataError
        They are no list of the bundle's ids, or one is no item of the catalogue now.
    """
    check_many(item_ids)
    ids = id_column("item_ids", item_ids, loaded.item_id_dtype)
    rows = state.rows_of(ids)
    if len(rows) and rows.min() < 0:
        entry = int(np.argmin(rows))
        raise DataError(
            f"item_ids: entry {entry} is {_plain(ids[entry])!r:.60}, which is no item of the "
            "catalogue now"
        )
    return rows


def _plain(item_id: Any) -> Any:
    return item_id.item() if isinstance(item_id, np.generic) else item_id


def similar(
    loaded: LoadedBundle,
    state: Catalogue,
    rows: Array,
    top_n: int,
    filters: Filters,
    by: str,
    n_threads: int,
) -> Recommendations:
    """Find items like those of checked rows, from the state of the items that they are of."""
    _checks.check_answer_size(len(rows), top_n, state.view.n_rows)
    filtered = _without_own(rows_of(filters, len(rows), state), rows)
    if by == "followers":
        found = _by_followers(loaded, state, rows, top_n, filtered)
    else:
        found = _by_vectors(state, rows, top_n, filtered, n_threads)
    if by == "mix":
        found = _mixed(loaded, state, rows, found, filtered)
    n = len(rows)
    ones = np.ones(n, dtype=np.int64)
    return Recommendations(
        state.ids[found.rows],
        found.scores,
        found.counts,
        found.rows,
        np.full(n, ITEM),
        ones.astype(np.int8),
        state.items,
        AskedItems(np.full(n, None, dtype=object), ones, ones),
        loaded.number,
    )


def _without_own(filtered: RowFilters, rows: Array) -> RowFilters:
    """Leave out the items themselves."""
    own = Ragged(rows, np.arange(len(rows) + 1))
    if filtered.exclude is None:
        return filtered._replace(exclude=own)
    pairs = zip(filtered.exclude.lists(), own.lists(), strict=True)
    return filtered._replace(
        exclude=Ragged.of_lists([np.concatenate(pair) for pair in pairs], np.int64)
    )


def _by_vectors(
    state: Catalogue, rows: Array, top_n: int, filtered: RowFilters, n_threads: int
) -> Found:
    """Search with the items' own vectors."""
    vectors = state.view.vectors(rows)
    is_none = ~vectors.any(axis=1)
    if is_none.any():
        entry = int(np.argmax(is_none))
        item_id = _plain(state.ids[rows[entry]])
        raise DataError(
            f"item_ids: entry {entry} is {item_id!r:.60}, an item without a vector: nothing is "
            "known of its content; expected by='followers', or its features by upsert_items"
        )
    return search_by_vectors(state, vectors, top_n, filtered, n_threads)


def search_by_vectors(
    state: Catalogue, vectors: Array, top_n: int, filtered: RowFilters, n_threads: int
) -> Found:
    """Search with vectors (n, dim), once for each different mask."""
    n, (masks, numbers) = len(vectors), filtered.masks
    if numbers is None:
        numbers = np.zeros(n, dtype=np.int64)
    found = Found(
        np.empty((n, top_n), dtype=np.int64),
        np.empty((n, top_n), dtype=np.float32),
        np.empty(n, dtype=np.int64),
    )
    for number, mask in enumerate(masks or [None]):
        chosen = np.flatnonzero(numbers == number)
        exclude, allow = (
            None if lists is None else lists.take(chosen)
            for lists in (filtered.exclude, filtered.allow)
        )
        scores, rows_found, counts, _ = state.view.search(
            vectors[chosen], top_n, exclude, allow, None, mask, n_threads
        )
        found.rows[chosen], found.scores[chosen], found.counts[chosen] = rows_found, scores, counts
    return found


def _allowed(rows: Array, i: int, filtered: RowFilters) -> Array:
    """Say of rows (m,) whether request i may get them."""
    assert filtered.exclude is not None
    is_allowed = ~np.isin(rows, filtered.exclude.list_of(i))
    if filtered.allow is not None:
        is_allowed &= np.isin(rows, filtered.allow.list_of(i))
    masks, numbers = filtered.masks
    if masks:
        mask = masks[0 if numbers is None else int(numbers[i])]
        if mask is not None:
            is_allowed &= mask[rows]
    return is_allowed


def _by_followers(
    loaded: LoadedBundle, state: Catalogue, rows: Array, top_n: int, filtered: RowFilters
) -> Found:
    table = loaded.followers()
    lists = []
    for i, row in enumerate(rows.tolist()):
        now, shares = table.of(row, state)
        is_allowed = _allowed(now, i, filtered)
        lists.append((now[is_allowed], shares[is_allowed]))
    return _best(lists, top_n)


def _mixed(
    loaded: LoadedBundle, state: Catalogue, rows: Array, near: Found, filtered: RowFilters
) -> Found:
    """Add half of an item's share to half of its similarity.

    The best of the sum are among the nearest and the followers: whatever is neither is less near
    than all of the nearest, and has no share.
    """
    table, top_n = loaded.followers(), near.rows.shape[1]
    lists = []
    for i, row in enumerate(rows.tolist()):
        now, shares = table.of(row, state)
        is_allowed = _allowed(now, i, filtered)
        share_of = dict(zip(now[is_allowed].tolist(), shares[is_allowed].tolist(), strict=True))
        nearest = near.rows[i, : near.counts[i]].tolist()
        both = np.array(sorted({*nearest, *share_of}), dtype=np.int64)
        similarity = _similarities(state, row, both)
        share = np.array([share_of.get(one, 0.0) for one in both.tolist()])
        lists.append((both, (0.5 * similarity + 0.5 * share).astype(np.float32)))
    return _best(lists, top_n)


def _similarities(state: Catalogue, row: int, rows: Array) -> Array:
    """Return the index's scores of given items (m,) for one item's vector."""
    if len(rows) == 0:
        return np.empty(0)
    allow = (rows, np.array([0, len(rows)]))
    query = state.view.vectors(np.array([row]))
    scores, found, _, _ = state.view.search(query, len(rows), None, allow, None, None, 1)
    order = np.argsort(found[0])
    similarities: Array = scores[0][order].astype(np.float64)
    return similarities


def _best(lists: list[tuple[Array, Array]], top_n: int) -> Found:
    """Put rows and scores into order: score descending, ties by the lower row."""
    n = len(lists)
    found = Found(
        np.full((n, top_n), -1, dtype=np.int64),
        np.full((n, top_n), -np.inf, dtype=np.float32),
        np.zeros(n, dtype=np.int64),
    )
    for i, (rows, scores) in enumerate(lists):
        order = np.lexsort((rows, -scores))[:top_n]
        found.rows[i, : len(order)] = rows[order]
        found.scores[i, : len(order)] = scores[order]
        found.counts[i] = len(order)
    return found
