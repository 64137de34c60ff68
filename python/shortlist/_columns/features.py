"""Columns of times and vectors, read as the graphs take them.

Training reads its tables with these very functions, so that a value means the same in both.
"""

from typing import Any

import numpy as np

from shortlist._columns.reading import (
    FLOAT_MAX,
    Array,
    _plain_rows,
    first_wrong,
    is_missing,
    wrong_entry,
)
from shortlist._columns.times import is_time_type as is_time_type
from shortlist._columns.times import time_column as time_column
from shortlist.errors import DataError


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
