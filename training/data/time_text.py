"""Text that says times: ISO 8601, day and month in the order of the column, or a layout.

What requests and the feedback log read too is `shortlist._columns.times.PATTERN`. Tables may also
have days such as 24.12.2025 or 12/24/2025, where a row decides what comes first, and anything that
a layout of `time.strptime` says.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist._columns.reading import MISSING_INT
from shortlist._columns.times import EXPECTED, PATTERN, TICKS, ZONE, days_of
from shortlist._columns.values import MISSING_TEXTS
from shortlist.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shortlist.training.data.tables import LazyTable, Table

DAY_FIRST, MONTH_FIRST = "day first", "month first"
_DAY = 86_400
_MICROSECONDS = TICKS["us"]
# How most tables write times, by length; all of them are of `PATTERN`.
_LAYOUTS = {
    10: ("%Y-%m-%d",),
    19: ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"),
    20: ("%Y-%m-%dT%H:%M:%SZ",),
}
# 1, 3 day and month, 2, 4 what separates them, 5 year, 6-9 hour minute second fraction,
# 10 half of the day, 11-14 as the last groups of `PATTERN`.
_ORDERED = (
    r"^([0-9]{1,2})([./-])([0-9]{1,2})([./-])([0-9]{4})"
    r"(?:(?:[Tt]|,? +)([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:[.,]([0-9]+))?)?"
    rf"(?:[ \u00a0\u202f]*([AaPp])\.?[Mm]\.?)?{ZONE})?$"
)
_HEAD = 1000  # rows that show how a column is written
_SHOWN = datetime.datetime(2025, 12, 24, 18, 30, 5)


def is_text(dtype: Any) -> bool:
    """Say whether a column of this type holds text."""
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def given_text(column: str) -> pl.Expr:
    """Return text without blanks around it; null where it is one of `MISSING_TEXTS`."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(~text.is_in(sorted(MISSING_TEXTS))).then(text)


def text_microseconds(text: pl.Expr) -> pl.Expr:
    """Read text of `PATTERN` as microseconds since 1970 UTC; null where it is none."""
    return text.map_batches(_read_text, return_dtype=pl.Int64, is_elementwise=True)


def _read_text(text: pl.Series) -> pl.Series:
    """Read most rows by the layout of the first, which is fast, and the others by the pattern."""
    first = text.drop_nulls().head(1)
    length = len(first[0]) if len(first) else 0
    for layout in _LAYOUTS.get(length, ()):
        same = pl.when(text.str.len_bytes() == length).then(text)
        parsed = same.str.to_datetime(layout, strict=False, time_unit="us")
        times = pl.select(pl.when(parsed.dt.year() > 0).then(parsed)).to_series()
        if times.null_count() == len(times):
            continue
        micros = times.to_physical().alias(text.name)
        others = (micros.is_null() & text.is_not_null()).arg_true()
        return (
            micros.scatter(others, _read_any_text(text.gather(others))) if len(others) else micros
        )
    return _read_any_text(text)


def _read_any_text(text: pl.Series) -> pl.Series:
    part = _groups(text, PATTERN)
    year = part[1].fill_null(part[4])
    month, day = part[2].fill_null(part[5]), part[3].fill_null(part[6])
    days = days_of(*(_integers(number) for number in (year, month, day)))
    return _moments(text.name, days, _integers(part[7]), part[8:11], part[12:15])


def _groups(text: pl.Series, pattern: str) -> list[pl.Series]:
    """Return the groups of a pattern by their numbers; the first is the text itself."""
    groups = text.str.extract_groups(pattern).struct.unnest()
    return [text, *groups.get_columns()]


def _moments(
    name: str,
    days: NDArray[np.int64],
    hour: NDArray[np.int64],
    clock: list[pl.Series],
    zone: list[pl.Series],
) -> pl.Series:
    """Put days since 1970 and the parts of a clock and a zone together, as microseconds."""
    minute, second, fraction = clock
    sign, hours, minutes = zone
    east = _integers(hours) * 3600 + _integers(minutes) * 60
    west = (sign == "-").fill_null(False).to_numpy()
    seconds = days * _DAY + hour * 3600 + _integers(minute) * 60 + _integers(second)
    seconds -= np.where(west, -east, east)
    micros = _integers(fraction.str.slice(0, 6).str.pad_end(6, "0"))
    read = pl.Series(name, seconds * _MICROSECONDS + micros)
    return read.set(pl.Series(days == MISSING_INT), None)


def _integers(digits: pl.Series) -> NDArray[np.int64]:
    return digits.cast(pl.Int64, strict=False).fill_null(0).to_numpy()


