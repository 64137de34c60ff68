"""Take the fields of a JSON object out one by one; what is missing or wrong is a BundleError."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from shortlist.errors import BundleError

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MISSING = object()
LARGEST = (1 << 63) - 1
MOST_PLACES = 1 << 20  # of a history, or of candidates: what a call has to hold for a request
T = TypeVar("T")


def is_plain_name(name: str) -> bool:
    """Say whether `name` is a bare file name: no folder, no leading dot, ASCII, short."""
    return _PLAIN_NAME.fullmatch(name) is not None


def problem(file: str, expected: str, found: object) -> BundleError:
    """Build the one form of message every bundle problem has: file, expected, found."""
    return BundleError(f"{file}: expected {expected}, found {found}")


class Fields:
    """The fields of one object, in the file that messages call `where`."""

    def __init__(self, record: Mapping[str, Any], where: str) -> None:
        self.record = record
        self._where = where

    def problem(self, expected: str, found: object) -> BundleError:
        """Build the message that something in the file is not as expected."""
        return problem(self._where, expected, found)

    def of(self, record: object, expected: str) -> Fields:
        """Return the fields of an entry of the file, which must be an object."""
        if not isinstance(record, dict):
            raise self.problem(expected, f"{record!r:.80}")
        return Fields(record, self._where)

    def take(self, key: str, kind: type[T] | tuple[type[T], ...], expected: str) -> T:
        """Return a field of a type; `expected` says in words what it is."""
        value = self.record.get(key, _MISSING)
        if value is _MISSING:
            raise self.problem(f"field {key!r} ({expected})", "no such field")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.problem(f"field {key!r} to be {expected}", f"{value!r:.80}")
        return value

    def number(self, key: str, least: int, most: int = LARGEST, of: str = "") -> int:
        """Return a whole number from `least` to `most`; messages may say what it is one `of`."""
        value = self.take(key, int, "a whole number")
        name = key + of
        if value < least:
            raise self.problem(f"{name} >= {least}", f"{value!r:.40}")
        if value > most:
            expected = f"{name} below 2^63" if most == LARGEST else f"{name} <= {most}"
            raise self.problem(expected, f"{value!r:.40}")
        return value

    def real(self, key: str, default: float, least: float = -math.inf, of: str = "") -> float:
        """Return a finite number not below `least`, or `default` where there is none."""
        if key not in self.record:
            return default
        value = self.take(key, (int, float), "a number")
        try:
            number = float(value)
        except OverflowError:  # an integer with hundreds of digits
            number = math.inf
        if not math.isfinite(number):
            raise self.problem(f"{key}{of} to be a finite number", f"{value!r:.40}")
        if number < least:
            raise self.problem(f"{key}{of} >= {least:g}", f"{value!r:.40}")
        return number

    def choice(self, key: str, expected: str, values: Sequence[str], named: str = "") -> str:
        """Return a text that is one of `values`; messages may name these otherwise."""
        value = self.take(key, str, expected)
        if value not in values:
            named = named or f"one of {', '.join(values)}"
            raise self.problem(f"{key} to be {named}", repr(value))
        return value

    def section(self, key: str, read: Callable[[Fields], T]) -> T | None:
        """Read an object that need not be there."""
        if key not in self.record:
            return None
        return read(Fields(self.take(key, dict, "an object"), self._where))
