"""Versions of a bundle: which one came from which, going over to a new one, going back.

Beside ``movies.shortlist``, the champion that hosts serve, lies ``movies.versions/``: the bundles
that were there before it or never got there, each named by its version, and their run folders.
"""

import contextlib
import datetime
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shortlist.bundle import Bundle
from shortlist.bundle.manifest import Manifest
from shortlist.bundle.writer import exchange
from shortlist.errors import BundleError, ShortlistError

__all__ = [
    *("find_run", "history", "new_version", "promote", "prune", "rollback", "updating"),
    "version_of",
]

MAX_ANCESTORS = 100  # told in a manifest
KEPT = 10  # versions that an update leaves beside the champion
_DOOMED = ".removed-"  # a folder with this in front is no version any more
_STAMP = r"\d{8}T\d{12}"  # what `updating` names a new bundle and its run folder by


def new_version(created: datetime.datetime) -> str:
    """Name a version by the time (UTC) it was made and a random part: 20261124T174501-3fa2c1."""
    return f"{created:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def versions_folder(bundle: Path) -> Path:
    """Return the folder of a bundle's other versions; of one of these, the folder it is in."""
    own = bundle.resolve()
    if own.parent.suffix == ".versions":
        return own.parent
    return own.with_suffix(".versions")


def version_of(manifest: Manifest) -> str:
    """Return a bundle's version; one written before there were versions is named by its time."""
    return manifest.version


def find_run(bundle: Path, manifest: Manifest) -> Path | None:
    """Find the run folder that a bundle was exported from; None if it is not beside it."""
    own = bundle.resolve()
    name = manifest.own.run or f"{own.stem}.run"
    for folder in (own.parent, versions_folder(own), own.parent.parent):
        if (folder / name / "config.toml").is_file():
            return folder / name
    return None


