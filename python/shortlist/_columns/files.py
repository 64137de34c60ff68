"""Text and bytes of a file as they were meant: gzip undone, byte-order marks taken away.

Every file of text that people write goes through here: tables, requests, settings.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from shortlist.errors import DataError

GZIP = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"
# Notepad and Excel ("Unicode text") write UTF-16 with a mark; the mark of UTF-32 begins alike.
_WIDE_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def wide_encoding(data: bytes) -> str | None:
    """Name the encoding that a mark at the beginning says, other than UTF-8; None without one."""
    return next((name for mark, name in _WIDE_MARKS if data.startswith(mark)), None)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is gzip; DataError if it cannot be read."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP) else data
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}. Fix: check the path") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a gzip file that is cut off or damaged ({error}). Fix: copy it again; "
            "`gzip -t FILE` says whether it is whole"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}. Fix: give a readable file"
        ) from error


def decode(data: bytes, name: str) -> str:
    """Return bytes as text, without its byte-order mark; DataError names the line that is wrong."""
    wide = wide_encoding(data)
    try:
        return data.decode(wide) if wide else data.removeprefix(UTF8_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        if wide:
            raise DataError(
                f"{name} begins as {wide} and is damaged at byte {error.start}. "
                "Fix: save it as UTF-8"
            ) from error
        data = data.removeprefix(UTF8_MARK)
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, expected text in "
            "UTF-8. Fix: convert it, e.g. iconv -f latin1 -t utf-8"
        ) from error


def read_text(path: str | Path) -> str:
    """Return the text of a file; see `read_bytes` and `decode` for what is undone and refused."""
    return decode(read_bytes(Path(path)), str(path))
