"""Training examples: every event is a target, the user's events before it are the history.

Batches are cut with whole-array numpy slicing; nothing runs per example. Randomness comes from
(seed, epoch, step) alone, so any epoch can be repeated without replaying the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist.training.features.feature import DAY

STRETCH = 16  # batches that are cut from rows sorted by length


@dataclass(frozen=True)
class Batch:
    """One step's examples, always of the same shape; places without an event have weight 0.

    Attributes
    ----------
    history : ndarray of shape (n_rows, history_length + n_targets - 1), int64
        Item codes before the last target, oldest first, padded with 0 on the left.
    target : ndarray of shape (n_rows, n_targets), int64
        Item codes; number s sees all but the last ``n_targets - 1 - s`` codes of its history.
    weight : ndarray of shape (n_rows, n_targets), float32
        Weight of the event: above 0 a target, below 0 an item the user disliked, 0 where there is
        no event or one that is only history.
    users : ndarray of shape (n_rows,), int64
        Row of the user in the user inputs.
    step : int
        Number of the batch within the epoch.
    n_events : int
        Places in ``target`` that hold an event.
    events : dict of ndarray
        What is known of the history's events, each shaped like ``history``: ``history_kinds``
        int64 codes, ``history_ages`` float32 days before the row's newest event.
    """

    history: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float32]
    users: NDArray[np.int64]
    step: int
    n_events: int
    events: dict[str, NDArray[Any]]

    def trimmed(self) -> Batch:
        """Cut off the places on the left that are empty in every row, eight at a time.

        The targets are cut too where each place of history has one.
        """
        used: NDArray[np.bool_] = np.any(self.history > 0, axis=0)
        width, n_targets = len(used), self.target.shape[1]
        used[-n_targets:] |= np.any(self.weight != 0, axis=0)
        n_kept = width - int(np.argmax(used))
        columns = slice(max(0, width - -(-n_kept // 8) * 8), None)
        cut = replace(
            self,
            history=self.history[:, columns],
            events={name: values[:, columns] for name, values in self.events.items()},
        )
        if n_targets < width:
            return cut
        return replace(cut, target=self.target[:, columns], weight=self.weight[:, columns])


class Sequences:
    """All (history, target) examples of the train part, in rows of consecutive targets.

    The targets of a row share one look at the history, which makes a step several times
    cheaper than one history per target.

    Parameters
    ----------
    codes : ndarray of shape (n_events,), int64
        Item codes, grouped by user, oldest first.
    lengths : ndarray of shape (n_users,), int64
        Events of each user.
    history_length : int
        Items before a target that are kept.
    n_targets : int
        Consecutive targets per row.
    windows_per_user : int
        At most about so many targets per user and epoch, chosen at random; 0 = every event.
    weights : ndarray of shape (n_events,), float32, optional
        Weight of each event, as in `Batch`; 1 without it.
    kinds : ndarray of shape (n_events,), int64, optional
        Code of each event's kind.
    times : ndarray of shape (n_events,), int64, optional
        Seconds of each event.
    is_causal : bool
        For an encoder with a target after each item: rows of ``history_length`` items, as many
        targets (``n_targets`` does not count), and batches by the events there are, not by places.
    is_new : ndarray of shape (n_events,), bool, optional
        An epoch then has every row that holds such an event, and of the others so many, drawn
        anew; ``windows_per_user`` does not count.
    replay : float
        With ``is_new``: other rows for each row with a new event.
    """

    def __init__(
        self,
        codes: NDArray[np.int64],
        lengths: NDArray[np.int64],
        *,
        history_length: int,
        n_targets: int = 8,
        windows_per_user: int = 0,
        weights: NDArray[np.float32] | None = None,
        kinds: NDArray[np.int64] | None = None,
        times: NDArray[np.int64] | None = None,
        is_causal: bool = False,
        is_new: NDArray[np.bool_] | None = None,
        replay: float = 1.0,
    ) -> None:
        self.is_causal = is_causal
        if is_causal:
            history_length, n_targets = 1, history_length
        self.codes, self.lengths = codes, lengths
        self.kinds, self.times = kinds, times
        self.weights = np.ones(len(codes), np.float32) if weights is None else weights
        self.history_length = history_length
        self.n_targets = n_targets
        n_rows = -(-lengths // n_targets)
        # Rows end at the user's last event and step back; only the first may be short.
        self._users = np.repeat(np.arange(len(lengths)), n_rows)
        back = np.cumsum(n_rows)[self._users] - 1 - np.arange(len(self._users))
        ends = np.cumsum(lengths)
        self._stops = ends[self._users] - back * n_targets
        self._starts = (ends - lengths)[self._users]
        self._has_new: NDArray[np.bool_] | None = None
        if is_new is not None:
            self._choose(is_new, replay)
            return
        self._rows_per_user = -(-windows_per_user // n_targets) if windows_per_user else 0
        limit = self._rows_per_user or int(n_rows.max(initial=0))
        self.n_rows = int(np.minimum(n_rows, limit).sum())
        # Events of an epoch; with windows_per_user at most so many.
        self.n_examples = int(np.minimum(lengths, limit * n_targets).sum())

    def _choose(self, is_new: NDArray[np.bool_], replay: float) -> None:
        """Mark the rows with new events, and say how many of the others join them."""
        first = np.maximum(self._starts, self._stops - self.n_targets)
        n_before = np.concatenate([[0], np.cumsum(is_new)])
        self._has_new = n_before[self._stops] > n_before[first]
        n_new = int(self._has_new.sum())
        n_old = len(self._has_new) - n_new
        self._n_replayed = min(n_old, round(replay * n_new))
        n_events = self._stops - first
        of_old = n_events[~self._has_new].sum() * self._n_replayed // max(1, n_old)
        self.n_rows = n_new + self._n_replayed
        self.n_examples = int(n_events[self._has_new].sum() + of_old)

    def n_steps(self, batch_size: int) -> int:
        """Count the batches of an epoch."""
        return -(-self.n_rows // self._rows_per_batch(batch_size))

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, history_dropout: float = 0.0
    ) -> Iterator[Batch]:
        """Give the batches of one epoch, about batch_size targets each, in random order."""
        rng = np.random.default_rng([seed, epoch])
        order = self._order(rng)
        n_rows = self._rows_per_batch(batch_size)
        if self.is_causal:
            order = self._alike_together(order, n_rows, rng)
        for step in range(self.n_steps(batch_size)):
            chosen = order[step * n_rows : (step + 1) * n_rows]
            rows = np.zeros(n_rows, np.int64)
            rows[: len(chosen)] = chosen
            source, is_event = self._cut(rows)
            is_event[len(chosen) :] = False
            codes = self.codes[source]
            history = np.where(is_event, codes, 0)[:, :-1]
            if history_dropout > 0.0:
                rng = np.random.default_rng([seed, epoch, step])
                history[rng.random(history.shape, np.float32) < history_dropout] = 0
            last = slice(-self.n_targets, None)
            weight = np.where(is_event[:, last], self.weights[source[:, last]], np.float32(0))
            n_events = int(is_event[:, last].sum())
            events = self._events(source[:, :-1], is_event[:, :-1])
            users = self._users[rows]
            yield Batch(history, codes[:, last], weight, users, step, n_events, events)

    def _events(
        self, source: NDArray[np.int64], is_event: NDArray[np.bool_]
    ) -> dict[str, NDArray[Any]]:
        events: dict[str, NDArray[Any]] = {}
        if self.kinds is not None:
            events["history_kinds"] = np.where(is_event, self.kinds[source], 0)
        if self.times is not None:
            times = self.times[source]
            days = (times[:, -1:] - times).astype(np.float32) / np.float32(DAY)
            events["history_ages"] = np.where(is_event, days, np.float32(0))
        return events

    def _cut(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        width = self.history_length + self.n_targets
        source = self._stops[rows][:, None] + np.arange(-width, 0)
        return np.maximum(source, 0), source >= self._starts[rows][:, None]

    def _rows_per_batch(self, batch_size: int) -> int:
        if not self.is_causal:
            return max(1, batch_size // self.n_targets)
        return max(1, round(batch_size * self.n_rows / max(1, self.n_examples)))

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        order = rng.permutation(len(self._users))
        if self._has_new is not None:
            is_new = self._has_new[order]
            is_replayed = ~is_new & (np.cumsum(~is_new) <= self._n_replayed)
            return order[is_new | is_replayed]
        if not self._rows_per_user:
            return order
        # Rank the shuffled rows within their user and keep the first few of each.
        by_user = np.argsort(self._users[order], kind="stable")
        users = self._users[order][by_user]
        first = np.searchsorted(users, users)
        is_first = np.arange(len(users)) - first < self._rows_per_user
        return order[np.sort(by_user[is_first])]

    def _alike_together(
        self, order: NDArray[np.int64], n_rows: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Sort stretches of the order by length, so that batches need little padding."""
        lengths = self._stops - np.maximum(self._starts, self._stops - self.n_targets)
        stretch = np.arange(len(order)) // (STRETCH * n_rows)
        order = order[np.lexsort((lengths[order], stretch))]
        n_full = len(order) // n_rows
        batches = order[: n_full * n_rows].reshape(n_full, n_rows)
        return np.concatenate([rng.permutation(batches).ravel(), order[n_full * n_rows :]])


def take_rows(columns: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Select rows of every column."""
    return {name: values[rows] for name, values in columns.items()}