def history(bundle: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the versions of a bundle: itself, its ancestors, then others kept beside it.

    Returns
    -------
    list of dict
        ``version``, ``parent``, ``created`` and what else the lineage tells (``kind``, ``run``,
        ``data``, ``seconds``); ``path``: where its bundle lies, None if it was not kept; ``state``:
        "champion" (in the place of `bundle`), "ancestor" or "other".
    """
    location = Path(bundle)
    manifest = _manifest(location)
    bundles = _bundles_in(versions_folder(location))
    bundles.pop(manifest.version, None)
    rows = [{**manifest.own.to_dict(), "path": str(location), "state": "champion"}]
    for ancestor in manifest.ancestors:
        own = bundles.pop(ancestor.version, None)
        path = None if own is None else str(own)
        rows.append({**ancestor.to_dict(), "path": path, "state": "ancestor"})
    for version, own in sorted(bundles.items(), reverse=True):
        entry = _manifest(own).own.to_dict()
        rows.append({**entry, "version": version, "path": str(own), "state": "other"})
    return rows


def promote(challenger: Path, champion: Path) -> Path:
    """Put a bundle in the place of another in one step, and keep the other under its version.

    A running engine goes over with ``engine.swap(champion)``.

    Returns
    -------
    Path
        Where the old champion lies now.

    Raises
    ------
    BundleError
        One of the two is damaged; nothing has changed then.
    """
    path = champion.resolve()
    _settle(versions_folder(path))
    with Bundle.open(challenger), Bundle.open(path) as old:
        aside = versions_folder(path) / f"{old.manifest.version}.shortlist"
    aside.parent.mkdir(exist_ok=True)
    if aside.exists() and aside != challenger:
        raise BundleError(
            f"{aside}: expected a free place for the bundle that is replaced, found one there; "
            "remove it or move it away"
        )
    exchange(challenger, path)
    if aside != challenger:
        challenger.rename(aside)
    return aside


def rollback(bundle: str | os.PathLike[str], to: str | None = None) -> dict[str, str]:
    """Put an earlier version back in the place of a bundle; the present one is kept.

    Parameters
    ----------
    bundle : str or path
        The champion.
    to : str, optional
        A version that is kept beside it; its parent by default.

    Returns
    -------
    dict of str
        ``bundle``, ``version`` (now there), ``replaced`` (the version that was), ``kept`` (where it
        lies now).

    Raises
    ------
    BundleError
        There is no such version, or it is damaged; nothing has changed then.
    """
    location = Path(bundle)
    manifest = _manifest(location)
    wanted = to or manifest.own.parent
    _settle(versions_folder(location))
    bundles = _bundles_in(versions_folder(location))
    if wanted is None or wanted not in bundles:
        wish = f"version {wanted}" if wanted else "an earlier version of a bundle without parent"
        raise BundleError(
            f"{location.name}: expected {wish} in {versions_folder(location)}, found "
            f"{', '.join(sorted(bundles)) or 'no version there'}; name one with --to"
        )
    replaced = promote(bundles[wanted], location)
    return {
        "bundle": str(location),
        "version": wanted,
        "replaced": manifest.version,
        "kept": str(replaced),
    }


@contextlib.contextmanager
def updating(bundle: Path) -> Iterator[str]:
    """Hold a bundle's versions for one update, and remove what a killed one left among them.

    Yields
    ------
    str
        A name for the new bundle, ``new-NAME.shortlist``, and its run folder, ``NAME.run``.

    Raises
    ------
    ShortlistError
        Another update of the bundle is at work.
    """
    _manifest(bundle)  # an error, if there is one, before a folder is made beside it
    folder = versions_folder(bundle)
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        _take(lock, folder, bundle)
        try:
            _sweep(bundle, folder)
            yield f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S%f}"
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing came of it
    finally:
        os.close(lock)


def _take(lock: int, folder: Path, bundle: Path) -> None:
    is_free = True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_free = False
    except OSError:
        pass  # a file system without locks: updates must not meet there
    # One that just ended may have removed the folder between our two calls.
    if not is_free or not folder.exists() or not os.path.samestat(os.fstat(lock), folder.stat()):
        raise ShortlistError(
            f"{bundle}: another update of this bundle is at work; try again when it is done"
        )


def _sweep(bundle: Path, folder: Path) -> None:
    """Remove new bundles without a version's name, and run folders that no bundle came from."""
    for left in folder.glob("new-*.shortlist"):
        if re.fullmatch(rf"new-{_STAMP}", left.stem):
            _delete(left)
    needed = {_manifest(path).own.run for path in (bundle, *_bundles_in(folder).values())}
    for run in folder.glob("*.run"):
        if run.name not in needed and re.fullmatch(_STAMP, run.stem):
            _delete(run)


def prune(bundle: str | os.PathLike[str], keep: int = KEPT) -> list[str]:
    """Remove old versions beside a bundle, and their run folders.

    The champion and the version it came from, which `rollback` takes, always stay, and so do run
    folders that a version that stays was exported from. Bundles that have another name than their
    version are a host's own, or an update is at work on them: they stay and do not count.

    Parameters
    ----------
    bundle : str or path
        The champion; beside a bundle that lies among the versions itself, nothing is removed.
    keep : int
        So many of the newest other versions stay.

    Returns
    -------
    list of str
        The versions that were removed, oldest first.

    Raises
    ------
    ValueError
        `keep` is below 1.

    Notes
    -----
    A folder is renamed before it is emptied: a prune that was killed leaves no half of a version,
    and the next one finishes it. Engines that still run a removed version may fail where they open
    one of its files for the first time.
    """
    if keep < 1:
        raise ValueError(f"keep: got {keep}, expected at least 1 version beside the champion")
    location = Path(bundle).resolve()
    folder = versions_folder(location)
    if location.parent == folder:
        return []
    for left in folder.glob(f"{_DOOMED}*"):
        _delete(left)
    _settle(folder)
    champion = _manifest(location).own
    bundles = _bundles_in(folder)
    named = {version for version, path in bundles.items() if path.stem == version}
    others = sorted(named - {champion.parent, champion.version})
    doomed = others[: max(0, len(others) - keep)]
    runs = {version: _manifest(path).own.run for version, path in bundles.items()}
    needed = {champion.run, *(run for version, run in runs.items() if version not in doomed)}
    for version in doomed:
        for path in (folder / (runs[version] or ""), bundles[version]):
            if path.parent == folder and os.path.lexists(path) and path.name not in needed:
                gone = folder / f"{_DOOMED}{path.name}"
                path.rename(gone)
                _delete(gone)
    return doomed


def _delete(path: Path) -> None:
    """Delete a folder, a zip, or a link, whose target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _manifest(bundle: Path) -> Manifest:
    with Bundle.open(bundle, verify=False) as opened:
        return opened.manifest


def _settle(folder: Path) -> None:
    """Finish what a `promote` left that was killed between its two steps.

    The old champion then lies where the new one was, under the new one's version.
    """
    bundles = _bundles_in(folder)
    for version, path in bundles.items():
        own = folder / f"{version}.shortlist"
        if path.stem != version and path.stem not in bundles and _is_version(path.stem):
            path.rename(own)


def _is_version(name: str) -> bool:
    return re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", name) is not None


def _bundles_in(folder: Path) -> dict[str, Path]:
    """Return the bundles of a folder by version; what is damaged is none."""
    bundles = {}
    for path in sorted(folder.glob("*.shortlist")):
        try:
            bundles[_manifest(path).version] = path
        except BundleError:
            continue
    return bundles
