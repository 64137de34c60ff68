"""One file of a table, the places of its rows, and what is wrong with it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import polars as pl

from shortlist._columns.files import decode
from shortlist._columns.lines import Lines
from shortlist.errors import DataError


@dataclass(frozen=True)
class Part:
    """One file of a table: its rows as they are in the file, and what names their lines."""

    name: str
    frame: pl.LazyFrame
    lines: Lines | None = None
    expected: str = "a table"
    may_lack_columns: bool = False  # whether other parts may have other columns
    is_text: bool = False  # whether all values are text, and their types are ours to find


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


def explained(source: str, parts: tuple[Part, ...], error: Exception) -> DataError:
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
