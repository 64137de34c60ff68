"""Versions of a bundle: which one came from which, going over to a new one, going back.

Beside ``movies.shortlist``, the champion that hosts serve, lies ``movies.versions/``: the bundles
that were there before it or never got there, each named by its version, and their run folders.
"""

import contextlib
import datetime
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shortlist import _temporary
from shortlist.bundle import Bundle
from shortlist.bundle.manifest import Manifest
from shortlist.bundle.writer import exchange
from shortlist.errors import BundleError, ShortlistError

__all__ = [
    *("find_run", "history", "new_version", "note_refusal", "promote", "prune", "rollback"),
    *("updating", "version_of"),
]

MAX_ANCESTORS = 100  # told in a manifest
KEPT = 10  # versions that an update leaves beside the champion
_STAMP = r"\d{8}T\d{12}"  # what `updating` names a new bundle and its run folder by
# Temporary names of releases up to 0.2, which had no locks: removed under the lock of updates.
_LEFT_BEFORE = re.compile(rf"\.new-{_STAMP}\.shortlist\.[a-z0-9_]{{8}}|\.removed-.+")
_STATES = "states.json"  # beside the versions: those that were refused or rolled back
_held: set[tuple[int, int, Path]] = set()  # process, thread and folder of the locks taken here


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
        "champion" (in the place of `bundle`), "ancestor", "refused" (by the gate, with the
        ``reasons``), "rolled back" or "other".
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
    states = _read_states(versions_folder(location))
    for version, own in sorted(bundles.items(), reverse=True):
        entry = _manifest(own).own.to_dict()
        state = states.get(version, {"state": "other"})
        rows.append({**entry, "version": version, "path": str(own), **state})
    return rows


def note_refusal(bundle: Path, version: str, reasons: Sequence[str]) -> None:
    """Remember that a version beside a bundle did not pass the gate; `history` says so."""
    with _locked(bundle):
        _note(versions_folder(bundle), version, {"state": "refused", "reasons": list(reasons)})


def _note(folder: Path, version: str, state: dict[str, Any]) -> None:
    """Remember what became of a version, and forget those that are gone.

    That it cannot be written undoes nothing: the version is then an "other" one.
    """
    states = _read_states(folder) | {version: state}
    there = _bundles_in(folder)
    text = json.dumps({name: known for name, known in states.items() if name in there}, indent=1)
    with contextlib.suppress(OSError), _temporary.replacing(folder / _STATES) as file:
        file.write(text.encode())


def _read_states(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what became of versions; a file that cannot be read says nothing."""
    try:
        states = json.loads((folder / _STATES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(states, dict):
        return {}
    return {
        version: state
        for version, state in states.items()
        if isinstance(state, dict) and state.get("state") in ("refused", "rolled back")
    }


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
    ShortlistError
        An update or a rollback of the bundle is at work.
    """
    path = champion.resolve()
    with _locked(path):
        return _promote(challenger, path)


def _promote(challenger: Path, path: Path) -> Path:
    _settle(versions_folder(path))
    with Bundle.open(challenger), Bundle.open(path) as old:
        aside = versions_folder(path) / f"{old.manifest.version}.shortlist"
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
    ShortlistError
        An update or another rollback of the bundle is at work, or has just replaced it.
    """
    location = Path(bundle)
    with _locked(location) as before:
        return _rollback(location, before.version, to)


def _rollback(location: Path, left: str, to: str | None) -> dict[str, str]:
    manifest = _manifest(location)
    if manifest.version != left:
        raise ShortlistError(
            f"{location}: version {left} was to be replaced, but another update or "
            f"rollback has just put {manifest.version} there; see `shortlist history "
            f"{location}`, and call this again if it is not the one you want"
        )
    wanted = to or manifest.own.parent
    _settle(versions_folder(location))
    bundles = _bundles_in(versions_folder(location))
    if wanted is None or wanted not in bundles:
        wish = f"version {wanted}" if wanted else "an earlier version of a bundle without parent"
        raise BundleError(
            f"{location.name}: expected {wish} in {versions_folder(location)}, found "
            f"{', '.join(sorted(bundles)) or 'no version there'}; name one with --to"
        )
    replaced = _promote(bundles[wanted], location.resolve())
    _note(versions_folder(location), left, {"state": "rolled back"})
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
        Another update or a rollback of the bundle is at work, or the folder of its versions cannot
        be made or locked.
    """
    folder = versions_folder(bundle)
    with _locked(bundle, is_new=True):
        try:
            _sweep(bundle, folder)
        except OSError as error:
            raise _unusable(bundle, folder, error) from error
        yield f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S%f}"


