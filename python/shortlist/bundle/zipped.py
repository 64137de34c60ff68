"""Unpack a zipped bundle without trusting it: names, links, sizes and ratios are checked first."""

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from shortlist.bundle.fields import is_plain_name, problem
from shortlist.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from shortlist.bundle.records import FileRecord
from shortlist.errors import BundleError

# DEFLATE reaches 1032:1 on constant bytes; real graphs, embeddings and tables stay below 50:1.
MAX_RATIO = 200
RATIO_FREE_BYTES = 16 << 20
COPY_BYTES = 1 << 20
# What zipfile raises on damaged archives; RuntimeError: encrypted, NotImplementedError: a zip
# feature it lacks, ValueError: names that are not text.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


def unpack(archive: Path, target: Path) -> None:
    """Unpack the bundle in `archive` into the empty folder `target`.

    The files may lie at the top of the zip or inside one folder. Nothing is written before the
    manifest and every entry's name, type and size agree.

    Raises
    ------
    BundleError
        Not a zip, an entry with a path or a link, sizes that do not match the manifest, a
        compression ratio over 200:1, more bytes than the disk has free.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = _entries(zipped, archive)
            data = _manifest_bytes(zipped, entries)
            manifest = Manifest.parse(data, f"{archive.name}:{MANIFEST}")
            _check_sizes(entries, manifest.files, archive, target)
            for name, entry in entries.items():
                _copy(zipped, entry, target / name)
    except BundleError:
        raise
    except _UNREADABLE as error:
        raise problem(archive.name, "a zip that can be read", f"{error}") from error
    except OSError as error:
        raise problem(archive.name, "a zip that can be unpacked", f"{error}") from error


def _entries(zipped: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for entry in zipped.infolist():
        where = f"{archive.name}:{entry.filename!r:.200}"
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise problem(where, "a plain file", "a symbolic link")
        folder, _, name = entry.filename.rpartition("/")
        if folder and not is_plain_name(folder):
            raise problem(where, "files at the top or in one folder", "another path")
        folders.add(folder)
        if not name:  # the folder's own entry
            continue
        if not is_plain_name(name):
            raise problem(where, "a plain file name", "another path")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise problem(where, "stored or deflated data", f"method {entry.compress_type}")
        if name in entries:
            raise problem(where, "each file once", "the name a second time")
        entries[name] = entry
    if len(folders) > 1:
        raise problem(archive.name, "all files in one folder", f"{len(folders)} folders")
    return entries


def _manifest_bytes(zipped: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> bytes:
    entry = entries.get(MANIFEST)
    if entry is None:
        names = ", ".join(sorted(entries)[:8]) or "an empty zip"
        raise problem(MANIFEST, "the file in the zip", names)
    if entry.file_size > MAX_MANIFEST_BYTES:
        raise problem(
            MANIFEST, f"at most {MAX_MANIFEST_BYTES:,} bytes", f"{entry.file_size:,} bytes"
        )
    with zipped.open(entry) as source:
        return source.read(MAX_MANIFEST_BYTES + 1)


def _check_sizes(
    entries: dict[str, zipfile.ZipInfo],
    files: Mapping[str, FileRecord],
    archive: Path,
    to: Path,
) -> None:
    listed, present = {*files, MANIFEST}, set(entries)
    for name in sorted(listed ^ present):
        if name in listed:
            raise problem(f"{archive.name}:{name}", "the file the manifest lists", "no such file")
        raise problem(f"{archive.name}:{name}", "only files the manifest lists", "an extra file")
    total = packed = 0
    for name, entry in entries.items():
        where = f"{archive.name}:{name}"
        if name != MANIFEST and entry.file_size != files[name].size:
            raise problem(where, f"{files[name].size} bytes", f"{entry.file_size} bytes")
        total, packed = total + entry.file_size, packed + entry.compress_size
        if entry.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * entry.compress_size):
            raise problem(
                where,
                f"at most {MAX_RATIO} times the packed size",
                f"{entry.file_size:,} bytes packed in {entry.compress_size:,}",
            )
    if packed > archive.stat().st_size:
        raise problem(archive.name, "entries that do not overlap", f"{packed:,} packed bytes")
    free = shutil.disk_usage(to).free
    if total > free:
        raise problem(archive.name, f"at most the {free:,} bytes free in {to}", f"{total:,} bytes")


def _copy(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    left = entry.file_size
    with zipped.open(entry) as source, target.open("xb") as sink:
        while block := source.read(min(COPY_BYTES, left + 1)):
            left -= len(block)
            if left < 0:
                raise problem(entry.filename, f"{entry.file_size} bytes", "more when unpacked")
            sink.write(block)
    if left:
        raise problem(entry.filename, f"{entry.file_size} bytes", f"{entry.file_size - left}")
