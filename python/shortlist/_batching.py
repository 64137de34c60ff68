"""Micro-batching: single requests that come at the same time share one run. No thread of its own.

Whoever finds no batch to join opens one and answers it for all who join. It starts at once while
there is a core to run it; else when a running one is done, when it is full, or when the first has
waited long enough.
"""

import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shortlist._catalogue import Catalogue
from shortlist._columns import MISSING_INT, Array
from shortlist._recommend import Answer, Asked
from shortlist.requests import Columns, RequestSchema


class Batching(NamedTuple):
    """How single requests are put together: at most `max_batch`, each waiting `max_wait_us`."""

    max_batch: int
    max_wait_us: int


class _Batch:
    """Requests that want the same of the same items."""

    def __init__(self, state: Catalogue) -> None:
        self.state = state  # kept, so that its id is no other's
        self.parts: list[Columns] = []
        self.may_start = threading.Event()
        self.is_done = threading.Event()
        self.whole: Answer | None = None


_all: "weakref.WeakSet[Batcher]" = weakref.WeakSet()


@functools.cache
def _watch_forks() -> None:
    """Have every batcher begin anew in the children that this process forks."""

    def begin() -> None:
        for batcher in [*_all]:
            batcher._begin()

    os.register_at_fork(after_in_child=begin)


class Batcher:
    """Answers single requests of one version, several at a time.

    Parameters
    ----------
    answer : callable
        Answers columns from a state: (columns, state, asked) → Answer.
    schema : RequestSchema
        Of requests.
    batching : Batching
    n_at_once : int
        Batches that may run at the same time before others are left to fill.
    """

    def __init__(
        self,
        answer: Callable[[Columns, Catalogue, Asked], Answer],
        schema: RequestSchema,
        batching: Batching,
        n_at_once: int,
    ) -> None:
        self._answer = answer
        self._schema = schema
        self._batching = batching
        self._n_at_once = n_at_once
        self._begin()
        _watch_forks()
        _all.add(self)

    def _begin(self) -> None:
        """Start with nobody inside: at first, and in a forked child, which has no other thread."""
        self._lock = threading.Lock()
        self._is_idle = threading.Condition(self._lock)
        self._open: dict[tuple[int, Asked], _Batch] = {}
        self._n_running = 0
        self._n_inside = 0
        self._n_batches = 0
        self._n_requests = 0

    def answer(self, columns: Columns, state: Catalogue, asked: Asked) -> Answer:
        """Answer one request, together with others that are there now.

        An error of the whole batch is nobody's: each of its requests is answered alone then, and
        only the one that is at fault raises.
        """
        with self._lock:
            self._n_inside += 1
        try:
            batch, place, leads = self._join(columns, state, asked)
            if leads:
                self._lead(batch, asked)
            else:
                batch.is_done.wait()
            if batch.whole is None:
                return self._answer(columns, state, asked)
            return _one(batch.whole, place)
        finally:
            with self._lock:
                self._n_inside -= 1
                if self._n_inside == 0:
                    self._is_idle.notify_all()

    def drain(self) -> None:
        """Wait for the calls that are inside."""
        with self._lock:
            self._is_idle.wait_for(lambda: self._n_inside == 0)

    def report(self) -> dict[str, int]:
        """Say how many requests shared how many runs."""
        with self._lock:
            counts = {"n_requests": self._n_requests, "n_batches": self._n_batches}
        return {**self._batching._asdict(), **counts}

    def _join(self, columns: Columns, state: Catalogue, asked: Asked) -> tuple[_Batch, int, bool]:
        """Return a batch, the request's place in it, and whether the caller has to run it."""
        key = (id(state), asked)
        with self._lock:
            batch = self._open.get(key)
            leads = batch is None
            if batch is None:
                batch = self._open[key] = _Batch(state)
            batch.parts.append(columns)
            if len(batch.parts) == self._batching.max_batch or (
                leads and self._n_running < self._n_at_once
            ):
                del self._open[key]
                batch.may_start.set()
            return batch, len(batch.parts) - 1, leads

    def _lead(self, batch: _Batch, asked: Asked) -> None:
        key, is_running = (id(batch.state), asked), False
        try:
            batch.may_start.wait(self._batching.max_wait_us / 1e6)
            with self._lock:
                if self._open.get(key) is batch:
                    del self._open[key]
                is_running = True
                self._n_running += 1
                self._n_batches += 1
                self._n_requests += len(batch.parts)
            parts = batch.parts
            whole = parts[0] if len(parts) == 1 else join(parts, self._schema)
            batch.whole = self._answer(whole, batch.state, asked)
        except Exception:
            if len(batch.parts) == 1:
                raise
            # Of several nobody knows yet whose error it is: each answers for itself.
        finally:
            with self._lock:
                if self._open.get(key) is batch:  # interrupted while waiting
                    del self._open[key]
                self._n_running -= is_running
                if self._n_running < self._n_at_once:
                    for waiting in self._open.values():
                        waiting.may_start.set()
            batch.is_done.set()


def join(parts: list[Columns], schema: RequestSchema) -> Columns:
    """Put single requests into one batch; what one of them does not give is missing there."""
    whole = Columns(len(parts))
    if any(part.ids is not None for part in parts):
        missing: Any = "" if schema.id_dtype == "string" else MISSING_INT
        is_text = schema.id_dtype == "string"
        nobody = np.array([missing], dtype=object if is_text else np.int64)
        whole.ids = np.concatenate([nobody if p.ids is None else p.ids for p in parts])
    if schema.history_dtype is not None:
        none = np.empty(0, dtype=object if schema.history_dtype == "string" else np.int64)
        whole.histories = [none if p.histories is None else p.histories[0] for p in parts]
        for name in schema.event_columns:
            if any(name in part.events for part in parts):
                pairs = zip(parts, whole.histories, strict=True)
                whole.events[name] = [_events(name, part, len(items)) for part, items in pairs]
        if any(part.is_joined is not None for part in parts):
            own = [np.False_ if p.is_joined is None else p.is_joined[0] for p in parts]
            whole.is_joined = np.array(own)
            whole.skipped = [none if p.skipped is None else p.skipped[0] for p in parts]
    for name, feature in schema.features.items():
        if any(name in part.features for part in parts):
            values = [
                part.features[name] if name in part.features else feature.missing(1)
                for part in parts
            ]
            whole.features[name] = _stacked(values, feature.dtype)
    return whole


def _events(name: str, part: Columns, length: int) -> Array:
    if name in part.events:
        return part.events[name][0]
    if name == "history_kinds":
        return np.full(length, "", dtype=object)
    return np.full(length, np.nan, dtype=np.float32)


def _stacked(values: list[Array], dtype: str) -> Array:
    """Put columns of one row each together; lists of tags are padded to the longest."""
    if values[0].ndim == 1:
        return np.concatenate(values)
    width = max(value.shape[1] for value in values)
    missing: Any = {"string": "", "int64": MISSING_INT, "float32": np.nan}[dtype]
    kind: Any = {"string": object, "int64": np.int64, "float32": np.float32}[dtype]
    whole = np.full((len(values), width), missing, dtype=kind)
    for row, value in enumerate(values):
        whole[row, : value.shape[1]] = value[0]
    return whole


def _one(whole: Answer, place: int) -> Answer:
    one = slice(place, place + 1)
    return Answer(
        whole.scores[one], whole.rows[one], whole.counts[one], whole.source[one], whole.stages[one]
    )
