"""The answer to a batch of requests: ids, scores, where they come from, and titles for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# In rising order of how personal an answer is; a row's code is its place in this tuple.
SOURCES = ("popular", "features", "stored history", "history")
POPULAR, FEATURES, STORED_HISTORY, HISTORY = range(4)
_SOURCE_NAMES = np.array(SOURCES)
_SHOWN_REQUESTS = 5
_SHOWN_ITEMS = 10


class Titles(Protocol):
    """Where titles come from: an item table, or several."""

    def titles(self, rows: Any) -> NDArray[np.object_]:
        """Return titles of item rows (n_requests, top_n)."""


@dataclass(eq=False, repr=False, slots=True)
class Recommendations:
    """The top-N of every request: score descending, ties by the lower item row.

    Attributes
    ----------
    item_ids : ndarray of shape (n_requests, top_n), int64 or str
        Missing places hold -1 or "".
    scores : ndarray of shape (n_requests, top_n), float32
        Similarity under the bundle's metric where `stages` is 1, the scorer's score where it is 2,
        the number of events where it is 0; missing places hold -inf.
    counts : ndarray of shape (n_requests,), int64
        How many places of each row are real.
    source : ndarray of shape (n_requests,), str
        What an answer was made from: "history" (of the request), "stored history" (of a known
        user), "features" (of the user), or "popular" (nothing known: most events first).
    stages : ndarray of shape (n_requests,), int8
        How many stages made an answer: 0 (the popular list), 1 (nearest items), 2 (those, in the
        order of the scorer).
    indices : ndarray of shape (n_requests, top_n), int64
        Item rows; missing places hold -1.
    version : ndarray of shape (n_requests,), int64
        Which version of the engine answered: 1, and one more with every `Engine.swap` and
        `Engine.start_trial`.
    propensities : ndarray of shape (n_requests, top_n), float64, or None
        With exploration: the probability of each item at its place, given the items above it; the
        order is as drawn then, and scores need not fall. Missing places hold 0.
    """

    item_ids: NDArray[Any]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    indices: NDArray[np.int64]
    _source_codes: NDArray[np.int64]
    stages: NDArray[np.int8]
    _items: Titles
    _version: int | NDArray[np.int64] = 1
    propensities: NDArray[np.float64] | None = None

    @property
    def version(self) -> NDArray[np.int64]:
        """Which version of the engine answered each request, shape (n_requests,)."""
        return np.full(len(self.counts), self._version, dtype=np.int64)

    @property
    def source(self) -> NDArray[np.str_]:
        """What each answer was made from, shape (n_requests,)."""
        return _SOURCE_NAMES[self._source_codes]

    @property
    def titles(self) -> NDArray[np.object_]:
        """Titles (n_requests, top_n), str: None where an item has none, "" at missing places.

        Looked up in the item table when asked for, so that answers without titles cost nothing.
        """
        return self._items.titles(self.indices)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.counts)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dict a request, ready for `json.dumps`; missing places are left out.

        Returns
        -------
        list of dict
            `source`, `stages` and `items`, a list of `item_id`, `score` and, if the item has one,
            `title`.
        """
        titles, answers = self.titles, []
        for row, count in enumerate(self.counts.tolist()):
            ids = self.item_ids[row, :count].tolist()
            scores = self.scores[row, :count].tolist()
            items = []
            for item_id, score, title in zip(ids, scores, titles[row, :count], strict=True):
                item = {"item_id": item_id, "score": score}
                items.append(item if title is None else {**item, "title": title})
            source, stages = str(self.source[row]), int(self.stages[row])
            answers.append({"source": source, "stages": stages, "items": items})
        return answers

    def __repr__(self) -> str:
        """Show the first answers as a table."""
        n_requests, top_n = self.item_ids.shape
        lines = [f"{n_requests} request{'s' * (n_requests != 1)}, top {top_n}"]
        titles = self.titles[:_SHOWN_REQUESTS]
        for row in range(min(n_requests, _SHOWN_REQUESTS)):
            count = int(self.counts[row])
            lines.append(f"request {row}, from {self.source[row]}: {count} items")
            for rank in range(min(count, _SHOWN_ITEMS)):
                score = f"{self.scores[row, rank]:.4f}"
                item = f"{self.item_ids[row, rank]!s:>10}  {titles[row, rank] or ''}"
                lines.append(f"  {rank + 1:>3}  {score:>9}  {item}".rstrip())
            if count > _SHOWN_ITEMS:
                lines.append(f"       … {count - _SHOWN_ITEMS} more")
        if n_requests > _SHOWN_REQUESTS:
            lines.append(f"… {n_requests - _SHOWN_REQUESTS} more requests")
        return "\n".join(lines)
