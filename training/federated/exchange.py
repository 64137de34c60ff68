"""Where parties and the coordinator leave what the others read.

A name gets its content once. `FolderExchange` is a folder that all reach, or that is copied to and
fro by sftp or an object store.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from shortlist._temporary import locked, replacing
from shortlist.errors import DataError

_COMPARED = 1 << 20


class UnreachableError(DataError):
    """The exchange cannot be reached now; later it may."""


class Exchange(Protocol):
    """A place of named contents, each of which never changes."""

    def names(self) -> list[str]:
        """Return the names that have a content, sorted."""

    def open(self, name: str) -> BinaryIO:
        """Open a content for reading; DataError where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Give a name its content, all at once.

        The same content again changes nothing; another one is a DataError.
        """


class FolderExchange:
    """An exchange in a folder.

    Parameters
    ----------
    folder : Path
        It is there, unless ``is_new``.
    """

    def __init__(self, folder: Path, *, is_new: bool = False) -> None:
        if is_new:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise DataError(
                f"exchange: got {folder}, which is no folder, expected the one that `shortlist "
                "federate plan` wrote to. Fix: check the path"
            )
        self.folder = folder

    def names(self) -> list[str]:
        """See `Exchange.names`."""
        return sorted(p.name for p in self.folder.iterdir() if p.name[0] != "." and p.is_file())

    def open(self, name: str) -> BinaryIO:
        """See `Exchange.open`."""
        try:
            return (self.folder / name).open("rb")
        except FileNotFoundError as error:
            raise DataError(f"exchange: {self.folder} has no {name}, expected it there") from error

    def write(self, name: str, content: bytes) -> None:
        """See `Exchange.write`."""
        place = self.folder / name
        with locked(self.folder):
            if not place.exists():
                with replacing(place) as file:
                    file.write(content)
            elif not _is_same(place, content):
                raise DataError(
                    f"exchange: {place} holds another content already, expected each name to get "
                    "one content: nothing that was answered may change. Fix: the coordinator "
                    "repeats the round (`shortlist federate collect --repeat`)"
                )


def read_all(exchange: Exchange, name: str) -> bytes:
    """Read a whole content."""
    with exchange.open(name) as file:
        return file.read()


def _is_same(path: Path, content: bytes) -> bool:
    if path.stat().st_size != len(content):
        return False
    with path.open("rb") as file:
        for start in range(0, len(content), _COMPARED):
            if file.read(_COMPARED) != content[start : start + _COMPARED]:
                return False
    return True