@contextlib.contextmanager
def _locked(bundle: Path, *, is_new: bool = False) -> Iterator[Manifest]:
    """Hold the lock of a bundle's versions: the folder they lie in, which is made for it.

    Whoever has it may call functions that take it as well, but for those that want a new one.

    Yields
    ------
    Manifest
        Of the bundle as it was when its lock was asked for.
    """
    before = _manifest(bundle)  # an error, if there is one, before a folder is made beside it
    folder = versions_folder(bundle)
    me = (os.getpid(), threading.get_ident(), folder)
    if me in _held:
        if is_new:
            raise _at_work(bundle)
        yield before
        return
    try:
        descriptor = _take(folder, bundle)
    except OSError as error:
        raise _unusable(bundle, folder, error) from error
    _held.add(me)
    try:
        yield before
    finally:
        _held.discard(me)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it
        os.close(descriptor)


def _take(folder: Path, bundle: Path) -> int:
    while True:  # again where one that just ended removed the folder between two calls
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        # None, a file system without locks: updates must not meet there.
        is_free = _temporary.lock(descriptor)
        if is_free is not False and _temporary.is_still(descriptor, folder.resolve()):
            return descriptor
        os.close(descriptor)
        if is_free is False:
            raise _at_work(bundle)


def _at_work(bundle: Path) -> ShortlistError:
    return ShortlistError(
        f"{bundle}: another update of this bundle is at work, or a rollback; try again when it is "
        "done"
    )


def _unusable(bundle: Path, folder: Path, error: OSError) -> ShortlistError:
    return ShortlistError(
        f"{bundle}: expected a folder {folder} for its versions that can be made, locked and "
        f"changed, found: {error}; make the folder that the bundle lies in writable"
    )


def _sweep(bundle: Path, folder: Path) -> None:
    """Remove new bundles without a version's name, and run folders that no bundle came from."""
    _sweep_names(folder)
    _temporary.sweep(bundle.resolve().parent)
    for new in folder.glob("new-*.shortlist"):
        if re.fullmatch(_STAMP, new.stem.removeprefix("new-")):
            _temporary.discard(new)
    needed = {_manifest(path).own.run for path in (bundle, *_bundles_in(folder).values())}
    for run in folder.glob("*.run"):
        if run.name not in needed and re.fullmatch(_STAMP, run.stem):
            _temporary.discard(run)


def _sweep_names(folder: Path) -> None:
    """Remove what lies under temporary names."""
    _temporary.sweep(folder)
    for left in folder.iterdir():
        if _LEFT_BEFORE.fullmatch(left.name):
            _temporary.discard(left)


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
    ShortlistError
        An update or a rollback of the bundle is at work.

    Notes
    -----
    A folder is renamed before it is emptied: a prune that was killed leaves no half of a version,
    and the next sweep (`_temporary`) finishes it. Engines that still run a removed version may fail
    where they open one of its files for the first time.
    """
    if keep < 1:
        raise ValueError(f"keep: got {keep}, expected at least 1 version beside the champion")
    location = Path(bundle).resolve()
    folder = versions_folder(location)
    if location.parent == folder or not folder.is_dir():
        return []
    with _locked(location):
        return _prune(location, folder, keep)


def _prune(location: Path, folder: Path, keep: int) -> list[str]:
    _sweep_names(folder)
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
                _temporary.discard(path)
    return doomed


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
