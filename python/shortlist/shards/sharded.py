"""A sharded index in one process: the shards' files, memory-mapped and searched as one index."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shortlist import _checks, _core
from shortlist._checks import flag, positive_int
from shortlist._forks import ForkLock
from shortlist.bundle.storages import Storage
from shortlist.errors import BundleError
from shortlist.index import Index, Metric
from shortlist.recommendations import Hits
from shortlist.shards import folder as files
from shortlist.shards.folder import ShardRecord, ShardSet

_ATTEMPTS = 5  # to read a set that is replaced at the same time


class ShardedIndex:
    """A catalogue in a folder of shards, each with a range of its rows, searched as one index.

    Made by `build`, `split` or `load`.

    Notes
    -----
    Answers have the ids, order and score bits of one `Index` with the same rows, with every filter,
    `at_most`, `at_least` and `diversity`. Rows count over all shards, in their order. All shards
    together hold at most 2^31 - 2 rows.

    Every file is compared with its sha256 when it is opened. Files are memory-mapped by default:
    the system may drop their pages and read them again. `Shard` and `ShardPool` spread the search
    over processes.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "items.shards"
    >>> index = ShardedIndex.build(folder, np.eye(4), ["a", "b", "c", "d"], n_shards=2)
    >>> index.search([[0.0, 0.0, 1.0, 0.1]], top_n=2).item_ids.tolist()
    [['c', 'd']]
    """

    __slots__ = ("_folder", "_lock", "_mmap", "_now")
    _folder: Path
    _lock: ForkLock  # of refresh; readers need none
    _mmap: bool
    _now: _Now

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("ShardedIndex: has no constructor; use ShardedIndex.build, .split or .load")

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        vectors: ArrayLike,
        item_ids: ArrayLike | None = None,
        metric: Metric = "cosine",
        *,
        storage: Storage = "float32",
        n_shards: int = 8,
    ) -> ShardedIndex:
        """Build the shards of a catalogue, one after another, and write them to a folder.

        Parameters
        ----------
        folder : str or path
            Made where it is missing; a set of shards that is there gets a new generation.
        vectors : array-like of shape (n_items, dim), real numbers
            May be a `numpy.memmap`: one shard is in memory at a time.
        item_ids, metric, storage
            As for `Index`.
        n_shards : int
            Shards of equal size, but for one row; empty ones where there are fewer items.

        Raises
        ------
        TypeError, ValueError
            As `Index`; the set in the folder stays as it was.
        BundleError, ShortlistError
            The folder cannot be written to, or another process is writing there.
        """
        array = _checks.real_matrix(vectors, "vectors")
        ids = None if item_ids is None else _checks.new_item_ids(item_ids)
        if ids is not None and len(ids) != len(array):
            raise ValueError(
                f"item_ids: got {len(ids)} ids for {len(array)} rows of vectors; "
                "expected one id per row"
            )
        kind = "row numbers" if ids is None else "string" if isinstance(ids, list) else "int64"

        def part(first: int, end: int) -> Index:
            own: Any = None if ids is None else ids[first:end]
            return Index(array[first:end], own, metric, storage=storage)

        ranges = _ranges(len(array), positive_int(n_shards, "n_shards"))
        like = Index(np.empty((0, array.shape[1])), metric=metric, storage=storage)
        parts = ((first, part(first, end)) for first, end in ranges)
        return cls._of(Path(folder), _write(Path(folder), like, kind, parts), True)

    @classmethod
    def split(
        cls,
        folder: str | os.PathLike[str],
        index: Index | str | os.PathLike[str],
        n_shards: int = 8,
    ) -> ShardedIndex:
        """Write the rows of an index, or of an index file, as shards; vectors stay as stored.

        Parameters
        ----------
        folder : str or path
            As for `build`.
        index : Index, str or path
            A file is memory-mapped; one shard is in memory at a time. Rows of removed items are
            left out.
        n_shards : int

        Raises
        ------
        TypeError, BundleError, ShortlistError
            As `Index.load` and `build`.
        """
        whole = index if isinstance(index, Index) else Index.load(index)
        kind, parts = _slices(whole, positive_int(n_shards, "n_shards"))
        return cls._of(Path(folder), _write(Path(folder), whole, kind, parts), True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], mmap: bool = True) -> ShardedIndex:
        """Open a folder of shards; every byte is verified first.

        Parameters
        ----------
        folder : str or path
        mmap : bool
            As for `Index.load`.

        Raises
        ------
        TypeError
            If `mmap` is no bool.
        BundleError
            If a file is missing, damaged, or not what `shards.json` says.
        """
        path, mmap = Path(folder), flag(mmap, "mmap")
        return cls._of(path, _open(path, mmap, None), mmap)

    @classmethod
    def _of(cls, folder: Path, now: _Now, mmap: bool) -> ShardedIndex:
        made = cls.__new__(cls)
        made._folder, made._mmap, made._now = folder, mmap, now
        made._lock = ForkLock()
        return made

    def refresh(self) -> bool:
        """Go over to the set that the folder holds now, if it is another one.

        Searches under way finish on the old set, later ones see all of the new one. Shards that
        stayed the same are not read again.

        Returns
        -------
        bool
            Whether there was a new set.

        Raises
        ------
        BundleError
            As `load`; the old set stays in use.
        """
        with self._lock:
            before = self._now
            if files.read_set(self._folder) == before.shards:
                return False
            self._now = _open(self._folder, self._mmap, before)
            return True

    def replace(self, shards: Mapping[int, Index], *, may_resize: bool = False) -> ShardedIndex:
        """Write new shards in the places of some, as one new generation, and go over to it.

        Parameters
        ----------
        shards : dict of Index
            By the number of the shard.
        may_resize : bool
            Whether a shard may have another number of rows than the one before it. Rows of later
            shards then move.

        Returns
        -------
        ShardedIndex
            This one. Other processes see the new set with `refresh`.

        Raises
        ------
        TypeError, ValueError
            A number is none of a shard; an index has another dim, metric, storage or number of
            rows, or an id that another shard has. Nothing has changed then.
        BundleError, ShortlistError
            The folder cannot be written to, or another process is writing there.
        """
        with files.writing(self._folder) as place:
            self.refresh()
            before = self._now
            parts = list(before.parts)
            for number, index in shards.items():
                _check_replacement(before.shards, number, index, may_resize)
                parts[number] = index
            _joined(parts)
            records = {
                number: files.add_shard(place, index, number) for number, index in shards.items()
            }
            changed = files.renumbered(before.shards.shards, records)
            fields = vars(before.shards) | {
                "generation": before.shards.generation + 1,
                "shards": changed,
            }
            files.publish(self._folder, place, ShardSet(**fields), before.shards)
        self.refresh()
        return self

    @property
    def index(self) -> Index:
        """All shards as one index; a later `refresh` does not change it."""
        return self._now.index

    @property
    def shards(self) -> tuple[ShardRecord, ...]:
        """File, rows, size and sha256 of every shard."""
        return self._now.shards.shards

    @property
    def generation(self) -> int:
        """Number of the set: one more with every replacement."""
        return self._now.shards.generation

    @property
    def dim(self) -> int:
        """Length of every embedding."""
        return self._now.shards.dim

    @property
    def metric(self) -> Metric:
        """As `Index.metric`."""
        return self._now.index.metric

    @property
    def storage(self) -> Storage:
        """As `Index.storage`."""
        return self._now.index.storage

    @property
    def item_ids(self) -> NDArray[Any]:
        """As `Index.item_ids`, over all shards."""
        return self._now.index.item_ids

    def __len__(self) -> int:
        """Return the number of items of all shards."""
        return self._now.shards.n_rows

    def __repr__(self) -> str:
        """Return a one-line description."""
        return (
            f"ShardedIndex({len(self)} items in {len(self.shards)} shards, dim {self.dim}, "
            f"{self.metric}, {self.storage}, generation {self.generation})"
        )

    def rows_of(self, ids: ArrayLike) -> NDArray[np.int64]:
        """As `Index.rows_of`, over all shards."""
        return self._now.index.rows_of(ids)

    def vectors(self, rows: ArrayLike) -> NDArray[np.float32]:
        """As `Index.vectors`, over all shards."""
        return self._now.index.vectors(rows)

    def search(
        self,
        queries: ArrayLike,
        top_n: int = 10,
        exclude: Any = None,
        allow: Any = None,
        n_threads: int = 0,
        **variety: Any,
    ) -> Hits:
        """Find the exact top-N items of every query among all shards.

        Parameters, answers and errors are those of `Index.search`; masks and groups have an entry
        for every row of the whole catalogue.
        """
        return self._now.index.search(queries, top_n, exclude, allow, n_threads, **variety)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the folder's path: the files are opened where it arrives."""
        return type(self).load, (os.fspath(self._folder.absolute()), self._mmap)


