"""Events, items and users as polars frames: the ``Dataset`` that everything else reads.

Frames have fixed columns. Events: ``user_id`` and ``item_id`` (each Int64 or String), ``timestamp``
(Int64 seconds since 1970 UTC, or the position in the file where a format has no times), ``kind``
(String) and ``value`` (Float32, null allowed), sorted by user, time and file order.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.columns import (
    first_true,
    kind_expression,
    parse_ids,
    parse_times,
    parse_values,
)
from shortlist.training.data.counted import counted
from shortlist.training.data.tables import Table, TableSource, log, require_columns, scan_table

EVENT_COLUMNS = ("user_id", "item_id", "timestamp", "kind", "value")
_NEEDED = EVENT_COLUMNS[:3]
DEFAULT_KIND = "event"
_ID_TYPES = (pl.Int64, pl.String)


@dataclass(frozen=True)
class Dataset:
    """Events with the tables of their items and users.

    Attributes
    ----------
    name : str
        For reports.
    events : polars.DataFrame
        Columns ``EVENT_COLUMNS``; sorted on construction by user, time and given order.
    items, users : polars.DataFrame, optional
        ``item_id`` / ``user_id`` (same type as in events, unique), optional ``title`` (String), and
        feature columns: String, numeric, Boolean, Date, Datetime, or lists of String, Int64
        (tags) or floats (vectors).
    test_events : polars.DataFrame, optional
        Test events that came with the data (LightGCN's test.txt): the ``given`` split uses them.
    has_times : bool
        False where ``timestamp`` is only a position in the file.
    text_tables : frozenset of str
        Those of "items" and "users" that were read from text files, where a misprint makes a column
        of numbers text; `load_dataset` says it.
    """

    name: str
    events: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    test_events: pl.DataFrame | None = None
    has_times: bool = True
    text_tables: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check the columns and put all ids of one side into one type."""
        parts = {"events": self.events, "test_events": self.test_events}
        for what, frame in parts.items():
            if frame is not None:
                _check_event_columns(frame, f"{self.name}: {what}")
                object.__setattr__(self, what, sort_events(frame))
        for column, table in (("item_id", "items"), ("user_id", "users")):
            self._check_entities(table, column)
            self._unify_ids(column, table)

    def __repr__(self) -> str:
        """Say how much there is, instead of printing the frames."""
        return (
            f"Dataset({self.name!r}, {counted(self.events.height, 'event')}, "
            f"{counted(self.events['user_id'].n_unique(), 'user')}, "
            f"{counted(self.events['item_id'].n_unique(), 'item')})"
        )

    def _check_entities(self, name: str, column: str) -> None:
        table = getattr(self, name)
        if table is None:
            return
        if column not in table.columns or table[column].dtype not in _ID_TYPES:
            raise DataError(
                f"{self.name}: {name} have columns {dict(table.schema)}, expected "
                f"{column!r} of type Int64 or String. Fix: read them with read_{name}"
            )
        if table[column].is_duplicated().any():
            again = table[column].filter(table[column].is_duplicated())[0]
            raise DataError(
                f"{self.name}: {name} have {column} {again!r} more than once, expected "
                "each once. Fix: keep one row an id"
            )

    def _unify_ids(self, column: str, table: str) -> None:
        """Make ids String everywhere if they are String in one of the frames."""
        names = ("events", "test_events", table)
        frames = {n: f for n in names if (f := getattr(self, n)) is not None}
        if len({f[column].dtype for f in frames.values()}) == 1:
            return
        for name, frame in frames.items():
            as_text = frame.with_columns(pl.col(column).cast(pl.String))
            object.__setattr__(self, name, as_text if name == table else sort_events(as_text))


def sort_events(events: pl.DataFrame) -> pl.DataFrame:
    """Sort events by user, then time; equal times keep their order."""
    user, when = pl.col("user_id"), pl.col("timestamp")
    later = (user > user.shift()) | ((user == user.shift()) & (when >= when.shift()))
    if events.height < 2 or events.select(later.slice(1).all()).item():
        return events
    return events.sort("user_id", "timestamp", maintain_order=True)


def make_events(
    user_id: pl.Series,
    item_id: pl.Series,
    timestamp: pl.Series | None = None,
    *,
    kind: str = DEFAULT_KIND,
    value: pl.Series | None = None,
) -> pl.DataFrame:
    """Build an events frame from columns; without times the row number is the timestamp."""
    n = len(user_id)
    when = pl.int_range(n, dtype=pl.Int64, eager=True) if timestamp is None else timestamp
    return sort_events(
        pl.DataFrame(
            {
                "user_id": user_id,
                "item_id": item_id,
                "timestamp": when.cast(pl.Int64),
                "kind": pl.repeat(kind, n, dtype=pl.String, eager=True),
                "value": pl.repeat(None, n, dtype=pl.Float32, eager=True)
                if value is None
                else value.cast(pl.Float32),
            }
        )
    )


def read_events(
    source: TableSource,
    *,
    columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    time_unit: str = "auto",
    time_format: str = "",
    allow_future: bool = False,
    duplicates: str = "drop",
) -> pl.DataFrame:
    """Read events from a file (`docs/data.md` has the kinds) or a polars, pandas or pyarrow frame.

    Parameters
    ----------
    source : path or frame
        Needs ``user_id``, ``item_id``, ``timestamp``; may have ``kind`` and ``value``. Other
        columns are not read.
    columns : mapping of str to str, optional
        Our column name → the name in the source, e.g. ``{"user_id": "customer"}``.
    ignore : collection of str, optional
        Columns of the source that are not read, such as a ``value`` that is none.
    time_unit : {"auto", "s", "ms", "us", "ns"}
        Unit of numeric timestamps; see `columns.parse_times` for what "auto" does.
    time_format : str
        How times are written, as for `time.strptime`: ``"%d.%m.%Y %H:%M"``. Empty: as
        `times.written_as` finds.
    allow_future : bool
        Accept times more than a day ahead of this machine's clock.
    duplicates : {"drop", "keep", "error"}
        What to do with events that repeat user, item, time, kind and value: keep the first and warn
        (with the number dropped), keep all, or raise.

    Returns
    -------
    polars.DataFrame
        Columns ``EVENT_COLUMNS``, sorted by user, time (at full resolution) and file order.

    Raises
    ------
    DataError
        Names the column, the place, what came, what was expected and the fix.
    """
    whole = scan_table(source, columns=columns, ignore=ignore)
    require_columns(whole, _NEEDED, "events")
    table = whole.only(EVENT_COLUMNS).read("events")
    say_columns(table.source, whole.columns, table.frame.height)
    return events_from_table(
        table,
        time_unit=time_unit,
        time_format=time_format,
        allow_future=allow_future,
        duplicates=duplicates,
    )


def say_columns(source: str, columns: list[str], n_rows: int) -> None:
    """Say how many events were read, and which columns are not theirs."""
    others = [name for name in columns if name not in EVENT_COLUMNS]
    log.info(
        "%s: %s of events read%s",
        source,
        counted(n_rows, "row"),
        f"; columns not used: {', '.join(map(repr, others))}" if others else "",
    )


def events_from_table(
    table: Table,
    *,
    time_unit: str = "auto",
    time_format: str = "",
    allow_future: bool = False,
    duplicates: str = "drop",
    kind: str = DEFAULT_KIND,
) -> pl.DataFrame:
    """Check a raw table's columns and return sorted events; arguments as in `read_events`.

    ``kind`` is what an event is where the table does not say.
    """
    if duplicates not in ("drop", "keep", "error"):
        raise DataError(
            f"duplicates: got {duplicates!r}, expected 'drop', 'keep' or 'error'. "
            "Fix: use one of these"
        )
    require_columns(table, _NEEDED, "events")
    ticks, per_second = parse_times(
        table,
        "timestamp",
        time_unit=time_unit,
        time_format=time_format,
        allow_future=allow_future,
    )
    has = table.frame.columns
    n = table.frame.height
    kinds = pl.repeat(kind, n, dtype=pl.String, eager=True)
    if "kind" in has:
        kinds = table.frame.select(kind_expression(table.is_text)).to_series().fill_null(kind)
    values = pl.repeat(None, n, dtype=pl.Float32, eager=True)
    if "value" in has:
        values = parse_values(table, "value")
    events = pl.DataFrame(
        {
            "user_id": parse_ids(table, "user_id"),
            "item_id": parse_ids(table, "item_id"),
            "timestamp": ticks,
            "kind": kinds,
            "value": values,
        }
    )
    if duplicates != "keep":
        events = _without_duplicates(table, events, raises=duplicates == "error")
    # Sorted in ticks, so that order within a second survives the rounding to seconds.
    events = events.sort("user_id", "timestamp", maintain_order=True)
    return events.with_columns(pl.col("timestamp") // per_second)


def _without_duplicates(table: Table, events: pl.DataFrame, *, raises: bool) -> pl.DataFrame:
    again = ~events.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    row = first_true(again)
    if row is None:
        return events
    n, event = int(again.sum()), events.row(row, named=True)
    text = (
        f"{table.source}: {n} of {events.height} events repeat another event; the first is at "
        f"{table.place(row)} (user_id {event['user_id']!r}, item_id {event['item_id']!r})"
    )
    if raises:
        raise DataError(
            f"{text}, expected each event once. Fix: remove it, or pass duplicates='drop' or 'keep'"
        )
    warnings.warn(f"{text}. They were dropped; duplicates='keep' keeps them", stacklevel=4)
    return events.filter(~again)


def _check_event_columns(events: pl.DataFrame, what: str) -> None:
    schema = dict(events.schema)
    good = (
        tuple(schema) == EVENT_COLUMNS
        and schema["user_id"] in _ID_TYPES
        and schema["item_id"] in _ID_TYPES
        and schema["timestamp"] == pl.Int64
        and schema["kind"] == pl.String
        and schema["value"] == pl.Float32
    )
    if not good:
        raise DataError(
            f"{what} have columns {schema}, expected user_id, item_id (Int64 or "
            "String), timestamp (Int64), kind (String), value (Float32). Fix: read "
            "them with shortlist.training.data.events.read_events"
        )
    nulls = [c for c in EVENT_COLUMNS[:3] if events[c].null_count()]
    if nulls:
        raise DataError(
            f"{what}: column {nulls[0]!r} has {events[nulls[0]].null_count()} nulls, "
            "expected none. Fix: drop these rows"
        )