def ordered_microseconds(text: pl.Expr, order: str) -> pl.Expr:
    """Read text such as "24.12.2025 18:30" as microseconds; null where it is no such time."""

    def read(text: pl.Series) -> pl.Series:
        part = _groups(text, _ORDERED)
        day, month = (part[1], part[3]) if order == DAY_FIRST else (part[3], part[1])
        days = days_of(*(_integers(number) for number in (part[5], month, day)))
        is_half, is_late = part[10].is_not_null().to_numpy(), part[10].str.to_lowercase() == "p"
        hour = _integers(part[6])
        bad = (part[2] != part[4]).fill_null(True).to_numpy()
        bad |= is_half & ((hour == 0) | (hour > 12))
        hour = np.where(is_half, hour % 12 + 12 * is_late.fill_null(False).to_numpy(), hour)
        days = np.where(bad, MISSING_INT, days)
        return _moments(text.name, days, hour, part[7:10], part[12:15])

    return text.map_batches(read, return_dtype=pl.Int64, is_elementwise=True)


def layout_microseconds(column: str, dtype: Any, layout: str) -> pl.Expr:
    """Read a column of text or whole numbers by a layout; null where it does not fit."""
    form, rest = _chrono(layout)
    if is_text(dtype):
        text = given_text(column)
    else:  # 010131 of a typed table is 10131
        width = len(_SHOWN.strftime(layout))
        text = pl.col(column).cast(pl.Int64, strict=False).cast(pl.String).str.zfill(width)
    if "%p" in layout:  # polars knows AM and pm, not p.m.
        text = text.str.replace_all(r"([0-9\s])([AaPp])\.?([Mm])\b\.?", "${1}${2}${3}")
    if ",%f" in layout:
        text = text.str.replace_all(",", ".", literal=True)
    read = (text + rest).str.to_datetime(form, strict=False, time_unit="us")
    return read.dt.epoch("us")


def _chrono(layout: str) -> tuple[str, str]:
    """Turn a layout of `time.strptime` into one of polars, and what is to be added to the text.

    Fractions are other letters there, behind a point, a zone may lack its minutes by other letters,
    and an hour needs a minute.
    """
    form = layout.replace(",", ".") if ",%f" in layout else layout
    form = form.replace(".%f", "%.f").replace("%f", "%6f")
    form = form.replace("%p.", "%p").replace("%z", "%#z")
    has_minute = re.search(r"%-?[MTRXcrs+]", form)
    if re.search(r"%-?[HIkl]", form) and not has_minute:
        return f"{form}|%M", "|00"
    return form, ""


def check_layout(layout: str) -> None:
    """Raise a DataError if a layout does not say the day of a time."""
    form = _chrono(layout)[0]
    try:
        text = (
            pl.Series([_SHOWN]).dt.replace_time_zone("UTC").dt.strftime(form.replace("%#z", "%z"))
        )
        read = text.str.to_datetime(form, strict=False, time_unit="us")[0]
    except Exception:  # of polars, which has many
        read = None
    if read is None or "%" not in layout or read.date() != _SHOWN.date():
        raise DataError(
            f"time_format: got {layout!r}, expected how times are written, with year, month and "
            "day, as for strptime. Fix: e.g. --time-format '%d.%m.%Y %H:%M'"
        )


def begins_as_text(
    table: Table | LazyTable, collect: Callable[[pl.LazyFrame], pl.DataFrame]
) -> bool:
    """Say quickly whether the first rows of ``timestamp`` all are text of `PATTERN`, no digits."""
    rows = table.frame.lazy().select(text=given_text("timestamp")).head(_HEAD)
    head = collect(rows)["text"].drop_nulls()
    is_time = _read_text(head).is_not_null() & ~head.str.contains(r"^[0-9]+$")
    return len(head) > 0 and bool(is_time.all())


