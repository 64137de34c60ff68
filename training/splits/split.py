"""Cut a dataset's events into train, valid and test, without leakage.

The order of events within a user is their order in ``dataset.events`` (time, ties by file order).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.training.config.sections import Config, EventsConfig
from shortlist.training.data.events import Dataset
from shortlist.training.splits.parts import Split
from shortlist.training.splits.weights import check_kinds, is_target

PROTOCOLS = ("leave-one-out", "temporal", "random", "lightgcn-split")


def leave_one_out(dataset: Dataset, weighting: EventsConfig | None = None) -> Split:
    """Put each user's last target into test, the one before into valid, the rest into train.

    Users with fewer than 3 targets only train (as in SASRec's and S3-Rec's tables). Ties in time
    are broken by file order. Events that are no targets stay with the target before them.
    """
    weighting = weighting or EventsConfig()
    events = dataset.events
    _check_no_given_test(dataset, "leave-one-out")
    target = is_target(weighting).cast(pl.Int64)
    later = (target.sum() - target.cum_sum()).over("user_id")  # targets after this event
    is_long = target.sum().over("user_id") >= 3
    number = events.select(pl.when(is_long).then(pl.min_horizontal(later, 2)).otherwise(2))
    train, valid, test = (events.filter(number.to_series() == n) for n in (2, 1, 0))
    return Split(dataset, train, valid, test, "leave-one-out", weighting)


def temporal(dataset: Dataset, valid: float = 0.05, test: float = 0.1) -> Split:
    """Cut all events at two moments: the last ``test`` share tests, ``valid`` before it validates.

    Events of one second never fall on two sides of a cut, so shares are met up to ties.

    Raises
    ------
    DataError
        The shares leave no train events, or the dataset's format has no times.
    """
    _check_shares("temporal", valid, test)
    if not dataset.has_times:
        raise DataError(
            f"{dataset.name} has no times, only an order within each user; a temporal "
            "split needs times. Fix: use leave-one-out, or give events with timestamps"
        )
    _check_no_given_test(dataset, "temporal")
    events = dataset.events
    times = np.sort(events["timestamp"].to_numpy())
    test_cut = times[int(len(times) * (1 - test))]
    valid_cut = times[int(len(times) * (1 - test - valid))]
    when = pl.col("timestamp")
    train = events.filter(when < valid_cut)
    if train.height == 0:
        raise DataError(
            f"{dataset.name}: got no event before the cut at {valid_cut}, expected some (too many "
            "share one time). Fix: use leave-one-out, or give finer times"
        )
    between = events.filter((when >= valid_cut) & (when < test_cut))
    return Split(dataset, train, between, events.filter(when >= test_cut), "temporal")


def random(
    dataset: Dataset,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    weighting: EventsConfig | None = None,
) -> Split:
    """Draw the shares ``test`` and ``valid`` of each user's targets, whatever their order.

    Of a user with n targets ``test · n`` are drawn, rounded down, but at least one (so too for
    ``valid``, unless it is 0): RecBole's ratio split. Users with fewer than 3 targets only train.
    Events that are no targets train.

    Parameters
    ----------
    seed : int
        Chooses the events.

    Raises
    ------
    DataError
        The shares leave no train events.
    """
    _check_shares("random", valid, test)
    _check_no_given_test(dataset, "random")
    weighting = weighting or EventsConfig()
    draw = pl.Series("draw", np.random.default_rng(seed).random(dataset.events.height))
    drawn = pl.when(pl.col("is_target")).then(pl.col("draw")).otherwise(2.0)
    table = dataset.events.select("user_id", is_target=is_target(weighting)).with_columns(draw)
    counted = table.select(
        place=(drawn.rank("ordinal") - 1).over("user_id").cast(pl.Int64),
        n=pl.col("is_target").sum().over("user_id"),
    )
    place, n = counted["place"].to_numpy(), counted["n"].to_numpy()
    tested, validated = (
        np.where(n < 3, 0, np.maximum((share * n).astype(np.int64), int(share > 0)))
        for share in (test, valid)
    )
    is_test, is_held = place < tested, place < tested + validated
    events = dataset.events
    return Split(
        dataset,
        events.filter(~is_held),
        events.filter(is_held & ~is_test),
        events.filter(is_test),
        "random",
        weighting,
    )


def given(dataset: Dataset, valid: float = 0.05, seed: int = 0) -> Split:
    """Test on the dataset's own test events (LightGCN's test.txt); hold out some train as valid.

    Parameters
    ----------
    valid : float
        Share of the train events held out, at random: these formats have no order in time. Each
        user keeps at least one train event.
    seed : int
        Chooses the events.
    """
    if dataset.test_events is None:
        raise DataError(
            f"{dataset.name} has no given test events. Fix: use format 'lightgcn' with "
            "train.txt and test.txt, or the protocol leave-one-out or temporal"
        )
    if not 0 <= valid < 1:
        raise DataError(
            f"given split: got valid={valid}, expected 0 ≤ valid < 1. Fix: for example valid=0.05"
        )
    events = dataset.events
    draw = pl.Series("draw", np.random.default_rng(seed).random(events.height))
    lowest = (pl.col("draw") == pl.col("draw").min()).over("user_id")
    held = events.with_columns(draw).select((pl.col("draw") >= 1 - valid) & ~lowest).to_series()
    return Split(
        dataset,
        events.filter(~held),
        events.filter(held),
        dataset.test_events,
        protocol="lightgcn-split",
    )


def make_split(
    dataset: Dataset,
    protocol: str = "auto",
    *,
    valid: float = 0.05,
    test: float = 0.1,
    seed: int = 0,
    weighting: EventsConfig | None = None,
) -> Split:
    """Split by the name of a protocol.

    Parameters
    ----------
    protocol : str
        One of ``PROTOCOLS``, or "auto": the given test events where there are any, else
        leave-one-out.
    valid, test, seed
        For the protocols that use them: see `temporal`, `random` and `given`.
    weighting : EventsConfig, optional
        Section ``[events]``; every event is a target without it.

    Raises
    ------
    DataError
        The protocol does not fit the data, or ``[events]`` names kinds that no event has.
    """
    weighting = weighting or EventsConfig()
    check_kinds(dataset.events, weighting, dataset.has_times)
    if protocol == "auto":
        protocol = "leave-one-out" if dataset.test_events is None else "lightgcn-split"
    if protocol == "leave-one-out":
        return leave_one_out(dataset, weighting)
    if protocol == "temporal":
        return replace(temporal(dataset, valid, test), weighting=weighting)
    if protocol == "random":
        return random(dataset, valid, test, seed, weighting)
    if protocol == "lightgcn-split":
        return replace(given(dataset, valid, seed), weighting=weighting)
    raise DataError(
        f"protocol: got {protocol!r}, expected one of {list(PROTOCOLS)}. Fix: use one of these"
    )


def configured_split(dataset: Dataset, config: Config) -> Split:
    """Split as ``[split]`` and ``[events]`` say."""
    wanted = config.split
    return make_split(
        dataset,
        wanted.protocol,
        valid=wanted.valid,
        test=wanted.test,
        seed=wanted.seed,
        weighting=config.events,
    )


def _check_shares(protocol: str, valid: float, test: float) -> None:
    if not (valid >= 0 and test > 0 and valid + test < 1):
        raise DataError(
            f"{protocol} split: got valid={valid}, test={test}, expected valid ≥ 0, "
            "test > 0, valid + test < 1. Fix: for example valid=0.05, test=0.1"
        )


def _check_no_given_test(dataset: Dataset, protocol: str) -> None:
    if dataset.test_events is not None:
        raise DataError(
            f"{dataset.name} comes with its own test events, got protocol {protocol!r}, expected "
            "'lightgcn-split' (or 'auto'). Fix: use that protocol, or give the train file alone"
        )
