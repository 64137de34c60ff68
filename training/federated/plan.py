"""The plan of a federation: who, what, with which settings. Signed, and never changed."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

from shortlist.errors import DataError
from shortlist.training.federated.exchange import Exchange, read_all
from shortlist.training.federated.keys import Key, Party
from shortlist.training.federated.signing import (
    canonical,
    check_signed,
    read_record,
    sha256,
    sign_record,
)

FORMAT = "shortlist-federation-1"
SUMS, GATE = "sums", "gate"  # the rounds, in this order
FEWEST = 2
_NAME = re.compile(r"plan-\d{4,}\.json")  # and not one that is being copied


@dataclass(frozen=True)
class Items:
    """The catalogue of a plan: a table in the exchange.

    Attributes
    ----------
    name : str
        Of the table in the exchange.
    sha256 : str
        Of its bytes.
    n_items : int
    columns : dict of str to str
        Type of each column.
    """

    name: str
    sha256: str
    n_items: int
    columns: dict[str, str]


@dataclass(frozen=True)
class File:
    """A file of the exchange that a plan names.

    Attributes
    ----------
    name : str
    sha256 : str
        Of its bytes.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What all parties agree on.

    Attributes
    ----------
    number : int
        From 1; each round is a plan of its own, also one that is repeated.
    coordinator : Party
        Who signed it.
    parties : tuple of Party
        Sorted by name.
    settings : str
        TOML of all settings; ``[data]`` of it is each party's own.
    items : Items
    ids : str
        Scheme of the item ids (`ids.SCHEMES`).
    tensors : dict of str to tuple of int
        What a party's message of sums holds: the shape of each, by name.
    releases : tuple of dict
        Of a private plan: earlier releases of the same users, as in the ledger of their bundle.
    bits : int
        Of a number in a message, 64 or 32: sums are those modulo 2^bits.
    round : int
        0: the parties count. From 1: they train, and send how their weights changed.
    n_rounds : int
        The last round; 0 for models that are made of counts alone.
    model : File or None
        From round 1 on: the weights that the parties begin with.
    state : File or None
        From round 1 on: what the coordinator goes on with.
    """

    number: int
    coordinator: Party
    parties: tuple[Party, ...]
    settings: str
    items: Items
    ids: str
    tensors: dict[str, tuple[int, ...]]
    releases: tuple[dict[str, float], ...] = ()
    bits: int = 64
    round: int = 0
    n_rounds: int = 0
    model: File | None = None
    state: File | None = None

    @cached_property
    def sha256(self) -> str:
        """The hash that messages name."""
        return sha256(canonical(self.to_dict()))

    @property
    def name(self) -> str:
        """Its name in an exchange."""
        return f"plan-{self.number:04}.json"

    def to_dict(self) -> dict[str, Any]:
        """Return the record that is signed."""
        lists = {
            "parties": [asdict(party) for party in self.parties],
            "tensors": {name: list(shape) for name, shape in self.tensors.items()},
            "releases": list(self.releases),
        }
        return {"format": FORMAT, **asdict(self), **lists}

    @property
    def is_last(self) -> bool:
        """Say whether the bundle is made of this plan's answers."""
        return self.round == self.n_rounds

    def party(self, name: str) -> Party:
        """Return a party by its name."""
        for party in self.parties:
            if party.name == name:
                return party
        known = ", ".join(party.name for party in self.parties)
        raise DataError(
            f"party: got {name!r}, which is not in plan {self.number}, expected one of {known}. "
            "Fix: the coordinator plans with your public key"
        )

    def next_without(self, names: frozenset[str]) -> Plan:
        """Return the plan of a repeated round, of which the named parties are no part."""
        for name in names:
            self.party(name)
        left = tuple(party for party in self.parties if party.name not in names)
        made = replace(self, number=self.number + 1, parties=left)
        made.check()
        return made

    def next_round(self, model: File, state: File, tensors: dict[str, tuple[int, ...]]) -> Plan:
        """Return the plan of the next round of training."""
        return replace(
            self,
            number=self.number + 1,
            round=self.round + 1,
            model=model,
            state=state,
            tensors=tensors,
        )

    def check(self) -> None:
        """Refuse a plan that cannot be carried out."""
        if len(self.parties) < FEWEST:
            raise DataError(
                f"parties: got {len(self.parties)}, expected at least {FEWEST}: the sum over one "
                "party is its own. Fix: more --party FILE"
            )
        for field in ("name", "signing", "agreement"):
            values = [getattr(party, field) for party in self.parties]
            again = next((value for value in values if values.count(value) > 1), None)
            if again is not None:
                raise DataError(
                    f"parties: got {field} {again!r} twice, expected each party once, with a key "
                    "of its own. Fix: every party makes its key itself"
                )

    def write(self, exchange: Exchange, key: Key) -> None:
        """Sign it and put it into an exchange."""
        exchange.write(self.name, sign_record(self.to_dict(), key))

    @classmethod
    def _from(cls, content: dict[str, Any], where: str) -> Self:
        if content.get("format") != FORMAT:
            raise DataError(
                f"{where}: got format {content.get('format')!r}, expected {FORMAT!r}. Fix: all "
                "parties and the coordinator use releases of shortlist with the same format"
            )
        try:
            parties = tuple(Party.read(entry, where) for entry in content["parties"])
            return cls(
                int(content["number"]),
                Party.read(content["coordinator"], where),
                parties,
                str(content["settings"]),
                Items(**content["items"]),
                str(content["ids"]),
                {name: tuple(shape) for name, shape in content["tensors"].items()},
                tuple(content["releases"]),
                int(content["bits"]),
                int(content["round"]),
                int(content["n_rounds"]),
                *(None if content[n] is None else File(**content[n]) for n in ("model", "state")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{where}: damaged ({error}), expected a plan") from error


def latest_plan(exchange: Exchange, coordinator: Party | None = None) -> Plan:
    """Read the newest plan of an exchange, and check who signed it.

    Parameters
    ----------
    exchange : Exchange
    coordinator : Party, optional
        Whose signature is expected; without it that of the coordinator named in the plan.

    Raises
    ------
    DataError
        There is none, it was changed after it was signed, or another one signed it.
    """
    names = [name for name in exchange.names() if _NAME.fullmatch(name)]
    if not names:
        raise DataError(
            "exchange: got no plan, expected one. Fix: `shortlist federate plan` writes it"
        )
    where = names[-1]
    content, signature = read_record(read_all(exchange, where), where)
    plan = Plan._from(content, where)
    signer = plan.coordinator
    if coordinator is not None and signer.signing != coordinator.signing:
        raise DataError(
            f"{where}: signed by another key than that of {coordinator.name}, expected the "
            "coordinator that this party has worked with. Fix: ask the coordinator; where its key "
            "is really new, give --coordinator FILE"
        )
    check_signed(content, signature, signer, where)
    if plan.name != where:
        raise DataError(f"{where}: got plan {plan.number}, expected the number in its name")
    plan.check()
    return plan
