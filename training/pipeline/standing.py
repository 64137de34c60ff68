"""Where a federation stands: read from what coordinator and parties left in the exchange."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from shortlist._temporary import folder_for
from shortlist.bundle import BundleWriter
from shortlist.bundle.zipped import unpack
from shortlist.errors import DataError
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import Exchange, read_all
from shortlist.training.federated.messages import Message, message_name
from shortlist.training.federated.plan import GATE, SUMS, File, Items, Plan
from shortlist.training.federated.signing import check_signed, read_record, sha256
from shortlist.training.federated.sums import missing_parties

BUNDLE = "bundle"  # among a party's answers
VALUES = ("change", "is_worse")  # of a judgement


@dataclass(frozen=True)
class Standing:
    """Where a federation stands.

    Attributes
    ----------
    plan : int
        Number of the plan.
    round : str
        "sums", "gate", or "done".
    waiting_for : tuple of str
        Whose turn it is: parties, or the coordinator.
    changes : dict of str to float or None
        By party: how much better the new bundle's NDCG@10 is on its held-out users, as a part of
        what it had; None where it has too few users to say.
    is_published : bool or None
        None until all have judged.
    bundle : Path or None
        Where the bundle was written.
    training_round, n_training_rounds : int
        Of an encoder: 0 while the parties count, then from 1 to the last one.
    """

    plan: int
    round: str
    waiting_for: tuple[str, ...] = ()
    changes: Mapping[str, float | None] = field(default_factory=dict)
    is_published: bool | None = None
    bundle: Path | None = None
    training_round: int = 0
    n_training_rounds: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            **vars(self),
            "waiting_for": list(self.waiting_for),
            "changes": dict(self.changes),
            "bundle": None if self.bundle is None else str(self.bundle),
        }

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"plan {self.plan}, round {self.round}"]
        if self.n_training_rounds:
            lines[0] += f" ({self.training_round} of {self.n_training_rounds})"
        if self.waiting_for:
            lines[0] += f": waiting for {', '.join(self.waiting_for)}"
        lines += [f"  {name:20} {_percent(change)}" for name, change in self.changes.items()]
        if self.is_published is not None:
            lines.append("published" if self.is_published else "not published: a party is worse")
        if self.bundle is not None:
            lines.append(f"bundle: {self.bundle}")
        return "\n".join(lines)


def _percent(change: float | None) -> str:
    return "cannot judge: too few users" if change is None else f"{change:+.1%} NDCG@10"


def announced_name(plan: Plan) -> str:
    """Name the record that says which bundle the parties judge."""
    return f"{plan.number:04}.bundle.json"


def result_name(plan: Plan) -> str:
    """Name the record that says how it ended."""
    return f"{plan.number:04}.result.json"


def standing_of(exchange: Exchange, plan: Plan) -> Standing:
    """Say whose turn it is, while nothing is decided."""
    missing, name = missing_parties(exchange, plan, SUMS), SUMS
    if not missing and announced_name(plan) in exchange.names():
        missing, name = missing_parties(exchange, plan, GATE), GATE
    waiting = tuple(missing) or (plan.coordinator.name,)
    return Standing(
        plan.number, name, waiting, training_round=plan.round, n_training_rounds=plan.n_rounds
    )


def record_of(exchange: Exchange, plan: Plan, name: str) -> dict[str, Any]:
    """Read a record of the coordinator about a plan."""
    content, signature = read_record(read_all(exchange, name), name)
    check_signed(content, signature, plan.coordinator, name)
    if content.get("plan") != plan.sha256:
        raise DataError(
            f"{name}: got a record of another plan, expected one of plan {plan.number}: it was "
            f"taken from elsewhere. Fix: get the file from {plan.coordinator.name} again"
        )
    return content


def take(
    exchange: Exchange, plan: Plan, out: Path | None, answers: Answers | None = None
) -> Standing:
    """Say how it ended, and write the bundle if it was published.

    A party has it in its answers, where it judged it.
    """
    result = record_of(exchange, plan, result_name(plan))
    written = None
    if result["is_published"] and out is not None:
        unpack_bundle(exchange, plan, out, answers)
        written = out
    return Standing(
        plan.number,
        "done",
        (),
        result["changes"],
        result["is_published"],
        written,
        plan.round,
        plan.n_rounds,
    )


def judgement_of(exchange: Exchange, plan: Plan, party: str) -> tuple[float | None, bool]:
    """Read what a party says of the bundle: by which part it is better, and whether it is worse."""
    with exchange.open(message_name(plan, GATE, party)) as file:
        value = Message.read(file, plan, GATE, plan.party(party)).value
    change, is_worse = (value.get(name) if isinstance(value, dict) else None for name in VALUES)
    if not isinstance(is_worse, bool) or not (change is None or isinstance(change, int | float)):
        raise DataError(
            f"party {party}, round {GATE}: got the judgement {str(value)[:80]!r}, expected "
            f"{' and '.join(VALUES)}. Fix: {party} uses the release of shortlist that the "
            "coordinator has; then the round is repeated (--repeat)"
        )
    return change, is_worse


def file_of(exchange: Exchange, plan: Plan, file: File | Items) -> bytes:
    """Read a file that a plan names."""
    content = read_all(exchange, file.name)
    if sha256(content) != file.sha256:
        raise DataError(
            f"{file.name}: not the file that plan {plan.number} names. Fix: wait until it is "
            f"copied, or get it from {plan.coordinator.name} again"
        )
    return content


def catalogue_of(exchange: Exchange, plan: Plan) -> pl.DataFrame:
    """Read the item table of a plan."""
    return pl.read_ipc(io.BytesIO(file_of(exchange, plan, plan.items)))


def zip_of(exchange: Exchange, plan: Plan, answers: Answers | None = None) -> bytes:
    """Read the bundle that the parties judge, zipped; from a party's answers, if it is there."""
    announced = record_of(exchange, plan, announced_name(plan))
    kept = None if answers is None else answers.kept(plan, BUNDLE)
    if kept is not None and sha256(kept) == announced["sha256"]:
        return kept
    content = read_all(exchange, announced["name"])
    if sha256(content) != announced["sha256"]:
        raise DataError(
            f"{announced['name']}: not the bundle that {plan.coordinator.name} signed. Fix: wait "
            "until it is copied, or copy it again"
        )
    return content


def unpack_bundle(
    exchange: Exchange, plan: Plan, out: Path, answers: Answers | None = None
) -> None:
    """Write the bundle that the parties judge, all at once."""
    with folder_for(out) as folder, BundleWriter(out) as writer:
        (folder / "bundle.zip").write_bytes(zip_of(exchange, plan, answers))
        unpack(folder / "bundle.zip", writer.directory)
        writer.commit()
