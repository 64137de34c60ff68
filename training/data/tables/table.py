"""Read one table from a file, a folder of parts or a frame, knowing where each row came from.

This is the only reader of tables: whole (`read_table`) or while it is worked on (`scan_table`), by
the same rules. `docs/data.md` says what is accepted. Text files (CSV, TSV) are read as strings, so
that a value which cannot be parsed later is reported with its line. Parquet, Arrow and Feather
files and pandas, polars and pyarrow frames keep their types.
"""

from __future__ import annotations

import csv
import io
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import polars as pl

from shortlist._columns.files import GZIP, UTF8_MARK, decode, read_bytes, wide_encoding
from shortlist.errors import DataError
from shortlist.training.data.tables.lines import Lines, opened

# A path, or a polars / pandas / pyarrow frame (the two latter are optional imports).
TableSource: TypeAlias = Any

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES)
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
    (b"FEA1", "a Feather file of version 1"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (GZIP, "a gzip file"),
)
# What the first bytes say of tables that are no text; an Arrow stream has no name of its own.
_BINARY = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "stream"))
_HEAD = 1 << 16
_EXPECTED = {
    "parquet": "a Parquet file",
    "arrow": "an Arrow IPC (Feather version 2) file",
    "stream": "an Arrow IPC stream",
}

# What the commands print about reading.
log = logging.getLogger("shortlist.reading")


@dataclass(frozen=True)
class Part:
    """One file of a table: its rows as they are in the file, and what names their lines."""

    name: str
    frame: pl.LazyFrame
    lines: Lines | None = None
    expected: str = "a table"


@dataclass(frozen=True)
class Places:
    """Names the place of a row: its line in a text file, else its number; and its file of many."""

    parts: tuple[Part, ...]

    def of(self, rows: list[int]) -> list[str]:
        """Name the places of 0-based rows."""
        if len(self.parts) == 1:
            return _named(self.parts[0], rows)
        heights = pl.collect_all([part.frame.select(pl.len()) for part in self.parts])
        names, begin = {}, 0
        for part, height in zip(self.parts, heights, strict=True):
            end = begin + int(height.item())
            here = [row for row in rows if begin <= row < end]
            inside = _named(part, [row - begin for row in here]) if here else []
            names.update({r: f"{part.name}, {p}" for r, p in zip(here, inside, strict=True)})
            begin = end
        return [names.get(row, f"row {row + 1}") for row in rows]


