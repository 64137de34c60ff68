"""New events of a feedback log, and a dataset with them in it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import polars as pl

from shortlist._feedback_acts import SKIP
from shortlist.errors import DataError
from shortlist.feedback import IMPRESSION
from shortlist.training.cleaning import clean_dataset
from shortlist.training.events import Dataset
from shortlist.training.leakage import mark_new

if TYPE_CHECKING:
    from shortlist.training.config import Config

__all__ = ["add_events", "log_events", "new_events", "with_skips"]


def log_events(log: Any, dataset: Dataset) -> pl.DataFrame:
    """Read a log's events, impressions left out, as a dataset has them.

    Raises
    ------
    DataError
        Ids of the log are of another type than those of the dataset.
    """
    read = pl.DataFrame(log.read()).filter(pl.col("kind") != IMPRESSION)
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

    The rules of ``[cleaning]`` apply to them where they applied in training, but for the k-core.
    """
    events = log_events(log, dataset).unique(maintain_order=True)
    events = events.filter(mark_new(events, dataset.events))
    if config.cleaning.enabled and events.height:
        rules = dataclasses.replace(config.cleaning, k_core=False)
        cleaned, _ = clean_dataset(Dataset("feedback", events, dataset.items), rules)
        events = cleaned.events
    return events


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
