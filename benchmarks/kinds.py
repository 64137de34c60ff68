"""Catalogues made of random numbers: ordinary ones, and those that break careless engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Generator = np.random.Generator
Kind = Callable[[Generator, int, int], Array]  # (random, n_rows, dim) -> (n_rows, dim)


def gaussian(random: Generator, n: int, dim: int) -> Array:
    return random.normal(size=(n, dim))


def decaying(random: Generator, n: int, dim: int) -> Array:
    """A spectrum that falls like that of trained embeddings, in a random basis."""
    scale = 1 / np.arange(1, dim + 1)
    basis = np.linalg.qr(random.normal(size=(dim, dim)))[0]
    rows: Array = (random.normal(size=(n, dim)) * scale) @ basis
    return rows


def heavy_tails(random: Generator, n: int, dim: int) -> Array:
    return random.normal(size=(n, dim)) * random.pareto(1.2, size=(n, 1))


def huge_range(random: Generator, n: int, dim: int) -> Array:
    return random.normal(size=(n, dim)) * 10.0 ** random.uniform(-12, 8, size=(n, 1))


def few_huge(random: Generator, n: int, dim: int) -> Array:
    rows = random.normal(size=(n, dim))
    rows[:: max(1, n // 7)] *= 1e15
    return rows


def largest(random: Generator, n: int, dim: int) -> Array:
    """Dot products beyond the float32 range: scores are clamped and tie."""
    return random.normal(size=(n, dim)) * 1e30


def denormal(random: Generator, n: int, dim: int) -> Array:
    return random.normal(size=(n, dim)) * 1e-41


def all_equal(random: Generator, n: int, dim: int) -> Array:
    return np.broadcast_to(random.normal(size=(1, dim)), (n, dim)).copy()


def near_duplicates(random: Generator, n: int, dim: int) -> Array:
    return random.normal(size=(1, dim)) + 1e-4 * random.normal(size=(n, dim))


def last_bits(random: Generator, n: int, dim: int) -> Array:
    """Rows that differ in their last bits only."""
    row = random.normal(size=(1, dim)).astype(np.float32)
    steps = random.integers(-2, 3, size=(n, dim))
    return row.astype(np.float64) + steps * np.spacing(np.abs(row)).astype(np.float64)


def duplicates(random: Generator, n: int, dim: int) -> Array:
    return random.normal(size=(3, dim))[random.integers(0, 3, size=n)]


def small_integers(random: Generator, n: int, dim: int) -> Array:
    """Ties everywhere, and zero rows in low dimensions."""
    return random.integers(-1, 2, size=(n, dim)).astype(np.float64)


def sparse(random: Generator, n: int, dim: int) -> Array:
    """Mostly zeros, whole zero rows among them."""
    return random.normal(size=(n, dim)) * (random.random((n, dim)) < 0.1)


def one_hot(random: Generator, n: int, dim: int) -> Array:
    return np.eye(dim)[random.integers(0, dim, size=n)]


def off_centre(random: Generator, n: int, dim: int) -> Array:
    return 100 + random.normal(size=(n, dim))


def code_edges(random: Generator, n: int, dim: int) -> Array:
    """Values halfway between 8-bit codes, where rounding errors are largest."""
    return (random.integers(-127, 127, size=(n, dim)) + 0.5) / 127


def all_negative(random: Generator, n: int, dim: int) -> Array:
    return -np.abs(random.normal(size=(n, dim)))


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        gaussian,
        decaying,
        heavy_tails,
        huge_range,
        few_huge,
        largest,
        denormal,
        all_equal,
        near_duplicates,
        last_bits,
        duplicates,
        small_integers,
        sparse,
        one_hot,
        off_centre,
        code_edges,
        all_negative,
    )
}
