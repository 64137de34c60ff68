"""The feedback log: what was shown, and what came of it; a file beside the bundle."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from shortlist._columns.features import time_column
from shortlist._columns.messages import said_of
from shortlist._columns.reading import id_column
from shortlist.errors import DataError
from shortlist.feedback.acts import Acts, acts_of
from shortlist.feedback.export import PAGE, check_suffix, to_table, write_tables
from shortlist.feedback.rows import id_type_of, read_columns, rows_of
from shortlist.feedback.sql import SqlStore
from shortlist.feedback.sqlite import SqliteStore

if TYPE_CHECKING:
    from shortlist.recommendations import Recommendations

IMPRESSION = "impression"


class FeedbackLog:
    """Durable, append-only log of impressions and events: one SQLite file, or a database.

    Once `append` or `append_many` has returned, the events are on disk: a killed process or a
    crash of the machine loses none and doubles none. Any number of threads and processes of one
    machine may write at once; they take turns. Not for network file systems (SQLite's WAL mode).

    Parameters
    ----------
    path : str or path
        The file; made if it is not there. Two files beside it (`-wal`, `-shm`) belong to it. For
        hosts with many machines a database URL of SQLAlchemy, such as
        ``postgresql+psycopg://user:password@host/database`` (the extra `[postgres]`).

    Raises
    ------
    ShortlistError
        The file cannot be opened, or is something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._store: SqliteStore | SqlStore
        if isinstance(path, str) and "://" in path:
            self._store = SqlStore(path)
            self.path: str | Path = self._store.name
        else:
            self.path = Path(path)
            self._store = SqliteStore(self.path)

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
            `user_id`, `item_id`, `kind`, `timestamp`; optional `value`, `key`, and of an
            impression `rank` (from 1), `bundle`, `score` and `propensity` (above 0, at most 1).

        Returns
        -------
        int
            How many were written: those whose key the log has already are left out.
        """
        columns = read_columns(events)
        while True:  # again only where another writer was first to fix the ids' types
            types = self._id_types(columns)
            n = self._store.append(rows_of(columns, types), types)
            if n is not None:
                return n

    def append_impressions(
        self, user_ids: Sequence[Any], shown: "Recommendations", *, timestamp: Any, bundle: str
    ) -> int:
        """Write what was shown to each user, at which rank, by which bundle.

        Parameters
        ----------
        user_ids : sequence of n_requests ids
        shown : Recommendations
            The answer to these users' requests. Its propensities are written too, for
            `shortlist.off_policy`, which asks again by the user ids alone: of requests with more
            (`history`, features, `where`, ``exclude_seen=False``) give ``propensities = None``.
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
            "score": shown.scores[is_real],
        }
        if shown.propensities is not None:
            events["propensity"] = shown.propensities[is_real]
        return self.append_many(events)

    def read(self, since: Any = None, *, after: int = 0, impressions: bool = True) -> Any:
        """Read events in the order they were written.

        Parameters
        ----------
        since : number, datetime or str, optional
            Only events of this time or later.
        after : int
            Only events with a higher `sequence`: give the last one read to get what is new.
        impressions : bool
            False reads what users did, not what they were shown.

        Returns
        -------
        pyarrow.Table
            `sequence` int64, `user_id` and `item_id` (int64 or string), `kind` string, `timestamp`
            int64 (seconds since 1970 UTC), `value` float64, `key` string, `rank` int64, `bundle`
            string, `score` and `propensity` float64; null where there is none.
        """
        first = None if since is None else seconds_of(since, "since")
        types = self._store.types()
        return to_table(self._store.read(int(after), first, None, bool(impressions)), types)

    def export(
        self, path: str | os.PathLike[str], since: Any = None, *, impressions: bool = True
    ) -> int:
        """Write events to a Parquet or Arrow file, whole or not at all.

        Parameters
        ----------
        path : str or path
            Its end says the format: `.parquet` or `.arrow`. A file of this name is replaced.
        since : number, datetime or str, optional
            Only events of this time or later.
        impressions : bool
            Without them the file is what `shortlist train --data` wants.

        Returns
        -------
        int
            How many rows were written, in the columns and the order of `read`. Memory does not
            grow with the log.

        Raises
        ------
        DataError
            The name ends otherwise, or the file cannot be written.
        """
        target = Path(path)
        check_suffix(target)
        first = None if since is None else seconds_of(since, "since")
        types = self._store.types()
        return write_tables(target, self._pages(first, types, impressions), types)

    def _pages(self, since: int | None, types: dict[str, str], impressions: bool) -> Iterator[Any]:
        after = 0
        while rows := self._store.read(after, since, PAGE, impressions):
            after = rows[-1][0]
            yield to_table(rows, types)

    @property
    def id_types(self) -> dict[str, str]:
        """Types of `user_id` and `item_id`, "int64" or "string"; empty before the first event."""
        return self._store.types()

    def acts(self, user_ids: Any) -> list[Acts | None]:
        """Return what each user did, oldest first: every event that is no impression.

        Parameters
        ----------
        user_ids : array-like of shape (n,), ids
            Unknown and missing ones are no error.

        Returns
        -------
        list of Acts or None
            One a user; None where the log has nothing.
        """
        types = self._store.types()
        if "user_id" not in types:
            return [None] * len(user_ids)
        with said_of("user_ids"):
            ids = id_column("user_id", user_ids, types["user_id"])
        return acts_of(ids, self._store.acts(ids.tolist()))

    def erase_user(self, user_id: Any) -> int:
        """Delete everything about a user, also from the bytes of the file; return how many rows.

        Raises
        ------
        ShortlistError
            A reader of another process kept its bytes in the file for a minute: the rows are
            deleted, the bytes are not yet. Call it again.
        """
        types = self._id_types({"user_id": [user_id]})
        with said_of("user_id"):
            (plain_id,) = id_column("user_id", [user_id], types["user_id"]).tolist()
        return self._store.erase(plain_id)

    def remove_before(self, timestamp: Any) -> int:
        """Delete events older than this time (retention); return how many."""
        return self._store.remove_before(seconds_of(timestamp))

    def close(self) -> None:
        """Close the file; everything is on disk already."""
        self._store.close()

    def __len__(self) -> int:
        """Return the number of events and impressions."""
        return self._store.count()

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the log."""
        self.close()

    def __repr__(self) -> str:
        """Name the file."""
        return f"FeedbackLog({str(self.path)!r})"

    def _id_types(self, columns: Any) -> dict[str, str]:
        """Types of the ids: those of the log, else those of the first ids that come."""
        types = self._store.types()
        for name in ("user_id", "item_id"):
            if name not in types and name in columns:
                types[name] = id_type_of(columns[name])
        return types


def seconds_of(timestamp: Any, name: str = "timestamp") -> int:
    """Read one time as seconds since 1970; messages name the argument."""
    with said_of(name):
        seconds = int(time_column(name, [timestamp])[0])
    if seconds == np.iinfo(np.int64).min:
        raise DataError(f"{name}: got {timestamp!r:.60}, expected a time")
    return seconds
