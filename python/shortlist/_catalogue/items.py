"""The item table: what each item row is called, how popular it is, which filters it passes."""

from typing import Any, Self

import numpy as np

from shortlist._catalogue.groups import Groups, read_groups
from shortlist._catalogue.where import evaluate, is_same
from shortlist._columns.calibration import terms_of
from shortlist._columns.reading import Array, to_array
from shortlist._forks import ForkLock
from shortlist.bundle.fields import problem
from shortlist.bundle.tables import MappedFile, read_table

_MASKS_KEPT = 32
_CHUNKS_KEPT = 32  # updates before the table is copied into one piece


class ItemTable:
    """items.arrow and what was upserted since: item row r describes the index's row r.

    One object is one state and never changes; `updated` makes the next one. New rows go to the end
    of the stored table, so an update copies no old row.

    Parameters
    ----------
    file : MappedFile
        items.arrow, from `map_file`; read at the first question, which may come after the engine
        was closed or swapped: answers look their titles up here.
    item_ids : ndarray of shape (n_items,), int64 or str
        The index's ids; the table must have the same in the same order.
    """

    def __init__(self, file: MappedFile, item_ids: Array) -> None:
        self._file = file
        self._item_ids = item_ids
        self._lock = ForkLock()
        self._stored: Any = None
        self._slots: Array | None = None  # stored row of each item row, −1: none; None: the same
        self._titles: Array | None = None
        self._masks: list[tuple[Any, Array]] = []
        self._groups: dict[str, Groups] = {}
        self._terms: Array | None = None

    @property
    def stored(self) -> Any:
        """The pyarrow Table as it is stored; `table` is the one in the order of item rows."""
        with self._lock:
            if self._stored is None:
                n_items = len(self._item_ids)
                kind = "string" if self._item_ids.dtype.kind == "O" else "int64"
                columns = {"item_id": kind, "n_events": "int64"}
                table = read_table(self._file, n_items, columns)
                ids = to_array(table.column("item_id"))
                if not np.array_equal(ids.astype(self._item_ids.dtype), self._item_ids):
                    raise problem(self._file.name, "the item ids of items.index", "other ids")
                self._stored = table
            return self._stored

    @property
    def slots(self) -> Array:
        """Row of the stored table for each item row (n_rows,), −1 where an item was removed."""
        return np.arange(self.stored.num_rows) if self._slots is None else self._slots

    @property
    def table(self) -> Any:
        """The pyarrow Table: `item_id`, `n_events`, `title` if there are titles, features.

        Row r is item row r; the row of a removed item is null.
        """
        return self.stored if self._slots is None else self.take(np.arange(len(self._slots)))

    def take(self, rows: Array) -> Any:
        """Return the table of some item rows; −1 gives nulls."""
        import pyarrow as pa

        slots = self._stored_rows(rows)
        return self.stored.take(pa.array(slots, mask=slots < 0))

    def titles(self, rows: Array) -> Array:
        """Return titles (object, None where unknown) of item rows of any shape; −1 gives ""."""
        if self._titles is None:
            self._titles = np.append(_titles(self.stored), "")
        titles: Array = self._titles[self._stored_rows(rows)]
        return titles

    def mask(self, where: Any) -> Array:
        """Evaluate a pyarrow or polars expression on the table: bool (n_rows,), cached.

        Raises
        ------
        TypeError, DataError
            As `where.evaluate`.
        """
        for known, mask in tuple(self._masks):
            if is_same(known, where):
                return mask
        mask = evaluate(where, self.stored)
        if self._slots is not None:
            mask = np.append(mask, False)[self._slots]
        mask.flags.writeable = False
        with self._lock:
            self._masks = [*self._masks[-(_MASKS_KEPT - 1) :], (where, mask)]
        return mask

    def groups(self, name: str, argument: str = "at_most") -> Groups:
        """Return the values of a column as numbers, by item row; cached.

        Messages call it by its `argument`.

        Raises
        ------
        DataError
            As `groups.read_groups`.
        """
        known = self._groups.get(name)
        if known is None:
            known = read_groups(self.table, name, argument)
            with self._lock:
                self._groups = {**self._groups, name: known}
        return known

    def popularity_terms(self) -> Array:
        """Return ln(1 + popularity) by item row (n_rows,), float64; cached."""
        if self._terms is None:
            self._terms = terms_of(popularity_of(self.table))
        return self._terms

    def updated(self, slots: Array, new: Any = None) -> Self:
        """Make the table of the next state.

        Parameters
        ----------
        slots : ndarray of shape (n_rows,), int64
            Row of the stored table (`new` behind the present one) for each item row, −1: none.
        new : pyarrow.Table, optional
            Rows with the columns of the present ones.
        """
        import pyarrow as pa

        items = type(self)(self._file, self._item_ids)
        stored, titles = self.stored, self._titles
        if new is not None:
            stored = pa.concat_tables([stored, new])
            if titles is not None:
                titles = np.concatenate([titles[:-1], _titles(new), titles[-1:]])
        if stored.column(0).num_chunks > _CHUNKS_KEPT:
            is_used = slots >= 0  # leave out rows that were replaced or removed
            stored = stored.take(pa.array(slots[is_used])).combine_chunks()
            slots = np.where(is_used, np.cumsum(is_used) - 1, -1)
            titles = None
        items._stored, items._slots, items._titles = stored, slots, titles
        return items

    def _stored_rows(self, rows: Array) -> Array:
        if self._slots is None:
            return rows
        slots: Array = np.append(self._slots, -1)[rows]
        return slots


def popularity_of(table: Any) -> Array:
    """Return scores (n_rows,), float32, of rows of items.arrow for requests without a history."""
    name = "popular_score" if "popular_score" in table.column_names else "n_events"
    scores = to_array(table.column(name)).astype(np.float32)
    return np.where(np.isnan(scores), np.float32(0), scores)  # of items that came later


def _titles(table: Any) -> Array:
    if "title" in table.column_names:
        return to_array(table.column("title")).astype(object)
    return np.full(table.num_rows, None, dtype=object)
