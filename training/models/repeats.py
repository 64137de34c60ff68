"""The baseline of repeats: what a user had most often comes again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.models.baselines import Baseline, top_rows

__all__ = ["OwnFrequency"]


class OwnFrequency(Baseline):
    """Rank a user's own items by how often they had them, ties by the latest; then by popularity.

    The baseline that models of repeated purchases are measured by (Li et al., TOIS 2023, call it
    GP-TopFreq). Where seen items are excluded it is `Popularity`.
    """

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """See `Baseline.item_vectors`: an embedding is 1, then the weight of each own item."""
        own = np.eye(self.n_items)
        return np.concatenate([self._floor[:, None], own], axis=1).astype(np.float32)

    def _fit(self, users: Rows, items: Rows, weights: Floats) -> None:
        counts = np.bincount(items, weights, minlength=self.n_items)
        self._floor = 0.1 * counts / max(counts.max(initial=0.0), 1.0)

    def _rank(self, histories: list[Rows], excluded: list[Rows], top_n: int) -> Rows:
        scores: Floats = np.tile(self._floor, (len(histories), 1))
        for own, rows in zip(scores, histories, strict=True):
            if len(rows):
                latest = np.arange(1, len(rows) + 1) / (2 * len(rows))  # below one event
                counts = np.bincount(rows, minlength=self.n_items).astype(np.float64)
                np.maximum.at(own, rows, counts[rows] + latest)
        return top_rows(scores, excluded, top_n)
