"""Exact sums over users, each user's part scaled to norm 1: what noise is then added to.

A user's contribution is one long vector: how often two items lie near each other in the history
(`pairs`), and how often each item occurs (`counts`). Equal pairs and equal items are added up
before the norm is taken, so that an item that comes a hundred times weighs what it weighs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.privacy.noise import STEPS

_PAIRS_AT_ONCE = 1 << 22
_BELOW_ONE = 1.0 - 2.0**-40  # rounding of the square root never lifts a norm over 1


@dataclass(frozen=True)
class Bounds:
    """How a user's contribution is made; all of it is public.

    Attributes
    ----------
    window : int
        Largest gap of a pair, in events.
    decay_gap : float
        Weight of a pair, lost with each event in between.
    max_events : int
        A user's latest events that count.
    count_share : float
        Part of the squared norm that item counts get; pairs get the rest.
    """

    window: int
    decay_gap: float
    max_events: int
    count_share: float = 0.05

    @classmethod
    def of(cls, window: int, decay_gap: float, max_events: int, epsilon: float) -> Bounds:
        """Choose the share of the counts by ε: the less there is to spend, the more they get."""
        return cls(window, decay_gap, max_events, min(0.5, max(0.02, 0.4 / epsilon)))


@dataclass(frozen=True)
class Sums:
    """Sums over users in steps of the grid: float64 arrays of whole numbers.

    Attributes
    ----------
    pairs : ndarray of shape (n_items, n_items), float64
        Unordered pairs, in the upper triangle with the diagonal; 0 below.
    counts : ndarray of shape (n_items,), float64
    """

    pairs: Floats
    counts: Floats


def sum_contributions(users: Rows, items: Rows, n_items: int, bounds: Bounds) -> Sums:
    """Bound each user's contribution and add all up.

    Parameters
    ----------
    users, items : ndarray of shape (n_events,), int64
        User numbers, ascending, and item rows; each user's events oldest first.
    n_items : int
    bounds : Bounds

    Returns
    -------
    Sums
        Adding or removing one user changes the two arrays together by a vector of norm at most 1
        (`STEPS` steps).
    """
    sums = Sums(np.zeros((n_items, n_items)), np.zeros(n_items))
    latest = latest_events(users, items, bounds.max_events)
    for block_users, block_items in _blocks(*latest, bounds):
        cells, values = _pair_parts(block_users, block_items, n_items, bounds)
        np.add.at(sums.pairs.reshape(-1), cells, values)
        rows, values = _parts(block_users, block_items, n_items, bounds.count_share)
        np.add.at(sums.counts, rows, values)
    return sums


def latest_events(users: Rows, items: Rows, n: int) -> tuple[Rows, Rows]:
    """Keep each user's n latest events; users ascending, each one's events oldest first.

    Raises
    ------
    ValueError
        Users are not ascending: whose events lie apart would count, and be bounded, as several.
    """
    if (users[1:] < users[:-1]).any():
        raise ValueError(
            "users: got numbers that are not ascending, expected each user's events together, or "
            "no bound on a user holds. Fix: sort by user and time"
        )
    ends = np.searchsorted(users, users, side="right")
    kept = ends - np.arange(len(users)) <= n
    return users[kept], items[kept]


def _blocks(users: Rows, items: Rows, bounds: Bounds) -> Iterator[tuple[Rows, Rows]]:
    """Give whole users, as many as make a bounded number of pairs, numbered from 0."""
    start, at_once = 0, max(1, _PAIRS_AT_ONCE // bounds.window)
    while start < len(users):
        last = users[min(start + at_once, len(users)) - 1]
        stop = int(np.searchsorted(users, last, side="left"))
        if stop <= start or start + at_once >= len(users):
            stop = int(np.searchsorted(users, last, side="right"))
        _, numbers = np.unique(users[start:stop], return_inverse=True)
        yield numbers, items[start:stop]
        start = stop


def _pair_parts(users: Rows, items: Rows, n_items: int, bounds: Bounds) -> tuple[Rows, Floats]:
    owners, cells, weights = [], [], []
    for gap in range(1, min(bounds.window, len(users) - 1) + 1):
        same = users[gap:] == users[:-gap]
        one, other = items[:-gap][same], items[gap:][same]
        owners.append(users[gap:][same])
        cells.append(np.minimum(one, other) * n_items + np.maximum(one, other))
        weights.append(np.full(len(one), bounds.decay_gap ** (gap - 1)))
    if not owners:
        return np.empty(0, np.int64), np.empty(0)
    return _parts(
        np.concatenate(owners),
        np.concatenate(cells),
        n_items**2,
        1.0 - bounds.count_share,
        np.concatenate(weights),
    )


def _parts(
    users: Rows, cells: Rows, n_cells: int, share: float, weights: Floats | None = None
) -> tuple[Rows, Floats]:
    """Add up a user's equal cells, scale them to norm √share, and round towards 0."""
    keys, place = np.unique(users * n_cells + cells, return_inverse=True)
    total = np.bincount(place, weights, minlength=len(keys))
    owner = keys // n_cells
    norm = np.sqrt(np.bincount(owner, total**2))
    value = total / norm[owner] * (np.sqrt(share) * _BELOW_ONE)
    return keys % n_cells, np.floor(value * STEPS)
