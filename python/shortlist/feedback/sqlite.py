"""The feedback log's rows in one SQLite file: the default store of `FeedbackLog`."""

import ctypes
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from shortlist._forks import inside, tell_of_forks
from shortlist.errors import ShortlistError
from shortlist.feedback.remnants import moved_rows

FORMAT = 2
APPLICATION_ID = 0x53484C46  # "SHLF", in the file's header
Row = tuple[Any, ...]
_BUSY_SECONDS = 60.0  # how long a writer waits for those of other processes
_TABLES = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, user_id NOT NULL, "
    "item_id NOT NULL, kind TEXT NOT NULL, timestamp INTEGER NOT NULL, value REAL, "
    "key TEXT UNIQUE, rank INTEGER, bundle TEXT, score REAL, propensity REAL)",
    "CREATE INDEX acts_of_user ON events "
    "(user_id, timestamp, sequence, item_id, kind, value) WHERE kind <> 'impression'",
)
# Kept in `about` from a deletion on until none of its bytes can be left.
_MARK = "unclean"
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


class _Connection:
    """One connection, used by one thread at a time; a forked child gets one of its own."""

    def __init__(self, path: Path, *pragmas: str) -> None:
        self.lock = threading.RLock()
        self._path = path
        self._pragmas = pragmas
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def get(self) -> sqlite3.Connection:
        if self._owner != os.getpid():
            self.forget()
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in self._pragmas:
                    connection.execute(f"PRAGMA {pragma}")
            except BaseException:
                connection.close()
                raise
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    def forget(self) -> None:
        """Leave a parent's connection alone for ever: a child must not even close it."""
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        self._connection = None

    def close(self) -> None:
        with self.lock:
            if self._owner != os.getpid():
                self.forget()
            if self._connection is not None:
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
        tell_of_forks(self)
        with _named(path), inside():
            _refuse_others(path)
        with self._writing() as connection:
            _settle(connection)
            find = "SELECT value FROM about WHERE name = 'format'"
            (known,) = connection.execute(find).fetchone()
        if known != str(FORMAT):
            self.close()
            raise _of_another_format(path, known)

    def before_fork(self) -> None:
        """Close both connections; nobody is inside."""
        for connection in (self._writer, self._reader):
            connection.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        for connection in (self._writer, self._reader):
            connection.lock = threading.RLock()
            connection.forget()

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
        """Delete rows, and every copy that SQLite may have left of them.

        The indexes are written anew, for rows move in them all the time; the whole file only where
        rows of the table moved, or where an earlier deletion did not come to its end.
        """
        with inside():  # the whole of it: the connection that keeps the frames is no one else's
            return self._delete_inside(condition, value)

    def _delete_inside(self, condition: str, value: Any) -> int:
        with self._frames_kept():
            with self._writing() as connection:
                was_unclean = bool(_about(connection, [_MARK]))
                n = connection.execute(f"DELETE FROM events WHERE {condition}", [value]).rowcount
                if n and not was_unclean:
                    connection.execute("REINDEX events")
                    connection.execute("INSERT INTO about VALUES (?, 'yes')", [_MARK])
            is_unclean = was_unclean or (n > 0 and moved_rows(self._beside("-wal")))
        if is_unclean:
            with self._open(self._writer) as connection:
                connection.execute("VACUUM")
        if n or was_unclean:
            with self._writing() as connection:
                connection.execute("DELETE FROM about WHERE name = ?", [_MARK])
        with self._open(self._writer) as connection:
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise ShortlistError(
                f"{self.path}: the rows are deleted, but a reader of another process keeps their "
                "bytes in the file's log; end it and call this again"
            )
        return int(n)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    @contextmanager
    def _frames_kept(self) -> Iterator[None]:
        """Keep what is written to the file's log in it: a reader that began before holds it."""
        holder = _Connection(self.path, "query_only = ON")
        try:
            with self._open(holder) as connection:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM about").fetchone()
            yield
        finally:
            holder.close()

    @contextmanager
    def _open(self, connection: _Connection) -> Iterator[sqlite3.Connection]:
        """Give a connection to one thread at a time; SQLite's errors name the file."""
        with inside(), connection.lock:
            if self._is_closed:
                raise ShortlistError("feedback log: it is closed; open it again")
            with _named(self.path):
                yield connection.get()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open(self._writer) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite has ended it itself after some errors
                    with suppress(sqlite3.Error):  # the first error is the one to be told
                        connection.execute("ROLLBACK")
                raise


def _types(connection: sqlite3.Connection) -> dict[str, str]:
    return _about(connection, ["user_id", "item_id"])


def _about(connection: sqlite3.Connection, names: list[str]) -> dict[str, str]:
    wanted = ", ".join("?" * len(names))
    found = connection.execute(f"SELECT name, value FROM about WHERE name IN ({wanted})", names)
    return dict(found.fetchall())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make errors of SQLite ours; they name the file."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise ShortlistError(
                f"{path}: the disk is full ({error}); nothing of this call was written; free some "
                "space and call it again"
            ) from error
        raise ShortlistError(
            f"{path}: expected a feedback log that can be read and written, found: {error}"
        ) from error


def _refuse_others(path: Path) -> None:
    """Refuse a database that is no feedback log, before anything is written to it.

    A file is looked at as if it never changed, which leaves no trace beside it; only where it has
    no tables yet, together with what is in its log.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    for how in ("immutable=1", "mode=ro"):
        uri = f"{path.absolute().as_uri()}?{how}"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
            told, tables = _application_of(connection), _tables_of(connection)
            if told == APPLICATION_ID or _is_of_earlier_build(connection, told, tables):
                (found,) = connection.execute(
                    "SELECT value FROM about WHERE name = 'format'"
                ).fetchone() or [None]
                if found != str(FORMAT):
                    raise _of_another_format(path, found)
                return
        if told or tables:
            names = ", ".join(sorted(tables)[:5]) or "none"
            raise ShortlistError(
                f"{path}: expected a feedback log or a free name, found another SQLite database "
                f"(application id {told}, tables: {names}); it stays as it is; give another path"
            )


def _application_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _tables_of(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type <> 'index'")
    return {name for (name,) in found if not name.startswith("sqlite_")}


def _is_of_earlier_build(connection: sqlite3.Connection, told: int, tables: set[str]) -> bool:
    """Say whether a file without an application id has exactly a log's tables."""
    if told or tables != {"about", "events"}:
        return False
    about, events = (
        [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for table in ("about", "events")
    )
    return about == ["name", "value"] and events[:3] == ["sequence", "user_id", "item_id"]


def _settle(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file; write the application id into one of an earlier build."""
    if _application_of(connection) == APPLICATION_ID:
        return
    if _tables_of(connection):  # its deletions may have left bytes: the next one removes them
        connection.execute("INSERT OR IGNORE INTO about VALUES (?, 'yes')", [_MARK])
    else:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES ('format', ?)", [str(FORMAT)])
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _of_another_format(path: Path, found: Any) -> ShortlistError:
    return ShortlistError(
        f"{path}: expected a feedback log of format {FORMAT}, found format {found}; it was written "
        "by another release of shortlist"
    )
