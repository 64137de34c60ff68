"""New events of a feedback log, and a dataset with them in it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import polars as pl

from shortlist.errors import DataError
from shortlist.feedback.acts import SKIP
from shortlist.training.cleaning.clean import clean_dataset, core_mask
from shortlist.training.data.events import Dataset
from shortlist.training.splits.leakage import mark_new

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shortlist.training.config.sections import CleaningConfig, Config

__all__ = ["add_events", "log_events", "new_events", "with_skips"]


def log_events(log: Any, dataset: Dataset) -> pl.DataFrame:
    """Read a log's events, impressions left out, as a dataset has them.

    Raises
    ------
    DataError
        Ids of the log are of another type than those of the dataset.
    """
    read = pl.DataFrame(log.read(impressions=False))
    for name in ("user_id", "item_id"):
        got, expected = read[name].dtype, dataset.events[name].dtype
        if read.height and got != expected:
            raise DataError(
                f"feedback: {name} in {log.path} is {got}, expected {expected} as in training; log "
                "the ids that the bundle was trained with"
            )
    return read.select(
        pl.col("user_id").cast(dataset.events["user_id"].dtype),
        pl.col("item_id").cast(dataset.events["item_id"].dtype),
        "timestamp",
        "kind",
        pl.col("value").cast(pl.Float32),
    )


def new_events(log: Any, dataset: Dataset, config: Config) -> pl.DataFrame:
    """Return the events of a log that a dataset does not have, each once, in the log's order.

    The rules of ``[cleaning]`` apply to them where they applied in training; the k-core is that of
    known and new events together.
    """
    events = log_events(log, dataset).unique(maintain_order=True)
    events = events.filter(mark_new(events, dataset.events))
    if config.cleaning.enabled and events.height:
        rules = dataclasses.replace(config.cleaning, k_core=False)
        cleaned, _ = clean_dataset(Dataset("feedback", events, dataset.items), rules)
        events = cleaned.events
        if config.cleaning.k_core and events.height:
            together = pl.concat([dataset.events, events])
            events = events.filter(_in_core(together, config.cleaning)[dataset.events.height :])
    return events


def _in_core(events: pl.DataFrame, rules: CleaningConfig) -> NDArray[np.bool_]:
    """Mark the events (n_events,) that belong to the k-core."""
    ids = events.select(pl.col("user_id", "item_id").rank("dense").cast(pl.UInt32) - 1)
    user, item = ids["user_id"].to_numpy(), ids["item_id"].to_numpy()
    least = rules.min_user_events, rules.min_item_events
    return core_mask(user, item, int(user.max()) + 1, int(item.max()) + 1, least)


def with_skips(config: Config, arrived: pl.DataFrame) -> Config:
    """Take skips of a log for dislikes, as an engine does, where the settings do not name them."""
    named = {*config.events.negative_kinds, *config.events.weights}
    if SKIP in named or not (arrived["kind"] == SKIP).any():
        return config
    kinds = (*config.events.negative_kinds, SKIP)
    return dataclasses.replace(
        config, events=dataclasses.replace(config.events, negative_kinds=kinds)
    )


def add_events(dataset: Dataset, events: pl.DataFrame) -> Dataset:
    """Return a dataset with more events; those of one second come after those it has."""
    return dataclasses.replace(dataset, events=pl.concat([dataset.events, events]))
