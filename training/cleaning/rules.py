"""The rules of cleaning: expressions on single rows, and functions on the events of some users.

The functions take a frame with ``row``, the five event columns and times in microseconds, and
return for each of its rows whether the rule drops it.
"""

from __future__ import annotations

import datetime
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shortlist._columns.times import TICKS
from shortlist.errors import DataError
from shortlist.training.data.columns import (
    CLOCK_SKEW,
    id_expression,
    is_given_value,
    kind_expression,
    value_expression,
)
from shortlist.training.data.times import microseconds

if TYPE_CHECKING:
    from shortlist.training.config.sections import CleaningConfig
    from shortlist.training.data.tables import LazyTable

# Rules that look at one row, in order; the code of a dropped row is its place here + 1.
ROW_RULES = ("missing_ids", "timestamps", "values", "unknown_items")
EVENT_KEY = ("user_id", "item_id", "timestamp", "kind")
_MICROSECONDS = TICKS["us"]
_DAY = 86_400 * _MICROSECONDS


def usable_columns(table: LazyTable, schema: pl.Schema, written: str) -> dict[str, pl.Expr]:
    """Give the five event columns as expressions; null where a cell is missing or unusable."""
    columns = {
        name: id_expression(name, schema[name], table.source, is_file_text=table.is_text)
        for name in EVENT_KEY[:2]
    }
    columns["timestamp"] = microseconds("timestamp", schema["timestamp"], written)
    has_kinds = "kind" in schema
    columns["kind"] = kind_expression(table.is_text) if has_kinds else pl.lit(None, pl.String)
    values = value_expression("value", schema["value"]) if "value" in schema else None
    columns["value"] = pl.lit(None, pl.Float32) if values is None else values
    return columns


def flags(schema: pl.Schema) -> dict[str, pl.Expr]:
    """Give what `broken_rows` looks at beside the columns: ``has_value``, be it usable or not."""
    has_values = "value" in schema
    given = is_given_value("value", schema["value"]) if has_values else pl.lit(False)
    return {"has_value": given}


def broken_rows(
    columns: dict[str, pl.Expr],
    config: CleaningConfig,
    known_items: pl.Series | None,
) -> tuple[dict[str, pl.Expr], dict[str, pl.Expr]]:
    """Return, by row rule, which rows cannot be used at all and which are out of bounds.

    Cells that cannot be used break any reader; out of bounds are those the settings exclude.
    """
    if config.min_value > config.max_value:
        raise DataError(
            f"cleaning.min_value: got {config.min_value:g}, expected at most cleaning.max_value "
            f"({config.max_value:g}). Fix: correct one of them"
        )
    when, value = columns["timestamp"], columns["value"]
    unusable = {
        "missing_ids": columns["user_id"].is_null() | columns["item_id"].is_null(),
        "timestamps": when.is_null(),
        "values": pl.col("has_value") & ~value.is_finite().fill_null(False),
    }
    earliest, latest = time_bounds(config)
    outside = (value < config.min_value) | (value > config.max_value)
    out_of_bounds = {
        "timestamps": (when < earliest) | (when > latest),
        "values": outside.fill_null(False),
    }
    if known_items is not None:
        out_of_bounds["unknown_items"] = ~columns["item_id"].is_in(known_items.implode())
    return unusable, out_of_bounds


def time_bounds(config: CleaningConfig) -> tuple[int, int]:
    """Return the first and last possible microsecond."""
    last = (int(time.time()) + CLOCK_SKEW) * _MICROSECONDS
    if config.latest:
        last = _day("latest", config.latest) + _DAY - 1
    first = _day("earliest", config.earliest)
    if first > last:
        raise DataError(
            f"cleaning.earliest: got {config.earliest!r}, expected a day before "
            f"cleaning.latest ({config.latest or 'tomorrow'}). Fix: correct one of them"
        )
    return first, last


