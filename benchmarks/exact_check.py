"""Is an answer exactly right? Scores bounded in float64, then every place of the answer checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import shortlist

Rows = NDArray[np.float32]

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass
class Bounds:
    """The score of every query with every item lies in [low, high], both float32."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]


def score_bounds(items: Rows, queries: Rows, metric: str) -> Bounds:
    """Round the float64 score to float32, once for each end of its error.

    The sum here runs in another order than the engine's, so the two float64 sums may differ by a
    few units in their last place. Unless the boundary between two float32 numbers lies just there,
    low equals high and one score alone is right.

    Parameters
    ----------
    items, queries : ndarray of shape (n, dim), float32
        As they are scored: for cosine, normalised.
    metric : {"cosine", "dot", "euclidean"}
    """
    x, u = items.astype(np.float64), queries.astype(np.float64)
    unit = (x.shape[1] + 8) * 2.0**-52
    if metric == "euclidean":
        sums = np.empty((len(u), len(x)))
        for q, query in enumerate(u):
            difference = x - query
            sums[q] = np.einsum("nd,nd->n", difference, difference)
        value = -np.sqrt(sums)
        error = unit * -value
    else:
        value = u @ x.T
        error = unit * np.linalg.norm(u, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    return Bounds(_rounded(value - error), _rounded(value + error))


def _rounded(value: NDArray[np.float64]) -> NDArray[np.float32]:
    # Scores beyond the float32 range are clamped, and -0 becomes 0.
    return np.clip(value, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32) + np.float32(0)


def misses(
    hits: shortlist.Hits, bounds: Bounds, allowed: NDArray[np.bool_], rows: NDArray[np.int64]
) -> list[str]:
    """Say what is wrong with the answers, at most one line for each query.

    Parameters
    ----------
    hits : Hits
    bounds : Bounds
        Arrays of shape (n_queries, n_items).
    allowed : ndarray of shape (n_queries, n_items), bool
    rows : ndarray of shape (n_items,), int64
        Row numbers of the items, ascending.
    """
    found: list[str] = []
    for q in range(len(hits.counts)):
        problem = _problem(
            hits.indices[q],
            hits.scores[q],
            int(hits.counts[q]),
            bounds.low[q],
            bounds.high[q],
            allowed[q],
            rows,
        )
        if problem:
            found.append(f"query {q}: {problem}")
    return found


def _problem(
    indices: NDArray[np.int64],
    scores: NDArray[np.float32],
    count: int,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: NDArray[np.int64],
) -> str:
    expected = min(len(indices), int(allowed.sum()))
    if count != expected:
        return f"count {count}, expected {expected}"
    if (indices[count:] != -1).any() or not np.isneginf(scores[count:]).all():
        return "missing places are not row -1 with score -inf"
    if count == 0:
        return ""
    indices, scores = indices[:count], scores[:count]
    places = np.minimum(np.searchsorted(rows, indices), len(rows) - 1)
    if (rows[places] != indices).any() or not allowed[places].all():
        return "a row that does not exist or is not allowed"
    is_wrong = ~((scores >= low[places]) & (scores <= high[places]))
    if is_wrong.any():
        at = int(np.argmax(is_wrong))
        return f"score {scores[at]!r} of row {indices[at]}, expected {low[places[at]]!r}"
    is_tie = scores[1:] == scores[:-1]
    if (scores[1:] > scores[:-1]).any() or (np.diff(indices)[is_tie] <= 0).any():
        return "not in order of score, then row"
    rest = allowed.copy()
    rest[places] = False
    better = rest & ((low > scores[-1]) | ((low == scores[-1]) & (rows < indices[-1])))
    if count == len(indices) and count < len(allowed) and better.any():
        place = int(np.argmax(better))
        return (
            f"row {rows[place]} with score {low[place]!r} is missing; the last one there is "
            f"row {indices[-1]} with score {scores[-1]!r}"
        )
    return ""
