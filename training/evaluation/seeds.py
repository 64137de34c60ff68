"""The same settings trained with several seeds: how far apart the bundles lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from shortlist.training.data.counted import counted

__all__ = ["SeedRun", "SeedsReport", "no_seeds", "seeds_report"]


@dataclass(frozen=True)
class SeedRun:
    """One training.

    Attributes
    ----------
    seed : int
    metrics : dict of str to float
        Through the exported bundle.
    bundle : str or None
        Where it lies; None where it was not kept.
    """

    seed: int
    metrics: dict[str, float]
    bundle: str | None = None


@dataclass(frozen=True)
class SeedsReport:
    """What other seeds give.

    Attributes
    ----------
    sentence : str
        For people.
    runs : tuple of SeedRun
        Empty where the settings draw nothing at random.
    medians : dict of str to float
        Of each metric, over the runs.
    ranges : dict of str to (low, high)
        Lowest and highest of them.
    widths : dict of str to float
        Of the bundle's 95 % intervals over users, to compare the ranges with.
    """

    sentence: str
    runs: tuple[SeedRun, ...] = ()
    medians: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    widths: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    def rows(self) -> dict[str, Mapping[str, float]]:
        """Return a table: a row a seed, then what they have in common, by metric."""
        if not self.runs:
            return {}
        rows: dict[str, Mapping[str, float]] = {f"seed {r.seed}": r.metrics for r in self.runs}
        rows["median"] = self.medians
        rows["lowest"] = {name: low for name, (low, _) in self.ranges.items()}
        rows["highest"] = {name: high for name, (_, high) in self.ranges.items()}
        rows["between seeds"] = {name: high - low for name, (low, high) in self.ranges.items()}
        rows["between users"] = self.widths
        return rows


def no_seeds(encoder: str) -> SeedsReport:
    """Say that a model has nothing random in it."""
    return SeedsReport(
        f"seeds change nothing: {encoder} is computed from the events and draws no random number, "
        "so that nothing was trained anew"
    )


def seeds_report(
    name: str,
    metrics: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    runs: Sequence[SeedRun],
    metric: str,
) -> SeedsReport:
    """Sum up the trainings of several seeds.

    Parameters
    ----------
    name : str
        The bundle that was trained anew.
    metrics, intervals : mapping
        Its own metrics, and their intervals over users.
    runs : sequence of SeedRun
    metric : str
        The one that the sentence is about.
    """
    values = {key: [run.metrics[key] for run in runs] for key in runs[0].metrics}
    medians = {key: median(column) for key, column in values.items()}
    ranges = {key: (min(column), max(column)) for key, column in values.items()}
    widths = {key: high - low for key, (low, high) in intervals.items()}
    (low, high), own = ranges[metric], metrics[metric]
    place = "above them all" if own > high else "below them all" if own < low else "among them"
    sentence = (
        f"{metric} of {counted(len(runs), 'seed')}: median {medians[metric]:.4f}, from {low:.4f} "
        f"to {high:.4f}; {high - low:.4f} between seeds, {widths[metric]:.4f} between users (width "
        f"of the 95 % interval); {name} itself has {own:.4f}, {place}"
    )
    return SeedsReport(sentence, tuple(runs), medians, ranges, widths)
