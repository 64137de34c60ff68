"""Turn raw columns (text of a CSV, typed columns of a frame) into checked ids, times and values."""

from __future__ import annotations

import math
import time
from typing import Any

import polars as pl

from shortlist._columns.times import EXPECTED, FIRST_PLAUSIBLE, TICKS
from shortlist._columns.values import EXACT, MISSING_TEXTS
from shortlist.errors import DataError
from shortlist.training.data import times
from shortlist.training.data.tables import LazyTable, Table
from shortlist.training.data.time_text import is_text

_MISSING_VALUES = sorted(text for text in MISSING_TEXTS if text.lower().lstrip("-") != "nan")
CLOCK_SKEW = 86_400  # one day: clocks and time zones differ
CLEAN = "`shortlist clean` drops such rows and reports them"


def first_true(mask: pl.Series) -> int | None:
    """Return the first row where a boolean series is true, None if there is none."""
    return mask.arg_max() if mask.any() else None


def id_expression(column: str, dtype: Any, source: str, *, is_file_text: bool = False) -> pl.Expr:
    """Return ids as Int64 or String: null where missing, empty, NaN, fractional or too large.

    Text of a file is taken without the blanks around it.
    """
    raw = pl.col(column)
    if dtype == pl.Null or is_text(dtype):
        text = raw.cast(pl.String)
        text = text.str.strip_chars() if is_file_text else text
        return pl.when(text != "").then(text)
    if not dtype.is_integer() and not dtype.is_float() and not dtype.is_decimal():
        raise DataError(
            f"{source}: column {column!r} has type {dtype}, expected integers or "
            "strings. Fix: cast it to one of them"
        )
    whole = raw.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(dtype, strict=False) == raw).then(whole)


def lost_digits(column: str, dtype: Any, *, is_file_text: bool = False) -> pl.Expr:
    """Say which ids have gone through a float64 and are too long for it: they may be another's."""
    raw = pl.col(column)
    if dtype.is_float():
        return (raw.abs() >= EXACT) & raw.is_finite()
    if not is_file_text:
        return pl.lit(False)
    # "1.58e+18" and "1582218195625938945.0", as pandas and spreadsheets write floats
    is_power = raw.str.contains(r"^\s*[0-9](?:[.,][0-9]+)?[eE]\+[0-9]+\s*$")
    number = (
        raw.str.strip_chars().str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    )
    return (is_power | raw.str.ends_with(".0")) & (number.abs() >= EXACT)


def may_have_lost_digits(column: str, dtype: Any, *, is_file_text: bool = False) -> pl.Expr:
    """Say much faster which ids `lost_digits` needs to look at."""
    raw = pl.col(column)
    if not is_file_text:
        return lost_digits(column, dtype)
    is_long = raw.str.ends_with(".0") & (raw.str.len_bytes() >= len(f"{EXACT}.0"))
    powers = [raw.str.contains(power, literal=True) for power in ("e+", "E+")]
    return is_long | powers[0] | powers[1]


def lost_digits_error(table: Table | LazyTable, column: str, row: int, got: object) -> DataError:
    """Return the error for an id of `lost_digits`."""
    return DataError(
        f"{table.source}: column {column!r}, {table.place(row)}: got {got!r}, a float from 2^53 "
        "on, which may have been another id before it was rounded; expected whole numbers or text. "
        "Fix: write the ids as integers or text (in pandas: dtype='Int64' or str when reading)"
    )


def plain_integer(column: str) -> pl.Expr:
    """Return texts that are integers as Python writes them as Int64 ("7", "7.0", not "007", "+7").

    The ".0" is what pandas and spreadsheets add where a column has gaps.
    """
    return pl.col(column).map_batches(_plain_integers, return_dtype=pl.Int64, is_elementwise=True)


def _plain_integers(text: pl.Series) -> pl.Series:
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() > text.null_count():
        text = text.str.strip_chars().str.strip_suffix(".0")
        whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == len(whole):
        return whole
    return (
        whole.alias("whole")
        .to_frame()
        .select(pl.when(pl.col("whole").cast(pl.String) == text).then("whole"))
        .to_series()
        .alias(text.name)
    )


