"""Exploration: show something else than the best now and then, and know how probable that was.

Logged with what was shown, these propensities let `shortlist evaluate --off-policy` estimate what
another bundle would have earned.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from shortlist import _checks
from shortlist._columns.reading import Array

__all__ = ["Epsilon", "Exploration", "Softmax"]


class Exploration(ABC):
    """How answers are drawn from the best candidates, place by place from the top.

    The propensity of a place is the probability of its item *given the items above it*: their
    product down a list is the probability of the list.

    Parameters
    ----------
    n_candidates : int
        Answers are drawn from the exact best so many; with two stages from no more than those
        that the second one puts into order.
    seed : int, optional
        Makes the draws of one thread repeatable; without it they differ from run to run.
    """

    def __init__(self, *, n_candidates: int = 100, seed: int | None = None) -> None:
        self.n_candidates = _checks.positive_int(n_candidates, "n_candidates")
        self._random = np.random.default_rng(seed)

    def choose(self, scores: Array, top_n: int) -> tuple[Array, Array]:
        """Draw lists from candidates.

        Parameters
        ----------
        scores : ndarray of shape (n, m), float32
            Candidates' scores, descending; −inf at missing places.
        top_n : int

        Returns
        -------
        places : ndarray of shape (n, top_n), int64
            Places among the candidates; −1 where there are no more.
        propensities : ndarray of shape (n, top_n), float64
            0 at missing places.
        """
        places = self._draw(scores, min(top_n, scores.shape[1]))
        if places.shape[1] < top_n:
            places = np.pad(places, ((0, 0), (0, top_n - places.shape[1])), constant_values=-1)
        return places, self.propensities(scores, places)

    def propensities(self, scores: Array, places: Array) -> Array:
        """Return the propensity of each place (n, k) of given lists, 0 where the item is none.

        Below an item that is no candidate nothing is possible: 0 as well.
        """
        return self.shares(scores, places, None)[0]

    def shares(self, scores: Array, places: Array, values: Array | None) -> tuple[Array, Array]:
        """Return `propensities`, and the mean of `values` under the draw at each rank, (n, k).

        Parameters
        ----------
        scores : ndarray of shape (n, m), float32
        places : ndarray of shape (n, k), int64
        values : ndarray of shape (k, n, m), float64, optional
            A value of each candidate at each rank.
        """
        n, k = places.shape
        strength = self._strength(scores)
        is_left, rows = scores > -np.inf, np.arange(n)
        propensities, means = np.zeros((n, k)), np.zeros((n, k))
        is_possible = np.ones(n, dtype=np.bool_)
        for rank in range(k):
            probabilities = self._probabilities(strength, is_left)
            if values is not None:
                means[:, rank] = (probabilities * values[rank]).sum(axis=1) * is_possible
            picked = places[:, rank]
            is_possible &= (picked >= 0) & is_left[rows, picked]
            propensities[:, rank] = np.where(is_possible, probabilities[rows, picked], 0.0)
            is_left[rows[is_possible], picked[is_possible]] = False
        return propensities, means

    @abstractmethod
    def _draw(self, scores: Array, top_n: int) -> Array:
        """Return drawn places (n, top_n)."""

    @abstractmethod
    def _strength(self, scores: Array) -> Array:
        """Return what `_probabilities` needs of every candidate, (n, m)."""

    @abstractmethod
    def _probabilities(self, strength: Array, is_left: Array) -> Array:
        """Return the probability of every candidate at the next place, 0 where not `is_left`."""


class Epsilon(Exploration):
    """With probability epsilon a place gets any candidate left, each as likely; else the best left.

    Parameters
    ----------
    epsilon : float
        Between 0 and 1.
    n_candidates, seed
        As for `Exploration`.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([[3.0, 2.0, 1.0]])
    >>> Epsilon(0.3, seed=1).propensities(scores, np.array([[0, 2]])).round(2).tolist()
    [[0.8, 0.15]]
    """

    def __init__(
        self, epsilon: float = 0.1, *, n_candidates: int = 100, seed: int | None = None
    ) -> None:
        super().__init__(n_candidates=n_candidates, seed=seed)
        self.epsilon = _number("epsilon", epsilon)
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon: got {epsilon}, expected a probability from 0 to 1")

    def _draw(self, scores: Array, top_n: int) -> Array:
        n = len(scores)
        is_left, rows = scores > -np.inf, np.arange(n)
        places = np.full((n, top_n), -1, dtype=np.int64)
        explores = self._random.random((n, top_n)) < self.epsilon
        for rank in range(top_n):
            picked = is_left.argmax(axis=1)  # scores fall: the first one left is the best
            some = np.flatnonzero(explores[:, rank])
            if len(some):
                keys = np.where(is_left[some], self._random.random((len(some), len(scores[0]))), -1)
                picked[some] = keys.argmax(axis=1)
            is_real = is_left[rows, picked]
            places[is_real, rank] = picked[is_real]
            is_left[rows, picked] = False
        return places

    def _strength(self, scores: Array) -> Array:
        return scores

    def _probabilities(self, strength: Array, is_left: Array) -> Array:
        shares: Array = is_left * (self.epsilon / np.maximum(is_left.sum(axis=1), 1))[:, None]
        best = np.where(is_left, strength, -np.inf).argmax(axis=1)
        rows = np.flatnonzero(is_left.any(axis=1))
        shares[rows, best[rows]] += 1 - self.epsilon
        return shares


class Softmax(Exploration):
    """A place gets a candidate with probability proportional to exp(score / (temperature · s)).

    s is the standard deviation of the request's candidate scores, so that one temperature suits
    cosines, the scorer's scores and popularity. Drawn with Gumbel's trick: the top-n of the scores
    plus noise.

    Parameters
    ----------
    temperature : float
        Above 0. Low: nearly always the best ones.
    n_candidates, seed
        As for `Exploration`.
    """

    def __init__(
        self, temperature: float = 0.3, *, n_candidates: int = 100, seed: int | None = None
    ) -> None:
        super().__init__(n_candidates=n_candidates, seed=seed)
        self.temperature = _number("temperature", temperature)
        if not self.temperature > 0:
            raise ValueError(f"temperature: got {temperature}, expected a number above 0")

    def _logits(self, scores: Array) -> Array:
        """Scores in temperatures below the best; −inf at missing places."""
        wide = scores.astype(np.float64)
        is_real = wide > -np.inf
        counts = np.maximum(is_real.sum(axis=1, keepdims=True), 1)
        known = np.where(is_real, wide, 0.0)
        means = known.sum(axis=1, keepdims=True) / counts
        squares = np.where(is_real, (known - means) ** 2, 0.0).sum(axis=1, keepdims=True)
        spread = np.maximum(np.sqrt(squares / counts) * self.temperature, np.finfo(np.float64).tiny)
        best = np.where(is_real, wide, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        logits: Array = np.where(
            is_real,
            np.where(is_real, wide - np.where(best > -np.inf, best, 0), 0) / spread,
            -np.inf,
        )
        return logits

    def _draw(self, scores: Array, top_n: int) -> Array:
        keys: Array = self._logits(scores) + self._random.gumbel(size=scores.shape)
        places = np.argsort(-keys, axis=1)[:, :top_n]
        drawn: Array = np.where(np.take_along_axis(scores, places, 1) > -np.inf, places, -1)
        return drawn

    def _strength(self, scores: Array) -> Array:
        return self._logits(scores)

    def _probabilities(self, strength: Array, is_left: Array) -> Array:
        logits = np.where(is_left, strength, -np.inf)
        best = logits.max(axis=1, initial=-np.inf, keepdims=True)
        weights = np.exp(logits - np.where(best > -np.inf, best, 0))
        totals = weights.sum(axis=1, keepdims=True)
        shares: Array = weights / np.where(totals > 0, totals, 1)
        return shares


def _number(name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if not is_number or isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r} of type {type(value).__name__}, expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{name}: got {value}, expected a finite number")
    return float(value)