def _named(part: Part, rows: list[int]) -> list[str]:
    if part.lines is None:
        return [f"row {row + 1}" for row in rows]
    return [f"line {line}" for line in part.lines.of(rows)]


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
        Line of the first row where each row is one line, 0 where ``places`` says or rows have none.
    places : Places, optional
        Names rows of files.
    """

    frame: pl.DataFrame
    source: str
    is_text: bool = False
    first_line: int = 0
    places: Places | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.columns

    def place(self, row: int) -> str:
        """Name the place of a 0-based row: its line in a text file, else its number, from 1."""
        if self.places is not None:
            return self.places.of([row])[0]
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
    places: Places

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.collect_schema().names()

    def place(self, row: int) -> str:
        """Name the place of a 0-based row, as `Table.place` does."""
        return self.places.of([row])[0]

    def explain(self, error: Exception) -> DataError:
        """Turn an error of polars while reading into one that names the line, where it can be."""
        return _explained(self.source, self.places.parts, error)


def read_table(
    source: TableSource, *, columns: Mapping[str, str] | None = None, what: str = "events"
) -> Table:
    """Read a table from a path or a frame.

    Parameters
    ----------
    source : path, polars.DataFrame, polars.LazyFrame, pandas.DataFrame or pyarrow.Table
        Files: CSV/TSV (with a header line), Parquet, Arrow/Feather, each optionally gzipped; or a
        folder of such files of one kind, as Spark writes them.
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
        The file is missing, empty, damaged, of an unknown type or encoding, has two columns of one
        name, or a mapped column is absent.
    """
    table = scan_table(source, columns=columns, what=what)
    try:
        frame = table.frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise table.explain(error) from error
    if frame.width == 0 or frame.height == 0:
        raise DataError(
            f"{table.source}: the {what} table has {frame.height} rows and "
            f"{frame.width} columns, expected at least one row under a header. "
            f"Fix: give a table that has {what}"
        )
    return Table(frame, table.source, table.is_text, places=table.places)


def scan_table(
    source: TableSource, *, columns: Mapping[str, str] | None = None, what: str = "events"
) -> LazyTable:
    """Open a table without reading it, for tables larger than memory; arguments as `read_table`.

    What is wrong with single rows is found while they are read; see `LazyTable.explain`.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        name, parts = path.name, _open_parts(path)
    else:
        frame, name = _frame_of(source, what)
        parts = (Part(name, frame.lazy()),)
    try:
        schemas = [part.frame.collect_schema() for part in parts]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _explained(name, parts, error) from error
    for part, schema in zip(parts, schemas, strict=True):
        if schema != schemas[0]:
            raise DataError(
                f"{name}: {part.name} has the columns {dict(schema)}, {parts[0].name} has "
                f"{dict(schemas[0])}, expected the same in all files. Fix: write them anew, alike"
            )
    is_text = parts[0].lines is not None
    frame = parts[0].frame if len(parts) == 1 else pl.concat([part.frame for part in parts])
    renamed = _renaming(schemas[0].names(), name, columns or {})
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in renamed.items())
    return LazyTable(frame, name, is_text, Places(parts))


def require_columns(table: Table | LazyTable, names: tuple[str, ...], what: str) -> None:
    """Raise a DataError that lists the columns there are when one of ``names`` is missing."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.source}: {what} have no column {missing[0]!r}: got columns "
            f"{table.columns}, expected {list(names)}. Fix: rename the column, or map it "
            f"with columns={{{missing[0]!r}: 'NAME_IN_FILE'}} (--column {missing[0]}=NAME_IN_FILE)"
        )


def check_is_text(data: bytes, path: Path, expected: str) -> None:
    """Raise a DataError if bytes are not text, naming what they are instead."""
    if not data.removeprefix(UTF8_MARK).strip():
        raise DataError(
            f"{path.name} is empty ({len(data)} bytes), expected {expected}. "
            "Fix: give a file that has rows"
        )
    kind = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if kind is None and wide_encoding(data) is None and b"\0" in data[:4096]:
        kind = "a binary file (it has NUL bytes)"
    if kind is not None:
        raise DataError(
            f"{path.name} is {kind}, expected {expected}. "
            "Fix: give the table itself, with the file name ending that matches it"
        )
    decode(data, path.name)


def read_lines(path: Path, expected: str) -> str:
    """Return the text of a file that is no table of ours; DataError if it is none or empty."""
    data = read_bytes(path)
    check_is_text(data, path, expected)
    return decode(data, path.name).replace("\r\n", "\n")


def read_delimited(
    path: Path, separator: str, names: Sequence[str] | None, expected: str, *, text: str = ""
) -> Table:
    """Read a file without quoting; with ``names`` it has no header, without them it has one.

    ``text`` is its content, where that was read already.
    """
    data = (text or read_lines(path, expected)).encode()
    lines = Lines(opened(data), separator, False, 0 if names else 1)
    frame = pl.scan_csv(
        data,
        separator=separator,
        has_header=names is None,
        infer_schema=False,
        quote_char=None,
        new_columns=None,
    )
    part = Part(path.name, frame, lines, expected)
    try:
        found = frame.collect_schema().names()
        rows = _without_blank_lines(frame, found).collect()
    except pl.exceptions.PolarsError as error:
        raise _explained(path.name, (part,), error) from error
    if names is not None:
        if rows.width != len(names):
            raise DataError(
                f"{path.name}: got {rows.width} fields a line, expected {len(names)}: "
                f"{list(names)}. Fix: give the file as it was shipped"
            )
        rows.columns = list(names)
    return Table(rows, path.name, is_text=True, places=Places((part,)))


def is_folder_of_parts(path: Path) -> bool:
    """Say whether a folder is one table in many files, as Spark and Dask write it."""
    return path.is_dir() and bool(_files_of(path))


def _files_of(folder: Path) -> list[Path]:
    """List the files of a table that is a folder; those that begin with _ or . are not of it."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part[0] in "._" for part in path.relative_to(folder).parts)
        and path.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)
        and path.is_file()
    ]
    # A folder with events.csv and items.csv is a data set, not a table.
    inside = {path.relative_to(folder).parts[:-1] for path in found}
    has_marker = (folder / "_SUCCESS").exists()
    is_named_so = folder.name.lower().endswith(TABLE_SUFFIXES)
    are_parts = all(re.match(r"part[-_.]", path.name) for path in found)
    is_hive = inside and all(parts and all("=" in p for p in parts) for parts in inside)
    return found if has_marker or is_named_so or are_parts or is_hive else []


