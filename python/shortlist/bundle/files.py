"""Open and check the files of a bundle folder: plain files only, never through a link."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from io import BufferedReader
from pathlib import Path

from shortlist.bundle.fields import problem
from shortlist.bundle.manifest import FORMAT, MANIFEST, MAX_MANIFEST_BYTES, Manifest
from shortlist.bundle.records import FileRecord
from shortlist.errors import BundleError


def open_plain(path: Path, where: str) -> int:
    """Open a regular file without following a link and without waiting on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise problem(where, "a file", "no such file") from error
    except OSError as error:
        kind = "a symbolic link" if path.is_symlink() else f"{error}"
        raise problem(where, "a plain file", kind) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise problem(where, "a plain file", "a folder or special file")
    return descriptor


def hold_folder(folder: Path) -> tuple[Path, Callable[[], None]]:
    """Open a folder, and return a path to it that a later rename does not change.

    Returns
    -------
    path : Path
        The folder's own path where the system has no /proc.
    let_go : callable
        Ends it.

    Raises
    ------
    BundleError
        The folder cannot be opened.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise problem(str(folder), "a folder that can be read", f"{error}") from error
    held = Path(f"/proc/self/fd/{descriptor}")
    path = held if held.exists() else folder
    return path, partial(os.close, descriptor)


def copy_folder(source: Path, target: Path, name: str) -> None:
    """Copy the files that a folder's manifest lists, and the manifest.

    Raises
    ------
    BundleError
        As `check_folder`, for what is no plain file; or the copy could not be written.
    """
    held, let_go = hold_folder(source)
    try:
        _copy_files(held, target, name)
    finally:
        let_go()


def _copy_files(source: Path, target: Path, name: str) -> None:
    for file in (*read_manifest(source, name).files, MANIFEST):
        with os.fdopen(open_plain(source / file, f"{name}/{file}"), "rb") as opened:
            try:
                with (target / file).open("xb") as copy:
                    shutil.copyfileobj(opened, copy, 1 << 20)
            except OSError as error:
                raise BundleError(
                    f"{name}/{file}: a private copy was wanted (mmap=False), and it cannot be "
                    f"written to {target.parent}: {error}; expected a writable folder with enough "
                    "room; TMPDIR names another one"
                ) from error


def read_manifest(directory: Path, name: str | None = None) -> Manifest:
    """Read and check `directory`/manifest.json; messages name the folder `name`."""
    where = f"{name or directory.name}/{MANIFEST}"
    with os.fdopen(open_plain(directory / MANIFEST, where), "rb") as file:
        return Manifest.parse(file.read(MAX_MANIFEST_BYTES + 1), where)


def _open_file(path: Path, where: str, record: FileRecord) -> BufferedReader:
    """Open one file of a bundle; it must have the size that its manifest entry says."""
    with ExitStack() as stack:
        file = stack.enter_context(os.fdopen(open_plain(path, where), "rb"))
        size = os.fstat(file.fileno()).st_size
        if size != record.size:
            raise problem(where, f"{record.size:,} bytes", f"{size:,} bytes")
        stack.pop_all()
        return file


def check_folder(
    directory: Path,
    files: Mapping[str, FileRecord],
    *,
    digests: bool,
    name: str | None = None,
) -> None:
    """Compare a bundle folder with the manifest's `files`: none missing, extra or changed."""
    name = name or directory.name
    try:
        present = {entry.name for entry in os.scandir(directory)}
    except OSError as error:
        raise problem(str(directory), "a folder that can be read", f"{error}") from error
    for extra in sorted(present - {*files, MANIFEST}):
        raise problem(f"{name}/{extra}", "only files the manifest lists", "an extra file")
    for file, record in files.items():
        where = f"{name}/{file}"
        with _open_file(directory / file, where, record) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest() if digests else ""
        if digests and digest != record.sha256:
            raise problem(where, f"sha256 {record.sha256}", f"sha256 {digest}")


def is_bundle(path: Path) -> bool:
    """Say whether `path` is a folder that claims to be a bundle, of whatever version."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        with os.fdopen(open_plain(path / MANIFEST, MANIFEST), "rb") as file:
            manifest = json.loads(file.read(MAX_MANIFEST_BYTES + 1))
    except (BundleError, OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT
