"""Text files with a header line, opened by polars: their separator, names, quoting, blank lines."""

from __future__ import annotations

import csv
import io
import re
import warnings
from pathlib import Path

import polars as pl

from shortlist._columns.files import UTF8_MARK, decode, read_bytes, wide_encoding
from shortlist._columns.kinds import (
    TEXT_SUFFIXES,
    check_is_text,
    head_of,
    is_gzip,
    opened,
    suffix_of,
)
from shortlist._columns.lines import Lines
from shortlist.errors import DataError
from shortlist.training.data.tables.part import Part

_HEAD = 1 << 16
_NOT_ASCII = bytes(range(128, 256))


def open_text(path: Path) -> Part:
    """Open a text file with a header line."""
    by_name = TEXT_SUFFIXES[suffix_of(path)]
    head = whole_head(path)
    name = "CSV" if by_name == "," else "TSV"
    check_is_text(head, path, f"{name} text with a header line")
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
    is_tsv = separator == by_name == "\t"
    header, has_quotes = _header_of(text[len(skipped) :], separator, may_quote=not is_tsv)
    names = unique(header, path.name)
    lines = Lines(opened(source), separator, has_quotes)
    if not has_quotes and (found := lines.marked()) is not None:
        warnings.warn(
            f"{path.name}, line {found[0]}: got {found[1]!r:.60}: in a .tsv quotation marks are "
            "characters of the value. If they only enclose it, save the file as .csv; tabs may "
            "stay",
            stacklevel=2,
        )
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
    if is_gzip(path) or lines.may_have_blank:  # leaving them out reads all columns
        frame = without_blank_lines(frame, names)
    return Part(path.name, frame, lines, expected, is_text=True)


def whole_head(path: Path) -> bytes:
    """Return the beginning of a file, cut between two characters."""
    head = head_of(path, _HEAD)
    if len(head) < _HEAD:
        return head
    return head[: _HEAD // 4 * 4] if wide_encoding(head) else head.rstrip(_NOT_ASCII)


def _header_of(text: str, separator: str, *, may_quote: bool) -> tuple[list[str], bool]:
    """Return the names in the first row, and whether values may stand in quotation marks.

    Files of tabs by name have no quoting, unless all names stand in marks, as R writes them.
    """
    cells = text.split("\n", 1)[0].rstrip("\r").split(separator)
    is_quoted = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    if not may_quote and not is_quoted:
        return [cell.strip() for cell in cells], False
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [cell.strip() for cell in next(rows, [])], True


def unique(names: list[str], source: str) -> list[str]:
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


def without_blank_lines(frame: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    """Leave out lines that hold nothing, or nothing but blanks or separators."""
    first, *others = (pl.col(name) for name in names)
    is_blank = first.is_null() | (first.str.strip_chars(" \t\r") == "")
    if others:
        is_blank &= pl.all_horizontal(column.is_null() for column in others)
    return frame.filter(~is_blank)
