"""A batch of checked requests → top-N: signals, encoder, search in groups, second stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shortlist._catalogue import Catalogue
from shortlist._columns import MISSING_INT, Array
from shortlist._feedback_acts import pushed_down
from shortlist._second_stage import SecondStage
from shortlist._signals import (
    FEATURES,
    POPULAR,
    Ragged,
    Signals,
    event_feeds,
    gather,
    pad_last,
    take,
)
from shortlist._tables import UserTable
from shortlist._where import Filter, read_where
from shortlist.requests import Columns, RequestSchema

if TYPE_CHECKING:
    from shortlist._feedback_serving import Extras
    from shortlist._graph_search import GraphSearch

# Larger calls are cut: past this a batch gains nothing and its activations leave the cache.
MAX_BATCH = 1024
# Values of one column in a batch, as in the C engine: lists are laid out as wide as the longest.
MAX_PLACES = 1 << 20
_Found = tuple[Array, Array, Array]  # scores, item rows, counts
_NONE = np.empty(0, dtype=np.int64)


class Asked(NamedTuple):
    """What a call wants of every request: items, whether seen ones may come back, stages.

    `extras` is what goes beyond answering: the feedback log and exploration.
    """

    top_n: int
    exclude_seen: bool
    stages: int
    extras: Extras | None = None


@dataclass
class Answer:
    """Scores and item rows (n, top_n); counts, source codes and stages (n,)."""

    scores: Array
    rows: Array
    counts: Array
    source: Array
    stages: Array

    @classmethod
    def empty(cls, n: int, top_n: int) -> Answer:
        """Make an answer of missing places."""
        return cls(
            np.full((n, top_n), -np.inf, dtype=np.float32),
            np.full((n, top_n), -1, dtype=np.int64),
            np.zeros(n, dtype=np.int64),
            np.zeros(n, dtype=np.int8),
            np.zeros(n, dtype=np.int8),
        )

    def fill(self, start: int, part: Answer) -> None:
        """Put the answer of a batch in the place that begins at `start`."""
        stop = start + len(part.counts)
        self.put(slice(start, stop), (part.scores, part.rows, part.counts))
        self.source[start:stop], self.stages[start:stop] = part.source, part.stages

    def put(self, chosen: Any, found: _Found) -> None:
        """Put what was found into the chosen requests."""
        self.scores[chosen], self.rows[chosen], self.counts[chosen] = found


class Recommender:
    """What does not change while an engine is open.

    Parameters
    ----------
    encoder : onnxruntime.InferenceSession
        The user encoder.
    schema : RequestSchema
        Of requests.
    first : Catalogue
        The items as the encoder knows them.
    users : UserTable or None
    second : SecondStage or None
    event_features : mapping
        The manifest's `event_features`.
    max_history : int
        Items of a history the encoder looks at.
    missing_id : object
        What the encoder takes as no id.
    n_threads : int

    Attributes
    ----------
    graph_search : GraphSearch or None
        Answers in place of the encoder and the index where it can.
    """

    def __init__(
        self,
        encoder: Any,
        schema: RequestSchema,
        first: Catalogue,
        users: UserTable | None,
        second: SecondStage | None,
        *,
        event_features: Mapping[str, Any],
        max_history: int,
        missing_id: object,
        n_threads: int,
    ) -> None:
        self.schema = schema
        self.second = second
        self.graph_search: GraphSearch | None = None  # set by whoever opens the bundle
        self.encoder = encoder
        self._first = first
        self.users = users
        self._width = max([1, *(feature.width for feature in schema.features.values())])
        self._event_features = event_features
        self._max_history = max_history
        self._n_threads = n_threads
        is_text = isinstance(missing_id, str)
        self._no_ids = np.array([[missing_id]], dtype=object if is_text else np.int64)

    def gather(self, columns: Columns, state: Catalogue) -> Signals:
        """Look up what is known about each request."""
        views = self._first.view, state.view
        features, events = self.schema.features, self._event_features
        return gather(columns, *views, self.users, features, events)

    def encode(self, signals: Signals) -> Array:
        """Return user embeddings (n, dim)."""
        # The item rows are known already, so the graph need not look the ids up once more.
        feeds = {
            "history": self._no_ids,
            "history_rows": pad_last(signals.histories, self._max_history),
            **event_feeds(signals, self._max_history),
            **signals.features,
        }
        embeddings: Array = self.encoder.run(["user_embedding"], feeds)[0]
        return embeddings

    def encode_all(self, columns: Columns, state: Catalogue) -> Array:
        """Return the user embeddings (n, dim) of any number of requests."""
        embeddings = np.empty((columns.n_requests, state.view.dim), dtype=np.float32)
        for start, part in cut(columns, self._width):
            embeddings[start : start + part.n_requests] = self.encode(self.gather(part, state))
        return embeddings

    def answer(self, columns: Columns, state: Catalogue, where: Any, asked: Asked) -> Answer:
        """Answer any number of requests, a batch at a time."""
        n = columns.n_requests
        if n == 1:
            return self._answer(columns, state, read_where(where, 0, 1, state.items.mask), asked)
        whole = None
        for start, part in cut(columns, self._width):
            allowed = read_where(where, start, start + part.n_requests, state.items.mask)
            answer = self._answer(part, state, allowed, asked)
            if part.n_requests == n:
                return answer
            whole = Answer.empty(n, asked.top_n) if whole is None else whole
            whole.fill(start, answer)
        return Answer.empty(n, asked.top_n) if whole is None else whole

    def score(self, columns: Columns, state: Catalogue, rows: Array) -> Array:
        """Score given item rows (n, m) with the second stage; −1 gives −inf."""
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        if self.second is None:
            return scores
        for start, part in cut(columns, self._width):
            stop = start + part.n_requests
            signals = self.gather(part, state)
            similarity = _similarity(self.encode(signals), rows[start:stop], state)
            codes = state.codes[rows[start:stop]]
            scores[start:stop] = self.second.score(signals.histories, codes, similarity)
        return scores

    def _answer(self, columns: Columns, state: Catalogue, allowed: Filter, asked: Asked) -> Answer:
        signals = self.gather(columns, state)
        if self.graph_search is not None:
            found = self.graph_search.answer(signals, state, allowed, asked)
            if found is not None:
                return found
        n = len(signals.source)
        if POPULAR not in signals.source.tobytes():  # the usual case: nothing to put together
            return self._rank(signals, state, allowed, asked)
        answer = Answer.empty(n, asked.top_n)
        answer.source = signals.source
        personal = np.flatnonzero(signals.source)
        if len(personal):
            part = self._rank(signals.take(personal), state, allowed.take(personal), asked)
            answer.put(personal, (part.scores, part.rows, part.counts))
            answer.stages[personal] = part.stages
        rest = np.flatnonzero(signals.source == POPULAR)
        for chosen, mask in allowed.take(rest).parts(len(rest)):
            seen = take(signals.seen, rest[chosen]) if asked.exclude_seen else None
            _put_popular(rest[chosen], seen, state, mask, asked.top_n, answer)
        return answer

    def _rank(self, signals: Signals, state: Catalogue, allowed: Filter, asked: Asked) -> Answer:
        """Answer requests of which something is known."""
        second, top_n, again = self.second, asked.top_n, _NONE
        n_found = top_n
        if second is not None and asked.stages == 2:
            # The scorer learned from histories; an answer made from features alone stays as it is.
            again = np.flatnonzero(signals.source > FEATURES)
            n_found = max(top_n, second.n_candidates) if len(again) else top_n
        seen = signals.seen if asked.exclude_seen else None
        queries = self.encode(signals)
        if signals.skipped is not None:
            queries = pushed_down(queries, signals.skipped, state.view)
        scores, rows, counts = self._search(queries, seen, state, allowed, n_found)
        stages = np.empty(len(counts), dtype=np.int8)
        stages.fill(1)
        if second is None or not len(again):
            return Answer(scores, rows, counts, signals.source, stages)
        cut_counts = np.minimum(counts, top_n)
        answer = Answer(
            scores[:, :top_n].copy(), rows[:, :top_n].copy(), cut_counts, signals.source, stages
        )
        parts = (scores[again], rows[again], counts[again])
        histories = take(signals.histories, again)
        answer.put(again, second.rerank(histories, parts, state.codes, top_n))
        stages[again] = 2
        return answer

    def _search(
        self, queries: Array, seen: Ragged | None, state: Catalogue, allowed: Filter, top_n: int
    ) -> _Found:
        """Search once for each filter."""
        # Item rows are known already, so this goes past Index.search and its lookup of ids.
        parts = allowed.parts(len(queries))
        if len(parts) == 1:
            # The encoder has just let other threads have the interpreter.
            found: _Found = state.view.search(
                queries, top_n, seen, None, None, parts[0][1], self._n_threads, True
            )
            return found
        whole = Answer.empty(len(queries), top_n)
        for chosen, mask in parts:
            part = None if seen is None else take(seen, chosen)
            whole.put(
                chosen,
                state.view.search(
                    queries[chosen], top_n, part, None, None, mask, self._n_threads, True
                ),
            )
        return whole.scores, whole.rows, whole.counts


def cut(columns: Columns, width: int = 1) -> Iterator[tuple[int, Columns]]:
    """Cut requests into batches: (number of the first request, its batch).

    A batch ends before one of its columns would have more than `MAX_PLACES` values, but not before
    its first request. `width` is the least number of values a request has in some column.
    """
    n, start = columns.n_requests, 0
    widths = np.maximum(_widths(columns), width)
    while start < n:
        longest = np.maximum.accumulate(widths[start : start + MAX_BATCH])
        fits = longest * np.arange(1, len(longest) + 1) <= MAX_PLACES
        stop = start + max(1, len(fits) if fits.all() else int(fits.argmin()))
        yield start, columns if stop - start == n else columns.part(start, stop)
        start = stop


def _widths(columns: Columns) -> Array:
    """Return the length of the longest list of each request, at least 1."""
    widths = np.ones(columns.n_requests, dtype=np.int64)
    if columns.histories is not None:
        lengths = np.fromiter(map(len, columns.histories), np.int64, columns.n_requests)
        widths = np.maximum(widths, lengths)
    for values in columns.features.values():
        if values.ndim == 2 and values.dtype.kind == "f":
            widths = np.maximum(widths, values.shape[1])
        elif values.ndim == 2 and values.shape[1] > 1:  # tags are to the left, missing ones behind
            missing = "" if values.dtype.kind == "O" else MISSING_INT
            widths = np.maximum(widths, (values != missing).sum(axis=1))
    return widths


def _similarity(users: Array, rows: Array, state: Catalogue) -> Array:
    """First-stage scores (n, m) of given item rows; −inf for row −1."""
    known = rows >= 0
    items = state.view.vectors(rows[known])
    owners = users[np.nonzero(known)[0]].astype(np.float64)
    metric = state.view.metric.name
    if metric == "euclidean":
        values = -np.linalg.norm(owners - items, axis=1)
    else:
        values = (owners * items).sum(axis=1)
        if metric == "cosine":  # stored items are normalised
            values /= np.maximum(np.linalg.norm(owners, axis=1), np.finfo(np.float64).tiny)
    similarity = np.full(rows.shape, -np.inf, dtype=np.float32)
    similarity[known] = values
    return similarity


def _put_popular(
    rest: Array,
    seen: Ragged | None,
    state: Catalogue,
    mask: Array | None,
    top_n: int,
    answer: Answer,
) -> None:
    """Answer requests of which nothing is known: one list serves all that have seen nothing."""
    order, scores = state.items.popular()
    order = order if mask is None else order[mask[order]]
    best = order[:top_n]
    answer.counts[rest] = len(best)
    answer.rows[rest, : len(best)] = best
    answer.scores[rest, : len(best)] = scores[best]
    if seen is None:
        return
    for place in np.flatnonzero(seen.lengths):  # items that came after the training, for one
        rows = seen.values[seen.splits[place] : seen.splits[place + 1]]
        best = order[np.isin(order, rows, invert=True)][:top_n]
        padding = top_n - len(best)
        request = rest[place]
        answer.counts[request] = len(best)
        answer.rows[request] = np.append(best, np.full(padding, -1))
        answer.scores[request] = np.append(scores[best], np.full(padding, -np.inf))
