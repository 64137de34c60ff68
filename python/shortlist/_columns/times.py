"""What a time may look like, for requests, the feedback log, training and cleaning alike.

There is one grammar of text (`PATTERN`) and one rule of how numbers are written (`form_of`). Rows
of Python and NumPy are read by `time_column`; training reads whole columns of polars by the same
pattern and the same rule, in `shortlist.training.data.times`. `docs/data.md` has the table.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist._columns.reading import (
    MISSING_INT,
    Array,
    _plain_values,
    is_missing,
    to_arrow,
)
from shortlist._columns.values import EXACT, NUMBER, means_missing
from shortlist.errors import DataError

# Seconds, milliseconds, microseconds and nanoseconds since 1970 in one second.
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Most numbers below the first limit are seconds (1e11 s is the year 5138), and so on.
AUTO_LIMITS = (("s", 10**11), ("ms", 10**14), ("us", 10**17))
LAST_SECOND = 253_402_300_799  # the year 9999 ends
FIRST_PLAUSIBLE = 631_152_000  # 1990-01-01: no event of a computer is older
# Smaller numbers may count from any start (1, 2, 3, …); 7305 is the number of the day 1990-01-01.
FIRST_ODD = 7305
FIRST_YEAR, LAST_YEAR = 1900, 2100  # of days and moments written in digits alone
# What the year is multiplied by in 20240131, in …1230, in …123059 and in …123059999.
DIGITS = {"days": 10**4, "minutes": 10**8, "moments": 10**10, "milliseconds": 10**13}
LAST_DIGITS = LAST_YEAR + 1
# Numbers that are hardly times, from and below: years, and before 1990 in the unit of their size.
ODD = (
    (FIRST_YEAR, LAST_YEAR + 1),
    (FIRST_ODD, FIRST_PLAUSIBLE),
    *((AUTO_LIMITS[i][1], FIRST_PLAUSIBLE * 1000 ** (i + 1)) for i in range(3)),
)

# The name of UTC, or sign, hours and minutes.
ZONE = r" *(?:([Zz]|UTC|utc|GMT|gmt)|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)?"
# 1-3 year month day with hyphens or strokes, 4-6 without, 7-10 hour minute second fraction,
# 11 the name of UTC, 12-14 sign, hours and minutes of a zone. The same in Python and in Rust.
PATTERN = (
    r"^(?:([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})|([0-9]{4})([0-9]{2})([0-9]{2}))"
    r"(?:(?:[Tt]| +)([01]?[0-9]|2[0-3])(?::?([0-5][0-9])(?::?([0-5][0-9])(?:[.,]([0-9]+))?)?)?"
    rf"{ZONE})?$"
)
EXPECTED = "a time (number since 1970, ISO 8601 text or datetime)"
_TIME = re.compile(PATTERN)
_NUMBER = re.compile(NUMBER)
_DIGITS = re.compile(r"^[0-9]+$")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_DAY = 86_400
_MICROSECONDS = TICKS["us"]


@dataclass(frozen=True)
class Numbers:
    """Counts of the numbers in a column of times, from which `form_of` tells what they are.

    Attributes
    ----------
    n : int
        Finite numbers.
    n_digits : tuple of int
        Those that are moments of the calendar in each of `DIGITS`.
    n_below : tuple of int
        Those whose size is below each of `AUTO_LIMITS`.
    n_odd : int
        Those in one of `ODD`.
    """

    n: int
    n_digits: tuple[int, ...]
    n_below: tuple[int, ...]
    n_odd: int

    @property
    def is_digits(self) -> bool:
        """Whether all numbers are moments of the calendar in one of `DIGITS`."""
        return self.n > 0 and self.n in self.n_digits


def form_of(numbers: Numbers, unit: str) -> str:
    """Tell how numbers say times: one of `DIGITS` or of `TICKS`.

    With a unit other than "auto" it is that unit. Otherwise numbers that are all written in the
    same digits are that, and the unit of all others is the one in which most of them can be.
    """
    if unit != "auto":
        return unit
    if numbers.is_digits:
        return list(DIGITS)[numbers.n_digits.index(numbers.n)]
    below = zip(AUTO_LIMITS, numbers.n_below, strict=True)
    return next((name for (name, _), n in below if 2 * n > numbers.n or not numbers.n), "ns")


def is_odd(numbers: Numbers, unit: str) -> bool:
    """Say whether the numbers can hardly be times: all of them are days, years or the like."""
    all_are = numbers.n > 0 and numbers.n_odd == numbers.n
    return unit == "auto" and all_are and not numbers.is_digits


def unit_of(number: float) -> str:
    """Name the unit of `TICKS` that a number alone is in, by its size."""
    return next((name for name, limit in AUTO_LIMITS if abs(number) < limit), "ns")


def year_of_odd(number: float) -> str:
    """Say which year a number would be."""
    unit = unit_of(number)
    year = 1970 + int(number / TICKS[unit] // (365.2425 * _DAY))
    return f"which as a number of {unit!r} is the year {year}"


def guess_of_odd(number: float) -> str:
    """Say what a number that is no plausible time may be instead, and how to write it."""
    if FIRST_YEAR <= number <= LAST_YEAR:
        return "a year? Write it as a day, 2024-01-01"
    if 20_000 <= number <= 80_000:
        return "a spreadsheet's day? Write it as 2024-01-31"
    if number <= 80_000:
        return "days since 1970? Multiply them by 86400"
    if 190_000 <= number <= 210_012:
        return "a year and month? Write it as a day, 2024-01-01"
    if _is_day_of_century(number):
        return "a day without its century? Write it as 2024-01-31"
    if number >= 10**11 and _is_day_of_century(number // 10**6):
        return "a moment without its century? Write it as 2024-01-31 12:30:00"
    if number >= 10**11:
        return "a moment in digits that is not in the calendar, or another unit?"
    return "another unit?"


def _is_day_of_century(number: float) -> bool:
    """Say whether a number may be a day such as 240131."""
    return number < 10**6 and 1 <= number // 100 % 100 <= 12 and 1 <= number % 100 <= 31


def has_mixed_units(numbers: Numbers, n_early: int, unit: str) -> bool:
    """Say whether most numbers are times of computers and some, read alike, are far older."""
    return unit == "auto" and n_early > 0 and 2 * n_early < numbers.n


def parse_time(text: str) -> int | None:
    """Return text as microseconds since 1970 UTC, None if it is no time.

    Examples
    --------
    >>> parse_time("2024-05-01 12:00+02:00") == parse_time("20240501T100000Z")
    True
    """
    match = _TIME.match(text)
    if match is None:
        return None
    parts = match.groups()
    year, month, day = (int(part) for part in (parts[:3] if parts[0] else parts[3:6]))
    try:
        days = datetime.date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    hour, minute, second = (int(part or 0) for part in parts[6:9])
    micros = int((parts[9] or "")[:6].ljust(6, "0"))
    east = int(parts[12] or 0) * 3600 + int(parts[13] or 0) * 60
    seconds = days * _DAY + hour * 3600 + minute * 60 + second
    seconds -= -east if parts[11] == "-" else east
    return seconds * _MICROSECONDS + micros


def time_column(name: str, values: Any, unit: str = "auto") -> Array:
    """Read a column of times as (n,) int64 seconds since 1970 UTC; missing becomes INT64_MIN.

    Accepts numbers, datetimes and dates (without a zone: UTC), the text of `PATTERN`, numbers as
    text, and the time types of NumPy, pandas, polars and Arrow; None, NaN, NaT and text such as ""
    or "null" are missing.

    Parameters
    ----------
    name : str
    values : any column
    unit : {"auto", "s", "ms", "us", "ns"}
        What numbers count, since 1970; "auto" decides by their size, as training does. With
        "auto" and "s", the unit of features that say none, whole numbers that are all days of the
        calendar, such as 20240131, are these days.

    Raises
    ------
    TypeError
        A value is no time, text or number.
    DataError
        Text that is no time, a number out of range, or numbers that can hardly be times.
    """
    arrow = to_arrow(values)
    if arrow is not None and is_time_type(arrow.type):
        rows: Any = _arrow_seconds(arrow)
    else:
        rows = _plain_values(values)
    if isinstance(rows, np.ndarray) and rows.ndim == 1:
        if rows.dtype.kind == "M":
            return _far_checked(name, rows.astype("datetime64[s]").astype(np.int64))
        if rows.dtype.kind == "i":
            wide = rows.astype(np.int64)
            return _read_numbers(name, wide, wide != MISSING_INT, unit)
        if rows.dtype.kind == "f":
            real = rows.astype(np.float64)
            return _read_numbers(name, real, ~np.isnan(real), unit)
    return _read_mixed(name, rows, unit)


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


def _read_mixed(name: str, rows: Any, unit: str) -> Array:
    """Read values of any type; numbers, written as text or not, are looked at together."""
    seconds = np.full(len(rows), MISSING_INT, np.int64)
    numbers: list[int | float] = []
    owners: list[int] = []
    for i, value in enumerate(rows):
        if is_missing(value) or value is np.ma.masked:
            continue
        found: int | _Number | None
        if isinstance(value, str):
            found = _of_text(name, i, value)
        elif isinstance(value, np.datetime64):
            found = value.astype("datetime64[s]").astype(np.int64).item() * _MICROSECONDS
            found = None if np.isnat(value) else found
        elif isinstance(value, datetime.datetime):
            zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
            found = (zoned - _EPOCH) // datetime.timedelta(microseconds=1)
        elif isinstance(value, datetime.date):
            found = (value.toordinal() - _EPOCH_DAY) * _DAY * _MICROSECONDS
        elif isinstance(value, (int, float, np.integer, np.floating)) and type(value) is not bool:
            numbers.append(value.item() if isinstance(value, np.generic) else value)
            owners.append(i)
            continue
        else:
            raise TypeError(
                f"requests: {name!r} row {i} is {type(value).__name__} {value!r:.60}, expected a "
                "time: a number since 1970, a datetime or ISO 8601 text"
            )
        if isinstance(found, _Number):
            numbers.append(found.value)
            owners.append(i)
        elif found is not None:
            seconds[i] = found // _MICROSECONDS
    if numbers:
        is_text = any(isinstance(rows[i], str) for i in owners)
        read = _read_list(name, numbers, owners, unit, is_text=is_text)
        seconds[owners] = read
    return seconds


@dataclass(frozen=True)
class _Number:
    value: int | float


def _of_text(name: str, i: int, text: str) -> int | _Number | None:
    plain = text.strip()
    if (found := parse_time(plain)) is not None and not _DIGITS.match(plain):
        return found
    if means_missing(plain):
        return None
    if _NUMBER.match(plain):
        return _Number(int(plain) if _DIGITS.match(plain) else float(plain))
    raise DataError(
        f"requests: {name!r} row {i} is {text!r:.60}, expected ISO 8601 such as "
        "2024-05-01T10:00:00Z, or a number since 1970"
    )


def _read_list(
    name: str, numbers: list[int | float], owners: list[int], unit: str, *, is_text: bool
) -> Array:
    """Read numbers of Python, of rows `owners`, as seconds.

    Only text is looked at for being no time at all: a caller who passes numbers, be it one alone,
    means seconds, and those of a replay may count from another start.
    """
    for i, number in zip(owners, numbers, strict=True):
        if not abs(number) < 2**63:
            raise _far_time(name, i, number, unit)
    if all(type(number) is int for number in numbers):
        column = np.array(numbers, dtype=np.int64)
    else:
        column = np.array(numbers, dtype=np.float64)
    given = np.ones(len(column), np.bool_)
    return _read_numbers(name, column, given, unit, owners, is_text=is_text)


def _read_numbers(
    name: str,
    numbers: Array,
    given: Array,
    unit: str,
    owners: list[int] | None = None,
    *,
    is_text: bool = False,
) -> Array:
    found = numbers[given]
    rows = np.flatnonzero(given) if owners is None else np.array(owners)
    if found.dtype.kind == "f" and not (np.abs(found) < 2**63).all():
        place = int((~(np.abs(found) < 2**63)).argmax())
        raise _far_time(name, int(rows[place]), found[place].item(), unit)
    counts = count_numbers(found)
    form = form_of(counts, "auto" if unit == "s" and counts.is_digits else unit)
    if is_text and is_odd(counts, unit):
        row, number = int(rows[0]), found[0].item()
        raise DataError(
            f"requests: {name!r} row {row} is {number}, {year_of_odd(number)}, expected a time: "
            f"{guess_of_odd(number)}"
        )
    seconds = np.full(len(numbers), MISSING_INT, np.int64)
    seconds[given] = read = seconds_of(found, form)
    early = read < FIRST_PLAUSIBLE
    if form not in DIGITS and has_mixed_units(counts, int(early.sum()), unit):
        place = int(early.argmax())
        raise DataError(
            f"requests: {name!r} row {int(rows[place])} is {found[place].item()}, which in "
            f"{form!r} is before 1990 where most are later: are there two units? Write all alike"
        )
    beyond = np.abs(read) > LAST_SECOND
    if beyond.any():
        place = int(beyond.argmax())
        raise _far_time(name, int(rows[place]), found[place].item(), form)
    return seconds


def count_numbers(numbers: Array) -> Numbers:
    """Count int64 or float64 numbers (n,) for `form_of`."""
    size = np.abs(numbers)
    return Numbers(
        n=len(numbers),
        n_digits=tuple(int((in_digits(numbers, form) != MISSING_INT).sum()) for form in DIGITS),
        n_below=tuple(int((size < limit).sum()) for _, limit in AUTO_LIMITS),
        n_odd=sum(int(((numbers >= low) & (numbers < high)).sum()) for low, high in ODD),
    )


def seconds_of(numbers: Array, form: str) -> Array:
    """Turn numbers (n,) into int64 seconds since 1970, rounded down, by `form_of`'s answer."""
    if form in DIGITS:
        millis = in_digits(numbers, form)
        return np.where(millis == MISSING_INT, MISSING_INT, millis // 1000)
    if numbers.dtype.kind == "f":
        floor: Array = np.floor(numbers / TICKS[form]).astype(np.int64)
        return floor
    whole: Array = numbers // TICKS[form]
    return whole


def in_digits(numbers: Array, form: str) -> Array:
    """Read numbers (n,) of one of `DIGITS`, such as 20240131, as milliseconds since 1970, int64.

    INT64_MIN where a number is no moment of the calendar. Floats have not the digits of the longest
    form.
    """
    size = DIGITS[form]
    millis = np.full(len(numbers), MISSING_INT, np.int64)
    if numbers.dtype.kind == "f" and LAST_DIGITS * size >= EXACT:
        return millis
    is_possible = (numbers >= FIRST_YEAR * size) & (numbers < LAST_DIGITS * size)
    possible = np.flatnonzero(is_possible & (numbers % 1 == 0))
    if len(possible):
        whole = numbers[possible].astype(np.int64)
        after_day = size // 10**4
        day, clock = whole // after_day, whole % after_day * (10**9 // after_day)
        days = days_of(day // 10_000, day // 100 % 100, day % 100)
        hour, minute, rest = clock // 10**7, clock // 10**5 % 100, clock % 10**5
        good = (days != MISSING_INT) & (hour < 24) & (minute < 60) & (rest < 60_000)
        found = np.where(good, days, 0) * _DAY * 1000 + (hour * 60 + minute) * 60_000 + rest
        millis[possible] = np.where(good, found, MISSING_INT)
    return millis


def days_of(year: Array, month: Array, day: Array) -> Array:
    """Return days since 1970, int64 (n,); INT64_MIN where the calendar has no such day."""
    good = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    begin = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    end = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    found = begin + day - 1
    days: Array = np.where(good & (found < end), found, MISSING_INT)
    return days


def _far_checked(name: str, seconds: Array) -> Array:
    beyond = (seconds != MISSING_INT) & (
        np.abs(np.where(seconds == MISSING_INT, 0, seconds)) > LAST_SECOND
    )
    if beyond.any():
        i = int(beyond.argmax())
        raise _far_time(name, i, seconds[i].item(), "s")
    return seconds


def _far_time(name: str, i: int, value: Any, unit: str) -> DataError:
    unit = "s" if unit == "auto" else unit
    return DataError(
        f"requests: {name!r} row {i} is {value}, expected a time in {unit!r} before the year "
        "10000; the feature's unit may be another"
    )
