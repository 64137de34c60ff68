"""Cut a dataset's events into train, valid and test, without leakage.

The order of events within a user is their order in ``dataset.events`` (time, ties by file order).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from shortlist.errors import DataError
from shortlist.training.config.settings import Config, EventsConfig
from shortlist.training.data.events import Dataset
from shortlist.training.splits.leakage import PARTS, check_no_leakage
from shortlist.training.splits.weights import check_kinds, event_weights, is_target

IdArray: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.str_]
__all__ = [
    "PROTOCOLS",
    "ItemLists",
    "Split",
    "check_no_leakage",
    "configured_split",
    "given",
    "leave_one_out",
    "make_split",
    "temporal",
    "to_id_array",
]

RowArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float32]

PROTOCOLS = ("leave-one-out", "temporal", "lightgcn-split")


@dataclass(frozen=True)
class ItemLists:
    """One list of items for each of some users; a read-only sequence of item id arrays.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,), int64 or str
    rows : ndarray of shape (n_events,), int64
        Item rows (positions in ``catalogue``), user after user, oldest first.
    row_splits : ndarray of shape (n_users + 1,), int64
        User i owns ``rows[row_splits[i]:row_splits[i + 1]]``.
    catalogue : ndarray of shape (n_items,), int64 or str
    """

    user_ids: IdArray
    rows: RowArray
    row_splits: RowArray
    catalogue: IdArray

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.user_ids)

    def __getitem__(self, i: int) -> IdArray:
        """Return the item ids of user number i, oldest first."""
        return self.catalogue[self.rows_of(i)]

    def __iter__(self) -> Iterator[IdArray]:
        """Iterate over the users' item id arrays."""
        return (self[i] for i in range(len(self)))

    def rows_of(self, i: int) -> RowArray:
        """Return the item rows of user number i, oldest first."""
        i = range(len(self))[i]  # IndexError and negative numbers as in a list
        return self.rows[self.row_splits[i] : self.row_splits[i + 1]]

    def row_lists(self, start: int = 0, stop: int | None = None) -> list[RowArray]:
        """Return the item rows of users start to stop, one array a user."""
        return [self.rows_of(i) for i in range(len(self))[start:stop]]

    @property
    def lengths(self) -> RowArray:
        """Number of items of each user."""
        return np.diff(self.row_splits)


