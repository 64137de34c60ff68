"""Formats of tables of requests: which columns a file has, how it is cut, how a cut is read.

A cut is a run of a file's rows: `start` and `stop` are rows of binary files, bytes of text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shortlist._columns.requests import RequestSchema
from shortlist.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_READ_ROWS = 1 << 13
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
    """Cut by rows, also inside of row groups."""

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return names and types of a file's columns."""
        with _opened(path) as file:
            return file.schema_arrow

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""
        with _opened(path) as file:
            return even_cuts(file.metadata.num_rows, n_rows, _n_bytes(file.metadata))

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the bytes of the row groups that a cut lies in."""
        with _opened(path) as file:
            return [
                _span(file.metadata.row_group(number))
                for number, begin, end in _groups(file.metadata)
                if begin < cut.stop and end > cut.start
            ]

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut: of row groups that it begins inside of, what comes before is skipped."""
        import pyarrow as pa

        with _opened(path) as file:
            for batch in _rows(file, path, cut):
                yield pa.Table.from_batches([batch])

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""
        return f"rows {cut.start:,} to {cut.stop - 1:,}"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
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


def _rows(file: Any, path: Path, cut: Cut) -> Iterator[pa.RecordBatch]:
    """Give the rows of a cut, row group by row group, so that an error names the one at fault."""
    import pyarrow as pa

    for number, begin, end in _groups(file.metadata):
        if begin >= cut.stop or end <= cut.start:
            continue
        at = begin
        try:
            for batch in file.iter_batches(_READ_ROWS, row_groups=[number], use_threads=False):
                first, last = max(cut.start - at, 0), min(cut.stop - at, batch.num_rows)
                if first < last:
                    yield batch.slice(first, last - first)
                at += batch.num_rows
                if at >= cut.stop:
                    break
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path}, row group {number}: it is damaged ({error}), expected a whole Parquet "
                "file. Fix: write the file again"
            ) from error


class Arrow:
    """Arrow IPC files (Feather version 2), mapped into memory."""

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return names and types of a file's columns."""
        with _mapped(path) as reader:
            return reader.schema

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""
        with _mapped(path) as reader:
            rows = sum(_batch(reader, path, i).num_rows for i in range(reader.num_record_batches))
            return even_cuts(rows, n_rows, path.stat().st_size)

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the whole file: its record batches do not say where they lie."""
        return [Span(0, path.stat().st_size)]

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut, piece by piece."""
        import pyarrow as pa

        begin = 0
        with _mapped(path) as reader:
            for number in range(reader.num_record_batches):
                batch = _batch(reader, path, number)
                first, last = max(cut.start - begin, 0), min(cut.stop - begin, batch.num_rows)
                if first < last:
                    yield pa.Table.from_batches([batch.slice(first, last - first)])
                begin += batch.num_rows
                if begin >= cut.stop:
                    break

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""
        return f"rows {cut.start:,} to {cut.stop - 1:,}"


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "an Arrow IPC file", error) from error
    yield reader


def _batch(reader: Any, path: Path, number: int) -> pa.RecordBatch:
    import pyarrow as pa

    try:
        batch = reader.get_batch(number)
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}, record batch {number}: it is damaged ({error}), expected a whole Arrow file. "
            "Fix: write the file again"
        ) from error
    return batch


def even_cuts(n: int, n_rows: int, n_bytes: int) -> list[Cut]:
    """Cut n rows of so many bytes into even runs, of at most `n_rows` and `CUT_BYTES` each."""
    if n == 0:
        return []
    n_cuts = max(-(-n // n_rows), min(n, -(-n_bytes // CUT_BYTES)))
    ends = [n * number // n_cuts for number in range(n_cuts + 1)]
    return [Cut(a, b, b - a) for a, b in itertools.pairwise(ends)]


def _unreadable(path: Path, expected: str, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read: {error}; expected {expected}. Fix: write the file again"
    )
