"""Fetch files from inside a published wheel, verify them, and keep them in a cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shortlist.bundle.cache import cache_root
from shortlist.errors import DataError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class WheelFiles:
    """Files inside one release of a Python package.

    Attributes
    ----------
    requirement : str
        What pip downloads, e.g. ``"recbole==1.2.1"``.
    members : mapping of str to str
        Name in the archive → sha256 of the content.
    megabytes : float
        Size of the download, for the progress line.
    """

    requirement: str
    members: Mapping[str, str]
    megabytes: float


def fetch(
    name: str, wheel: WheelFiles, *, cache_dir: Path | None, progress: bool
) -> dict[str, Path]:
    """Return the paths of a dataset's files, downloading those the cache lacks or holds damaged.

    Parameters
    ----------
    name : str
        Dataset name; its folder in the cache.
    wheel : WheelFiles
        Where the files come from and what they must hash to.
    cache_dir : Path, optional
        Default `cache_root`.
    progress : bool
        Say on standard error what is downloaded, with pip's progress bar.

    Returns
    -------
    dict of str to Path
        Member name → file with exactly the expected content.

    Raises
    ------
    DataError
        Offline or otherwise not downloadable, wrong content, cache not writable.

    Notes
    -----
    Files are written to a temporary name and renamed, so two processes may do this at once.
    """
    folder = (cache_dir or cache_root()) / "datasets" / name
    paths = {member: folder / Path(member).name for member in wheel.members}
    damaged = [
        member
        for member, path in paths.items()
        if path.exists() and _sha256(path) != wheel.members[member]
    ]
    if not damaged and all(path.exists() for path in paths.values()):
        return paths
    if progress:
        why = "the cached copy is damaged, downloading again" if damaged else "downloading"
        print(
            f"{name}: {why} ({wheel.requirement}, {wheel.megabytes:.1f} MB) …",
            file=sys.stderr,
            flush=True,
        )
    with tempfile.TemporaryDirectory(prefix="shortlist-") as temporary:
        archive = _download(name, wheel.requirement, Path(temporary), progress=progress)
        for member, path in paths.items():
            _store(_extract(archive, member, wheel), path)
    return paths


def _download(name: str, requirement: str, folder: Path, *, progress: bool) -> Path:
    """Let pip, with the user's own configuration, put the wheel into a folder."""
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        "--disable-pip-version-check", "--progress-bar", "on" if progress else "off",
        "--dest", str(folder), requirement,
    ]  # fmt: skip
    # pip draws its bar on stdout, which belongs to our caller (--json): send it to stderr.
    result = subprocess.run(
        command, stdout=_stderr_file() if progress else subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    wheels = list(folder.glob("*.whl"))
    if result.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line for line in (result.stderr or "").strip().splitlines() if line]
    reason = lines[-1] if lines else f"pip ended with status {result.returncode}"
    raise DataError(
        f"{name}: could not be downloaded: got {reason!r} from pip, expected the wheel "
        f"{requirement}. Fix: check the network and pip's configuration, or use a local copy "
        "with --data PATH (in Python: load_dataset(PATH))"
    )


def _stderr_file() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # replaced by a host (notebook, test runner)
        return subprocess.DEVNULL


def _extract(archive: Path, member: str, wheel: WheelFiles) -> bytes:
    try:
        with zipfile.ZipFile(archive) as file:
            data = file.read(member)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"{archive.name}: {member} cannot be read: {error}. Fix: try again, or use "
            "a local copy with --data PATH"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != wheel.members[member]:
        raise DataError(
            f"{archive.name}: {member} has sha256 {sha256}, expected {wheel.members[member]}. Fix: "
            f"check where pip gets {wheel.requirement} from, or use a local copy with --data PATH"
        )
    return data


def _store(data: bytes, path: Path) -> None:
    """Write a cache file atomically: readers see the whole file or none."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DataError(
            f"cache folder {path.parent} cannot be written: {error}. Fix: set "
            "SHORTLIST_CACHE to a folder that can"
        ) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    except OSError:
        return "unreadable"
    return digest.hexdigest()
