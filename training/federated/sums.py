"""Sums of parties: checked, masked, added up, and read as what they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shortlist.errors import DataError
from shortlist.training.data.arrays import Rows
from shortlist.training.federated.exchange import Exchange
from shortlist.training.federated.keys import Key
from shortlist.training.federated.masks import add_masks
from shortlist.training.federated.messages import Message, Words, message_name, write_message
from shortlist.training.federated.plan import SUMS, Plan


def largest_of(plan: Plan) -> int:
    """Return what every number of a total stays below."""
    return 1 << (plan.bits - 2)


def masked_message(plan: Plan, key: Key, sums: Mapping[str, Rows]) -> bytes:
    """Write a party's sums, masked for all others.

    Raises
    ------
    DataError
        Others than the plan asks for, or so large that the sum over all parties may not fit.
    """
    found = {name: array.shape for name, array in sums.items()}
    if found != plan.tensors:
        raise DataError(
            f"party {key.name}, round {SUMS}: counted {found}, but plan {plan.number} asks for "
            f"{plan.tensors}. Fix: the release of shortlist that the coordinator has"
        )
    limit = largest_of(plan)
    for name, array in sums.items():
        largest = max(int(array.max(initial=0)), -int(array.min(initial=0)))
        if largest * len(plan.parties) >= limit:
            smaller = "events.weights" if plan.round == 0 else "train.learning_rate"
            raise DataError(
                f"party {key.name}, round {SUMS}: got {largest:,} in {name}, expected less than "
                f"{limit // len(plan.parties):,}: the sum over {len(plan.parties)} parties could "
                f"overflow. Fix: smaller {smaller} in the plan"
            )
    masked = {
        name: add_masks(
            sums[name], key, plan.parties, plan.sha256, f"{SUMS} | {name}", bits=plan.bits
        )
        for name in plan.tensors
    }
    return write_message(plan, SUMS, key, tensors=masked)


def missing_parties(exchange: Exchange, plan: Plan, round_name: str) -> list[str]:
    """Name the parties whose message of a round is not there."""
    there = set(exchange.names())
    names = [party.name for party in plan.parties]
    return [name for name in names if message_name(plan, round_name, name) not in there]


def total_of(exchange: Exchange, plan: Plan) -> dict[str, Rows]:
    """Add up the messages of all parties: the masks cancel.

    Raises
    ------
    DataError
        A message is not as it must be, or the total cannot be a sum of counts.
    """
    size = plan.bits // 8
    total: dict[str, Words] = {
        name: np.zeros(shape, f"u{size}") for name, shape in plan.tensors.items()
    }
    for party in plan.parties:
        with exchange.open(message_name(plan, SUMS, party.name)) as file:
            message = Message.read(file, plan, SUMS, party)
            message.add_tensors(file, total, plan.tensors)
    sums: dict[str, Rows] = {
        name: array.view(f"i{size}").astype(np.int64, copy=False) for name, array in total.items()
    }
    for name, array in sums.items():
        if max(int(array.max(initial=0)), -int(array.min(initial=0))) >= largest_of(plan):
            names = ", ".join(party.name for party in plan.parties)
            raise DataError(
                f"round {SUMS}: the masks in {name} do not cancel, so the total of {names} is no "
                "sum: one of them answered with another key or program. Fix: check who did, and "
                "repeat the round (--repeat)"
            )
    return sums
