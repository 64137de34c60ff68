"""Events for `FeedbackLog`: rows of any shape → checked tuples, in the order of its columns."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from shortlist._columns.features import time_column
from shortlist._columns.messages import said_of
from shortlist._columns.reading import MISSING_INT, id_column, is_missing, is_unicode
from shortlist._columns.tables import columns_of, common_length
from shortlist.errors import DataError

NEEDED = ("user_id", "item_id", "kind", "timestamp")
OPTIONAL = ("value", "key", "rank", "bundle", "score", "propensity")


def read_columns(events: Any) -> Mapping[str, Any]:
    """Take a dict of columns, a list of dicts, or a frame apart; check the names."""
    with said_of("events"):
        columns = columns_of(events, NEEDED)
    unknown = [name for name in columns if name not in (*NEEDED, *OPTIONAL)]
    absent = [name for name in NEEDED if name not in columns]
    if unknown or absent:
        wrong = f"unknown column {unknown[0]!r}" if unknown else f"no column {absent[0]!r}"
        raise DataError(
            f"events: {wrong}; expected {', '.join(NEEDED)}, and if you like "
            f"{', '.join(OPTIONAL)}; rename or drop the others"
        )
    return columns


def id_type_of(values: Any) -> str:
    """Return "string" or "int64", whichever the first id that is there is."""
    for value in values:
        plain = value.as_py() if hasattr(value, "as_py") else value
        if not is_missing(plain):
            return "string" if isinstance(plain, str) else "int64"
    return "int64"


def rows_of(columns: Mapping[str, Any], id_types: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Check every column and return a tuple an event, as `NEEDED` and `OPTIONAL` are ordered.

    Parameters
    ----------
    columns : mapping
        From `read_columns`.
    id_types : mapping
        Of ``user_id`` and ``item_id``: "int64" or "string".

    Raises
    ------
    TypeError, DataError
        Names the column, the row, what came and what was expected.
    """
    with said_of("events"):
        n = common_length(columns)
        read: list[list[Any]] = []
        for name in ("user_id", "item_id"):
            dtype = id_types[name]
            ids = id_column(name, columns[name], dtype)
            _refuse_missing(name, ids == ("" if dtype == "string" else MISSING_INT), "an id")
            read.append(ids.tolist())
        read.append(_texts("kind", _plain(columns["kind"])))
        times = time_column("timestamp", columns["timestamp"])
        _refuse_missing("timestamp", times == MISSING_INT, "a time")
        read.append(times.tolist())
    for name in OPTIONAL:
        if name not in columns:
            read.append([None] * n)
            continue
        values = _plain(columns[name])
        if name not in _CHECKS and set(map(type, values)) == {str}:
            read.append(_texts(name, values))
            continue
        check = _CHECKS.get(name, _text)
        read.append([None if is_missing(v) else check(name, i, v) for i, v in enumerate(values)])
    return list(zip(*read, strict=True))


def _plain(values: Any) -> list[Any]:
    if hasattr(values, "to_pylist"):
        return list(values.to_pylist())
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _refuse_missing(name: str, missing: Any, wanted: str) -> None:
    if np.any(missing):
        row = int(np.argmax(missing))
        raise DataError(f"requests: {name!r} row {row} is missing, expected {wanted}")


def _texts(name: str, values: list[Any]) -> list[str]:
    """Check texts; many of them at once, and one by one only to name the one that is wrong."""
    if set(map(type, values)) == {str} and "" not in values and is_unicode("".join(values)):
        return values
    return [_text(name, i, value) for i, value in enumerate(values)]


def _text(name: str, i: int, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(
            f"events: {name!r} row {i} is {type(value).__name__} {value!r:.60}, expected a string"
        )
    if not value or not (value.isascii() or is_unicode(value)):
        raise DataError(f"events: {name!r} row {i} is {value!r:.60}, expected text, not empty")
    return str(value)


def _number(name: str, i: int, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(
            f"events: {name!r} row {i} is {type(value).__name__} {value!r:.60}, expected a number"
        )
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"events: {name!r} row {i} is {number}, expected a finite number")
    return number


def _rank(name: str, i: int, value: Any) -> int:
    number = _number(name, i, value)
    if number < 1 or number % 1:
        raise DataError(f"events: {name!r} row {i} is {value!r:.60}, expected a place from 1 on")
    return int(number)


def _propensity(name: str, i: int, value: Any) -> float:
    number = _number(name, i, value)
    if not 0 < number <= 1:
        raise DataError(f"events: {name!r} row {i} is {number}, expected above 0 and at most 1")
    return number


_CHECKS = {"value": _number, "rank": _rank, "score": _number, "propensity": _propensity}
