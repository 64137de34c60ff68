"""A bundle against another one, user by user: whether the difference is more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from shortlist.training.data.arrays import Floats
from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.evaluation.verdict import why_undecided

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """What the figures of two bundles allow to say.

    Attributes
    ----------
    name, other : str
        The bundles.
    judgement : str
        "better", "worse" or "no difference" by the metric; "undecided" where there are too few
        users or items.
    sentence : str
        The same for people.
    n_users : int
        Users that both were measured on.
    metric : str
        NDCG at the first cut-off.
    differences : dict of str to float
        Mean of each metric of ``name``, less that of ``other``.
    intervals : dict of str to (low, high)
        95 % intervals of them: a bootstrap over users, each with both.
    """

    name: str
    other: str
    judgement: str
    sentence: str
    n_users: int
    metric: str
    differences: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def compare(
    name: str,
    per_user: Mapping[str, Floats],
    other: str,
    others: Mapping[str, Floats],
    *,
    k: int,
    n_items: int,
) -> Comparison:
    """Compare two bundles on the same users.

    Parameters
    ----------
    name, other : str
    per_user, others : mapping of str to ndarray of shape (n_users,)
        Metrics of each user, as `metrics.per_user_metrics` gives them, of the same users in the
        same order.
    k : int
        The cut-off that is judged.
    n_items : int
        Items that were ranked.
    """
    metric = f"NDCG@{k}"
    n_users = len(per_user[metric])
    reason = why_undecided(n_users, n_items, k)
    if reason is not None:
        sentence = f"{name} and {other}: {reason}"
        return Comparison(name, other, "undecided", sentence, n_users, metric)
    differences = {key: values - others[key] for key, values in per_user.items()}
    means = {key: float(values.mean()) for key, values in differences.items()}
    intervals = bootstrap_intervals(differences)
    low, high = intervals[metric]
    figures = f"{metric} (95 %, {n_users:,} users)"
    by = f"by {abs(means[metric]):.4f} ± {(high - low) / 2:.4f} {figures}"
    if low > 0.0:
        judgement, sentence = "better", f"{name} is better {by} than {other}"
    elif high < 0.0:
        judgement, sentence = "worse", f"{name} is worse {by} than {other}"
    elif not np.any(differences[metric]):
        judgement = "no difference"
        sentence = f"{name} is as good as {other} for each of {n_users:,} users"
    else:
        judgement = "no difference"
        sentence = (
            f"no difference within the error between {name} and {other}: "
            f"{means[metric]:+.4f} ± {(high - low) / 2:.4f} {figures}"
        )
    return Comparison(name, other, judgement, sentence, n_users, metric, means, intervals)