def _day(key: str, text: str) -> int:
    try:
        day = datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise DataError(
            f"cleaning.{key}: got {text!r}, expected a day such as 2024-01-31. Fix: write it so"
        ) from error
    return int(day.timestamp()) * _MICROSECONDS


def may_repeat(events: pl.DataFrame) -> pl.Series:
    """Find by hashes the few rows that can have the user, item, time and kind of another row."""
    hashes = events.select(EVENT_KEY).hash_rows(1)
    return hashes.is_in(_more_often_than(1, hashes).implode())


def _more_often_than(n: int, hashes: pl.Series) -> pl.Series:
    """Return the values that occur more than n times; sorting is faster than counting here."""
    ordered = np.sort(hashes.to_numpy())
    return pl.Series(np.unique(ordered[n:][ordered[n:] == ordered[:-n]]), dtype=pl.UInt64)


def repeated_rows(
    events: pl.DataFrame, is_candidate: pl.Series, keep: str | None = None
) -> pl.Series:
    """Find rows that repeat another one.

    Parameters
    ----------
    events : polars.DataFrame
    is_candidate : polars.Series
        From `may_repeat`.
    keep : {"first", "last", "drop"}, optional
        Without it: rows that equal an earlier one in all columns, value included. With it: rows of
        equal user, item, time and kind, but for the one that stays.
    """
    dropped = pl.repeat(False, events.height, eager=True)
    candidates = events.filter(is_candidate)
    if candidates.height == 0:
        return dropped
    key = pl.struct(EVENT_KEY if keep else (*EVENT_KEY, "value"))
    is_repeated = {
        "last": ~key.is_last_distinct(),
        "drop": key.is_duplicated(),
    }.get(keep or "first", ~key.is_first_distinct())
    places = is_candidate.arg_true()
    return dropped.scatter(places.filter(candidates.select(is_repeated).to_series()), True)


def bot_rows(events: pl.DataFrame, max_events_per_day: int) -> pl.Series:
    """Find the rows of users with more events on one UTC day than a person has."""
    users = events.select(pl.col("user_id").hash(2)).to_series()
    busy = _more_often_than(max_events_per_day, users)
    dropped = pl.repeat(False, events.height, eager=True)
    if len(busy) == 0:
        return dropped
    is_candidate = users.is_in(busy.implode())
    candidates = events.filter(is_candidate)
    per_day = candidates.group_by("user_id", pl.col("timestamp") // _DAY).len()
    bots = per_day.filter(pl.col("len") > max_events_per_day)["user_id"]
    places = is_candidate.arg_true().filter(candidates["user_id"].is_in(bots.implode()))
    return dropped.scatter(places, True)


def collect(table: LazyTable, query: pl.LazyFrame) -> pl.DataFrame:
    """Run a query on a table in batches; what cannot be read becomes a DataError."""
    try:
        return query.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise table.explain(error) from error


def described(config: CleaningConfig) -> dict[str, str]:
    """Say in words what each rule drops, in the order of the rules."""
    low, high = config.min_value, config.max_value
    span = "" if (low, high) == (-math.inf, math.inf) else f", or outside {low:g} to {high:g}"
    stays = {"first": "the first stays", "last": "the last stays", "drop": "none stays"}
    return {
        "missing_ids": "no usable user_id or item_id",
        "timestamps": "time missing or cannot be read as a time, before "
        f"{config.earliest} or after {config.latest or 'tomorrow'}",
        "values": f"value not a finite number{span}",
        "unknown_items": "item not in the item table",
        "duplicates": "repeats an earlier event",
        "conflicts": "same user, item, time and kind with another value; "
        f"{stays.get(config.conflicts, 'all stay')}",
        "bots": f"user with more than {config.max_events_per_day:,} events on one day",
        "k_core": f"user with fewer than {config.min_user_events} events, or item with fewer than "
        f"{config.min_item_events}, until none is left",
    }
