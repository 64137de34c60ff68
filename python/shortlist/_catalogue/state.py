"""The items at one moment, and how the next moment is made from it: upsert and remove."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from shortlist import _core
from shortlist._catalogue.items import ItemTable
from shortlist._columns.reading import Array
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
    core : _core.Catalogue
        What the compiled engine reads.
    view : IndexView
        The index at that moment.
    items : ItemTable
        The item table in the order of the view's rows.
    ids : ndarray of shape (n_rows + 1,), int64 or object
        Item ids by row; the last entry, for row −1, is −1 or "".
    """

    core: _core.Catalogue
    view: _core.IndexView
    items: ItemTable
    ids: Array

    def rows_of(self, item_ids: Array) -> Array:
        """Return the rows of checked ids (n,), −1 where unknown."""
        if self.view.has_string_ids:
            return self.view.rows_of_strings([str(item_id) for item_id in item_ids])
        return self.view.rows_of_int64(np.ascontiguousarray(item_ids, dtype=np.int64))


def first_catalogue(core: _core.Catalogue, items: ItemTable, item_ids: Array) -> Catalogue:
    """Return the state of a bundle as it was loaded; `item_ids` are the index's."""
    is_text = item_ids.dtype.kind == "O"
    end: Any = np.array([""], dtype=object) if is_text else -1
    return Catalogue(core, core.view, items, np.append(item_ids, end))


def upserted(
    state: Catalogue,
    index: Index,
    core: _core.LoadedBundle,
    item_ids: Array,
    new: Any,
    changed: Array,
    vectors: Array,
    popularity: Array,
) -> Catalogue:
    """Put items into the index and return the next state.

    Parameters
    ----------
    state : Catalogue
        The present one.
    index : Index
    core : _core.LoadedBundle
        Its index is changed.
    item_ids : ndarray of shape (n,), int64 or object
        Unique ids.
    new : pyarrow.Table
        Their rows of the item table.
    changed : ndarray of shape (n,), bool
        Items whose vectors are new.
    vectors : ndarray of shape (n_changed, dim), float32
    popularity : ndarray of shape (n,), float32
        Scores for requests of which nothing is known.
    """
    _check_own(state, index)
    next_core = core.upsert(
        _as_ids(state, item_ids[changed]), vectors, _as_ids(state, item_ids), popularity
    )
    before, n_new = len(state.ids) - 1, int((state.rows_of(item_ids) < 0).sum())
    slots = np.append(state.items.slots, np.full(n_new, -1))
    ids = np.append(state.ids[:-1], np.repeat(state.ids[-1:], n_new))
    rows = state.rows_of(item_ids)
    rows[rows < 0] = before + np.arange(n_new)  # the index numbers new items in the call's order
    slots[rows] = state.items.stored.num_rows + np.arange(len(rows))
    ids[rows] = item_ids
    return _next(state, next_core, slots, ids, new)


def removed(state: Catalogue, index: Index, core: _core.LoadedBundle, item_ids: Array) -> Catalogue:
    """Take known items out of the index and return the next state."""
    _check_own(state, index)
    rows = state.rows_of(item_ids)
    next_core = core.remove(_as_ids(state, item_ids))
    slots, ids = state.items.slots.copy(), state.ids[:-1].copy()
    slots[rows], ids[rows] = -1, state.ids[-1]
    return _next(state, next_core, slots, ids, None)


def _next(
    state: Catalogue,
    core: _core.Catalogue,
    slots: Array,
    ids: Array,
    new: Any,
) -> Catalogue:
    view = core.view
    if view.n_rows < len(slots):  # the index has closed its gaps, in the same order
        is_used = slots >= 0
        slots, ids = slots[is_used], ids[is_used]
    items = state.items.updated(slots, new)
    return Catalogue(core, view, items, np.append(ids, state.ids[-1:]))


def _as_ids(state: Catalogue, item_ids: Array) -> Any:
    return [str(i) for i in item_ids] if state.view.has_string_ids else item_ids.astype(np.int64)


def _check_own(state: Catalogue, index: Index) -> None:
    if index._core.view().generation != state.view.generation:
        raise ShortlistError(
            "engine: its index was changed directly, so rows and item table no longer fit; change "
            "items only by Engine.upsert_items and remove_items, and load the bundle again now"
        )
