"""Whole columns of times by the grammar and the rules of `shortlist._columns.times`.

Requests and the feedback log are read by that module row by row, tables by these expressions, in
memory or streaming; `tests/property/test_readers.py` holds them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist._columns.reading import MISSING_INT
from shortlist._columns.times import (
    AUTO_LIMITS,
    DIGITS,
    EXPECTED,
    FIRST_YEAR,
    LAST_DIGITS,
    ODD,
    PATTERN,
    TICKS,
    Numbers,
    days_of,
    form_of,
    guess_of_odd,
    has_mixed_units,
    in_digits,
    is_odd,
    unit_of,
    year_of_odd,
)
from shortlist._columns.values import EXACT, MISSING_TEXTS
from shortlist.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shortlist.training.data.tables import LazyTable, Table

_DAY = 86_400
# How most tables write times, by length; all of them are of `PATTERN`.
_LAYOUTS = {
    10: ("%Y-%m-%d",),
    19: ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"),
    20: ("%Y-%m-%dT%H:%M:%SZ",),
}
_MICROSECONDS = TICKS["us"]
# Larger numbers would wrap around when they are turned into microseconds; no time is that large.
_LARGEST = 2**62


def is_text(dtype: Any) -> bool:
    """Say whether a column of this type holds text."""
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def given_text(column: str) -> pl.Expr:
    """Return text without blanks around it; null where it is one of `MISSING_TEXTS`."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(~text.is_in(sorted(MISSING_TEXTS))).then(text)


def written_as(
    table: Table | LazyTable,
    dtype: Any,
    time_unit: str,
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
) -> str:
    """Tell how the column ``timestamp`` is written: "datetime", "text", or as `form_of` says.

    Parameters
    ----------
    table : Table or LazyTable
    dtype : polars type
        Of the column.
    time_unit : str
        "auto", or the unit of numbers.
    collect : callable
        Runs a query on the table.

    Raises
    ------
    DataError
        The unit or the type is unknown, or the numbers can hardly be times; names a row of them.
    """
    if time_unit not in ("auto", *TICKS):
        raise DataError(
            f"time_unit: got {time_unit!r}, expected one of {['auto', *TICKS]}. "
            "Fix: use one of these"
        )
    if isinstance(dtype, pl.Datetime | pl.Date):
        return "datetime"
    if not is_text(dtype) and not dtype.is_numeric():
        raise DataError(
            f"{table.source}: column 'timestamp' has type {dtype}, expected numbers, "
            "ISO 8601 text or datetimes. Fix: cast it to one of them"
        )
    if dtype.is_numeric() and time_unit != "auto":
        return time_unit
    number = numbers("timestamp", dtype)
    rows = table.frame.lazy().select(number=number, is_given=pl.col("timestamp").is_not_null())
    value = pl.col("number")
    odd = pl.any_horizontal(value.is_between(*band, closed="left") for band in ODD)
    counts = {"n": value.is_not_null(), "n_odd": odd, "n_given": pl.col("is_given")}
    counts |= {unit: value.abs() < limit for unit, limit in AUTO_LIMITS}
    sums = [flag.sum().alias(name) for name, flag in counts.items()]
    bounds = {"low": value.min(), "high": value.max(), "first": value.drop_nulls().first()}
    n = collect(rows.select(*sums, **bounds)).row(0, named=True)
    if is_text(dtype) and 2 * n["n"] < n["n_given"]:
        return "text"
    below = tuple(n[unit] for unit, _ in AUTO_LIMITS)
    n_digits = []
    for form, size in DIGITS.items():
        is_possible = n["n"] and FIRST_YEAR * size <= n["low"] <= n["high"] <= LAST_DIGITS * size
        read = _in_digits("timestamp", dtype, form).is_not_null().sum()
        n_digits.append(int(collect(table.frame.lazy().select(read)).item()) if is_possible else 0)
    found = Numbers(n["n"], tuple(n_digits), below, n["n_odd"])
    if is_odd(found, time_unit):
        is_first = rows.with_row_index("row").filter(value.is_not_null()).select("row").head(1)
        row = collect(is_first).item()
        unit = unit_of(n["first"])
        raise DataError(
            f"{table.source}: column 'timestamp', {table.place(row)}: got {n['first']:.15g}, "
            f"{year_of_odd(n['first'])}, as all others; expected {EXPECTED}. "
            f"Fix: {guess_of_odd(n['first'])}; if they count from another moment, say "
            f"time_unit={unit!r} (--time-unit {unit})"
        )
    return form_of(found, time_unit)


def numbers(column: str, dtype: Any) -> pl.Expr:
    """Return the finite numbers of a column, Int64 or Float64 as it has them; null elsewhere."""
    if is_text(dtype):
        number = (
            pl.col(column)
            .cast(pl.String)
            .map_batches(_read_floats, return_dtype=pl.Float64, is_elementwise=True)
        )
    else:
        number = pl.col(column)
        if not dtype.is_float():
            return number.cast(pl.Int64, strict=False)
        number = number.cast(pl.Float64)
    return pl.when(number.is_finite()).then(number)


def _read_floats(text: pl.Series) -> pl.Series:
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() > text.null_count():
        numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers


