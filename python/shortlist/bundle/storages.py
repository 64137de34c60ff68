"""How an index may keep its vectors, and how much each part of one takes; docs/exact_top_n.md."""

import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from shortlist.bundle.fields import problem

Storage = Literal["float32", "float16", "bfloat16", "int8", "disk8", "disk4", "int4", "disk6"]
STORAGES: tuple[str, ...] = get_args(Storage)
# The codes of the scan are the vectors: answers are approximate, and their recall is measured.
APPROXIMATE = ("int8", "int4")
# Of a loaded file only codes are in memory; vectors are read from it one by one.
ON_DISK = ("disk8", "disk6", "disk4")

# The index file: a header, then up to 12 entries (tag, reserved, offset, size, checksum).
_MAGIC, _HEADER_BYTES, _MOST_SECTIONS = b"SHORTIDX", 64, 12
_SECTION = struct.Struct("<IIQQQ")
ROWS_TAG = 1
_ID_TAGS = (2, 3, 4)


@dataclass(frozen=True)
class IndexMemory:
    """Bytes of an index by part; see `Index.memory`.

    Attributes
    ----------
    codes, mapped_codes : int
        What a scan reads, in memory of this process or in a mapped file.
    rows, mapped_rows, rows_on_disk : int
        The vectors that scores are computed from, the same; or in a file from which they are read
        one by one, and count as no memory of the process.
    ids : int
        Item ids and the table that finds them, about.
    """

    codes: int
    rows: int
    mapped_codes: int
    mapped_rows: int
    rows_on_disk: int
    ids: int

    def to_dict(self) -> dict[str, int]:
        """Return the fields as a plain dict."""
        return asdict(self)


def index_sections(path: Path) -> dict[int, tuple[int, int]]:
    """Return offset and size of every section of an index file, by tag.

    Raises
    ------
    BundleError
        The file has no header of an index.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        n_sections = struct.unpack_from("<I", header, 12)[0] if len(header) == _HEADER_BYTES else 0
        entries = file.read(_SECTION.size * min(n_sections, _MOST_SECTIONS))
    if header[:8] != _MAGIC or len(entries) != _SECTION.size * n_sections:
        raise problem(path.name, "the header of an index", "other bytes")
    return {tag: (offset, size) for tag, _, offset, size, _ in _SECTION.iter_unpack(entries)}


def index_parts(path: Path) -> dict[str, int]:
    """Return the bytes of an index file's codes, vectors ("rows") and ids.

    Raises
    ------
    BundleError
        As `index_sections`.
    """
    parts = {"codes": 0, "rows": 0, "ids": 0}
    for tag, (_, size) in index_sections(path).items():
        parts["rows" if tag == ROWS_TAG else "ids" if tag in _ID_TAGS else "codes"] += size
    return parts
