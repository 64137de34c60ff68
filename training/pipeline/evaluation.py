"""Measure a bundle beside others and beside baselines."""

from __future__ import annotations

import importlib.util
import warnings as python_warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from shortlist.errors import DataError
from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides
from shortlist.training.evaluation.beyond import beyond_accuracy
from shortlist.training.evaluation.comparison import compare
from shortlist.training.evaluation.engine_ranker import EngineRanker, EngineVectors
from shortlist.training.evaluation.evaluate import Evaluation, evaluate_users
from shortlist.training.evaluation.evaluation_report import EvaluationReport
from shortlist.training.evaluation.ground import OnGround
from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.evaluation.seeds import no_seeds, seeds_report
from shortlist.training.evaluation.verdict import judge
from shortlist.training.models.als import ImplicitALS
from shortlist.training.models.baselines import Baseline, Popularity
from shortlist.training.models.ease import EASE
from shortlist.training.models.item_item import MAX_PAIRS, ItemKNN, RecencyItemKNN, count_pairs
from shortlist.training.models.repeats import OwnFrequency
from shortlist.training.pipeline.compared import (
    common_ground,
    item_column,
    list_bundles,
    opened,
)
from shortlist.training.pipeline.completed import (
    Completed,
    completed,
    items_of_training,
    missing_user_features,
)
from shortlist.training.pipeline.seeds import SeedPlan, check_seeds, other_events, plan_seeds
from shortlist.training.pipeline.validation import affordable_presets, rivals
from shortlist.training.splits.held_out import check_held_out
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from shortlist.engine import Engine
    from shortlist.training.data.arrays import Floats
    from shortlist.training.data.tables import TableSource
    from shortlist.training.evaluation.beyond import ItemColumn
    from shortlist.training.evaluation.counts import UserCounts
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.evaluation.verdict import Verdict
    from shortlist.training.splits.parts import Split

__all__ = ["bundle_rankers", "evaluate", "evaluate_rankers"]


def evaluate(
    bundle: str | Path | Engine,
    events: TableSource,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    format: str = "auto",
    reading: Mapping[str, object] | None = None,
    protocol: str = "auto",
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    include_seen: bool | None = None,
    baselines: bool = True,
    against: str | Path | Engine | Sequence[str | Path | Engine] = (),
    by_column: str | Sequence[str] = (),
    seeds: int | None = None,
    seeds_out: str | Path | None = None,
    progress: bool = False,
) -> EvaluationReport:
    """Evaluate a bundle on held-out events, through `Engine.recommend` as its users do.

    Parameters
    ----------
    bundle : path or Engine
        A bundle, or an engine that has loaded it.
    events : str, path or frame
        A data set by name, a file or folder, or a polars, pandas or pyarrow table of events: those
        of the training, from which the same ones are held out, or later ones.
    items, users : path or frame, optional
        The item and the user table. Where the data has none, those stored in the bundle are used;
        items that only the bundle has are ranked in any case.
    format : str
        How the files of ``events`` are laid out.
    reading : mapping, optional
        Settings of ``[data]`` that say how tables are read: ``columns``, ``item_columns``,
        ``user_columns``, ``lists``, ``ignore``, ``time_unit``, ``time_format``, ``allow_future``.
    protocol : str
        How events are held out; "auto" as the bundle was trained.
    on : {"test", "valid"}
    ks : sequence of int
        Cut-offs of the metrics.
    include_seen : bool, optional
        Rank items of the history too, and count them as targets; None as the bundle was trained
        (``split.include_seen``).
    baselines : bool
        Evaluate the baselines too.
    against : path, Engine or sequence of these
        Other bundles, measured on the same users and items and compared user by user. Items that
        only some of the bundles have are neither ranked nor targets.
    by_column : str or sequence of str
        Columns of the item table: their shares of the lists, and how well lists are calibrated.
    seeds : int, optional
        Train the bundle's own settings anew with so many other seeds, on the train part of
        ``events``, and measure each exported bundle.
    seeds_out : path, optional
        Folder that keeps these bundles and their runs; a temporary one by default.
    progress : bool
        Show what is downloaded, and the progress of trainings.

    Returns
    -------
    EvaluationReport
        Of the bundle, with and without its second stage, of those it is compared with, and of each
        baseline.

    Raises
    ------
    DataError
        A table cannot be read, nobody can be evaluated, a bundle was trained on events that it
        would be tested on, bundles cannot be compared, or a bundle cannot be trained anew.

    Examples
    --------
    >>> import shortlist.training
    >>> report = shortlist.training.evaluate(  # doctest: +SKIP
    ...     "shop.shortlist", "events.parquet", against="old.shortlist"
    ... )
    >>> report.verdict.sentence, report.against[0].sentence  # doctest: +SKIP
    """
    is_path = isinstance(events, str | Path)
    source = {"path": str(events) if is_path else "", "format": format, **(reading or {})}
    frames = Frames(None if is_path else events, items, users)
    names = [by_column] if isinstance(by_column, str) else list(by_column)
    check_seeds(seeds, seeds_out)
    cutoffs = _read_cutoffs(ks)
    with opened(bundle, list_bundles(against)) as engines:
        engine = next(iter(engines.values()))
        config = evaluation_config(engine.bundle.manifest.training, source, protocol)
        if include_seen is not None:
            config = apply_overrides(config, {"split.include_seen": include_seen})
        item_ids = items_of_training(engine)
        dataset, _ = load_configured(config, progress=progress, frames=frames, item_ids=item_ids)
        data = completed(dataset, engines)
        task = _Task(engines, data, configured_split(data.dataset, config), config, on, cutoffs)
        columns = [item_column(column, task.split, engines) for column in names]
        plan = None
        if seeds is not None:
            name, out = next(iter(engines)), None if seeds_out is None else Path(seeds_out)
            plan = plan_seeds(name, engine, dataset, config, n_seeds=seeds, out=out)
        report = _report(task, columns, baselines=baselines)
        return report if plan is None else _with_seeds(report, task, plan, progress=progress)