def order_of(table: Table | LazyTable, collect: Callable[[pl.LazyFrame], pl.DataFrame]) -> str:
    """Tell how the text of the column ``timestamp`` says times.

    Returns
    -------
    str
        "text" for that of `PATTERN`, `DAY_FIRST` or `MONTH_FIRST`.

    Raises
    ------
    DataError
        No row decides whether the day or the month is first, or some say this and some that; or no
        row can be read at all.
    """
    rows = table.frame.lazy().select(text=given_text("timestamp"))
    text = pl.col("text")
    is_time = text_microseconds(text).is_not_null()
    is_ordered = text.str.contains(_ORDERED).fill_null(False)
    first = text.str.extract(r"^([0-9]+)").cast(pl.Int64, strict=False)
    second = text.str.extract(r"^[0-9]+[./-]([0-9]+)").cast(pl.Int64, strict=False)
    flags = {
        "ordered": is_ordered,
        "day": is_ordered & (first > 12) & (second <= 12),
        "month": is_ordered & (second > 12) & (first <= 12),
        "dots": is_ordered & text.str.contains(r"^[0-9]+\."),
        "time": is_time,
        "given": text.is_not_null(),
    }
    n = collect(rows.select(flag.sum().alias(name) for name, flag in flags.items())).row(
        0, named=True
    )
    if 2 * n["ordered"] <= n["given"]:
        if n["given"] and not n["time"]:
            raise _unreadable(table, *_first(rows, text.is_not_null(), collect), EXPECTED)
        return "text"
    if n["day"] and n["month"]:
        (row, got), (other, odd) = (_first(rows, flags[k], collect) for k in ("day", "month"))
        raise DataError(
            f"{table.source}: column 'timestamp', {table.place(row)}: got {got!r} with the day "
            f"first, and {table.place(other)}: {odd!r} with the month first; expected one order. "
            f"Fix: write all alike, or say the order, {_flag(layout_of(got, DAY_FIRST))} or "
            f"{_flag(layout_of(odd, MONTH_FIRST))}; `shortlist clean` then drops the others"
        )
    if n["day"] or n["month"]:
        return DAY_FIRST if n["day"] else MONTH_FIRST
    if n["dots"]:  # most who write dots begin with the day
        return DAY_FIRST
    row, got = _first(rows, is_ordered, collect)
    ways = [(order, layout_of(got, order)) for order in (DAY_FIRST, MONTH_FIRST)]
    said = " or ".join(f"{_flag(layout)} for {_day_of(got, order)}" for order, layout in ways)
    raise DataError(
        f"{table.source}: column 'timestamp', {table.place(row)}: got {got!r}, in which the day or "
        f"the month may be first, and no row decides it; expected {EXPECTED}. Fix: say which, "
        f"{said}"
    )


def _first(
    rows: pl.LazyFrame, flag: pl.Expr, collect: Callable[[pl.LazyFrame], pl.DataFrame]
) -> tuple[int, str]:
    """Return the number and the text of the first row that has a flag."""
    found: tuple[int, str] = collect(rows.with_row_index("row").filter(flag).head(1)).row(0)
    return found


def _unreadable(table: Table | LazyTable, row: int, got: str, expected: str) -> DataError:
    return DataError(
        f"{table.source}: column 'timestamp', {table.place(row)}: got {got!r}, which cannot be "
        f"read as a time, nor can any other row; expected {expected}. Fix: say how times are "
        "written, e.g. --time-format '%d.%m.%y %H:%M' (time_format=)"
    )


def check_fits(
    table: Table | LazyTable,
    dtype: Any,
    layout: str,
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
) -> None:
    """Raise a DataError if a layout reads no row of the column ``timestamp``."""
    text = given_text("timestamp") if is_text(dtype) else pl.col("timestamp").cast(pl.String)
    rows = table.frame.lazy().select(
        text=text, time=layout_microseconds("timestamp", dtype, layout)
    )
    given = rows.filter(pl.col("text").is_not_null())
    for part in (given.head(_HEAD), given):
        if collect(part.select(pl.col("time").is_not_null().any() | (pl.len() == 0))).item():
            return
    row, got = collect(
        rows.with_row_index("row")
        .filter(pl.col("text").is_not_null())
        .select("row", "text")
        .head(1)
    ).row(0)
    raise _unreadable(table, row, got, f"a time written as {layout!r}")


def _flag(layout: str) -> str:
    return f"--time-format '{layout}'"


def layout_of(text: str, order: str) -> str:
    """Return the layout of a text that has day and month in an order."""
    match = re.match(_ORDERED, text)
    if match is None:
        return ""
    begin = "%d{0}%m{0}%Y" if order == DAY_FIRST else "%m{0}%d{0}%Y"
    begin = begin.format(match[2])
    rest = text[match.end(5) :]
    hour = "%I" if match[10] else "%H"
    rest = re.sub(
        r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?([.,][0-9]+)?",
        lambda clock: (
            f"{hour}:%M" + (":%S" if clock[1] else "") + (f"{clock[2][0]}%f" if clock[2] else "")
        ),
        rest,
        count=1,
    )
    rest = re.sub(r"[AaPp]\.?[Mm]\.?", "%p", rest)
    return begin + re.sub(r"[+-][0-9:]+$", "%z", rest)


def _day_of(text: str, order: str) -> str:
    """Return the day of a text in an order as ISO 8601."""
    micros = pl.select(ordered_microseconds(pl.lit(text), order)).item()
    if micros is None:
        return "no day"
    return datetime.datetime.fromtimestamp(micros / _MICROSECONDS, datetime.UTC).date().isoformat()
