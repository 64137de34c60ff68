"""Parties with keys that never change, and a plan of theirs."""

from __future__ import annotations

import hashlib

from shortlist.training.federated.keys import Key
from shortlist.training.federated.plan import Items, Plan


def key_of(name):
    secrets = [hashlib.sha256(f"{use} {name}".encode()).hexdigest() for use in ("sign", "agree")]
    return Key(name, *secrets)


HEAD = key_of("head")
KEYS = tuple(key_of(name) for name in ("east", "north", "south", "west"))


def plan_of(keys=KEYS, **changes):
    items = Items("items-0.arrow", "0" * 64, 3, {"item_id": "String"})
    parties = tuple(key.party for key in keys)
    return Plan(**{"number": 1, "coordinator": HEAD.party, "parties": parties, "settings": "",
                   "items": items, "ids": "own"} | changes)  # fmt: skip
