"""What the soak's index must hold at every moment, so that any answer can be checked.

Two kinds of items share one index (metric dot, whole numbers, so every score is exact):

- *Journal items* change one update at a time, each update noted before it starts. An answer is
  right if it is the top-N after one and the same number of updates for all of its queries, and that
  number lies between those that had ended before the search and those that had begun after it.
- *Groups* are replaced or removed as a whole, every item stamped with the group's generation. An
  answer with part of a group, with two generations of it, or with one that was over before the
  search began, has seen half an update or a stale snapshot.

The two never meet: a journal item scores 0 with a group's query, and the other way round.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import shortlist

DIM = 32
STAMP = 0  # the dimension that carries generations; journal items hold 0 there
N_JOURNAL, N_GROUPS, GROUP_SIZE = 6000, 60, 40
GROUP_ITEMS = GROUP_SIZE * np.arange(N_GROUPS)[:, None] + np.arange(GROUP_SIZE) + N_JOURNAL
Ids = NDArray[np.int64]


class WrongAnswer(Exception):
    """An answer that no state of the index explains."""


@dataclass
class Change:
    ids: Ids
    vectors: NDArray[np.float32] | None  # None: removed


class State:
    """The journal items after a number of changes."""

    def __init__(self) -> None:
        self.vectors = np.zeros((N_JOURNAL, DIM))
        self.order = np.full(N_JOURNAL, -1)  # when it was added: the lower is the lower row
        self.n_added = 0
        self.n_changes = 0

    def apply(self, change: Change) -> None:
        self.n_changes += 1
        if change.vectors is None:
            self.order[change.ids] = -1
            return
        self.vectors[change.ids] = change.vectors
        new = change.ids[self.order[change.ids] < 0]
        self.order[new] = self.n_added + np.arange(len(new))
        self.n_added += len(new)


def journal_vectors(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    vectors = random.integers(-500, 501, size=(n, DIM)).astype(np.float32)
    vectors[:, STAMP] = 0
    return vectors


def journal_queries(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    queries = random.integers(-50, 51, size=(n, DIM)).astype(np.float32)
    queries[:, STAMP] = 0
    return queries


class Journal:
    """Changes as they are made; every reader follows with a state of its own."""

    def __init__(self, n_readers: int) -> None:
        self._lock = threading.Lock()
        self._changes: dict[int, Change] = {}
        self.n_begun = self.n_ended = 0
        self._read = [0] * n_readers

    def begin(self, change: Change) -> None:
        with self._lock:
            self._changes[self.n_begun] = change
            self.n_begun += 1

    def end(self) -> None:
        with self._lock:
            self.n_ended += 1
            for number in list(self._changes):  # oldest first
                if number >= min(self._read):
                    break
                del self._changes[number]

    def window(self, first: int, end: int) -> list[Change]:
        with self._lock:
            return [self._changes[number] for number in range(first, end)]

    def follow(self, reader: int, state: State, n_changes: int) -> None:
        """Bring a reader's state to a number of changes; older ones may be forgotten then."""
        for change in self.window(state.n_changes, n_changes):
            state.apply(change)
        with self._lock:
            self._read[reader] = n_changes


def top_items(
    state: State, ids: Ids, queries: NDArray[np.float32], top_n: int, excluded: Ids
) -> tuple[Ids, NDArray[np.float32]]:
    """The best of some ids: score descending, then in the order in which they were added."""
    ids = ids[(state.order[ids] >= 0) & ~np.isin(ids, excluded)]
    scores = queries.astype(np.float64) @ state.vectors[ids].T
    best = np.lexsort((np.broadcast_to(state.order[ids], scores.shape), -scores))[:, :top_n]
    return ids[best], np.take_along_axis(scores, best, axis=1).astype(np.float32)


def check_journal(
    hits: shortlist.Hits,
    state: State,
    changes: list[Change],
    queries: NDArray[np.float32],
    excluded: Ids,
) -> None:
    """Raise unless the answer is that of `state` after some of `changes`, for all queries alike.

    `state` is left as it was. Only ids that change in the window are scored more than once.
    """
    top_n = hits.item_ids.shape[1]
    moving = np.unique(np.concatenate([np.empty(0, np.int64), *(c.ids for c in changes)]))
    resting = np.setdiff1d(np.arange(N_JOURNAL), moving)
    best, _ = top_items(state, resting, queries, top_n, excluded)
    candidates = np.union1d(best.ravel(), moving)
    trial = State()
    trial.n_added = state.n_added
    trial.vectors[candidates] = state.vectors[candidates]
    trial.order[candidates] = state.order[candidates]
    for n_applied in range(len(changes) + 1):
        if n_applied:
            trial.apply(changes[n_applied - 1])
        ids, scores = top_items(trial, candidates, queries, top_n, excluded)
        if np.array_equal(ids, hits.item_ids) and np.array_equal(scores, hits.scores):
            return
    raise WrongAnswer(
        f"no state after {state.n_changes} to {state.n_changes + len(changes)} changes gives "
        f"{hits.item_ids.tolist()} {hits.scores.tolist()}; the last one gives {ids.tolist()} "
        f"{scores.tolist()}"
    )


def group_vectors(generation: int) -> NDArray[np.float32]:
    vectors = np.zeros((GROUP_SIZE, DIM), np.float32)
    vectors[:, STAMP] = generation
    return vectors


def group_query() -> NDArray[np.float32]:
    query = np.zeros((1, DIM), np.float32)
    query[0, STAMP] = 1
    return query


def check_groups(
    ids: Ids, scores: NDArray[np.float32], groups: Ids, oldest: Ids, newest: Ids
) -> None:
    """Raise unless every group is there as a whole, with one generation out of its window.

    Parameters
    ----------
    ids, scores : ndarray of shape (n,)
        Answer to `group_query`, only items of groups.
    groups : ndarray of int
        Which groups the search could see.
    oldest, newest : ndarray of shape (N_GROUPS,), int
        Generations whose update had ended before the search, and begun after it. Odd generations
        are removals.
    """
    group_of = (ids - N_JOURNAL) // GROUP_SIZE
    for group in groups:
        stamps = scores[group_of == group]
        window = range(int(oldest[group]), int(newest[group]) + 1)
        if len(stamps) == 0 and any(generation % 2 for generation in window):
            continue
        is_whole = len(np.unique(ids[group_of == group])) == GROUP_SIZE == len(stamps)
        if not is_whole or stamps.min() != stamps.max() or stamps[0] not in window:
            raise WrongAnswer(
                f"group {group}: {len(stamps)} of {GROUP_SIZE} items with generations "
                f"{np.unique(stamps).tolist()}, expected one of {list(window)}"
            )
        if stamps[0] % 2:
            raise WrongAnswer(f"group {group}: generation {stamps[0]} was a removal")
