"""Write a bundle so that its name holds the old one or the new one, never a half."""

import ctypes
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from shortlist import _temporary
from shortlist.bundle.fields import is_plain_name
from shortlist.bundle.files import is_bundle
from shortlist.bundle.manifest import FORMAT, FORMAT_VERSION, MANIFEST, Manifest
from shortlist.errors import BundleError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h: swap two names in one step


class BundleWriter:
    """Collects a bundle in a temporary folder beside its target; `commit` puts it in place.

    Use it in a `with`: leaving without `commit` (an error, say) deletes the temporary folder and
    the target stays as it was.

    Parameters
    ----------
    out : str or path
        The bundle to write, `NAME.shortlist`. An existing bundle there is replaced at commit.

    Attributes
    ----------
    target : Path
        Where the bundle will be.
    directory : Path
        The temporary folder; write the bundle's files into it.

    Raises
    ------
    BundleError
        `out` does not end in .shortlist, or something that is not a bundle is there.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.target = check_target(out)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._held = _temporary.new_folder(self.target)
        self.directory = self._held.path

    def write_manifest(self, fields: Mapping[str, Any]) -> Manifest:
        """Write manifest.json: `fields`, the format, and size and sha256 of every file so far.

        Returns
        -------
        Manifest
            As a reader will see it.
        """
        files = {}
        for path in sorted(self.directory.iterdir()):
            if path.name == MANIFEST:
                continue
            if not is_plain_name(path.name) or not path.is_file():
                raise BundleError(f"{path.name}: expected a plain file in the bundle, found {path}")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[path.name] = {"size": path.stat().st_size, "sha256": digest}
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        manifest = {**head, **fields, "files": files}
        data = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode()
        checked = Manifest.parse(data)
        (self.directory / MANIFEST).write_bytes(data)
        return checked

    def commit(self) -> Path:
        """Flush everything to disk and put the bundle in place in one step.

        Returns
        -------
        Path
            The target.
        """
        if not (self.directory / MANIFEST).exists():
            raise BundleError(f"{MANIFEST}: expected it written before commit, found no such file")
        self.directory.chmod(0o777 & ~_umask())
        for path in self.directory.iterdir():
            _temporary.flush(path)
        _temporary.flush(self.directory)
        _refuse_other_things(self.target)
        if os.path.lexists(self.target):
            exchange(self.directory, self.target)
            self._held.remove()  # the old bundle, now at this name
        else:
            self.directory.rename(self.target)
        _temporary.flush(self.target.parent)
        return self.target

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Delete the temporary folder if it was not committed."""
        self._held.remove()


def check_target(out: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a bundle to write; BundleError if none can be written there."""
    target = Path(os.path.abspath(out))
    if target.suffix != ".shortlist" or not target.stem:
        raise BundleError(
            f"out: expected a name ending in .shortlist, found {str(out)!r}; "
            f"write to {Path(out).name or 'movies'}.shortlist"
        )
    _refuse_other_things(target)
    folder = target.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise BundleError(
            f"out: expected a folder to write {target.name} into, found {folder}, which is "
            f"{'read-only' if folder.is_dir() else 'no folder'}; choose another place"
        )
    return target


def _refuse_other_things(target: Path) -> None:
    if os.path.lexists(target) and not is_bundle(target):
        raise BundleError(
            f"out: expected a new name or an existing bundle, found something else at {target}; "
            "choose another name or remove it yourself"
        )


def _umask() -> int:
    # A temporary folder has 0700; a bundle should get what mkdir would give. Reading the mask means
    # setting it for an instant, which other threads could see, so it is read from /proc where
    # there is one.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def exchange(new: Path, old: Path) -> None:
    """Swap the names of two bundles; on file systems without the call, rename twice."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        done = renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
        if done == 0:
            return
    held, aside = _temporary.put_aside(old, new)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    finally:
        if aside.exists():
            aside.rename(new)
        held.remove()
