"""What commands print: never fails on a terminal's encoding, and never speaks to the terminal.

What an encoding lacks is escaped as JSON and TOML escape it, and so is what would move the cursor
or change colours: names and texts of a bundle are another's.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from shortlist._checks import escape, printable

_HANDLER = "shortlist-escape"


def show(text: object, *, file: TextIO | None = None) -> None:
    """Print text as lines, in which control characters are escaped; on stdout by default."""
    lines = str(text).removesuffix("\n").split("\n")
    print("\n".join(map(printable, lines)), file=file)


def print_json(value: Any) -> None:
    """Print one JSON document; NaN and infinity are refused, as JSON has neither."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # JSON has escapes of its own
        text = json.dumps(value, indent=2, allow_nan=False)
    # Beside line ends, only texts still hold such characters.
    print("".join(c if c == "\n" or c.isprintable() else _in_json(c) for c in text))


def _in_json(character: str) -> str:
    return escape(character) if ord(character) < 0x10000 else json.dumps(character)[1:-1]


def _escape_the_rest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(escape, error.object[error.start : error.end])), error.end


@contextlib.contextmanager
def escaping() -> Iterator[None]:
    """Let stdout and stderr escape what their encoding lacks, until the end of the block."""
    codecs.register_error(_HANDLER, _escape_the_rest)
    streams = {s: s.errors for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)}
    for stream in streams:
        stream.reconfigure(errors=_HANDLER)
    try:
        yield
    finally:
        for stream, errors in streams.items():
            with contextlib.suppress(OSError, ValueError):  # closed by whoever reads them
                stream.reconfigure(errors=errors or "strict")
