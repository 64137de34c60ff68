"""Train on tables and export a bundle, as the command line and `shortlist.training.train` do it.

What is cheap comes first: names and folders are checked before tables are read, and tables are read
and understood before TensorFlow is imported.
"""

from __future__ import annotations

import logging
import warnings as python_warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from shortlist._quiet import quiet_start
from shortlist.bundle import check_target
from shortlist.errors import DataError
from shortlist.training.cleaning.files import Frames, load_configured, save_report
from shortlist.training.config.environment import require_tensorflow
from shortlist.training.config.sections import CLOSED_FORM, Config
from shortlist.training.config.settings import (
    apply_overrides,
    given_settings,
    leaves_open,
    load_config,
)
from shortlist.training.data.counted import counted
from shortlist.training.data.datasets import DATASETS
from shortlist.training.data.events import Dataset
from shortlist.training.data.summary import EventSummary, summarise_events
from shortlist.training.data.tables import log
from shortlist.training.features.features import FeatureSet
from shortlist.training.federated.settings import check_alone
from shortlist.training.fit import checkpoint
from shortlist.training.pipeline.choice import load_choice
from shortlist.training.pipeline.train_report import FEW_USERS, TrainReport, Validation
from shortlist.training.privacy.accounting import accountant
from shortlist.training.privacy.settings import check_unused, is_private, private_config
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    from shortlist.training.cleaning.report import CleaningReport
    from shortlist.training.data.tables import TableSource

__all__ = ["TrainReport", "train", "train_and_export"]


@dataclass(frozen=True)
class _Understood:
    """The data as it was read, before any training."""

    dataset: Dataset
    cleaning: CleaningReport | None
    split: Split
    events: EventSummary


