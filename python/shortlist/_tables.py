"""The bundle's Arrow tables: items (titles, popularity, filters) and users (histories, features).

Both are opened at the first question, memory-mapped, checked once; pyarrow is imported then.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from shortlist._columns import Array, to_array
from shortlist._manifest import problem
from shortlist.requests import FeatureColumn

_MASKS_KEPT = 32


def read_table(path: Path, n_rows: int, columns: dict[str, str]) -> Any:
    """Map an Arrow IPC file and check every buffer, its row count and its columns' types.

    Raises
    ------
    BundleError
        Not an Arrow file, damaged, a column missing, of another type or with nulls, or another
        number of rows.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise problem(path.name, "an Arrow IPC file", f"{error}") from error
    if table.num_rows != n_rows:
        raise problem(path.name, f"{n_rows:,} rows", f"{table.num_rows:,}")
    for name, kind in columns.items():
        if name not in table.column_names:
            raise problem(path.name, f"a column {name!r}", ", ".join(table.column_names))
        column = table.column(name)
        if str(column.type) != kind or column.null_count:
            found = f"{column.type} with {column.null_count} nulls"
            raise problem(path.name, f"column {name!r} to be {kind} without nulls", found)
    return table


class ItemTable:
    """items.arrow: row r describes the index's row r.

    Parameters
    ----------
    path : Path
        The file.
    item_ids : ndarray of shape (n_items,), int64 or str
        The index's ids; the table must have the same in the same order.
    """

    def __init__(self, path: Path, item_ids: Array) -> None:
        self._path = path
        self._item_ids = item_ids
        self._lock = threading.Lock()
        self._table: Any = None
        self._titles: Array | None = None
        self._popular: tuple[Array, Array] | None = None
        self._masks: list[tuple[Any, Array]] = []

    @property
    def table(self) -> Any:
        """The pyarrow Table: `item_id`, `n_events`, `title` if there are titles, features."""
        with self._lock:
            if self._table is None:
                n_items = len(self._item_ids)
                kind = "string" if self._item_ids.dtype.kind == "U" else "int64"
                columns = {"item_id": kind, "n_events": "int64"}
                table = read_table(self._path, n_items, columns)
                found = to_array(table.column("item_id"))
                if not np.array_equal(found.astype(self._item_ids.dtype), self._item_ids):
                    raise problem(self._path.name, "the item ids of items.index", "other ids")
                self._table = table
            return self._table

    def titles(self, rows: Array) -> Array:
        """Return titles (object, None where unknown) of item rows of any shape; −1 gives ""."""
        if self._titles is None:
            table = self.table
            if "title" in table.column_names:
                titles = to_array(table.column("title"))
            else:
                titles = np.full(len(self._item_ids), None, dtype=object)
            self._titles = np.append(titles, "")
        found: Array = self._titles[rows]
        return found

    def popular(self) -> tuple[Array, Array]:
        """Return (rows, n_events): item rows by events in training, most first, ties by row."""
        if self._popular is None:
            n_events = to_array(self.table.column("n_events"))
            order = np.argsort(-n_events, kind="stable")
            self._popular = (order, n_events.astype(np.float32))
        return self._popular

    def mask(self, where: Any) -> Array:
        """Evaluate a pyarrow expression on the table: bool (n_items,), cached by expression.

        Raises
        ------
        TypeError
            `where` is no pyarrow expression.
        ValueError
            It names a column the table lacks, or compares values that do not compare.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not isinstance(where, pc.Expression):
            raise TypeError(
                f"where: got {type(where).__name__}, expected a pyarrow expression such as "
                "pyarrow.compute.field('price') < 20"
            )
        for known, mask in tuple(self._masks):
            if known is where or known.equals(where):
                return mask
        table = self.table
        rows = pa.array(np.arange(table.num_rows))
        try:
            kept = table.append_column("shortlist_row", rows).filter(where)
        except (pa.ArrowException, KeyError) as error:
            columns = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
            said = str(error).partition(" in item_id:")[0]  # pyarrow repeats the schema there
            raise ValueError(f"where: {said}; the item table has {columns}") from error
        mask = np.zeros(table.num_rows, dtype=np.bool_)
        mask[to_array(kept.column("shortlist_row"))] = True
        mask.flags.writeable = False
        with self._lock:
            self._masks = [*self._masks[-(_MASKS_KEPT - 1) :], (where, mask)]
        return mask


class UserTable:
    """users.arrow: stored histories and features by user id.

    Parameters
    ----------
    path : Path
        The file; integer ids are in ascending order.
    n_users : int
        Rows it must have.
    user_id_dtype, item_id_dtype : str
        "int64" or "string".
    """

    def __init__(self, path: Path, n_users: int, user_id_dtype: str, item_id_dtype: str) -> None:
        self._path = path
        self._n_users = n_users
        self._columns = {"user_id": user_id_dtype, "history": f"list<item: {item_id_dtype}>"}
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
            table = read_table(self._path, self._n_users, self._columns).combine_chunks()
            ids = to_array(table.column("user_id"))
            if ids.dtype.kind == "i":
                if (np.diff(ids) <= 0).any():
                    raise problem(self._path.name, "user ids in ascending order", "another order")
                self._int_ids = ids
            else:
                self._text_rows = {name: row for row, name in enumerate(ids.tolist())}
            history = table.column("history")
            chunk = history.chunk(0) if history.num_chunks else None
            if chunk is not None:
                self._offsets = to_array(chunk.offsets).astype(np.int64)
                self._events = chunk.values
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
