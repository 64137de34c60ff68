"""Names of what is temporary: made here, held while their maker lives, removed when it is gone.

A temporary file or folder lies beside the name it is made for: ``.NAME.RANDOM.shortlist-tmp``. Its
maker holds a lock on it, which ends with the process, however that ends. Whoever makes another one
in the same folder first removes those that nobody holds, and so does `sweep`. On a file system
without locks only what has not changed for a day is taken for left behind.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_NAME = re.compile(r"\.(.+)\.[0-9a-f]{12}\.shortlist-tmp", re.DOTALL)
_MAX_BYTES = 200  # of NAME: file systems take 255 in all
_OLD_SECONDS = 86_400
_ASIDE = "aside"  # in such a folder: what had its place and is to have it again
_GOAL = "goal"  # beside it: a link to where it goes


class Held:
    """A temporary file or folder of this process.

    Attributes
    ----------
    path : Path
    descriptor : int
        Of a file, open for writing; of a folder for its lock alone.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self._owner = os.getpid()

    def remove(self) -> None:
        """Delete what is there, and let go of it; a forked child only lets go."""
        if self.descriptor < 0:
            return
        if self._owner == os.getpid():
            with contextlib.suppress(OSError):
                delete(self.path)
        os.close(self.descriptor)
        self.descriptor = -1


def new_folder(place: Path) -> Held:
    """Make a folder, for this user alone, beside the name that it is made for."""
    return _make(place, is_folder=True)


@contextlib.contextmanager
def folder_for(place: Path) -> Iterator[Path]:
    """Make a folder beside a name for the time of a with block."""
    held = new_folder(place)
    try:
        yield held.path
    finally:
        held.remove()


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes a place at the end of a with block: a reader sees all of it or none.

    It is on disk then. After an error the place is as it was.
    """
    held = _make(place, is_folder=False)
    try:
        with open(held.descriptor, "wb", closefd=False) as file:
            yield file
            file.flush()
            os.fsync(held.descriptor)
        held.path.replace(place)
        flush(place.absolute().parent)
    finally:
        held.remove()


def discard(path: Path) -> None:
    """Delete a file, folder or link in such a way that no half of it is left under its name."""
    gone = _free_name(path)
    with contextlib.suppress(FileNotFoundError):  # another one's sweep was faster
        path.rename(gone)
        delete(gone)


def put_aside(path: Path, goal: Path) -> tuple[Held, Path]:
    """Free a place for a moment, before what is there goes to another one.

    Where the process dies, the next sweep puts it back, or to its goal if the place is taken.

    Returns
    -------
    held : Held
        To be removed in the end.
    aside : Path
        Where it lies now.
    """
    held = new_folder(path)
    try:
        if not _NAME.fullmatch(goal.name):  # else it goes away with its new name
            (held.path / _GOAL).symlink_to(goal.absolute())
        path.rename(held.path / _ASIDE)
    except BaseException:
        held.remove()
        raise
    return held, held.path / _ASIDE


def sweep(folder: Path) -> None:
    """Remove from a folder what processes that are gone left there; never what is in use."""
    try:
        names = [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):  # another one was faster, or it is not ours
            _remove_if_left(folder / name)


def delete(path: Path) -> None:
    """Delete a file, a folder, or a link, whose target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file or the names in a folder are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool | None:
    """Take the lock of an open file or folder, or say that another has it: False.

    None: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one in a folder who is, for the time of a with block; wait for that.

    Where the file system has no locks, nobody waits.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_still(descriptor: int, path: Path) -> bool:
    """Say whether a name still leads to what was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _free_name(place: Path) -> Path:
    name = os.fsdecode(os.fsencode(place.name)[:_MAX_BYTES])
    return place.with_name(f".{name}.{secrets.token_hex(6)}.shortlist-tmp")


def _make(place: Path, *, is_folder: bool) -> Held:
    sweep(place.parent)
    while True:  # again where another's sweep came between the making and the lock
        path = _free_name(place)
        if is_folder:
            path.mkdir(mode=0o700)
            flags = os.O_RDONLY | os.O_DIRECTORY
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if is_folder and place.parent.is_dir():
                continue
            raise
        if lock(descriptor) is not False and is_still(descriptor, path):
            return Held(path, descriptor)
        os.close(descriptor)


def _remove_if_left(path: Path) -> None:
    found = os.lstat(path)
    if found.st_uid != os.geteuid():
        return
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        path.unlink()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        is_left = lock(descriptor)
        if is_left is None:
            is_left = time.time() - _newest(path) > _OLD_SECONDS
        if is_left and is_still(descriptor, path) and _put_back(path):
            delete(path)
    finally:
        os.close(descriptor)


def _put_back(path: Path) -> bool:
    """Say whether the rest may go: what was put aside for a goal may be the only copy there is."""
    name = _NAME.fullmatch(path.name)
    if name is None or not os.path.lexists(path / _ASIDE):
        return True
    goals = [Path(os.readlink(path / _GOAL))] if (path / _GOAL).is_symlink() else []
    for place in (path.with_name(name[1]), *goals):
        if not os.path.lexists(place) and place.parent.is_dir():
            (path / _ASIDE).rename(place)
            return True
    return not goals


def _newest(path: Path) -> float:
    entries = path.rglob("*") if path.is_dir() else ()
    return max([os.lstat(path).st_mtime, *(os.lstat(entry).st_mtime for entry in entries)])
