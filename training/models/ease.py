"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.models.baselines import Sums, require, user_item_matrix
from shortlist.training.models.item_item import ItemItem
from shortlist.training.models.sums import STEPS, sum_products

_ROWS_AT_ONCE = 1024  # of a matrix that is worked on in its place


class EASE(ItemItem):
    """Embarrassingly shallow autoencoder (Steck, WWW 2019): a linear item-item model, closed form.

    ``B = I − P / diag(P)`` with ``P = (XᵀX + l2 · I)⁻¹``; ``score = history · B``. With powers a
    and b, X is ``(n_u / n̄_u)^−a · x_ui · (n_i / n̄_i)^−b`` with n_u items of user u, n_i users of
    item i, and their means: long histories and popular items weigh less (Park et al., SIGIR 2025).

    Parameters
    ----------
    l2 : float
        Regularisation.
    user_power, item_power : float
        How strongly long histories and popular items are damped; 0 not at all.
    max_items : int
        Refuse larger catalogues: memory is about 20 · n_items² bytes, time grows with n_items³.
    """

    def __init__(
        self,
        l2: float = 400.0,
        user_power: float = 0.0,
        item_power: float = 0.0,
        max_items: int = 20_000,
    ) -> None:
        require(l2 > 0, f"l2={l2}", "l2 > 0")
        self.l2 = l2
        self.user_power, self.item_power = user_power, item_power
        self.max_items = max_items

    def _count_pairs(self, users: Rows, items: Rows, weights: Floats, n_items: int) -> Sums:
        self._check_size(n_items)
        seen = user_item_matrix(users, items, weights, n_items)
        seen = seen[np.diff(seen.indptr) > 0]  # users without a signal have no number of items
        damped = sparse.diags(seen.getnnz(axis=1).astype(np.float64) ** -self.user_power) @ seen
        return {
            "pairs": sum_products(damped),
            "users": seen.getnnz(axis=0).astype(np.int64),
            "n_users": np.array([seen.shape[0]], np.int64),
        }

    def _item_weights(self, sums: Sums) -> Any:
        self._check_size(self.n_items)
        pairs = sums["pairs"]
        gram: Floats = (pairs.toarray() if sparse.issparse(pairs) else pairs) / STEPS
        # A user's power of (n_u / n̄_u) is that of n_u, which is in the pairs, and that of n̄_u.
        mean = sums["users"].sum() / max(int(sums["n_users"][0]), 1)
        gram *= mean ** (2 * self.user_power)
        counts = np.maximum(sums["users"], 1).astype(np.float64)
        of_item: Floats = (counts / counts.mean()) ** -self.item_power
        gram *= of_item[:, None]
        gram *= of_item
        gram[np.diag_indices(self.n_items)] += self.l2
        weights = _ease_weights(gram)
        weights *= of_item[:, None]
        return weights

    def _check_size(self, n_items: int) -> None:
        if n_items > self.max_items:
            raise DataError(
                f"EASE: got {n_items} items, expected at most max_items="
                f"{self.max_items}. Fix: use ItemKNN, or raise max_items if "
                f"{20 * n_items**2 / 2**30:.0f} GiB are there"
            )


def _ease_weights(gram: Floats) -> Floats:
    """Return ``I − P / diag(P)`` with ``P = gram⁻¹``, symmetric positive definite; in its place."""
    # Column-major and row-major are one for a symmetric matrix: LAPACK then copies nothing.
    factor, failed = lapack.dpotrf(gram.T, overwrite_a=1, clean=0)
    if not failed:
        inverse, failed = lapack.dpotri(factor, overwrite_c=1)
    if failed:
        raise DataError(
            "linear.ease_l2: the item-item matrix cannot be inverted in float64, expected a larger "
            "value; 100 and more are usual"
        )
    diagonal = inverse.diagonal().copy()
    weights: Floats = inverse.T  # the triangle that dpotri fills is the lower one here
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        stop = start + _ROWS_AT_ONCE
        weights[start:stop, start:stop] = np.tril(weights[start:stop, start:stop])
        block = weights[start:stop, start:stop]
        weights[start:stop, start:stop] = block + np.tril(block, -1).T
        weights[start:stop, stop:] = weights[stop:, start:stop].T
    weights /= -diagonal
    np.fill_diagonal(weights, 0.0)
    return weights
