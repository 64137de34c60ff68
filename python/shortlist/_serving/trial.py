"""Two versions side by side: a split of the traffic by key, or a shadow that nobody sees."""

from __future__ import annotations

import copy
import hashlib
import queue
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from shortlist import _checks
from shortlist._catalogue.filters import Filters
from shortlist._columns.reading import MISSING_INT, Array
from shortlist._columns.requests import Columns, RequestSchema
from shortlist._forks import ForkLock
from shortlist._serving import pipeline
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.loop import FeedbackLoop, check_users
from shortlist._serving.options import RecommendOptions
from shortlist._serving.reports import TrialReport
from shortlist.errors import BundleError, DataError, ShortlistError
from shortlist.recommendations import Recommendations, Unmet

MAX_WAITING = 256  # calls whose shadow has not begun; more are dropped
_RANGE = 1 << 64


def check_trial(share: Any, shadow: Any, salt: Any) -> tuple[float, bool, str]:
    """Return the arguments of a trial, checked."""
    if isinstance(share, (bool, np.bool_)) or not isinstance(
        share, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"share: got {share!r}, expected a number above 0 and at most 1")
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, expected a number above 0 and at most 1")
    shadow = _checks.flag(shadow, "shadow")
    if not isinstance(salt, str):
        raise TypeError(f"salt: got {salt!r}, expected a text")
    return float(share), shadow, salt


def check_keys(keys: Any, n_requests: int) -> list[Any]:
    """Return one key a request: a str, an int, or None."""
    if keys is None:
        return [None] * n_requests
    if isinstance(keys, (str, bytes)) or not hasattr(keys, "__len__"):
        raise TypeError(f"keys: got {keys!r:.60}, expected a list of texts or integers")
    values = keys.tolist() if hasattr(keys, "tolist") else list(keys)
    values = [key.item() if isinstance(key, np.integer) else key for key in values]
    if len(values) != n_requests:
        raise DataError(f"keys: got {len(values)} keys for {n_requests} requests")
    for i, key in enumerate(values):
        if key is not None and (isinstance(key, bool) or not isinstance(key, (str, int))):
            raise TypeError(f"keys: entry {i} is {key!r:.60}, expected a text, an integer or None")
    return values


def falls_to_candidate(key: str | int, share: float, salt: str) -> bool:
    """Say whether a key belongs to the candidate's share: a matter of key and salt alone.

    Examples
    --------
    >>> keys = range(10_000)
    >>> round(sum(falls_to_candidate(key, 0.1, "") for key in keys) / 10_000, 2)
    0.1
    >>> all(falls_to_candidate(key, 1.0, "") for key in keys)
    True
    """
    digest = hashlib.blake2b(f"{salt}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little") < share * _RANGE


class _Call(NamedTuple):
    """Requests, which may be answered in parts, and what the call wants of each."""

    columns: Columns
    filters: Filters
    options: RecommendOptions
    stages: Any
    loop: FeedbackLoop | None

    def answer(self, version: LoadedBundle) -> Recommendations:
        """Let a version answer."""
        return pipeline.recommend(version, self.columns, self.filters, self.options, self.loop)

    def take(self, chosen: Array) -> _Call:
        """Return the call of some requests, in ascending order."""
        if len(chosen) == self.columns.n_requests:
            return self
        columns, filters = self.columns.take(chosen), self.filters.take(chosen)
        return self._replace(columns=columns, filters=filters)


