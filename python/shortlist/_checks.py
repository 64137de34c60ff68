"""The error policy: one place that decides what is accepted and what each message says."""

from __future__ import annotations

from collections.abc import KeysView, Sequence, Set, ValuesView
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist import _core

Ids = NDArray[np.int64] | list[str]
Ragged = tuple[NDArray[Any], NDArray[np.int64]]

# Of one answer with more places per query than the index has rows.
MAX_EMPTY_PLACES = _core.max_empty_places
MAX_REASONS = 100  # of an item


# As good as a list where the order does not matter.
COLLECTIONS = (Set, range, KeysView, ValuesView)


def real_matrix(value: Any, name: str) -> NDArray[Any]:
    """Return `value` as a 2-D array of real numbers, without copying an array.

    Raises
    ------
    TypeError
        If it is not an array-like of real numbers.
    ValueError
        If it does not have two dimensions, or has no columns.
    """
    fix = "pass a 2-D array of float32 numbers"
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: got a masked array; expected real numbers; fill the mask first")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name}: got {type(value).__name__} that is no array; {fix}") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{name}: got {type(value).__name__} of dtype {array.dtype}; "
            f"expected float16, float32, float64 or integers; {fix}"
        )
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"{name}: got shape {array.shape}; expected (n, dim) with dim >= 1; {fix}"
            + (" (for one row: x[None, :])" if array.ndim == 1 else "")
        )
    return array


def positive_int(value: Any, name: str) -> int:
    """Return `value` as an int >= 1; bool is not an int."""
    return _whole(value, name, 1)


def thread_count(value: Any, name: str = "n_threads") -> int:
    """Return `value` as an int >= 0 (0 = all cores)."""
    return min(_whole(value, name, 0), 2**31)


def wait_us(value: Any, name: str) -> int:
    """Return `value` as microseconds, an int from 0 to a second."""
    wait = _whole(value, name, 0)
    if wait > 1_000_000:
        raise ValueError(f"{name}: got {wait}; expected microseconds, at most 1000000")
    return wait


def flag(value: Any, name: str) -> bool:
    """Return `value`, which must be True or False, as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {value!r}, expected True or False")
    return bool(value)


def reason_count(value: Any) -> int:
    """Return how many reasons an item may have: 1 to 100."""
    n_reasons = positive_int(value, "n_reasons")
    if n_reasons > MAX_REASONS:
        raise ValueError(f"n_reasons: got {n_reasons}, expected 1 to {MAX_REASONS}")
    return n_reasons


def check_answer_size(n_queries: int, top_n: int, n_rows: int) -> None:
    """Refuse more places per query than there are rows, where so many empty ones cost memory."""
    if top_n > n_rows and n_queries * top_n > MAX_EMPTY_PLACES:
        raise ValueError(
            f"top_n: got {top_n} for {n_queries} queries; an answer of that size would fill the "
            f"memory, and the index has {n_rows} rows: ask for at most as many"
        )


def _whole(value: Any, name: str, least: int) -> int:
    if type(value) is int and value >= least:  # the usual case, on the path of every search
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"{name}: got {value!r} of type {type(value).__name__}; expected an int >= {least}"
        )
    if value < least:
        raise ValueError(f"{name}: got {int(value)}; expected an int >= {least}")
    return int(value)


def item_ids(value: Any, name: str = "item_ids") -> Ids:
    """Return ids as a contiguous int64 array or as a list of str (1-D).

    Elements of a list or an object array are checked one by one: NumPy would turn `[1, "a"]` into
    strings, `[0, True]` into integers, and give every string the room of the longest.

    Raises
    ------
    TypeError
        If the ids are neither integers nor strings, or not all of one kind.
    ValueError
        If they are not one-dimensional, do not fit in int64, or are not text that UTF-8 can hold.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name}: got one {type(value).__name__}; expected a 1-D array of ids")
    if isinstance(value, COLLECTIONS):
        value = list(value)
    if isinstance(value, (list, tuple)):
        return _listed_ids(value, name)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"{name}: got {type(value).__name__}; expected a 1-D array of ids"
        ) from error
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}; expected one dimension")
    if array.dtype.kind in "OUT":  # nothing at all is text too, as in the ids of an empty index
        return _listed_ids(array.tolist(), name) if array.size else []
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: got dtype {array.dtype}; expected int64 or str ids, all of one kind; "
            "convert them with .astype(np.int64) or .astype(str)"
        )
    if array.dtype.kind == "u" and int(array.max()) >= 2**63:
        raise ValueError(f"{name}: got {int(array.max())}; expected ids that fit in int64")
    return np.ascontiguousarray(array, dtype=np.int64)


