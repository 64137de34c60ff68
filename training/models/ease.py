"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.models.baselines import require, user_item_matrix
from shortlist.training.models.item_item import ItemItem

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

    def _item_weights(self, users: Rows, items: Rows, weights: Floats) -> Any:
        if self.n_items > self.max_items:
            raise DataError(
                f"EASE: got {self.n_items} items, expected at most max_items="
                f"{self.max_items}. Fix: use ItemKNN, or raise max_items if "
                f"{20 * self.n_items**2 / 2**30:.0f} GiB are there"
            )
        seen = user_item_matrix(users, items, weights, self.n_items)
        of_user, of_item = _damping(seen, 1, self.user_power), _damping(seen, 0, self.item_power)
        seen = sparse.diags(of_user) @ seen @ sparse.diags(of_item)
        gram = (seen.T @ seen).toarray()
        gram[np.diag_indices(self.n_items)] += self.l2
        weights = _ease_weights(gram)
        weights *= of_item[:, None]
        return weights


def _damping(seen: Any, axis: int, power: float) -> Floats:
    """Return what each user (axis 1) or item (axis 0) is multiplied by; 1 on average of them."""
    counts = np.maximum(seen.getnnz(axis=axis), 1).astype(np.float64)
    damping: Floats = (counts / counts.mean()) ** -power
    return damping


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
