"""The folder of a sharded index: index files, and `shards.json`, which names them in their order.

A shard's file is named by its content, so that a new one never takes the place of an old one. A
reader sees the set that `shards.json` names, all of it or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortlist import _temporary
from shortlist.bundle.fields import Fields, is_plain_name, problem
from shortlist.bundle.files import open_plain
from shortlist.bundle.manifest import MANIFEST as BUNDLE_MANIFEST
from shortlist.bundle.storages import STORAGES
from shortlist.errors import BundleError, ShortlistError
from shortlist.index import Index

MANIFEST = "shards.json"
FORMAT = "shortlist-shards"
FORMAT_VERSION = 1
MAX_SHARDS = 65_536
_MAX_BYTES = 64 << 20
_KINDS = ("row numbers", "int64", "string")


@dataclass(frozen=True)
class ShardRecord:
    """One shard in `shards.json`: `n_rows` rows of the catalogue, from `first_row` on."""

    file: str
    first_row: int
    n_rows: int
    size: int
    sha256: str

    @property
    def end_row(self) -> int:
        """The row after the last one."""
        return self.first_row + self.n_rows


@dataclass(frozen=True)
class ShardSet:
    """What `shards.json` says: one generation of a sharded index.

    Attributes
    ----------
    generation : int
        From 1 on; one more with every replacement.
    dim : int
    metric, storage : str
    item_ids : {"row numbers", "int64", "string"}
    shards : tuple of ShardRecord
        In the order of their rows.
    """

    generation: int
    dim: int
    metric: str
    storage: str
    item_ids: str
    shards: tuple[ShardRecord, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the whole catalogue."""
        return self.shards[-1].end_row

    @property
    def version(self) -> str:
        """A hash of all this: answers of shards go together where it is the same."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    def to_json(self) -> bytes:
        """Return the text of `shards.json`."""
        fields = vars(self) | {"shards": [vars(shard) for shard in self.shards]}
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}
        return (json.dumps(record, indent=1) + "\n").encode()


def read_set(folder: str | os.PathLike[str]) -> ShardSet:
    """Read and check `shards.json` of a folder.

    Raises
    ------
    BundleError
        It is missing, or is not what this release writes.
    """
    path = Path(folder)
    where = f"{path.name}/{MANIFEST}"
    with os.fdopen(open_plain(path / MANIFEST, where), "rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise problem(where, f"at most {_MAX_BYTES:,} bytes", "more")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise problem(where, "JSON", f"{error}; build the shards again") from error
    return _parse(Fields({}, where).of(record, "an object"))


def _parse(fields: Fields) -> ShardSet:
    fields.choice("format", "the name of the format", (FORMAT,))
    fields.number("format_version", FORMAT_VERSION, FORMAT_VERSION)
    generation, dim = fields.number("generation", 1), fields.number("dim", 1)
    metric = fields.choice("metric", "a metric", ("cosine", "dot", "euclidean"))
    storage = fields.choice("storage", "a storage", STORAGES)
    item_ids = fields.choice("item_ids", "the kind of the ids", _KINDS)
    entries = fields.take("shards", list, "a list of shards")
    if not 1 <= len(entries) <= MAX_SHARDS:
        raise fields.problem(f"1 to {MAX_SHARDS} shards", f"{len(entries)}")
    shards: list[ShardRecord] = []
    next_row = 0
    for number, entry in enumerate(entries):
        shard = _parse_shard(fields.of(entry, f"shard {number} to be an object"), number)
        if shard.first_row != next_row:
            raise fields.problem(
                f"shard {number} to begin at row {next_row}, where the one before ends",
                f"row {shard.first_row}",
            )
        next_row = shard.end_row
        shards.append(shard)
    return ShardSet(generation, dim, metric, storage, item_ids, tuple(shards))


def _parse_shard(fields: Fields, number: int) -> ShardRecord:
    of = f" of shard {number}"
    file, sha256 = (fields.take(key, str, f"a text{of}") for key in ("file", "sha256"))
    if not is_plain_name(file):
        raise fields.problem(f"a plain file name{of}", f"{file!r:.80}")
    first_row, n_rows, size = (
        fields.number(key, 0, of=of) for key in ("first_row", "n_rows", "size")
    )
    return ShardRecord(file, first_row, n_rows, size, sha256)


def open_shard(folder: Path, shards: ShardSet, number: int, mmap: bool) -> Index:
    """Load one shard, and compare it with what `shards.json` says of it.

    Raises
    ------
    BundleError
        Its file is missing, damaged or another one.
    """
    record = shards.shards[number]
    path, where = folder / record.file, f"{folder.name}/{record.file}"
    with os.fdopen(open_plain(path, where), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.size:
            raise _wrong(where, f"{record.size:,} bytes", f"{size:,} bytes")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != record.sha256:
        raise _wrong(where, f"sha256 {record.sha256}", f"sha256 {digest}")
    index = Index.load(path, mmap=mmap)
    check_alike(index, shards, where)
    if len(index) != record.n_rows:
        raise _wrong(where, f"{record.n_rows} rows, as {MANIFEST} says", f"{len(index)} rows")
    return index


def check_alike(index: Index, shards: ShardSet, where: str) -> None:
    """Refuse an index of another dim, metric, storage or kind of ids than the set has."""
    for name, expected in (
        ("dim", shards.dim),
        ("metric", shards.metric),
        ("storage", shards.storage),
    ):
        found = getattr(index, name)
        if found != expected:
            raise _wrong(where, f"the {name} {expected} of the set", f"{found}")
    is_text = index._core.view().has_string_ids
    if len(index) and is_text != (shards.item_ids == "string"):
        found = "strings" if is_text else "integers"
        raise _wrong(where, f"item ids that are {shards.item_ids}", found)


def _wrong(where: str, expected: str, found: str) -> BundleError:
    return problem(where, expected, f"{found}; build this shard again and replace it")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Hold a folder of shards for one writer, and give it a place for files to come.

    Raises
    ------
    ShortlistError
        Another process is writing to it.
    BundleError
        The folder cannot be made or written to.
    """
    if os.path.lexists(folder / BUNDLE_MANIFEST):
        raise problem(
            str(folder),
            "a folder of shards alone",
            "a bundle, whose manifest vouches for its files; export it again, or split its "
            "items.index into another folder",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise problem(str(folder), "a folder that can be written to", f"{error}") from error
    try:
        if _temporary.lock(descriptor) is False:
            raise ShortlistError(
                f"{folder}: another process is writing shards here; try again when it is done"
            )
        with _temporary.folder_for(folder / MANIFEST) as place:
            yield place
    finally:
        os.close(descriptor)


def add_shard(place: Path, index: Index, number: int, first_row: int = 0) -> ShardRecord:
    """Write a shard's file to the place of `writing`, under a name made of its content."""
    temporary = place / f"{number}.index"
    index.save(temporary)
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = f"shard-{number}-{digest[:16]}.index"
    size = temporary.stat().st_size
    temporary.replace(place / name)
    return ShardRecord(name, first_row, len(index), size, digest)


def publish(folder: Path, place: Path, shards: ShardSet, before: ShardSet | None) -> None:
    """Make a set the one that readers see, and remove files of sets before the last one."""
    for path in place.glob("shard-*.index"):
        path.replace(folder / path.name)
    _temporary.flush(folder)
    with _temporary.replacing(folder / MANIFEST) as file:
        file.write(shards.to_json())
    kept = {shard.file for one in (shards, before) if one is not None for shard in one.shards}
    for path in folder.glob("shard-*.index"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def renumbered(
    shards: Sequence[ShardRecord], changed: Mapping[int, ShardRecord]
) -> tuple[ShardRecord, ...]:
    """Return the shards with some in the places of others; rows count on from shard to shard."""
    records: list[ShardRecord] = []
    first_row = 0
    for number, shard in enumerate(shards):
        fields: dict[str, Any] = vars(changed.get(number, shard)) | {"first_row": first_row}
        records.append(ShardRecord(**fields))
        first_row = records[-1].end_row
    return tuple(records)
