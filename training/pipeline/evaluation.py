"""Measure a bundle, or a run that just ended, beside baselines."""

from __future__ import annotations

import importlib.util
import warnings as python_warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import shortlist
from shortlist.bundle.tables import map_file, read_table
from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides
from shortlist.training.data.counted import counted
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import Evaluation, EvaluationReport, evaluate_users
from shortlist.training.evaluation.verdict import PRESETS, judge
from shortlist.training.models.baselines import (
    EASE,
    Baseline,
    ImplicitALS,
    ItemKNN,
    Popularity,
    RecencyItemKNN,
)
from shortlist.training.models.linear import is_affordable
from shortlist.training.models.repeats import OwnFrequency
from shortlist.training.pipeline.train_report import Validation
from shortlist.training.splits.held_out import check_held_out
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    from shortlist.bundle.manifest import Manifest
    from shortlist.engine import Engine
    from shortlist.training.data.events import Dataset
    from shortlist.training.data.tables import TableSource
    from shortlist.training.evaluation.counts import UserCounts
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.splits.parts import Split

__all__ = ["bundle_rankers", "evaluate", "evaluate_rankers", "validate"]

MAX_PAIRS = 200_000_000  # of items of one user: ItemKNN holds them all, 16 bytes each
MAX_SCORES = 200_000_000  # that a baseline computes at the end of a training: seconds
COUNTED = ("item_id", "n_events", "popular_score")  # columns of items.arrow that no table gave


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
    progress : bool
        Show what is downloaded.

    Returns
    -------
    EvaluationReport
        Of the bundle, with and without its second stage, and of each baseline.

    Raises
    ------
    DataError
        A table cannot be read, nobody can be evaluated, or the bundle was trained on events that it
        would be tested on.

    Examples
    --------
    >>> import shortlist.training
    >>> report = shortlist.training.evaluate(  # doctest: +SKIP
    ...     "shop.shortlist", "events.parquet"
    ... )
    >>> report.verdict.sentence  # doctest: +SKIP
    """
    is_path = isinstance(events, str | Path)
    source = {"path": str(events) if is_path else "", "format": format, **(reading or {})}
    frames = Frames(None if is_path else events, items, users)
    with (
        nullcontext(bundle)
        if isinstance(bundle, shortlist.Engine)
        else shortlist.load(bundle, n_threads=0)
    ) as engine:
        config = _evaluation_config(engine.bundle.manifest.training, source, protocol)
        if include_seen is not None:
            config = apply_overrides(config, {"split.include_seen": include_seen})
        item_ids = _stored_items(engine)
        dataset, _ = load_configured(config, progress=progress, frames=frames, item_ids=item_ids)
        data = _completed(dataset, engine)
        split = configured_split(data.dataset, config)
        return _report(engine, split, config, data, on, ks, baselines=baselines)


@dataclass(frozen=True)
class _Data:
    """A dataset with what the bundle stores of its items and users, and where both came from."""

    dataset: Dataset
    tables: dict[str, str]
    warnings: tuple[str, ...] = ()


def _report(
    engine: Engine,
    split: Split,
    config: Config,
    data: _Data,
    on: str,
    ks: Sequence[int],
    *,
    baselines: bool,
) -> EvaluationReport:
    """Measure the bundle and the baselines, and judge."""
    manifest, name = engine.bundle.manifest, engine.bundle.path.name
    include_seen = config.split.include_seen
    held_out = check_held_out(manifest.training, split, on)
    rankers: dict[str, Ranker] = dict(bundle_rankers(name, engine, split))
    measured = evaluate_rankers(
        rankers, split, on=on, ks=ks, baselines=baselines, include_seen=include_seen
    )
    own = measured[name]
    warnings = [
        _missing_user_features(manifest, data.dataset),
        held_out,
        _second_stage_has_seen(engine, on),
        _mostly_repeats(own.users),
        *data.warnings,
    ]
    model = manifest.training.get("config", {}).get("model", {})
    rivals = _rivals([other for other in measured if other not in rankers], model.get("encoder"))
    others = {other: measured[other].per_user() for other in rivals}
    n_items = len(split.catalogue)
    return EvaluationReport(
        dataset=data.dataset.name,
        protocol=split.protocol,
        on=on,
        n_users=own.users.measured,
        n_items=n_items,
        metrics={other: lists.metrics() for other, lists in measured.items()},
        intervals=own.intervals(),
        segments=(*own.by_history_length(), *own.by_target_popularity()),
        warnings=tuple(warning for warning in warnings if warning),
        include_seen=include_seen,
        users=own.users,
        tables=data.tables,
        verdict=judge(
            name, own.per_user(), others, k=ks[0], n_items=n_items, presets=_presets(n_items)
        ),
    )


def validate(run: TrainedModel) -> Validation | None:
    """Rank what was held out with the encoders of a run and with quick baselines, and judge.

    Returns
    -------
    Validation or None
        None where nothing was held out.
    """
    split, settings = run.split, run.config.split
    if not run.metrics:
        return None
    n_items = len(split.catalogue)
    most = max(2_000, min(20_000, MAX_SCORES // n_items))

    def measure(ranker: Ranker) -> Evaluation:
        return evaluate_users(
            ranker,
            split,
            "valid",
            (10, 20),
            include_seen=settings.include_seen,
            max_users=most,
        )

    own = measure(run.ranker())
    quick: dict[str, Baseline] = {
        "popularity": Popularity(),
        "ItemKNN with recency": RecencyItemKNN(),
    }
    if settings.include_seen:
        quick["own frequency"] = OwnFrequency()
    weights = split.weights(split.train)
    others = {
        name: measure(quick[name].fit(split.train, split.catalogue, weights))
        for name in _rivals(quick, run.config.model.encoder)
    }
    judged = "the model" if run.scorer is None else "the first stage"
    return Validation(
        protocol=split.protocol,
        users=replace(own.users, measured=own.users.measured + own.users.not_drawn, not_drawn=0),
        n_items=n_items,
        baselines={name: lists.metrics() for name, lists in others.items()},
        verdict=judge(
            judged,
            own.per_user(),
            {name: lists.per_user() for name, lists in others.items()},
            k=10,
            n_items=n_items,
            presets=_presets(n_items),
        ),
    )


def _rivals(baselines: Iterable[str], encoder: str | None) -> list[str]:
    """Name the baselines that are not the judged model itself."""
    return [name for name in baselines if encoder is None or PRESETS.get(name) != encoder]


def _presets(n_items: int) -> dict[str, str]:
    """Name the presets that make bundles of the baselines, for so many items."""
    return {name: encoder for name, encoder in PRESETS.items() if is_affordable(encoder, n_items)}


def evaluate_rankers(
    rankers: Mapping[str, Ranker],
    split: Split,
    *,
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    baselines: bool = True,
    include_seen: bool = False,
) -> dict[str, Evaluation]:
    """Rank the split's users with every ranker, then with the baselines fitted on what is known.

    Baselines see the same events as the histories do: train, and valid when ``on`` is "test", with
    their weights. Those that would need too much memory are left out, with a warning.
    """
    known = split.known_events("valid" if on == "test" else "train")
    everyone = dict(rankers)
    if baselines:
        weights = split.weights(known)
        for name, model in _affordable_baselines(known, split, include_seen).items():
            everyone[name] = model.fit(known, split.catalogue, weights)
    return {
        name: evaluate_users(ranker, split, on, tuple(ks), include_seen=include_seen)
        for name, ranker in everyone.items()
    }


def bundle_rankers(name: str, engine: Engine, split: Split) -> dict[str, EngineRanker]:
    """Give the rankers of a bundle: as it answers by default, and with one stage if that is 2."""
    rankers = {name: EngineRanker(engine, split)}
    if engine.default_stages == 2:
        rankers[f"{name}, first stage alone"] = EngineRanker(engine, split, stages=1)
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


def _stored_items(engine: Engine) -> pl.Series | None:
    """Return the ids of the bundle's items, if its training had an item table."""
    bundle = engine.bundle
    table = read_table(map_file(bundle.file("items.arrow")), bundle.manifest.n_items, {})
    has_table = set(table.column_names) - set(COUNTED)
    return pl.Series("item_id", table.column("item_id")) if has_table else None


