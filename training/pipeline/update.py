"""`shortlist update`: new events of a feedback log into a new version of a bundle.

In this order: find the run folder, read what is new, measure drift, go on from the trained weights
(`warm_start`), export, compare with the present bundle on the newest events (`gate`), replace it.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import shortlist
from shortlist.bundle import Bundle, check_target
from shortlist.errors import DataError, ShortlistError
from shortlist.export.lineage import save_parent
from shortlist.export.writer import export_bundle
from shortlist.training.config.settings import Config, SplitConfig, apply_overrides, read_config
from shortlist.training.data.entities import read_items, read_users
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.next_events import NextEvents
from shortlist.training.fit.fit import TrainedModel, load_run, set_threads
from shortlist.training.fit.warm_start import go_on
from shortlist.training.splits.held_out import fingerprint
from shortlist.training.splits.leakage import mark_new
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import configured_split
from shortlist.training.updates.drift import measure_drift, open_log, run_of
from shortlist.training.updates.gate import compare, segments_of
from shortlist.training.updates.new_events import add_events, new_events, with_skips
from shortlist.versions import (
    KEPT,
    history,
    promote,
    prune,
    updating,
    versions_folder,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shortlist.bundle.manifest import Manifest
    from shortlist.training.data.events import Dataset

__all__ = ["DriftError", "update_bundle"]

MAY_CHANGE = ("update.", "export.", "train.n_threads", "train.batch_size")


class DriftError(ShortlistError):
    """The new events are too unlike those of the training: a warm start may not be enough."""


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
) -> dict[str, Any]:
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
        Settings that may change: those of ``[update]`` and ``[export]``, ``train.n_threads`` and
        ``train.batch_size``.
    ignore_drift, ignore_gate : bool
        Go on in spite of alarms; replace in spite of the gate.
    keep : int
        So many of the newest other versions stay beside the champion, see `versions.prune`; with
        `out` none is removed.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        ``bundle`` (where the new one lies), ``version``, ``parent``, ``run``, ``is_champion``,
        ``previous`` (where the replaced one lies), ``n_events`` (new ones), ``n_trained``,
        ``n_held_out``, ``n_new_items``, ``n_new_users``, ``removed`` (old versions),
        ``not_removed`` (why old ones could not be), ``seconds`` (by step), ``drift`` and ``gate``.

    Raises
    ------
    DataError
        No run folder or another bundle's, no new event, other columns or ids than in training, a
        setting that needs a full training.
    DriftError
        Drift passes a threshold of ``[update]``.
    ShortlistError
        Another update of the bundle is at work.
    """
    if keep < 1:
        raise DataError(f"--keep: got {keep}, expected at least 1 version beside the champion")
    check_settings(overrides or {})
    train_and_judge = functools.partial(
        _train_and_judge,
        bundle,
        feedback=feedback,
        run_dir=run_dir,
        items=items,
        users=users,
        overrides=overrides or {},
        ignore_drift=ignore_drift,
        ignore_gate=ignore_gate,
        progress=progress,
    )
    if out is not None:
        check_target(out)
        new_run = out.with_suffix(".run")
        if new_run.exists():
            raise DataError(f"--out: {new_run} exists, expected a free place for the run folder")
        return train_and_judge(out, new_run, replaces=False) | {"removed": [], "not_removed": None}
    folder = versions_folder(bundle)
    with updating(bundle) as name:
        place, new_run = folder / f"new-{name}.shortlist", folder / f"{name}.run"
        return train_and_judge(place, new_run, replaces=True) | _prune(bundle, keep)


