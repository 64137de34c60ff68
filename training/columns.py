"""Turn raw columns (text of a CSV, typed columns of a frame) into checked ids, times and values."""

from __future__ import annotations

import time

import polars as pl

from shortlist.errors import DataError
from shortlist.training.tables import Table

# Seconds, milliseconds, microseconds and nanoseconds since 1970 in one second.
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# A median below the first limit means seconds (1e11 s is the year 5138), and so on.
_AUTO_LIMITS = (("s", 10**11), ("ms", 10**14), ("us", 10**17))
_DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d",
)
_CLOCK_SKEW = 86_400  # one day: clocks and time zones differ


def first_true(mask: pl.Series) -> int | None:
    """Return the first row where a boolean series is true, None if there is none."""
    return mask.arg_max() if mask.any() else None


def parse_ids(table: Table, column: str) -> pl.Series:
    """Return an id column as Int64 or String without missing values.

    Text becomes Int64 only if every id is a plain integer ("7", not "007" or "+7"); then ids of a
    CSV equal those of a Parquet file. Typed string columns stay String.

    Raises
    ------
    DataError
        An id is missing (null, empty, NaN), fractional, too large for int64 or of another type.
    """
    ids = table.frame[column]
    dtype = ids.dtype
    expected = "an id (integer or non-empty text)"
    drop = "drop the row, or give it an id"
    if dtype == pl.Null:
        raise table.error(column, 0, expected, drop)
    if dtype in (pl.Categorical, pl.Enum):
        ids, dtype = ids.cast(pl.String), pl.String()
    if dtype.is_float():
        ids = ids.fill_nan(None)
    missing = ids.is_null() | (ids == "") if dtype == pl.String else ids.is_null()
    if (row := first_true(missing.fill_null(True))) is not None:
        raise table.error(column, row, expected, drop)
    if dtype == pl.String:
        return _plain_integers(ids) if table.is_text else ids
    if not dtype.is_integer() and not dtype.is_float():
        raise DataError(
            f"{table.source}: column {column!r} has type {dtype}, expected integers or "
            "strings. Fix: cast it to one of them"
        )
    whole = ids.cast(pl.Int64, strict=False)
    wrong = whole.is_null() | (whole.cast(dtype, strict=False) != ids).fill_null(True)
    if (row := first_true(wrong)) is not None:
        raise table.error(column, row, "a whole number within int64", "cast the ids to strings")
    return whole


def _plain_integers(ids: pl.Series) -> pl.Series:
    numbers = ids.cast(pl.Int64, strict=False)
    same = numbers.cast(pl.String) == ids
    return numbers if same.fill_null(False).all() else ids


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
        raise table.error(column, row, expected, "drop the row, or give it a time")
    if raw.dtype in (pl.Categorical, pl.Enum):
        raw = raw.cast(pl.String)
    if isinstance(raw.dtype, pl.Datetime | pl.Date):
        ticks, per_second = raw.dt.epoch("us"), TICKS["us"]
    elif raw.dtype == pl.String and not _is_number(raw[0]):
        ticks, per_second = _iso_ticks(raw), TICKS["us"]
    elif raw.dtype.is_numeric() or raw.dtype == pl.String:
        ticks, per_second = _number_ticks(table, column, raw, time_unit)
    else:
        raise DataError(
            f"{table.source}: column {column!r} has type {raw.dtype}, expected numbers, "
            "ISO 8601 text or datetimes. Fix: cast it to one of them"
        )
    if (row := first_true(ticks.is_null())) is not None:
        raise table.error(column, row, expected, "correct the time, or drop the row")
    limit = (int(time.time()) + _CLOCK_SKEW) * per_second
    if not allow_future and (row := first_true(ticks > limit)) is not None:
        raise table.error(
            column,
            row,
            "a time that is not in the future",
            "correct it, name the unit (time_unit='ms', --time-unit ms), or pass allow_future=True "
            "(--allow-future)",
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
            raise table.error(column, row, "a finite time", "correct the time, or drop the row")
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
    return next((unit for unit, limit in _AUTO_LIMITS if size < limit), "ns")


def _iso_ticks(raw: pl.Series) -> pl.Series:
    text = pl.col("t").str.replace("T", " ", literal=True).str.strip_chars()
    # "10:00:00Z" and "+02:00" need a zone-aware format; the result is UTC.
    zoned = text.str.replace(r"[zZ]$", "+00:00").str.to_datetime(
        "%Y-%m-%d %H:%M:%S%.f%#z", strict=False, time_unit="us"
    )
    plain = [text.str.to_datetime(form, strict=False, time_unit="us") for form in _DATE_FORMATS]
    tried = [zoned.dt.epoch("us"), *(form.dt.epoch("us") for form in plain)]
    return raw.to_frame("t").select(pl.coalesce(tried)).to_series()


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
    values = raw.cast(pl.Float32, strict=False)
    if (row := first_true(values.is_null() & raw.is_not_null())) is not None:
        raise table.error(column, row, "a number", "correct it, or leave it empty")
    if (row := first_true(~values.is_finite().fill_null(True))) is not None:
        raise table.error(column, row, "a finite number", "correct it, or leave it empty (null)")
    return values
