"""Which users a mean holds, and which it leaves out and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from shortlist.training.data.counted import counted

__all__ = ["REASONS", "UserCounts"]


@dataclass(frozen=True)
class UserCounts:
    """The users of a data set, each counted once: measured, or left out for one reason.

    Attributes
    ----------
    measured : int
        Users that the mean holds.
    no_target : int
        Left out: none of their events is a target of the part.
    no_history : int
        Left out: nothing is known of them before the part.
    seen_targets : int
        Left out: all their targets are items they had before, which lists without seen items
        cannot hold.
    not_drawn : int
        Left out: a sample was measured.
    other_items : int
        Left out: all their targets are items that only some of the compared bundles have.
    n_targets, n_seen_targets : int
        Targets of the measured users, and targets of any user that were left out as seen.
    n_seen_beside : int
        Those of them whose user has other targets.
    """

    measured: int
    no_target: int = 0
    no_history: int = 0
    seen_targets: int = 0
    not_drawn: int = 0
    n_targets: int = 0
    n_seen_targets: int = 0
    n_seen_beside: int = 0
    other_items: int = 0

    @property
    def n_in_part(self) -> int:
        """Users with a target in the part."""
        left_out = self.left_out()
        return self.measured + sum(left_out[name] for name in REASONS)

    def left_out(self) -> dict[str, int]:
        """Return the number of users left out for each reason."""
        counts = asdict(self)
        return {name: counts[name] for name in (*REASONS, "no_target")}

    def sentence(self, on: str) -> str:
        """Say how many users of a part ("test" or "valid") are measured, and why not all are."""
        part = "validation" if on == "valid" else on
        text = f"{self.measured:,} of {counted(self.n_in_part, f'{part} user')} measured"
        left_out = self.left_out()
        reasons = [f"{left_out[name]:,} {why}" for name, why in REASONS.items() if left_out[name]]
        text += f"; left out: {', '.join(reasons)}" if reasons else ""
        if self.n_seen_beside:
            text += f"; also left out: {counted(self.n_seen_beside, 'seen target')} of users with "
            text += "new ones"
        if self.no_target:
            have = "has" if self.no_target == 1 else "have"
            text += f"; {counted(self.no_target, 'more user')} {have} no {part} target"
        return text


# Why users with a target in the part are not measured.
REASONS = {
    "seen_targets": "whose targets are all in their history",
    "no_history": "without a history",
    "not_drawn": "not in the sample",
    "other_items": "whose targets are items that only some of the bundles have",
}