class _Now:
    """One set, opened: what a search reads at once."""

    __slots__ = ("index", "parts", "shards")

    def __init__(self, shards: ShardSet, parts: list[Index]) -> None:
        self.shards = shards
        self.parts = parts
        self.index = _joined(parts)


def _open(folder: Path, mmap: bool, before: _Now | None) -> _Now:
    """Open the set of a folder; what `before` has opened of it is used again."""
    for attempt in range(_ATTEMPTS):
        shards = files.read_set(folder)
        known = (
            {}
            if before is None
            else dict(
                zip((shard.sha256 for shard in before.shards.shards), before.parts, strict=True)
            )
        )
        try:
            parts = [
                known[record.sha256]
                if record.sha256 in known
                else files.open_shard(folder, shards, number, mmap)
                for number, record in enumerate(shards.shards)
            ]
            return _Now(shards, parts)
        except BundleError:
            # A writer may have removed a file between the two readings.
            if attempt == _ATTEMPTS - 1 or files.read_set(folder) == shards:
                raise
        except ValueError as error:  # two shards that do not go together
            raise BundleError(
                f"{folder.name}/{files.MANIFEST}: expected shards of one catalogue, found {error}"
            ) from error
    raise AssertionError("unreachable")


def _joined(parts: Sequence[Index]) -> Index:
    """Return one index of all; a part without items may lack the others' kind of ids."""
    views = [part._core.view() for part in parts]
    return Index._of_core(_core.Index.join([view for view in views if view.n_items] or views[:1]))