def _completed(dataset: Dataset, engine: Engine) -> _Data:
    """Add the bundle's items, and the users' features where the data has no user table."""
    stored, warnings = _item_frame(engine), []
    known = [frame["item_id"] for frame in (dataset.events, dataset.items) if frame is not None]
    is_new = ~stored["item_id"].cast(pl.String).is_in(pl.concat(known).cast(pl.String).implode())
    n_new = int(is_new.sum())
    tables = {"items": "data" if dataset.items is not None else "bundle" if n_new else "none"}
    if dataset.items is None:
        dataset = replace(dataset, items=stored)
    elif n_new:
        warnings.append(
            f"the data lacks {counted(n_new, 'item')} that the bundle has: ranked all the same"
        )
        both = (dataset.items, stored.filter(is_new))
        key = pl.col("item_id")
        if len({frame["item_id"].dtype for frame in both}) > 1:
            key = key.cast(pl.String)
        items = pl.concat([frame.with_columns(key) for frame in both], how="diagonal")
        dataset = replace(dataset, items=items)
    tables["users"] = "none" if dataset.users is None else "data"
    if dataset.users is None and (users := _user_frame(engine)) is not None:
        tables["users"] = "bundle"
        dataset = replace(dataset, users=users)
    return _Data(dataset, tables, tuple(warnings))


def _item_frame(engine: Engine) -> pl.DataFrame:
    ids = np.asarray(engine.index.item_ids)
    return pl.DataFrame({"item_id": ids.tolist()})


def _user_frame(engine: Engine) -> pl.DataFrame | None:
    """Read the users' features that the bundle stores; None if it stores none."""
    bundle, manifest = engine.bundle, engine.bundle.manifest
    names = [feature.name for feature in manifest.features_of("user")]
    if not names or not bundle.has("users.arrow"):
        return None
    table = read_table(map_file(bundle.file("users.arrow")), manifest.n_users, {})
    return pl.DataFrame(table.select(["user_id", *names]))


def _evaluation_config(
    training: Mapping[str, Any], source: Mapping[str, object], protocol: str
) -> Config:
    """Give the settings that say what is evaluated.

    Events are cleaned, weighted and held out as in training: otherwise the test would hold events
    it was trained on.
    """
    named = {f"data.{name}": value for name, value in source.items()}
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


def _second_stage_has_seen(engine: Engine, on: str) -> str | None:
    second = engine.bundle.manifest.second_stage
    is_fitted = second is not None and second.measured.get("kind") != "followers"
    if on != "valid" or engine.default_stages == 1 or not is_fitted:
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
