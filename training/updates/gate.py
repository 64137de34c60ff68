"""The gate: whether a new bundle, the challenger, may replace the one that serves, the champion.

Both rank the newest events, which neither was trained on, each with the user's events before it
(`next_events`), through their engines. The challenger is refused if, over all users, its mean
NDCG@10 is lower by more than ``update.tolerance`` of the champion's, or if in any segment of at
least ``update.min_users`` users the 95 % bootstrap interval of the paired difference lies below 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.evaluation.next_events import per_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.settings import UpdateConfig
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.evaluation.next_events import NextEvents
    from shortlist.training.splits.parts import Split

__all__ = ["compare", "segments_of"]

HEAVY = 50  # events in the history of a heavy user


def segments_of(asked: NextEvents, before: Split) -> dict[str, NDArray[np.bool_]]:
    """Mark the asked events (n_targets,) of each segment.

    Parameters
    ----------
    asked : NextEvents
    before : Split
        What the champion was trained on: new users and new items are those without events in it.
    """
    ids = np.unique(before.known_events("valid")["user_id"].to_numpy())
    trained = np.unique(before.train["item_id"].to_numpy())
    return {
        "all": np.ones(len(asked), np.bool_),
        "new users": ~np.isin(asked.user_ids, ids),
        "new items": ~np.isin(asked.target_ids, trained),
        "heavy users": asked.n_known >= HEAVY,
    }


def compare(
    champion: Ranker,
    challenger: Ranker,
    asked: NextEvents,
    segments: dict[str, NDArray[np.bool_]],
    settings: UpdateConfig,
) -> dict[str, Any]:
    """Rank the same events with both and decide.

    Returns
    -------
    dict
        ``is_passed``, ``reasons`` (why not, as sentences; empty if passed) and ``segments``: name →
        ``n_users``, ``champion`` and ``challenger`` (mean NDCG@10), ``difference``, ``interval``
        (its 95 % bootstrap interval) and ``is_judged``; without users only ``n_users``.
    """
    ndcg = {"champion": asked.ndcg(champion), "challenger": asked.ndcg(challenger)}
    told = {name: _segment(asked, ndcg, mask, settings) for name, mask in segments.items()}
    reasons = []
    whole = told["all"]
    if not whole["is_judged"]:
        reasons.append(
            f"the held-out events are of {whole['n_users']} users, too few to judge by: expected "
            f"{settings.min_users} (update.min_users)"
        )
    elif whole["difference"] < -settings.tolerance * whole["champion"]:
        reasons.append(
            f"NDCG@10 falls from {whole['champion']:.4f} to {whole['challenger']:.4f}, by more "
            f"than {settings.tolerance:.1%} (update.tolerance)"
        )
    reasons += [
        f"{name}: worse by {-found['difference']:.4f} NDCG@10 ({found['interval'][0]:+.4f} to "
        f"{found['interval'][1]:+.4f}, {found['n_users']} users)"
        for name, found in told.items()
        if found["is_judged"] and found["interval"][1] < 0.0
    ]
    return {"is_passed": not reasons, "reasons": reasons, "segments": told}


def _segment(
    asked: NextEvents,
    ndcg: dict[str, NDArray[np.float64]],
    mask: NDArray[np.bool_],
    settings: UpdateConfig,
) -> dict[str, Any]:
    if not mask.any():
        return {"n_users": 0, "is_judged": False}
    users = {name: per_user(asked.user_ids[mask], values[mask]) for name, values in ndcg.items()}
    difference = users["challenger"] - users["champion"]
    interval = bootstrap_intervals({"difference": difference})["difference"]
    return {
        "n_users": len(difference),
        "champion": float(users["champion"].mean()),
        "challenger": float(users["challenger"].mean()),
        "difference": float(difference.mean()),
        "interval": list(interval),
        "is_judged": len(difference) >= settings.min_users,
    }
