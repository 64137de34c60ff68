"""Read one table from a file or a data frame, knowing where each row came from.

Text files (CSV, TSV) are read as strings, so that a value which cannot be parsed later is reported
with its line. Parquet, Arrow and Feather files and pandas, polars and pyarrow frames keep their
types.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from shortlist.errors import DataError

# A path, or a polars / pandas / pyarrow frame (the two latter are optional imports).
TableSource: TypeAlias = Any

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
_SUFFIX_HELP = "one of .csv, .tsv, .tab (also .gz), .parquet, .pq, .arrow, .feather, .ipc"

_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (or an Excel workbook)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x1f\x8b", "a gzip file"),
)


@dataclass(frozen=True)
class Table:
    """One table and the words that name its rows in an error message.

    Attributes
    ----------
    frame : polars.DataFrame
        The rows in file order; all columns are String when ``is_text``.
    source : str
        File name or kind of frame, for messages.
    is_text : bool
        True for CSV and TSV: values are strings and may be parsed into numbers.
    first_line : int
        Line of the first row for text files (2 under a header), 0 where rows have no lines.
    """

    frame: pl.DataFrame
    source: str
    is_text: bool = False
    first_line: int = 0

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.columns

    def place(self, row: int) -> str:
        """Name the place of a 0-based row: its line in a text file, else its number, from 1."""
        return f"line {row + self.first_line}" if self.first_line else f"row {row + 1}"

    def error(self, column: str, row: int, expected: str, fix: str) -> DataError:
        """Return the error for one bad value: column, row, got, expected, fix."""
        got = self.frame[column][row]
        shown = "nothing (empty or null)" if got is None or got == "" else repr(got)
        return DataError(
            f"{self.source}: column {column!r}, {self.place(row)}: got {shown}, "
            f"expected {expected}. Fix: {fix}"
        )


@dataclass(frozen=True)
class LazyTable:
    """A table that is read while it is worked on; the other attributes are those of `Table`."""

    frame: pl.LazyFrame
    source: str
    is_text: bool
    first_line: int
    origin: TableSource

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.collect_schema().names()

    def place(self, row: int) -> str:
        """Name the place of a 0-based row, as `Table.place` does."""
        return f"line {row + self.first_line}" if self.first_line else f"row {row + 1}"

    def explain(self, error: Exception) -> DataError:
        """Turn an error of polars while reading into one that names the line, where it can be."""
        if isinstance(self.origin, str | Path):
            try:
                read_table(self.origin)
            except DataError as better:
                return better
        return DataError(f"{self.source} cannot be read: {error}. Fix: write the table again")


def read_table(
    source: TableSource, *, columns: Mapping[str, str] | None = None, what: str = "events"
) -> Table:
    """Read a table from a path or a frame.

    Parameters
    ----------
    source : path, polars.DataFrame, polars.LazyFrame, pandas.DataFrame or pyarrow.Table
        Files: CSV/TSV (UTF-8, with a header line, optionally .gz), Parquet, Arrow/Feather.
    columns : mapping of str to str, optional
        Our column name → the name in the source. Nothing is guessed without it.
    what : str
        What the table holds, for messages ("events", "items", "users").

    Returns
    -------
    Table
        With columns renamed to ours, rows in source order.

    Raises
    ------
    DataError
        The file is missing, empty, of another type than its name says, of an unknown type, or a
        mapped column is absent.
    """
    table = (
        _read_path(Path(source)) if isinstance(source, str | Path) else _read_frame(source, what)
    )
    if table.frame.width == 0 or table.frame.height == 0:
        raise DataError(
            f"{table.source}: the {what} table has {table.frame.height} rows and "
            f"{table.frame.width} columns, expected at least one row under a header. "
            f"Fix: give a table that has {what}"
        )
    return _rename(table, columns or {})


def scan_table(
    source: TableSource, *, columns: Mapping[str, str] | None = None, what: str = "events"
) -> LazyTable:
    """Open a table without reading it, for tables larger than memory; arguments as `read_table`.

    A file that polars cannot read as it streams is reported by `LazyTable.explain`.
    """
    if not isinstance(source, str | Path):
        table = read_table(source, columns=columns, what=what)
        return LazyTable(table.frame.lazy(), table.source, table.is_text, table.first_line, source)
    path = Path(source)
    suffix = _suffix_of(path)
    if path.stat().st_size == 0:
        read_table(path, what=what)  # raises: an empty file has its own message
    if suffix in TEXT_SUFFIXES:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(1 << 16)
        check_is_text(head.rsplit(b"\n", 1)[0], path, "text with a header line")
        separator = _separator_of(head, TEXT_SUFFIXES[suffix])
        frame = pl.scan_csv(path, separator=separator, infer_schema=False)
    else:
        scan = pl.scan_parquet if suffix in PARQUET_SUFFIXES else pl.scan_ipc
        frame = scan(path)
    is_text = suffix in TEXT_SUFFIXES
    try:
        has = frame.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        read_table(path, columns=columns, what=what)  # raises with the line or the kind of file
        raise DataError(f"{path.name} cannot be read: {error}. Fix: write it again") from error
    renamed = _renaming(has, path.name, columns or {})
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in renamed.items())
    return LazyTable(frame, path.name, is_text, 2 if is_text else 0, source)


def require_columns(table: Table | LazyTable, names: tuple[str, ...], what: str) -> None:
    """Raise a DataError that lists the columns there are when one of ``names`` is missing."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.source}: {what} have no column {missing[0]!r}: got columns "
            f"{table.columns}, expected {list(names)}. Fix: rename the column, or map it "
            f"with columns={{{missing[0]!r}: 'NAME_IN_FILE'}} (--column {missing[0]}=NAME_IN_FILE)"
        )


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is gzip; DataError if it cannot be read."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}. Fix: check the path") from error
    except (OSError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Fix: give a readable, complete file"
        ) from error


