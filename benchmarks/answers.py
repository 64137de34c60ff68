"""The float64 answer, and whether an engine gave it: no time counts before that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
# Relative to |query| × |largest item|: what float32 sums of a few hundred dims are allowed.
TOLERANCE = 1e-6
_PART = 50_000  # items at a time: never a float64 copy of a catalogue


class Reference:
    """Best inner products of a catalogue, summed in float64.

    Smaller batches are the first queries, smaller top-N the first places: one serves all cells.
    """

    def __init__(self, items: Rows, queries: Rows, top_n: int) -> None:
        self.items, self.queries = items, queries.astype(np.float64)
        self.best = np.empty((len(queries), 0))
        largest = 0.0
        for start in range(0, len(items), _PART):
            part = items[start : start + _PART].astype(np.float64)
            largest = max(largest, float(np.linalg.norm(part, axis=1).max()))
            scores = self.queries @ part.T
            cut = max(0, len(part) - top_n)
            best = np.hstack([self.best, np.partition(scores, cut, axis=1)[:, cut:]])
            self.best = np.sort(best, axis=1)[:, ::-1][:, :top_n]
        self.allowed = TOLERANCE * largest * np.linalg.norm(self.queries, axis=1, keepdims=True)

    def why_wrong(self, rows: NDArray[np.integer], n_queries: int, top_n: int) -> str:
        """Compare an answer to the first queries: "" if it is right, or else what is wrong.

        Ties may be broken either way, and scores closer than float32 sums can tell apart count as
        equal. Every row must exist and occur once.
        """
        expected = (n_queries, min(top_n, len(self.items)))
        if rows.shape != expected:
            return f"shape {rows.shape}, expected {expected}"
        if rows.min(initial=0) < 0 or rows.max(initial=0) >= len(self.items):
            return "rows that do not exist"
        rows = np.sort(rows.astype(np.int64), axis=1)
        if (rows[:, 1:] == rows[:, :-1]).any():
            return "a row twice in one list"
        pairs = zip(self.queries[:n_queries], rows, strict=True)
        found = np.stack([self.items[row].astype(np.float64) @ query for query, row in pairs])
        shortfall = self.best[:n_queries, : expected[1]] - np.sort(found, axis=1)[:, ::-1]
        is_wrong = (np.abs(shortfall) > self.allowed[:n_queries]).any(axis=1)
        if is_wrong.any():
            worst = float(np.abs(shortfall).max())
            return (
                f"{is_wrong.sum()} of {n_queries} lists differ from float64, by up to {worst:.3g}"
            )
        return ""
