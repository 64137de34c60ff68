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

__all__ = ["EngineRanker", "EngineVectors"]


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
    ground : ndarray of shape (n_items,), bool, optional
        The items of the split's catalogue that may be ranked; all by default.
    """

    def __init__(
        self,
        engine: Engine,
        split: Split,
        *,
        stages: Literal[1, 2] | None = None,
        ground: NDArray[np.bool_] | None = None,
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
        own = self._catalogue_rows[:-1]
        self._allow = None if ground is None else bundle_ids[np.append(ground, False)[own]]

    def rank(
        self,
        histories: list[NDArray[np.int64]],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> NDArray[np.int64]:
        """Rank items for some users; see `evaluate.Ranker`."""
        requests = self.requests(histories, user_ids)
        answer = self.engine.recommend(
            requests,
            top_n=top_n,
            exclude_seen=exclude_seen,
            stages=self.stages,
            allow=self._allow,
        )
        return self._catalogue_rows[answer.indices]

    def requests(self, histories: list[NDArray[np.int64]], user_ids: IdArray) -> Requests:
        """Return what `rank` asks the engine: histories, and what is known of the users."""
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
        return requests


class EngineVectors:
    """The item vectors of a bundle, by rows of a split's catalogue."""

    def __init__(self, engine: Engine, split: Split) -> None:
        self._index = engine.index
        places = {item: row for row, item in enumerate(engine.index.item_ids.tolist())}
        # The last: a missing place.
        own = [places.get(item, -1) for item in split.catalogue.tolist()] + [-1]
        self._rows = np.array(own, dtype=np.int64)

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors (n, dim) of catalogue rows (n,), and which rows have one."""
        own = self._rows[rows]
        is_there = own >= 0
        return self._index.vectors(np.where(is_there, own, 0)), is_there


def _event_features(wanted: Iterable[str], split: Split) -> FeatureSet:
    """Say which columns of events to find, with the split's own item codes."""
    catalogue = split.catalogue
    dtype = "int64" if np.issubdtype(catalogue.dtype, np.integer) else "string"
    item_id = Feature("item_id", "item", "id", dtype, catalogue.tolist())
    return FeatureSet(
        item_id, [], event_features=[Feature(name, "user", name, "string") for name in wanted]
    )
