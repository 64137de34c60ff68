"""Exact top-N search over item embeddings, compiled."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shortlist import _checks, _core

Metric = Literal["cosine", "dot", "euclidean"]

# Rows that are converted to float32 at a time, so that no second copy of a catalogue is made.
_CHUNK_ROWS = 65_536


class Hits(NamedTuple):
    """The result of one search: score descending, then the lower item row first.

    Attributes
    ----------
    item_ids : ndarray of shape (n_queries, top_n), int64 or str
        Ids of the items; missing places hold -1 or "".
    scores : ndarray of shape (n_queries, top_n), float32
        Similarities, bigger is closer; missing places hold -inf.
    counts : ndarray of shape (n_queries,), int64
        How many places of each row are real.
    indices : ndarray of shape (n_queries, top_n), int64
        Item rows; missing places hold -1.
    """

    item_ids: NDArray[Any]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    indices: NDArray[np.int64]


class Index:
    """Item embeddings, packed for exact top-N search.

    Parameters
    ----------
    vectors : array-like of shape (n_items, dim), real numbers
        Item embeddings; converted to float32 and copied once. NaN and infinity are refused.
    item_ids : array-like of shape (n_items,), int64 or str, optional
        The shop's unique ids; row numbers if omitted.
    metric : {"cosine", "dot", "euclidean"}
        Cosine scores are the dot product of rows normalised in float32 (a zero row scores 0 with
        everything); euclidean scores are the negative distance -||query - item||.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a shape, a value or the metric is wrong, or an id occurs twice.

    Notes
    -----
    Scores are summed in float64 in one fixed order and rounded once to float32, so ids, order and
    score bits do not depend on batch size, threads or instruction set.

    Examples
    --------
    >>> import numpy as np
    >>> index = Index(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), item_ids=["a", "b", "c"])
    >>> hits = index.search(np.array([[2.0, 1.0]]), top_n=2)
    >>> hits.item_ids.tolist()
    [['c', 'a']]
    """

    __slots__ = ("_core", "_ids")

    def __init__(
        self, vectors: ArrayLike, item_ids: ArrayLike | None = None, metric: Metric = "cosine"
    ) -> None:
        array = _checks.real_matrix(vectors, "vectors")
        ids = None if item_ids is None else _checks.item_ids(item_ids)
        if ids is not None and len(ids) != len(array):
            raise ValueError(
                f"item_ids: got {len(ids)} ids for {len(array)} rows of vectors; "
                "expected one id per row"
            )
        n_items, dim = array.shape
        builder = _core.IndexBuilder(n_items, dim, _metric(metric))
        for start in range(0, len(array), _CHUNK_ROWS):
            builder.add(_float32(array[start : start + _CHUNK_ROWS], "vectors", start))
        if ids is None:
            self._core = builder.finish_row_numbers(len(array))
        elif isinstance(ids, list):
            self._core = builder.finish_strings(ids)
        else:
            self._core = builder.finish_int64(ids)
        self._ids: NDArray[Any] | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return self._core.n_items

    def __repr__(self) -> str:
        """Return a one-line description."""
        return f"Index({len(self)} items, dim {self.dim}, {self.metric})"

    @property
    def dim(self) -> int:
        """Length of every embedding."""
        return self._core.dim

    @property
    def metric(self) -> Metric:
        """What closeness means: "cosine", "dot" or "euclidean"."""
        name: Metric = self._core.metric.name
        return name

    @property
    def item_ids(self) -> NDArray[Any]:
        """Ids by row, shape (n_items,), int64 or str. Read-only."""
        if self._ids is None:
            ids = self._core.item_ids
            self._ids = np.array(ids, dtype=np.str_) if isinstance(ids, list) else np.asarray(ids)
            self._ids.flags.writeable = False
        return self._ids

    def rows_of(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row of every id, -1 where the index does not know it.

        Parameters
        ----------
        ids : array-like of shape (n,), int64 or str

        Returns
        -------
        ndarray of shape (n,), int64
        """
        return self._rows_of(ids, "ids")

    def vectors(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return the stored embeddings of some rows (for cosine: normalised).

        Parameters
        ----------
        rows : array-like of shape (n,), int64
            Row numbers in [0, n_items).

        Returns
        -------
        ndarray of shape (n, dim), float32
        """
        array = np.asarray(rows)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise TypeError(f"rows: got dtype {array.dtype}; expected integers")
        if array.ndim != 1:
            raise ValueError(f"rows: got shape {array.shape}; expected one dimension")
        return self._core.vectors(np.ascontiguousarray(array, dtype=np.int64))

    def search(
        self,
        queries: ArrayLike,
        top_n: int = 10,
        exclude: Any = None,
        allow: Any = None,
        n_threads: int = 0,
    ) -> Hits:
        """Find the exact top-N items of every query.

        Parameters
        ----------
        queries : array-like of shape (n_queries, dim), real numbers
        top_n : int
            Places per query, at least 1; may exceed the number of items.
        exclude : list of id arrays, or (values, row_splits), optional
            Per query, ids that must not come back; entries may be None, unknown ids are ignored.
        allow : bool mask (n_items,), id array, list of id arrays, or (values, row_splits), optional
            Only these items may come back: for all queries (mask, one array) or per query.
        n_threads : int
            0 = all cores.

        Returns
        -------
        Hits
            Score descending, ties by the lower row; exact for the stored vectors.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described; the message names it.
        """
        array = _float32(_checks.real_matrix(queries, "queries"), "queries", 0)
        top_n = _checks.positive_int(top_n, "top_n")
        n_threads = _checks.thread_count(n_threads)
        excluded = None if exclude is None else self._ragged_rows(exclude, len(array), "exclude")
        allowed, allow_rows, allow_mask = self._allowed(allow, len(array))
        scores, rows, counts = self._core.search(
            array, top_n, excluded, allowed, allow_rows, allow_mask, n_threads
        )
        return Hits(self._ids_of(rows), scores, counts, rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file, atomically.

        Raises
        ------
        BundleError
            If the file cannot be written.
        """
        self._core.save(os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], mmap: bool = True) -> Index:
        """Read an index that `save` wrote; every byte is verified first.

        Parameters
        ----------
        path : str or path
        mmap : bool
            Keep the file mapped instead of copying it to memory. Replacing a mapped file by
            rename is safe; shortening it in place is not.

        Raises
        ------
        BundleError
            If the file is missing, damaged or of another version.
        """
        index = cls.__new__(cls)
        index._core = _core.Index.load(os.fspath(path), bool(mmap))
        index._ids = None
        return index

    def _ids_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        ids = self.item_ids
        if len(ids) == 0:
            return np.full(rows.shape, "" if self._core.has_string_ids else -1)
        missing = rows < 0
        found = ids[rows]
        if missing.any():
            found[missing] = "" if self._core.has_string_ids else -1
        return found

    def _rows_of(self, ids: ArrayLike, name: str) -> NDArray[np.int64]:
        checked = _checks.item_ids(ids, name)
        if len(checked) == 0:
            return np.empty(0, dtype=np.int64)
        if isinstance(checked, list) != self._core.has_string_ids:
            kind = "str" if self._core.has_string_ids else "int64"
            got = "str" if isinstance(checked, list) else "integers"
            raise TypeError(f"{name}: got {got}; the item ids of this index are {kind}")
        if isinstance(checked, list):
            return self._core.rows_of_strings(checked)
        return self._core.rows_of_int64(checked)

    def _ragged_rows(self, value: Any, n_queries: int, name: str) -> _checks.Ragged:
        values, splits = _checks.ragged(value, n_queries, name)
        return self._rows_of(values, name), splits

    def _allowed(self, allow: Any, n_queries: int) -> tuple[Any, Any, Any]:
        if allow is None:
            return None, None, None
        if isinstance(allow, np.ndarray) and allow.dtype == np.bool_:
            if allow.shape != (len(self),):
                raise ValueError(
                    f"allow: got a mask of shape {allow.shape}; expected ({len(self)},), "
                    "one flag per item"
                )
            return None, None, np.ascontiguousarray(allow)
        if isinstance(allow, np.ndarray) and allow.ndim == 1 and allow.dtype.kind in "iuUT":
            return None, self._rows_of(allow, "allow"), None
        return self._ragged_rows(allow, n_queries, "allow"), None, None


def simd_level() -> str:
    """Return the instruction set in use, for example "avx2".

    The environment variable SHORTLIST_SIMD forces a level; one the CPU lacks is a ValueError.
    """
    return _core.simd_level()


def build_info() -> dict[str, str]:
    """Return what a bug report needs: version, compiler, build type, instruction sets."""
    return {
        "version": _core.__version__,
        "compiler": _core.compiler,
        "build_type": _core.build_type,
        "simd_level": _core.simd_level(),
        "simd_levels": ", ".join(_core.simd_levels()),
        "numpy": np.__version__,
    }


def _metric(name: Any) -> Any:
    members = _core.Metric.__members__
    if not isinstance(name, str) or name not in members:
        raise ValueError(f"metric: got {name!r}; expected one of {', '.join(members)}")
    return members[name]


def _float32(array: NDArray[Any], name: str, first_row: int) -> NDArray[np.float32]:
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
