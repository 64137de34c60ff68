"""What a training gave, for people and for JSON: results beside baselines, and one judgement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.training.data.counted import counted

if TYPE_CHECKING:
    import shortlist
    from shortlist.export.parity import Parity
    from shortlist.training.cleaning.report import CleaningReport
    from shortlist.training.data.summary import EventSummary
    from shortlist.training.evaluation.counts import UserCounts
    from shortlist.training.evaluation.verdict import Verdict
    from shortlist.training.fit.second_stage import RerankerReport
    from shortlist.training.pipeline.choice import Choice

WIDTH = 13  # of the names of metrics
SHOWN = ("NDCG@10", "HR@10", "NDCG@20", "HR@20", "coverage@10")
FEW_USERS = 100  # below, one user more or less changes the first digit
HELD_OUT = {
    "leave-one-out": "each user's last item but one",
    "temporal": "the events before the test",
    "random": "events of each user, drawn at random",
    "lightgcn-split": "events drawn at random",
}


@dataclass(frozen=True)
class Validation:
    """What was held out, how baselines rank it, and what follows.

    Attributes
    ----------
    protocol : str
    users : UserCounts
        Those measured, and those left out.
    n_items : int
        Items ranked for each of them.
    baselines : dict of str to dict
        Metrics of each baseline; of a sample of the users, where there are many users and items.
    verdict : Verdict
        Whether the encoders are better than the best of the baselines.
    """

    protocol: str
    users: UserCounts
    n_items: int
    baselines: dict[str, dict[str, float]]
    verdict: Verdict

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            "protocol": self.protocol,
            "n_users": self.users.measured,
            "left_out": self.users.left_out(),
            "n_items": self.n_items,
            "baselines": self.baselines,
            "verdict": self.verdict.to_dict(),
        }


@dataclass(frozen=True)
class TrainReport:
    """What a training gave.

    Attributes
    ----------
    bundle, run : Path
        Where the bundle and the run folder lie.
    events : EventSummary
        What the model was trained and measured on.
    features : dict of str to str
        "item.COLUMN" or "user.COLUMN" → its kind, for each column that the model learns from.
    user : str or None
        Id of one of the users that the bundle knows, to try it with; None if it stores none.
    cleaning : CleaningReport or None
        What cleaning dropped, as in the run folder's cleaning.json; None where it is off.
    ended : str
        Why the training ended and which epoch was kept, as a sentence; empty without epochs.
    metrics : dict of str to float
        Validation metrics of the best epoch.
    validation : Validation or None
        None where nothing was held out.
    second_stage : RerankerReport or None
        None without one.
    parity : Parity
    warnings : tuple of str
        Reasons to doubt the result, as sentences.
    choice : Choice or None
        What was tried and chosen; None where the settings say what is trained.
    privacy : str
        What a private bundle promises, as a sentence; empty of any other.
    """

    bundle: Path
    run: Path
    events: EventSummary
    features: dict[str, str]
    user: str | None
    cleaning: CleaningReport | None
    ended: str
    metrics: dict[str, float]
    validation: Validation | None
    second_stage: RerankerReport | None
    parity: Parity
    warnings: tuple[str, ...] = ()
    choice: Choice | None = None
    privacy: str = ""

    def load(self, **options: object) -> shortlist.Engine:
        """Open the bundle: `shortlist.load` with its options."""
        import shortlist

        return shortlist.load(self.bundle, **options)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; what there is none of is empty."""
        return {
            "bundle": str(self.bundle),
            "run": str(self.run),
            "events": self.events.to_dict(),
            "features": self.features,
            "user": self.user,
            "cleaning": {} if self.cleaning is None else self.cleaning.to_dict(),
            "ended": self.ended,
            "metrics": self.metrics,
            "validation": {} if self.validation is None else self.validation.to_dict(),
            "second_stage": {} if self.second_stage is None else self.second_stage.to_dict(),
            "parity": self.parity.to_dict(),
            "warnings": list(self.warnings),
            "choice": {} if self.choice is None else self.choice.to_dict(),
            "privacy": self.privacy,
        }

    def __str__(self) -> str:
        """Write the results for people, with the baselines beside them."""
        lines = [] if self.choice is None else [str(self.choice)]
        lines += [self.ended] if self.ended else []
        lines += [self.privacy] if self.privacy else []
        if self.validation is not None:
            lines += [*self._table(self.validation), self.validation.verdict.sentence]
        if self.cleaning is not None:
            n_dropped = self.cleaning.n_rows - self.cleaning.n_kept
            lines.append(
                f"cleaning dropped {counted(n_dropped, 'event')}: see {self.run}/cleaning.txt"
            )
        return "\n".join([*lines, f"bundle: {self.bundle}", f"run:    {self.run}"])

    def _table(self, validation: Validation) -> list[str]:
        held_out = HELD_OUT.get(validation.protocol, validation.protocol)
        second = self.second_stage
        first = ", first stage" if second is not None and second.is_kept else ""
        # The best baseline stands beside the bundle.
        columns = dict(sorted(validation.baselines.items(), key=lambda row: row[1][SHOWN[0]]))
        columns[f"{self.bundle.name}{first}"] = self.metrics
        lines = [
            f"validation: {held_out}; all {counted(validation.n_items, 'item')} ranked",
            validation.users.sentence("valid"),
            " " * WIDTH + "  ".join(columns),
        ]
        for metric in SHOWN:
            cells = (f"{metrics[metric]:{len(name)}.4f}" for name, metrics in columns.items())
            lines.append(f"{metric:{WIDTH}}" + "  ".join(cells))
        if second is not None and second.ndcg_at_10_with is not None:
            is_kept = "it stays" if second.is_kept else "left out, as it does not help"
            lines.append(
                f"second stage: NDCG@10 {second.ndcg_at_10_with:.4f} with it, "
                f"{second.ndcg_at_10_without:.4f} without: {is_kept}"
            )
        return lines
