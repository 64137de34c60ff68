"""Exact sums over events: whole steps of a grid, so that no order of adding changes a bit.

So the sum over all users is the same whether one house adds it up or each of many adds up its own
users first (`training.federated`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows

_BITS = 16  # of the grid of a weight; a pair is a product of two
STEPS = 1 << 2 * _BITS  # of the grid of sums, in one event of weight 1
LARGEST = 1 << 62  # in steps, so that int64 holds any sum


def sum_weights(items: Rows, weights: Floats, n_items: int) -> Rows:
    """Add up the weights of each item's events: (n_items,), int64, in steps."""
    _check_range(np.bincount(items, weights).max(initial=0.0))
    sums = np.zeros(n_items, np.int64)
    np.add.at(sums, items, _steps(weights, STEPS))
    return sums


def sum_followers(
    users: Rows, items: Rows, weights: Floats, n_items: int, *, window: int, gap_decay: float
) -> Any:
    """Add up how often item j comes after item i, less with each event between them.

    Parameters
    ----------
    users, items : ndarray of shape (n_events,), int64
        User numbers and item rows, grouped by user, oldest first.
    weights : ndarray of shape (n_events,), float64
        A pair counts the product of its events' weights, not below 0.
    n_items : int
    window : int
        Largest gap between two events that counts.
    gap_decay : float
        Weight lost per event between the two.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n_items, n_items), int64
        In steps.
    """
    most = np.bincount(items, weights).max(initial=0.0) * weights.max(initial=0.0)
    _check_range(most * min(window, 1.0 / max(1.0 - gap_decay, 1e-9)))
    follows = sparse.csr_matrix((n_items, n_items), dtype=np.int64)
    for gap in range(1, window + 1):
        same = users[gap:] == users[:-gap]
        i, j = items[:-gap][same], items[gap:][same]
        weight = gap_decay ** (gap - 1) * (weights[:-gap] * weights[gap:])[same]
        follows = follows + sparse.csr_matrix((_steps(weight, STEPS), (i, j)), shape=follows.shape)
    return follows


def sum_products(seen: Any) -> Any:
    """Add up over users the products of their weights of two items.

    Parameters
    ----------
    seen : scipy.sparse.csr_matrix of shape (n_users, n_items), float64

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n_items, n_items), int64
        In steps. Weights are rounded to 2^-16 before they are multiplied.
    """
    _check_range(seen.multiply(seen).sum(axis=0).max() if seen.nnz else 0.0)
    rounded = sparse.csr_matrix(
        (_steps(seen.data, 1 << _BITS), seen.indices, seen.indptr), shape=seen.shape
    )
    return rounded.T @ rounded


def _steps(values: Floats, n: int) -> Rows:
    steps: Rows = np.rint(values * n).astype(np.int64)
    return steps


def _check_range(largest: float) -> None:
    if not largest * STEPS < LARGEST:  # NaN too
        raise DataError(
            f"events.weights: got weights that add up to {largest:.3g} for one pair of items, "
            f"expected less than {LARGEST // STEPS:.3g}. Fix: smaller weights, in the same ratio"
        )