class Trial:
    """A candidate beside the present version.

    Parameters
    ----------
    present, candidate : LoadedBundle
        Both warm.
    share : float
        Of the keys.
    shadow : bool
        Whether the candidate's answers are only counted.
    salt : str

    Attributes
    ----------
    candidate : LoadedBundle
    schema : RequestSchema
        Columns that requests may have: those of both.
    """

    def __init__(
        self,
        present: LoadedBundle,
        candidate: LoadedBundle,
        share: float,
        *,
        shadow: bool,
        salt: str,
    ) -> None:
        self.candidate = candidate
        self.schema = _schema_of_both(present, candidate)
        self._share = share
        self._salt = salt
        self._counting = ForkLock()
        self._counts = {"n_requests": 0, "n_candidate": 0, "n_errors": 0, "n_dropped": 0}
        self._last_error: str | None = None
        self._overlaps = [0.0, 0.0]  # sum, and of how many
        self._shadow = _Worker(self._compare) if shadow else None

    def recommend(
        self,
        present: LoadedBundle,
        columns: Columns,
        keys: Any,
        filters: Filters,
        options: RecommendOptions,
        stages: Any,
        loop: FeedbackLoop | None,
    ) -> Recommendations:
        """Answer each request by the version it falls to; see `Engine.recommend`."""
        chosen = self._choose(columns, keys)
        self._count(n_requests=columns.n_requests)
        call = _Call(columns, filters, options, stages, loop)
        if self._shadow is not None:
            answer = call.answer(present)
            if len(chosen):
                # A copy: the caller may change its arrays once it has its answer.
                part = call.take(chosen)
                part = part._replace(columns=copy.deepcopy(part.columns))
                if not self._shadow.offer((part, answer, chosen)):
                    self._count(n_dropped=len(chosen))
            return answer
        return self._split(present, call, chosen) if len(chosen) else call.answer(present)

    def _split(self, present: LoadedBundle, call: _Call, chosen: Array) -> Recommendations:
        """Answer the chosen requests by the candidate, or by the present version if it fails.

        What is shown is recorded once there is an answer to all of them.
        """
        loop, silent, n = call.loop, call, call.columns.n_requests
        if loop is not None and loop.record:
            check_users(call.columns)
            silent = call._replace(loop=loop._replace(record=False))
        theirs = self._try(silent.take(chosen))
        parts = [(self.candidate, chosen, theirs)] if isinstance(theirs, Recommendations) else []
        rest = np.setdiff1d(np.arange(n), chosen if parts else [])
        if len(rest):
            parts.append((present, rest, silent.take(rest).answer(present)))
        if isinstance(theirs, Exception):
            self._failed(theirs)  # not the caller's fault: the present version could answer
        if loop is not None:
            for version, numbers, shown in parts:
                part = call.take(numbers)
                loop.write(version, part.columns, part.filters, part.options, shown)
        if len(parts) == 1:
            return parts[0][2]
        return _joined([(numbers, shown) for _, numbers, shown in parts])

    def follow(self, change: Callable[[LoadedBundle], Any]) -> None:
        """Change the candidate's items too; what goes wrong there is counted."""
        try:
            change(self.candidate)
        except Exception as error:
            self._failed(error)

    def report(self) -> TrialReport:
        """Say what came of it so far."""
        with self._counting:
            total, n = self._overlaps
            return {
                "bundle": str(self.candidate.bundle.path),
                "version": self.candidate.number,
                "share": self._share,
                "shadow": self._shadow is not None,
                "n_requests": self._counts["n_requests"],
                "n_candidate": self._counts["n_candidate"],
                "n_errors": self._counts["n_errors"],
                "n_dropped": self._counts["n_dropped"],
                "last_error": self._last_error,
                "overlap": total / n if n else None,
            }

    def end(self) -> None:
        """Stop the shadow's thread, if there is one; what waits for it is dropped."""
        if self._shadow is not None:
            self._shadow.stop()

    def _choose(self, columns: Columns, keys: Any) -> Array:
        """Return the numbers of the requests that fall to the candidate."""
        n = columns.n_requests
        own_keys = check_keys(keys, n)
        if self._share == 1:
            return np.arange(n)
        ids = [None] * n if columns.ids is None else columns.ids.tolist()
        chosen = []
        for i, (key, user) in enumerate(zip(own_keys, ids, strict=True)):
            if key is None:
                key = None if user in (None, "", MISSING_INT) else user
            if key is not None and falls_to_candidate(key, self._share, self._salt):
                chosen.append(i)
        return np.array(chosen, dtype=np.int64)

    def _try(self, call: _Call) -> Recommendations | Exception:
        """Let the candidate answer; its error if it fails."""
        try:
            options = call.options
            own = self.candidate.options(options.top_n, True, call.stages)
            options = options._replace(stages=own.stages)
            answer = call._replace(options=options).answer(self.candidate)
        except Exception as error:
            return error
        self._count(n_candidate=call.columns.n_requests)
        return answer

    def _compare(self, task: tuple[_Call, Recommendations, Array]) -> None:
        call, answer, chosen = task
        if call.loop is not None:  # nobody sees the answer
            call = call._replace(loop=call.loop._replace(explore=None, record=False))
        reply = self._try(call)
        if isinstance(reply, Exception):
            self._failed(reply)
            return
        overlaps = [
            len(set(ours[:n].tolist()) & set(theirs[:m].tolist())) / n
            for ours, n, theirs, m in zip(
                answer.item_ids[chosen],
                answer.counts[chosen].tolist(),
                reply.item_ids,
                reply.counts.tolist(),
                strict=True,
            )
            if n
        ]
        with self._counting:
            self._overlaps[0] += sum(overlaps)
            self._overlaps[1] += len(overlaps)

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, n in more.items():
                self._counts[name] += n

    def _failed(self, error: Exception) -> None:
        with self._counting:
            self._counts["n_errors"] += 1
            self._last_error = f"{type(error).__name__}: {error}"


