"""Find events that would let a model see what it is tested on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from shortlist.errors import DataError
from shortlist.training.splits.parts import PARTS, Split

EVENT_KEY = ("user_id", "item_id", "timestamp", "kind")  # what makes two events the same


def mark_new(events: pl.DataFrame, known: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Mark the events (n_events,) that are not among the known ones, by `EVENT_KEY`."""
    keys = known.select(EVENT_KEY).unique().with_columns(is_known=pl.lit(True))
    is_known = events.join(keys, on=EVENT_KEY, how="left", maintain_order="left")["is_known"]
    return ~is_known.fill_null(False).to_numpy()


def check_no_leakage(split: Split) -> None:
    """Raise a DataError that names the first event which lets a model see its targets.

    Checks that no event is in more parts than it is in the dataset; that (leave-one-out) no train
    event of a user is later than the user's valid event and no valid event later than the test
    event; that (temporal) no train event is at or after the first valid event of anyone, and no
    train or valid event at or after the first test event.
    """
    _check_not_repeated(split)
    if split.protocol in ("random", "lightgcn-split"):  # drawn without regard to time
        return
    for early, late in (("train", "valid"), ("valid", "test"), ("train", "test")):
        before, after = split.part(early), split.part(late)
        if before.height == 0 or after.height == 0:
            continue
        when = pl.col("timestamp")
        if split.protocol == "leave-one-out":
            cut = after.group_by("user_id").agg(when.min().alias("cut"))
            before = before.join(cut, on="user_id", how="left", maintain_order="left")
            leaks, expected = before.filter(when > pl.col("cut")), "at or before"
        else:
            before = before.with_columns(cut=pl.lit(after["timestamp"].min(), pl.Int64))
            leaks, expected = before.filter(when >= pl.col("cut")), "before"
        if leaks.height:
            event = leaks.row(0, named=True)
            raise DataError(
                f"leak: {early} event {_named(event)} has timestamp {event['timestamp']}, expected "
                f"one {expected} the first {late} event at {event['cut']} ({leaks.height} such "
                "events). Fix: split with shortlist.training.splits.split"
            )


def _check_not_repeated(split: Split) -> None:
    """Count each event in the parts and in the dataset: more in the parts is a leak."""
    dataset = split.dataset
    known = [f for f in (dataset.events, dataset.test_events) if f is not None]
    if np.array_equal(_sorted_hashes([split.part(name) for name in PARTS]), _sorted_hashes(known)):
        return  # the usual case, many times faster than counting
    key = list(EVENT_KEY)
    parts = [split.part(name).select(key, part=pl.lit(name)) for name in PARTS]
    used = (
        pl.concat(parts)
        .group_by(key, maintain_order=True)
        .agg(pl.len().alias("n_used"), pl.col("part").unique(maintain_order=True))
    )
    there = pl.concat(known).group_by(key).agg(pl.len().alias("n"))
    extra = used.join(there, on=key, how="left", maintain_order="left").filter(
        pl.col("n_used") > pl.col("n").fill_null(0)
    )
    if extra.height:
        event = extra.row(0, named=True)
        raise DataError(
            f"leak: event {_named(event)} is {event['n_used']} times in {event['part']}, expected "
            f"{event['n'] or 0} times as in the dataset ({extra.height} such events). "
            "Fix: split with shortlist.training.splits.split"
        )


def _sorted_hashes(frames: list[pl.DataFrame]) -> npt.NDArray[np.uint64]:
    hashes = [frame.select(EVENT_KEY).hash_rows().to_numpy() for frame in frames]
    return np.sort(np.concatenate(hashes))


def _named(event: dict[str, object]) -> str:
    return f"(user_id {event['user_id']!r}, item_id {event['item_id']!r})"
