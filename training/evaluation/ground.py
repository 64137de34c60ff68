"""A ranker that ranks some items of its catalogue only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Rows
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.splits.parts import IdArray

__all__ = ["OnGround"]


class OnGround:
    """Rank the items of a common ground, in the order of another ranker.

    Parameters
    ----------
    ranker : Ranker
    ground : ndarray of shape (n_items,), bool
        The items of its catalogue that may be ranked.
    """

    def __init__(self, ranker: Ranker, ground: NDArray[np.bool_]) -> None:
        self.ranker = ranker
        self._ground = np.append(ground, False)  # the last: a missing place
        self._n_others = int((~ground).sum())

    def rank(
        self,
        histories: list[Rows],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> Rows:
        """Rank items for some users; see `evaluate.Ranker`."""
        longer = max(top_n, min(top_n + self._n_others, len(self._ground) - 1))
        ranked = self.ranker.rank(histories, user_ids, longer, exclude_seen=exclude_seen)
        is_allowed = self._ground[ranked]
        first = np.argsort(~is_allowed, axis=1, kind="stable")[:, :top_n]
        allowed = np.take_along_axis(is_allowed, first, axis=1)
        return np.where(allowed, np.take_along_axis(ranked, first, axis=1), -1)
