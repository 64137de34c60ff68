"""Columns about the events of histories: their kinds and ages, entry by entry beside the ids."""

from typing import Any

import numpy as np

from shortlist._columns import fast
from shortlist._columns.ragged import Ragged
from shortlist._columns.reading import (
    FLOAT_MAX,
    Array,
    _plain_rows,
    check_unicode,
    first_wrong,
    history_column,
    is_missing,
    wrong_entry,
)
from shortlist.errors import DataError


def event_column(name: str, values: Any, histories: Ragged | None) -> Ragged:
    """Read `history_kinds` (object, str) or `history_ages` (seconds before now, float32).

    Entry by entry as in the histories; a missing row is unknown throughout: "" or NaN.

    Raises
    ------
    TypeError
        A row is no list, or holds another type.
    DataError
        A row is not as long as the history, or an age is negative or infinite.
    """
    rows = _plain_rows(values)
    is_kinds = name == "history_kinds"
    filled = [[] if is_missing(row) else row for row in rows]
    if is_kinds:
        without = [
            ["" if is_missing(v) else v for v in r] if _holds_missing(r) else r for r in filled
        ]
        kinds = history_column(name, without, "string")
        check_unicode(name, kinds.values.tolist(), kinds.lengths)
        lists = kinds.lists()
    else:
        lists = [_ages(name, i, row) for i, row in enumerate(filled)]
    lengths = [0] * len(rows) if histories is None else histories.lengths.tolist()
    dtype: Any = object if is_kinds else np.float32
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if is_missing(row):
            lists[i] = np.full(length, "" if is_kinds else np.nan, dtype)
        if len(lists[i]) != length:
            raise DataError(
                f"requests: {name!r} row {i} has {len(lists[i])} entries but 'history' has "
                f"{length}; give one for each event, or None for the row"
            )
    return Ragged.of_lists(lists, dtype)


def _holds_missing(row: Any) -> bool:
    return isinstance(row, (list, tuple)) and any(map(is_missing, row))


def _ages(name: str, i: int, row: Any) -> Array:
    if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
        raise TypeError(f"requests: {name!r} row {i} is {row!r:.60}, expected a list of seconds")
    if len(row) == 0:
        return np.empty(0, np.float32)
    ages = row if isinstance(row, np.ndarray) else fast.numbers(row)
    if ages is None or ages.dtype.kind not in "iuf":
        wrong = first_wrong(row, (int, float, np.integer, np.floating, type(None)))
        raise wrong_entry(name, i, *(wrong or (0, row[0])), "a number of seconds")
    ages = np.asarray(ages, dtype=np.float64)
    if ages.ndim != 1:
        raise TypeError(f"requests: {name!r} row {i} is nested, expected a flat list of seconds")
    bad = (ages < 0) | (ages > FLOAT_MAX)
    if bad.any():
        entry = int(bad.argmax())
        raise DataError(
            f"requests: {name!r} row {i}, entry {entry} is {ages[entry]}, expected seconds before "
            "now, finite and at least 0"
        )
    return ages.astype(np.float32)
