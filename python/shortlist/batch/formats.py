"""Formats of tables of requests: which columns a file has, how it is cut, how a cut is read.

A cut is a run of a file's rows: `start` and `stop` are rows of binary files, bytes of text.
"""

from __future__ import annotations

import itertools
import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shortlist._columns.requests import RequestSchema
from shortlist.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_READ_ROWS = 1 << 13
_BUFFER_BYTES = 1 << 20  # of each column of a Parquet file
CUT_BYTES = 64 << 20  # of a cut, as its file says: a worker holds so much text, and less of tables


class Cut(NamedTuple):
    """A run of a file's rows.

    Attributes
    ----------
    start, stop : int
        Rows, or bytes of text.
    n_rows : int
        Of text: lines, which may hold nothing.
    """

    start: int
    stop: int
    n_rows: int


class Span(NamedTuple):
    """Bytes of a file, from one on and up to another."""

    start: int
    stop: int


class Format(Protocol):
    """How the files of one format are read."""

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return names and types of a file's columns."""

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the bytes of a file that a cut's rows are made of."""

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut, piece by piece."""

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""


class Parquet:
    """Cut by rows, where row groups end or inside of large ones.

    A cut that begins where the last one of this process ended goes on with the open row group.
    """

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return names and types of a file's columns."""
        with _opened(path) as file:
            return file.schema_arrow

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""
        with _opened(path) as file:
            borders = [end for _, _, end in _groups(file.metadata)]
            return even_cuts(borders, n_rows, _n_bytes(file.metadata))

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the bytes of the row groups that a cut lies in."""
        with _opened(path) as file:
            return [
                _span(file.metadata.row_group(number))
                for number, begin, end in _groups(file.metadata)
                if begin < cut.stop and end > cut.start
            ]

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut: of a row group that it begins inside of, what comes before is skipped."""
        import pyarrow as pa

        with _opened(path) as file:
            groups = list(_groups(file.metadata))
        for number, begin, end in groups:
            if begin < cut.stop and end > cut.start:
                first, last = max(begin, cut.start), min(end, cut.stop)
                with _group(path, (number, begin, end), first) as group:
                    for batch in group.until(first, last):
                        yield pa.Table.from_batches([batch])

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""
        return f"rows {cut.start:,} to {cut.stop - 1:,}"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        # Page by page: else all of a row group is read at once.
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "a Parquet file", error) from error
    with file:
        yield file


def _n_bytes(metadata: Any) -> int:
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _groups(metadata: Any) -> Iterator[tuple[int, int, int]]:
    """Give each row group's number, its first row, and the row after its last."""
    begin = 0
    for number in range(metadata.num_row_groups):
        end = begin + metadata.row_group(number).num_rows
        yield number, begin, end
        begin = end


def _span(group: Any) -> Span:
    chunks = [group.column(number) for number in range(group.num_columns)]
    starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
    sizes = [chunk.total_compressed_size for chunk in chunks]
    return Span(min(starts), max(a + n for a, n in zip(starts, sizes, strict=True)))


class _RowGroup:
    """A row group as it is decoded, from its first row on."""

    def __init__(self, path: Path, number: int, begin: int) -> None:
        self._path, self._number, self._stack = path, number, ExitStack()
        file = self._stack.enter_context(_opened(path))
        self._batches = file.iter_batches(_READ_ROWS, row_groups=[number], use_threads=False)
        self._batch: pa.RecordBatch | None = None  # what was decoded last, from row `at` on
        self.at = begin

    def until(self, first: int, last: int) -> Iterator[pa.RecordBatch]:
        """Give the rows from one on and up to another, which is not before `at`."""
        while self.at < last:
            batch = self._batch if self._batch is not None else self._decoded()
            n_skipped = min(max(first - self.at, 0), batch.num_rows)
            n_taken = min(last - self.at, batch.num_rows)
            left = batch.num_rows - n_taken
            self._batch = batch.slice(n_taken) if left else None
            self.at += n_taken
            if n_skipped < n_taken:
                yield batch.slice(n_skipped, n_taken - n_skipped)

    def _decoded(self) -> pa.RecordBatch:
        import pyarrow as pa

        try:
            return next(self._batches)
        except (pa.ArrowException, OSError, StopIteration) as error:
            why = _one_line(error) or "it ends too early"
            raise DataError(
                f"{self._path}, row group {self._number}: it is damaged ({why}), expected a whole "
                "Parquet file. Fix: write the file again"
            ) from error

    def close(self) -> None:
        self._stack.close()


