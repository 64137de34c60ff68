"""Train, evaluate and export, as the command line and the demo do it."""

from __future__ import annotations

import importlib.util
import warnings as python_warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import shortlist
from shortlist.bundle import check_target
from shortlist.bundle.manifest import Manifest
from shortlist.errors import DataError
from shortlist.export.parity import Parity
from shortlist.export.writer import export_bundle
from shortlist.training.cleaning.files import load_configured, save_report
from shortlist.training.cleaning.report import CleaningReport
from shortlist.training.config.settings import Config, apply_overrides, load_config
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation import evaluate
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import EvaluationReport
from shortlist.training.evaluation.plots import plot_history
from shortlist.training.evaluation.report import evaluation_markdown, write_report
from shortlist.training.evaluation.segments import Segment
from shortlist.training.fit.fit import load_run, train
from shortlist.training.fit.second_stage import RerankerReport
from shortlist.training.models.baselines import (
    EASE,
    Baseline,
    ImplicitALS,
    ItemKNN,
    Popularity,
    RecencyItemKNN,
)
from shortlist.training.models.linear import is_closed_form
from shortlist.training.splits.held_out import check_held_out
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import configured_split

__all__ = [
    "DetailedMetrics",
    "ExportedRun",
    "TrainReport",
    "bundle_rankers",
    "evaluate_bundle",
    "evaluate_detailed",
    "evaluate_split",
    "evaluation_markdown",
    "export_run",
    "train_and_export",
    "write_report",
]

MAX_PAIRS = 200_000_000  # of items of one user: ItemKNN holds them all, 16 bytes each


@dataclass(frozen=True)
class TrainReport:
    """What a training gave.

    Attributes
    ----------
    bundle, run : Path
        Where the bundle and the run folder lie.
    cleaning : CleaningReport or None
        What cleaning dropped, as in the run folder's cleaning.json; None where it is off.
    metrics : dict of str to float
        Validation metrics of the best epoch.
    second_stage : RerankerReport or None
        None without one.
    parity : Parity
    warnings : tuple of str
        Reasons to doubt the result, as sentences.
    """

    bundle: Path
    run: Path
    cleaning: CleaningReport | None
    metrics: dict[str, float]
    second_stage: RerankerReport | None
    parity: Parity
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; what there is none of is empty."""
        return {
            "bundle": str(self.bundle),
            "run": str(self.run),
            "cleaning": {} if self.cleaning is None else self.cleaning.to_dict(),
            "metrics": self.metrics,
            "second_stage": {} if self.second_stage is None else self.second_stage.to_dict(),
            "parity": self.parity.to_dict(),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class ExportedRun:
    """Where an exported bundle and its run folder lie, and what the parity gate found."""

    bundle: Path
    run: Path
    parity: Parity

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {"bundle": str(self.bundle), "run": str(self.run), "parity": self.parity.to_dict()}


@dataclass(frozen=True)
class DetailedMetrics:
    """Metrics of one ranker, their 95 % bootstrap intervals, and metrics of segments of users."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    segments: tuple[Segment, ...]


def train_and_export(
    *,
    out: Path,
    preset: str | None = None,
    config_path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    plot: Path | None = None,
    progress: bool = True,
) -> TrainReport:
    """Train on the configured data and write the bundle.

    Parameters
    ----------
    out : Path
        Bundle to write, NAME.shortlist.
    preset, config_path, overrides
        As for `config.load_config`.
    run_dir : Path, optional
        Checkpoints and logs; NAME.run beside the bundle by default.
    resume : bool
        Go on from the run folder's last checkpoint.
    plot : Path, optional
        PNG of loss and NDCG@10 by epoch.
    progress : bool
        Show progress bars.
    """
    check_target(out)  # now, not after the training
    config = load_config(preset, config_path, overrides)
    if not config.data.path:
        raise DataError(
            "data.path: got nothing, expected a data set; give --data, or path = … under [data]"
        )
    if plot is not None and is_closed_form(config):
        raise DataError(
            f"plot: got {str(plot)!r} with model.encoder {config.model.encoder!r}, which is fitted "
            "in one step and has no curve, expected none; leave --plot out"
        )
    dataset, cleaning = load_configured(config, progress=progress)
    _check_can_rank(dataset)
    run = train(
        dataset, config, run_dir or out.with_suffix(".run"), resume=resume, progress=progress
    )
    if cleaning is not None:
        save_report(cleaning, run.run_dir / "cleaning.json")
    if plot is not None:
        plot_history(run.history, plot)
    exported = export_bundle(run, out, store_users=config.export.store_users)
    has_valid = run.split.target_events("valid").height > 0
    return TrainReport(
        bundle=out,
        run=run.run_dir,
        cleaning=cleaning,
        metrics=run.metrics,
        second_stage=run.reranker_report,
        parity=exported.parity,
        warnings=() if has_valid else (_nothing_held_out(run.split),),
    )


