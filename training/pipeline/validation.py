"""Measure a run that just ended beside quick baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from shortlist.training.config.sections import LinearConfig
from shortlist.training.evaluation.evaluate import Evaluation, evaluate_users
from shortlist.training.evaluation.verdict import PRESETS, judge
from shortlist.training.models.baselines import Baseline, Popularity
from shortlist.training.models.item_item import RecencyItemKNN
from shortlist.training.models.linear import build_baseline, is_affordable, is_closed_form
from shortlist.training.models.repeats import OwnFrequency
from shortlist.training.pipeline.train_report import Validation

if TYPE_CHECKING:
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.fit.fit import TrainedModel

__all__ = ["affordable_presets", "rivals", "validate"]

MAX_SCORES = 200_000_000  # that a baseline computes at the end of a training: seconds


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

    own = measure(_unaware(run))
    quick: dict[str, Baseline] = {
        "popularity": Popularity(),
        "ItemKNN with recency": RecencyItemKNN(),
    }
    if settings.include_seen:
        quick["own frequency"] = OwnFrequency()
    weights = split.weights(split.train)
    others = {
        name: measure(quick[name].fit(split.train, split.catalogue, weights))
        for name in rivals(quick, run.config.model.encoder, asdict(run.config.linear))
    }
    has_two = run.reranker_report is not None and run.reranker_report.is_kept
    judged = "the first stage" if has_two else "the model"
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
            presets=affordable_presets(n_items),
        ),
    )


def _unaware(run: TrainedModel) -> Ranker:
    """Give the ranker of a run, as it was before it learned from what is held out."""
    if not (is_closed_form(run.config) and run.config.linear.refit):
        return run.ranker()
    split = run.split
    return build_baseline(run.config).fit(split.train, split.catalogue, split.weights(split.train))


def rivals(
    baselines: Iterable[str], encoder: str | None, linear: Mapping[str, object]
) -> list[str]:
    """Name the baselines that are not the judged model itself: its kind, by the same settings."""
    default = asdict(LinearConfig())
    own = {name: value for name, value in linear.items() if name != "refit"}  # of what events
    is_default = all(default.get(name, value) == value for name, value in own.items())
    kind = encoder if is_default else None
    return [name for name in baselines if kind is None or PRESETS.get(name) != kind]


def affordable_presets(n_items: int) -> dict[str, str]:
    """Name the presets that make bundles of the baselines, for so many items."""
    return {name: encoder for name, encoder in PRESETS.items() if is_affordable(encoder, n_items)}
