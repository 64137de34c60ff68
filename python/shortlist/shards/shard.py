"""One shard of a sharded index, for a process of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shortlist import _arguments, _checks, _core
from shortlist._checks import flag
from shortlist.errors import BundleError
from shortlist.index import Index
from shortlist.shards import folder as files
from shortlist.shards.folder import ShardSet
from shortlist.shards.merging import ShardAnswer

# Masks of queries that are lists of rows at a time.
_MASKED = 32


class Shard:
    """One shard, searched alone; rows and masks are those of the whole catalogue.

    Made by `load`. An actor of a cluster holds one and calls `search`; whoever asked all shards
    merges their answers with `merge`.

    Attributes
    ----------
    number, n_shards : int
    generation : int
    version : str
        Of the set it is part of; `merge` refuses answers of different ones.
    first_row, end_row : int
        Its range of the rows.
    """

    def __init__(self, shards: ShardSet, number: int, index: Index) -> None:
        self._set = shards
        self._index = index
        self.number, self.n_shards = number, len(shards.shards)
        self.generation, self.version = shards.generation, shards.version
        record = shards.shards[number]
        self.first_row, self.end_row = record.first_row, record.end_row

    @classmethod
    def load(cls, folder: str | os.PathLike[str], number: int, mmap: bool = True) -> Shard:
        """Open one shard of a folder; every byte of its file is verified first.

        Parameters
        ----------
        folder : str or path
        number : int
            From 0 on.
        mmap : bool
            As for `Index.load`.

        Raises
        ------
        TypeError, ValueError
            If there is no shard of that number.
        BundleError
            If `shards.json` or the file is missing, damaged, or not what it should be.
        """
        path, mmap = Path(folder), flag(mmap, "mmap")
        number = _checks.thread_count(number, "number")
        while True:
            shards = files.read_set(path)
            if number >= len(shards.shards):
                raise ValueError(
                    f"number: got {number}; {path.name} has the shards 0 to "
                    f"{len(shards.shards) - 1}"
                )
            try:
                return cls(shards, number, files.open_shard(path, shards, number, mmap))
            except BundleError:  # or a writer has removed the file since
                if files.read_set(path) == shards:
                    raise

    def __len__(self) -> int:
        """Return the number of items of this shard."""
        return len(self._index)

    def __repr__(self) -> str:
        """Return a one-line description."""
        return (
            f"Shard({self.number} of {self.n_shards}, rows {self.first_row} to {self.end_row - 1}, "
            f"generation {self.generation})"
        )

    def search(
        self,
        queries: ArrayLike,
        top_n: int = 10,
        exclude: Any = None,
        allow: Any = None,
        n_threads: int = 0,
    ) -> ShardAnswer:
        """Find the exact top-N items of every query in this shard.

        Parameters
        ----------
        queries, top_n, exclude, allow, n_threads
            As for `Index.search`. Ids of other shards are ignored; a mask has a flag for every row
            of the whole catalogue.

        Returns
        -------
        ShardAnswer

        Raises
        ------
        TypeError, ValueError
            As `Index.search`.
        """
        if str(getattr(allow, "dtype", "")).lower() in ("bool", "boolean"):
            allow = np.asarray(allow, dtype=np.bool_)
            if allow.shape != (self._set.n_rows,):
                raise ValueError(
                    f"allow: got a mask of shape {allow.shape}; expected ({self._set.n_rows},), "
                    "one flag per item of all shards"
                )
            allow = allow[self.first_row : self.end_row]
        return self.answer(queries, top_n, exclude, allow, n_threads)

    def answer(
        self,
        queries: ArrayLike,
        top_n: int,
        exclude: Any = None,
        allow: Any = None,
        n_threads: int = 0,
        *,
        narrow: NDArray[np.uint8] | None = None,
        chosen: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        diversity: NDArray[np.float64] | None = None,
        with_vectors: bool = False,
    ) -> ShardAnswer:
        """Answer one call of a search over shards; a mask has a flag for each row of this shard.

        Parameters
        ----------
        narrow : ndarray of shape (n_queries, ...), uint8, optional
            Rows of this shard that a query may get, besides the filters, as `numpy.packbits`.
        chosen, diversity : optional
            Vectors of items that are above each list, with splits, and weights above 0: the answer
            is the item that maximal marginal relevance takes next.
        with_vectors : bool
        """
        array = _arguments.matrix(queries, "queries")
        top_n = _checks.positive_int(top_n, "top_n")
        n_threads = _checks.thread_count(n_threads)
        view = self._index._core.view()
        rows = _Rows(self, view)
        n = len(array)
        excluded = (
            None if exclude is None else _arguments.ragged_rows(rows, exclude, n, "exclude")  # type: ignore[arg-type]
        )
        allowed = _arguments.allowed(rows, allow, n)  # type: ignore[arg-type]
        k = min(top_n, max(1, view.n_rows))
        if narrow is None:
            scores, local, *_ = view.search(array, k, excluded, *allowed, n_threads)
        else:
            call = _NarrowCall(view, array, k, excluded, allowed, n_threads, chosen, diversity)
            scores, local = call.run(narrow)
        vectors = _vectors(view, local) if with_vectors else None
        is_missing = local < 0
        indices = np.where(is_missing, -1, local + self.first_row)
        numbered = self._set.item_ids == "row numbers"
        ids = indices if numbered else self._index._ids_of(view, local)
        return ShardAnswer(
            scores, indices, ids, self.number, self.n_shards, len(self), self.version, vectors
        )


def answer_shard(
    folder: str | os.PathLike[str], number: int, call: Mapping[str, Any]
) -> ShardAnswer:
    """Answer one call of `search_shards` in whatever process this is: what a cluster's task runs.

    The process keeps the shard open for the calls to come, of the set that the folder holds.

    Parameters
    ----------
    folder : str or path
    number : int
        Of the shard.
    call : dict
        Of those that `search_shards` gives to `ask`, the one at place `number`.

    Raises
    ------
    TypeError, ValueError, BundleError
        As `Shard.load` and `Shard.answer`.
    """
    key = os.path.abspath(folder), number
    shard = _open_shards.get(key)
    if shard is None or shard.version != files.read_set(folder).version:
        shard = _open_shards[key] = Shard.load(folder, number)
    return shard.answer(**call)


_open_shards: dict[tuple[str, int], Shard] = {}  # of `answer_shard`, by folder and number


class _Rows:
    """Looks ids up in one shard, as `IndexView` does in an index."""

    def __init__(self, shard: Shard, view: _core.IndexView) -> None:
        self._view = view
        self._first_row = shard.first_row
        self._kind = shard._set.item_ids
        self.n_rows = view.n_rows
        self.has_string_ids = self._kind == "string"

    def rows_of_strings(self, ids: list[str]) -> NDArray[np.int64]:
        if self.n_rows == 0:
            return np.full(len(ids), -1)
        return self._view.rows_of_strings(ids)

    def rows_of_int64(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._kind != "row numbers":
            return self._view.rows_of_int64(ids)
        is_here = (ids >= self._first_row) & (ids < self._first_row + self.n_rows)
        return np.where(is_here, ids - self._first_row, -1)


class _NarrowCall:
    """A search in which each query has a mask of its own."""

    def __init__(
        self,
        view: _core.IndexView,
        queries: NDArray[np.float32],
        k: int,
        excluded: Any,
        allowed: tuple[Any, Any, Any],
        n_threads: int,
        chosen: Any,
        diversity: NDArray[np.float64] | None,
    ) -> None:
        self._view, self._queries, self._k = view, queries, k
        self._excluded, self._allowed = excluded, allowed
        self._n_threads, self._chosen, self._diversity = n_threads, chosen, diversity

    def run(self, narrow: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        n = len(self._queries)
        scores = np.full((n, self._k), -np.inf, dtype=np.float32)
        rows = np.full((n, self._k), -1, dtype=np.int64)
        for first in range(0, n, _MASKED):
            part = slice(first, min(first + _MASKED, n))
            scores[part], rows[part] = self._part(narrow, part)
        return scores, rows

    def _part(self, narrow: NDArray[np.uint8], part: slice) -> Any:
        lists = [self._allowed_rows(q, narrow[q]) for q in range(part.start, part.stop)]
        n = len(lists)
        splits = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])])
        allow = (np.concatenate(lists), splits)
        excluded = None if self._excluded is None else _cut(self._excluded, part)
        variety: Any = None
        chosen = None
        if self._chosen is not None and self._diversity is not None:
            none = np.zeros((n, 0), dtype=np.int32)
            variety = ([], none, [], none, np.ascontiguousarray(self._diversity[part]), None, None)
            chosen = _cut(self._chosen, part)
        queries = self._queries[part]
        return self._view.search(
            queries, self._k, excluded, allow, None, None, self._n_threads, variety, chosen
        )[:2]

    def _allowed_rows(self, query: int, narrow: NDArray[np.uint8]) -> NDArray[np.int64]:
        mask = np.unpackbits(narrow, count=self._view.n_rows).view(np.bool_)
        lists, shared, given = self._allowed
        if given is not None:
            mask &= given
        if lists is not None:
            shared = lists[0][lists[1][query] : lists[1][query + 1]]
        if shared is not None:
            listed = np.zeros(len(mask), dtype=np.bool_)
            listed[shared[shared >= 0]] = True
            mask &= listed
        return np.flatnonzero(mask)


def _cut(lists: tuple[NDArray[Any], NDArray[np.int64]], part: slice) -> Any:
    values, splits = lists
    own = splits[part.start : part.stop + 1]
    return np.ascontiguousarray(values[own[0] : own[-1]]), own - own[0]


def _vectors(view: _core.IndexView, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    vectors = np.zeros((*rows.shape, view.dim), dtype=np.float32)
    is_real = rows >= 0
    vectors[is_real] = view.vectors(np.ascontiguousarray(rows[is_real]))
    return vectors
