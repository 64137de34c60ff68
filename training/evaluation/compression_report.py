"""What a compression tried, found and wrote: as data, and as lines for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CompressionReport", "Figures", "Step", "compression_lines"]

METRIC = "NDCG@10"


@dataclass(frozen=True)
class Figures:
    """A bundle in numbers.

    Attributes
    ----------
    size : int
        Bytes of all files.
    metrics : dict of str to float
        HR@10 and NDCG@10 of its lists on the validation users.
    interval : tuple of (low, high)
        95 % interval of NDCG@10, a bootstrap over users.
    encoder_ms : dict of str to float
        Milliseconds of processor time of the user encoder, by requests a call ("1" and "64").
    """

    size: int
    metrics: dict[str, float]
    interval: tuple[float, float]
    encoder_ms: dict[str, float]

    @property
    def ndcg(self) -> float:
        """NDCG@10."""
        return self.metrics[METRIC]

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self) | {"interval": list(self.interval)}


@dataclass(frozen=True)
class Step:
    """A smaller form of a bundle, beside the bundle itself.

    Attributes
    ----------
    name : str
        What was done, all steps so far.
    figures : Figures
    loss : float
        Part of the bundle's NDCG@10 that is lost; below 0 where it is gained.
    difference : float
        NDCG@10 less that of the bundle.
    interval : tuple of (low, high)
        95 % interval of the difference: a bootstrap over users, each with both.
    speedup : dict of str to float
        How many times as fast its user encoder is, by requests a call; both were timed in turns.
    is_passed : bool
        The loss is within the tolerance.
    """

    name: str
    figures: Figures
    loss: float
    difference: float
    interval: tuple[float, float]
    speedup: dict[str, float]
    is_passed: bool

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        fields = asdict(self) | {"figures": self.figures.to_dict()}
        return fields | {"interval": list(self.interval)}


@dataclass(frozen=True)
class CompressionReport:
    """What a compression did.

    Attributes
    ----------
    bundle, out : Path
        The bundle, and where the smaller one is to lie.
    version : str
        Of the new bundle; empty where none was written.
    tolerance : float
        Part of NDCG@10 that may be lost.
    n_users : int
        Validation users.
    before : Figures
    steps : tuple of Step
        What was tried, in order.
    chosen : str
        Name of the step that was written; empty where all were refused.
    reason : str
        Why nothing was written; empty where something was.
    test : dict of str to dict
        HR@10 and NDCG@10 of "before" and "after" on the test users, who chose nothing; empty
        without them.
    run : Path or None
        Folder of the run that was trained for this.
    """

    bundle: Path
    out: Path
    version: str
    tolerance: float
    n_users: int
    before: Figures
    steps: tuple[Step, ...]
    chosen: str
    reason: str = ""
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    run: Path | None = None

    @property
    def is_refused(self) -> bool:
        """Nothing was written."""
        return not self.chosen

    @property
    def step(self) -> Step | None:
        """The step that was written."""
        return next((step for step in self.steps if step.name == self.chosen), None)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            "bundle": str(self.bundle),
            "out": str(self.out),
            "version": self.version,
            "tolerance": self.tolerance,
            "n_users": self.n_users,
            "before": self.before.to_dict(),
            "steps": [step.to_dict() for step in self.steps],
            "chosen": self.chosen,
            "is_refused": self.is_refused,
            "reason": self.reason,
            "test": self.test,
            "run": None if self.run is None else str(self.run),
        }


def compression_lines(report: CompressionReport) -> list[str]:
    """Return the report as lines: a table of what was tried, then what came of it."""
    before = report.before
    rows: list[tuple[str, ...]] = [
        ("", "bytes", "of it", METRIC, "lost", "95 %", "encoder, 64 at once")
    ]
    rows.append(_row("the bundle", before, before, "", "", f"{before.encoder_ms['64']:.2f} ms"))
    for step in report.steps:
        low, high = step.interval
        lost = f"{round(step.loss, 4) + 0.0:+.2%}" + ("" if step.is_passed else " refused")
        interval, speed = f"{low:+.4f} to {high:+.4f}", f"{step.speedup['64']:.2f} × as fast"
        rows.append(_row(step.name, step.figures, before, lost, interval, speed))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
    lines += ["", f"measured on {report.n_users:,} validation users; {_outcome(report)}"]
    if report.test:
        both = ", ".join(
            f"{name} {report.test['before'][name]:.4f} before, {value:.4f} after"
            for name, value in report.test["after"].items()
        )
        lines.append(f"test users, who chose nothing: {both}")
    return lines


def _row(
    name: str, figures: Figures, before: Figures, lost: str, interval: str, speed: str
) -> tuple[str, ...]:
    part = f"{figures.size / before.size:.2f}"
    return (name, f"{figures.size:,}", part, f"{figures.ndcg:.4f}", lost, interval, speed)


def _outcome(report: CompressionReport) -> str:
    step = report.step
    if step is None:
        return report.reason
    return (
        f"wrote {report.out} ({report.chosen}): {step.figures.size / report.before.size:.2f} of "
        f"the bytes, at most {report.tolerance:.1%} of {METRIC} may be lost and "
        f"{max(step.loss, 0.0):.2%} is"
    )
