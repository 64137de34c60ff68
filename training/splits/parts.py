"""What a cut dataset is: three parts, their targets and histories.

The order of events within a user is their order in ``dataset.events`` (time, ties by file order).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from shortlist.errors import DataError
from shortlist.training.config.sections import EventsConfig
from shortlist.training.data.events import Dataset
from shortlist.training.splits.weights import event_weights, is_target

IdArray: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.str_]
RowArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float32]

PARTS = ("train", "valid", "test")


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
        joined = (
            item_ids.alias("item_id")
            .to_frame()
            .join(self._item_rows, on="item_id", how="left", maintain_order="left")
        )
        return joined["row"].cast(pl.Int64).fill_null(-1).to_numpy()

    def _lists(self, events: pl.DataFrame, users: pl.Series) -> ItemLists:
        position = users.to_frame().with_row_index("position")
        chosen = events.join(position, on="user_id", how="inner", maintain_order="left")
        chosen = chosen.sort("position", maintain_order=True)
        counts = np.bincount(chosen["position"].to_numpy(), minlength=len(users))
        splits = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = self.item_rows(chosen["item_id"])
        return ItemLists(to_id_array(users), rows, splits, self.catalogue)


def to_id_array(ids: pl.Series) -> IdArray:
    """Return ids as an int64 or fixed-width unicode array (never object)."""
    if ids.dtype == pl.String:
        return np.asarray(ids.to_list(), dtype=np.str_)
    return ids.to_numpy()