def _check_can_rank(dataset: Dataset) -> None:
    n_items = dataset.events["item_id"].n_unique()
    if n_items < 2:
        raise DataError(
            f"data: got {dataset.events.height} event(s) of {n_items} item(s) in {dataset.name}, "
            "expected events of at least 2 items, to rank them; give more events"
        )
    mark = "" if dataset.events["item_id"].dtype == pl.String else -1
    tables = (dataset.events, dataset.items)
    if any(mark in table["item_id"] for table in tables if table is not None):
        raise DataError(
            f"item_id: got {mark!r} in {dataset.name}, which marks missing places in results, "
            "expected another id for this item; rename it in events and items"
        )


def _nothing_held_out(split: Split) -> str:
    why = (
        "no user has 3 events" if split.protocol == "leave-one-out" else "[split] valid is too low"
    )
    return (
        f"no event was held out for validation ({why}; {split.train.height} train events): nothing "
        "was measured, and the last epoch was kept"
    )


def export_run(run_dir: Path, out: Path, *, store_users: bool = True) -> ExportedRun:
    """Export a run folder's best weights to a bundle."""
    check_target(out)
    exported = export_bundle(load_run(run_dir), out, store_users=store_users)
    return ExportedRun(out, run_dir, exported.parity)


def evaluate_split(
    rankers: Mapping[str, evaluate.Ranker],
    split: Split,
    *,
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    baselines: bool = True,
) -> dict[str, dict[str, float]]:
    """Rank the split's users with every ranker, then with the baselines fitted on what is known.

    Baselines see the same events as the histories do: train, and valid when ``on`` is "test", with
    their weights. Those that would need too much memory are left out, with a warning.
    """
    known = split.known_events("valid" if on == "test" else "train")
    everyone = dict(rankers)
    if baselines:
        weights = split.weights(known)
        for name, model in _affordable_baselines(known, split).items():
            everyone[name] = model.fit(known, split.catalogue, weights)
    return {
        name: evaluate.evaluate(ranker, split, on=on, ks=tuple(ks))
        for name, ranker in everyone.items()
    }


def evaluate_detailed(
    ranker: evaluate.Ranker, split: Split, *, on: str = "test", ks: Sequence[int] = (10, 20)
) -> DetailedMetrics:
    """Measure one ranker, also by length of the history and by popularity of the target."""
    lists = evaluate.evaluate_users(ranker, split, on=on, ks=tuple(ks))
    segments = (*lists.by_history_length(), *lists.by_target_popularity())
    return DetailedMetrics(lists.metrics(), lists.intervals(), segments)


def bundle_rankers(name: str, engine: shortlist.Engine, split: Split) -> dict[str, EngineRanker]:
    """Give the rankers of a bundle: as it answers by default, and with one stage if that is 2."""
    rankers = {name: EngineRanker(engine, split)}
    if engine.default_stages == 2:
        rankers[f"{name}, first stage alone"] = EngineRanker(engine, split, stages=1)
    return rankers


def _affordable_baselines(known: pl.DataFrame, split: Split) -> dict[str, Baseline]:
    named: dict[str, Baseline] = {
        "popularity": Popularity(),
        "ItemKNN": ItemKNN(),
        "ItemKNN with recency": RecencyItemKNN(),
        "EASE": EASE(),
    }
    if importlib.util.find_spec("implicit") is not None:  # an optional library
        named["iALS"] = ImplicitALS()
    n_pairs = int((known.group_by("user_id").len()["len"].cast(pl.Int64) ** 2).sum())
    if n_pairs > MAX_PAIRS:
        python_warnings.warn(
            f"ItemKNN left out: {n_pairs:,} pairs of items, more than {MAX_PAIRS:,}", stacklevel=3
        )
        del named["ItemKNN"]
    if len(split.catalogue) > EASE().max_items:
        n_items = len(split.catalogue)
        python_warnings.warn(
            f"EASE left out: {n_items:,} items, more than {EASE().max_items:,}", stacklevel=3
        )
        del named["EASE"]
    return named