def _open_parts(path: Path) -> tuple[Part, ...]:
    if not path.is_dir():
        return (_open_file(path),)
    for mark, kind in (("_delta_log", "Delta"), (".hoodie", "Hudi"), ("metadata", "Iceberg")):
        if (path / mark).is_dir():
            raise DataError(
                f"{path} is a {kind} table, whose files also hold rows that were deleted or "
                "replaced, expected plain files. Fix: write the table out as Parquet"
            )
    files = _files_of(path)
    if not files:
        raise DataError(
            f"{path} is a folder, expected a file: {_SUFFIX_HELP}, or a folder of parts as Spark "
            "writes it. Fix: name the file"
        )
    filled = [file for file in files if file.stat().st_size > 0] or files[:1]
    kinds = {_kind_of(file) for file in filled}
    if len(kinds) > 1:
        raise DataError(
            f"{path} has files of {len(kinds)} kinds ({', '.join(sorted(kinds))}), expected parts "
            "of one kind. Fix: keep other files elsewhere"
        )
    return tuple(_with_folders(_open_file(file), file.relative_to(path)) for file in filled)


def _with_folders(part: Part, path: Path) -> Part:
    """Add the columns that the names of folders hold: kind=view/part-0.parquet."""
    pairs = dict(unquote(name).split("=", 1) for name in path.parts[:-1] if "=" in name)
    missing = "__HIVE_DEFAULT_PARTITION__"
    columns = [
        pl.lit(None if value == missing else value, pl.String).alias(name)
        for name, value in pairs.items()
    ]
    named = replace(part, name=str(path))
    return replace(named, frame=part.frame.with_columns(columns)) if columns else named


def _kind_of(path: Path) -> str:
    """Tell "text", "parquet", "arrow" or "stream" by the content, and by the name where it must."""
    head = _head_of(path, 8)
    kind = next((kind for magic, kind in _BINARY if head.startswith(magic)), None)
    if kind is not None:
        return kind
    suffix = _suffix_of(path)
    if suffix in TEXT_SUFFIXES:
        return "text"
    return "parquet" if suffix in PARQUET_SUFFIXES else "arrow"


def _suffix_of(path: Path) -> str:
    """Return the ending that names the file's type, without .gz; DataError if there is none."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"{path.name}: unknown file type {suffix or '(no ending)'!r}, expected {_SUFFIX_HELP}. "
            "Fix: rename the file, or name its format"
        )
    return suffix


def _head_of(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, decompressed; DataError if it cannot be read."""
    try:
        with opened(path)() as file:
            return file.read(size)
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}. Fix: check the path") from error
    except (OSError, EOFError, zlib.error):
        return read_bytes(path)[:size]  # has the words for it


