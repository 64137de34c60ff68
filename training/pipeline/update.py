"""`shortlist update`: new events of a feedback log into a new version of a bundle.

In this order: find the run folder, read what is new, measure drift, go on from the trained weights
(`warm_start`), export, compare with the present bundle on the newest events (`gate`), replace it.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
import warnings as python_warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import shortlist
from shortlist.bundle import Bundle, check_target
from shortlist.errors import DataError, ShortlistError
from shortlist.export.lineage import save_parent
from shortlist.export.writer import export_bundle
from shortlist.training.config.sections import Config, SplitConfig
from shortlist.training.config.settings import apply_overrides, read_config
from shortlist.training.data.reading import Reading
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.next_events import NextEvents
from shortlist.training.fit.fit import TrainedModel, load_run, set_threads
from shortlist.training.fit.warm_start import go_on
from shortlist.training.splits.held_out import fingerprint
from shortlist.training.splits.leakage import mark_new
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import configured_split
from shortlist.training.updates.drift import measure_drift, open_log, run_of
from shortlist.training.updates.gate import GateReport, compare, segments_of
from shortlist.training.updates.new_events import add_events, new_events, with_skips
from shortlist.training.updates.report import UpdateReport
from shortlist.training.updates.tables import check_names, holds_tables, with_tables
from shortlist.versions import (
    KEPT,
    history,
    note_refusal,
    promote,
    prune,
    updating,
    versions_folder,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from shortlist.bundle.manifest import Manifest
    from shortlist.training.data.events import Dataset
    from shortlist.training.updates.drift import DriftReport

__all__ = ["DriftError", "RefusedError", "UpdateRequest", "update_bundle"]

_READING = ("data.item_columns", "data.user_columns", "data.lists", "data.ignore")
MAY_CHANGE = ("update.", "export.", "train.n_threads", "train.batch_size", *_READING)


_IN_LINE = ("champion", "ancestor")  # states of versions that serve or served
# Settings that judge a new bundle and do not change it.
JUDGING = ("update.max_", "update.min_", "update.tolerance")


class DriftError(ShortlistError):
    """The new events are too unlike those of the training: a warm start may not be enough.

    Attributes
    ----------
    report : DriftReport
    """

    def __init__(self, message: str, report: DriftReport) -> None:
        super().__init__(message)
        self.report = report


class RefusedError(ShortlistError):
    """There is a version of the very same data already: refused, or rolled back."""


@dataclass(frozen=True)
class UpdateRequest:
    """What an update is asked for: the arguments of `update_bundle` that do not say where to."""

    bundle: Path
    feedback: str | Path
    run_dir: Path | None
    items: Path | None
    users: Path | None
    overrides: Mapping[str, object]
    ignore_drift: bool
    ignore_gate: bool
    progress: bool


@dataclass(frozen=True)
class _Champion:
    """The bundle that serves, the run it came from, and the settings of its update."""

    manifest: Manifest
    run: TrainedModel
    config: Config


@dataclass(frozen=True)
class _Plan:
    """What the challenger is trained on and judged by.

    Attributes
    ----------
    config : Config
    split : Split
        Of old and new events together.
    is_trained : ndarray of shape (n_train,), bool
        The new events of the train part.
    held_out : polars.DataFrame
        The new events of the test part.
    """

    config: Config
    split: Split
    is_trained: NDArray[np.bool_]
    held_out: pl.DataFrame


def update_bundle(
    bundle: Path,
    *,
    feedback: str | Path,
    out: Path | None = None,
    run_dir: Path | None = None,
    items: Path | None = None,
    users: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    ignore_drift: bool = False,
    ignore_gate: bool = False,
    keep: int = KEPT,
    progress: bool = True,
) -> UpdateReport:
    """Train a bundle on the new events of a feedback log, and replace it if it is not worse.

    Parameters
    ----------
    bundle : Path
        The champion, a folder or a zip.
    feedback : str or Path
        The feedback log: a file or a database URL.
    out : Path, optional
        Write the new bundle there (its run folder beside it) and leave the champion as it is.
    run_dir : Path, optional
        Run folder of the champion; the one beside it by default.
    items, users : Path, optional
        Tables of new items or users; a row of a known one replaces it.
    overrides : mapping, optional
        Settings that may change: those of ``[update]`` and ``[export]``, ``train.n_threads``,
        ``train.batch_size``, and of ``[data]`` how the new tables are read: ``item_columns``,
        ``user_columns``, ``lists`` and ``ignore``.
    ignore_drift, ignore_gate : bool
        Go on in spite of alarms; replace in spite of the gate. A version that the gate refused
        before, of the same events, tables and settings, is then taken as it is.
    keep : int
        So many of the newest other versions stay beside the champion, see `versions.prune`; with
        `out` none is removed.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError
        No run folder or another bundle's, no new event, other columns or ids than in training, a
        setting that needs a full training.
    DriftError
        Drift passes a threshold of ``[update]``.
    RefusedError
        A version of the same data was refused or rolled back, and nothing else is new.
    ShortlistError
        Another update of the bundle is at work.
    """
    if keep < 1:
        raise DataError(f"--keep: got {keep}, expected at least 1 version beside the champion")
    request = UpdateRequest(
        bundle=bundle,
        feedback=feedback,
        run_dir=run_dir,
        items=items,
        users=users,
        overrides=overrides or {},
        ignore_drift=ignore_drift,
        ignore_gate=ignore_gate,
        progress=progress,
    )
    check_settings(request.overrides)
    check_names(request.overrides, {"item": items, "user": users})
    if out is not None:
        check_target(out)
        new_run = out.with_suffix(".run")
        if new_run.exists():
            raise DataError(f"--out: {new_run} exists, expected a free place for the run folder")
        return _update(request, out, new_run, replaces=False)
    folder = versions_folder(bundle)
    with updating(bundle) as name:
        path, new_run = folder / f"new-{name}.shortlist", folder / f"{name}.run"
        report = _update(request, path, new_run, replaces=True)
        return _pruned(report, bundle, keep)


def _update(request: UpdateRequest, path: Path, new_run: Path, *, replaces: bool) -> UpdateReport:
    """Read, measure drift, train, export to a path, judge, and replace the champion if asked to."""
    clock = _Clock()
    champion, completed, arrived = _read(request)
    before, parent = champion.run.split.dataset, champion.manifest.version
    clock.lap("reading")
    drift = _checked_drift(request, champion, completed, arrived)
    clock.lap("drift")
    known = add_events(completed, arrived)
    plan = _plan(champion, arrived, known)
    tried = _tried(request, champion.manifest, known) if replaces else None
    if tried is None:
        _train_and_export(champion, plan, path, new_run, clock, progress=request.progress)
    else:
        path, new_run = Path(tried["path"]), path.parent / str(tried["run"])
    gate = judge(request.bundle, path, champion.run, plan.split, plan.held_out, plan.config)
    clock.lap("gate")
    with Bundle.open(path, verify=False) as opened:
        version = opened.manifest.version
    previous = None
    if replaces:
        if tried is None:
            path = path.rename(path.with_name(f"{version}.shortlist"))
        if gate.is_passed or request.ignore_gate:
            previous, path = _replace(request.bundle, path, parent), request.bundle
        else:
            note_refusal(request.bundle, version, gate.reasons)
    n_trained = int(plan.is_trained.sum())
    n_unseen = int(mark_new(plan.split.train, champion.run.split.train).sum())
    return UpdateReport(
        bundle=path,
        version=version,
        parent=parent,
        run=new_run,
        is_champion=previous is not None,
        is_refused=not (gate.is_passed or request.ignore_gate),
        is_taken_as_it_was=tried is not None,
        previous=previous,
        n_events=arrived.height,
        n_trained=n_trained,
        n_freed=n_unseen - n_trained,
        n_held_out=plan.held_out.height,
        n_new_items=_n_new("item_id", arrived, before.events, before.items),
        n_new_users=_n_new("user_id", arrived, before.events, before.users),
        seconds=clock.laps | {"total": clock.total()},
        drift=drift,
        gate=gate,
    )


def _read(request: UpdateRequest) -> tuple[_Champion, Dataset, pl.DataFrame]:
    """Find the champion's run, complete its tables, and read the log's events that are new."""
    bundle = request.bundle
    with Bundle.open(bundle) as opened:
        manifest = opened.manifest
    if manifest.privacy is not None:
        raise DataError(
            f"bundle: got {bundle}, which is private, expected one that keeps its events: new "
            "events of the same users cost privacy again, and only a new release accounts for it. "
            f"Fix: `shortlist train` on all events with --set privacy.parent={bundle} and a "
            "privacy.budget"
        )
    folder = run_of(bundle, manifest, request.run_dir)
    config = apply_overrides(read_config(folder / "config.toml"), request.overrides)
    set_threads(config.train.n_threads)  # before TensorFlow's first use
    with open_log(request.feedback) as log:
        run = load_run(folder)
        _check_same_run(run, manifest, folder)
        completed = _completed(request, run.split.dataset, config)
        arrived = new_events(log, completed, config)
        n_logged, log_path = len(log), log.path
    if arrived.height == 0:
        raise DataError(
            f"feedback: got {n_logged:,} rows in {log_path}, none of which is an event that the "
            "training did not have, expected new ones; nothing to do until more come"
        )
    return _Champion(manifest, run, with_skips(config, arrived)), completed, arrived


def _completed(request: UpdateRequest, before: Dataset, config: Config) -> Dataset:
    """Put the rows of the given tables into the dataset of the training."""
    with python_warnings.catch_warnings():
        if not any(key.startswith("data.ignore") for key in request.overrides):
            # Columns that the training left out need not be in a table of new rows.
            python_warnings.filterwarnings("ignore", ".*: ignore names")
        return with_tables(before, request.items, request.users, Reading.of(config.data))


def _checked_drift(
    request: UpdateRequest, champion: _Champion, completed: Dataset, arrived: pl.DataFrame
) -> DriftReport:
    """Measure the drift; alarms end the update, unless they are to be ignored."""
    run, config = champion.run, champion.config
    split = dataclasses.replace(run.split, dataset=completed)
    with shortlist.load(request.bundle, n_threads=config.train.n_threads) as engine:
        drift = measure_drift(engine, split, run.features, arrived, config)
    if drift.alarms and not request.ignore_drift:
        raise DriftError(
            f"drift: {'; '.join(drift.alarms)}. Fix: train again on all events, or go on with "
            "--ignore-drift",
            drift,
        )
    return drift


def _plan(champion: _Champion, arrived: pl.DataFrame, known: Dataset) -> _Plan:
    """Hold the newest events out, and leave a second stage out that did not help in training."""
    config = dataclasses.replace(champion.config, split=hold_out(champion.config, arrived, known))
    judged = champion.run.reranker_report
    is_useless = judged is not None and judged.kind == "followers" and not judged.is_kept
    if is_useless and config.scorer.kind == "followers":
        config = apply_overrides(config, {"scorer.enabled": False})
    split = configured_split(known, config)
    before = champion.run.split.dataset.events
    is_trained = mark_new(split.train, before)
    if not is_trained.any():
        raise DataError(
            f"feedback: all {arrived.height:,} new events are of one time, so that none is left to "
            "train on when the newest are held out; log times to the second, or wait for more"
        )
    return _Plan(config, split, is_trained, split.test.filter(mark_new(split.test, before)))


def _train_and_export(
    champion: _Champion, plan: _Plan, path: Path, new_run: Path, clock: _Clock, *, progress: bool
) -> None:
    """Go on from the champion's weights and write the new bundle."""
    manifest = champion.manifest
    try:
        run = go_on(champion.run, plan.split, plan.config, new_run, progress=progress)
        clock.lap("training")
        save_parent(new_run, manifest)
        stores_users = bool(manifest.n_users) and plan.config.export.store_users
        export_bundle(run, path, store_users=stores_users)
    except BaseException:
        shutil.rmtree(new_run, ignore_errors=True)  # it is new, and of no use without its bundle
        raise
    clock.lap("export")


