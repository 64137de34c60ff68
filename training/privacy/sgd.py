"""Private gradient descent (DP-SGD): whom a step sees, and the noise on what they say together.

A step draws every user with the same small chance, whatever the others do. Each of them says one
vector of norm 1 at most, in whole steps of the grid; these are added up, and every number of the
sum gets noise. How long the vector of a user would have been is never used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from shortlist.training.privacy.noise import STEPS, RandomBytes, gaussian_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Floats, Rows

MECHANISM = (
    "Gaussian noise, added once to sums of bounded contributions, and then in every step to the "
    "sum of bounded gradients of users drawn by chance (DP-SGD)"
)
_BITS = 53


def drawn_users(n_users: int, rate: float, source: RandomBytes = os.urandom) -> Rows:
    """Draw each user with chance ``rate``, by itself: the numbers of those in a step, ascending."""
    return np.flatnonzero(_random_bits(n_users, source) < np.uint64(rate * 2.0**_BITS))


def drawn_below(limits: Rows, source: RandomBytes = os.urandom) -> Rows:
    """Draw a whole number from 0 to each limit (n,), that included.

    A user's draw must not depend on who else there is. So it comes from the source and not from a
    generator with a seed, whose numbers would shift by one if a user were missing.
    """
    shares = _random_bits(len(limits), source).astype(np.float64) * 2.0**-_BITS
    return (shares * (limits + 1)).astype(np.int64)


def add_noise(total: Floats, sigma: float, source: RandomBytes = os.urandom) -> NDArray[np.float32]:
    """Add noise of σ to a sum in steps of the grid; the result is in units of the noise."""
    noisy = total + gaussian_steps(total.size, sigma, source).reshape(total.shape)
    return (noisy / (sigma * STEPS)).astype(np.float32)


def _random_bits(n: int, source: RandomBytes) -> NDArray[np.uint64]:
    return np.frombuffer(source(8 * n), np.uint64) >> np.uint64(64 - _BITS)
