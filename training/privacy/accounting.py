"""What a release costs: noise for (ε, δ), and the total of several, by Google's `dp-accounting`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from types import ModuleType
from typing import Any

from shortlist.errors import DataError

ACCOUNTANT = "dp-accounting"
_INTERVAL = 1e-3  # of privacy loss; what lies between is rounded up, so that ε is never too small
_EXACTNESS = 1e-3  # of the logarithm of a noise that is searched for
_LEAST, _MOST = 0.1, 1e4  # of that noise


@dataclass(frozen=True)
class Steps:
    """Noisy steps, each of which sees every user with the same small chance (Poisson sampling).

    Attributes
    ----------
    sigma : float
        Standard deviation of the noise of a step; a user changes its sum by norm 1 at most.
    rate : float
        Chance of each user to be in a step.
    n_steps : int
    """

    sigma: float
    rate: float
    n_steps: int

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Steps:
        """Read what `to_dict` gave; KeyError, TypeError or ValueError where it is not that."""
        steps = cls(float(record["sigma"]), float(record["rate"]), int(record["n_steps"]))
        if not (0.0 < steps.sigma < math.inf and 0.0 < steps.rate <= 1.0 and steps.n_steps > 0):
            raise ValueError(f"no steps: {steps}")
        return steps

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def noise_scale(epsilon: float, delta: float) -> float:
    """Return the σ of a Gaussian that makes a sum of sensitivity 1 (ε, δ)-private, exactly."""
    return float(_library().get_sigma_gaussian(epsilon, delta))


def total_epsilon(sigmas: Sequence[float], delta: float, steps: Sequence[Steps] = ()) -> float:
    """Return the ε of several Gaussian releases of sensitivity 1 and of noisy steps together.

    Gaussians compose exactly: together they tell as much as one with ``σ = (Σ σ_i⁻²)^−½``. Steps
    are added as distributions of privacy loss (PLD), rounded up.
    """
    sigma = sum(sigma**-2 for sigma in sigmas) ** -0.5 if sigmas else math.inf
    if not steps:
        return float(_library().get_epsilon_gaussian(sigma, delta))
    from dp_accounting import pld

    events = _library()
    ledger = pld.PLDAccountant(value_discretization_interval=_INTERVAL)
    if sigmas:
        ledger.compose(events.GaussianDpEvent(sigma))
    for each in steps:
        step = events.PoissonSampledDpEvent(each.rate, events.GaussianDpEvent(each.sigma))
        ledger.compose(events.SelfComposedDpEvent(step, each.n_steps))
    return float(ledger.get_epsilon(delta))


@cache
def steps_for(epsilon: float, delta: float, first: float, rate: float, n_steps: int) -> Steps:
    """Return the steps that, after a Gaussian release of σ ``first``, cost (ε, δ) together."""
    low, high = math.log(_LEAST), math.log(_MOST)
    while high - low > _EXACTNESS:
        middle = (low + high) / 2
        if total_epsilon([first], delta, [Steps(math.exp(middle), rate, n_steps)]) > epsilon:
            low = middle
        else:
            high = middle
    return Steps(math.exp(high), rate, n_steps)


def accountant() -> str:
    """Name the accountant and its version."""
    _library()
    return f"{ACCOUNTANT} {version(ACCOUNTANT)}"


def chosen_delta(delta: float, n_users: int) -> float:
    """Return δ: what is set, or the power of ten at or below 1 / n_users^1.1.

    Raises
    ------
    DataError
        It is 1 / n_users or more: then whole histories may be published.
    """
    if delta == 0.0:
        return float(10.0 ** math.floor(-1.1 * math.log10(max(n_users, 2))))
    if delta >= 1.0 / n_users:
        raise DataError(
            f"privacy.delta: got {delta:g} with {n_users:,} users, expected less than 1 / users = "
            f"{1.0 / n_users:.3g}, or a release may publish a user's whole history. Fix: leave it "
            "out"
        )
    return delta


def _library() -> ModuleType:
    try:
        import dp_accounting
    except ModuleNotFoundError as error:
        raise DataError(
            f"privacy.epsilon: needs the package {ACCOUNTANT!r}, which is not installed. Fix: "
            "pip install 'shortlist[privacy]'"
        ) from error
    return dp_accounting  # type: ignore[no-any-return]
