"""What an update did: as data, and as lines for people."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shortlist.training.data.counted import counted
from shortlist.training.updates.drift import drift_lines

if TYPE_CHECKING:
    from pathlib import Path

    from shortlist.training.updates.drift import DriftReport
    from shortlist.training.updates.gate import GateReport, GateSegment

__all__ = ["UpdateReport", "refusal", "update_lines"]


@dataclass(frozen=True)
class UpdateReport:
    """What an update did.

    Attributes
    ----------
    bundle : Path
        Where the new bundle lies.
    version, parent : str
        Of the new bundle, and of the one that it was trained from.
    run : Path
        The new run folder.
    is_champion : bool
        The new bundle has replaced the old one.
    is_refused : bool
        The gate refused the new bundle, and was not to be ignored.
    is_taken_as_it_was : bool
        It was trained by an update before this one, which it was refused by or rolled back after.
    previous : Path or None
        Where the replaced one lies.
    n_events, n_trained, n_freed, n_held_out : int
        New events; those trained on; old ones that the last training held out, trained on too; new
        ones held out for the gate.
    n_new_items, n_new_users : int
    seconds : dict of str to float
        By step.
    drift : DriftReport
    gate : GateReport
    removed : tuple of str
        Old versions that were removed.
    not_removed : str or None
        Why old ones could not be.
    """

    bundle: Path
    version: str
    parent: str
    run: Path
    is_champion: bool
    is_refused: bool
    is_taken_as_it_was: bool
    previous: Path | None
    n_events: int
    n_trained: int
    n_freed: int
    n_held_out: int
    n_new_items: int
    n_new_users: int
    seconds: dict[str, float]
    drift: DriftReport
    gate: GateReport
    removed: tuple[str, ...] = ()
    not_removed: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        fields: dict[str, object] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        return fields | {
            "bundle": str(self.bundle),
            "run": str(self.run),
            "previous": None if self.previous is None else str(self.previous),
            "drift": self.drift.to_dict(),
            "gate": self.gate.to_dict(),
            "refused_by": "gate" if self.is_refused else None,
            "removed": list(self.removed),
        }


def update_lines(report: UpdateReport, champion: Path) -> list[str]:
    """Write a report for people."""
    lines = [
        *drift_lines(report.drift),
        f"{counted(report.n_events, 'new event')}: {report.n_trained:,} trained on, "
        f"{report.n_held_out:,} held out; {counted(report.n_new_items, 'new item')}, "
        f"{counted(report.n_new_users, 'new user')}; {counted(report.n_freed, 'event')} that the "
        "last training held out, trained on too",
        ", ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items()),
        f"NDCG@10 on the newest events: {_ranked(report)}",
        *(_segment_line(name, segment) for name, segment in report.gate.segments.items()),
        *(f"  {reason}" for reason in report.gate.reasons),
    ]
    if report.is_taken_as_it_was:
        lines.append(f"version {report.version} was trained before and is judged as it is")
    if report.is_champion:
        lines += [
            f"version {report.version} is now {champion}",
            f"the one before it: {report.previous}; back: shortlist rollback {champion}",
        ]
    else:
        lines.append(f"version {report.version}: {report.bundle}; {champion} stays as it is")
    if report.is_refused:
        lines.append(refusal(report))
    if report.removed:
        lines.append(f"old versions removed (--keep): {', '.join(report.removed)}")
    if report.not_removed:
        lines.append(
            f"old versions stay (--keep), the next update tries again: {report.not_removed}"
        )
    return lines


def refusal(report: UpdateReport) -> str:
    """Say why the gate refused the new bundle, and how to have it all the same."""
    return (
        f"REFUSED by the gate: {'; '.join(report.gate.reasons)}. To take it as it is all the same: "
        "--ignore-gate"
    )


def _ranked(report: UpdateReport) -> str:
    gate = report.gate
    reasons = [
        f"{n:,} {reason}"
        for n, reason in (
            (gate.n_seen, "of items that their user had before"),
            (gate.n_no_targets, "that are no targets"),
        )
        if n
    ]
    left_out = f"; left out: {', '.join(reasons)}" if reasons else ""
    return f"{gate.n_ranked:,} of {counted(report.n_held_out, 'held-out event')} ranked{left_out}"


def _segment_line(name: str, segment: GateSegment) -> str:
    if not segment.n_users:
        return f"  {name:<12} no users"
    low, high = segment.interval
    return (
        f"  {name:<12} {segment.champion:.4f} → {segment.challenger:.4f}, difference "
        f"{segment.difference:+.4f} ({low:+.4f} to {high:+.4f}), {counted(segment.n_users, 'user')}"
        + ("" if segment.is_judged else ", too few to judge")
    )