def _train_and_judge(
    bundle: Path,
    place: Path,
    new_run: Path,
    *,
    replaces: bool,
    feedback: str | Path,
    run_dir: Path | None,
    items: Path | None,
    users: Path | None,
    overrides: Mapping[str, object],
    ignore_drift: bool,
    ignore_gate: bool,
    progress: bool,
) -> dict[str, Any]:
    clock = _Clock()
    with Bundle.open(bundle) as opened:
        manifest = opened.manifest
    folder = run_of(bundle, manifest, run_dir)
    config = apply_overrides(read_config(folder / "config.toml"), overrides)
    set_threads(config.train.n_threads)  # before TensorFlow's first use
    with open_log(feedback) as log:
        old = load_run(folder)
        _check_same_run(old, manifest, folder)
        before = old.split.dataset
        arrived = new_events(log, before, config)
        n_logged, log_path = len(log), log.path
    if arrived.height == 0:
        raise DataError(
            f"feedback: got {n_logged:,} rows in {log_path}, none of which is an event that the "
            "training did not have, expected new ones; nothing to do until more come"
        )
    config = with_skips(config, arrived)
    known = with_tables(add_events(before, arrived), items, users)
    clock.lap("reading")
    with shortlist.load(bundle, n_threads=config.train.n_threads) as engine:
        told = dataclasses.replace(old.split, dataset=with_tables(before, items, users))
        drift = measure_drift(engine, told, old.features, arrived, config.update)
    if drift["alarms"] and not ignore_drift:
        raise DriftError(
            f"drift: {'; '.join(drift['alarms'])}. Fix: train again on all events, or go on with "
            "--ignore-drift"
        )
    clock.lap("drift")
    if replaces and not (overrides or ignore_gate):
        _check_not_tried(bundle, manifest, known)
    config = dataclasses.replace(config, split=hold_out(config, arrived, known))
    judged = old.scorer_report
    if config.scorer.kind == judged.get("kind") == "followers" and not judged["is_kept"]:
        config = apply_overrides(config, {"scorer.enabled": False})  # it did not help in training
    split = configured_split(known, config)
    is_trained = mark_new(split.train, before.events)
    if not is_trained.any():
        raise DataError(
            f"feedback: all {arrived.height:,} new events are of one time, so that none is left to "
            "train on when the newest are held out; log times to the second, or wait for more"
        )
    try:
        run = go_on(old, split, config, new_run, progress=progress)
        clock.lap("training")
        save_parent(new_run, manifest)
        stores_users = bool(manifest.n_users) and config.export.store_users
        export_bundle(run, place, store_users=stores_users)
    except BaseException:
        shutil.rmtree(new_run, ignore_errors=True)  # it is new, and of no use without its bundle
        raise
    clock.lap("export")
    held_out = split.test.filter(mark_new(split.test, before.events))
    gate = judge(bundle, place, old, split, held_out, config)
    clock.lap("gate")
    with Bundle.open(place, verify=False) as opened:
        version = opened.manifest.version
    is_champion, previous = False, None
    if replaces:
        kept = place.with_name(f"{version}.shortlist")
        place.rename(kept)
        place = kept
        if gate["is_passed"] or ignore_gate:
            previous = _replace(bundle, place, manifest.version)
            is_champion, place = True, bundle
    return {
        "bundle": str(place),
        "version": version,
        "parent": manifest.version,
        "run": str(new_run),
        "is_champion": is_champion,
        "previous": None if previous is None else str(previous),
        "n_events": arrived.height,
        "n_trained": int(is_trained.sum()),
        "n_freed": int(mark_new(split.train, old.split.train).sum() - is_trained.sum()),
        "n_held_out": held_out.height,
        **_n_new(before, arrived),
        "seconds": clock.laps | {"total": clock.total()},
        "drift": drift,
        "gate": gate,
    }


def check_settings(overrides: Mapping[str, object]) -> None:
    """Refuse settings that shape the model or its features: a warm start keeps those."""
    for key in overrides:
        if not key.startswith(MAY_CHANGE):
            raise DataError(
                f"{key}: cannot change in an update, which goes on from trained weights; expected "
                "settings of [update] or [export], train.n_threads or train.batch_size. Fix: leave "
                "it out, or train again with `shortlist train`"
            )


def with_tables(dataset: Dataset, items: Path | None, users: Path | None) -> Dataset:
    """Put rows of new item and user tables into a dataset's; a known id's row is replaced.

    Raises
    ------
    DataError
        A table lacks a column that the dataset's has, or it is of another type.
    """
    replaced: dict[str, Any] = {}
    for name, path, read in (("items", items, read_items), ("users", users, read_users)):
        if path is not None:
            replaced[name] = _merged(getattr(dataset, name), read(path), name)
    return dataclasses.replace(dataset, **replaced)


