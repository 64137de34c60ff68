"""Drift: how far the events of a feedback log are from those a bundle was trained on.

The population stability index (PSI) of two shares p and q of the same buckets is
Σ (q − p) · ln(q / p). Two samples of one population differ too, by about
(buckets − 1) · (1/n + 1/m): that much is taken off, so that small logs raise no alarm. Over 0.25
counts as a large change. Kinds of events that the training did not have are judged by themselves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import shortlist
from shortlist.errors import DataError
from shortlist.feedback import FeedbackLog
from shortlist.feedback.acts import SKIP
from shortlist.training.config.settings import read_config
from shortlist.training.data.counted import counted
from shortlist.training.data.events import DEFAULT_KIND
from shortlist.training.features.features import FeatureSet, align_items, align_users
from shortlist.training.fit import checkpoint
from shortlist.training.splits.parts import Split, to_id_array
from shortlist.training.splits.split import configured_split
from shortlist.training.updates.new_events import add_events, new_events
from shortlist.versions import find_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.bundle.manifest import Manifest
    from shortlist.engine import Engine
    from shortlist.training.config.sections import Config, UpdateConfig
    from shortlist.training.data.arrays import Floats, Requests
    from shortlist.training.features.feature import Feature

__all__ = [
    "DriftReport",
    "drift_lines",
    "inspect_drift",
    "measure_drift",
    "open_log",
    "psi",
    "run_of",
]

N_BUCKETS = 10  # of numbers: deciles of the training's
N_VALUES = 20  # of categories: the most frequent ones, the others are one bucket
N_USERS = 1000  # asked for scores and coverage
TOP_N = 10


@dataclass(frozen=True)
class ScoreDrift:
    """Mean score of the top 10 of users of the training and of the new events, and its PSI.

    ``n_users`` of each were drawn from ``all_before`` and ``all_now``; ``n_before`` and ``n_now``
    of them got an answer. A mean of nobody is None, and so is the PSI then.
    """

    before: float | None
    now: float | None
    psi: float | None
    n_users: int = 0
    n_before: int = 0
    n_now: int = 0
    all_before: int = 0
    all_now: int = 0


@dataclass(frozen=True)
class CoverageDrift:
    """Part of the catalogue in the top 10 of as many users of the training and of the events."""

    before: float
    now: float


@dataclass(frozen=True)
class DriftReport:
    """How far new events are from those of the training.

    Attributes
    ----------
    n_events : int
    unknown_users, unknown_items : float
        Parts of the new events.
    psi : dict of str to float
        Population stability index of each feature. That of ``event.kind`` is of the kinds that the
        training had.
    new_kinds : dict of str to float
        Kinds that the training did not have: their parts of the new events.
    undeclared_kinds : float
        Part of the new events whose new kind is no skip and stands in no setting of ``[events]``:
        each counts as much as one of the training.
    score : ScoreDrift
    coverage : CoverageDrift
    alarms : tuple of str
        What passes a threshold, as sentences.
    """

    n_events: int
    unknown_users: float
    unknown_items: float
    psi: dict[str, float]
    score: ScoreDrift
    coverage: CoverageDrift
    alarms: tuple[str, ...] = ()
    new_kinds: dict[str, float] = field(default_factory=dict)
    undeclared_kinds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self) | {"alarms": list(self.alarms)}


@dataclass(frozen=True)
class _Answers:
    """What a bundle answers some users: mean score of each list, part of the catalogue shown.

    ``scores`` (n_answered,) has no users whose list is empty; ``n_users`` of ``n_all`` were asked.
    """

    scores: Floats
    coverage: float
    n_users: int
    n_all: int


def run_of(bundle: Path, manifest: Manifest, run_dir: Path | None) -> Path:
    """Return the run folder of a bundle: the given one, or that beside it."""
    if "federated" in manifest:
        raise DataError(
            f"bundle: got {bundle}, which is of several parties, expected one whose events are in "
            "a run folder: nobody has those of all. Fix: a new plan (`shortlist federate plan`)"
        )
    folder = run_dir or find_run(bundle, manifest)
    if folder is None or not (folder / "config.toml").is_file():
        where = f"{run_dir} has none" if run_dir else f"found none beside {bundle}"
        raise DataError(
            f"run folder: expected that of the training of {bundle.name}, {where}; give it with "
            "--run, or train again (it is needed to go on from the trained weights)"
        )
    return folder


def inspect_drift(
    bundle: Path, feedback: str | Path, *, run_dir: Path | None = None
) -> DriftReport:
    """Measure the drift between a bundle's training and a feedback log; see `measure_drift`."""
    with shortlist.load(bundle, n_threads=0) as engine:
        if engine.bundle.manifest.privacy is not None:
            raise DataError(
                f"bundle: got {bundle}, which is private and keeps no events, expected one with "
                "events that a log can be compared with. Fix: leave --feedback out"
            )
        folder = run_of(bundle, engine.bundle.manifest, run_dir)
        config = read_config(folder / "config.toml")
        dataset = checkpoint.load_dataset_copy(folder / "data")
        text = (folder / "features.json").read_text(encoding="utf-8")
        split = configured_split(dataset, config)
        with open_log(feedback) as log:
            arrived = new_events(log, dataset, config)
        features = FeatureSet.from_json(text)
        return measure_drift(engine, split, features, arrived, config)


