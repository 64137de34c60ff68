"""A bundle as a `Ranker`: evaluation through `Engine.recommend`, the path its users take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from shortlist.training.features.feature import Feature
from shortlist.training.features.features import FeatureSet, align_users
from shortlist.training.features.history import HistoryEvents

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from shortlist.engine import Engine
    from shortlist.training.data.arrays import Requests
    from shortlist.training.splits.parts import IdArray, Split

__all__ = ["EngineRanker"]


class EngineRanker:
    """Rank a split's users with a loaded bundle.

    Requests carry the history and the user's features but no `user_id`: a stored history may hold
    the very items that are to be found.

    Parameters
    ----------
    engine : Engine
    split : Split
        Gives the catalogue and the user table.
    stages : int, optional
        As for `Engine.recommend`.
    """

    def __init__(
        self, engine: Engine, split: Split, *, stages: Literal[1, 2] | None = None
    ) -> None:
        self.engine = engine
        self.stages: Literal[1, 2] | None = stages
        self.split = split
        self._events: HistoryEvents | None = None
        bundle_ids = np.asarray(engine.index.item_ids)
        rows = {item_id: row for row, item_id in enumerate(split.catalogue.tolist())}
        # Row −1 of an answer reads the last place: missing. Items the split lacks never hit.
        self._catalogue_rows = np.array(
            [rows.get(item_id, -1) for item_id in bundle_ids.tolist()] + [-1], dtype=np.int64
        )

    def rank(
        self,
        histories: list[NDArray[np.int64]],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> NDArray[np.int64]:
        """Rank items for some users; see `evaluate.Ranker`."""
        requests: Requests = {"history": [self.split.catalogue[rows] for rows in histories]}
        if self.split.dataset.users is not None:
            table = align_users(self.split.dataset, user_ids)
            features = self.engine.bundle.manifest.features_of("user")
            names = [feature.name for feature in features if feature.name in table.columns]
            requests |= {name: table[name].to_list() for name in names}
        wanted = self.engine.bundle.manifest.event_features
        if wanted:
            if self._events is None:
                self._events = HistoryEvents(
                    _event_features(wanted, self.split), self.split.dataset
                )
            requests |= self._events.raw(user_ids, [rows + 1 for rows in histories])
        answer = self.engine.recommend(
            requests, top_n=top_n, exclude_seen=exclude_seen, stages=self.stages
        )
        return self._catalogue_rows[answer.indices]


def _event_features(wanted: Iterable[str], split: Split) -> FeatureSet:
    """Say which columns of events to find, with the split's own item codes."""
    catalogue = split.catalogue
    dtype = "int64" if np.issubdtype(catalogue.dtype, np.integer) else "string"
    item_id = Feature("item_id", "item", "id", dtype, catalogue.tolist())
    return FeatureSet(
        item_id, [], event_features=[Feature(name, "user", name, "string") for name in wanted]
    )