def _open_file(path: Path) -> Part:
    if not path.exists():
        raise DataError(f"no such file: {path}. Fix: check the path")
    kind = _kind_of(path)
    if kind == "text":
        return _open_text(path)
    is_gzip = _is_gzip(path)
    source: Any = read_bytes(path) if is_gzip else path
    if kind == "parquet":
        frame = pl.scan_parquet(source, glob=False, hive_partitioning=False)
    elif kind == "arrow":
        frame = pl.scan_ipc(source, glob=False, hive_partitioning=False)
    else:
        frame = pl.LazyFrame()
    part = Part(path.name, frame, expected=_EXPECTED[kind])
    if kind != "stream":
        return part
    try:
        return replace(part, frame=pl.read_ipc_stream(source).lazy())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _explained(path.name, (part,), error) from error


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP


def _open_text(path: Path) -> Part:
    """Open a text file with a header line."""
    by_name = TEXT_SUFFIXES[_suffix_of(path)]
    head = _head_of(path, _HEAD)
    whole_lines = head.rpartition(b"\n")[0] if len(head) == _HEAD and b"\n" in head else head
    if wide_encoding(head):
        whole_lines = head[: len(head) // 4 * 4] if len(head) == _HEAD else head
    name = "CSV" if by_name == "," else "TSV"
    check_is_text(whole_lines, path, f"{name} text with a header line")
    source: Path | bytes = path
    is_old_mac = b"\r" in head and b"\n" not in head
    if wide_encoding(head) or is_old_mac:
        text = decode(read_bytes(path), path.name)
        source = (text.replace("\r", "\n") if is_old_mac else text).encode()
        head = source[:_HEAD]
    text = head.removeprefix(UTF8_MARK).decode("utf-8", "replace")
    begin = re.match(r"(?:[ \t,;|]*\r?\n)*", text)
    skipped = begin[0] if begin else ""
    first = text[len(skipped) :].split("\n", 1)[0]
    separator = by_name if by_name in first else max(",\t;|", key=first.count)
    header, has_quotes = _header_of(text[len(skipped) :], separator)
    names = _unique(header, path.name)
    lines = Lines(opened(source), separator, has_quotes)
    frame = pl.scan_csv(
        source,
        separator=separator,
        infer_schema=False,
        quote_char='"' if has_quotes else None,
        skip_lines=skipped.count("\n"),
        new_columns=names,
        # truncate_ragged_lines stays off: a row with too many fields is an error, not lost data.
        glob=False,
    )
    expected = f"text with separator {separator!r}"
    if _is_gzip(path) or lines.may_have_blank:  # leaving them out reads all columns
        frame = _without_blank_lines(frame, names)
    return Part(path.name, frame, lines, expected)


def _header_of(text: str, separator: str) -> tuple[list[str], bool]:
    """Return the names in the first row, and whether values may stand in quotation marks.

    Tables with tabs have no quoting, unless all names stand in marks, as R writes them.
    """
    cells = text.split("\n", 1)[0].rstrip("\r").split(separator)
    is_quoted = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    if separator == "\t" and not is_quoted:
        return [cell.strip() for cell in cells], False
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [cell.strip() for cell in next(rows, [])], True


def _unique(names: list[str], source: str) -> list[str]:
    """Refuse two columns of one name; those without a name are numbered as pandas does it."""
    found: list[str] = []
    for number, name in enumerate(names):
        if name in found and name:
            raise DataError(
                f"{source}: two columns are called {name!r}: got columns {names}, expected each "
                "name once. Fix: rename or drop one"
            )
        found.append(f"Unnamed: {number}" if name in found else name)
    return found


def _without_blank_lines(frame: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    """Leave out lines that hold nothing, or nothing but blanks or separators."""
    first, *others = (pl.col(name) for name in names)
    is_blank = first.is_null() | (first.str.strip_chars(" \t\r") == "")
    if others:
        is_blank &= pl.all_horizontal(column.is_null() for column in others)
    return frame.filter(~is_blank)


def _explained(source: str, parts: tuple[Part, ...], error: Exception) -> DataError:
    """Say what is wrong with files that polars cannot read."""
    for part in parts:
        if part.lines is None:
            continue
        try:
            with part.lines.open() as file:
                data = file.read()
        except (OSError, EOFError, zlib.error) as broken:
            return DataError(
                f"{part.name} is a gzip file that is cut off or damaged ({broken}). Fix: copy it "
                "again; `gzip -t FILE` says whether it is whole"
            )
        try:
            decode(data, part.name)
        except DataError as better:
            return better
        if (found := part.lines.wrong()) is not None:
            line, said, fix = found
            return DataError(f"{part.name}, line {line}: {said}. Fix: {fix}")
    said = " ".join(str(error).split())
    return DataError(
        f"{source} cannot be read as {parts[0].expected}: {said:.300}. "
        "Fix: write the file again, or correct its ending"
    )


def _frame_of(source: TableSource, what: str) -> tuple[pl.DataFrame | pl.LazyFrame, str]:
    module = type(source).__module__.partition(".")[0]
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return source, f"{what} (polars frame)"
    if module == "pandas" and hasattr(source, "columns"):
        return _of_pandas(source, f"{what} (pandas frame)"), f"{what} (pandas frame)"
    if module == "pyarrow" and hasattr(source, "schema"):
        name = f"{what} (Arrow table)"
        if len(set(source.schema.names)) < len(source.schema.names):
            _unique(list(source.schema.names), name)
        try:
            frame = pl.from_arrow(source)
        except Exception as error:  # polars and pyarrow have many
            raise DataError(f"{name} cannot be read: {error}. Fix: cast its columns") from error
        if isinstance(frame, pl.DataFrame):
            return frame, name
    raise DataError(
        f"{what}: got {type(source).__name__}, expected a path or a polars, pandas or pyarrow "
        "table. Fix: pass one of these"
    )


def _of_pandas(source: Any, name: str) -> pl.DataFrame:
    import pandas as pd

    if not all(isinstance(column, str) for column in source.columns):
        raise DataError(
            f"{name}: column names must be str, got "
            f"{list(source.columns)}. Fix: frame.columns = [...]"
        )
    _unique(list(source.columns), name)
    index = [label for label in source.index.names if label and label not in source.columns]
    if index:
        raise DataError(
            f"{name}: {index[0]!r} is the frame's index, expected a column. "
            "Fix: frame.reset_index()"
        )
    frame = pd.DataFrame(source)
    try:
        return pl.from_pandas(frame)
    except ImportError as error:
        raise DataError(
            f"{name}: its columns need the package pyarrow ({error}). "
            "Fix: pip install 'shortlist[cpu]'"
        ) from error
    except Exception as error:  # pyarrow's and polars' own
        raise _unreadable(frame, name, error) from error


def _unreadable(frame: Any, name: str, error: Exception) -> DataError:
    """Find the column of a pandas frame that cannot be read."""
    for column in frame.columns:
        try:
            pl.from_pandas(frame[[column]])
        except Exception as narrower:
            return _mixed(frame[column], name, narrower)
    return DataError(f"{name} cannot be read: {error}. Fix: give every column one type")


def _mixed(column: Any, name: str, error: Exception) -> DataError:
    """Name the first row of a pandas column whose type is another one than before."""
    first: type | None = None
    for row, value in enumerate(column):
        is_missing = value is None or value != value
        if is_missing:
            continue
        if first is None:
            first = type(value)
        elif not isinstance(value, first):
            return DataError(
                f"{name}: column {column.name!r}, row {row + 1}: got {value!r:.60} of type "
                f"{type(value).__name__}, expected {first.__name__} as in the rows before. "
                f"Fix: give the column one type, frame[{column.name!r}].astype(str) or the like"
            )
    said = " ".join(str(error).split())
    return DataError(
        f"{name}: column {column.name!r} of type {column.dtype} cannot be read: {said:.200}. "
        "Fix: cast it to numbers, text, dates or lists"
    )


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
