"""The feedback log's rows in one SQLite file: the default store of `FeedbackLog`."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shortlist.errors import ShortlistError

FORMAT = 2
Row = tuple[Any, ...]
_BUSY_SECONDS = 60.0  # how long a writer waits for those of other processes
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id NOT NULL, item_id NOT NULL, kind TEXT NOT NULL, timestamp INTEGER NOT NULL,
  value REAL, key TEXT UNIQUE, rank INTEGER, bundle TEXT, score REAL, propensity REAL);
CREATE INDEX IF NOT EXISTS acts_of_user
  ON events (user_id, timestamp, sequence, item_id, kind, value) WHERE kind <> 'impression';
"""
_INSERT = (
    "INSERT INTO events (user_id, item_id, kind, timestamp, value, key, rank, bundle, score, "
    "propensity) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
)
_COLUMNS = (
    "sequence, user_id, item_id, kind, timestamp, value, key, rank, bundle, score, propensity"
)
# The index has all of it and no impressions; the list of users travels as one value.
_ACTS = (
    "SELECT user_id, item_id, kind, timestamp, value FROM events "
    "WHERE user_id IN (SELECT value FROM json_each(?)) AND kind <> 'impression' "
    "ORDER BY user_id, timestamp, sequence"
)
# A forked child must not close what its parent opened: such connections are kept here for ever.
_OF_PARENTS: list[sqlite3.Connection] = []


class _Connection:
    """One connection, used by one thread at a time; a forked child gets one of its own."""

    def __init__(self, path: Path, *pragmas: str) -> None:
        self.lock = threading.RLock()
        self._path = path
        self._pragmas = pragmas
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def get(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            if self._connection is not None:
                _OF_PARENTS.append(self._connection)
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            for pragma in self._pragmas:
                connection.execute(f"PRAGMA {pragma}")
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    def close(self) -> None:
        with self.lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None


class SqliteStore:
    """Rows of one file; whoever reads does not wait for whoever writes.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_closed = False
        self._fixed: dict[str, str] = {}
        # KiB of cache below: a large batch does not spill.
        self._writer = _Connection(
            path,
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "cache_size = -65536",
        )
        self._reader = _Connection(path, "query_only = ON")
        with self._open(self._writer) as connection:
            # First of all: tables of another format may not fit ours.
            tables = "SELECT count(*) FROM sqlite_master WHERE name = 'about'"
            if not connection.execute(tables).fetchone()[0]:
                connection.executescript(_TABLES)
            insert = "INSERT OR IGNORE INTO about VALUES ('format', ?)"
            connection.execute(insert, [FORMAT])
            find = "SELECT value FROM about WHERE name = 'format'"
            (known,) = connection.execute(find).fetchone()
        if known != str(FORMAT):
            self.close()
            raise ShortlistError(
                f"{path}: expected a feedback log of format {FORMAT}, found format {known}; it "
                "was written by another release of shortlist"
            )

    def types(self) -> dict[str, str]:
        """Return the types of `user_id` and `item_id`, as far as an event has fixed them."""
        if len(self._fixed) < 2:  # once fixed they never change
            with self._open(self._reader) as connection:
                self._fixed = _types(connection)
        return dict(self._fixed)

    def append(self, rows: Sequence[Row], types: dict[str, str]) -> int | None:
        """Write checked rows, all or none; None if another writer fixed other types meanwhile."""
        with self._writing() as connection:
            if not rows:
                return 0
            if {**types, **_types(connection)} != types:
                return None
            connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", types.items())
            before = connection.total_changes
            connection.executemany(_INSERT, rows)
            return connection.total_changes - before

    def read(
        self, after: int, since: int | None, limit: int | None = None, impressions: bool = True
    ) -> list[Row]:
        """Return rows with a higher sequence, of this time or later, in the order of writing."""
        query, values = f"SELECT {_COLUMNS} FROM events WHERE sequence > ?", [after]
        if since is not None:
            query += " AND timestamp >= ?"
            values.append(since)
        if not impressions:
            query += " AND kind <> 'impression'"
        query += " ORDER BY sequence LIMIT ?"
        with self._open(self._reader) as connection:
            rows: list[Row] = connection.execute(
                query, [*values, -1 if limit is None else limit]
            ).fetchall()
        return rows

    def acts(self, user_ids: Sequence[Any]) -> list[Row]:
        """Return (user_id, item_id, kind, timestamp, value) of users, each one's in time order."""
        with self._open(self._reader) as connection:
            rows: list[Row] = connection.execute(_ACTS, [json.dumps(user_ids)]).fetchall()
        return rows

    def erase(self, user_id: Any) -> int:
        """Delete a user's rows and their bytes; return how many."""
        return self._delete("user_id = ?", user_id)

    def remove_before(self, seconds: int) -> int:
        """Delete rows of an earlier time; return how many."""
        return self._delete("timestamp < ?", seconds)

    def count(self) -> int:
        """Return the number of rows."""
        with self._open(self._reader) as connection:
            return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        self._reader.close()
        self._writer.close()

    def _delete(self, condition: str, value: Any) -> int:
        with self._writing() as connection:
            n = connection.execute(f"DELETE FROM events WHERE {condition}", [value]).rowcount
        with self._open(self._writer) as connection:
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise ShortlistError(
                f"{self.path}: the rows are deleted, but a reader of another process keeps their "
                "bytes in the file's log; end it and call this again"
            )
        return int(n)

    @contextmanager
    def _open(self, connection: _Connection) -> Iterator[sqlite3.Connection]:
        """Give a connection to one thread at a time; SQLite's errors name the file."""
        with connection.lock:
            if self._is_closed:
                raise ShortlistError("feedback log: it is closed; open it again")
            try:
                yield connection.get()
            except sqlite3.Error as error:
                raise ShortlistError(
                    f"{self.path}: expected a feedback log that can be read and written, found: "
                    f"{error}"
                ) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open(self._writer) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _types(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT name, value FROM about WHERE name <> 'format'")
    return dict(rows.fetchall())