class _Unfinished(threading.local):
    """The row group inside of which a thread's last cut ended, if there is one."""

    held: tuple[tuple[Any, ...], _RowGroup] | None = None

    def take(self, key: tuple[Any, ...], first: int) -> _RowGroup | None:
        """Return it if it is the one of a key and its rows from `first` on are still to come."""
        held, self.held = self.held, None
        if held is None or (held[0] == key and held[1].at <= first):
            return None if held is None else held[1]
        held[1].close()
        return None

    def leave(self, key: tuple[Any, ...], group: _RowGroup) -> None:
        """Keep one for the next cut."""
        if self.held is not None:
            self.held[1].close()
        self.held = (key, group)


_unfinished = _Unfinished()


@contextmanager
def _group(path: Path, rows: tuple[int, int, int], first: int) -> Iterator[_RowGroup]:
    """Open a row group, or go on with the one that the last cut has left."""
    number, begin, end = rows
    found = path.stat()
    key = (os.getpid(), path, found.st_ino, found.st_size, found.st_mtime_ns, number)
    group = _unfinished.take(key, first) or _RowGroup(path, number, begin)
    is_left = False
    try:
        yield group
        is_left = group.at < end
    finally:
        if is_left:
            _unfinished.leave(key, group)
        else:
            group.close()


class Arrow:
    """Arrow IPC files (Feather version 2), mapped into memory; cut by rows, like Parquet."""

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return names and types of a file's columns."""
        with _mapped(path) as reader:
            return reader.schema

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""
        borders = list(itertools.accumulate(_batch_rows(path)))
        return even_cuts(borders, n_rows, path.stat().st_size)

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the whole file: its record batches do not say where they lie."""
        return [Span(0, path.stat().st_size)]

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut, piece by piece."""
        import pyarrow as pa

        begin = 0
        with _mapped(path) as reader:
            for number, n_rows in enumerate(_batch_rows(path)):
                first, last = max(cut.start - begin, 0), min(cut.stop - begin, n_rows)
                if first < last:
                    batch = _batch(reader, path, number)
                    yield pa.Table.from_batches([batch.slice(first, last - first)])
                begin += n_rows

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""
        return f"rows {cut.start:,} to {cut.stop - 1:,}"


@contextmanager
def _mapped(path: Path, columns: Sequence[int] = ()) -> Iterator[Any]:
    """Open a file for some of its columns; for all where none is named."""
    import pyarrow as pa

    try:
        options = pa.ipc.IpcReadOptions(included_fields=list(columns))
        reader = pa.ipc.open_file(pa.memory_map(str(path)), options=options)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "an Arrow IPC file", error) from error
    yield reader


def _batch_rows(path: Path) -> list[int]:
    """Return the rows of each record batch; of compressed ones, a single column is read for it."""
    with _mapped(path) as reader:
        column = max(0, reader.schema.get_field_index("user_id"))
    with _mapped(path, columns=[column]) as reader:
        return [
            _batch(reader, path, number, is_whole=False).num_rows
            for number in range(reader.num_record_batches)
        ]


def _batch(reader: Any, path: Path, number: int, *, is_whole: bool = True) -> pa.RecordBatch:
    import pyarrow as pa

    try:
        batch = reader.get_batch(number)
        if is_whole:
            batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}, record batch {number}: it is damaged ({_one_line(error)}), expected a whole "
            "Arrow file. Fix: write the file again"
        ) from error
    return batch


def even_cuts(borders: Sequence[int], n_rows: int, n_bytes: int) -> list[Cut]:
    """Cut the rows of a file into even runs of about `n_rows` and at most about `CUT_BYTES`.

    Parameters
    ----------
    borders : sequence of int
        The row after each row group; a run ends there if that is less than a quarter of its length
        away. The last is the number of rows.
    n_rows, n_bytes : int
        Rows of a run; bytes of the file.
    """
    n = borders[-1] if borders else 0
    if n == 0:
        return []
    n_cuts = max(-(-n // n_rows), min(n, -(-n_bytes // CUT_BYTES)))
    ends = [n * number // n_cuts for number in range(n_cuts + 1)]
    for number, end in enumerate(ends[1:-1], 1):
        at = bisect_left(borders, end)
        nearest = min(borders[max(at - 1, 0) : at + 1], key=lambda border: abs(border - end))
        if abs(nearest - end) <= n // n_cuts // 4:
            ends[number] = nearest
    return [Cut(a, b, b - a) for a, b in itertools.pairwise(ends)]


def _unreadable(path: Path, expected: str, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read: {_one_line(error)}; expected {expected}. Fix: write the file again"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