def _check_replacement(shards: ShardSet, number: Any, index: Any, may_resize: bool) -> None:
    n_shards = len(shards.shards)
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"shards: got {number!r} as the number of a shard; expected an int")
    if not 0 <= number < n_shards:
        raise ValueError(f"shards: got the number {number}; expected 0 to {n_shards - 1}")
    if not isinstance(index, Index):
        raise TypeError(f"shards[{number}]: got {type(index).__name__}; expected an Index")
    for name in ("dim", "metric", "storage"):
        got, expected = getattr(index, name), getattr(shards, name)
        if got != expected:
            raise ValueError(
                f"shards[{number}]: got an index of {name} {got}; the set in this folder has "
                f"{expected}; build the shard like the others"
            )
    n_rows = shards.shards[number].n_rows
    if len(index) != n_rows and not may_resize:
        raise ValueError(
            f"shards[{number}]: got {len(index)} rows; the shard has {n_rows}, and rows of later "
            "shards would move; pass may_resize=True if no one keeps rows"
        )


def _ranges(n_rows: int, n_shards: int) -> list[tuple[int, int]]:
    if n_shards > files.MAX_SHARDS:
        raise ValueError(f"n_shards: got {n_shards}; expected at most {files.MAX_SHARDS}")
    cuts = [n_rows * number // n_shards for number in range(n_shards + 1)]
    return list(itertools.pairwise(cuts))


def _slices(whole: Index, n_shards: int) -> tuple[str, Iterable[tuple[int, Index]]]:
    """Return the kind of ids an index has, and ranges of its rows with the first row of each."""
    view = whole._core.view()
    if view.n_items != view.n_rows:  # rows of removed items
        view = Index._of_bytes(view.to_bytes())._core.view()
    n_rows, kind = view.n_rows, "string" if view.has_string_ids else "int64"
    last = n_rows - 1
    if last > 0 and kind == "int64":
        # Ids that are row numbers count anew in each slice, others stay.
        own = view.slice(last, n_rows).view().ids_of(np.zeros(1, dtype=np.int64))[0]
        kind = "row numbers" if own != view.ids_of(np.array([last]))[0] else kind
    ranges = _ranges(n_rows, n_shards)
    return kind, ((first, Index._of_core(view.slice(first, end))) for first, end in ranges)


def write_beside(folder: Path, index: Index, n_shards: int) -> None:
    """Write an index as shards into a folder of other files that nobody reads yet."""
    kind, parts = _slices(index, n_shards)
    records = tuple(
        files.add_shard(folder, part, number, first_row)
        for number, (first_row, part) in enumerate(parts)
    )
    shards = ShardSet(1, index.dim, index.metric, index.storage, kind, records)
    (folder / files.MANIFEST).write_bytes(shards.to_json())


def _write(folder: Path, like: Index, item_ids: str, parts: Iterable[tuple[int, Index]]) -> _Now:
    """Write a set of new shards, given with their first rows, and return it opened."""
    with files.writing(folder) as place:
        try:
            before = files.read_set(folder)
        except BundleError:  # none, or one that cannot be read: its place is taken
            before = None
        records = tuple(
            files.add_shard(place, part, number, first_row)
            for number, (first_row, part) in enumerate(parts)
        )
        generation = 1 if before is None else before.generation + 1
        shards = ShardSet(generation, like.dim, like.metric, like.storage, item_ids, records)
        opened = [files.open_shard(place, shards, number, True) for number in range(len(records))]
        now = _Now(shards, opened)  # an id in two shards is found here
        files.publish(folder, place, shards, before)
        return now
