"""What a release costs: noise for (ε, δ), and the total of several, by Google's `dp-accounting`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

from shortlist.errors import DataError

ACCOUNTANT = "dp-accounting"


def noise_scale(epsilon: float, delta: float) -> float:
    """Return the σ of a Gaussian that makes a sum of sensitivity 1 (ε, δ)-private, exactly."""
    return float(_library().get_sigma_gaussian(epsilon, delta))


def total_epsilon(sigmas: Sequence[float], delta: float) -> float:
    """Return the ε of several Gaussian releases of sensitivity 1 together.

    Gaussians compose exactly: together they tell as much as one with ``σ = (Σ σ_i⁻²)^−½``.
    """
    sigma = sum(sigma**-2 for sigma in sigmas) ** -0.5
    return float(_library().get_epsilon_gaussian(sigma, delta))


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