@dataclass(frozen=True)
class Split:
    """A dataset cut in three.

    Attributes
    ----------
    dataset : Dataset
    train, valid, test : polars.DataFrame
        Columns as in ``dataset.events``, same order; no event is in two of them.
    protocol : str
        One of ``PROTOCOLS``.
    weighting : EventsConfig
        Which events are targets and how much each counts: section ``[events]``.
    """

    dataset: Dataset
    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame
    protocol: str
    weighting: EventsConfig = field(default_factory=EventsConfig)

    @cached_property
    def catalogue(self) -> IdArray:
        """Item ids, shape (n_items,): the item table's order, then by first appearance in events.

        Item row r everywhere means ``catalogue[r]``. First appearance is in the order of the frames
        ``dataset.events``, then ``dataset.test_events``.
        """
        frames = (self.dataset.items, self.dataset.events, self.dataset.test_events)
        ids = pl.concat([frame["item_id"] for frame in frames if frame is not None])
        return to_id_array(ids.unique(maintain_order=True))

    def user_ids(self, on: str = "test") -> IdArray:
        """Return the users that have targets in a part ("train", "valid", "test"), sorted."""
        return to_id_array(self.target_events(on)["user_id"].unique().sort())

    def targets(self, on: str = "test") -> ItemLists:
        """Return the target items of a part, one list for each user (sorted), oldest first."""
        events = self.target_events(on)
        return self._lists(events, events["user_id"].unique().sort())

    def target_events(self, on: str) -> pl.DataFrame:
        """Return the events of a part that are targets: no dislike, no kind of weight 0."""
        return self.part(on).filter(is_target(self.weighting))

    def weights(self, events: pl.DataFrame) -> FloatArray:
        """Return the weights of events, (n_events,), decaying back from the end of the train part.

        Positive for targets, 0 for events that are only history, negative for dislikes.
        """
        last = self.train["timestamp"].max()
        return event_weights(events, self.weighting, last if isinstance(last, int) else 0)

    def histories(self, upto: str = "train") -> ItemLists:
        """Return what is known of the users to evaluate, item ids oldest first, dislikes included.

        ``upto="train"``: the train events of the users in valid. ``upto="valid"``: the train and
        valid events of the users in test. Users are in the order of ``targets``; a user without
        known events has an empty list.
        """
        if upto not in ("train", "valid"):
            raise DataError(
                f"upto: got {upto!r}, expected 'train' or 'valid'. Fix: use one of these"
            )
        on = "valid" if upto == "train" else "test"
        users = self.target_events(on)["user_id"].unique().sort()
        return self._lists(self.known_events(upto), users)

    def known_events(self, upto: str = "train") -> pl.DataFrame:
        """Return the train events, or train and valid events merged in each user's order."""
        if upto == "train":
            return self.train
        # Stable: valid events follow the train events of the same time, as in the dataset.
        return pl.concat([self.train, self.valid]).sort("user_id", "timestamp", maintain_order=True)

    def part(self, on: str) -> pl.DataFrame:
        """Return the train, valid or test events by name."""
        if on not in PARTS:
            raise DataError(f"on: got {on!r}, expected one of {list(PARTS)}. Fix: use one of these")
        frame: pl.DataFrame = getattr(self, on)
        return frame

    @cached_property
    def _item_rows(self) -> pl.DataFrame:
        ids = pl.Series("item_id", self.catalogue, dtype=self.dataset.events["item_id"].dtype)
        return ids.to_frame().with_row_index("row")

    def item_rows(self, item_ids: pl.Series) -> RowArray:
        """Return the catalogue row of each id, int64, in order; −1 for ids not in the catalogue."""
        found = (
            item_ids.alias("item_id")
            .to_frame()
            .join(self._item_rows, on="item_id", how="left", maintain_order="left")
        )
        return found["row"].cast(pl.Int64).fill_null(-1).to_numpy()

    def _lists(self, events: pl.DataFrame, users: pl.Series) -> ItemLists:
        position = users.to_frame().with_row_index("position")
        chosen = events.join(position, on="user_id", how="inner", maintain_order="left")
        chosen = chosen.sort("position", maintain_order=True)
        counts = np.bincount(chosen["position"].to_numpy(), minlength=len(users))
        splits = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = self.item_rows(chosen["item_id"])
        return ItemLists(to_id_array(users), rows, splits, self.catalogue)


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
    if not (valid >= 0 and test > 0 and valid + test < 1):
        raise DataError(
            f"temporal split: got valid={valid}, test={test}, expected valid ≥ 0, "
            "test > 0, valid + test < 1. Fix: for example valid=0.05, test=0.1"
        )
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
        For the protocols that use them: see `temporal` and `given`.
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
    if protocol == "lightgcn-split":
        return replace(given(dataset, valid, seed), weighting=weighting)
    raise DataError(
        f"protocol: got {protocol!r}, expected one of {list(PROTOCOLS)}. Fix: use one of these"
    )


def configured_split(dataset: Dataset, config: Config) -> Split:
    """Split as ``[split]`` and ``[events]`` say."""
    wanted = config.split
    return make_split(
        dataset, wanted.protocol, valid=wanted.valid, test=wanted.test, weighting=config.events
    )


def _check_no_given_test(dataset: Dataset, protocol: str) -> None:
    if dataset.test_events is not None:
        raise DataError(
            f"{dataset.name} comes with its own test events, got protocol {protocol!r}, expected "
            "'lightgcn-split' (or 'auto'). Fix: use that protocol, or give the train file alone"
        )


def to_id_array(ids: pl.Series) -> IdArray:
    """Return ids as an int64 or fixed-width unicode array (never object)."""
    if ids.dtype == pl.String:
        return np.asarray(ids.to_list(), dtype=np.str_)
    return ids.to_numpy()
