"""Bundles in object stores: copied once a machine, to where every worker of it maps them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shortlist import _temporary
from shortlist.bundle import Bundle
from shortlist.bundle.cache import cache_root
from shortlist.bundle.manifest import MANIFEST
from shortlist.errors import BundleError


def identity_of(bundle: Bundle) -> str:
    """Return the sha256 of an open bundle's manifest."""
    return hashlib.sha256((bundle.directory / MANIFEST).read_bytes()).hexdigest()


def check_identity(path: Any, found: str, expected: str) -> None:
    """Refuse a bundle that is not the one that a job began with."""
    if found != expected:
        raise BundleError(
            f"{path}: expected the bundle that this job began with (manifest sha256 "
            f"{expected[:12]}…), found another one ({found[:12]}…): it was replaced meanwhile; put "
            "the first one back, or begin anew with the new one"
        )


def address_of(bundle: str | os.PathLike[str]) -> str:
    """Return an absolute path, or the address of an object store as it is."""
    text = os.fspath(bundle)
    return text.rstrip("/") if "://" in text else os.path.abspath(text)


def local_bundle(address: str, identity: str | None = None) -> str:
    """Return where a bundle lies on this machine; one in an object store is copied first.

    Parameters
    ----------
    address : str
        Of `address_of`.
    identity : str, optional
        sha256 that its manifest must have. By default that of what lies there now.

    Returns
    -------
    str
        The path itself; of an object store ``bundles/IDENTITY/NAME`` in the cache folder:
        $SHORTLIST_CACHE, else ``shortlist`` in $XDG_CACHE_HOME or ~/.cache.

    Raises
    ------
    BundleError
        It cannot be reached, is damaged, or is another one than `identity`.
    """
    if "://" not in address:
        return address
    name, folder = address.rpartition("/")[2], cache_root().absolute() / "bundles"
    if identity is not None and (place := folder / identity / name).exists():
        return str(place)
    with _alone(folder), _store_errors(address):
        if identity is not None and place.exists():  # another worker was faster
            return str(place)
        return str(_copied(address, identity, folder, name))


def _copied(address: str, identity: str | None, folder: Path, name: str) -> Path:
    """Copy a bundle to a temporary name, check it, and give it its place."""
    import pyarrow.fs

    store, source = pyarrow.fs.FileSystem.from_uri(address)
    if store.get_file_info(source).type == pyarrow.fs.FileType.NotFound:
        raise BundleError(f"{address}: expected a bundle, found nothing there")
    known = None if identity is not None else _known(store, source)
    if known is not None and (folder / known / name).exists():
        return folder / known / name
    with _temporary.folder_for(folder / name) as temporary:
        is_file = store.get_file_info(source).is_file
        if not is_file:
            (temporary / name).mkdir()
        pyarrow.fs.copy_files(source, str(temporary / name), source_filesystem=store,
                              destination_filesystem=pyarrow.fs.LocalFileSystem())  # fmt: skip
        with Bundle.open(temporary / name) as bundle:
            found = identity_of(bundle)
        if identity is not None:
            check_identity(address, found, identity)
        place = folder / found / name
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            (temporary / name).rename(place)
    return place


def _known(store: Any, source: str) -> str | None:
    """Return the sha256 of a folder's manifest, without the rest; a zip has to be read whole."""
    if store.get_file_info(source).is_file:
        return None
    with store.open_input_stream(f"{source}/{MANIFEST}") as file:
        return hashlib.sha256(file.read()).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process of the machine copy at a time; the others find what it copied."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise BundleError(
            f"{folder} cannot be written ({error}), expected a cache folder for bundles of object "
            "stores. Fix: set SHORTLIST_CACHE to a folder of yours"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _store_errors(address: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise BundleError(
            f"{address} cannot be copied to this machine: {error}; expected a bundle in an object "
            "store that pyarrow reads, such as s3:// or gs://, and room in SHORTLIST_CACHE"
        ) from error
