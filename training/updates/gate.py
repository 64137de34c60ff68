"""The gate: whether a new bundle, the challenger, may replace the one that serves, the champion.

Both rank the newest events, which neither was trained on, each with the user's events before it
(`next_events`), through their engines. The challenger is refused if, over all users, its mean
NDCG@10 is lower by more than ``update.tolerance`` of the champion's, or if in any segment of at
least ``update.min_users`` users the 95 % bootstrap interval of the paired difference lies below 0.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from shortlist.training.data.counted import counted
from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.evaluation.next_events import per_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import UpdateConfig
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.evaluation.next_events import NextEvents
    from shortlist.training.splits.parts import Split

__all__ = ["GateReport", "GateSegment", "compare", "segments_of"]

HEAVY = 50  # events in the history of a heavy user


@dataclass(frozen=True)
class GateSegment:
    """Both bundles on the events of one segment.

    Attributes
    ----------
    n_users : int
    champion, challenger : float
        Mean NDCG@10; not a number without users, like what follows from them.
    difference : float
        Challenger − champion.
    interval : tuple of (low, high)
        95 % bootstrap interval of the difference.
    is_judged : bool
        There are enough users to judge by.
    """

    n_users: int
    champion: float = math.nan
    challenger: float = math.nan
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    is_judged: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; without users only ``n_users`` and ``is_judged``."""
        if not self.n_users:
            return {"n_users": self.n_users, "is_judged": self.is_judged}
        return asdict(self) | {"interval": list(self.interval)}


@dataclass(frozen=True)
class GateReport:
    """Whether the challenger may replace the champion.

    Attributes
    ----------
    is_passed : bool
    reasons : tuple of str
        Why not, as sentences; empty if passed.
    segments : dict of str to GateSegment
    n_ranked, n_seen, n_no_targets : int
        Held-out events that were ranked; left out: those of items that their user had before, and
        those that are no targets, such as dislikes.
    """

    is_passed: bool
    reasons: tuple[str, ...]
    segments: dict[str, GateSegment]
    n_ranked: int = 0
    n_seen: int = 0
    n_no_targets: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            "is_passed": self.is_passed,
            "reasons": list(self.reasons),
            "segments": {name: segment.to_dict() for name, segment in self.segments.items()},
            "n_ranked": self.n_ranked,
            "left_out": {"seen": self.n_seen, "no_target": self.n_no_targets},
        }


def segments_of(events: NextEvents, before: Split) -> dict[str, NDArray[np.bool_]]:
    """Mark the events to be ranked (n_targets,) of each segment.

    Parameters
    ----------
    events : NextEvents
    before : Split
        What the champion was trained on: new users and new items are those without events in it.
    """
    ids = np.unique(before.known_events("valid")["user_id"].to_numpy())
    trained = np.unique(before.train["item_id"].to_numpy())
    return {
        "all": np.ones(len(events), np.bool_),
        "new users": ~np.isin(events.user_ids, ids),
        "new items": ~np.isin(events.target_ids, trained),
        "heavy users": events.n_known >= HEAVY,
    }


def compare(
    champion: Ranker,
    challenger: Ranker,
    events: NextEvents,
    segments: dict[str, NDArray[np.bool_]],
    settings: UpdateConfig,
) -> GateReport:
    """Rank the same events with both and decide.

    Parameters
    ----------
    champion, challenger : Ranker
    events : NextEvents
    segments : dict of str to ndarray of shape (n_targets,), bool
        The events of each segment; that called "all" is judged as a whole.
    settings : UpdateConfig
    """
    ndcg = {"champion": events.ndcg(champion), "challenger": events.ndcg(challenger)}
    compared = {name: _segment(events, ndcg, mask, settings) for name, mask in segments.items()}
    reasons = []
    whole = compared["all"]
    if not whole.is_judged:
        reasons.append(
            f"the held-out events are of {counted(whole.n_users, 'user')}, too few to judge by: "
            f"expected {settings.min_users} (update.min_users)"
        )
    elif whole.difference < -settings.tolerance * whole.champion:
        reasons.append(
            f"NDCG@10 falls from {whole.champion:.4f} to {whole.challenger:.4f}, by more "
            f"than {settings.tolerance:.1%} (update.tolerance)"
        )
    reasons += [
        f"{name}: worse by {-segment.difference:.4f} NDCG@10 ({segment.interval[0]:+.4f} to "
        f"{segment.interval[1]:+.4f}, {counted(segment.n_users, 'user')})"
        for name, segment in compared.items()
        if segment.is_judged and segment.interval[1] < 0.0
    ]
    return GateReport(
        not reasons, tuple(reasons), compared, len(events), events.n_seen, events.n_no_targets
    )


def _segment(
    events: NextEvents,
    ndcg: dict[str, NDArray[np.float64]],
    mask: NDArray[np.bool_],
    settings: UpdateConfig,
) -> GateSegment:
    if not mask.any():
        return GateSegment(0)
    users = {name: per_user(events.user_ids[mask], values[mask]) for name, values in ndcg.items()}
    difference = users["challenger"] - users["champion"]
    return GateSegment(
        n_users=len(difference),
        champion=float(users["champion"].mean()),
        challenger=float(users["challenger"].mean()),
        difference=float(difference.mean()),
        interval=bootstrap_intervals({"difference": difference})["difference"],
        is_judged=len(difference) >= settings.min_users,
    )
