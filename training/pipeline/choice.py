"""What `train` tried and chose: as a table, and as ``choice.json`` of the run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from shortlist.errors import DataError
from shortlist.training.fit import checkpoint

__all__ = ["METRIC", "Attempt", "Choice", "Settings", "load_choice", "save_choice"]

METRIC = "NDCG@10"
Settings: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Attempt:
    """One candidate that was measured, or the reason why not.

    Attributes
    ----------
    name : str
    settings : dict of str to object
        What differs from the defaults, by setting.
    ndcg_at_10 : float or None
        On validation; None: not measured.
    interval : tuple of (low, high) or None
        95 % bootstrap interval of it.
    note : str
        "2 of 18 epochs", or why it was left out.
    seconds : float
        That it took.
    """

    name: str
    settings: Settings
    ndcg_at_10: float | None
    interval: tuple[float, float] | None
    note: str
    seconds: float

    @property
    def score(self) -> float:
        """NDCG@10, below all others where there is none."""
        return -1.0 if self.ndcg_at_10 is None else self.ndcg_at_10


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what was tried.

    Attributes
    ----------
    chosen : Attempt
        To be trained.
    fallback : Attempt or None
        The best closed-form model, to be taken if the trained encoder does not beat it; None where
        it is the choice itself.
    attempts : tuple of Attempt
        In the order in which they were tried.
    """

    chosen: Attempt
    fallback: Attempt | None
    attempts: tuple[Attempt, ...]

    @property
    def settings(self) -> Settings:
        """What to set for a training of the choice, with nothing left to choose."""
        return self.chosen.settings | {"choice.minutes": 0.0}

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Write what was tried as a table for people, best first."""
        measured = [attempt for attempt in self.attempts if attempt.ndcg_at_10 is not None]
        measured.sort(key=lambda attempt: -attempt.score)
        rows = [("tried", f"validation {METRIC}", "95 % interval", "seconds", "")]
        for attempt in measured:
            span = "" if attempt.interval is None else "{:.4f} to {:.4f}".format(*attempt.interval)
            chosen = "chosen" if attempt == self.chosen else ""
            note = ", ".join(part for part in (attempt.note, chosen) if part)
            rows.append(
                (attempt.name, f"{attempt.score:.4f}", span, f"{attempt.seconds:.0f}", note)
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:4], widths[1:4]), row[4]])
            for row in rows
        ]
        left_out = [a for a in self.attempts if a.ndcg_at_10 is None]
        lines += [f"{attempt.name}: {attempt.note}" for attempt in left_out]
        return "\n".join(line.rstrip() for line in lines)


def load_choice(run_dir: Path) -> Choice | None:
    """Read the choice of a run folder; None if it has none."""
    path = run_dir / checkpoint.CHOICE
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        chosen, fallback = _attempt(tree["chosen"]), tree["fallback"]
        attempts = tuple(map(_attempt, tree["attempts"]))
        return Choice(chosen, None if fallback is None else _attempt(fallback), attempts)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: damaged ({error}); delete the run folder and train anew"
        ) from error


def save_choice(choice: Choice, run_dir: Path) -> None:
    """Write a choice into a run folder."""
    text = json.dumps(choice.to_dict(), indent=1) + "\n"
    checkpoint.write_atomic(run_dir / checkpoint.CHOICE, text.encode())


def _attempt(tree: Mapping[str, object]) -> Attempt:
    fields = dict(tree)
    interval = fields["interval"]
    fields["interval"] = tuple(interval) if isinstance(interval, list) else None
    return Attempt(**fields)  # type: ignore[arg-type]
