"""One sentence that judges a model by the best baseline, or says that nobody can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from shortlist.training.config.sections import UpdateConfig
from shortlist.training.data.arrays import Floats
from shortlist.training.data.counted import counted
from shortlist.training.evaluation.metrics import bootstrap_intervals

__all__ = ["MIN_USERS", "PRESETS", "Verdict", "judge", "why_undecided"]

MIN_USERS = UpdateConfig().min_users  # with fewer there is nothing to judge by, as in the gate
# Baselines that a bundle can be made of, and the presets (and encoders) that make it.
PRESETS = {
    "popularity": "popularity",
    "ItemKNN": "item-knn",
    "ItemKNN with recency": "cooccurrence",
    "EASE": "ease",
    "iALS": "ials",
}


@dataclass(frozen=True)
class Verdict:
    """What the figures of a report allow to say.

    Attributes
    ----------
    judgement : str
        "better", "no better" or "worse" than the best baseline; "undecided" where there are too few
        users or items, or nothing to compare with.
    sentence : str
        The same for people.
    n_users : int
        Users that both were measured on.
    metric : str
        NDCG at the first cut-off.
    baseline : str or None
        The best one by the metric.
    difference : float or None
        Mean of the metric, less that of the baseline.
    interval : tuple of (low, high) or None
        95 % interval of the difference: a bootstrap over users, each with both.
    """

    judgement: str
    sentence: str
    n_users: int
    metric: str
    baseline: str | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def why_undecided(n_users: int, n_items: int, k: int) -> str | None:
    """Say why figures of so few users, or lists of nearly all items, say nothing; or None."""
    if n_users < MIN_USERS:
        return (
            f"{counted(n_users, 'user')}: too few to judge (at least {MIN_USERS} are needed); get "
            "more data"
        )
    if n_items <= k:
        return (
            f"{counted(n_items, 'item')}: a list of {k} holds all of them, so that these figures "
            "say nothing; get more data, or look at fewer places"
        )
    return None


def judge(
    name: str,
    per_user: Mapping[str, Floats],
    baselines: Mapping[str, Mapping[str, Floats]],
    *,
    k: int,
    n_items: int,
    presets: Mapping[str, str] = PRESETS,
) -> Verdict:
    """Compare a ranker with the best of the baselines, user by user.

    Parameters
    ----------
    name : str
        What is judged.
    per_user : mapping of str to ndarray of shape (n_users,)
        Its metrics of each user, as `metrics.per_user_metrics` gives them.
    baselines : mapping of str to such mappings
        Of the same users in the same order.
    k : int
        The cut-off that is judged.
    n_items : int
        Items that were ranked.
    presets : mapping of str to str
        Those of `PRESETS` that can make a bundle of so many items.
    """
    metric = f"NDCG@{k}"
    own = per_user[metric]
    n_users = len(own)
    reason = why_undecided(n_users, n_items, k)
    if reason is None and not baselines:
        reason = f"nothing to compare {name} with: no baseline was measured"
    if reason is not None:
        return Verdict("undecided", reason, n_users, metric)
    best = max(baselines, key=lambda other: float(baselines[other][metric].mean()))
    difference = own - baselines[best][metric]
    low, high = bootstrap_intervals({metric: difference})[metric]
    mean = float(difference.mean())
    figures = f"{metric} {mean:+.4f}, 95 % from {low:+.4f} to {high:+.4f}, {n_users:,} users"
    prefer = f"use {best} instead"
    prefer += f" (--preset {presets[best]})" if best in presets else ""
    if low > 0.0:
        judgement, sentence = "better", f"{name} is better than {best} ({figures})"
    elif high < 0.0:
        judgement, sentence = "worse", f"{name} is worse than {best} ({figures}): {prefer}"
    else:
        judgement = "no better"
        sentence = (
            f"{name} is no better than {best} within the error ({figures}): {prefer}, or get more "
            "data"
        )
    if not np.any(difference):
        sentence = f"{name} is as good as {best} for each of {n_users:,} users"
    return Verdict(judgement, sentence, n_users, metric, best, mean, (low, high))
