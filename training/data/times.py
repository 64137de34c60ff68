"""Whole columns of times by the grammar and the rules of `shortlist._columns.times`.

Requests and the feedback log are read by that module row by row, tables by these expressions, in
memory or streaming; `tests/property/test_readers.py` holds them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from shortlist._columns.reading import MISSING_INT
from shortlist._columns.times import (
    AUTO_LIMITS,
    DIGITS,
    EXPECTED,
    FIRST_YEAR,
    LAST_DIGITS,
    ODD,
    TICKS,
    Numbers,
    form_of,
    guess_of_odd,
    has_mixed_units,
    in_digits,
    is_odd,
    unit_of,
    year_of_odd,
)
from shortlist._columns.values import EXACT
from shortlist.errors import DataError
from shortlist.training.data.time_text import (
    DAY_FIRST,
    MONTH_FIRST,
    begins_as_text,
    check_fits,
    check_layout,
    given_text,
    is_text,
    layout_microseconds,
    order_of,
    ordered_microseconds,
    text_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shortlist.training.data.tables import LazyTable, Table

_MICROSECONDS = TICKS["us"]
# Larger numbers would wrap around when they are turned into microseconds; no time is that large.
_LARGEST = 2**62
# What a time is in a column of each form.
_WORDS = {
    "text": "ISO 8601 text",
    "s": "a number (seconds since 1970)",
    "ms": "a number (milliseconds since 1970)",
    "us": "a number (microseconds since 1970)",
    "ns": "a number (nanoseconds since 1970)",
    "days": "a day such as 20240501",
    "minutes": "a minute such as 202405011000",
    "moments": "a second such as 20240501100000",
    "milliseconds": "a millisecond such as 20240501100000123",
}


def written_as(
    table: Table | LazyTable,
    dtype: Any,
    time_unit: str,
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
    *,
    time_format: str = "",
) -> str:
    """Tell how the column ``timestamp`` is written.

    "datetime", "text" or as `time_text.order_of` says, as `form_of` says, or ``time_format``.

    Parameters
    ----------
    table : Table or LazyTable
    dtype : polars type
        Of the column.
    time_unit : str
        "auto", or the unit of numbers.
    collect : callable
        Runs a query on the table.
    time_format : str
        A layout of `time.strptime`, or "" to find out.

    Raises
    ------
    DataError
        The unit, the layout or the type is unknown; the numbers can hardly be times, or the text
        cannot be read as times; names a row of them.
    """
    if time_unit not in ("auto", *TICKS):
        raise DataError(
            f"time_unit: got {time_unit!r}, expected one of {['auto', *TICKS]}. "
            "Fix: use one of these"
        )
    if time_format:
        check_layout(time_format)
        if time_unit != "auto":
            raise DataError(
                f"time_unit and time_format: got {time_unit!r} and {time_format!r}, expected one "
                "of them. Fix: leave one out"
            )
    if isinstance(dtype, pl.Datetime | pl.Date):
        return "datetime"
    if not is_text(dtype) and not dtype.is_numeric():
        raise DataError(
            f"{table.source}: column 'timestamp' has type {dtype}, expected numbers, "
            "ISO 8601 text or datetimes. Fix: cast it to one of them"
        )
    if time_format:
        check_fits(table, dtype, time_format, collect)
        return time_format
    if dtype.is_numeric() and time_unit != "auto":
        return time_unit
    if is_text(dtype) and begins_as_text(table, collect):
        return "text"
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
        return order_of(table, collect)
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


def expected_of(form: str) -> str:
    """Say in words what a time of a column is, by `written_as`'s answer."""
    if form in (DAY_FIRST, MONTH_FIRST):
        return f"a time with the {form}, as others of the column"
    if "%" in form:
        return f"a time written as {form!r}"
    return f"{_WORDS[form]}, as the others of the column" if form in _WORDS else EXPECTED


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
    if form in (DAY_FIRST, MONTH_FIRST):
        return ordered_microseconds(given_text(column), form)
    if "%" in form:
        return layout_microseconds(column, dtype, form)
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
