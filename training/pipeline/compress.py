"""`shortlist compress`: a bundle in, a smaller one out that ranks as well within a tolerance.

Each step is measured through the exported bundle on the validation users of the training; what
loses more is refused, and nothing is written then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shortlist
from shortlist import _temporary
from shortlist.bundle import Bundle, BundleWriter
from shortlist.bundle.manifest import MANIFEST
from shortlist.errors import DataError, ShortlistError
from shortlist.export.compression.variant import Recipe, write_variant
from shortlist.export.host_graphs import check_host_graphs
from shortlist.training.evaluation.compression_report import METRIC, CompressionReport, Step
from shortlist.training.pipeline.compress_request import (
    CompressRequest,
    EventSource,
    check_manifest,
    check_request,
    held_out,
    needs_run,
    run_of,
)
from shortlist.training.pipeline.ranking_gate import RankingGate
from shortlist.versions import MAX_ANCESTORS, new_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from shortlist.bundle.manifest import Manifest

__all__ = ["CompressRequest", "EventSource", "compress_bundle"]

TOP_N = 20  # of the lists that graphs and engine are compared by
SEARCHED = ("float16", "int8", "int4")  # storages that `within` tries, beside the one that is there
_OF_FILE = ("format", "format_version", "files")  # of a manifest: written with it


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
    check_request(request, bundle, out)
    try:
        with Bundle.open(bundle) as opened, _temporary.folder_for(out.absolute()) as folder:
            check_manifest(opened.manifest, bundle)
            run_folder = None if events is not None else run_of(opened, run_dir)
            if request.student and run_folder is None:
                raise DataError(needs_run(request))
            split, include_seen = held_out(opened, run_folder, events)
            say(f"measuring {bundle.name}")
            gate = RankingGate(bundle, split, tolerance=request.allowed, include_seen=include_seen)
            job = _Job(opened, out, request, gate, folder, run_folder, say)
            return job.run()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ShortlistError(
            f"--out: the disk of {out} is full; nothing of the new bundle is left, and "
            f"{bundle} is as it was. Fix: free some space, or write elsewhere"
        ) from error


@dataclass(frozen=True)
class _Job:
    """A compression under way."""

    bundle: Bundle
    out: Path
    request: CompressRequest
    gate: RankingGate
    folder: Path
    run_folder: Path | None
    say: Callable[[str], None]

    @property
    def student_run(self) -> Path | None:
        """Where the run of a student goes."""
        return self.out.with_suffix(".run") if self.request.student else None

    def run(self) -> CompressionReport:
        """Try the steps, and write what is chosen."""
        searches = self.request.within is not None
        found = _Found(searches)
        bases = {"": self.bundle} if searches or not self.request.student else {}
        with contextlib.ExitStack() as stack:
            if self.request.student:
                path = self._train_student()
                step = self.gate.judge(self.request.student, path)
                found.add(step, path)
                if searches or step.is_passed:
                    bases[self.request.student] = stack.enter_context(Bundle.open(path))
            for name, base in bases.items():
                self._try(name, base, found)
        if found.best is None:
            return self._report(found.steps, reason=self._refusal(found.steps))
        return self._commit(*found.best, found.steps)

    def _try(self, student: str, base: Bundle, found: _Found) -> None:
        """Measure what can be done to a bundle: to the one that was given, or a student's."""
        recipes = self._searched(base) if found.searches else self._steps()
        with shortlist.load(base.path, n_threads=1) as engine:
            inputs = self.gate.encoder_inputs(engine)
        for recipe in recipes:
            name = ", ".join(filter(None, (student, recipe.name)))
            self.say(name)
            path = self.folder / f"step-{len(found.steps)}.shortlist"
            with BundleWriter(path) as writer:
                changed = write_variant(base, recipe, writer.directory, inputs)
                writer.write_manifest(_fields(base.manifest) | changed)
                writer.commit()
            found.add(self.gate.judge(name, path), path)
            if found.is_over:
                return

    def _train_student(self) -> Path:
        """Train what is asked for on from the run, and export it."""
        from shortlist.export.writer import export_bundle
        from shortlist.training.fit.fit import load_run
        from shortlist.training.pipeline.students import distilled, pruned

        request, place = self.request, self.student_run
        assert self.run_folder is not None
        assert place is not None
        run = load_run(self.run_folder)
        options: Any = {"overrides": request.overrides, "say": self.say}
        try:
            if request.prune is not None:
                student = pruned(run, request.prune, place, **options)
            else:
                student = distilled(run, str(request.distil), place, **options)
            path = self.folder / "student.shortlist"
            export_bundle(student, path, store_users=bool(self.bundle.manifest.n_users))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)  # it is new, and of no use without its bundle
            raise
        return path

    def _steps(self) -> list[Recipe]:
        """Return the steps that are asked for, each with those before it."""
        request = self.request
        recipe = Recipe(users=request.users, portable=request.portable, followers=request.followers)
        recipes = [recipe] if recipe != Recipe() else []
        if request.dim is not None:
            recipes.append(recipe := dataclasses.replace(recipe, dim=request.dim))
        if request.int8:
            recipes.append(recipe := dataclasses.replace(recipe, int8=True))
        if request.storage is not None:
            recipes.append(dataclasses.replace(recipe, storage=request.storage))  # type: ignore[arg-type]
        return recipes

    def _searched(self, base: Bundle) -> list[Recipe]:
        """Return all that `within` tries."""
        request, manifest = self.request, base.manifest
        storages: list[Any] = [request.storage]
        if request.storage is None and manifest.storage == "float32":
            storages += SEARCHED
        dims = [request.dim]
        if request.dim is None:
            trained = manifest.training_section("config", "train").get("matryoshka", ())
            dims += [dim for dim in trained if dim < manifest.dim]
        return [
            Recipe(int8, storage, request.users, request.portable, dim, request.followers)
            for dim in dims
            for int8 in ((True,) if request.int8 else (False, True))
            for storage in storages
        ]

    def _commit(self, path: Path, step: Step, steps: list[Step]) -> CompressionReport:
        """Compare the graphs with the engine, add what was measured, and put it in place."""
        with shortlist.load(path, n_threads=1) as engine:
            graphs = check_host_graphs(engine, self.gate.batches(), top_n=TOP_N)
            manifest = engine.bundle.manifest
        now = datetime.datetime.now(datetime.UTC)
        lineage = self._lineage(now)
        fields = _fields(manifest) | {
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
            "run": own.get("run") if self.student_run is None else self.student_run.name,
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
            run=self.student_run,
        )


class _Found:
    """What was tried so far, and the best of it.

    Attributes
    ----------
    searches : bool
        The smallest that passes is wanted; otherwise the last, and no step may be refused.
    steps : list of Step
    best : (Path, Step) or None
    is_over : bool
        A step was refused that was asked for.
    """

    def __init__(self, searches: bool) -> None:
        self.searches = searches
        self.steps: list[Step] = []
        self.best: tuple[Path, Step] | None = None

    @property
    def is_over(self) -> bool:
        return not self.searches and not self.steps[-1].is_passed

    def add(self, step: Step, path: Path) -> None:
        """Note a step, and whether it is the best."""
        self.steps.append(step)
        if not self.searches:
            self.best = (path, step) if step.is_passed else None
        elif step.is_passed and (
            self.best is None or step.figures.size < self.best[1].figures.size
        ):
            self.best = path, step


def _fields(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says, but for what is written with the files."""
    return {name: value for name, value in manifest.to_dict().items() if name not in _OF_FILE}
