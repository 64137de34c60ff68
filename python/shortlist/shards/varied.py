"""Lists with variety from shards: whoever asks them decides, round by round.

The rules are those of `docs/variety.md`, and of `Selection` and `Mmr` in the compiled core, which
do the same for one index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist._columns.calibration import GroupColumn
from shortlist._columns.variety import CoreVariety
from shortlist.index import Index
from shortlist.recommendations import Hits
from shortlist.shards.merging import ShardAnswer, merge

# Asks every shard the queries of these numbers, for so many places; `narrow` holds a mask of the
# whole catalogue for each of them, and the rest goes to `Shard.answer`.
Ask = Callable[..., list[ShardAnswer]]
# Queries that each have a mask of the catalogue at a time.
_MASKED = 32


class Choice:
    """The list of one query under caps and quotas.

    Every quota in turn has its places filled with the best items that count, then all others with
    the best of all. `phase` is the quota at hand; beyond the last one it is any item.
    """

    def __init__(self, variety: CoreVariety, query: int, top_n: int) -> None:
        self._columns, at_most, self._quotas, at_least, diversity, _, _ = variety
        self.query = query
        self._at_most, self.at_least = at_most[query], at_least[query]
        self.diversity = 0.0 if diversity is None else float(diversity[query])
        self._top_n = top_n
        self.phase = 0
        self.rows: list[int] = []
        self.scores: list[np.float32] = []
        self.ids: dict[int, Any] = {}
        self.vectors: list[NDArray[np.float32]] = []  # with diversity, of the rows
        self._counts: list[Counter[int]] = [Counter() for _ in self._columns]
        self.n_counted = np.zeros(len(self._quotas), dtype=np.int64)

    @property
    def n_left(self) -> int:
        """Places that are free."""
        return self._top_n - len(self.rows)

    def skip_full_phases(self) -> bool:
        """Go on to the first phase that is not over; say whether there is one."""
        while self.n_left and self.phase < len(self._quotas):
            if self.n_counted[self.phase] < self.at_least[self.phase]:
                return True
            self.phase += 1
        return self.n_left > 0 and self.phase == len(self._quotas)

    def may_take(self, row: int) -> bool:
        """Say whether the caps have room for an item."""
        return all(
            counts[value] < most
            for column, counts, most in zip(self._columns, self._counts, self._at_most, strict=True)
            if most > 0
            for value in _values(column, row)
        )

    def take(self, row: int, score: np.float32, item_id: Any) -> None:
        """Put an item on the list, and count its values."""
        self.rows.append(row)
        self.scores.append(score)
        self.ids[row] = item_id
        for column, counts in zip(self._columns, self._counts, strict=True):
            counts.update(_values(column, row))
        for number, quota in enumerate(self._quotas):
            self.n_counted[number] += bool(quota[row])

    def mask(self, n_rows: int) -> NDArray[np.bool_]:
        """Return which rows may be taken now."""
        mask = np.ones(n_rows, dtype=np.bool_)
        for column, counts, most in zip(self._columns, self._counts, self._at_most, strict=True):
            full = [value for value, count in counts.items() if most > 0 and count >= most]
            if not full:
                continue
            values, splits = column
            is_full = np.isin(values, full)
            if splits is not None:
                sums = np.concatenate([[0], np.cumsum(is_full)])
                is_full = sums[splits[1:]] > sums[splits[:-1]]
            mask &= ~is_full
        if self.phase < len(self._quotas):
            mask &= self._quotas[self.phase]
        mask[self.rows] = False
        return mask


def _values(column: GroupColumn, row: int) -> set[int]:
    values, splits = column
    own = values[row : row + 1] if splits is None else values[splits[row] : splits[row + 1]]
    return set(own[own >= 0].tolist())


def search_varied(
    ask: Ask,
    variety: CoreVariety,
    n_queries: int,
    n_rows: int,
    top_n: int,
    metric: str,
    is_text: bool,
) -> tuple[Hits, NDArray[np.int64]]:
    """Return lists with variety, and how many items each lacks of each quota."""
    choices = [Choice(variety, query, top_n) for query in range(n_queries)]
    for first in range(0, n_queries, _MASKED):
        some = choices[first : first + _MASKED]
        _fill_by_score(ask, [one for one in some if one.diversity == 0], n_rows)
        _fill_by_value(ask, [one for one in some if one.diversity > 0], n_rows, metric)
    return _answer(choices, top_n, metric, is_text)


def _fill_by_score(ask: Ask, choices: Sequence[Choice], n_rows: int) -> None:
    """Walk down the order of scores; where a list is too short, the order of what may be taken."""
    is_first = True
    while choices := [one for one in choices if one.skip_full_phases()]:
        n = max(one.n_left for one in choices)
        n = min(n + n // 2 + 1, max(1, n_rows))
        # The first list is of all items where no quota comes before.
        is_free = is_first and all(one.phase == len(one.at_least) for one in choices)
        is_first = False
        narrow = None if is_free else np.stack([one.mask(n_rows) for one in choices])
        hits = merge(ask([one.query for one in choices], n, narrow), n)
        for at, one in enumerate(choices):
            _walk(one, hits, at)


def _walk(one: Choice, hits: Hits, at: int) -> None:
    count = int(hits.counts[at])
    phase = one.phase
    for place in range(count):
        row = int(hits.indices[at, place])
        if not one.skip_full_phases() or one.phase != phase:
            return
        if one.may_take(row):
            one.take(row, hits.scores[at, place], hits.item_ids[at, place])
    if count < hits.scores.shape[1]:  # there are no others
        one.phase = max(one.phase, phase + 1)


def _fill_by_value(ask: Ask, choices: Sequence[Choice], n_rows: int, metric: str) -> None:
    """Take the item of the best score, then one by one those that relevance and unlikeness take."""
    while choices := [one for one in choices if one.skip_full_phases()]:
        begun = [one for one in choices if one.rows]
        new = [one for one in choices if not one.rows]
        for some, options in ((new, {}), (begun, _chosen(begun))):
            if not some:
                continue
            narrow = np.stack([one.mask(n_rows) for one in some])
            queries = [one.query for one in some]
            answers = ask(queries, 1, narrow, with_vectors=True, **options)
            for at, one in enumerate(some):
                _take_best(one, answers, at, metric)


def _chosen(choices: Sequence[Choice]) -> dict[str, Any]:
    if not choices:
        return {}
    splits = np.concatenate([[0], np.cumsum([len(one.rows) for one in choices])])
    vectors = np.stack([vector for one in choices for vector in one.vectors])
    return {
        "chosen": (vectors, splits),
        "diversity": np.array([one.diversity for one in choices]),
    }


def _take_best(one: Choice, answers: Sequence[ShardAnswer], at: int, metric: str) -> None:
    found = [answer for answer in answers if answer.indices[at, 0] >= 0]
    if not found:
        one.phase += 1
        return
    scores = np.array([answer.scores[at, 0] for answer in found])
    rows = np.array([answer.indices[at, 0] for answer in found])
    vectors = np.stack([answer.vectors[at, 0] for answer in found if answer.vectors is not None])
    values = scores.astype(np.float64)
    if one.rows:
        alike = _between(np.stack(one.vectors), vectors, metric).max(axis=0)
        values = _value(one.diversity, scores, alike)
    best = np.lexsort((rows, -values))[0]
    one.take(int(rows[best]), scores[best], found[best].item_ids[at, 0])
    one.vectors.append(vectors[best])


def _value(
    diversity: float, scores: NDArray[np.float32], alike: NDArray[np.float32]
) -> NDArray[np.float64]:
    relevance = (1 - diversity) * scores.astype(np.float64)
    return relevance - diversity * alike.astype(np.float64)


def _between(
    one: NDArray[np.float32], other: NDArray[np.float32], metric: str
) -> NDArray[np.float32]:
    """Return the scores of stored vectors with others; those of cosine are normalised already."""
    index = Index(other, metric="euclidean" if metric == "euclidean" else "dot")
    hits = index.search(one, len(other), n_threads=1)
    scores = np.empty_like(hits.scores)
    np.put_along_axis(scores, hits.indices, hits.scores, axis=1)
    return scores


def _answer(
    choices: Sequence[Choice], top_n: int, metric: str, is_text: bool
) -> tuple[Hits, NDArray[np.int64]]:
    n = len(choices)
    scores = np.full((n, top_n), -np.inf, dtype=np.float32)
    rows = np.full((n, top_n), -1, dtype=np.int64)
    counts = np.array([len(one.rows) for one in choices], dtype=np.int64)
    for at, one in enumerate(choices):
        order = _order(one, metric)
        rows[at, : counts[at]] = np.array(one.rows, dtype=np.int64)[order]
        scores[at, : counts[at]] = np.array(one.scores, dtype=np.float32)[order]
    missing = [np.maximum(0, one.at_least - one.n_counted) for one in choices]
    ids = _ids(choices, rows, is_text)
    lacks = np.array(missing, dtype=np.int64).reshape(n, -1)
    return Hits(ids, scores, counts, rows), lacks


def _order(one: Choice, metric: str) -> Any:
    """Return the order of a list: by score, or with diversity that in which items are chosen."""
    scores, rows = np.array(one.scores, dtype=np.float32), np.array(one.rows, dtype=np.int64)
    if one.diversity == 0:
        return np.lexsort((rows, -scores))
    if not (one.at_least > 0).any() or not one.rows:
        return np.arange(len(rows))
    vectors = np.stack(one.vectors)
    between = _between(vectors, vectors, metric)
    order = [int(np.lexsort((rows, -scores))[0])]
    while len(order) < len(rows):
        values = _value(one.diversity, scores, between[order].max(axis=0))
        values[order] = -np.inf
        order.append(int(np.lexsort((rows, -values))[0]))
    return np.array(order)


def _ids(choices: Sequence[Choice], rows: NDArray[np.int64], is_text: bool) -> NDArray[Any]:
    missing: Any = "" if is_text else -1
    ids = np.full(rows.shape, missing, dtype=object if is_text else np.int64)
    for at, one in enumerate(choices):
        for place in range(len(one.rows)):
            ids[at, place] = one.ids[int(rows[at, place])]
    return ids
