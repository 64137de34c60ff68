"""`shortlist compress`: a bundle in, a smaller one out that ranks as well within a tolerance.

Each step is measured through the exported bundle on the validation users of the training; what
loses more is refused, and nothing is written then.
"""

from __future__ import annotations

import dataclasses
import datetime
import errno
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shortlist
from shortlist import _temporary
from shortlist.bundle import Bundle, BundleWriter, check_target
from shortlist.bundle.manifest import MANIFEST, STORAGES
from shortlist.errors import DataError, ShortlistError
from shortlist.export.compression.variant import Recipe, write_variant
from shortlist.export.host_graphs import check_host_graphs
from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.config.settings import read_config
from shortlist.training.config.values import unknown
from shortlist.training.evaluation.compression_report import METRIC, CompressionReport, Step
from shortlist.training.fit.checkpoint import load_dataset_copy
from shortlist.training.pipeline.completed import completed, items_of_training
from shortlist.training.pipeline.evaluation import evaluation_config
from shortlist.training.pipeline.ranking_gate import RankingGate
from shortlist.training.splits.held_out import check_held_out, fingerprint
from shortlist.training.splits.split import configured_split
from shortlist.versions import MAX_ANCESTORS, find_run, new_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shortlist.bundle.manifest import Manifest
    from shortlist.training.splits.parts import Split

__all__ = ["CompressRequest", "EventSource", "compress_bundle"]

TOLERANCE = 0.01
TOP_N = 20  # of the lists that graphs and engine are compared by
SEARCHED = ("int8", "float16")  # storages that `within` tries, beside the one that is there
_OF_FILE = ("format", "format_version", "files")  # of a manifest: written with it


@dataclass(frozen=True)
class EventSource:
    """Events that the gate holds out, where the run folder is gone: as for `evaluate`."""

    path: str
    format: str = "auto"
    items: Path | None = None
    users: Path | None = None
    reading: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class CompressRequest:
    """What is wanted of a smaller bundle.

    Attributes
    ----------
    int8 : bool
        Tables and products in 8-bit numbers.
    storage : str or None
        Of the item index.
    users, portable : bool
        Keep the stored users, and recommend_portable.onnx.
    tolerance : float
        Part of NDCG@10 that may be lost.
    within : float or None
        Search for the smallest bundle that loses no more than this.
    """

    int8: bool = False
    storage: str | None = None
    users: bool = True
    portable: bool = True
    tolerance: float = TOLERANCE
    within: float | None = None

    @property
    def allowed(self) -> float:
        """Part of NDCG@10 that may be lost."""
        return self.tolerance if self.within is None else self.within


