"""The feedback log: what was shown, and what came of it; a file beside the bundle."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from shortlist._columns import id_column
from shortlist._feature_columns import time_column
from shortlist._feedback_events import columns_of, id_type_of, rows_of
from shortlist._item_rows import said_of
from shortlist.errors import DataError, ShortlistError

if TYPE_CHECKING:
    from shortlist.recommendations import Recommendations

IMPRESSION = "impression"
_FORMAT = 1
_BUSY_SECONDS = 60.0  # how long a writer waits for those of other processes
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id NOT NULL, item_id NOT NULL, kind TEXT NOT NULL, timestamp INTEGER NOT NULL,
  value REAL, key TEXT UNIQUE, rank INTEGER, bundle TEXT);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id, timestamp);
"""
_INSERT = (
    "INSERT INTO events (user_id, item_id, kind, timestamp, value, key, rank, bundle) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
)
_COLUMNS = "sequence, user_id, item_id, kind, timestamp, value, key, rank, bundle"
# A forked child must not close what its parent opened: such connections are kept here for ever.
_OF_PARENTS: list[sqlite3.Connection] = []


class FeedbackLog:
    """Durable, append-only log of impressions and events in one SQLite file.

    Once `append` or `append_many` has returned, the events are on disk: a killed process or a
    crash of the machine loses none and doubles none. Any number of threads and processes of one
    machine may write at once; they take turns. Not for network file systems (SQLite's WAL mode).

    Parameters
    ----------
    path : str or path
        The file; made if it is not there. Two files beside it (`-wal`, `-shm`) belong to it.

    Raises
    ------
    ShortlistError
        The file cannot be opened, or is something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self._is_closed = False
        with self._open() as connection:
            connection.executescript(_TABLES)
            found = connection.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
            if found is None:
                connection.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", [_FORMAT])
            elif found[0] != str(_FORMAT):
                raise ShortlistError(
                    f"{self.path}: expected a feedback log of format {_FORMAT}, found format "
                    f"{found[0]}; it was written by another release of shortlist"
                )

    def append(
        self,
        *,
        user_id: Any,
        item_id: Any,
        kind: str,
        timestamp: Any,
        value: float | None = None,
        key: str | None = None,
    ) -> bool:
        """Write one event.

        Parameters
        ----------
        user_id, item_id : int or str
            Of one type in the whole log each.
        kind : str
            Such as "view", "click", "purchase", "rating", "skip"; "impression" for what was shown.
        timestamp : number, datetime or str
            Seconds since 1970, or a datetime (without a zone: UTC), or ISO 8601 text. Kept in
            whole seconds.
        value : float, optional
            Of a rating, for one.
        key : str, optional
            Idempotency key: an event whose key the log has already is not written again.

        Returns
        -------
        bool
            False if the log had the key.

        Raises
        ------
        TypeError, DataError
            An argument is not as described; nothing is written.
        ShortlistError
            The file cannot be written, or the log is closed.
        """
        row = {"user_id": user_id, "item_id": item_id, "kind": kind, "timestamp": timestamp}
        return self.append_many([{**row, "value": value, "key": key}]) == 1

    def append_many(self, events: Any) -> int:
        """Write many events, all or none of them.

        Parameters
        ----------
        events : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            `user_id`, `item_id`, `kind`, `timestamp`; optional `value`, `key`, and `rank` (from 1)
            and `bundle` of an impression.

        Returns
        -------
        int
            How many were written: those whose key the log has already are left out.
        """
        columns = columns_of(events)
        with self._open() as connection:
            types = self._id_types(connection, columns)
        rows = rows_of(columns, types)  # before the transaction: other writers need not wait
        with self._writing() as connection:
            if self._id_types(connection, columns) != types:  # another writer was first
                types = self._id_types(connection, columns)
                rows = rows_of(columns, types)
            if rows:
                connection.executemany(
                    "INSERT OR IGNORE INTO about VALUES (?, ?)", list(types.items())
                )
            before = connection.total_changes
            connection.executemany(_INSERT, rows)
            return connection.total_changes - before

    def append_impressions(
        self, user_ids: Sequence[Any], shown: "Recommendations", *, timestamp: Any, bundle: str
    ) -> int:
        """Write what was shown to each user, at which rank, by which bundle.

        Parameters
        ----------
        user_ids : sequence of n_requests ids
        shown : Recommendations
            The answer to these users' requests.
        timestamp : as for `append`
        bundle : str
            Version of the bundle, such as its folder's name.
        """
        if len(user_ids) != len(shown.counts):
            raise ValueError(
                f"user_ids: got {len(user_ids)}, expected one for each of the {len(shown.counts)} "
                "answers"
            )
        owners = np.repeat(np.arange(len(user_ids)), shown.counts)
        is_real = np.arange(shown.item_ids.shape[1]) < shown.counts[:, None]
        n = len(owners)
        events = {
            "user_id": [user_ids[owner] for owner in owners.tolist()],
            "item_id": shown.item_ids[is_real],
            "kind": [IMPRESSION] * n,
            "timestamp": [timestamp] * n,
            "rank": np.nonzero(is_real)[1] + 1,
            "bundle": [bundle] * n,
        }
        return self.append_many(events)

    def read(self, since: Any = None, *, after: int = 0) -> Any:
        """Read events in the order they were written.

        Parameters
        ----------
        since : number, datetime or str, optional
            Only events of this time or later.
        after : int
            Only events with a higher `sequence`: give the last one read to get what is new.

        Returns
        -------
        pyarrow.Table
            `sequence` int64, `user_id` and `item_id` (int64 or string), `kind` string, `timestamp`
            int64 (seconds since 1970 UTC), `value` float64, `key` string, `rank` int64, `bundle`
            string; null where there is none. `shortlist train --data` reads it from a file.
        """
        first = None if since is None else _seconds_of(since)
        query = f"SELECT {_COLUMNS} FROM events WHERE sequence > ?"
        values = [int(after)]
        if first is not None:
            query += " AND timestamp >= ?"
            values.append(first)
        with self._open() as connection:
            types = self._known_types(connection)
            rows = connection.execute(query + " ORDER BY sequence", values).fetchall()
        return _table(rows, types)

    def erase_user(self, user_id: Any) -> int:
        """Delete everything about a user, also from the bytes of the file; return how many rows.

        Raises
        ------
        ShortlistError
            A reader of another process kept its bytes in the file for a minute: the rows are
            deleted, the bytes are not yet. Call it again.
        """
        with self._writing() as connection:
            types = self._id_types(connection, {"user_id": [user_id]})
            with said_of("user_id"):
                told = id_column("user_id", [user_id], types["user_id"]).tolist()
            n = connection.execute("DELETE FROM events WHERE user_id = ?", told).rowcount
        self._checkpoint()
        return int(n)

    def remove_before(self, timestamp: Any) -> int:
        """Delete events older than this time (retention); return how many."""
        with self._writing() as connection:
            first = _seconds_of(timestamp)
            n = connection.execute("DELETE FROM events WHERE timestamp < ?", [first]).rowcount
        self._checkpoint()
        return int(n)

    def close(self) -> None:
        """Close the file; everything is on disk already."""
        with self._lock:
            self._is_closed = True
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        """Return the number of events and impressions."""
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log."""
        self.close()

    def __repr__(self) -> str:
        """Name the file."""
        return f"FeedbackLog({str(self.path)!r})"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread at a time; SQLite's errors name the file."""
        with self._lock:
            if self._is_closed:
                raise ShortlistError("feedback log: it is closed; open it again")
            try:
                yield self._connected()
            except sqlite3.Error as error:
                raise ShortlistError(
                    f"{self.path}: expected a feedback log that can be read and written, found: "
                    f"{error}"
                ) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            if self._connection is not None:
                _OF_PARENTS.append(self._connection)
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA cache_size = -65536")  # KiB: a large batch does not spill
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _checkpoint(self) -> None:
        with self._open() as connection:
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise ShortlistError(
                f"{self.path}: the rows are deleted, but a reader of another process keeps their "
                "bytes in the file's log; end it and call this again"
            )

    @staticmethod
    def _known_types(connection: sqlite3.Connection) -> dict[str, str]:
        found = connection.execute("SELECT name, value FROM about WHERE name <> 'format'")
        return dict(found.fetchall())

    def _id_types(self, connection: sqlite3.Connection, columns: Any) -> dict[str, str]:
        """Types of the ids: those of the log, else those of the first ids that come."""
        types = self._known_types(connection)
        for name in ("user_id", "item_id"):
            if name not in types and name in columns:
                types[name] = id_type_of(columns[name])
        return types


def _seconds_of(timestamp: Any) -> int:
    with said_of("timestamp"):
        seconds = int(time_column("timestamp", [timestamp])[0])
    if seconds == np.iinfo(np.int64).min:
        raise DataError(f"timestamp: got {timestamp!r:.60}, expected a time")
    return seconds


def _table(rows: list[tuple[Any, ...]], types: dict[str, str]) -> Any:
    import pyarrow as pa

    ids = {name: pa.string() if types.get(name) == "string" else pa.int64() for name in types}
    fields = [
        ("sequence", pa.int64()),
        ("user_id", ids.get("user_id", pa.int64())),
        ("item_id", ids.get("item_id", pa.int64())),
        ("kind", pa.string()),
        ("timestamp", pa.int64()),
        ("value", pa.float64()),
        ("key", pa.string()),
        ("rank", pa.int64()),
        ("bundle", pa.string()),
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    arrays = [pa.array(c, kind) for c, (_, kind) in zip(columns, fields, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))
