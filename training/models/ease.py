"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import lapack

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.models.baselines import require, user_item_matrix
from shortlist.training.models.item_item import ItemItem

_ROWS_AT_ONCE = 1024  # of a matrix that is worked on in its place


class EASE(ItemItem):
    """Embarrassingly shallow autoencoder (Steck, WWW 2019): a linear item-item model, closed form.

    ``B = I − P / diag(P)`` with ``P = (XᵀX + l2 · I)⁻¹``; ``score = history · B``.

    Parameters
    ----------
    l2 : float
        Regularisation.
    max_items : int
        Refuse larger catalogues: memory is about 20 · n_items² bytes, time grows with n_items³.
    """

    def __init__(self, l2: float = 400.0, max_items: int = 20_000) -> None:
        require(l2 > 0, f"l2={l2}", "l2 > 0")
        self.l2 = l2
        self.max_items = max_items

    def _item_weights(self, users: Rows, items: Rows, weights: Floats) -> Any:
        if self.n_items > self.max_items:
            raise DataError(
                f"EASE: got {self.n_items} items, expected at most max_items="
                f"{self.max_items}. Fix: use ItemKNN, or raise max_items if "
                f"{20 * self.n_items**2 / 2**30:.0f} GiB are there"
            )
        seen = user_item_matrix(users, items, weights, self.n_items)
        gram = (seen.T @ seen).toarray()
        gram[np.diag_indices(self.n_items)] += self.l2
        return _ease_weights(gram)


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