class _Worker:
    """One thread that works off what is offered, as far as it can follow."""

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._work = work
        self._waiting: queue.Queue[Any] = queue.Queue(MAX_WAITING)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="shortlist-shadow", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ShortlistError(
                f"shadow: expected to start one thread, found that the system gives this process "
                f"no more ({error}); raise the limit (ulimit -u, the container's pids), or run "
                "the trial with shadow=False"
            ) from error

    def offer(self, task: Any) -> bool:
        """Take a task, or say that there is no room, or no thread (in a forked child)."""
        if not self._thread.is_alive():
            return False
        try:
            self._waiting.put_nowait(task)
        except queue.Full:
            return False
        return True

    def stop(self) -> None:
        """Finish the task at work, end the thread, and let go of all that it would work on."""
        self._is_over = True
        self.offer(None)  # a full queue wakes it just as well
        self._thread.join()
        del self._work
        self._waiting = queue.Queue(MAX_WAITING)

    def _run(self) -> None:
        while True:
            task = self._waiting.get()
            if self._is_over:
                return
            self._work(task)


class _Titles:
    """Titles of an answer whose requests come from several item tables."""

    def __init__(self, parts: list[tuple[Array, Recommendations]]) -> None:
        self._parts = parts

    def titles(self, rows: Array) -> Array:
        """Return titles of item rows (n_requests, top_n), each row from its own table."""
        titles = np.empty(rows.shape, dtype=object)
        for chosen, part in self._parts:
            titles[chosen] = part.titles
        return titles


class _Asked:
    """What was asked in parts of one call, and which ids are known to the version of each."""

    def __init__(self, parts: list[tuple[Array, Recommendations]]) -> None:
        self._parts = parts

    @cached_property
    def user_ids(self) -> Array:
        """User ids of all requests."""
        return _join(self._parts, "user_ids")

    @property
    def n_given(self) -> Array:
        """How many ids each has."""
        return _join(self._parts, "n_given")

    @property
    def n_known(self) -> Array:
        """How many of them are known."""
        return _join(self._parts, "n_known")


def _join(parts: list[tuple[Array, Recommendations]], name: str) -> Array:
    """Put an array of different requests of one call together."""
    order = np.argsort(np.concatenate([chosen for chosen, _ in parts]))
    whole: Array = np.concatenate([getattr(part, name) for _, part in parts])[order]
    return whole


def _join_unmet(parts: list[tuple[Array, Recommendations]]) -> Unmet | None:
    """Put what the lists lack together: all parts were asked for the same quotas."""
    lacks = [part._unmet for _, part in parts]
    if lacks[0] is None:
        return None
    order = np.argsort(np.concatenate([chosen for chosen, _ in parts]))
    missing = np.concatenate([one.missing for one in lacks if one is not None])
    return Unmet(lacks[0].names, missing[order])


def _joined(parts: list[tuple[Array, Recommendations]]) -> Recommendations:
    """Put the answers to different requests of one call together."""

    def join(name: str) -> Array:
        return _join(parts, name)

    return Recommendations(
        join("item_ids"),
        join("scores"),
        join("counts"),
        join("indices"),
        join("_source_codes"),
        join("stages"),
        _Titles(parts),
        _Asked(parts),
        join("version"),
        None if parts[0][1].propensities is None else join("propensities"),
        _join_unmet(parts),
    )


def _schema_of_both(present: LoadedBundle, candidate: LoadedBundle) -> RequestSchema:
    """Return a schema with the columns of both; each version takes its own."""
    ours, theirs = present.schema, candidate.schema
    features = dict(ours.features)
    for name, feature in theirs.features.items():
        known = features.setdefault(name, feature)
        if known != feature:
            raise BundleError(
                f"{candidate.bundle.name}: it takes the column {name!r} as {feature.kind} "
                f"{feature.dtype}, the running bundle as {known.kind} {known.dtype}: requests that "
                "fit one do not fit the other; load it as an engine of its own"
            )
    events = dict.fromkeys([*ours.event_columns, *theirs.event_columns])
    return RequestSchema(
        ours.id_name, ours.id_dtype, list(features.values()), ours.history_dtype, tuple(events)
    )
