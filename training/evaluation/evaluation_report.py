"""What an evaluation found, of a bundle and of all that stands beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from shortlist.training.evaluation.beyond import BeyondAccuracy
from shortlist.training.evaluation.comparison import Comparison
from shortlist.training.evaluation.counts import UserCounts
from shortlist.training.evaluation.seeds import SeedsReport
from shortlist.training.evaluation.segments import Segment
from shortlist.training.evaluation.verdict import Verdict

__all__ = ["EvaluationReport"]


@dataclass(frozen=True)
class EvaluationReport:
    """Metrics of a bundle and of other rankers on one part of a split.

    Attributes
    ----------
    dataset, protocol, on : str
        What was ranked; ``on`` is "test" or "valid".
    n_users, n_items : int
        Users that the means hold, and items ranked for each.
    metrics : dict of str to dict
        Metrics of each ranker; the first is the bundle.
    intervals : dict of str to (low, high)
        95 % bootstrap intervals of the bundle's metrics.
    segments : tuple of Segment
        Of the bundle: by length of the history, then by popularity of the target.
    warnings : tuple of str
        Reasons to doubt the bundle's metrics, as sentences.
    include_seen : bool
        Items of the history are ranked too, and count as targets.
    users : UserCounts or None
        Users left out, by reason.
    tables : dict of str to str
        Where "items" and "users" were taken from: "data", "bundle", or "none".
    verdict : Verdict or None
        What the figures allow to say.
    ranker_intervals : dict of str to dict
        95 % bootstrap intervals of each ranker's metrics of users.
    against : tuple of Comparison
        The bundle against other bundles, user by user.
    beyond : BeyondAccuracy or None
        What the lists are like beside being right.
    seeds : SeedsReport or None
        What the bundle's settings give with other seeds.
    """

    dataset: str
    protocol: str
    on: str
    n_users: int
    n_items: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...] = ()
    include_seen: bool = False
    users: UserCounts | None = None
    tables: dict[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    ranker_intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    against: tuple[Comparison, ...] = ()
    beyond: BeyondAccuracy | None = None
    seeds: SeedsReport | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; ``left_out`` is the users left out, by reason."""
        users = self.users or UserCounts(self.n_users)
        return asdict(self) | {
            "users": asdict(users),
            "left_out": users.left_out(),
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
        }