def _read_cutoffs(ks: Any) -> tuple[int, ...]:
    """Return the cut-offs of the metrics."""
    cutoffs = tuple(ks) if isinstance(ks, Iterable) else ()
    if not cutoffs or not all(type(k) is int and k >= 1 for k in cutoffs):
        raise DataError(f"ks: got {ks!r:.60}, expected whole numbers >= 1, such as (10, 20)")
    return cutoffs


@dataclass(frozen=True)
class _Task:
    """What is to be measured, on what."""

    engines: Mapping[str, Engine]
    data: Completed
    split: Split
    config: Config
    on: str
    ks: tuple[int, ...]

    @property
    def include_seen(self) -> bool:
        return self.config.split.include_seen

    def warnings_of(self, label: str) -> list[str]:
        """Say why the metrics of a bundle may be wrong; a DataError if they must be."""
        engine, prefix = self.engines[label], ""
        if label != next(iter(self.engines)):
            prefix = f"{label}: "
        try:
            held_out = check_held_out(engine.bundle.manifest.training, self.split, self.on)
        except DataError as error:
            raise DataError(f"against: {label}: {error}" if prefix else str(error)) from error
        found = (
            missing_user_features(engine.bundle.manifest, self.data.dataset),
            held_out,
            _has_seen(engine, self.on),
        )
        return [prefix + warning for warning in found if warning]


def _report(task: _Task, columns: Sequence[ItemColumn], *, baselines: bool) -> EvaluationReport:
    """Measure the bundles and the baselines, and judge."""
    split, engines = task.split, task.engines
    name = next(iter(engines))
    warnings = [warning for label in engines for warning in task.warnings_of(label)]
    ground, left_out = common_ground(split, engines)
    rankers: dict[str, Ranker] = {}
    for label, engine in engines.items():
        rankers |= bundle_rankers(label, engine, split, ground)
    measured = evaluate_rankers(
        rankers,
        split,
        on=task.on,
        ks=task.ks,
        baselines=baselines,
        include_seen=task.include_seen,
        ground=ground,
    )
    own = measured[name]
    more = (_mostly_repeats(own.users), left_out, *task.data.warnings)
    per_user = {other: lists.per_user() for other, lists in measured.items()}
    metrics = {other: lists.metrics() for other, lists in measured.items()}
    histories = split.histories("train" if task.on == "valid" else "valid")
    vectors = EngineVectors(engines[name], split)
    intervals = _intervals(per_user)
    n_items = len(own.item_rows)
    return EvaluationReport(
        dataset=task.data.dataset.name,
        protocol=split.protocol,
        on=task.on,
        n_users=own.users.measured,
        n_items=n_items,
        metrics=metrics,
        intervals=intervals[name],
        segments=(*own.by_history_length(), *own.by_target_popularity()),
        warnings=(*warnings, *(warning for warning in more if warning)),
        include_seen=task.include_seen,
        users=own.users,
        tables=task.data.tables,
        verdict=_judged(task, per_user, rankers, n_items),
        ranker_intervals=intervals,
        against=tuple(
            compare(name, per_user[name], other, per_user[other], k=task.ks[0], n_items=n_items)
            for other in engines
            if other != name
        ),
        beyond=beyond_accuracy(measured, metrics, list(engines), histories, vectors, columns),
    )


def _with_seeds(
    report: EvaluationReport, task: _Task, plan: SeedPlan, *, progress: bool
) -> EvaluationReport:
    """Train the bundle's settings with other seeds, and add what comes of it."""
    name, engine = next(iter(task.engines.items()))
    if not plan.seeds:
        return replace(report, seeds=no_seeds(plan.config.model.encoder))
    ground, _ = common_ground(task.split, task.engines)

    def measure(other: Engine) -> dict[str, float]:
        ranker = EngineRanker(other, task.split, ground=ground)
        return evaluate_users(
            ranker, task.split, task.on, task.ks, include_seen=task.include_seen, ground=ground
        ).metrics()

    metric = f"NDCG@{task.ks[0]}"
    runs = plan.run(measure, metric, progress=progress)
    found = seeds_report(name, report.metrics[name], report.intervals, runs, metric)
    doubts = (*plan.warnings, other_events(engine.bundle.manifest, task.split))
    warnings = (*report.warnings, *(doubt for doubt in doubts if doubt))
    return replace(report, seeds=found, warnings=warnings)


