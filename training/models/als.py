"""Implicit ALS: a matrix factorisation by alternating least squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import shortlist
from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.models.baselines import Baseline, require, search, user_item_matrix


class ImplicitALS(Baseline):
    """Matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM 2008).

    Items are factorised with the library ``implicit``; a user's vector is solved from the history
    alone, ``(VᵀV + α V_hᵀ V_h + l2 · I)⁻¹ (1 + α) V_hᵀ 1``, so that any history can be ranked.

    Parameters
    ----------
    dim : int
        Length of the vectors.
    l2 : float
        Regularisation.
    alpha : float
        Confidence in an event is 1 + alpha × its weight.
    iterations : int
        Rounds of the alternation.
    seed : int
        Of the first vectors.
    """

    def __init__(
        self,
        dim: int = 64,
        l2: float = 0.05,
        alpha: float = 10.0,
        iterations: int = 15,
        seed: int = 1,
    ) -> None:
        require(
            dim >= 1 and l2 > 0 and alpha > 0 and iterations >= 1,
            f"dim={dim}, l2={l2}, alpha={alpha}, iterations={iterations}",
            "dim and iterations ≥ 1, l2 and alpha > 0",
        )
        self.dim, self.l2, self.alpha = dim, l2, alpha
        self.iterations, self.seed = iterations, seed

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """See `Baseline.item_vectors`: the items' factors, so turned that ``VᵀV + l2 · I`` is I."""
        turned = np.linalg.solve(np.linalg.cholesky(self._gram), self._vectors.T)
        return turned.T.astype(np.float32)

    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        try:
            from implicit.cpu.als import AlternatingLeastSquares
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise DataError(
                f"implicit ALS: {error}; expected the libraries implicit and threadpoolctl. Fix: "
                "pip install 'shortlist[ials]', or use another model"
            ) from error
        seen = user_item_matrix(users, items, weights, self.n_items)
        seen.data = 1.0 + self.alpha * seen.data  # the library takes confidences
        with threadpool_limits(1, "blas"):  # as the library asks for
            model = AlternatingLeastSquares(
                factors=self.dim,
                regularization=self.l2,
                iterations=self.iterations,
                num_threads=1,  # with more, sums depend on their order
                random_state=self.seed,
                dtype=np.float64,
            )
            model.fit(seen, show_progress=False)
        self._vectors = model.item_factors
        self._gram = self._vectors.T @ self._vectors + self.l2 * np.eye(self.dim)
        self._index = shortlist.Index(self._vectors.astype(np.float32), metric="dot")

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        queries = np.zeros((len(histories), self.dim))
        for user, rows in enumerate(histories):
            known = self._vectors[np.unique(rows)]
            wanted = (1.0 + self.alpha) * known.sum(axis=0)
            queries[user] = np.linalg.solve(self._gram + self.alpha * known.T @ known, wanted)
        return search(self._index, queries, excluded, top_n)
