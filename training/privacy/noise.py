"""Gaussian noise for releases: drawn from the operating system, whole steps of a grid.

A generator such as PCG64 can be predicted from its output, so the bits come from `os.urandom`.
Exact sums are whole numbers of steps, and the noise is rounded to whole steps: a released number
is what the Gaussian mechanism gives, rounded, and tells no more than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from shortlist.training.data.arrays import Floats

STEPS = 2**24  # of the grid, in one unit: a user's whole contribution has norm 1
GENERATOR = "os.urandom, Box-Muller, rounded to 2^-24"
_AT_ONCE = 1 << 20
_BITS = 53  # of a double's mantissa

RandomBytes = Callable[[int], bytes]


def unsafe_bytes(seed: int) -> RandomBytes:
    """Return a repeatable source of bytes: for tests and tables of quality, never for a release."""
    return np.random.default_rng(seed).bytes


def gaussian_steps(n: int, sigma: float, source: RandomBytes = os.urandom) -> Floats:
    """Draw Gaussian noise in whole steps of the grid.

    Parameters
    ----------
    n : int
    sigma : float
        Standard deviation in units (not steps).
    source : callable
        Gives so many random bytes.

    Returns
    -------
    ndarray of shape (n,), float64
        Whole numbers, below 2^53.
    """
    noise = np.empty(n)
    for start in range(0, n, _AT_ONCE):
        stop = min(n, start + _AT_ONCE)
        half = (stop - start + 1) // 2
        bits = np.frombuffer(source(16 * half), np.uint64) >> np.uint64(64 - _BITS)
        radius, angle = ((bits.astype(np.float64) + 0.5) * 2.0**-_BITS).reshape(2, half)
        length = np.sqrt(-2.0 * np.log(radius))
        turn = 2.0 * np.pi * angle
        both = np.concatenate([length * np.cos(turn), length * np.sin(turn)])
        noise[start:stop] = both[: stop - start]
    return np.rint(noise * (sigma * STEPS))
