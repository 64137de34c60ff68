"""The bundle's Arrow tables, and the one of users: histories and features by user id.

Tables are memory-mapped, read at the first question and checked once; pyarrow is imported then.
"""

import mmap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shortlist._columns import Array, to_array
from shortlist._manifest import problem
from shortlist.requests import FeatureColumn

# What users.arrow holds for each event feature; ages change with the clock, so times are stored.
_STORED = {
    "history_kinds": ("history_kinds", "list<item: string>"),
    "history_ages": ("history_times", "list<item: int64>"),
}


class MappedFile(NamedTuple):
    """A file in memory that stays readable when its bundle is closed, moved or deleted."""

    name: str
    data: mmap.mmap


def map_file(path: Path) -> MappedFile:
    """Map an Arrow file into memory.

    Raises
    ------
    BundleError
        It cannot be mapped: nothing there, or empty.
    """
    try:
        with path.open("rb") as file:
            return MappedFile(path.name, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise problem(path.name, "an Arrow IPC file", f"{error}") from error


def read_table(file: MappedFile, n_rows: int, columns: dict[str, str]) -> Any:
    """Read an Arrow IPC file and check every buffer, its row count and its columns' types.

    Raises
    ------
    BundleError
        Not an Arrow file, damaged, a column missing, of another type or with nulls, or another
        number of rows.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.py_buffer(file.data)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise problem(file.name, "an Arrow IPC file", f"{error}") from error
    if table.num_rows != n_rows:
        raise problem(file.name, f"{n_rows:,} rows", f"{table.num_rows:,}")
    for name, kind in columns.items():
        if name not in table.column_names:
            raise problem(file.name, f"a column {name!r}", ", ".join(table.column_names))
        column = table.column(name)
        if str(column.type) != kind or column.null_count:
            found = f"{column.type} with {column.null_count} nulls"
            raise problem(file.name, f"column {name!r} to be {kind} without nulls", found)
    return table


class UserTable:
    """users.arrow: stored histories and features by user id.

    Parameters
    ----------
    file : MappedFile
        From `map_file`, read at the first question; integer ids are in ascending order.
    n_users : int
        Rows it must have.
    user_id_dtype, item_id_dtype : str
        "int64" or "string".
    event_columns : sequence of str
        Of `history_kinds` and `history_ages` those that are stored too.
    """

    def __init__(
        self,
        file: MappedFile,
        n_users: int,
        user_id_dtype: str,
        item_id_dtype: str,
        event_columns: Sequence[str] = (),
    ) -> None:
        self._file = file
        self._n_users = n_users
        self._columns = {"user_id": user_id_dtype, "history": f"list<item: {item_id_dtype}>"}
        self._event_columns = {name: _STORED[name] for name in event_columns}
        self._columns |= dict(self._event_columns.values())
        self._told: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._loaded = False
        self._table: Any = None
        self._int_ids: Array | None = None
        self._text_rows: dict[str, int] = {}
        self._offsets: Array = np.zeros(1, dtype=np.int64)
        self._events: Any = None
        self._features: dict[str, Array] = {}

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            table = read_table(self._file, self._n_users, self._columns).combine_chunks()
            ids = to_array(table.column("user_id"))
            if ids.dtype.kind == "i":
                if (np.diff(ids) <= 0).any():
                    raise problem(self._file.name, "user ids in ascending order", "another order")
                self._int_ids = ids
            else:
                self._text_rows = {name: row for row, name in enumerate(ids.tolist())}
            history = table.column("history")
            chunk = history.chunk(0) if history.num_chunks else None
            if chunk is not None:
                self._offsets = to_array(chunk.offsets).astype(np.int64)
                self._events = chunk.values
                for name, (column, _) in self._event_columns.items():
                    told = table.column(column).chunk(0)
                    if not np.array_equal(to_array(told.offsets), self._offsets):
                        expected = f"{column} entry by entry like history"
                        raise problem(self._file.name, expected, "other lengths")
                    self._told[name] = told.values
            self._table = table
            self._loaded = True

    def rows_of(self, user_ids: Array) -> Array:
        """Return the row of every user id (n,) int64, −1 where unknown."""
        self._load()
        if self._int_ids is None:
            rows = self._text_rows
            return np.array([rows.get(name, -1) for name in user_ids], dtype=np.int64)
        if not len(self._int_ids):
            return np.full(len(user_ids), -1, dtype=np.int64)
        places = np.searchsorted(self._int_ids, user_ids)
        places[places == len(self._int_ids)] = 0
        return np.where(self._int_ids[places] == user_ids, places, -1)

    def history(self, row: int) -> Array:
        """Return the stored item ids of one user, oldest first: (n_events,) int64 or object."""
        self._load()
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        return to_array(self._events.slice(start, stop - start))

    def events(self, name: str, row: int) -> Array:
        """Return one user's `history_kinds` (object), or `history_ages` before the newest event."""
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        values = to_array(self._told[name].slice(start, stop - start))
        if name == "history_kinds":
            return values
        ages: Array = (values[-1:] - values).astype(np.float32)
        return ages

    def times(self, row: int) -> Array:
        """Return the times of one user's stored events (n_events,), seconds since 1970."""
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        return to_array(self._told["history_ages"].slice(start, stop - start))

    def feature(self, feature: FeatureColumn, rows: Array) -> Array:
        """Return a feature's stored values for user rows, as the graph takes them; −1: missing."""
        self._load()
        values = self._features.get(feature.name)
        if values is None:
            if feature.name in self._table.column_names:
                stored = feature.read(self._table.column(feature.name))
            else:
                stored = feature.missing(self._n_users)
            values = np.concatenate([stored, _like(feature.missing(1), stored)])
            self._features[feature.name] = values
        found: Array = values[rows]
        return found


def _like(row: Array, column: Array) -> Array:
    """Widen one row of padding (1, 1) to the width of a tag column (n, width)."""
    if column.ndim == 1 or row.shape[1] == column.shape[1]:
        return row
    return np.repeat(row, column.shape[1], axis=1)