def check_settings(overrides: Mapping[str, object]) -> None:
    """Refuse settings that shape the model or its features: a warm start keeps those."""
    for key in overrides:
        if not key.startswith(MAY_CHANGE):
            raise DataError(
                f"{key}: cannot change in an update, which goes on from trained weights; expected "
                f"settings of [update] or [export], or {', '.join(MAY_CHANGE[2:])}. Fix: leave it "
                "out, or train again with `shortlist train`"
            )


def hold_out(config: Config, arrived: pl.DataFrame, known: Dataset) -> SplitConfig:
    """Return a split by time that tests on the newest ``update.holdout`` of the new events.

    As many new events before them validate where there is a DNN scorer, which is trained on those.
    Shares are of all events, for where new ones are older than some the training had.
    """
    holdout = config.update.holdout
    times = arrived["timestamp"].sort()
    everything = known.events["timestamp"]

    def n_since(share: float) -> int:
        return int((everything >= times[int(len(times) * (1 - share))]).sum())

    n_test = n_since(holdout)
    has_dnn = config.scorer.enabled and config.scorer.kind == "dnn"
    n_valid = n_since(2 * holdout) - n_test if has_dnn else 0
    # Half an event less, so that no rounding moves the cut to the event before.
    return dataclasses.replace(
        config.split,
        protocol="temporal",
        valid=n_valid / len(everything),
        test=(n_test - 0.5) / len(everything),
    )