def open_log(place: str | Path) -> FeedbackLog:
    """Open a feedback log; a file, unlike the tables of a database, must be there."""
    if "://" not in str(place) and not Path(place).is_file():
        raise DataError(f"feedback: got {place}, which is no file, expected a feedback log")
    return FeedbackLog(place)


def measure_drift(
    engine: Engine,
    split: Split,
    features: FeatureSet,
    arrived: pl.DataFrame,
    config: Config,
) -> DriftReport:
    """Compare new events with those of the training.

    Parameters
    ----------
    engine : Engine
        The bundle, for scores and coverage.
    split : Split
        Of the training, its tables possibly with new rows.
    features : FeatureSet
        As fitted in training.
    arrived : polars.DataFrame
        The new events.
    config : Config
        Of the training: whether it recommends items again, and the thresholds of ``update``.
    """
    if arrived.height == 0:
        raise DataError("feedback: got no event that the training did not have, expected some")
    known = split.known_events("valid")
    exclude_seen = not config.split.include_seen
    before, now = _answers(engine, split, known, arrived, exclude_seen=exclude_seen)
    new_kinds, undeclared = _new_kinds(split, known, arrived)
    report = DriftReport(
        n_events=arrived.height,
        unknown_users=_unknown(known["user_id"], arrived["user_id"]),
        unknown_items=_unknown(known["item_id"], arrived["item_id"]),
        psi=_feature_psi(split, features, known, arrived),
        score=ScoreDrift(
            _mean(before.scores),
            _mean(now.scores),
            _psi_of_scores(before.scores, now.scores),
            before.n_users,
            len(before.scores),
            len(now.scores),
            before.n_all,
            now.n_all,
        ),
        coverage=CoverageDrift(before.coverage, now.coverage),
        new_kinds=new_kinds,
        undeclared_kinds=undeclared,
    )
    return replace(report, alarms=tuple(_alarms(report, config.update)))


def _mean(scores: Floats) -> float | None:
    return float(scores.mean()) if len(scores) else None


def _psi_of_scores(before: Floats, now: Floats) -> float | None:
    return _psi_of_numbers(before, now) if len(before) and len(now) else None


def _unknown(known: pl.Series, arrived: pl.Series) -> float:
    """Return the part of the new ids that the training did not know."""
    return float((~arrived.is_in(known.unique().implode())).sum() / arrived.len())


def _new_kinds(
    split: Split, known: pl.DataFrame, arrived: pl.DataFrame
) -> tuple[dict[str, float], float]:
    """Return the parts of kinds that the training did not have, and the part nothing is said of.

    Where the training had but the kind of tables without kinds, new ones just say which.
    """
    before = known["kind"].unique().to_list()
    counts = arrived["kind"].value_counts(sort=True).filter(~pl.col("kind").is_in(before))
    parts = {kind: n / arrived.height for kind, n in counts.iter_rows()}
    if before == [DEFAULT_KIND]:
        return parts, 0.0
    declared = {SKIP, *split.weighting.negative_kinds, *split.weighting.weights}
    return parts, sum(part for kind, part in parts.items() if kind not in declared)


