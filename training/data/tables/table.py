"""A table and how it is read: whole (`read_table`) or while it is worked on (`scan_table`)."""

from __future__ import annotations

import difflib
import logging
import shlex
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from shortlist._columns.kinds import opened, read_lines
from shortlist._columns.lines import Lines
from shortlist.errors import DataError
from shortlist.training.data.tables.frames import frame_of
from shortlist.training.data.tables.json_lines import check_not_mixed
from shortlist.training.data.tables.names import nearest_column
from shortlist.training.data.tables.part import Part, Places, explained
from shortlist.training.data.tables.parts import open_parts
from shortlist.training.data.tables.text import unique, without_blank_lines

# A path, or a polars / pandas / pyarrow frame (the two latter are optional imports).
TableSource: TypeAlias = Any
# The columns of each table that hold text or numbers.
_OWN = {
    "events": ("user_id", "item_id", "timestamp", "kind", "value"),
    "items": ("item_id",),
    "users": ("user_id",),
}
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

    def only(self, names: Collection[str]) -> LazyTable:
        """Leave out all other columns; what cannot be read in them does not matter."""
        return replace(self, frame=self.frame.select(n for n in self.columns if n in names))

    def read(self, what: str) -> Table:
        """Read the table whole; DataError if that cannot be done, or it has no rows."""
        try:
            frame = self.frame.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self.explain(error) from error
        if frame.width == 0 or frame.height == 0:
            raise DataError(
                f"{self.source}: the {what} table has {frame.height} rows and "
                f"{frame.width} columns, expected at least one row under a header. "
                f"Fix: give a table that has {what}"
            )
        return Table(frame, self.source, self.is_text, places=self.places)


def read_table(
    source: TableSource,
    *,
    columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    what: str = "events",
) -> Table:
    """Read a table from a path or a frame.

    Parameters
    ----------
    source : path, polars.DataFrame, polars.LazyFrame, pandas.DataFrame or pyarrow.Table
        Files: CSV/TSV (with a header line), JSON lines, Parquet, Arrow/Feather, each optionally
        gzipped; or a folder of such files of one kind, as Spark writes them.
    columns : mapping of str to str, optional
        Our column name → the name in the source. Nothing is guessed without it.
    ignore : collection of str, optional
        Columns of the source that are not read.
    what : str
        What the table holds, for messages ("events", "items", "users").

    Returns
    -------
    Table
        With columns renamed to ours, rows in source order. A column of records (a struct) is one
        column for each field, called ``"column.field"``.

    Raises
    ------
    DataError
        The file is missing, empty, damaged, of an unknown type or encoding, has two columns of one
        name, or a mapped column is absent.
    """
    return scan_table(source, columns=columns, ignore=ignore, what=what).read(what)


def scan_table(
    source: TableSource,
    *,
    columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    what: str = "events",
) -> LazyTable:
    """Open a table without reading it, for tables larger than memory; arguments as `read_table`.

    What is wrong with single rows is found while they are read; see `LazyTable.explain`.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        name, parts = path.name, open_parts(path)
    else:
        frame, name = frame_of(source, what, ignore)
        parts = (Part(name, frame.lazy()),)
    try:
        flat = [_flat(part, ignore) for part in parts]
        frames = [frame for frame, _ in flat]
        schemas = [frame.collect_schema() for frame in frames]
        own = [(columns or {}).get(name, name) for name in _OWN[what]]
        for part, frame in zip(parts, frames, strict=True):
            check_not_mixed(part, frame, own)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise explained(name, parts, error) from error
    for part, schema in zip(parts, schemas, strict=True):
        if schema != schemas[0] and not part.may_lack_columns:
            raise DataError(
                f"{name}: {part.name} has the columns {dict(schema)}, {parts[0].name} has "
                f"{dict(schemas[0])}, expected the same in all files. Fix: write them anew, alike"
            )
    how: Any = "diagonal_relaxed" if parts[0].may_lack_columns else "vertical"
    frame = frames[0] if len(frames) == 1 else pl.concat(frames, how=how)
    _say_ignored(name, ignore, set().union(*(left_out for _, left_out in flat)))
    has = list(dict.fromkeys(column for schema in schemas for column in schema.names()))
    renamed = _renaming(has, name, columns or {})
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in renamed.items())
    return LazyTable(frame, name, parts[0].is_text, Places(parts))


def _flat(part: Part, ignore: Collection[str]) -> tuple[pl.LazyFrame, set[str]]:
    """Make one column of each field of a record, and leave columns out; also say which."""
    found: list[tuple[str, pl.Expr]] = []
    left_out = set()

    def add(name: str, dtype: pl.DataType, column: pl.Expr) -> None:
        if name in ignore:
            left_out.add(name)
            return
        if isinstance(dtype, pl.Struct) and dtype.fields:
            for field in dtype.fields:
                inner = column.struct.field(field.name)
                add(f"{name}.{field.name}", field.dtype, inner)  # type: ignore[arg-type]
        else:
            found.append((name, column))

    schema = part.frame.collect_schema()
    for name, dtype in schema.items():
        add(name, dtype, pl.col(name))
    names = unique([name for name, _ in found], part.name)
    if names == schema.names():
        return part.frame, left_out
    flat = part.frame.select(column.alias(name) for name, column in found)
    return flat, left_out


def _say_ignored(source: str, ignore: Collection[str], left_out: set[str]) -> None:
    """Say which columns are not read, and which of these there are not."""
    if left_out:
        log.info("%s: columns left out by ignore: %s", source, ", ".join(sorted(left_out)))
    if absent := sorted(set(ignore) - left_out):
        warnings.warn(
            f"{source}: ignore names {', '.join(map(repr, absent))}, which the table has not",
            stacklevel=2,
        )


def require_columns(table: Table | LazyTable, names: tuple[str, ...], what: str) -> None:
    """Raise a DataError that names all of ``names`` that are missing, and the nearest there are.

    ``what`` is "events", "items" or "users".
    """
    missing = [name for name in names if name not in table.columns]
    if not missing:
        return
    free = [name for name in table.columns if name not in names]
    nearest = {}
    for name in missing:
        nearest[name] = nearest_column(name, free) or "NAME_IN_TABLE"
        free = [other for other in free if other != nearest[name]]
    side = {"items": "item-", "users": "user-"}.get(what, "")
    flags = " ".join(
        f"--{side}column {shlex.quote(f'{name}={theirs}')}" for name, theirs in nearest.items()
    )
    raise DataError(
        f"{table.source}: {what} have no column{'s' * (len(missing) > 1)} "
        f"{', '.join(map(repr, missing))}: got columns {table.columns}, expected {list(names)}. "
        f"Fix: rename, or say the names in the table, {flags} (in Python: columns={nearest})"
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
    absent = {ours: theirs for ours, theirs in columns.items() if theirs not in has}
    if absent:
        near = difflib.get_close_matches(next(iter(absent.values())), has, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        said = ", ".join(f"columns[{ours!r}] names {theirs!r}" for ours, theirs in absent.items())
        raise DataError(f"{source}: {said}, got columns {has}. Fix: name one of these{hint}")
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    return {ours_of.get(name, name): name for name in has if name in ours_of or name not in columns}
