"""A party's own events, and its judgement: what only the party's machine sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shortlist
from shortlist.errors import DataError
from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.config.settings import apply_overrides
from shortlist.training.data.events import Dataset
from shortlist.training.data.tables import log
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.federated.ids import unified
from shortlist.training.federated.settings import MODELS
from shortlist.training.models.linear import build_baseline
from shortlist.training.splits.split import leave_one_out

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config
    from shortlist.training.data.tables import TableSource
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.federated.plan import Plan

METRIC = "NDCG@10"


def load_house(
    plan: Plan,
    catalogue: pl.DataFrame,
    config: Config,
    name: str,
    events: TableSource | None,
    progress: bool,
) -> Dataset:
    """Load a party's events over the catalogue of a plan.

    Parameters
    ----------
    plan : Plan
    catalogue : polars.DataFrame
    config : Config
        Of the plan, with the party's ``[data]``.
    name : str
        Of the party, for messages.
    events : path or frame, optional
        In place of ``data.path``.
    progress : bool

    Raises
    ------
    DataError
        No events; ids that the catalogue lacks; an item table of the party with other kinds of
        columns than the plan's.
    """
    if events is None and not config.data.path:
        raise DataError(f"party {name}: got no events, expected some. Fix: give --data")
    if config.data.users:
        raise DataError(
            f"party {name}: data.users: got {config.data.users!r}, expected none: the models of a "
            "plan take no user features. Fix: leave --users out"
        )
    loaded, _ = load_configured(config, frames=Frames(events=events), progress=progress)
    if loaded.items is not None and config.data.items:
        _check_kinds(plan, loaded.items, name)
    ids = unified(loaded.events["item_id"], plan.ids, f"party {name}")
    own = replace(loaded, events=loaded.events.with_columns(ids), items=catalogue, users=None)
    unknown = own.events.join(catalogue, on="item_id", how="anti")["item_id"]
    if not unknown.len():
        return own
    n_events, n_items = own.events.height, own.events["item_id"].n_unique()
    text = (
        f"{unknown.len():,} of {n_events:,} events, {unknown.n_unique():,} of {n_items:,} items, "
        f"such as {unknown[0]!r}"
    )
    if config.cleaning.enabled and config.cleaning.unknown_items and unknown.len() < n_events:
        log.info("events of items that the catalogue lacks are left out: %s", text)
        return replace(own, events=own.events.join(catalogue, on="item_id", how="semi"))
    scheme = " Are these ids of another scheme?" if 2 * unknown.len() > n_events else ""
    raise DataError(
        f"party {name}: got events of items that the catalogue of plan {plan.number} lacks: "
        f"{text}, expected all of them there.{scheme} Fix: map the ids to those of the plan "
        f"({plan.ids}), ask for a plan with these items, or for one that leaves such events out "
        "(cleaning.enabled=true)"
    )


def judge(bundle: Path, house: Dataset, config: Config, present: Path | None) -> dict[str, Any]:
    """Compare a bundle with what a party has, on its held-out users.

    Returns
    -------
    dict
        ``change``: by which part of NDCG@10 it is better than the present bundle, or than a model
        of the party's own events (co-occurrence, where the plan trains an encoder); None with fewer
        users than ``update.min_users``. ``is_worse``: it loses more than ``update.tolerance``, and
        the 95 % interval of the difference is below 0.
    """
    split, settings = leave_one_out(house, config.events), config.update
    n_users = split.target_events("test")["user_id"].n_unique()
    if n_users < settings.min_users:
        return {"change": None, "is_worse": False}

    def measure(ranker: Ranker) -> NDArray[np.float64]:
        seen = config.split.include_seen
        return evaluate_users(ranker, split, include_seen=seen).per_user()[METRIC]

    with shortlist.load(bundle, device="cpu", n_threads=config.train.n_threads) as engine:
        new = measure(EngineRanker(engine, split))
    if present is not None:
        with shortlist.load(present, device="cpu", n_threads=config.train.n_threads) as engine:
            old = measure(EngineRanker(engine, split))
    else:
        alone = build_baseline(closed_form(config))
        old = measure(alone.fit(split.train, split.catalogue, split.weights(split.train)))
    if old.mean() == 0.0:
        return {"change": None, "is_worse": False}
    change = float(new.mean() / old.mean() - 1.0)
    _, high = bootstrap_intervals({METRIC: new - old})[METRIC]
    return {"change": change, "is_worse": change < -settings.tolerance and high < 0.0}


def closed_form(config: Config) -> Config:
    """Put co-occurrence in place of an encoder."""
    is_closed = config.model.encoder in MODELS
    return config if is_closed else apply_overrides(config, {"model.encoder": "cooccurrence"})


def _check_kinds(plan: Plan, items: pl.DataFrame, name: str) -> None:
    for column, kind in items.schema.items():
        expected = plan.items.columns.get(column)
        if column != "item_id" and expected is not None and expected != str(kind):
            raise DataError(
                f"party {name}: item column {column!r} is {kind}, but {expected} in the catalogue "
                f"of plan {plan.number}, expected the same kind. Fix: bring it to that kind, or "
                f"leave it out (--ignore item.{column})"
            )
