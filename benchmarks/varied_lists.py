"""The lists of docs/variety.md by brute force in NumPy: every item looked at for every place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FLOAT32_MAX = float(np.finfo(np.float32).max)
LANES = 16
Rows = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass
class Wish:
    """What one list has to look like.

    Attributes
    ----------
    top_n : int
    at_most : list of (values by row, number); a row's values are a list of codes
    at_least : list of (mask, number)
    diversity : float
    target : (values by row, shares by value, strength), or None
        A row's values are a list of codes.
    dampening : float
    terms : ndarray (n_rows,), float64
        What is taken off scores, times `dampening`.
    """

    top_n: int
    at_most: list[tuple[list[list[int]], int]] = field(default_factory=list)
    at_least: list[tuple[Flags, int]] = field(default_factory=list)
    diversity: float = 0.0
    target: tuple[list[list[int]], dict[int, float], float] | None = None
    dampening: float = 0.0
    terms: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def all_scores(rows: Rows, query: NDArray[np.float64], metric: str) -> Rows:
    """Score every row with the bits of the engine: its lanes are summed in its order."""
    dim = rows.shape[1]
    width = -(-dim // LANES) * LANES
    x = np.zeros((len(rows), width))
    x[:, :dim] = rows
    u = np.zeros(width)
    u[:dim] = query
    lanes = np.zeros((len(rows), LANES))
    for first in range(0, width, LANES):
        part = slice(first, first + LANES)
        terms = (u[part] - x[:, part]) ** 2 if metric == "euclidean" else u[part] * x[:, part]
        if metric == "euclidean" and dim < first + LANES:
            terms[:, dim - first :] = 0
        lanes += terms
    w = [(lanes[:, k] + lanes[:, k + 4]) + (lanes[:, k + 8] + lanes[:, k + 12]) for k in range(4)]
    total = (w[0] + w[2]) + (w[1] + w[3])
    if metric == "euclidean":
        total = -np.sqrt(total)
    return to_float32(total)


def to_float32(numbers: NDArray[np.float64]) -> Rows:
    """Round once; beyond the float32 range clamped, never -0."""
    return np.clip(numbers, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32) + np.float32(0)


def as_scored(query: Rows, metric: str) -> NDArray[np.float64]:
    """Return a query as the engine scores it: for cosine normalised to float32."""
    wide = query.astype(np.float64)
    if metric != "cosine":
        return wide
    sums = [0.0] * 4
    whole = len(wide) // 4 * 4
    for d, number in enumerate(wide):
        sums[d % 4 if d < whole else 0] += number * number
    norm = np.sqrt((sums[0] + sums[2]) + (sums[1] + sums[3]))
    scale = 1.0 / norm if norm > 0 else 0.0
    return (wide * scale).astype(np.float32).astype(np.float64)


def _distances(wish: Wish, chosen: list[int], rows: NDArray[np.int64]) -> list[float]:
    """Return the KL divergence of a list with each of some rows below it, as Steck smooths it.

    Places that are left then count as what is wanted.
    """
    assert wish.target is not None
    values, shares, _ = wish.target
    known: dict[tuple[int, ...], float] = {}
    found = []
    for row in rows:
        key = tuple(sorted(set(values[row])))
        if key not in known:
            listed = [set(values[other]) for other in [*chosen, row]]
            n_free = wish.top_n - len(listed)
            distance = 0.0
            for value, share in sorted(shares.items()):
                own = 0.0
                for one in listed:
                    own += 1.0 / len(one) if value in one else 0.0
                own = (own + n_free * share) / wish.top_n
                distance += share * math.log(share / ((1 - 0.01) * own + 0.01 * share))
            known[key] = distance
        found.append(known[key])
    return found


class _List:
    """One list while it grows."""

    def __init__(self, wish: Wish, allowed: Flags) -> None:
        self.wish = wish
        self.left = allowed.copy()
        self.rows: list[int] = []
        self.counts: list[dict[int, int]] = [{} for _ in wish.at_most]

    def take(self, row: int) -> None:
        """Take an item, and strike out what may not follow."""
        self.rows.append(row)
        self.left[row] = False
        for (values, most), counts in zip(self.wish.at_most, self.counts, strict=True):
            for value in set(values[row]):
                counts[value] = counts.get(value, 0) + 1
                if counts[value] == most:
                    for other, own in enumerate(values):
                        if value in own:
                            self.left[other] = False

    def n_counted(self, mask: Flags) -> int:
        """How many items of a mask it has."""
        return int(mask[self.rows].sum()) if self.rows else 0


def brute_force(
    stored: Rows, query: Rows, metric: str, allowed: Flags, wish: Wish
) -> tuple[list[int], Rows, list[int]]:
    """Return the rows of the list, their scores, and how many items each quota lacks."""
    scores = all_scores(stored, as_scored(query, metric), metric)
    if wish.dampening > 0:
        scores = to_float32(scores.astype(np.float64) - wish.dampening * wish.terms)
    likeness: list[Rows] = []

    def best(left: Flags, chosen: list[int]) -> int:
        value = scores.astype(np.float64)
        if wish.target is not None:
            rows = np.flatnonzero(left)
            strength = wish.target[2]
            distances = np.array(_distances(wish, chosen, rows))
            value = (1 - strength) * value[rows] - strength * distances
            return int(rows[np.lexsort((rows, -scores[rows], -value))[0]])
        if wish.diversity > 0 and chosen:
            while len(likeness) < len(chosen):
                row = stored[chosen[len(likeness)]].astype(np.float64)
                likeness.append(all_scores(stored, row, metric))
            most = np.max(likeness[: len(chosen)], axis=0).astype(np.float64)
            value = (1 - wish.diversity) * value - wish.diversity * most
        return int(np.where(left, value, -np.inf).argmax())

    grown = _List(wish, allowed)
    for mask, least in wish.at_least:
        while len(grown.rows) < wish.top_n and grown.n_counted(mask) < least:
            left = grown.left & mask
            if not left.any():
                break
            grown.take(best(left, grown.rows))
    while len(grown.rows) < wish.top_n and grown.left.any():
        grown.take(best(grown.left, grown.rows))
    rows = sorted(grown.rows, key=lambda row: (-scores[row], row))
    if wish.diversity > 0 and rows:
        likeness.clear()
        left, chosen = np.zeros(len(stored), dtype=np.bool_), []
        left[rows] = True
        while left.any():
            chosen.append(best(left, chosen))
            left[chosen[-1]] = False
        rows = chosen
    lacks = [max(0, least - grown.n_counted(mask)) for mask, least in wish.at_least]
    return rows, scores[rows], lacks
