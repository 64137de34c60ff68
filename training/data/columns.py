"""Turn raw columns (text of a CSV, typed columns of a frame) into checked ids, times and values."""

from __future__ import annotations

import time
from typing import Any

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.tables import Table

# Seconds, milliseconds, microseconds and nanoseconds since 1970 in one second.
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# A median below the first limit means seconds (1e11 s is the year 5138), and so on.
AUTO_LIMITS = (("s", 10**11), ("ms", 10**14), ("us", 10**17))
_DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d",
)
CLOCK_SKEW = 86_400  # one day: clocks and time zones differ
CLEAN = "`shortlist clean` drops such rows and reports them"


def first_true(mask: pl.Series) -> int | None:
    """Return the first row where a boolean series is true, None if there is none."""
    return mask.arg_max() if mask.any() else None


def id_expression(column: str, dtype: Any, source: str) -> pl.Expr:
    """Return ids as Int64 or String: null where missing, empty, NaN, fractional or too large."""
    raw = pl.col(column)
    if dtype == pl.Null or dtype == pl.String or dtype in (pl.Categorical, pl.Enum):
        text = raw.cast(pl.String)
        return pl.when(text != "").then(text)
    if not dtype.is_integer() and not dtype.is_float():
        raise DataError(
            f"{source}: column {column!r} has type {dtype}, expected integers or "
            "strings. Fix: cast it to one of them"
        )
    whole = raw.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(dtype, strict=False) == raw).then(whole)


def is_plain_integer(column: str) -> pl.Expr:
    """Say which texts are integers as Python writes them ("7", not "007" or "+7")."""
    text = pl.col(column)
    return (text.cast(pl.Int64, strict=False).cast(pl.String) == text).fill_null(False)


def parse_ids(table: Table, column: str) -> pl.Series:
    """Return an id column as Int64 or String without missing values.

    Text becomes Int64 only if every id is a plain integer ("7", not "007" or "+7"); then ids of a
    CSV equal those of a Parquet file. Typed string columns stay String.

    Raises
    ------
    DataError
        An id is missing (null, empty, NaN), fractional, too large for int64 or of another type.
    """
    raw = table.frame[column]
    ids = table.frame.select(id_expression(column, raw.dtype, table.source)).to_series()
    if (row := first_true(ids.is_null())) is not None:
        got = raw[row]
        if got is None or got == "" or got != got:
            expected = "an id (integer or non-empty text)"
            raise table.error(column, row, expected, f"drop the row, or give it an id; {CLEAN}")
        raise table.error(column, row, "a whole number within int64", "cast the ids to strings")
    if table.is_text and table.frame.select(is_plain_integer(column).all()).item():
        return ids.cast(pl.Int64)
    return ids


