"""One release: the statistics with their noise, and the ledger that says what they cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.errors import DataError
from shortlist.training.privacy.accounting import (
    Steps,
    accountant,
    chosen_delta,
    noise_scale,
    steps_for,
    total_epsilon,
)
from shortlist.training.privacy.contributions import Bounds, Sums, sum_contributions
from shortlist.training.privacy.denoise import Noisy
from shortlist.training.privacy.noise import GENERATOR, STEPS, RandomBytes, gaussian_steps
from shortlist.training.privacy.sgd import MECHANISM as DESCENT

if TYPE_CHECKING:
    from shortlist.training.config.sections import PrivacyConfig
    from shortlist.training.data.arrays import Rows

NEIGHBOURS = "two data sets of which one has one user more"
MECHANISM = "Gaussian noise, added once to sums of bounded contributions"
ASSUMED = (
    "the item table is public, and so is the power of ten of the number of users",
    "how the events are written (the type of ids, the form of times, the kinds) is public",
    "the settings were not chosen by looking at these users' events",
)
UNSAFE = "a fixed seed: anyone who knows it can take the noise off. NOT PRIVATE"


@dataclass(frozen=True)
class Release:
    """What may be known, and what it costs.

    Attributes
    ----------
    noisy : Noisy
    ledger : dict
        The manifest's ``privacy``.
    """

    noisy: Noisy
    ledger: dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """What a training promises, before anything is released.

    Attributes
    ----------
    epsilon, delta : float
    sigma : float
        Of the noise on the statistics.
    earlier : tuple of dict
        The entries ``releases`` of the ledger of the bundle before.
    steps : Steps or None
        The noisy steps that follow; None: there are none.
    """

    epsilon: float
    delta: float
    sigma: float
    earlier: tuple[Mapping[str, Any], ...] = ()
    steps: Steps | None = None

    @property
    def own(self) -> dict[str, Any]:
        """The entry of this training among the ledger's ``releases``."""
        entry: dict[str, Any] = {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "sigma": self.sigma,
        }
        return entry if self.steps is None else {**entry, "steps": self.steps.to_dict()}

    @property
    def total(self) -> float:
        """The ε of this training and the earlier ones together, at this δ."""
        return spent((*self.earlier, self.own), self.delta) if self.earlier else self.epsilon


def spent(entries: Sequence[Mapping[str, Any]], delta: float) -> float:
    """Return the ε of all entries ``releases`` of a ledger together.

    Raises
    ------
    KeyError, TypeError, ValueError
        An entry lacks the size of its noise.
    """
    sigmas = [float(entry["sigma"]) for entry in entries]
    if not sigmas or not all(0.0 < sigma < math.inf for sigma in sigmas):
        raise ValueError(f"no noise: {sigmas}")
    steps = [Steps.read(entry["steps"]) for entry in entries if "steps" in entry]
    return total_epsilon(sigmas, delta, steps)


def claim_of(
    settings: PrivacyConfig, n_users: int, earlier: tuple[Mapping[str, Any], ...] = ()
) -> Claim:
    """Compute the noise that the settings ask for, and check the budget.

    Raises
    ------
    DataError
        δ is too large, or the releases together cost more than ``privacy.budget``.
    """
    epsilon, delta = settings.epsilon, chosen_delta(settings.delta, n_users)
    claim = Claim(epsilon, delta, noise_scale(epsilon, delta), earlier)
    if settings.mechanism == "sgd":
        sigma = noise_scale(settings.statistics * epsilon, delta)
        steps = steps_for(epsilon, delta, sigma, settings.rate, settings.steps)
        claim = Claim(epsilon, delta, sigma, earlier, steps)
    if claim.total > settings.budget * (1 + 1e-9):
        before = spent(earlier, delta) if earlier else 0.0
        raise DataError(
            f"privacy.budget: got {settings.budget:g}, but this release (ε = {epsilon:g}) "
            f"and the {len(earlier)} before it (ε = {before:.3g}) cost ε = {claim.total:.3g} at "
            f"δ = {delta:g}, expected at most the budget. Fix: a smaller privacy.epsilon, or keep "
            "the present bundle"
        )
    return claim


def release(
    users: Rows,
    items: Rows,
    n_items: int,
    claim: Claim,
    bounds: Bounds,
    *,
    source: RandomBytes = os.urandom,
) -> Release:
    """Add up bounded contributions and add noise: the only step that sees events.

    Parameters
    ----------
    users, items : ndarray of shape (n_events,), int64
        As of `sum_contributions`.
    n_items : int
    claim : Claim
    bounds : Bounds
    source : callable
        Random bytes. Anything but the operating system's is marked in the ledger as not private.
    """
    sums = sum_contributions(users, items, n_items, bounds)
    noisy = add_noise(sums, claim.sigma, bounds, source)
    return Release(noisy, ledger_of(claim, bounds, is_safe=source is os.urandom))


def add_noise(sums: Sums, sigma: float, bounds: Bounds, source: RandomBytes = os.urandom) -> Noisy:
    """Add noise of σ to every number of the sums, which change in place; then undo the shares."""
    add_steps(sums, sigma, source)
    return undo_shares(sums, sigma, bounds)


def add_steps(sums: Sums, sigma: float, source: RandomBytes = os.urandom) -> None:
    """Add noise of σ, in whole steps, to every number of the sums, which change in place."""
    n_items = len(sums.counts)
    for row in range(n_items):  # the upper triangle, row by row
        sums.pairs[row, row:] += gaussian_steps(n_items - row, sigma, source)
    sums.counts[:] += gaussian_steps(n_items, sigma, source)


def undo_shares(sums: Sums, sigma: float, bounds: Bounds) -> Noisy:
    """Bring sums with noise of σ from steps and shares of the norm back to counts."""
    of_pairs, of_counts = math.sqrt(1.0 - bounds.count_share), math.sqrt(bounds.count_share)
    pairs = (sums.pairs / (STEPS * of_pairs)).astype(np.float32)
    pairs += np.triu(pairs, 1).T
    counts = sums.counts / (STEPS * of_counts)
    return Noisy(pairs, counts, sigma / of_pairs, sigma / of_counts)


def ledger_of(
    claim: Claim, bounds: Bounds, *, is_safe: bool = True, mechanism: str = MECHANISM
) -> dict[str, Any]:
    """Write what a release promises, for the manifest's ``privacy``."""
    return {
        "epsilon": claim.total,
        "delta": claim.delta,
        "unit": "user",
        "neighbours": NEIGHBOURS,
        "mechanism": mechanism if claim.steps is None else DESCENT,
        "sensitivity": 1.0,
        "sigma": claim.sigma,
        **({} if claim.steps is None else {"steps": claim.steps.to_dict()}),
        "generator": GENERATOR if is_safe else UNSAFE,
        "accountant": accountant(),
        "bounds": asdict(bounds),
        "assumes": list(ASSUMED),
        "releases": [*(dict(entry) for entry in claim.earlier), claim.own],
    }
