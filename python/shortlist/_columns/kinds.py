"""What a file is, told by its first bytes, and by its name where these do not say it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from shortlist._columns.files import GZIP, UTF8_MARK, decode, read_bytes, wide_encoding
from shortlist.errors import DataError

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
JSON_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES)
SUFFIX_HELP = f"one of {', '.join(TABLE_SUFFIXES)} (text also .gz)"
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


def check_no_table_format(folder: Path) -> None:
    """Refuse a folder whose log says which files, and which of their rows, still count."""
    for mark, kind in (("_delta_log", "Delta"), (".hoodie", "Hudi"), ("metadata", "Iceberg")):
        if (folder / mark).is_dir():
            raise DataError(
                f"{folder} is a {kind} table, whose files also hold rows that were deleted or "
                "replaced, expected plain files. Fix: write the table out as Parquet"
            )


def kind_of(path: Path) -> str:
    """Tell the kind by the content, and by the name where it must.

    One of "text", "json", "parquet", "arrow" or "stream".
    """
    head = head_of(path, 8)
    kind = next((kind for magic, kind in _BINARY if head.startswith(magic)), None)
    if kind is not None:
        return kind
    suffix = suffix_of(path)
    if suffix in TEXT_SUFFIXES:
        return "text"
    if suffix in JSON_SUFFIXES:
        return "json"
    return "parquet" if suffix in PARQUET_SUFFIXES else "arrow"


def suffix_of(path: Path) -> str:
    """Return the ending that names the file's type, without .gz; DataError if there is none."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"{path.name}: unknown file type {suffix or '(no ending)'!r}, expected {SUFFIX_HELP}. "
            "Fix: rename the file, or name its format"
        )
    return suffix


def head_of(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, decompressed; DataError if it cannot be read."""
    try:
        with opened(path)() as file:
            return file.read(size)
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}. Fix: check the path") from error
    except (OSError, EOFError, zlib.error):
        return read_bytes(path)[:size]  # has the words for it


def opened(path_or_data: object) -> Callable[[], BinaryIO]:
    """Return what opens a file, gunzipped where it is gzip, or bytes in memory."""

    def open_it() -> BinaryIO:
        if isinstance(path_or_data, bytes):
            return io.BytesIO(path_or_data)
        path = str(path_or_data)
        with open(path, "rb") as file:
            is_gzip = file.read(2) == GZIP
        return gzip.open(path) if is_gzip else open(path, "rb")  # type: ignore[return-value]

    return open_it


def is_gzip(path: Path) -> bool:
    """Say whether a file is compressed, by its content."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


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
