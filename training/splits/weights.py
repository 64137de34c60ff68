"""How much each event counts: weights by kind, decay with age, and events that mean dislike.

A positive weight makes an event a target; 0 leaves it in the history only; a negative weight marks
an item that its user disliked: never a target, pushed away in the loss, a 0 for the scorer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.training.config.values import unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import EventsConfig

_DAY = 86_400


def is_negative(config: EventsConfig) -> pl.Expr:
    """Say which events mean dislike: by their kind, or by a value below the limit."""
    by_value = (pl.col("value") < config.negative_below).fill_null(False)
    return by_value | pl.col("kind").is_in(list(config.negative_kinds))


def is_target(config: EventsConfig) -> pl.Expr:
    """Say which events are targets: no dislike, and of a kind whose weight is above 0."""
    without = [kind for kind, weight in config.weights.items() if weight == 0.0]
    return ~is_negative(config) & ~pl.col("kind").is_in(without)


def event_weights(events: pl.DataFrame, config: EventsConfig, now: int) -> NDArray[np.float32]:
    """Return the weight of each event, float32 of shape (n_events,); see above for its sign.

    ``now`` is the time (seconds) at which an event has its full weight; later ones do too.
    """
    weight = pl.col("kind").replace_strict(config.weights, default=1.0, return_dtype=pl.Float64)
    signed = pl.when(is_negative(config)).then(-config.negative_weight).otherwise(weight)
    if config.half_life_days > 0.0:
        age = (now - pl.col("timestamp")).clip(lower_bound=0) / (config.half_life_days * _DAY)
        signed = signed * pl.lit(0.5).pow(age)
    return events.select(signed.cast(pl.Float32).alias("weight")).to_series().to_numpy()


def check_kinds(events: pl.DataFrame, config: EventsConfig, has_times: bool) -> None:
    """Raise a DataError where the settings name a kind, or need a column, that no event has."""
    named = {f"events.weights.{kind}": kind for kind in config.weights}
    named |= {f"events.negative_kinds[{i}]": kind for i, kind in enumerate(config.negative_kinds)}
    kinds = events["kind"].unique().sort().to_list() if named else []
    for key, kind in named.items():
        if kind not in kinds:
            raise DataError(f"{unknown(key, kind, kinds)}, kinds that the events have")
    if np.isfinite(config.negative_below) and events["value"].null_count() == events.height:
        raise DataError(
            f"events.negative_below: got {config.negative_below:g}, but no event has a value. Fix: "
            "leave it out, or give the events values"
        )
    if config.half_life_days > 0.0 and not has_times:
        raise DataError(
            f"events.half_life_days: got {config.half_life_days:g}, but the events have no times. "
            "Fix: leave it 0"
        )
