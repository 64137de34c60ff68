"""Train and export, as the command line and the demo do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shortlist.bundle import check_target
from shortlist.errors import DataError
from shortlist.export.parity import Parity
from shortlist.export.writer import export_bundle
from shortlist.training.cleaning.files import load_configured, save_report
from shortlist.training.cleaning.report import CleaningReport
from shortlist.training.config.settings import load_config
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.counts import UserCounts
from shortlist.training.evaluation.plots import plot_history
from shortlist.training.evaluation.verdict import Verdict
from shortlist.training.fit.fit import load_run, train
from shortlist.training.fit.second_stage import RerankerReport
from shortlist.training.models.linear import is_closed_form
from shortlist.training.pipeline.evaluation import judge_run
from shortlist.training.splits.parts import Split

__all__ = ["ExportedRun", "TrainReport", "export_run", "train_and_export"]


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
    verdict : Verdict
        Whether the encoders are better than quick baselines on validation.
    users : UserCounts or None
        The validation users that the metrics are of; None where nothing was held out.
    warnings : tuple of str
        Reasons to doubt the result, as sentences.
    """

    bundle: Path
    run: Path
    cleaning: CleaningReport | None
    metrics: dict[str, float]
    second_stage: RerankerReport | None
    parity: Parity
    verdict: Verdict
    users: UserCounts | None = None
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
            "verdict": self.verdict.to_dict(),
            "n_users": 0 if self.users is None else self.users.measured,
            "left_out": {} if self.users is None else self.users.left_out(),
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
    verdict, users = judge_run(run)
    return TrainReport(
        bundle=out,
        run=run.run_dir,
        cleaning=cleaning,
        metrics=run.metrics,
        second_stage=run.reranker_report,
        parity=exported.parity,
        verdict=verdict,
        users=users,
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