def psi(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Return the population stability index of two rows of counts (n_buckets,), see above."""
    n, m, n_buckets = int(before.sum()), int(now.sum()), len(before)
    if n == 0 or m == 0:
        return 0.0
    p = (before + 0.5) / (n + 0.5 * n_buckets)
    q = (now + 0.5) / (m + 0.5 * n_buckets)
    by_chance = (n_buckets - 1) * (1 / n + 1 / m)
    return max(0.0, float(((q - p) * np.log(q / p)).sum()) - by_chance)


def drift_lines(report: DriftReport) -> list[str]:
    """Write a report for people."""
    score, coverage, new_kinds = report.score, report.coverage, report.new_kinds.items()
    lines = [
        f"drift since training, {counted(report.n_events, 'new event')}",
        f"  events of unknown users  {report.unknown_users:.1%}",
        f"  events of unknown items  {report.unknown_items:.1%}",
        f"  mean score of the top 10 {_shown(score.before)} → {_shown(score.now)}, "
        + (f"PSI {score.psi:.3f}, " if score.psi is not None else "")
        + _answered(score),
        f"  coverage of the top 10   {coverage.before:.1%} → {coverage.now:.1%}",
    ]
    lines += [f"  new kind {kind!r}: {part:.0%} of events" for kind, part in new_kinds]
    lines += [f"  PSI of {name:<18} {value:.3f}" for name, value in report.psi.items()]
    return lines + [f"  ALARM {alarm}" for alarm in report.alarms]


def _shown(mean: float | None) -> str:
    return "none (nobody got an answer)" if mean is None else f"{mean:.4f}"


def _answered(score: ScoreDrift) -> str:
    """Say of how many users the means are, and why not of the others."""
    text = (
        f"{score.n_before:,} of {score.all_before:,} and {score.n_now:,} of "
        f"{counted(score.all_now, 'user')}"
    )
    reasons = {
        "not drawn": (score.all_before - score.n_users, score.all_now - score.n_users),
        "without an answer": (score.n_users - score.n_before, score.n_users - score.n_now),
    }
    for reason, (before, now) in reasons.items():
        text += f"; {reason}: {before:,} and {now:,}" if before or now else ""
    return text


def _alarms(report: DriftReport, settings: UpdateConfig) -> list[str]:
    alarms = [
        f"PSI of {name} is {value:.3f}, above {settings.max_psi:g} (update.max_psi)"
        for name, value in report.psi.items()
        if value > settings.max_psi
    ]
    if report.score.psi is not None and report.score.psi > settings.max_score_psi:
        alarms.append(
            f"PSI of the scores is {report.score.psi:.3f}, above "
            f"{settings.max_score_psi:g} (update.max_score_psi)"
        )
    if report.unknown_items > settings.max_unknown:
        alarms.append(
            f"{report.unknown_items:.0%} of the events are of unknown items, above "
            f"{settings.max_unknown:.0%} (update.max_unknown)"
        )
    if report.undeclared_kinds > settings.max_new_kinds:
        alarms.append(
            f"{report.undeclared_kinds:.0%} of the events are of new kinds "
            f"({', '.join(map(repr, report.new_kinds))}) that [events] says nothing of, above "
            f"{settings.max_new_kinds:.0%} (update.max_new_kinds)"
        )
    before, now = report.coverage.before, report.coverage.now
    if now < settings.min_coverage * before:
        alarms.append(
            f"coverage fell from {before:.1%} to {now:.1%}, below {settings.min_coverage:g} of it "
            "(update.min_coverage)"
        )
    return alarms


def _feature_psi(
    split: Split, features: FeatureSet, known: pl.DataFrame, arrived: pl.DataFrame
) -> dict[str, float]:
    indices = {}
    kinds = known["kind"].unique()
    if len(kinds) > 1:  # new ones are judged apart
        shared = arrived["kind"].filter(arrived["kind"].is_in(kinds.implode()))
        indices["event.kind"] = _psi_of_values(known["kind"], shared)
    values = [events["value"].drop_nulls().to_numpy() for events in (known, arrived)]
    if all(len(part) for part in values):
        indices["event.value"] = _psi_of_numbers(*values)
    for side, align in (("user", align_users), ("item", align_items)):
        key = f"{side}_id"
        ids = pl.concat([known[key], arrived[key]]).unique(maintain_order=True)
        table = align(split.dataset, to_id_array(ids))
        encode = features.encode_users if side == "user" else features.encode_items
        encoded = encode(table)
        number = ids.to_frame().with_row_index("row")
        rows = []
        for events in (known, arrived):
            owners = events.select(key)
            if side == "user":  # each once: their events are no independent draws
                owners = owners.unique(maintain_order=True)
            numbered = owners.join(number, on=key, how="left", maintain_order="left")
            rows.append(numbered["row"].to_numpy())
        for feature in features.side(side):
            index = _psi_of_feature(feature, encoded[feature.name], *rows)
            if index is not None:
                indices[f"{side}.{feature.name}"] = index
    return indices


def _psi_of_feature(
    feature: Feature, encoded: NDArray[Any], before: NDArray[Any], now: NDArray[Any]
) -> float | None:
    """Compare one encoded column over the events' rows; None for texts and vectors."""
    if feature.kind in ("text", "vector"):
        return None
    if feature.form in ("code", "codes"):
        return _psi_of_values(*(pl.Series(encoded[rows].ravel()) for rows in (before, now)))
    column = encoded if encoded.ndim == 1 else encoded[:, 0]
    return _psi_of_numbers(column[before], column[now])


def _psi_of_values(before: pl.Series, now: pl.Series) -> float:
    frequent = before.value_counts(sort=True)[before.name].head(N_VALUES).implode()
    counts = []
    for values in (before, now):
        named = values.rename("value").to_frame().filter(pl.col("value").is_in(frequent))
        table = dict(named["value"].value_counts().iter_rows())
        row = [table.get(value, 0) for value in frequent[0].to_list()]
        counts.append(np.array([*row, len(values) - named.height], np.int64))
    is_used = (counts[0] + counts[1]) > 0
    return psi(counts[0][is_used], counts[1][is_used])


def _psi_of_numbers(before: NDArray[Any], now: NDArray[Any]) -> float:
    edges = np.unique(np.quantile(before, np.arange(1, N_BUCKETS) / N_BUCKETS))
    counts = [
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        for values in (before, now)
    ]
    is_used = (counts[0] + counts[1]) > 0
    return psi(counts[0][is_used], counts[1][is_used])


def _answers(
    engine: Engine,
    split: Split,
    known: pl.DataFrame,
    arrived: pl.DataFrame,
    *,
    exclude_seen: bool,
) -> list[_Answers]:
    """Ask for as many users of the training as of the new events: scores and coverage of each."""
    both = add_events(split.dataset, arrived).events
    rng = np.random.default_rng(0)
    users = [events["user_id"].unique(maintain_order=True) for events in (known, arrived)]
    n = min(N_USERS, *(len(ids) for ids in users))
    answers = []
    for ids, events in zip(users, (known, both), strict=True):
        chosen = ids.gather(np.sort(rng.choice(len(ids), n, replace=False)))
        wanted = chosen.to_frame().join(
            events.group_by("user_id").agg("item_id"), on="user_id", maintain_order="left"
        )
        requests: Requests = {"history": wanted["item_id"].to_list()}
        if split.dataset.users is not None:
            table = align_users(split.dataset, to_id_array(wanted["user_id"]))
            names = [feature.name for feature in engine.bundle.manifest.features_of("user")]
            requests |= {name: table[name].to_list() for name in names if name in table.columns}
        answer = engine.recommend(
            requests, top_n=min(TOP_N, len(engine.index)), exclude_seen=exclude_seen, stages=1
        )
        is_there = answer.indices >= 0
        is_answered = answer.counts > 0
        sums = np.where(is_there, answer.scores, 0.0).sum(axis=1)[is_answered]
        coverage = len(np.unique(answer.indices[is_there])) / len(engine.index)
        answers.append(_Answers(sums / answer.counts[is_answered], coverage, n, len(ids)))
    return answers
