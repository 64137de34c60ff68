"""What a replay found: a row a cycle, means, and both as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["ANEW", "NEVER", "UPDATED", "Cycle", "ReplayMean", "ReplayReport", "replay_table"]

NEVER, UPDATED, ANEW = "never updated", "updated", "trained anew"  # the models, by name


@dataclass(frozen=True)
class Cycle:
    """One cycle of a replay.

    Attributes
    ----------
    cycle : int
        From 1.
    n_events : int
        Events of the cycle.
    seconds : dict of str to float
        Processor time of each training before the cycle.
    until : int
        Time of its last event.
    n_train : int
        Events before it.
    n_users, n_ranked, n_cold : int
        Users and events ranked, and events left out for want of a history.
    ndcg : dict of str to float
        Mean NDCG@10 of each model.
    differences : dict of str to float
        Of pairs of models.
    intervals : dict of str to (low, high)
        95 % bootstrap intervals of both.
    """

    cycle: int
    n_events: int
    seconds: dict[str, float]
    until: int
    n_train: int
    n_users: int
    n_ranked: int
    n_cold: int
    ndcg: dict[str, float]
    differences: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class ReplayMean:
    """Means over the cycles after the first one.

    Attributes
    ----------
    ndcg : dict of str to float
        NDCG@10 of each model.
    quality_part, least_quality_part : float
        Part of the full training's NDCG@10 that an update has: of the means, in the worst cycle.
    time_part : float
        Part of the full training's time that an update takes.
    """

    ndcg: dict[str, float]
    quality_part: float
    least_quality_part: float
    time_part: float


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found.

    Attributes
    ----------
    dataset : str
    first : float
        Part of the events before the first cycle.
    cycles : tuple of Cycle
    mean : ReplayMean
    """

    dataset: str
    first: float
    cycles: tuple[Cycle, ...]
    mean: ReplayMean

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def replay_table(report: ReplayReport) -> str:
    """Write a replay as a Markdown table: a row a cycle, then the means."""
    lines = [
        "| cycle | events ranked | users | never updated | updated | trained anew | "
        "updated − never | updated ÷ anew | seconds, updated / anew |",
        "|---" * 9 + "|",
    ]
    for row in report.cycles:
        ndcg, seconds = row.ndcg, row.seconds
        cells = [f"{row.cycle}", f"{row.n_ranked:,}", f"{row.n_users:,}"]
        for name in (NEVER, UPDATED, ANEW):
            low, high = row.intervals[name]
            cells.append(f"{ndcg[name]:.4f} ({low:.4f}–{high:.4f})")
        low, high = row.intervals["updated − never"]
        cells.append(f"{row.differences['updated − never']:+.4f} ({low:+.4f} to {high:+.4f})")
        cells.append(f"{ndcg[UPDATED] / ndcg[ANEW]:.3f}" if ndcg[ANEW] else "–")
        cells.append(f"{seconds[UPDATED]:.0f} / {seconds[ANEW]:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    mean = report.mean
    means = " | ".join(f"{mean.ndcg[name]:.4f}" for name in (NEVER, UPDATED, ANEW))
    lines.append(
        f"| mean after the first | | | {means} | "
        f"{mean.ndcg[UPDATED] - mean.ndcg[NEVER]:+.4f} | {mean.quality_part:.3f} | "
        f"{mean.time_part:.1%} of the time |"
    )
    return "\n".join(lines) + "\n"