def _intervals(
    per_user: Mapping[str, Mapping[str, Floats]],
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the intervals of each ranker's metrics, all from the same draws of users."""
    flat = {
        (ranker, metric): values
        for ranker, metrics in per_user.items()
        for metric, values in metrics.items()
    }
    intervals = bootstrap_intervals(flat)
    return {
        ranker: {metric: intervals[ranker, metric] for metric in metrics}
        for ranker, metrics in per_user.items()
    }


def _judged(
    task: _Task,
    per_user: Mapping[str, Mapping[str, Floats]],
    rankers: Mapping[str, Ranker],
    n_items: int,
) -> Verdict:
    """Compare the bundle with the best baseline that is not the same model."""
    name = next(iter(task.engines))
    trained = task.engines[name].bundle.manifest.training.get("config", {})
    encoder, linear = trained.get("model", {}).get("encoder"), trained.get("linear", {})
    baselines = [other for other in per_user if other not in rankers]
    others = {other: per_user[other] for other in rivals(baselines, encoder, linear)}
    presets = affordable_presets(n_items)
    return judge(name, per_user[name], others, k=task.ks[0], n_items=n_items, presets=presets)


def evaluate_rankers(
    rankers: Mapping[str, Ranker],
    split: Split,
    *,
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    baselines: bool = True,
    include_seen: bool = False,
    ground: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Evaluation]:
    """Rank the split's users with every ranker, then with the baselines fitted on what is known.

    Baselines see the same events as the histories do: train, and valid when ``on`` is "test", with
    their weights. Those that would need too much memory are left out, with a warning. With
    ``ground`` (n_items,), bool, the rankers rank these items of the catalogue only.
    """
    known = split.known_events("valid" if on == "test" else "train")
    everyone = dict(rankers)
    if baselines:
        weights = split.weights(known)
        for name, model in _affordable_baselines(known, split, include_seen).items():
            fitted = model.fit(known, split.catalogue, weights)
            everyone[name] = fitted if ground is None else OnGround(fitted, ground)
    return {
        name: evaluate_users(ranker, split, on, tuple(ks), include_seen=include_seen, ground=ground)
        for name, ranker in everyone.items()
    }


def bundle_rankers(
    name: str, engine: Engine, split: Split, ground: npt.NDArray[np.bool_] | None = None
) -> dict[str, EngineRanker]:
    """Give the rankers of a bundle: as it answers by default, and with one stage if that is 2."""
    rankers = {name: EngineRanker(engine, split, ground=ground)}
    if engine.default_stages == 2:
        alone = EngineRanker(engine, split, stages=1, ground=ground)
        rankers[f"{name}, first stage alone"] = alone
    return rankers


def _affordable_baselines(
    known: pl.DataFrame, split: Split, include_seen: bool
) -> dict[str, Baseline]:
    named: dict[str, Baseline] = {"own frequency": OwnFrequency()} if include_seen else {}
    named |= {
        "popularity": Popularity(),
        "ItemKNN": ItemKNN(),
        "ItemKNN with recency": RecencyItemKNN(),
        "EASE": EASE(),
    }
    if importlib.util.find_spec("implicit") is not None:  # an optional library
        named["iALS"] = ImplicitALS()
    n_pairs = count_pairs(known)
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


def evaluation_config(
    training: Mapping[str, Any], source: Mapping[str, object], protocol: str
) -> Config:
    """Give the settings that say what is evaluated.

    Events are cleaned, weighted and held out as in training: otherwise the test would hold events
    it was trained on.
    """
    named = {f"data.{name}": value for name, value in source.items()}
    config = apply_overrides(_trained_config(training), named)
    return config if protocol == "auto" else apply_overrides(config, {"split.protocol": protocol})


def _has_seen(engine: Engine, on: str) -> str | None:
    """Say that a bundle was trained on what it is measured on."""
    if on != "valid":
        return None
    manifest = engine.bundle.manifest
    if manifest.training.get("config", {}).get("linear", {}).get("refit", False):
        return (
            "the model was fitted on the validation events too, so its metrics here are too good; "
            "choice.json or metrics.jsonl of the run folder has those from before"
        )
    second = manifest.second_stage
    is_fitted = second is not None and second.measured.get("kind") != "followers"
    if engine.default_stages == 1 or not is_fitted:
        return None
    return (
        "the second stage was trained on the validation events, so its metrics here are too good; "
        "the manifest has cross-fitted ones"
    )


def _mostly_repeats(users: UserCounts) -> str | None:
    if users.seen_targets <= users.measured:
        return None
    return (
        f"{users.seen_targets:,} of {users.n_in_part:,} users came back to items they had before "
        "and are left out; to measure repeats too: --include-seen; to train for them: --set "
        "split.include_seen=true"
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
