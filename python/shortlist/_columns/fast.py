"""Whole columns read at once where every value has the expected type.

Each function returns None for a column that is not plainly right: `_columns` then goes through it
value by value and says what is wrong and where.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from shortlist import _core
from shortlist._columns.ragged import Array

MISSING_INT = -(2**63)  # the graphs' "no id here": never a valid id, never in a vocabulary
_NONE = type(None)
_LISTS = {list, tuple, _NONE}


def texts(rows: Sequence[Any]) -> Array | None:
    """Read text or None as (n,) object; None becomes ""."""
    types = set(map(type, rows))
    if not types <= {str, _NONE}:
        return None
    column = np.empty(len(rows), dtype=object)
    column[:] = rows
    if _NONE in types:
        column[column == np.array(None)] = ""
    return column


def integers(rows: Sequence[Any]) -> Array | None:
    """Read int or None as (n,) int64; None becomes INT64_MIN."""
    types = set(map(type, rows))
    if not types <= {int, _NONE}:
        return None
    try:
        if _NONE in types:
            return np.array([MISSING_INT if v is None else v for v in rows], dtype=np.int64)
        return np.array(rows, dtype=np.int64)
    except OverflowError:
        return None


def numbers(rows: Sequence[Any]) -> Array | None:
    """Read float, int or None as (n,) float64; None becomes NaN."""
    if not set(map(type, rows)) <= {float, int, _NONE}:
        return None
    try:
        return np.array(rows, dtype=np.float64)
    except OverflowError:
        return None


def flat_lists(rows: Sequence[Any], dtype: str) -> tuple[Array, Array] | None:
    """Read lists of int or str: all values one after another, and how many each row has."""
    if dtype == "int64":
        return _core.flat_int_lists(rows)
    if not set(map(type, rows)) <= _LISTS:
        return None
    filled = [row or () for row in rows]
    lengths = np.fromiter(map(len, filled), np.int64, len(filled))
    values = list(chain.from_iterable(filled))
    if set(map(type, values)) - {str}:
        return None
    flat = np.empty(len(values), dtype=object)
    flat[:] = values
    return flat, lengths


def lay_out(flat: Array, lengths: Array, missing: Any) -> Array:
    """Lay flat values out as rows (n, longest), filled up on the right; longest >= 1."""
    width = int(lengths.max(initial=0)) or 1
    padded = np.full((len(lengths), width), missing, dtype=flat.dtype)
    padded[np.arange(width) < lengths[:, None]] = flat
    return padded
