"""Parties with keys that never change, events of theirs, and the turns they take."""

from __future__ import annotations

import hashlib
import itertools
import zipfile

import numpy as np
import polars as pl

from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.keys import Key
from shortlist.training.federated.plan import Items, Plan

N_ITEMS = 24
SHAPES = {"counts": (3,), "pairs": (3, 3)}


def key_of(name):
    secrets = [hashlib.sha256(f"{use} {name}".encode()).hexdigest() for use in ("sign", "agree")]
    return Key(name, *secrets)


HEAD = key_of("head")
KEYS = tuple(key_of(name) for name in ("east", "north", "south", "west"))


def plan_of(keys=KEYS, **changes):
    items = Items("items-0.arrow", "0" * 64, 3, {"item_id": "String"})
    parties = tuple(key.party for key in keys)
    return Plan(**{"number": 1, "coordinator": HEAD.party, "parties": parties, "settings": "",
                   "items": items, "ids": "own", "tensors": SHAPES} | changes)  # fmt: skip


def events_of(n_users=220, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        order = random.permutation(N_ITEMS)
        order = order[np.argsort(order % 4 != user % 4, kind="stable")]
        rows += [
            (f"reader-{user}", f"i{item}", 1_700_000_000 + 3607 * place + user,
             str(random.choice(["view", "buy"])))
            for place, item in enumerate(order[: random.integers(3, 12)])
        ]  # fmt: skip
    return pl.DataFrame(
        rows, schema=["user_id", "item_id", "timestamp", "kind"], orient="row"
    ).with_columns(number=pl.col("user_id").str.slice(7).cast(pl.Int64))


def items_table():
    names = [f"i{item}" for item in range(N_ITEMS)]
    prices = [float(item) for item in range(N_ITEMS)]
    return pl.DataFrame({"item_id": names, "title": names, "price": prices})


def parts(cuts):
    events = events_of()
    within = itertools.pairwise(cuts)
    return [
        events.filter((pl.col("number") >= low) & (pl.col("number") < high)).drop("number")
        for low, high in within
    ]


class World:
    """Parties with their events, and an exchange between them."""

    def __init__(self, folder, keys, cuts, **settings):
        self.folder, self.keys = folder, keys
        self.exchange = FolderExchange(folder / "exchange", is_new=True)
        self.events = dict(zip((key.name for key in keys), parts(cuts), strict=True))
        from shortlist.training.pipeline.federation import plan_federation

        self.plan = plan_federation(
            self.exchange, HEAD, [key.party for key in keys], items_table(), overrides=settings
        )

    def join(self, key, **options):
        from shortlist.training.pipeline.federation import join_federation

        answers = Answers(self.folder / f"{key.name}.answers")
        options = {"events": self.events[key.name], "progress": False} | options
        return join_federation(options.pop("exchange", self.exchange), key, answers, **options)

    def collect(self, out="out.shortlist"):
        from shortlist.training.pipeline.federation import collect_federation

        return collect_federation(self.exchange, HEAD, self.folder / out)

    def announced(self):
        """The bundle that the parties judge, as a folder."""
        path = next(self.exchange.folder.glob("*.bundle-*.shortlist"))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(self.folder / "announced")
        return self.folder / "announced"
