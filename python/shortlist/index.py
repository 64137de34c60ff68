"""Exact top-N search over item embeddings, compiled."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shortlist import _arguments, _checks, _core
from shortlist._columns.variety import read_wanted, variety_of_groups
from shortlist.bundle.storages import APPROXIMATE, IndexMemory, Storage
from shortlist.errors import BundleError
from shortlist.recommendations import Hits, VariedHits

Metric = Literal["cosine", "dot", "euclidean"]

# Numbers that are converted to float32 at a time, so that no second copy of a catalogue is made.
_CHUNK_NUMBERS = 2**20


class Index:
    """Item embeddings, packed for exact top-N search.

    Parameters
    ----------
    vectors : array-like of shape (n_items, dim), real numbers
        Item embeddings; converted to float32 and copied once. NaN and infinity are refused.
    item_ids : array-like of shape (n_items,), int64 or str, optional
        The shop's unique ids; row numbers if omitted. -1 and "" mark missing places and are no
        ids; text must be without NUL characters and lone surrogates.
    metric : {"cosine", "dot", "euclidean"}
        Cosine scores are the dot product of rows normalised in float32 (a zero row scores 0 with
        everything); euclidean scores are the negative distance -||query - item||.
    storage : {"float32", "float16", "bfloat16", "int8", "disk8", "disk6", "disk4", "int4"}
        How vectors are kept, beside the codes of the scan. float32: four bytes per number.
        float16, bfloat16: two; every number is rounded when it is added (for cosine after
        normalising), and answers are exact for these stored values. disk8, disk6, disk4: as
        float32, bit for bit, but of an index that was saved and loaded only codes of so many bits
        are in memory, and vectors are read from the file. int8, int4: codes alone; answers are
        approximate (`is_exact` is False), and `recall` says how good.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a shape, a value or the metric is wrong, or an id occurs twice.

    Notes
    -----
    Items can be replaced, added and removed while other threads search: `upsert` and `remove` say
    what happens to row numbers. Every search sees the index before or after an update, never
    between, and never waits for one.

    Scores are summed in float64 in one fixed order and rounded once to float32, so ids, order and
    score bits do not depend on batch size, threads or instruction set. That, the answers after
    updates, and a saved file hold for every storage alike: a row is rounded once, on its own, and
    `vectors` returns what is stored.

    An index can be pickled and copied: what comes back is what a saved file would give.

    Examples
    --------
    >>> import numpy as np
    >>> index = Index(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), item_ids=["a", "b", "c"])
    >>> hits = index.search(np.array([[2.0, 1.0]]), top_n=2)
    >>> hits.item_ids.tolist()
    [['c', 'a']]
    """

    __slots__ = ("_core", "_has_text_ids", "_ids")

    def __init__(
        self,
        vectors: ArrayLike,
        item_ids: ArrayLike | None = None,
        metric: Metric = "cosine",
        *,
        storage: Storage = "float32",
    ) -> None:
        array = _checks.real_matrix(vectors, "vectors")
        ids = None if item_ids is None else _checks.new_item_ids(item_ids)
        if ids is not None and len(ids) != len(array):
            raise ValueError(
                f"item_ids: got {len(ids)} ids for {len(array)} rows of vectors; "
                "expected one id per row"
            )
        n_items, dim = array.shape
        kind = _arguments.member(_core.Metric, metric, "metric")
        stored = _arguments.member(_core.Storage, storage, "storage")
        builder = _core.IndexBuilder(n_items, dim, kind, stored)
        if storage in APPROXIMATE:
            builder.sample(*_arguments.sample(array))
        n_rows = max(1, _CHUNK_NUMBERS // dim)
        for start in range(0, len(array), n_rows):
            builder.add(_arguments.float32(array[start : start + n_rows], "vectors", start))
        if ids is None:
            self._core = builder.finish_row_numbers(len(array))
        elif isinstance(ids, list):
            self._core = builder.finish_strings(ids)
        else:
            self._core = builder.finish_int64(ids)
        self._has_text_ids = isinstance(ids, list)
        self._ids: tuple[int, NDArray[Any]] | None = None

    def __len__(self) -> int:
        """Return the number of items, removed ones not counted."""
        return self._core.view().n_items

    def __repr__(self) -> str:
        """Return a one-line description."""
        return f"Index({len(self)} items, dim {self.dim}, {self.metric}, {self.storage})"

    @property
    def dim(self) -> int:
        """Length of every embedding."""
        return self._core.view().dim

    @property
    def metric(self) -> Metric:
        """What closeness means: "cosine", "dot" or "euclidean"."""
        name: Metric = self._core.view().metric.name
        return name

    @property
    def storage(self) -> Storage:
        """How vectors are kept, as `storage` of the constructor."""
        name: Storage = self._core.view().storage.name
        return name

    @property
    def is_exact(self) -> bool:
        """Whether answers are exact for the vectors given, up to the rounding of `storage`.

        False for int8 and int4: there the rounding itself changes answers; see `recall`.
        """
        return self.storage not in APPROXIMATE

    @property
    def recall(self) -> float | None:
        """Share of the true top 10 that is found: int8 and int4 only, else None.

        Measured when the index was built, with up to 100 of its items as queries against the
        vectors before rounding, the item itself left out; updates do not change it. None for fewer
        than two items.
        """
        recall = self._core.view().recall
        return None if math.isnan(recall) else recall

    @property
    def item_ids(self) -> NDArray[Any]:
        """Ids by row, shape (n_rows,), int64 or object (str); -1 or "" where an item was removed.

        Read-only; one array belongs to one state of the index and does not change.
        """
        return self._all_ids(self._core.view())[:-1]

    def rows_of(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return the row of every id, -1 where the index does not know it.

        Parameters
        ----------
        ids : array-like of shape (n,), int64 or str

        Returns
        -------
        ndarray of shape (n,), int64
        """
        return _arguments.rows_of(self._core.view(), ids, "ids")

    def vectors(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return the stored embeddings of some rows (for cosine: normalised).

        Parameters
        ----------
        rows : array-like of shape (n,), int64
            Row numbers of known items.

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
        return self._core.view().vectors(np.ascontiguousarray(array, dtype=np.int64))

    def search(
        self,
        queries: ArrayLike,
        top_n: int = 10,
        exclude: Any = None,
        allow: Any = None,
        n_threads: int = 0,
        *,
        groups: Mapping[str, Any] | None = None,
        at_most: Any = None,
        at_least: Any = None,
        diversity: Any = None,
        calibrate: Any = None,
        popularity: Any = None,
        popularity_dampening: Any = None,
    ) -> Hits:
        """Find the exact top-N items of every query.

        Parameters
        ----------
        queries : array-like of shape (n_queries, dim), real numbers
        top_n : int
            Places per query, at least 1; may exceed the number of items, but not by so much that
            the empty places would fill the memory.
        exclude : list of id arrays, or (values, row_splits), optional
            Per query, ids that must not come back; entries may be None, unknown ids are ignored.
            A tuple of two NumPy arrays is (values, row_splits), of two lists it is two lists.
        allow : bool mask (n_rows,), ids, list of id arrays, or (values, row_splits), optional
            Only these items may come back: for all queries (mask, array or list of ids) or per
            query.
        n_threads : int
            At most so many threads, and no more than `shortlist.get_num_threads()`; 0 = that many.
        groups : dict, optional
            What items have in common, by a name of your own: integers (n_rows,), negative where an
            item has none; (values, row_splits) where items have several; a bool mask (n_rows,) for
            `at_least`.
        at_most : dict of int, or a list of dicts or None, one a query, optional
            So many items with the same value, by the name of the group.
        at_least : dict of int, or a list of dicts or None, one a query, optional
            So many items of the mask, by its name: the best such items have reserved places.
        diversity : float, or one a query, optional
            From 0 to 1, the weight of being unlike the items chosen before (`docs/variety.md`).
        calibrate : dict, or a list of dicts or None, one a query, optional
            Shares that the list comes near to, by value of a group: ``{"genre": {3: 0.5, 7: 0.5}}``
            or with a strength from 0 to 1: ``{"genre": ({3: 0.5, 7: 0.5}, 0.8)}``.
        popularity : array-like of shape (n_rows,), numbers, optional
            How popular each item is, such as its number of events.
        popularity_dampening : float, or one a query, optional
            What is taken off a score times ln(1 + popularity).

        Returns
        -------
        Hits
            Score descending, ties by the lower row; exact for the stored vectors (`storage`). With
            `diversity` in the order in which items are chosen. With `at_least` a `VariedHits`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described; the message names it.
        """
        view = self._core.view()
        array = _arguments.matrix(queries, "queries")
        top_n = _checks.positive_int(top_n, "top_n")
        _checks.check_answer_size(len(array), top_n, view.n_rows)
        n_threads = _checks.thread_count(n_threads)
        excluded = (
            None
            if exclude is None
            else _arguments.ragged_rows(view, exclude, len(array), "exclude")
        )
        allowed = _arguments.allowed(view, allow, len(array))
        wanted = read_wanted(
            at_most, at_least, diversity, calibrate, popularity_dampening, len(array), top_n
        )
        variety = variety_of_groups(groups, wanted, view.n_rows, popularity)
        scores, rows, counts, missing = view.search(
            array, top_n, excluded, *allowed, n_threads, variety
        )
        found = (self._ids_of(view, rows), scores, counts, rows)
        if wanted is None or not wanted.at_least.names:
            return Hits(*found)
        hits = VariedHits(*found)
        hits.unmet = dict(zip(wanted.at_least.names, missing.T, strict=True))
        return hits

    def upsert(self, item_ids: ArrayLike, vectors: ArrayLike) -> None:
        """Replace the embeddings of known items and add the new ones, all at once.

        Parameters
        ----------
        item_ids : array-like of shape (n,), int64 or str
            Unique within the call and of the kind the index has (int64 if it was made without
            ids).
        vectors : array-like of shape (n, dim), real numbers

        Raises
        ------
        TypeError, ValueError
            As in the constructor, before anything changes.

        Notes
        -----
        A replaced item keeps its row; a new one gets the next row, in the order of the call.
        Searches under way finish on the old state, later ones see all of the new one; the answer
        is the one that an index built from the present items in row order would give. Writers
        wait for each other. Most calls take microseconds; now and then one packs the items that
        changed, which takes as long as building an index of that many.

        Examples
        --------
        >>> import numpy as np
        >>> index = Index(np.eye(2), item_ids=["a", "b"])
        >>> index.upsert(["b", "c"], [[1.0, 1.0], [3.0, 4.0]])
        >>> index.search([[0.0, 1.0]], top_n=1).item_ids.tolist()
        [['c']]
        """
        ids = _checks.new_item_ids(item_ids)
        array = _arguments.matrix(vectors, "vectors")
        if len(ids):
            _arguments.check_kind(self._core.view(), ids, "item_ids")
        if isinstance(ids, list):
            self._core.upsert_strings(ids, array)
        else:
            self._core.upsert_int64(ids, array)

    def remove(self, item_ids: ArrayLike) -> int:
        """Remove items, all at once; ids that the index does not know are ignored.

        Parameters
        ----------
        item_ids : array-like of shape (n,), int64 or str
            Unique within the call.

        Returns
        -------
        int
            How many items were removed.

        Raises
        ------
        TypeError, ValueError
            If the ids are of the wrong kind or an id occurs twice, before anything changes.

        Notes
        -----
        The id is unknown from now on (`rows_of` gives -1, filters ignore it, it may be added
        again and then gets a new row). Its row stays empty: it never comes back from a search,
        `item_ids` holds -1 or "" there, `vectors` refuses it, and the rows of other items stay
        what they are. So `item_ids[hits.indices]` equals `hits.item_ids`, `rows_of` of a known id
        is its place in `item_ids`, and `len` counts the items. Rows are numbered anew, in the
        same order and without gaps, in a saved file and in the one update after which more than
        1,024 rows, and more than there are items, are empty: keep ids, not rows.

        Examples
        --------
        >>> import numpy as np
        >>> index = Index(np.eye(3), item_ids=["a", "b", "c"])
        >>> index.remove(["b", "unknown"]), len(index), index.rows_of(["c"]).tolist()
        (1, 2, [2])
        """
        ids = _checks.item_ids(item_ids)
        if len(ids) == 0:
            return 0
        _arguments.check_kind(self._core.view(), ids, "item_ids")
        if isinstance(ids, list):
            return self._core.remove_strings(ids)
        return self._core.remove_int64(ids)

    def with_storage(self, storage: Storage) -> Index:
        """Return a new index of the same items and vectors in another storage.

        Empty rows of removed items are left out, as in a saved file. Vectors are not normalised
        again, so disk8, disk6 and disk4 answer with the very bits of float32. The recall of an
        approximate storage is measured against the vectors of this index.

        Parameters
        ----------
        storage : str
            As in the constructor.

        Raises
        ------
        ValueError
            This index has rounded its vectors to another storage; or a number is beyond the range
            of the new one.

        Examples
        --------
        >>> import numpy as np
        >>> index = Index(np.eye(3, dtype=np.float32))
        >>> index.with_storage("disk8").search(np.ones((1, 3)), top_n=1).item_ids.tolist()
        [[0]]
        """
        stored = _arguments.member(_core.Storage, storage, "storage")
        return self._of_core(self._core.view().with_storage(stored))

    def memory(self) -> IndexMemory:
        """Say how many bytes each part of the index takes, and where.

        Returns
        -------
        IndexMemory
            Parts that are mapped are read from the file when they are needed, and may leave memory
            again whenever the system wants its room.
        """
        found = self._core.view().memory()
        return IndexMemory(
            codes=found.codes,
            rows=found.rows,
            mapped_codes=found.mapped_codes,
            mapped_rows=found.mapped_rows,
            rows_on_disk=found.rows_on_disk,
            ids=found.ids,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file, atomically; empty rows of removed items are left out.

        Raises
        ------
        BundleError
            If the file cannot be written.
        """
        self._core.view().save(os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], mmap: bool = True) -> Index:
        """Read an index that `save` wrote; every byte is verified first.

        Parameters
        ----------
        path : str or path
        mmap : bool
            True keeps the file mapped, whatever the storage: vectors and codes are read from the
            page cache, which the system may drop and share between processes. Of disk8, disk6 and
            disk4 the codes are copied, and vectors are read from the open file one by one.
            Replacing the file by rename is safe, as `save` does; writing over it in place (``cp``)
            gives wrong answers or ends the process. False copies everything to memory of this
            process.

        Raises
        ------
        TypeError
            If `mmap` is no bool.
        BundleError
            If the file is missing, damaged or of another version.
        """
        if not isinstance(mmap, (bool, np.bool_)):
            raise TypeError(f"mmap: got {mmap!r} of type {type(mmap).__name__}; expected a bool")
        name = os.fspath(path)
        if not os.path.lexists(name):
            raise BundleError(
                f"{name}: expected a file that `Index.save` wrote, found no such file"
            )
        return cls._of_core(_core.Index.load(name, bool(mmap)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the index as `save` writes it."""
        return type(self)._of_bytes, (self._core.view().to_bytes(),)

    @classmethod
    def _of_bytes(cls, data: bytes) -> Index:
        return cls._of_core(_core.Index.from_bytes("Index", data))

    @classmethod
    def _of_core(cls, core: _core.Index) -> Index:
        """Wrap an index of the compiled core."""
        index = cls.__new__(cls)
        index._core = core
        index._has_text_ids = core.view().has_string_ids
        index._ids = None
        return index

    def _all_ids(self, view: _core.IndexView) -> NDArray[Any]:
        """Ids by row and, last, the one of row -1."""
        cached = self._ids
        if cached is not None and cached[0] == view.generation:
            return cached[1]
        rows = np.arange(view.n_rows + 1)
        rows[-1] = -1
        ids = view.ids_of(rows)
        # Objects, not fixed-width text: one long id must not widen all the others.
        array = np.array(ids, dtype=object) if isinstance(ids, list) else ids
        array.flags.writeable = False
        self._ids = (view.generation, array)
        return array

    def _ids_of(self, view: _core.IndexView, rows: NDArray[np.int64]) -> NDArray[Any]:
        if not self._has_text_ids:
            ids: NDArray[np.int64] = view.ids_of(rows)
            return ids
        cached = self._ids
        if view.generation > 0 and (cached is None or cached[0] != view.generation):
            # An index that changes: do not list all ids for one search.
            return np.array(view.ids_of(rows), dtype=object).reshape(rows.shape)
        return self._all_ids(view)[rows]


def simd_level() -> str:
    """Return the instruction set in use, for example "avx2".

    The environment variable SHORTLIST_SIMD forces a level; one the CPU lacks is a ValueError.
    """
    return _core.simd_level()