def parse_ids(table: Table, column: str) -> pl.Series:
    """Return an id column as Int64 or String without missing values.

    Text of a file becomes Int64 only if every id is a plain integer ("7", "7.0", not "007" or
    "+7"); then ids of a CSV equal those of a Parquet file. Typed string columns stay String.

    Raises
    ------
    DataError
        An id is missing (null, empty, NaN), fractional, too large for int64, of another type, or a
        float from 2^53 on.
    """
    raw = table.frame[column]
    is_file_text = table.is_text
    may_be_lost = may_have_lost_digits(column, raw.dtype, is_file_text=is_file_text)
    if table.frame.select(may_be_lost.any()).item():
        is_lost = table.frame.select(
            lost_digits(column, raw.dtype, is_file_text=is_file_text)
        ).to_series()
        if (row := first_true(is_lost)) is not None:
            raise lost_digits_error(table, column, row, raw[row])
    expression = id_expression(column, raw.dtype, table.source, is_file_text=table.is_text)
    ids = table.frame.select(expression).to_series()
    if (row := first_true(ids.is_null())) is not None:
        got = raw[row]
        if got is None or got != got or (isinstance(got, str) and not got.strip()):
            expected = "an id (integer or non-empty text)"
            raise table.error(column, row, expected, f"drop the row, or give it an id; {CLEAN}")
        raise table.error(column, row, "a whole number within int64", "cast the ids to strings")
    plain = plain_integer(column)
    is_plain = table.is_text and not table.frame.head(1000).select(plain).to_series().has_nulls()
    if is_plain:
        whole = table.frame.select(plain).to_series()
        if not whole.has_nulls():
            return whole
    return ids


def parse_times(
    table: Table,
    column: str,
    *,
    time_unit: str = "auto",
    time_format: str = "",
    allow_future: bool = False,
) -> tuple[pl.Series, int]:
    """Return times as Int64 ticks since 1970 (UTC) and the ticks in one second.

    Text, numbers and typed times are read as `shortlist._columns.times` says; numbers count
    seconds, milliseconds, microseconds or nanoseconds as ``time_unit`` says, or by their size.

    Raises
    ------
    DataError
        A time is missing, not finite, cannot be parsed, or lies more than a day in the future;
        numbers can hardly be times, or are in two units.
    """
    raw = table.frame[column]
    if (row := first_true(raw.is_null())) is not None:
        raise table.error(column, row, EXPECTED, f"drop the row, or give it a time; {CLEAN}")
    form = times.written_as(
        table, raw.dtype, time_unit, lambda query: query.collect(), time_format=time_format
    )
    per_second = TICKS["us"]
    if form == "ns" and raw.dtype.is_integer():
        ticks, per_second = raw.cast(pl.Int64, strict=False), TICKS["ns"]  # order below 1 µs
    else:
        expression = times.microseconds(column, raw.dtype, form)
        ticks = table.frame.select(expression.alias(column)).to_series()
    if (row := first_true(ticks.is_null())) is not None:
        expected = times.expected_of(form)
        expected = expected if form == "text" or _is_finite(raw[row]) else "a finite time"
        raise table.error(column, row, expected, f"correct the time, or drop the row; {CLEAN}")
    limit = (int(time.time()) + CLOCK_SKEW) * per_second
    is_future = ticks > limit
    if form in TICKS:
        is_early = ticks < FIRST_PLAUSIBLE * per_second
        early = first_true(is_early)
        if early is not None and times.has_two_units(len(ticks), int(is_early.sum()), time_unit):
            raise table.error(
                column,
                early,
                f"a time from 1990 on, as most are when they are read as {form!r} (this one may be "
                "in another unit)",
                f"write all times alike; {CLEAN}",
            )
    if not allow_future and (row := first_true(is_future)) is not None:
        raise table.error(
            column,
            row,
            "a time that is not in the future",
            "correct it, name the unit (time_unit='ms', --time-unit ms), or pass allow_future=True "
            f"(--allow-future); {CLEAN}",
        )
    return ticks, per_second


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return True  # no number at all


def kind_expression(is_file_text: bool) -> pl.Expr:
    """Return the column ``kind`` as text, null where there is none."""
    kind = pl.col("kind").cast(pl.String)
    kind = kind.str.strip_chars() if is_file_text else kind
    return pl.when(kind != "").then(kind)


def value_expression(column: str, dtype: Any) -> pl.Expr:
    """Read values as Float32; null where there is none and where it is not a number."""
    raw = pl.col(column)
    raw = raw.cast(pl.String).str.strip_chars() if is_text(dtype) else raw
    return raw.cast(pl.Float32, strict=False)


def is_given_value(column: str, dtype: Any) -> pl.Expr:
    """Say where there is a value, be it a number or not."""
    if is_text(dtype):  # NaN is refused in text as in a column of floats
        text = pl.col(column).cast(pl.String).str.strip_chars()
        return (~text.is_in(_MISSING_VALUES)).fill_null(False)
    return pl.col(column).is_not_null()


def parse_values(table: Table, column: str) -> pl.Series:
    """Return a Float32 column; nulls and text that means missing become null.

    Raises
    ------
    DataError
        A value is not a number, or not finite in float32.
    """
    raw = table.frame[column]
    found = table.frame.select(
        value=value_expression(column, raw.dtype), given=is_given_value(column, raw.dtype)
    )
    values, is_given = found["value"].alias(column), found["given"]
    if (row := first_true(values.is_null() & is_given)) is not None:
        raise table.error(column, row, "a number", f"correct it, or leave it empty; {CLEAN}")
    if (row := first_true(~values.is_finite().fill_null(True))) is not None:
        raise table.error(
            column, row, "a finite number", f"correct it, or leave it empty (null); {CLEAN}"
        )
    return values
