"""What is known of the events of histories, for rankers and the parity gate: kinds and times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.training.features.feature import DAY, pad_lists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shortlist.training.data.events import Dataset
    from shortlist.training.features.features import FeatureSet


class HistoryEvents:
    """Finds the events behind histories that are the beginning of their user's events.

    Parameters
    ----------
    features : FeatureSet
    dataset : Dataset
        Its events, by user and time.
    """

    def __init__(self, features: FeatureSet, dataset: Dataset) -> None:
        self.features = features
        events = dataset.events
        self._codes = features.item_id.codes(events["item_id"])
        self._kinds = events["kind"].to_numpy()
        self._times = events["timestamp"].to_numpy()
        counts = events.group_by("user_id", maintain_order=True).len()
        stops = np.cumsum(counts["len"].to_numpy()).astype(np.int64)
        starts = np.concatenate([[0], stops])[:-1]
        pairs = zip(starts.tolist(), stops.tolist(), strict=True)
        self._places = dict(zip(counts["user_id"].to_list(), pairs, strict=True))

    def raw(
        self, user_ids: NDArray[Any], histories: Sequence[NDArray[np.int64]]
    ) -> dict[str, list[Any]]:
        """Give `history_kinds` and `history_ages` as requests carry them.

        Parameters
        ----------
        user_ids : ndarray of shape (n_users,)
        histories : sequence of ndarray
            Item codes, oldest first.

        Returns
        -------
        dict
            The declared ones of the two columns; None for a history that is not the beginning of
            its user's events.
        """
        columns: dict[str, list[Any]] = {f.name: [] for f in self.features.event_features}
        for user_id, codes in zip(user_ids.tolist(), histories, strict=True):
            place = self._find(user_id, codes)
            for name, values in columns.items():
                if place is None:
                    values.append(None)
                elif name == "history_kinds":
                    values.append(self._kinds[place].tolist())
                else:
                    times = self._times[place]
                    values.append((times[-1:] - times).astype(np.float64))
        return columns

    def encoded(
        self, user_ids: NDArray[Any], histories: Sequence[NDArray[np.int64]], width: int
    ) -> dict[str, NDArray[Any]]:
        """Give the same, encoded and laid out like the encoded histories (n_users, width)."""
        raw = self.raw(user_ids, histories)
        lengths = np.array([int((codes > 0).sum()) for codes in histories], np.int64)
        flat = np.concatenate([np.empty(0, np.int64), *(codes[codes > 0] for codes in histories)])
        laid_out = pad_lists(flat, lengths, width, align="right")
        encoded = self.features.usual_events(laid_out)
        for feature in self.features.event_features:
            for row, (own, codes) in enumerate(zip(raw[feature.name], histories, strict=True)):
                n_kept = min(int(lengths[row]), width)
                if own is None or n_kept == 0:
                    continue
                if feature.name == "history_kinds":
                    vocabulary = {kind: i for i, kind in enumerate(feature.vocabulary, 1)}
                    values = np.array([vocabulary.get(kind, 0) for kind in own], np.int64)
                else:
                    values = own.astype(np.float32) / np.float32(DAY)
                encoded[feature.name][row, -n_kept:] = values[codes > 0][-n_kept:]
        return encoded

    def _find(self, user_id: Any, codes: NDArray[np.int64]) -> slice | None:
        start, stop = self._places.get(user_id, (0, 0))
        end = start + len(codes)
        if end > stop or not np.array_equal(self._codes[start:end], codes):
            return None
        return slice(start, end)