def judge(
    champion: Path,
    challenger: Path,
    old: TrainedModel,
    split: Split,
    targets: pl.DataFrame,
    config: Config,
) -> GateReport:
    """Compare two bundles on held-out events of the split's test part; see `gate.compare`."""
    known, include_seen = split.known_events("valid"), config.split.include_seen
    events = NextEvents.of(split, known, targets, config.events, include_seen=include_seen)
    segments = segments_of(events, old.split)
    threads = config.train.n_threads
    with (
        shortlist.load(champion, n_threads=threads) as first,
        shortlist.load(challenger, n_threads=threads) as second,
    ):
        rankers = [EngineRanker(engine, split) for engine in (first, second)]
        return compare(rankers[0], rankers[1], events, segments, config.update)


def _check_same_run(run: TrainedModel, manifest: Manifest, folder: Path) -> None:
    sha256 = manifest.training_section("data").get("train_sha256")
    if sha256 is None:
        raise DataError(
            "bundle: its manifest does not say which events it was trained on, expected a bundle "
            f"that does. Fix: export it again with `shortlist export {folder}`"
        )
    if sha256 != fingerprint(run.split.train):
        raise DataError(
            f"run folder: {folder} was trained on other events than the bundle, expected the run "
            "that the bundle was exported from; give it with --run, or export it again if a user "
            "was erased from it"
        )


