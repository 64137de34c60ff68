"""Item-item weights from noisy counts. All of this comes after the noise and costs no privacy.

The matrix of pairs is taken as low rank plus few strong pairs plus noise of known size. The low
rank part is found by variational Bayes (Nakajima et al., JMLR 2013), which keeps as many factors as
the noise allows. How large an item's factors can be follows from its (noisy) popularity, so that
rare items shrink towards nothing. What is left is cut by a soft threshold: what stays is pairs that
noise cannot explain, such as a film and its sequel. A ridge regression on the result then takes off
what an item's neighbours say already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import eigsh

from shortlist.training.data.arrays import Floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Chosen on the validation parts of MovieLens-1M and MovieLens-100K, which are public.
N_FACTORS = 64
N_ROUNDS = 8
PRIOR_POWER = 1.5  # variance of an item's factors grows with popularity to this power
THRESHOLD = 3.2  # standard deviations of the noise, for a pair of items of mean popularity, …
THRESHOLD_SLOPE = 0.5  # … lower for popular items, which have more strong pairs, …
THRESHOLD_NOISE = 0.1  # … higher where the noise in a pair is over so much of the mean popularity
THRESHOLD_LEAST, THRESHOLD_MOST = 1.8, 6.0  # … within these
LEAST_COUNT = 0.5  # standard deviations of the noise
RIDGE, RIDGE_NOISE = 3.0, 0.045  # times an item's popularity; more where the noise is over that
# Pairs of independent items, added the more the noise hides: a list is then that of popularity.
INDEPENDENT, INDEPENDENT_NOISE = 5.0, 0.2
MOST_NOISE = 0.5  # in a pair, over the mean popularity: what goes together is lost beyond this
POPULARITY_POWER = 0.3  # how strongly popular items are damped
_SMALL = 400  # items: all eigenvectors at once


@dataclass(frozen=True)
class Noisy:
    """What a release gives.

    Attributes
    ----------
    pairs : ndarray of shape (n_items, n_items), float32
        Symmetric: how often two items lie near each other, in either order.
    counts : ndarray of shape (n_items,), float64
        How often each item occurs.
    pair_sigma, count_sigma : float
        Standard deviation of the noise in each number.
    """

    pairs: NDArray[np.float32]
    counts: Floats
    pair_sigma: float
    count_sigma: float


def popularity(noisy: Noisy) -> Floats:
    """Return a positive popularity of each item, (n_items,)."""
    return np.maximum(noisy.counts, LEAST_COUNT * max(noisy.count_sigma, 1e-9))


def hides_pairs(noisy: Noisy) -> bool:
    """Say whether noise hides what goes together; told by released numbers, so it costs nothing."""
    return bool(noisy.pair_sigma > MOST_NOISE * popularity(noisy).mean())


def item_weights(noisy: Noisy) -> NDArray[np.float32]:
    """Return W (n_items, n_items): the score of j is ``Σ_i decay^age(i) · W_ij``.

    Where noise hides the pairs, every item speaks for the popular ones alone.
    """
    popular = popularity(noisy)
    if hides_pairs(noisy):
        return np.tile(popular.astype(np.float32), (len(popular), 1))
    noise = noisy.pair_sigma / popular.mean()
    signal = low_rank(noisy.pairs, noisy.pair_sigma, popular)
    rest = noisy.pairs - signal
    rest -= _thresholds(popular, noise) * np.float32(noisy.pair_sigma)
    signal += np.maximum(rest, 0.0)
    part = INDEPENDENT * (noise / INDEPENDENT_NOISE) ** 2
    signal += np.outer(popular, popular * (part / popular.sum())).astype(np.float32)
    weights = _regressed(signal, popular, RIDGE * (1.0 + (noise / RIDGE_NOISE) ** 3))
    weights /= (popular**POPULARITY_POWER).astype(np.float32)
    return weights


def _thresholds(popular: Floats, noise: float) -> NDArray[np.float32]:
    """Return what the rest of a pair must exceed, (n, n), in standard deviations of the noise."""
    level = (THRESHOLD_SLOPE * np.log(popular / popular.mean())).astype(np.float32)
    start = THRESHOLD + max(math.log(max(noise, 1e-9) / THRESHOLD_NOISE), 0.0)
    threshold: NDArray[np.float32] = start - level[:, None] - level
    return threshold.clip(THRESHOLD_LEAST, THRESHOLD_MOST)


def _regressed(signal: NDArray[np.float32], popular: Floats, ridge: float) -> NDArray[np.float32]:
    """Return ``(signal + ridge · diag(popular))⁻¹ · signal``, the ridge raised until it inverts."""
    while True:
        gram = signal.copy()
        gram[np.diag_indices(len(gram))] += (ridge * popular).astype(np.float32)
        try:
            solved: NDArray[np.float32] = linalg.solve(
                gram, signal, assume_a="pos", overwrite_a=True
            )
            return solved
        except linalg.LinAlgError:  # the noise left a negative eigenvalue
            ridge *= 2.0


def low_rank(pairs: NDArray[np.float32], sigma: float, popular: Floats) -> NDArray[np.float32]:
    """Return the low-rank part of a symmetric matrix (n, n) with noise σ, symmetric."""
    n_items = len(pairs)
    start = _eigenpairs(pairs, min(N_FACTORS, n_items))
    left, right = start
    width = np.mean(left**2, axis=0) + 1e-12
    prior = (popular / popular.mean()) ** PRIOR_POWER
    noise = max(sigma, 1e-6) ** 2
    left_width = right_width = width
    spread = np.zeros((left.shape[1], left.shape[1]))
    for _ in range(N_ROUNDS):
        left, spread, left_width = _row_factors(pairs, right, spread, left_width, prior, noise)
        right, spread, right_width = _row_factors(pairs, left, spread, right_width, prior, noise)
    found = (left @ right.T).astype(np.float32)
    symmetric: NDArray[np.float32] = (found + found.T) / np.float32(2)
    return symmetric


def _eigenpairs(pairs: NDArray[np.float32], n: int) -> tuple[Floats, Floats]:
    """Return the strongest eigenpairs as two factors (n_items, n) of the matrix."""
    if len(pairs) <= _SMALL:
        values, vectors = np.linalg.eigh(pairs.astype(np.float64))
        strongest = np.argsort(-np.abs(values), kind="stable")[:n]
        values, vectors = values[strongest], vectors[:, strongest]
    else:
        values, vectors = eigsh(pairs, k=n, v0=np.ones(len(pairs), np.float32))
    half = vectors * np.sqrt(np.abs(values))
    return half.astype(np.float64), (half * np.sign(values)).astype(np.float64)


def _row_factors(
    pairs: NDArray[np.float32],
    others: Floats,
    spread: Floats,
    width: Floats,
    prior: Floats,
    noise: float,
) -> tuple[Floats, Floats, Floats]:
    """Return the posterior mean of all rows' factors, the sum of their covariances, new widths.

    Row i has the model ``pairs_i = others · x_i + noise`` with ``x_ik ~ N(0, width_k · prior_i)``.
    """
    root = np.sqrt(width)
    gram = root[:, None] * (others.T @ others + spread) * root
    values, vectors = np.linalg.eigh(gram)
    gain = 1.0 / (np.maximum(values, 0.0) + noise / prior[:, None])
    seen = (pairs @ others.astype(np.float32)).astype(np.float64) * root
    factors = ((seen @ vectors) * gain) @ vectors.T * root
    covariance = noise * root[:, None] * ((vectors * gain.sum(axis=0)) @ vectors.T) * root
    own = noise * width * (vectors**2 @ (gain / prior[:, None]).sum(axis=0))
    new_width = ((factors**2 / prior[:, None]).sum(axis=0) + own) / len(pairs)
    return factors, covariance, new_width + 1e-30
