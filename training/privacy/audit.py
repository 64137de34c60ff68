"""One-run audit: whether the mechanism keeps its promise on users that were made to be found.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run" (NeurIPS 2023): of m
canaries each is put in or left out by a coin. From what is released it is guessed which were in.
Were the mechanism (ε, δ)-private, each guess would be right with a chance of at most
e^ε / (1 + e^ε), up to δ: so many right guesses tell a least ε.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from shortlist.training.privacy.contributions import Bounds, sum_contributions
from shortlist.training.privacy.noise import STEPS, RandomBytes
from shortlist.training.privacy.release import add_noise
from shortlist.training.privacy.sgd import add_noise as add_step_noise
from shortlist.training.privacy.sgd import drawn_users

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Floats
    from shortlist.training.privacy.accounting import Steps

CONFIDENCE = 0.95
_LARGEST = 50.0


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes
    ----------
    n_canaries, n_guesses, n_right : int
    claimed, lower_bound : float
        The ε that is promised, and the least one that the guesses allow.
    delta, confidence : float
    """

    n_canaries: int
    n_guesses: int
    n_right: int
    claimed: float
    lower_bound: float
    delta: float
    confidence: float = CONFIDENCE

    @property
    def is_convicted(self) -> bool:
        """Whether the mechanism leaks more than it promises, at the confidence."""
        return self.lower_bound > self.claimed

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "is_convicted": self.is_convicted}

    def __str__(self) -> str:
        """Write the bound beside the claim, and how to read it."""
        verdict = (
            "CONVICTED: the mechanism leaks more than it promises"
            if self.is_convicted
            else "no contradiction: this proves no ε, it only found no leak over the promise"
        )
        return (
            f"{self.n_canaries:,} canaries, {self.n_guesses:,} guesses, {self.n_right:,} right\n"
            f"epsilon at least {self.lower_bound:.2f} (confidence {self.confidence:.0%}), "
            f"promised {self.claimed:g} at delta {self.delta:g}\n{verdict}"
        )


def audit(
    claimed: float,
    delta: float,
    sigma: float,
    bounds: Bounds,
    n_items: int,
    *,
    steps: Steps | None = None,
    n_canaries: int = 1000,
    source: RandomBytes = os.urandom,
) -> AuditReport:
    """Run the mechanism once with canaries, and guess which of them were in.

    A canary is a user with two events, whose pair no other canary has; in a noisy step it says one
    number that no other canary says. Sums are sums, so that other users change nothing for an
    attacker who knows them: none are needed.

    Parameters
    ----------
    claimed, delta, sigma : float
        Of the ledger. The noise that is added is of this σ.
    bounds : Bounds
    n_items : int
        Of the catalogue; it must have `n_canaries` pairs.
    steps : Steps, optional
        Noisy steps after the release.
    n_canaries : int
    source : callable
        Random bytes of noise and coins.

    Returns
    -------
    AuditReport
    """
    one, other = (places[:n_canaries].astype(np.int64) for places in np.triu_indices(n_items, 1))
    bits = np.frombuffer(source(len(one)), np.uint8)
    is_in = (bits & 1).astype(bool)
    items = np.stack([one[is_in], other[is_in]], axis=1).ravel()
    users = np.repeat(np.arange(int(is_in.sum())), 2)
    sums = sum_contributions(users, items, n_items, bounds)
    noisy = add_noise(sums, sigma, bounds, source)
    scores = noisy.pairs[one, other] / noisy.pair_sigma**2
    if steps is not None:
        scores = scores + _step_scores(is_in, steps, source)
    lower, n_guesses, n_right = _best_bound(scores, is_in, delta)
    return AuditReport(len(one), n_guesses, n_right, claimed, lower, delta)


def _step_scores(is_in: NDArray[np.bool_], steps: Steps, source: RandomBytes) -> Floats:
    """Run the steps; how much likelier each canary (n,) was in, as a logarithm."""
    there = np.flatnonzero(is_in)
    signal = 1.0 / steps.sigma  # in units of the noise
    scores = np.zeros(len(is_in))
    with np.errstate(divide="ignore"):
        missed, met = np.log1p(-steps.rate), np.log(steps.rate)
    for _ in range(steps.n_steps):
        total = np.zeros(len(is_in))
        total[there[drawn_users(len(there), steps.rate, source)]] = STEPS
        seen = add_step_noise(total, steps.sigma, source).astype(np.float64)
        scores += np.logaddexp(missed, met + seen * signal - signal**2 / 2)
    return scores


def _best_bound(scores: Any, is_in: Any, delta: float) -> tuple[float, int, int]:
    """Guess the highest scores to be in and the lowest out; the best bound over few numbers.

    The error rate is shared out among the numbers of guesses that are tried.
    """
    order = np.argsort(-scores, kind="stable")
    tries = sorted({max(2, int(len(scores) * part)) // 2 * 2 for part in (0.02, 0.1, 0.3, 1.0)})
    best = (0.0, tries[0], 0)
    for n in tries:
        half = n // 2
        n_right = int(is_in[order[:half]].sum() + (~is_in[order[len(order) - half :]]).sum())
        bound = lower_bound(n_right, n, len(scores), delta, (1 - CONFIDENCE) / len(tries))
        best = max(best, (bound, n, n_right))
    return best


def lower_bound(n_right: int, n_guesses: int, n_canaries: int, delta: float, error: float) -> float:
    """Return the largest ε at which so many right guesses have a chance of at most ``error``."""
    low, high = 0.0, _LARGEST
    if _chance(n_right, n_guesses, n_canaries, low, delta) > error:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if _chance(n_right, n_guesses, n_canaries, middle, delta) > error:
            high = middle
        else:
            low = middle
    return low


def _chance(n_right: int, n_guesses: int, n_canaries: int, epsilon: float, delta: float) -> float:
    """Bound the chance of so many right guesses under (ε, δ): theorem 5.2 of the paper."""
    p = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(stats.binom.sf(n_right - 1, n_guesses, p))
    fewer = np.arange(1, n_right + 1)
    below = np.cumsum(stats.binom.pmf(n_right - fewer, n_guesses, p)) / fewer
    return min(1.0, tail + float(below.max(initial=0.0)) * delta * 2 * n_canaries)
