"""The folder that a job writes: each part whole or not at all, and a manifest at the end.

A part's name is a hash of what it answers and how, so its place is taken by it alone. A job that
was killed goes on with the parts that are missing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shortlist import _temporary
from shortlist.batch.inputs import Fragment, Input
from shortlist.batch.scorer import Scorer
from shortlist.errors import DataError, ShortlistError

if TYPE_CHECKING:
    import pyarrow as pa

JOB = "_job.json"  # what the folder is for, written first
MANIFEST = "_manifest.json"  # what is in it, written last
FORMAT = "shortlist-scores"
FORMAT_VERSION = 1
_PART = re.compile(r"part-[0-9a-f]{20}\.parquet")
_NOTE = b"shortlist"  # in a part's footer: its PartReport
# A fifth smaller than Snappy, for a third more of a twentieth of the work (`benchmarks/score.py`);
# every engine that reads Parquet reads it.
_COMPRESSION = "zstd"
_UNIQUE = ("score", "scores")  # columns whose values hardly repeat: a dictionary only costs time


@dataclass(frozen=True)
class PartReport:
    """What one part holds.

    Attributes
    ----------
    n_requests, n_rows : int
    sources : dict of str to int
        How many lists were made from what, as `Recommendations.source` names it.
    n_short : int
        Lists of fewer than `top_n` items.
    n_unmet : int
        Lists that lack something of `at_least`.
    """

    n_requests: int = 0
    n_rows: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    n_short: int = 0
    n_unmet: int = 0

    def __add__(self, other: PartReport) -> PartReport:
        """Return what both hold."""
        names = {**self.sources, **other.sources}
        return PartReport(
            self.n_requests + other.n_requests,
            self.n_rows + other.n_rows,
            {n: self.sources.get(n, 0) + other.sources.get(n, 0) for n in sorted(names)},
            self.n_short + other.n_short,
            self.n_unmet + other.n_unmet,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def part_name(fragment: Fragment, scorer: Scorer) -> str:
    """Return the name of the part that answers a fragment."""
    options = json.dumps(_options(scorer), sort_keys=True)
    text = f"{FORMAT_VERSION}\n{scorer.identity}\n{options}\n{fragment.identity}"
    return f"part-{hashlib.sha256(text.encode()).hexdigest()[:20]}.parquet"


def _options(scorer: Scorer) -> dict[str, Any]:
    """Return what bits of an answer depend on, apart from bundle and request."""
    return scorer.options.to_dict() | {"device": scorer.device}


class PartWriter:
    """Writes the batches of one part into an open file."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        import pyarrow.parquet

        paths = {name: f"{name}.list.element" for name in ("item_ids", "titles")}
        coded = [paths.get(name, name) for name in schema.names if name not in _UNIQUE]
        self._writer = pyarrow.parquet.ParquetWriter(
            file, schema, compression=_COMPRESSION, use_dictionary=coded
        )
        self.report = PartReport()

    def write(self, rows: pa.RecordBatch, report: PartReport) -> None:
        """Add a batch, as a row group."""
        self._writer.write_batch(rows)
        self.report += report

    def abandon(self) -> None:
        """Write no more, not even a footer when this is deleted."""
        self._writer.is_open = False

    def close(self) -> None:
        """Write the footer."""
        self._writer.add_key_value_metadata({_NOTE: json.dumps(self.report.to_dict())})
        self._writer.close()


