"""What cleaning did: how many rows each rule saw and dropped, with examples."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

from shortlist.training.data.counted import counted
from shortlist.training.data.summary import EventSummary

N_EXAMPLES = 3
Example: TypeAlias = dict[str, object]  # of a dropped row: ``place`` and its cells, as JSON


@dataclass(frozen=True)
class RuleReport:
    """What one rule did.

    Attributes
    ----------
    rule : str
        Its key in ``[cleaning]``.
    what : str
        In words, with its parameters; why it did not run, where it did not.
    is_on : bool
    n_seen, n_dropped : int
        Rows that came from the rule before it, and those it dropped.
    examples : list of Example
        The first dropped rows: ``place`` in the source and the five columns as they are there.
    """

    rule: str
    what: str
    is_on: bool
    n_seen: int
    n_dropped: int
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class CleaningReport:
    """What all rules did to one table of events.

    Attributes
    ----------
    source : str
    n_rows, n_kept : int
    rules : list of RuleReport
        In the order in which they ran.
    events : EventSummary or None
        What is left; None before it was counted.
    seconds : float
    """

    source: str
    n_rows: int
    n_kept: int
    rules: list[RuleReport]
    events: EventSummary | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Give everything as JSON values."""
        return asdict(self)

    def to_json(self) -> str:
        """Write everything as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        """Write everything for people: one line a rule, examples under it."""
        dropped = self.n_rows - self.n_kept
        share = dropped / max(self.n_rows, 1)
        lines = [
            f"{self.source}: {counted(self.n_rows, 'event')}, {self.n_kept:,} kept, "
            f"{dropped:,} dropped ({share:.2%}), {self.seconds:.1f} s",
            f"{'rule':<14} {'seen':>13} {'dropped':>12}",
        ]
        for rule in self.rules:
            counts = f"{rule.n_seen:>13,} {rule.n_dropped:>12,}" if rule.is_on else " " * 26
            lines.append(f"{rule.rule:<14} {counts}  {rule.what}")
            lines += [f"{'':<14} e.g. {_shown(example)}" for example in rule.examples]
        if self.events is not None and self.n_kept:
            lines += ["kept:", *self.events.lines()]
        return "\n".join(lines) + "\n"


def _shown(example: Example) -> str:
    cells = [f"{name} {value!r}" for name, value in example.items() if name != "place"]
    return f"{example['place']}: {', '.join(cells)}"
