"""What a deletion leaves in the pages of SQLite's tables, though `secure_delete` is on.

SQLite overwrites a deleted cell with zeros. But where it moves cells between pages (an index takes
a row in its middle, a page becomes almost empty), the old place of a cell that moved keeps its
bytes as free space. They are a copy of a row, and stay when the row is deleted.

A log's table only grows at its end, where nothing moves. So its pages have no such copies, until a
deletion empties pages so far that SQLite joins them: then their new images are in the file's log
(`-wal`). `moved_rows` looks for them there, which costs no more than reading what was changed.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_TABLE_LEAF = 13
_LONGEST_HEADER = 4  # bytes of a free block inside a larger one that may be left: no row's


def moved_rows(wal: Path) -> bool:
    """Say whether a page of a table in a file's log has bytes of rows in its free space."""
    return any(_has_remnants(page, start) for page, start in _table_leaves(wal))


def _table_leaves(wal: Path) -> Iterator[tuple[bytes, int]]:
    """Yield pages, and where in them the page's header is."""
    with wal.open("rb") as file:
        head = file.read(32)
        if len(head) < 32:
            return
        (size,), salts = struct.unpack(">I", head[8:12]), head[16:24]
        while len(frame := file.read(24 + size)) == 24 + size:
            if frame[8:16] == salts:  # else of an earlier round
                page = frame[24:]
                start = 100 if frame[:4] == b"\0\0\0\1" else 0
                if page[start] == _TABLE_LEAF:
                    yield page, start


def _has_remnants(page: bytes, start: int) -> bool:
    block, n_cells, content = struct.unpack(">HHH", page[start + 1 : start + 7])
    first = start + 8 + 2 * n_cells
    content = content or 65_536
    # Places of cells that are gone may follow those of the cells that are there.
    while first + 2 <= content and start + 8 < int.from_bytes(page[first : first + 2]) < len(page):
        first += 2
    if _has_row(page[first:content]):
        return True
    while block:
        following, size = struct.unpack(">HH", page[block : block + 4])
        if _has_row(page[block + 4 : block + size]):
            return True
        block = following if following > block else 0
    return False


def _has_row(free: bytes) -> bool:
    """Say whether there are more bytes in a row than a free block's header has."""
    return any(len(run) > _LONGEST_HEADER for run in free.split(b"\0") if run) or any(
        len(run.strip(b"\0")) > 2 * _LONGEST_HEADER for run in free.split(b"\0\0\0\0")
    )