def parse_times(
    table: Table, column: str, *, time_unit: str = "auto", allow_future: bool = False
) -> tuple[pl.Series, int]:
    """Return times as Int64 ticks since 1970 (UTC) and the ticks in one second.

    Numbers are seconds, milliseconds, microseconds or nanoseconds as ``time_unit`` says; "auto"
    decides by the median: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds,
    else nanoseconds. Text is a number, ISO 8601 ("2024-05-01", "2024-05-01T10:00:00.5Z") or
    "2024/05/01"; text and datetimes without a time zone are UTC.

    Raises
    ------
    DataError
        A time is missing, not finite, cannot be parsed, or lies more than a day in the future.
    """
    if time_unit not in ("auto", *TICKS):
        raise DataError(
            f"time_unit: got {time_unit!r}, expected one of {['auto', *TICKS]}. "
            "Fix: use one of these"
        )
    raw = table.frame[column]
    expected = "a time (number since 1970, ISO 8601 text or datetime)"
    if (row := first_true(raw.is_null())) is not None:
        raise table.error(column, row, expected, f"drop the row, or give it a time; {CLEAN}")
    if raw.dtype in (pl.Categorical, pl.Enum):
        raw = raw.cast(pl.String)
    if isinstance(raw.dtype, pl.Datetime | pl.Date):
        ticks, per_second = raw.dt.epoch("us"), TICKS["us"]
    elif raw.dtype == pl.String and not _is_number(raw[0]):
        ticks, per_second = raw.to_frame().select(iso_microseconds(column)).to_series(), TICKS["us"]
    elif raw.dtype.is_numeric() or raw.dtype == pl.String:
        ticks, per_second = _number_ticks(table, column, raw, time_unit)
    else:
        raise DataError(
            f"{table.source}: column {column!r} has type {raw.dtype}, expected numbers, "
            "ISO 8601 text or datetimes. Fix: cast it to one of them"
        )
    if (row := first_true(ticks.is_null())) is not None:
        raise table.error(column, row, expected, f"correct the time, or drop the row; {CLEAN}")
    limit = (int(time.time()) + CLOCK_SKEW) * per_second
    if not allow_future and (row := first_true(ticks > limit)) is not None:
        raise table.error(
            column,
            row,
            "a time that is not in the future",
            "correct it, name the unit (time_unit='ms', --time-unit ms), or pass allow_future=True "
            f"(--allow-future); {CLEAN}",
        )
    return ticks, per_second


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number_ticks(
    table: Table, column: str, raw: pl.Series, time_unit: str
) -> tuple[pl.Series, int]:
    whole = raw.cast(pl.Int64, strict=False)
    if not raw.dtype.is_integer() and (whole.is_null().any() or raw.dtype.is_float()):
        real = raw.cast(pl.Float64, strict=False)
        if (row := first_true(~real.is_finite().fill_null(True))) is not None:
            raise table.error(
                column, row, "a finite time", f"correct the time, or drop the row; {CLEAN}"
            )
        unit = _unit_of(real, time_unit)
        # Fractions of a second keep their order: count in microseconds.
        factor = TICKS["us"] / TICKS[unit]
        return (real * factor).round().cast(pl.Int64, strict=False), TICKS["us"]
    return whole, TICKS[_unit_of(whole, time_unit)]


def _unit_of(numbers: pl.Series, time_unit: str) -> str:
    if time_unit != "auto":
        return time_unit
    median = numbers.abs().median()
    size = float(median) if isinstance(median, int | float) else 0.0
    return next((unit for unit, limit in AUTO_LIMITS if size < limit), "ns")


def iso_microseconds(column: str) -> pl.Expr:
    """Read ISO 8601 or "2024/05/01" text as microseconds since 1970 UTC; null where it is not."""
    text = pl.col(column).str.replace("T", " ", literal=True).str.strip_chars()
    # "10:00:00Z" and "+02:00" need a zone-aware format; the result is UTC.
    zoned = text.str.replace(r"[zZ]$", "+00:00").str.to_datetime(
        "%Y-%m-%d %H:%M:%S%.f%#z", strict=False, time_unit="us"
    )
    plain = [text.str.to_datetime(form, strict=False, time_unit="us") for form in _DATE_FORMATS]
    return pl.coalesce(zoned.dt.epoch("us"), *(form.dt.epoch("us") for form in plain))


def value_expression(column: str) -> pl.Expr:
    """Read values as Float32; null where there is none and where it is not a number."""
    return pl.col(column).cast(pl.Float32, strict=False)


def parse_values(table: Table, column: str) -> pl.Series:
    """Return a Float32 column; nulls and empty text stay null.

    Raises
    ------
    DataError
        A value is not a number, or not finite in float32.
    """
    raw = table.frame[column]
    if raw.dtype == pl.String:
        raw = raw.replace("", None)
    values = raw.to_frame().select(value_expression(column)).to_series()
    if (row := first_true(values.is_null() & raw.is_not_null())) is not None:
        raise table.error(column, row, "a number", f"correct it, or leave it empty; {CLEAN}")
    if (row := first_true(~values.is_finite().fill_null(True))) is not None:
        raise table.error(
            column, row, "a finite number", f"correct it, or leave it empty (null); {CLEAN}"
        )
    return values
