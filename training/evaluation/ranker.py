"""A trained two-tower model as a `Ranker`: user encoder, then exact search in the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist import Index
from shortlist.training.features.features import align_users, pad_lists
from shortlist.training.features.history import HistoryEvents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.events import Dataset
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.splits.parts import IdArray


class TwoTowerRanker:
    """Rank the catalogue by the model's metric.

    Parameters
    ----------
    model : TwoTower
        Encoded once, on construction; a later change of its weights is not seen.
    dataset : Dataset
        Its user table gives the user features.
    n_threads : int
        Threads of the search; 0 = all cores.
    """

    def __init__(self, model: TwoTower, dataset: Dataset, *, n_threads: int = 0) -> None:
        self.model = model
        self.dataset = dataset
        self.n_threads = n_threads
        self.index = Index(model.refresh(), metric=model.metric)
        features = model.features
        self.events = HistoryEvents(features, dataset) if features.event_features else None

    def rank(
        self,
        histories: list[NDArray[np.int64]],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> NDArray[np.int64]:
        """Rank items for some users; see `evaluate.Ranker`."""
        if len(histories) == 0:
            return np.full((0, top_n), -1, np.int64)
        codes, inputs = self.encoded(histories, user_ids)
        lengths = np.fromiter((len(h) for h in histories), np.int64, len(histories))
        rows = np.concatenate([np.asarray(h, np.int64) for h in histories])
        users = self.model.encode_users(codes, inputs)
        seen = (rows, np.concatenate([[0], np.cumsum(lengths)])) if exclude_seen else None
        hits = self.index.search(users, top_n=top_n, exclude=seen, n_threads=self.n_threads)
        return hits.indices

    def encoded(
        self, histories: list[NDArray[np.int64]], user_ids: IdArray
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Encode users as the model takes them: codes (n_users, length) and other inputs."""
        lengths = np.fromiter((len(h) for h in histories), np.int64, len(histories))
        rows = np.concatenate([np.asarray(h, np.int64) for h in histories])
        width = self.model.config.model.history_length
        codes = pad_lists(rows + 1, lengths, width, align="right")
        inputs = self.model.features.encode_users(align_users(self.dataset, user_ids))
        if self.events is not None:
            histories = [np.asarray(h, np.int64) + 1 for h in histories]
            inputs |= self.events.encoded(user_ids, histories, width)
        return codes, inputs