def compress_bundle(
    bundle: Path,
    out: Path,
    request: CompressRequest,
    *,
    run_dir: Path | None = None,
    events: EventSource | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> CompressionReport:
    """Write a smaller form of a bundle, if its lists are as good within a tolerance.

    Parameters
    ----------
    bundle : Path
        A folder or zip; it stays as it is.
    out : Path
        NAME.shortlist, another one.
    request : CompressRequest
    run_dir : Path, optional
        Run folder of the bundle; the one beside it by default.
    events : EventSource, optional
        Held out from in place of the run folder's copy.
    say : callable
        Gets a line before each step.

    Returns
    -------
    CompressionReport
        Nothing was written where `is_refused`.

    Raises
    ------
    DataError
        Nothing is asked for, the bundle is compressed or private, no run folder and no events.
    BundleError
        `out` is no name for a bundle.
    ShortlistError
        The disk is full; nothing is left of the new bundle.
    """
    _check(request, bundle, out)
    try:
        with Bundle.open(bundle) as opened, _temporary.folder_for(out.absolute()) as folder:
            _check_manifest(opened.manifest, bundle)
            split, include_seen = _held_out(opened, run_dir, events)
            say(f"measuring {bundle.name}")
            gate = RankingGate(bundle, split, tolerance=request.allowed, include_seen=include_seen)
            job = _Job(opened, out, request, gate, folder, say)
            return job.run()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ShortlistError(
            f"--out: the disk of {out} is full; nothing of the new bundle is left, and "
            f"{bundle} is as it was. Fix: free some space, or write elsewhere"
        ) from error


def _check(request: CompressRequest, bundle: Path, out: Path) -> None:
    """Refuse what cannot be done, before anything is read."""
    target = check_target(out)
    if target.resolve() == bundle.resolve():
        raise DataError(f"--out: got {out}, the bundle itself, expected another name")
    if request.storage is not None and request.storage not in STORAGES:
        raise DataError(unknown("--storage", request.storage, STORAGES))
    for flag, value in (("--tolerance", request.tolerance), ("--within", request.within)):
        if value is not None and not 0 <= value <= 1:
            raise DataError(f"{flag}: got {value}, expected a part from 0 to 1, such as 0.01")
    has_step = request.int8 or request.storage or not request.users or not request.portable
    if request.within is None and not has_step:
        raise DataError(
            "steps: got none, expected --int8, --storage, --no-users, --no-portable, or --within "
            "to search"
        )


def _check_manifest(manifest: Manifest, bundle: Path) -> None:
    record = manifest.compression
    if record is not None:
        raise DataError(
            f"bundle: got {bundle}, which is compressed already ({', '.join(record.steps)}), "
            f"expected the one it was made from, version {record.source}: losses would add up "
            "unseen. Fix: compress that one"
        )
    if manifest.privacy is not None:
        raise DataError(
            f"bundle: got {bundle}, which is private and keeps no events to measure by, expected "
            "one that is not. Fix: set export.storage and train again"
        )


def _held_out(
    bundle: Bundle, run_dir: Path | None, source: EventSource | None
) -> tuple[Split, bool]:
    """Find the events that judge: those of the run folder, or those given."""
    if source is not None:
        return _split_of_events(bundle, source)
    manifest = bundle.manifest
    folder = run_dir or find_run(bundle.path, manifest)
    if folder is None or not (folder / "config.toml").is_file():
        where = f"{run_dir} is none" if run_dir else f"there is none beside {bundle.path}"
        raise DataError(
            f"run folder: expected that of the training of {bundle.name}, whose events judge what "
            f"is lost; {where}. Fix: give it with --run, or the events with --data: --int8, "
            "--storage, --no-users, --no-portable and --within need no more"
        )
    config = read_config(folder / "config.toml")
    split = configured_split(load_dataset_copy(folder / "data"), config)
    sha256 = manifest.training_section("data").get("train_sha256")
    if sha256 != fingerprint(split.train):
        raise DataError(
            f"run folder: {folder} was trained on other events than {bundle.name}, expected the "
            "run that it was exported from. Fix: give that one with --run"
        )
    return split, config.split.include_seen


def _split_of_events(bundle: Bundle, source: EventSource) -> tuple[Split, bool]:
    training = bundle.manifest.training
    given = {"path": source.path, "format": source.format, **source.reading}
    config = evaluation_config(training, given, "auto")
    frames = Frames(None, source.items, source.users)
    with shortlist.load(bundle.path, n_threads=1) as engine:
        item_ids = items_of_training(engine)
        dataset, _ = load_configured(config, frames=frames, item_ids=item_ids)
        split = configured_split(completed(dataset, {bundle.name: engine}).dataset, config)
    check_held_out(training, split, "valid")
    return split, config.split.include_seen


@dataclass(frozen=True)
class _Job:
    """A compression under way."""

    bundle: Bundle
    out: Path
    request: CompressRequest
    gate: RankingGate
    folder: Path
    say: Callable[[str], None]

    def run(self) -> CompressionReport:
        """Try the steps, and write what is chosen."""
        recipes = self._searched() if self.request.within is not None else self._steps()
        with shortlist.load(self.bundle.path, n_threads=1) as engine:
            inputs = self.gate.encoder_inputs(engine)
        steps: list[Step] = []
        best: tuple[Path, Step] | None = None
        for number, recipe in enumerate(recipes):
            self.say(recipe.name)
            path = self._write(recipe, self.folder / f"step-{number}.shortlist", inputs)
            step = self.gate.judge(recipe.name, path)
            steps.append(step)
            if self._is_better(step, best):
                if best is not None:
                    shutil.rmtree(best[0])
                best = path, step
            else:
                shutil.rmtree(path)
            if self.request.within is None and not step.is_passed:
                best = None
                break
        if best is None:
            return self._report(steps, reason=self._refusal(steps))
        return self._commit(*best, steps)

    def _is_better(self, step: Step, best: tuple[Path, Step] | None) -> bool:
        """Say whether a step is to be written: the last one, or of a search the smallest."""
        if not step.is_passed or best is None or self.request.within is None:
            return step.is_passed
        return step.figures.size < best[1].figures.size

    def _steps(self) -> list[Recipe]:
        """Return the steps that are asked for, each with those before it."""
        request = self.request
        recipe = Recipe(users=request.users, portable=request.portable)
        recipes = [recipe] if not (request.users and request.portable) else []
        if request.int8:
            recipes.append(recipe := dataclasses.replace(recipe, int8=True))
        if request.storage is not None:
            recipes.append(dataclasses.replace(recipe, storage=request.storage))  # type: ignore[arg-type]
        return recipes

    def _searched(self) -> list[Recipe]:
        """Return all that `within` tries."""
        request, present = self.request, self.bundle.manifest.storage
        storages: list[Any] = [request.storage]
        if request.storage is None and present == "float32":
            storages += SEARCHED
        return [
            Recipe(int8, storage, request.users, request.portable)
            for int8 in ((True,) if request.int8 else (False, True))
            for storage in storages
        ]

    def _write(self, recipe: Recipe, path: Path, inputs: Sequence[Any]) -> Path:
        """Write a variant as a bundle of its own, so that an engine can load it."""
        with BundleWriter(path) as writer:
            changed = write_variant(self.bundle, recipe, writer.directory, inputs)
            writer.write_manifest(self._fields() | changed)
            return writer.commit()

    def _fields(self) -> dict[str, Any]:
        fields = self.bundle.manifest.to_dict()
        return {name: value for name, value in fields.items() if name not in _OF_FILE}

    def _commit(self, path: Path, step: Step, steps: list[Step]) -> CompressionReport:
        """Compare the graphs with the engine, add what was measured, and put it in place."""
        with shortlist.load(path, n_threads=1) as engine:
            graphs = check_host_graphs(engine, self.gate.batches(), top_n=TOP_N)
            fields = engine.bundle.manifest.to_dict()
        now = datetime.datetime.now(datetime.UTC)
        lineage = self._lineage(now)
        fields = {name: value for name, value in fields.items() if name not in _OF_FILE} | {
            "created": now.isoformat(timespec="seconds"),
            "lineage": lineage,
            "metrics": {"validation": step.figures.metrics},
            "parity": {"graphs": graphs},
            "compression": self._record(step),
        }
        with BundleWriter(self.out) as writer:
            for file in path.iterdir():
                if file.name != MANIFEST:
                    file.rename(writer.directory / file.name)
            writer.write_manifest(fields)
            writer.commit()
        test = {"before": self.gate.test_metrics(self.bundle.path)}
        test = test | {"after": self.gate.test_metrics(self.out)} if test["before"] else {}
        return self._report(steps, chosen=step.name, version=lineage["version"], test=test)

    def _record(self, step: Step) -> dict[str, Any]:
        """Say in the manifest what was done and measured."""
        return {
            "source": self.bundle.manifest.version,
            "steps": step.name.split(", "),
            "tolerance": self.request.allowed,
            "loss": step.loss,
            "difference": step.difference,
            "difference_interval": list(step.interval),
            "n_users": self.gate.n_users,
            "speedup": step.speedup,
            "before": self.gate.before.to_dict(),
            "after": step.figures.to_dict(),
        }

    def _lineage(self, now: datetime.datetime) -> dict[str, Any]:
        """Describe the new bundle as a version that comes from the old one."""
        manifest = self.bundle.manifest
        own = manifest.own.to_dict()
        ancestors = [own, *(entry.to_dict() for entry in manifest.ancestors)][:MAX_ANCESTORS]
        return {
            **own,
            "version": new_version(now),
            "parent": manifest.version,
            "kind": "compress",
            "created": now.isoformat(timespec="seconds"),
            "ancestors": ancestors,
        }

    def _refusal(self, steps: list[Step]) -> str:
        least = min(steps, key=lambda step: step.loss)
        low, high = least.interval
        found = f"{least.name}: {METRIC} {least.difference:+.4f} ({low:+.4f} to {high:+.4f})"
        return (
            f"refused: at most {self.request.allowed:.2%} of {METRIC} may be lost, and the least "
            f"that was found is {least.loss:.2%} ({found}); nothing was written"
        )

    def _report(self, steps: list[Step], **found: Any) -> CompressionReport:
        return CompressionReport(
            bundle=self.bundle.path,
            out=self.out,
            version=found.get("version", ""),
            tolerance=self.request.allowed,
            n_users=self.gate.n_users,
            before=self.gate.before,
            steps=tuple(steps),
            chosen=found.get("chosen", ""),
            reason=found.get("reason", ""),
            test=found.get("test", {}),
        )