def read_report(path: Path) -> PartReport | None:
    """Return what a part says of itself; None if it is none, or damaged."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path).metadata or {}
        return PartReport(**json.loads(metadata[_NOTE]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None


class Output:
    """The folder of a job, held by it alone; `Output.open` is the way to get one.

    Attributes
    ----------
    folder : Path
    names : list of str
        Of its parts, in the order of the fragments.
    finished : dict of str to PartReport
        The parts that are there.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], names: Sequence[str]) -> None:
        self.folder = folder
        self.job = job
        self.names = list(names)
        self.finished: dict[str, PartReport] = {}

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        job: Mapping[str, Any],
        names: Sequence[str],
        *,
        overwrite: bool,
    ) -> Iterator[Output]:
        """Take a folder for a job: a new or empty one, or the same job's.

        Parameters
        ----------
        folder : Path
        job : dict
            What the job is: `job_record`.
        names : sequence of str
            Of its parts.
        overwrite : bool
            Delete what another job wrote there.

        Raises
        ------
        DataError
            It holds other files, or parts of another job; another process is writing there.
        """
        output = cls(folder, job, names)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _temporary.lock(descriptor) is False:
                raise DataError(
                    f"out: {folder} is being written by another job, expected one at a time. Fix: "
                    "wait for it, or choose another folder"
                )
            with disk_errors(folder):
                output._take(overwrite=overwrite)
            yield output
        finally:
            os.close(descriptor)

    def _take(self, *, overwrite: bool) -> None:
        _temporary.sweep(self.folder)
        there = [name for name in sorted(os.listdir(self.folder)) if name[0] != "."]
        parts = [name for name in there if _PART.fullmatch(name)]
        others = [name for name in there if name not in (*parts, JOB, MANIFEST)]
        before = self._job_before() if JOB in there else None
        if others or (parts and before is None):
            raise DataError(
                f"out: {self.folder} holds {(others or parts)[0]!r}, which no job of this command "
                "wrote; expected a new or empty folder, or one of this job. Fix: choose another "
                "folder"
            )
        stale = [name for name in parts if name not in set(self.names)]
        if stale and not overwrite:
            raise DataError(
                f"out: {self.folder} holds results of another job: "
                f"{_difference(before, self.job)}. "
                "Fix: choose a new folder, or --overwrite (overwrite=True), which deletes them"
            )
        if before != self.job:  # until all of this job is there
            (self.folder / MANIFEST).unlink(missing_ok=True)
        for name in stale:
            (self.folder / name).unlink()
        _write_json(self.folder / JOB, self.job)
        for name in set(parts) - set(stale):
            if (report := read_report(self.folder / name)) is not None:
                self.finished[name] = report

    def _job_before(self) -> Any:
        try:
            before = json.loads((self.folder / JOB).read_bytes())
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict) or before.get("format") != FORMAT:
            raise DataError(
                f"out: {self.folder / JOB} is no record of a job, expected a new or empty folder, "
                "or one of this job. Fix: choose another folder"
            )
        return before

    def finish(self) -> PartReport:
        """Write the manifest, and return what all parts hold."""
        parts, total = [], PartReport()
        with disk_errors(self.folder):
            _temporary.sweep(self.folder)
            for name in self.names:
                report = self.finished[name]
                size = (self.folder / name).stat().st_size
                parts.append({"name": name, "bytes": size, **report.to_dict()})
                total += report
            _write_json(self.folder / MANIFEST, {**self.job, **total.to_dict(), "parts": parts})
        return total


@contextmanager
def new_part(place: Path, schema: pa.Schema) -> Iterator[PartWriter]:
    """Write a part beside its place; it goes there at the end of the block, on disk, or never."""
    with disk_errors(place.parent), _temporary.replacing(place) as file:
        writer = PartWriter(file, schema)
        try:
            yield writer
            writer.close()
        except BaseException:
            writer.abandon()
            raise


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say of an error of the disk where it was, and that finished parts stay."""
    try:
        yield
    except OSError as error:
        fix = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
        raise ShortlistError(
            f"out: {folder} cannot be written: {error}; expected a folder with room. Finished "
            f"parts stay. Fix: {fix}, then run the same command again"
        ) from error


def job_record(scorer: Scorer, inputs: Sequence[Input], partitions: int | None) -> dict[str, Any]:
    """Return what a job is, as its folder remembers it."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "bundle": {"name": os.path.basename(scorer.bundle), "sha256": scorer.identity},
        "options": _options(scorer) | {"partitions": partitions},
        "columns": {field.name: str(field.type) for field in scorer.schema},
        "inputs": [one.to_dict() for one in inputs],
    }


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """Say in words in what a job differs from the one before it."""
    said = []
    if before["bundle"].get("sha256") != now["bundle"]["sha256"]:
        old, new = before["bundle"], now["bundle"]
        said.append(
            f"its bundle was {old.get('name')} (manifest sha256 {str(old.get('sha256'))[:12]}…), "
            f"this one is {new['name']} ({new['sha256'][:12]}…)"
        )
    for name in now["options"]:
        old, new = before["options"].get(name), now["options"][name]
        if old != new:
            said.append(f"its {name} was {old!r}, this one's is {new!r}")
    inputs = [{one["name"]: one["content"] for one in job["inputs"]} for job in (before, now)]
    for name in {**inputs[0], **inputs[1]}:
        if inputs[0].get(name) != inputs[1].get(name):
            said.append(f"{name} has changed, or is not in both")
    return "; ".join(said[:3]) or "it was cut otherwise"


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with _temporary.replacing(path) as file:
        file.write(text.encode())
