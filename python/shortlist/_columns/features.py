"""Columns of times and vectors, read as the graphs take them.

Training reads its tables with these very functions, so that a value means the same in both.
"""

import datetime
import math
from typing import Any

import numpy as np

from shortlist._columns.reading import (
    FLOAT_MAX,
    MISSING_INT,
    Array,
    _plain_rows,
    _plain_values,
    first_wrong,
    is_missing,
    to_arrow,
    wrong_entry,
)
from shortlist.errors import DataError

TICKS = {"s": 1, "ms": 10**3, "us": 10**6}
LAST_SECOND = 253_402_300_799  # the year 9999 ends; a larger number is in another unit
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def time_column(name: str, values: Any, unit: str = "s") -> Array:
    """Read a column of times as (n,) int64 seconds since 1970 UTC; missing becomes INT64_MIN.

    Accepts numbers in `unit`, datetimes and dates (without a zone: UTC), ISO 8601 text, and the
    time types of NumPy, pandas, polars and Arrow; None, NaN, NaT and "" are missing.
    """
    arrow = to_arrow(values)
    rows: Any
    if arrow is not None and is_time_type(arrow.type):
        rows = _arrow_seconds(arrow)
    else:
        rows = _plain_values(values)
    if isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iM":
        if rows.dtype.kind == "M":
            rows, unit = rows.astype("datetime64[s]"), "s"
        wide = rows.astype(np.int64)
        has_time = wide != MISSING_INT
        seconds: Array = np.where(has_time, wide // TICKS[unit], MISSING_INT)
        beyond = has_time & (np.abs(np.where(has_time, seconds, 0)) > LAST_SECOND)
        if beyond.any():
            i = int(beyond.argmax())
            raise _far_time(name, i, wide[i], unit)
        return seconds
    return np.array([_seconds(name, i, value, unit) for i, value in enumerate(rows)], np.int64)


def is_time_type(kind: Any) -> bool:
    """Say whether an Arrow type is one of dates or times."""
    import pyarrow.types as kinds

    return bool(kinds.is_timestamp(kind) or kinds.is_date(kind))


def _arrow_seconds(arrow: Any) -> Array:
    import pyarrow as pa

    chunk = arrow.combine_chunks() if isinstance(arrow, pa.ChunkedArray) else arrow
    whole = chunk.cast(pa.timestamp("s"), safe=False).cast(pa.int64()).fill_null(MISSING_INT)
    seconds: Array = np.from_dlpack(whole)
    return seconds.astype("datetime64[s]")


def _seconds(name: str, i: int, value: Any, unit: str) -> int:
    if is_missing(value) or value is np.ma.masked:
        return MISSING_INT
    if isinstance(value, np.datetime64):
        return int(time_column(name, np.array([value]))[0])
    if isinstance(value, str):
        value = _parse_time(name, i, value.strip())
        if value is None:
            return MISSING_INT
    if isinstance(value, datetime.datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return (zoned - _EPOCH) // datetime.timedelta(seconds=1)
    if isinstance(value, datetime.date):
        return (value - _EPOCH.date()).days * 86_400
    if isinstance(value, (int, float, np.integer, np.floating)) and type(value) is not bool:
        number: Any = value.item() if isinstance(value, np.generic) else value
        if not abs(number) <= LAST_SECOND * TICKS[unit]:
            raise _far_time(name, i, number, unit)
        return math.floor(number / TICKS[unit]) if number % 1 else int(number) // TICKS[unit]
    raise TypeError(
        f"requests: {name!r} row {i} is {type(value).__name__} {value!r:.60}, expected a time: a "
        "number since 1970, a datetime or ISO 8601 text"
    )


def _parse_time(name: str, i: int, text: str) -> datetime.datetime | None:
    if not text:
        return None
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(
            f"requests: {name!r} row {i} is {text!r:.60}, expected ISO 8601 such as "
            "2024-05-01T10:00:00Z"
        ) from error


def _far_time(name: str, i: int, value: Any, unit: str) -> DataError:
    return DataError(
        f"requests: {name!r} row {i} is {value}, expected a time in {unit!r} before the year "
        "10000; the feature's unit may be another"
    )


def vector_column(name: str, values: Any, width: int) -> Array:
    """Read a column of vectors as (n, width) float32; None becomes a row of NaN."""
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "iuf":
        if values.shape[1] != width:
            raise _wrong_width(name, 0, values.shape[1], width)
        wide = values.astype(np.float64)
        bad = ~(np.abs(wide) <= FLOAT_MAX)
        if bad.any():
            row, entry = divmod(int(bad.argmax()), width)
            raise _not_finite(name, row, entry, wide[row, entry])
        return wide.astype(np.float32)
    rows = _plain_rows(values)
    read = np.full((len(rows), width), np.nan, dtype=np.float32)
    for i, vector in enumerate(rows):
        if not is_missing(vector):
            read[i] = _vector(name, i, vector, width)
    return read


def _vector(name: str, i: int, row: Any, width: int) -> Array:
    if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
        raise TypeError(f"requests: {name!r} row {i} is {row!r:.60}, expected a list of numbers")
    if len(row) != width:
        raise _wrong_width(name, i, len(row), width)
    try:
        numbers = np.asarray(row)
    except (ValueError, OverflowError) as error:
        raise TypeError(
            f"requests: {name!r} row {i} is nested or too large, expected a flat list of numbers"
        ) from error
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        wrong = first_wrong(row, (int, float, np.integer, np.floating))
        raise wrong_entry(name, i, *(wrong or (0, row[0])), "a number")
    bad = ~(np.abs(numbers.astype(np.float64)) <= FLOAT_MAX)
    if bad.any():
        entry = int(bad.argmax())
        raise _not_finite(name, i, entry, numbers[entry])
    return numbers


def _wrong_width(name: str, i: int, length: int, width: int) -> DataError:
    return DataError(
        f"requests: {name!r} row {i} has {length} numbers, expected {width} as in training, or None"
    )


def _not_finite(name: str, i: int, entry: int, value: Any) -> DataError:
    return DataError(
        f"requests: {name!r} row {i}, entry {entry} is {value}, expected a finite number; give "
        "None where there is no vector"
    )