def microseconds(column: str, dtype: Any, form: str) -> pl.Expr:
    """Read times as Int64 microseconds since 1970 UTC; null where there is none."""
    raw = pl.col(column)
    if form == "datetime":
        return raw.dt.epoch("us")
    if form == "text":
        return text_microseconds(given_text(column))
    if form in DIGITS:
        return _in_digits(column, dtype, form) * 1000
    per_second = TICKS[form]
    if is_text(dtype):
        return raw.cast(pl.String).map_batches(
            lambda text: _read_numbers(text, per_second), pl.Int64, is_elementwise=True
        )
    return _ticks(raw, dtype, per_second)


def _read_numbers(text: pl.Series, per_second: int) -> pl.Series:
    """Read text of numbers; most columns have whole numbers without blanks around them."""
    whole = text.cast(pl.Int64, strict=False)
    ticks = whole.to_frame().select(_ticks(pl.col(text.name), pl.Int64(), per_second)).to_series()
    if ticks.null_count() > text.null_count():
        real = text.str.strip_chars().cast(pl.Float64, strict=False).to_frame()
        rounded = real.select(_ticks(pl.col(text.name), pl.Float64(), per_second)).to_series()
        ticks = ticks.fill_null(rounded)
    return ticks


def _ticks(raw: pl.Expr, dtype: Any, per_second: int) -> pl.Expr:
    whole = raw.cast(pl.Int64, strict=False)
    if per_second > _MICROSECONDS:
        ticks = whole // (per_second // _MICROSECONDS)
    else:
        factor = _MICROSECONDS // per_second
        ticks = pl.when(whole.abs() < _LARGEST // factor).then(whole * factor)
    if dtype.is_integer():
        return ticks
    number = raw.cast(pl.Float64, strict=False)
    real = number * (_MICROSECONDS / per_second)
    is_near = (real.abs() < _LARGEST) & (number.abs() < 2.0**63)  # as requests and the log ask
    rounded = pl.when(is_near).then(real.round().cast(pl.Int64, strict=False))
    return rounded if dtype.is_float() else pl.coalesce(ticks, rounded)


def text_microseconds(text: pl.Expr) -> pl.Expr:
    """Read text of `PATTERN` as microseconds since 1970 UTC; null where it is none."""
    return text.map_batches(_read_text, return_dtype=pl.Int64, is_elementwise=True)


def _read_text(text: pl.Series) -> pl.Series:
    """Read most rows by the layout of the first, which is fast, and the others by the pattern."""
    first = text.drop_nulls().head(1)
    length = len(first[0]) if len(first) else 0
    for layout in _LAYOUTS.get(length, ()):
        same = pl.when(text.str.len_bytes() == length).then(text)
        times = pl.select(same.str.to_datetime(layout, strict=False, time_unit="us")).to_series()
        if times.null_count() == len(times):
            continue
        micros = times.to_physical().alias(text.name)
        others = (micros.is_null() & text.is_not_null()).arg_true()
        return (
            micros.scatter(others, _read_any_text(text.gather(others))) if len(others) else micros
        )
    return _read_any_text(text)


def _read_any_text(text: pl.Series) -> pl.Series:
    parts = text.str.extract_groups(PATTERN).struct.unnest()
    given = {name: parts[name] for name in parts.columns}
    year = given["1"].fill_null(given["4"])
    month, day = given["2"].fill_null(given["5"]), given["3"].fill_null(given["6"])
    days = days_of(*(_integers(part) for part in (year, month, day)))
    clock = _integers(given["7"]) * 3600 + _integers(given["8"]) * 60 + _integers(given["9"])
    east = _integers(given["13"]) * 3600 + _integers(given["14"]) * 60
    west = (given["12"] == "-").fill_null(False).to_numpy()
    fraction = _integers(given["10"].str.slice(0, 6).str.pad_end(6, "0"))
    seconds = days * _DAY + clock - np.where(west, -east, east)
    micros = pl.Series(text.name, seconds * _MICROSECONDS + fraction)
    return micros.set(pl.Series(days == MISSING_INT), None)


def _integers(digits: pl.Series) -> NDArray[np.int64]:
    return digits.cast(pl.Int64, strict=False).fill_null(0).to_numpy()


def _in_digits(column: str, dtype: Any, form: str) -> pl.Expr:
    """Read a column of one of `DIGITS` as milliseconds since 1970; null where it is none."""

    def read(values: pl.Series) -> pl.Series:
        millis = in_digits(values.fill_null(0).to_numpy(), form)
        return pl.Series(values.name, millis).set(pl.Series(millis == MISSING_INT), None)

    number = numbers(column, dtype)
    if is_text(dtype) and LAST_DIGITS * DIGITS[form] >= EXACT:  # more digits than floats have
        text = pl.col(column).cast(pl.String).str.strip_chars()
        number = text.cast(pl.Int64, strict=False)
    return number.map_batches(read, return_dtype=pl.Int64, is_elementwise=True)


def has_two_units(n_times: int, n_early: int, time_unit: str) -> bool:
    """Say whether some times are before 1990 where most are later; see `has_mixed_units`."""
    return has_mixed_units(Numbers(n_times, (), (), 0), n_early, time_unit)