def train(
    events: TableSource,
    items: TableSource | None = None,
    users: TableSource | None = None,
    *,
    out: str | Path,
    preset: str | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainReport:
    """Train on tables and write a bundle, as `shortlist train` does.

    Parameters
    ----------
    events : path or frame
        The name of a data set, a file or folder, or a polars, pandas or pyarrow table with the
        columns ``user_id``, ``item_id``, ``timestamp`` and, if there are any, ``kind`` and
        ``value``.
    items, users : path or frame, optional
        Tables with a column ``item_id`` or ``user_id``; their other columns become features.
    out : path
        Bundle to write, NAME.shortlist.
    preset : str, optional
        "fast", "balanced" (the default) or "best": models are tried on what is held out for
        validation, and the best one is trained; or another of `config.presets`.
    config : path, optional
        TOML file of settings, in place of a preset.
    settings : mapping, optional
        Single settings over these, such as ``{"choice.minutes": 10}`` or
        ``{"data.columns.user_id": "customer"}``. Nothing is chosen where one of them, or the
        file, says what is trained: ``{"model.encoder": "gru"}`` or ``{"train.epochs": 5}``.
    run_dir : path, optional
        Checkpoints and logs; NAME.run beside the bundle by default.
    resume : bool
        Go on from the last checkpoint of the run folder.
    overwrite : bool
        Delete the run that the run folder holds.
    progress : bool
        Show progress bars, and what was understood of the tables, on standard error. In a notebook
        with ipywidgets the bars are widgets.

    Returns
    -------
    TrainReport
        Printed, it shows the results beside baselines; ``load()`` opens the bundle.

    Raises
    ------
    DataError
        A table, a setting or the run folder is not as expected; the message says how.
    ExportError
        The bundle would not answer as the model does; nothing is written.

    Warns
    -----
    UserWarning
        A reason to doubt the results, such as too few users to measure.
    """
    tables = {"events": events, "items": items, "users": users}
    keys = {"events": "data.path", "items": "data.items", "users": "data.users"}
    is_path = {name: isinstance(table, str | Path) for name, table in tables.items()}
    paths = {keys[name]: str(table) for name, table in tables.items() if is_path[name]}
    frames = {name: None if is_path[name] else table for name, table in tables.items()}
    with _said(progress):
        report = train_and_export(
            out=Path(out),
            preset=preset,
            config_path=None if config is None else Path(config),
            overrides={**paths, **(settings or {})},
            frames=Frames(**frames),
            run_dir=None if run_dir is None else Path(run_dir),
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    for warning in report.warnings:
        python_warnings.warn(warning, stacklevel=2)
    return report


@contextmanager
def _said(is_shown: bool) -> Iterator[None]:
    """Show what is said about the tables, unless the program shows it already."""
    if not is_shown or log.handlers:
        yield
        return
    handler, level = logging.StreamHandler(), log.level
    handler.setFormatter(logging.Formatter("shortlist: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def train_and_export(
    *,
    out: Path,
    preset: str | None = None,
    config_path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    frames: Frames | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
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
    frames : Frames, optional
        Tables in place of those under ``[data]``.
    run_dir : Path, optional
        Checkpoints and logs; NAME.run beside the bundle by default.
    resume : bool
        Go on from the run folder's last checkpoint.
    overwrite : bool
        Delete the run that the run folder holds, once the data has been read.
    plot : Path, optional
        PNG of loss and NDCG@10 by epoch.
    progress : bool
        Show progress bars.
    """
    require_tensorflow()
    run_dir = run_dir or out.with_suffix(".run")
    check_target(out)  # now, not after the training
    config = load_config(preset, config_path, overrides)
    check_alone(config)
    hides = is_private(config)
    if hides:
        _check_private(frames, resume=resume)
        given = given_settings(preset, config_path, overrides)
        config, notes = private_config(config, given)
        for note in notes:
            log.info("%s", note)
    else:
        check_unused(config)
    chooses = config.choice.minutes > 0 and leaves_open(preset, config_path, overrides)
    choice = load_choice(run_dir) if chooses and resume else None
    if choice is not None:
        config = apply_overrides(config, choice.settings)
    elif not chooses or (resume and checkpoint.is_begun(run_dir)):
        config = apply_overrides(config, {"choice.minutes": 0.0})
    check_data(config, frames)
    _check_plot(config, plot)
    if resume and overwrite:
        raise DataError("resume and overwrite: got both, expected one of them")
    checkpoint.check_run_folder(run_dir, config, resume, overwrite=overwrite)
    if not (hides or overwrite):
        checkpoint.check_not_private(run_dir)
    data = _understand(config, frames, progress=progress)
    with quiet_start():
        from shortlist.export.writer import export_bundle
        from shortlist.training.pipeline.choose import train_chosen
        from shortlist.training.pipeline.private import check_private, train_private
        from shortlist.training.pipeline.validation import validate
    if hides:
        check_private(data.dataset, config)  # before a run is deleted
    if overwrite:
        checkpoint.remove_run(run_dir)
    if hides:
        run = train_private(data.dataset, data.split, config, run_dir, progress=progress)
    else:
        run, choice = train_chosen(
            data.dataset,
            data.split,
            config,
            run_dir,
            choice=choice,
            resume=resume,
            progress=progress,
            say=log.info,
        )
    cleaning = None if hides else data.cleaning  # it counts exactly
    if cleaning is not None:
        save_report(cleaning, run.run_dir / "cleaning.json")
    if plot is not None:
        from shortlist.training.evaluation.plots import plot_history

        plot_history(run.history, plot)
    exported = export_bundle(run, out, store_users=config.export.store_users)
    validation = None if hides else validate(run)
    return TrainReport(
        bundle=out,
        run=run.run_dir,
        events=data.events,
        features={f"{f.side}.{f.name}": f.kind for f in run.features.features},
        user=str(data.split.train["user_id"][0]) if config.export.store_users else None,
        privacy=exported.privacy,
        cleaning=cleaning,
        ended=run.ended,
        metrics=run.metrics,
        validation=validation,
        second_stage=run.reranker_report,
        parity=exported.parity,
        warnings=() if hides else _doubts(run.split, validation),
        choice=choice,
    )


def check_data(config: Config, frames: Frames | None = None) -> None:
    """Refuse ``[data]`` that names no events or what is not there, before a table is opened."""
    frames = frames or Frames()
    keys = {"events": "path", "items": "items", "users": "users"}
    read = [key for name, key in keys.items() if getattr(frames, name) is None]
    paths = {key: getattr(config.data, key) for key in read}
    if paths.get("path") == "":
        raise DataError(
            "data.path: got nothing, expected a data set; give --data, or path = … under [data]"
        )
    for key, path in paths.items():
        if not path or (key == "path" and path in DATASETS) or Path(path).exists():
            continue
        known = f", or use a built-in name: {', '.join(DATASETS)}" if key == "path" else ""
        raise DataError(f"data.{key}: no such file or folder: {path}. Fix: check the path{known}")


def _check_private(frames: Frames | None, *, resume: bool) -> None:
    """Refuse arguments that a private training does not take."""
    if resume:
        raise DataError(
            "resume: got True with privacy.epsilon, expected False: noise is added in one step, "
            "and twice would cost twice. Fix: leave --resume out"
        )
    if frames is not None and frames.users is not None:
        raise DataError(
            "users: got a table with privacy.epsilon, expected none: the user table says who is "
            "among the users. Fix: leave it out"
        )
    accountant()  # refuses where its package is missing


def _check_plot(config: Config, plot: Path | None) -> None:
    if plot is not None and config.model.encoder in CLOSED_FORM:
        raise DataError(
            f"plot: got {str(plot)!r} with model.encoder {config.model.encoder!r}, which is fitted "
            "in one step and has no curve, expected none; leave --plot out"
        )


def _understand(config: Config, frames: Frames | None, *, progress: bool) -> _Understood:
    """Read the data, cut it, choose the features, and say what came of it."""
    dataset, cleaning = load_configured(config, frames=frames, progress=progress)
    _check_can_rank(dataset)
    split = configured_split(dataset, config)
    FeatureSet.fit(dataset, split, config)  # says what a column is, and refuses what cannot be
    if config.model.encoder in CLOSED_FORM:
        log.info("columns of items and users: none, as %r learns from events", config.model.encoder)
    events = summarise_events([dataset.events], has_times=dataset.has_times)
    for line in events.lines(config.events.weights, config.events.negative_kinds):
        log.info("%s", line)
    return _Understood(dataset, cleaning, split, events)


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


def _doubts(split: Split, validation: Validation | None) -> tuple[str, ...]:
    if validation is None:
        return (_nothing_held_out(split),)
    if (n_users := validation.users.measured) < FEW_USERS:
        return (
            f"measured on {counted(n_users, 'user')}: the metrics of fewer than {FEW_USERS} say "
            "little; get more data",
        )
    return ()


def _nothing_held_out(split: Split) -> str:
    why = (
        "no user has 3 events" if split.protocol == "leave-one-out" else "[split] valid is too low"
    )
    return (
        f"no event was held out for validation ({why}; {split.train.height} train events): nothing "
        "was measured, and the last epoch was kept"
    )
