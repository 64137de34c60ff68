"""What a party remembers: whom it trusts, which plans it answered, and with which bytes.

An answer is kept and sent again as it is: two different answers under the same masks would show
their difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shortlist._temporary import locked, replacing
from shortlist.errors import DataError
from shortlist.training.federated.keys import Party
from shortlist.training.federated.plan import Plan

_TRUST, _PLANS = "coordinator.json", "plans.json"


class Answers:
    """The folder of a party's answers, for its owner alone.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process of the party answer at a time: another one waits."""
        with locked(self.folder):
            yield

    def trusted(self) -> Party | None:
        """Return the coordinator that this party works with, if it has worked with one."""
        record = self._read(_TRUST)
        return None if record is None else Party.read(record, str(self.folder / _TRUST))

    def trust(self, coordinator: Party) -> None:
        """Work with a coordinator from now on."""
        self._write(_TRUST, asdict(coordinator))

    def check_parties(self, plan: Plan, *, accepts: bool) -> None:
        """Refuse a plan whose total, beside the one before, would show the sums of a few.

        Those of the plan that was answered last were agreed on. Another key is another party.
        """
        answered = self._read(_PLANS)
        if accepts or not answered:
            return
        own, entry = _keys_of(plan), answered[-1]
        before = entry["parties"]
        gone = sorted(name for name, key in before.items() if own.get(name) != key)
        new = sorted(name for name, key in own.items() if before.get(name) != key)
        if gone or new:
            raise DataError(
                f"plan {plan.number}: its parties are not those of plan {entry['number']}, "
                f"which this party answered (gone: {', '.join(gone) or 'none'}; new: "
                f"{', '.join(new) or 'none'}). Who gets both totals can subtract them. Fix: if "
                f"plan {entry['number']} was never added up, or you agree, give --accept-parties"
            )

    def kept(self, plan: Plan, round_name: str) -> bytes | None:
        """Return the answer that was given in a round, if there is one."""
        path = self._place(plan, round_name)
        return path.read_bytes() if path.exists() else None

    def keep(self, plan: Plan, round_name: str, answer: bytes) -> None:
        """Keep an answer before it is sent."""
        plans = self._read(_PLANS) or []
        if all(entry["sha256"] != plan.sha256 for entry in plans):
            entry = {"sha256": plan.sha256, "number": plan.number, "parties": _keys_of(plan)}
            self._write(_PLANS, [*plans, entry])
        with replacing(self._place(plan, round_name)) as file:
            file.write(answer)

    def _place(self, plan: Plan, round_name: str) -> Path:
        return self.folder / f"{plan.sha256[:16]}.{round_name}"

    def _read(self, name: str) -> Any:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}), expected what `join` wrote") from error

    def _write(self, name: str, record: Any) -> None:
        with replacing(self.folder / name) as file:
            file.write(json.dumps(record, indent=1).encode())


def _keys_of(plan: Plan) -> dict[str, str]:
    return {party.name: party.agreement for party in plan.parties}