def _tried(request: UpdateRequest, manifest: Manifest, known: Dataset) -> Mapping[str, Any] | None:
    """Find the version that was trained from this one on the same data, to take it as it is.

    None where there is none, or where settings of the training change. The data are the events and
    the tables that are given now.

    Raises
    ------
    RefusedError
        It was refused and is to be judged as before, or it was rolled back.
    """
    if any(not key.startswith(JUDGING) for key in request.overrides):
        return None
    sha256 = fingerprint(known.events)
    given = [name for name in ("items", "users") if getattr(request, name) is not None]
    for row in history(request.bundle):
        is_same = row.get("data", {}).get("sha256") == sha256
        if not is_same or row["parent"] != manifest.version or row["state"] in _IN_LINE:
            continue
        if not holds_tables(Path(row["path"]).parent / str(row["run"]), known, given):
            continue
        is_judged_anew = bool(request.overrides) and row["state"] == "refused"
        if request.ignore_gate or is_judged_anew:
            return row
        fate = "refused or rolled back" if row["state"] == "other" else row["state"]
        raise RefusedError(
            f"version {row['version']} was already trained on these events and {fate}. Wait for "
            f"new events, or take {row['version']} with --ignore-gate. To train with other "
            "settings: --set"
        )
    return None


def _pruned(report: UpdateReport, bundle: Path, keep: int) -> UpdateReport:
    """Remove old versions; that one cannot be removed undoes nothing of an update."""
    try:
        return dataclasses.replace(report, removed=tuple(prune(bundle, keep)))
    except OSError as error:
        return dataclasses.replace(report, not_removed=str(error))


def _replace(bundle: Path, challenger: Path, parent: str) -> Path:
    with Bundle.open(bundle, verify=False) as opened:
        present = opened.manifest.version
    if present != parent:
        raise ShortlistError(
            f"{bundle}: another version ({present}) came there while this one was trained from "
            f"{parent}; the new bundle was left at {challenger}. Fix: update again"
        )
    return promote(challenger, bundle)


def _n_new(
    key: str, arrived: pl.DataFrame, events: pl.DataFrame, table: pl.DataFrame | None
) -> int:
    """Count the ids of new events that neither earlier ones nor the table had."""
    known = [events[key], *([table[key]] if table is not None else [])]
    return int((~arrived[key].unique().is_in(pl.concat(known).implode())).sum())


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = round(now - self._last, 2), now

    def total(self) -> float:
        return round(time.perf_counter() - self._started, 2)
