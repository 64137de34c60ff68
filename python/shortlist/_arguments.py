"""Arguments of `Index`, checked against the index and turned into what the core takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shortlist import _checks, _core

_FLOAT32 = np.dtype(np.float32)


def check_kind(view: _core.IndexView, ids: NDArray[np.int64] | list[str], name: str) -> None:
    """Refuse ids of another kind than the index has."""
    if isinstance(ids, list) != view.has_string_ids:
        kind = "str" if view.has_string_ids else "int64"
        got = "str" if isinstance(ids, list) else "integers"
        raise TypeError(f"{name}: got {got}; the item ids of this index are {kind}")


def rows_of(view: _core.IndexView, ids: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return the rows of ids, -1 where unknown."""
    return _rows_of_checked(view, _checks.item_ids(ids, name), name)


def _rows_of_checked(view: _core.IndexView, ids: _checks.Ids, name: str) -> NDArray[np.int64]:
    if len(ids) == 0:
        return np.empty(0, dtype=np.int64)
    check_kind(view, ids, name)
    if isinstance(ids, list):
        return view.rows_of_strings(ids)
    return view.rows_of_int64(ids)


def ragged_rows(view: _core.IndexView, value: Any, n_queries: int, name: str) -> _checks.Ragged:
    """Return per-query ids as `(rows, row_splits)`."""
    values, splits = _checks.ragged(value, n_queries, name)
    return _rows_of_checked(view, values, name), splits


def allowed(view: _core.IndexView, allow: Any, n_queries: int) -> tuple[Any, Any, Any]:
    """Return `allow` as one of the three forms of the core: lists, shared rows, shared mask."""
    if allow is None:
        return None, None, None
    if str(getattr(allow, "dtype", "")).lower() in ("bool", "boolean"):  # also of pandas and polars
        allow = np.asarray(allow, dtype=np.bool_)
        if allow.shape != (view.n_rows,):
            raise ValueError(
                f"allow: got a mask of shape {allow.shape}; expected ({view.n_rows},), "
                "one flag per item"
            )
        return None, None, np.ascontiguousarray(allow)
    if hasattr(allow, "to_list"):  # a column of pandas or polars: of ids, or of lists of them
        allow = allow.to_list()
    if is_one_list(allow):
        return None, rows_of(view, allow, "allow"), None
    return ragged_rows(view, allow, n_queries, "allow"), None, None


def is_one_list(ids: Any) -> bool:
    """Say whether these are ids for all queries, not lists of ids for each of them."""
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        return False
    if isinstance(ids, np.ndarray) and ids.dtype.kind != "O":
        return True
    if isinstance(ids, _checks.COLLECTIONS):
        return True
    if not isinstance(ids, (list, tuple, np.ndarray)):
        return hasattr(ids, "__array__")  # a column of pandas, polars or Arrow
    return all(isinstance(entry, (str, bool, int, float, np.generic)) for entry in ids)


def matrix(value: Any, name: str) -> NDArray[np.float32]:
    """Return `value` as a contiguous float32 matrix; what is one already costs next to nothing."""
    if type(value) is np.ndarray and value.dtype is _FLOAT32 and value.ndim == 2:
        array: NDArray[np.float32] = value
        if array.flags.c_contiguous and array.shape[1] > 0:
            return array
    return float32(_checks.real_matrix(value, name), name, 0)


def member(kind: Any, value: Any, name: str) -> Any:
    """Return the metric or storage that `value` names."""
    members = kind.__members__
    if not isinstance(value, str) or value not in members:
        raise ValueError(f"{name}: got {value!r}; expected one of {', '.join(members)}")
    return members[value]


def sample(array: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return up to 100 rows, evenly over the array, and their numbers."""
    n_rows = len(array)
    rows = np.unique(np.linspace(0, n_rows - 1, min(n_rows, 100)).astype(np.int64))
    with np.errstate(over="ignore"):  # `float32` will name the row
        return np.ascontiguousarray(array[rows], dtype=np.float32), rows


def float32(array: NDArray[Any], name: str, first_row: int) -> NDArray[np.float32]:
    """Return a contiguous float32 array; a number beyond its range is refused."""
    if array.dtype == np.float32 and array.dtype.isnative:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=np.float32)
    overflow = np.isinf(converted) & np.isfinite(array)
    if overflow.any():
        row = first_row + int(np.argmax(overflow.any(axis=1)))
        raise ValueError(
            f"{name}: row {row} holds a number beyond the float32 range; "
            "expected magnitudes below 3.4e38; rescale the embeddings"
        )
    return converted
