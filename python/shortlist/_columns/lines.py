"""Where the rows of a text file stand: the line on which each begins.

Rows are counted as polars counts them: a quoted value may hold line ends, and lines that hold
nothing are no rows.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import BinaryIO

import numpy as np

from shortlist._columns.ragged import Array

_BLOCK = 1 << 24
_CUT_BLOCK = 1 << 22
_NEWLINE, _QUOTE = 10, 34


@dataclass(frozen=True)
class Lines:
    """Finds the lines of rows of one text file.

    Attributes
    ----------
    open : callable
        Opens the file's bytes, decompressed and in UTF-8.
    separator : str
    has_quotes : bool
        Whether a value may stand in quotation marks.
    n_header : int
        Rows before the first row of data: 1 with a header, 0 without.
    """

    open: Callable[[], BinaryIO]
    separator: str
    has_quotes: bool
    n_header: int = 1

    def of(self, rows: list[int]) -> list[int]:
        """Return the 1-based lines on which the 0-based rows begin."""
        if not rows:
            return []
        wanted = np.unique(np.array(rows, np.int64) + self.n_header)
        found: dict[int, int] = {}
        n_rows = 0
        for count, lines in self._blocks():
            here = wanted[(wanted >= n_rows) & (wanted < n_rows + count)]
            found.update(zip(here.tolist(), lines(here - n_rows).tolist(), strict=True))
            n_rows += count
            if len(here) and here[-1] == wanted[-1]:
                break
        return [found.get(row + self.n_header, row + self.n_header + 1) for row in rows]

    def cuts(self, n_rows: int, n_bytes: int) -> list[tuple[int, int, int]]:
        """Cut the rows after the header into runs, none of which ends inside a quoted value.

        Parameters
        ----------
        n_rows, n_bytes : int
            A run ends where it has so many rows, lines of nothing included, or bytes.

        Returns
        -------
        list of (first byte, byte after the last, rows)
        """
        runs: list[tuple[int, int, int]] = []
        start, count, offset, n_headers = 0, 0, 0, self.n_header
        is_inside, is_ended = False, True
        with self.open() as file:
            while block := file.read(_CUT_BLOCK):
                ends, is_inside = self._row_ends(block, is_inside)
                ends += offset + 1
                offset, is_ended = offset + len(block), block.endswith(b"\n")
                for at in range(min(n_headers, len(ends))):
                    start, n_headers = int(ends[at]), n_headers - 1
                ends = ends[ends > start]
                while len(ends):
                    full = int(np.searchsorted(ends, start + n_bytes))
                    last = min(n_rows - count - 1, full)
                    if last >= len(ends):
                        count += len(ends)
                        break
                    runs.append((start, int(ends[last]), count + last + 1))
                    start, count, ends = int(ends[last]), 0, ends[last + 1 :]
        if offset > start and not n_headers:  # what is left may end without a line end
            runs.append((start, offset, count + (not is_ended)))
        return runs

    def _row_ends(self, block: bytes, is_inside: bool) -> tuple[Array, bool]:
        """Return where rows end in a block, and whether it ends inside a quoted value."""
        buffer = np.frombuffer(block, np.uint8)
        newlines = np.flatnonzero(buffer == _NEWLINE)
        if not self.has_quotes or not (is_inside or b'"' in block):
            return newlines, False
        quotes = np.cumsum(buffer == _QUOTE, dtype=np.int64) + is_inside
        return newlines[quotes[newlines] % 2 == 0], bool(quotes[-1] % 2)

    @cached_property
    def may_have_blank(self) -> bool:
        """Say quickly whether some lines may hold nothing; True is a guess, False is certain."""
        last = b"\n"
        with self.open() as file:
            while block := file.read(_BLOCK):
                if self._begins_blank(last + block):
                    return True
                last = block[-1:]
        return False

    def _begins_blank(self, data: bytes) -> bool:
        """Say whether a line after a line end begins with what a line of nothing begins with."""
        buffer = np.frombuffer(data, np.uint8)
        is_odd = np.zeros(256, np.bool_)
        is_odd[np.frombuffer(b"\n\r \t" + self.separator.encode(), np.uint8)] = True
        return bool(is_odd[buffer[np.flatnonzero(buffer[:-1] == _NEWLINE) + 1]].any())

    def marked(self) -> tuple[int, str] | None:
        """Find the first value that begins and ends with a quotation mark: its line and itself."""
        sep = re.escape(self.separator.encode())
        value = re.compile(rb'(?:\A|[\n%b])("[^\r\n%b]*")(?=[\r\n%b]|\Z)' % (sep, sep, sep))
        line, rest = 1, b""
        with self.open() as file:
            while block := file.read(_BLOCK):
                data = rest + block
                end = data.rfind(b"\n") + 1 or len(data)  # a block may cut the last line
                if b'"' in data and (match := value.search(data, 0, end)) is not None:
                    got = match[1].decode("utf-8", "replace")
                    return line + data.count(b"\n", 0, match.start(1)), got
                line += data.count(b"\n", 0, end)
                rest = data[end:]
        match = value.search(rest)
        return None if match is None else (line, match[1].decode("utf-8", "replace"))

    def _blocks(self) -> Iterator[tuple[int, Callable[[Array], Array]]]:
        """Give the number of rows of each block of the file, and what names their lines."""
        rest, line = b"", 1
        with self.open() as file:
            while True:
                block = file.read(_BLOCK)
                data = rest + block
                is_plain = not (self.has_quotes and b'"' in data)
                if block:
                    cut = data.rfind(b"\n") + 1 if is_plain else _last_end(data)
                    data, rest = data[:cut], data[cut:]
                else:
                    rest = b""
                if data:
                    may_be_blank = self.may_have_blank and self._begins_blank(b"\n" + data)
                    if is_plain and not may_be_blank:
                        count = data.count(b"\n") + (not data.endswith(b"\n"))
                        yield count, partial(np.add, line)
                    else:
                        starts = self._starts(data, line)
                        yield len(starts), starts.take
                    line += data.count(b"\n")
                if not block:
                    return

    def _starts(self, data: bytes, line: int) -> Array:
        """Return the lines of the rows in whole rows of bytes that begin on ``line``."""
        buffer = np.frombuffer(data, np.uint8)
        newlines = np.flatnonzero(buffer == _NEWLINE)
        ends = newlines
        if self.has_quotes:
            quotes = np.cumsum(buffer == _QUOTE, dtype=np.int64)
            ends = newlines[quotes[newlines] % 2 == 0]
        starts = np.concatenate([[0], ends + 1])
        starts = starts[starts < len(data)]
        lines = line + np.searchsorted(newlines, starts)
        odd = np.isin(buffer[starts], np.frombuffer(b"\n\r \t" + self.separator.encode(), np.uint8))
        is_blank = re.compile(rb"[ \t]*" + re.escape(self.separator.encode()) + rb"*\r?(?:\n|\Z)")
        blank = [i for i in np.flatnonzero(odd).tolist() if is_blank.match(data, int(starts[i]))]
        kept = np.ones(len(starts), np.bool_)
        kept[blank] = False
        found: Array = lines[kept]
        return found

    def wrong(self) -> tuple[int, str, str] | None:
        """Find the first row that breaks the layout: its line, what it has, and the fix."""
        with self.open() as file:
            text = file.read().decode("utf-8", "replace")
        if self.has_quotes and (found := self._wrong_quotes(text)) is not None:
            return found
        lines = io.StringIO(text, newline="")
        rows = (
            csv.reader(lines, delimiter=self.separator)
            if self.has_quotes
            else csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE)
        )
        width, begin = 0, 1
        for row in rows:
            width = width or len(row)
            if len(row) > width:
                said = f"got {len(row)} fields, expected {width} as in the header"
                fix = (
                    f"quote values that contain {self.separator!r}"
                    if self.has_quotes
                    else "take tabs out of values"
                )
                return begin, said, fix
            begin = rows.line_num + 1
        return None

    def _wrong_quotes(self, text: str) -> tuple[int, str, str] | None:
        """Find a quotation mark that does not enclose a whole value."""
        sep = re.escape(self.separator)
        # One row after another: values without marks, or wholly within them.
        value = rf'(?:[^"{sep}\r\n]*|"(?:[^"]|"")*+")'
        row = re.compile(rf"{value}(?:{sep}{value})*(?:\r?\n|\r|\Z)")
        place = 0
        while place < len(text):
            match = row.match(text, place)
            if match is None:
                line = text.count("\n", 0, place) + 1
                shown = text[place : place + 60].split("\n", 1)[0]
                said = f"got {shown!r}, expected quotation marks around whole values only"
                fix = (
                    'double a mark inside a value and put the value in marks ("12"" vinyl"), or '
                    "save the table with tabs as .tsv, where marks are plain text"
                )
                return line, said, fix
            if match.end() == place:
                break
            place = match.end()
        return None


def _last_end(data: bytes) -> int:
    """Return the end of the last whole row of bytes in which values may be quoted."""
    buffer = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(buffer == _NEWLINE)
    quotes = np.cumsum(buffer == _QUOTE, dtype=np.int64)
    ends = newlines[quotes[newlines] % 2 == 0]
    return int(ends[-1]) + 1 if len(ends) else 0
