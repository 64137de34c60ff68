"""Linear item factors: what a user's whole history says about an item, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

LEAST_DIAGONAL = 0.05  # of 1 − Σ v²d: keeps an item that few factors explain fully in bounds


def linear_factors(
    users: Any, items: Any, n_items: int, *, n_factors: int, l2: float
) -> tuple[Any, Any]:
    """Factorise EASE's item-item weights (Steck, WWW 2019) on the truncated SVD of the events.

    With ``X ≈ U S Vᵀ`` and ``d = s² / (s² + l2)``, EASE's weight from item i to another item j is
    ``Σ_k V_ik d_k V_jk / (1 − Σ_k V_jk² d_k)``: a product of two vectors, so that memory grows with
    the number of items and not with its square.

    Parameters
    ----------
    users, items : ndarray of shape (n_events,), int64
        User numbers and item rows of the train events.
    n_items : int
    n_factors : int
        At most so many; fewer if the events have no more.
    l2 : float
        Regularisation.

    Returns
    -------
    of_history, of_candidate : ndarray of shape (n_items, n_factors), float32
        An item's score is its candidate factors · the sum of the history's factors.
    """
    n_users = int(users.max(initial=-1)) + 1
    shape = (n_users, n_items)
    seen = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=shape)
    seen.data[:] = 1.0  # repeated events were summed
    n = min(n_factors, min(shape) - 1)
    if n < 1:
        return np.zeros((n_items, 1), np.float32), np.zeros((n_items, 1), np.float32)
    _, values, vectors = svds(seen, k=n, random_state=0)
    basis, damped = vectors.T, values**2 / (values**2 + l2)
    diagonal = np.maximum(1.0 - (basis**2 * damped).sum(axis=1), LEAST_DIAGONAL)
    return (basis * damped).astype(np.float32), (basis / diagonal[:, None]).astype(np.float32)