def _merged(old: pl.DataFrame | None, new: pl.DataFrame, name: str) -> pl.DataFrame:
    if old is None:
        raise DataError(
            f"--{name}: got a table, but the bundle was trained without one; its features cannot "
            "be added in an update. Fix: leave it out, or train again"
        )
    for column, dtype in old.schema.items():
        if column not in new.columns:
            raise DataError(
                f"--{name}: no column {column!r}, expected those of the training: "
                f"{', '.join(old.columns)}; add it (empty cells are allowed), or train again"
            )
        if new[column].null_count() < new.height and not _fits(new.schema[column], dtype):
            raise DataError(
                f"--{name}: column {column!r} is {new.schema[column]}, expected {dtype} as in "
                "training; convert it, or train again with the new declaration"
            )
    key = old.columns[0] if old.columns[0].endswith("_id") else f"{name[:-1]}_id"
    rows = new.select(pl.col(column).cast(dtype) for column, dtype in old.schema.items())
    others = old.filter(~pl.col(key).is_in(rows[key].implode()))
    return pl.concat([others, rows])


def _fits(new: pl.DataType, old: pl.DataType) -> bool:
    return new == old or (new.is_numeric() and old.is_numeric())


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
    return SplitConfig(
        "temporal", valid=n_valid / len(everything), test=(n_test - 0.5) / len(everything)
    )


def judge(
    champion: Path,
    challenger: Path,
    old: TrainedModel,
    split: Split,
    targets: pl.DataFrame,
    config: Config,
) -> dict[str, Any]:
    """Compare two bundles on held-out events of the split's test part; see `gate.compare`."""
    asked = NextEvents.of(split, split.known_events("valid"), targets, config.events)
    segments = segments_of(asked, old.split)
    threads = config.train.n_threads
    with (
        shortlist.load(champion, n_threads=threads) as first,
        shortlist.load(challenger, n_threads=threads) as second,
    ):
        rankers = [EngineRanker(engine, split) for engine in (first, second)]
        return compare(rankers[0], rankers[1], asked, segments, config.update)


def _check_same_run(run: TrainedModel, manifest: Manifest, folder: Path) -> None:
    told = manifest.training_section("data").get("train_sha256")
    if told is None:
        raise DataError(
            "bundle: its manifest does not say which events it was trained on, expected a bundle "
            f"that does. Fix: export it again with `shortlist export {folder}`"
        )
    if told != fingerprint(run.split.train):
        raise DataError(
            f"run folder: {folder} was trained on other events than the bundle, expected the run "
            "that the bundle was exported from; give it with --run, or export it again if a user "
            "was erased from it"
        )


def _check_not_tried(bundle: Path, manifest: Manifest, known: Dataset) -> None:
    """Refuse to train once more what the gate refused, or what was rolled back."""
    sha256 = fingerprint(known.events)
    for row in history(bundle):
        is_same = row.get("data", {}).get("sha256") == sha256
        if is_same and row["state"] == "other" and row["parent"] == manifest.version:
            raise DataError(
                f"feedback: version {row['version']} was trained from this one on the very same "
                "events, and refused or rolled back; nothing to do until more come. To have it "
                f"after all: shortlist rollback {bundle} --to {row['version']}; to train with "
                "other settings: --set"
            )


def _prune(bundle: Path, keep: int) -> dict[str, Any]:
    """Remove old versions; that one cannot be removed undoes nothing of an update."""
    try:
        return {"removed": prune(bundle, keep), "not_removed": None}
    except OSError as error:
        return {"removed": [], "not_removed": str(error)}


def _replace(bundle: Path, challenger: Path, parent: str) -> Path:
    with Bundle.open(bundle, verify=False) as opened:
        present = opened.manifest.version
    if present != parent:
        raise ShortlistError(
            f"{bundle}: another version ({present}) came there while this one was trained from "
            f"{parent}; the new bundle was left at {challenger}. Fix: update again"
        )
    return promote(challenger, bundle)


def _n_new(before: Dataset, arrived: pl.DataFrame) -> dict[str, int]:
    counts = {}
    for name, table in (("item", before.items), ("user", before.users)):
        key = f"{name}_id"
        known = [before.events[key], *([table[key]] if table is not None else [])]
        ids = arrived[key].unique()
        counts[f"n_new_{name}s"] = int((~ids.is_in(pl.concat(known).implode())).sum())
    return counts


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
