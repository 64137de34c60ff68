"""A table and how it is read: whole (`read_table`) or while it is worked on (`scan_table`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.tables.frames import frame_of
from shortlist.training.data.tables.kinds import read_lines
from shortlist.training.data.tables.lines import Lines, opened
from shortlist.training.data.tables.part import Part, Places, explained
from shortlist.training.data.tables.parts import open_parts
from shortlist.training.data.tables.text import without_blank_lines

# A path, or a polars / pandas / pyarrow frame (the two latter are optional imports).
TableSource: TypeAlias = Any
# What the commands print about reading.
log = logging.getLogger("shortlist.reading")


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
        return explained(self.source, self.places.parts, error)


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
        name, parts = path.name, open_parts(path)
    else:
        frame, name = frame_of(source, what)
        parts = (Part(name, frame.lazy()),)
    try:
        schemas = [part.frame.collect_schema() for part in parts]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise explained(name, parts, error) from error
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
        rows = without_blank_lines(frame, found).collect()
    except pl.exceptions.PolarsError as error:
        raise explained(path.name, (part,), error) from error
    if names is not None:
        if rows.width != len(names):
            raise DataError(
                f"{path.name}: got {rows.width} fields a line, expected {len(names)}: "
                f"{list(names)}. Fix: give the file as it was shipped"
            )
        rows.columns = list(names)
    return Table(rows, path.name, is_text=True, places=Places((part,)))


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
