"""The error policy: one place that decides what is accepted and what each message says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ragged = tuple[NDArray[Any], NDArray[np.int64]]


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
    return _whole(value, name, 0)


def _whole(value: Any, name: str, least: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"{name}: got {value!r} of type {type(value).__name__}; expected an int >= {least}"
        )
    if value < least:
        raise ValueError(f"{name}: got {int(value)}; expected an int >= {least}")
    return min(int(value), 2**62)


def item_ids(value: Any, name: str = "item_ids") -> NDArray[np.int64] | list[str]:
    """Return ids as a contiguous int64 array or as a list of str (1-D).

    Raises
    ------
    TypeError
        If the ids are neither integers nor strings.
    ValueError
        If they are not one-dimensional, or do not fit in int64.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name}: got one {type(value).__name__}; expected a 1-D array of ids")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"{name}: got {type(value).__name__}; expected a 1-D array of ids"
        ) from error
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}; expected one dimension")
    if array.size == 0 and array.dtype.kind not in "iuUTO":
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
            raise ValueError(f"{name}: got {int(array.max())}; expected ids that fit in int64")
        return np.ascontiguousarray(array, dtype=np.int64)
    strings: list[Any] = array.tolist()
    if array.dtype.kind in "UT":
        return strings
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in strings):
        return strings
    raise TypeError(
        f"{name}: got dtype {array.dtype}; expected int64 or str ids, all of one kind; "
        "convert them with .astype(np.int64) or .astype(str)"
    )


def ragged(value: Any, n_queries: int, name: str) -> Ragged:
    """Return per-query id lists as `(values, row_splits)`; a list entry may be None.

    `value` is a list with one array of ids per query, or the tuple `(values, row_splits)`.
    """
    if isinstance(value, tuple) and len(value) == 2:
        return _csr(value, n_queries, name)
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(
            f"{name}: got {type(value).__name__}; expected a list with one array of ids per query, "
            "or (values, row_splits)"
        )
    if len(value) != n_queries:
        raise ValueError(
            f"{name}: got {len(value)} lists; expected one per query, n_queries = {n_queries}"
        )
    splits = np.zeros(n_queries + 1, dtype=np.int64)
    parts: list[NDArray[Any]] = []
    for i, ids in enumerate(value):
        if ids is None:
            continue
        if isinstance(ids, (str, bytes)) or np.ndim(ids) != 1:
            raise TypeError(f"{name}[{i}]: got {ids!r}; expected a 1-D array of ids or None")
        splits[i + 1] = len(ids)
        if len(ids):
            parts.append(np.asarray(ids))
    np.cumsum(splits, out=splits)
    if not parts:
        return np.empty(0, dtype=np.int64), splits
    kinds = {"s" if part.dtype.kind in "UTO" else "i" for part in parts}
    if len(kinds) > 1:
        raise TypeError(f"{name}: got numbers and strings; expected ids of one kind")
    return np.concatenate(parts), splits


def _csr(value: tuple[Any, Any], n_queries: int, name: str) -> Ragged:
    values, splits = np.asarray(value[0]), np.asarray(value[1])
    if splits.dtype.kind not in "iu":
        raise TypeError(f"{name}: got row_splits of dtype {splits.dtype}; expected int64")
    if splits.ndim != 1 or values.ndim != 1 or len(splits) != n_queries + 1:
        raise ValueError(
            f"{name}: got values of shape {values.shape} and row_splits of shape {splits.shape}; "
            f"expected 1-D values and n_queries + 1 = {n_queries + 1} row_splits"
        )
    splits = np.ascontiguousarray(splits, dtype=np.int64)
    if splits[0] != 0 or splits[-1] != len(values) or bool((np.diff(splits) < 0).any()):
        raise ValueError(
            f"{name}: got row_splits from {splits[0]} to {splits[-1]}; expected them to ascend "
            f"from 0 to the number of values, {len(values)}"
        )
    return values, splits