def _listed_ids(values: Sequence[Any], name: str) -> Ids:
    kinds = set(map(type, values))
    if kinds and all(issubclass(kind, str) for kind in kinds):
        return _encodable(list(values), name)
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
        try:
            return np.array([int(value) for value in values], dtype=np.int64)
        except OverflowError as error:
            largest = max(values, key=abs)
            raise ValueError(
                f"{name}: got {int(largest)}; expected ids that fit in int64"
            ) from error
    wanted = str if isinstance(values[0], str) else (int, np.integer)
    position, value = next(
        (i, value)
        for i, value in enumerate(values)
        if isinstance(value, bool) or not isinstance(value, wanted)
    )
    if isinstance(value, (list, tuple, np.ndarray)):
        raise ValueError(
            f"{name}: got {value!r:.60} at position {position}; expected one dimension"
        )
    raise TypeError(
        f"{name}: got {type(value).__name__} {value!r:.60} at position {position}; expected int64 "
        "or str ids, all of one kind"
    )


def _encodable(texts: list[str], name: str) -> list[str]:
    """Refuse ids that UTF-8 or a fixed-width NumPy array would not give back as they came."""
    try:
        joined = "".join(texts).encode()
    except UnicodeEncodeError:
        joined = b"\0"
    if b"\0" in joined:
        for position, text in enumerate(texts):
            if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(
                    f"{name}: got {text!r:.60} at position {position}; expected text without NUL "
                    "characters and lone surrogates, which UTF-8 and NumPy cannot hold"
                )
    return texts


def new_item_ids(value: Any, name: str = "item_ids") -> Ids:
    """Return ids as `item_ids` does; -1 and "" are refused, as they mark missing places."""
    ids = item_ids(value, name)
    missing: int | str = "" if isinstance(ids, list) else -1
    if missing in ids:
        position = ids.index("") if isinstance(ids, list) else int(np.argmax(ids == -1))
        raise ValueError(
            f"{name}: got {missing!r} at position {position}, which marks missing places in "
            "results; expected another id for this item"
        )
    return ids


def ragged(
    value: Any, n_queries: int, name: str, one: str = "query"
) -> tuple[Ids, NDArray[np.int64]]:
    """Return per-query id lists as `(values, row_splits)`; a list entry may be None.

    `one` is what messages call a query.

    `value` is a list (or column) with one array, list or set of ids per query, or the tuple
    `(values, row_splits)` of two NumPy arrays.
    """
    if (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(part, np.ndarray) for part in value)
    ):
        values, splits = csr(value, n_queries, name)
        return item_ids(values, name), splits
    if hasattr(value, "to_list"):  # a column of pandas or polars
        value = value.to_list()
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(
            f"{name}: got {type(value).__name__}; expected a list with one array of ids per {one}, "
            "or (values, row_splits)"
        )
    if len(value) != n_queries:
        raise ValueError(
            f"{name}: got {len(value)} lists; expected one per {one}, {n_queries} in all"
        )
    splits = np.zeros(n_queries + 1, dtype=np.int64)
    texts: list[str] = []
    arrays: list[NDArray[np.int64]] = []
    for i, ids in enumerate(value):
        if ids is None:
            continue
        if isinstance(ids, (str, bytes)) or not hasattr(ids, "__len__"):
            raise TypeError(f"{name}[{i}]: got {ids!r:.60}; expected a 1-D array of ids or None")
        checked = item_ids(ids, f"{name}[{i}]")
        splits[i + 1] = len(checked)
        if isinstance(checked, list):
            texts += checked
        elif len(checked):
            arrays.append(checked)
    np.cumsum(splits, out=splits)
    if texts and arrays:
        raise TypeError(f"{name}: got numbers and strings; expected ids of one kind")
    if texts:
        return texts, splits
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64), splits


def csr(value: tuple[Any, Any], n_queries: int, name: str, count: str = "n_queries") -> Ragged:
    """Return `(values, row_splits)`, checked; `count` is what messages call `n_queries`."""
    values, splits = np.asarray(value[0]), np.asarray(value[1])
    if splits.dtype.kind not in "iu":
        raise TypeError(f"{name}: got row_splits of dtype {splits.dtype}; expected int64")
    if splits.ndim != 1 or values.ndim != 1 or len(splits) != n_queries + 1:
        raise ValueError(
            f"{name}: got values of shape {values.shape} and row_splits of shape {splits.shape}; "
            f"expected 1-D values and {count} + 1 = {n_queries + 1} row_splits"
        )
    splits = np.ascontiguousarray(splits, dtype=np.int64)
    if splits[0] != 0 or splits[-1] != len(values) or bool((np.diff(splits) < 0).any()):
        raise ValueError(
            f"{name}: got row_splits from {splits[0]} to {splits[-1]}; expected them to ascend "
            f"from 0 to the number of values, {len(values)}"
        )
    return values, splits


def printable(text: str) -> str:
    r"""Escape what does not show in a line: control characters, line ends, marks of direction.

    Examples
    --------
    >>> printable("Amélie\x1b[31m")
    'Amélie\\u001b[31m'
    """
    return "".join(c if c.isprintable() else escape(c) for c in text)


def escape(character: str) -> str:
    """Write a character as JSON (below U+10000) and TOML write it."""
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
