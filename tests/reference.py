"""Float64 oracle for exact top-N, and an assertion that accepts only harmless differences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Relative to the largest score magnitude a query can have: one float32 rounding of the score, plus
# the float32 rounding of both normalised vectors for cosine.
TOLERANCE = 4e-7
SMALLEST = 2e-45  # one float32 denormal


def all_scores(
    items: NDArray, queries: NDArray, metric: str, are_stored: bool = False
) -> NDArray[np.float64]:
    """Scores of every query with every item, shape (n_queries, n_items).

    `are_stored`: the items come from `Index.vectors`, for cosine normalised and then rounded.
    """
    x, u = np.asarray(items, np.float64), np.asarray(queries, np.float64)
    if metric == "cosine":
        x, u = x if are_stored else _unit(x), _unit(u)
    if metric != "euclidean":
        return u @ x.T
    return -np.sqrt(((u[:, None, :] - x[None, :, :]) ** 2).sum(axis=2))


def _unit(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0)


def scale_of(items: NDArray, queries: NDArray, metric: str) -> NDArray[np.float64]:
    """The magnitude that rounding is relative to, shape (n_queries, 1)."""
    x = np.linalg.norm(np.asarray(items, np.float64), axis=1).max(initial=0)
    u = np.linalg.norm(np.asarray(queries, np.float64), axis=1)[:, None]
    if metric == "cosine":
        return np.ones_like(u)
    return u * x if metric == "dot" else u + x


def assert_top_n(
    indices: NDArray,
    scores: NDArray,
    counts: NDArray,
    expected: NDArray[np.float64],
    scale: NDArray[np.float64] | float = 1.0,
    allowed: NDArray[np.bool_] | None = None,
) -> None:
    """Raise AssertionError unless (indices, scores, counts) are the top-N of `expected`.

    Items may swap places only where their expected scores are equal within the tolerance; equal
    returned scores must be ordered by index.
    """
    n_queries, top_n = indices.shape
    limit = float(np.finfo(np.float32).max)  # scores beyond float32 are clamped
    expected = np.clip(expected, -limit, limit)
    scale = np.minimum(np.asarray(scale, np.float64), limit)
    tolerance = np.broadcast_to(TOLERANCE * scale + SMALLEST, (n_queries, 1))
    for q in range(n_queries):
        row = expected[q]
        open_rows = np.arange(len(row)) if allowed is None else np.flatnonzero(allowed[q])
        count = min(top_n, len(open_rows))
        assert counts[q] == count, f"query {q}: counts {counts[q]}, expected {count}"
        got, missing = indices[q, :count], indices[q, count:]
        is_missing = (missing == -1) & np.isneginf(scores[q, count:])
        assert is_missing.all(), f"query {q}: missing places must hold index -1 and score -inf"
        assert len(np.unique(got)) == count, f"query {q}: repeated indices {got}"
        assert np.isin(got, open_rows).all(), f"query {q}: rows that are not allowed in {got}"
        error = np.abs(scores[q, :count] - row[got])
        assert (error <= tolerance[q]).all(), f"query {q}: scores are off by {error.max()}"
        steps = np.diff(scores[q, :count])
        assert (steps <= 0).all(), f"query {q}: scores are not descending"
        ties = steps == 0
        assert (np.diff(got)[ties] > 0).all(), f"query {q}: equal scores, higher index first"
        best = np.sort(row[open_rows])[::-1][:count]
        shortfall = best - row[got]
        assert (shortfall <= 2 * tolerance[q]).all(), (
            f"query {q}: a better item is missing (shortfall {shortfall.max()})"
        )