def check_is_text(data: bytes, path: Path, expected: str) -> None:
    """Raise a DataError if bytes are not UTF-8 text, naming what they are instead."""
    if not data.strip():
        raise DataError(
            f"{path.name} is empty ({len(data)} bytes), expected {expected}. "
            "Fix: give a file that has rows"
        )
    kind = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if kind is None and b"\0" in data[:4096]:
        kind = "a binary file (it has NUL bytes)"
    if kind is not None:
        raise DataError(
            f"{path.name} is {kind}, expected {expected}. "
            "Fix: give the table itself, with the file name ending that matches it"
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, "
            f"expected {expected} in UTF-8. Fix: convert it, e.g. iconv -f latin1 -t utf-8"
        ) from error


def _suffix_of(path: Path) -> str:
    """Return the ending that names the file's type, without .gz; DataError if there is none."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file: {_SUFFIX_HELP}. Fix: name the file")
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in (*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES):
        raise DataError(
            f"{path.name}: unknown file type {suffix or '(no ending)'!r}, expected {_SUFFIX_HELP}. "
            "Fix: rename the file, or name its format"
        )
    if not path.exists():
        raise DataError(f"no such file: {path}. Fix: check the path")
    return suffix


def _read_path(path: Path) -> Table:
    suffix = _suffix_of(path)
    if suffix in TEXT_SUFFIXES:
        return _read_text(path, TEXT_SUFFIXES[suffix])
    data = read_bytes(path)
    is_parquet = suffix in PARQUET_SUFFIXES
    expected = "a Parquet file" if is_parquet else "an Arrow IPC (Feather version 2) file"
    try:
        read = pl.read_parquet if is_parquet else pl.read_ipc
        return Table(read(io.BytesIO(data)), path.name)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read as {expected} ({len(data)} bytes): {error}. "
            "Fix: write the file again, or correct its ending"
        ) from error


def _read_text(path: Path, separator: str) -> Table:
    data = read_bytes(path)
    name = "CSV" if separator == "," else "TSV"
    check_is_text(data, path, f"{name} text with a header line")
    data = data.removeprefix(b"\xef\xbb\xbf")  # the byte-order mark some spreadsheets write
    separator = _separator_of(data, separator)
    try:
        # truncate_ragged_lines stays off: a row with too many fields is an error, not lost data.
        frame = pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _ragged(path, data, separator, error) from error
    return Table(frame, path.name, is_text=True, first_line=2)


def _separator_of(data: bytes, expected: str) -> str:
    """Tell the separator from the header: a file of "a;b;c" may be called .csv."""
    header = data.split(b"\n", 1)[0].decode()
    return expected if expected in header else max(",\t;|", key=header.count)


def _ragged(path: Path, data: bytes, separator: str, error: Exception) -> DataError:
    """Find the first row with another number of fields than the header."""
    rows = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator)
    header = next(rows)
    for row in rows:
        if row and len(row) != len(header):
            return DataError(
                f"{path.name}, line {rows.line_num}: got {len(row)} fields, expected "
                f"{len(header)} as in the header. Fix: quote values that contain {separator!r}"
            )
    return DataError(
        f"{path.name} cannot be read as text with separator {separator!r}: {error}. "
        "Fix: write the file again"
    )


def _read_frame(source: TableSource, what: str) -> Table:
    module = type(source).__module__.partition(".")[0]
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return Table(source.lazy().collect(), f"{what} (polars frame)")
    if module == "pandas" and hasattr(source, "columns"):
        import pandas as pd

        if not all(isinstance(name, str) for name in source.columns):
            raise DataError(
                f"{what} (pandas frame): column names must be str, got "
                f"{list(source.columns)}. Fix: frame.columns = [...]"
            )
        return Table(pl.from_pandas(pd.DataFrame(source)), f"{what} (pandas frame)")
    if module == "pyarrow" and hasattr(source, "schema"):
        frame = pl.from_arrow(source)
        if isinstance(frame, pl.DataFrame):
            return Table(frame, f"{what} (Arrow table)")
    raise DataError(
        f"{what}: got {type(source).__name__}, expected a path or a polars, pandas or pyarrow "
        "table. Fix: pass one of these"
    )


def _rename(table: Table, columns: Mapping[str, str]) -> Table:
    renamed = _renaming(table.frame.columns, table.source, columns)
    frame = table.frame.select(pl.col(theirs).alias(ours) for ours, theirs in renamed.items())
    return Table(frame, table.source, table.is_text, table.first_line)


def _renaming(has: list[str], source: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Map our column names to those in the source; unmapped columns keep theirs."""
    for ours, theirs in columns.items():
        if theirs not in has:
            raise DataError(
                f"{source}: columns[{ours!r}] names {theirs!r}, got columns "
                f"{has}. Fix: name one of these"
            )
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    return {ours_of.get(name, name): name for name in has if name in ours_of or name not in columns}