def evaluate_bundle(
    bundle: Path,
    *,
    data: str,
    data_format: str = "auto",
    items: Path | None = None,
    users: Path | None = None,
    reading: Mapping[str, object] | None = None,
    protocol: str = "auto",
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    baselines: bool = True,
    progress: bool = True,
) -> EvaluationReport:
    """Evaluate a bundle through `Engine.recommend` on a split of a data set.

    Parameters
    ----------
    bundle : Path
    data, data_format, items, users
        As for `datasets.load_dataset`.
    reading : mapping, optional
        Its options that say how tables are read, as ``columns`` and ``time_unit``.
    protocol : str
        How events are held out; "auto" as the bundle was trained.
    on : {"test", "valid"}
    ks : sequence of int
        Cut-offs of the metrics.
    baselines : bool
        Evaluate the baselines too.
    progress : bool
        Show what is downloaded.

    Returns
    -------
    EvaluationReport
        Of the bundle, with and without its second stage, and of each baseline.

    Raises
    ------
    DataError
        The bundle was trained on events that it would be tested on.
    """
    source = {"path": data, "format": data_format, "items": items, "users": users}
    with shortlist.load(bundle, n_threads=0) as engine:
        training = engine.bundle.manifest.training
        config = _evaluation_config(training, {**source, **(reading or {})}, protocol)
        dataset, _ = load_configured(config, progress=progress)
        split = configured_split(dataset, config)
        warnings = [
            _missing_user_features(engine.bundle.manifest, dataset),
            check_held_out(training, split, on),
            _second_stage_has_seen(engine, on),
        ]
        rankers = bundle_rankers(bundle.name, engine, split)
        detailed = evaluate_detailed(rankers.pop(bundle.name), split, on=on, ks=ks)
        metrics = {bundle.name: detailed.metrics}
        metrics |= evaluate_split(rankers, split, on=on, ks=ks, baselines=baselines)
    return EvaluationReport(
        dataset=dataset.name,
        protocol=split.protocol,
        on=on,
        n_users=len(split.targets(on)),
        n_items=len(split.catalogue),
        metrics=metrics,
        intervals=detailed.intervals,
        segments=detailed.segments,
        warnings=tuple(warning for warning in warnings if warning),
    )


def _evaluation_config(
    training: Mapping[str, Any], source: Mapping[str, object], protocol: str
) -> Config:
    """Give the settings that say what is evaluated.

    Events are cleaned, weighted and held out as in training: otherwise the test would hold events
    it was trained on.
    """
    named = {
        f"data.{name}": str(value) if isinstance(value, Path) else value
        for name, value in source.items()
        if value is not None
    }
    config = apply_overrides(_trained_config(training), named)
    return config if protocol == "auto" else apply_overrides(config, {"split.protocol": protocol})


def _missing_user_features(manifest: Manifest, dataset: Dataset) -> str | None:
    wanted = [feature.name for feature in manifest.features_of("user")]
    has = [] if dataset.users is None else dataset.users.columns
    missing = [name for name in wanted if name not in has]
    if not missing:
        return None
    return (
        f"the bundle was trained with user features {missing}, which the data lacks "
        f"({'no user table' if dataset.users is None else f'it has {has}'}): ranked without them, "
        "so its metrics are too low; give --users"
    )


def _second_stage_has_seen(engine: shortlist.Engine, on: str) -> str | None:
    second = engine.bundle.manifest.second_stage
    is_fitted = second is not None and second.measured.get("kind") != "followers"
    if on != "valid" or engine.default_stages == 1 or not is_fitted:
        return None
    return (
        "the second stage was trained on the validation events, so its metrics here are too good; "
        "the manifest has cross-fitted ones"
    )


def _trained_config(training: Mapping[str, Any]) -> Config:
    """Read the settings that say what the events of a bundle's training were."""
    tree = training.get("config", {})
    sections = {name: tree.get(name, {}) for name in ("cleaning", "events", "split")}
    # The manifest is JSON, which has no infinity: a limit of null is none.
    known = {f"{s}.{k}": v for s, entry in sections.items() for k, v in entry.items()}
    # Columns that were declared are read, whatever they are called.
    declared = tree.get("data", {}).get("features", {})
    known["data.features"] = dict.fromkeys(declared, "ignore")
    return apply_overrides(Config(), {k: v for k, v in known.items() if v is not None})
