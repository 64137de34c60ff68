"""The items at one moment, and how the next moment is made from it: upsert and remove."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from shortlist import _core
from shortlist._columns import Array
from shortlist._items import ItemTable
from shortlist.errors import ShortlistError
from shortlist.index import Index


class Upserted(NamedTuple):
    """What `Engine.upsert_items` did.

    Attributes
    ----------
    n_added, n_updated : int
        Items that are new, and items that were known.
    n_unknown : int
        Added items of whose content nothing is known: their similarity to everyone is 0.
    """

    n_added: int
    n_updated: int
    n_unknown: int


@dataclass(frozen=True)
class Catalogue:
    """One state of the items; whoever reads it sees all of an update or nothing.

    Attributes
    ----------
    view : IndexView
        The index at that moment.
    items : ItemTable
        The item table in the order of the view's rows.
    codes : ndarray of shape (n_rows + 1,), int64
        What the bundle's graphs know each row as: 1.. in the order of the bundle's items, 0 for
        an item that came later; the last entry, for row −1, is 0.
    ids : ndarray of shape (n_rows + 1,), int64 or object
        Item ids by row; the last entry, for row −1, is −1 or "".
    """

    view: _core.IndexView
    items: ItemTable
    codes: Array
    ids: Array

    def rows_of(self, item_ids: Array) -> Array:
        """Return the rows of checked ids (n,), −1 where unknown."""
        if self.view.has_string_ids:
            return self.view.rows_of_strings([str(item_id) for item_id in item_ids])
        return self.view.rows_of_int64(np.ascontiguousarray(item_ids, dtype=np.int64))


def first_catalogue(index: Index, items: ItemTable) -> Catalogue:
    """Return the state of a bundle as it was loaded."""
    ids = index.item_ids
    is_text = ids.dtype.kind == "O"
    codes = np.append(np.arange(1, len(ids) + 1), 0)
    ends = np.append(ids, np.array([""], dtype=object)) if is_text else np.append(ids, -1)
    return Catalogue(index._core.view(), items, codes, ends)


def upserted(
    state: Catalogue, index: Index, item_ids: Array, new: Any, changed: Array, vectors: Array
) -> Catalogue:
    """Put items into the index and return the next state.

    Parameters
    ----------
    state : Catalogue
        The present one.
    index : Index
        Changed in place.
    item_ids : ndarray of shape (n,), int64 or object
        Unique ids.
    new : pyarrow.Table
        Their rows of the item table.
    changed : ndarray of shape (n,), bool
        Items whose vectors are new.
    vectors : ndarray of shape (n_changed, dim), float32
    """
    _check_own(state, index)
    if changed.any():
        index.upsert(_as_ids(state, item_ids[changed]), vectors)
    view = index._core.view()
    before, n_new = len(state.codes) - 1, int((state.rows_of(item_ids) < 0).sum())
    places = np.append(state.items.places, np.full(n_new, -1))
    codes = np.append(state.codes[:-1], np.zeros(n_new, dtype=np.int64))
    ids = np.append(state.ids[:-1], np.repeat(state.ids[-1:], n_new))
    rows = state.rows_of(item_ids)
    rows[rows < 0] = before + np.arange(n_new)  # the index numbers new items in the call's order
    places[rows] = state.items.stored.num_rows + np.arange(len(rows))
    ids[rows] = item_ids
    return _next(state, view, places, codes, ids, new)


def removed(state: Catalogue, index: Index, item_ids: Array) -> Catalogue:
    """Take known items out of the index and return the next state."""
    _check_own(state, index)
    rows = state.rows_of(item_ids)
    index.remove(_as_ids(state, item_ids))
    places, codes, ids = state.items.places.copy(), state.codes[:-1].copy(), state.ids[:-1].copy()
    places[rows], codes[rows], ids[rows] = -1, 0, state.ids[-1]
    return _next(state, index._core.view(), places, codes, ids, None)


def _next(
    state: Catalogue,
    view: _core.IndexView,
    places: Array,
    codes: Array,
    ids: Array,
    new: Any,
) -> Catalogue:
    if view.n_rows < len(places):  # the index has closed its gaps, in the same order
        kept = places >= 0
        places, codes, ids = places[kept], codes[kept], ids[kept]
    items = state.items.updated(places, new)
    return Catalogue(view, items, np.append(codes, 0), np.append(ids, state.ids[-1:]))


def _as_ids(state: Catalogue, item_ids: Array) -> Any:
    return [str(i) for i in item_ids] if state.view.has_string_ids else item_ids.astype(np.int64)


def _check_own(state: Catalogue, index: Index) -> None:
    if index._core.view().version != state.view.version:
        raise ShortlistError(
            "engine: its index was changed directly, so rows and item table no longer fit; change "
            "items only by Engine.upsert_items and remove_items, and load the bundle again now"
        )
