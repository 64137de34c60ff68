"""One worker: reads fragments, answers them, writes their parts; three threads, each at its stage.

Tasks come through a connection, reports go back. A worker ends with its driver.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.batch.inputs import Fragment
from shortlist.batch.parts import PartReport, new_part
from shortlist.batch.scorer import Scorer
from shortlist.errors import BundleError, ShortlistError
from shortlist.recommendations import SOURCES, Recommendations

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 8192  # requests of one call; the bits of an answer may depend on it, so it is fixed
_BATCH_PLACES = 1 << 20  # items of one call at most
STAGES = ("open", "read", "score", "write")


@dataclass(frozen=True)
class Task:
    """A part to be made: of which fragment, where."""

    number: int
    fragment: Fragment
    place: str


@dataclass(frozen=True)
class Done:
    """A part that has its place."""

    number: int
    report: PartReport


@dataclass(frozen=True)
class Failed:
    """A part that could not be made; `is_final` where no other one could be made either."""

    number: int
    error: Exception
    is_final: bool


@dataclass(frozen=True)
class Ready:
    """The worker has opened its bundle."""


@dataclass(frozen=True)
class Gone:
    """The worker has done all that it was given.

    Attributes
    ----------
    seconds : dict of str to float
        CPU time of each of `STAGES`.
    """

    seconds: dict[str, float]


@dataclass
class _Stopwatch:
    """CPU seconds of each stage; a stage belongs to one thread."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, stage: str, since: float) -> None:
        self.seconds[stage] += time.thread_time() - since

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count a block for a stage."""
        since = time.thread_time()
        try:
            yield
        finally:
            self.add(stage, since)


def batch_rows(top_n: int) -> int:
    """Return how many requests are answered by one call."""
    return max(1, min(BATCH_ROWS, _BATCH_PLACES // top_n))


def report_of(answer: Recommendations, n_rows: int) -> PartReport:
    """Count what an answer holds."""
    counts = np.bincount(answer._source_codes, minlength=len(SOURCES)).tolist()
    unmet = answer._unmet
    return PartReport(
        len(answer),
        n_rows,
        {name: n for name, n in zip(SOURCES, counts, strict=True) if n},
        int((answer.counts < answer.indices.shape[1]).sum()),
        0 if unmet is None else int((unmet.missing > 0).any(axis=1).sum()),
    )


def answered(scorer: Scorer, requests: Any, n_done: int) -> tuple[pa.RecordBatch, PartReport]:
    """Answer a batch of a fragment of which so many requests are answered."""
    try:
        answer = scorer.answer(requests)
        rows = scorer.rows(requests, answer)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (rows are counted from row {n_done:,} of these)") from error
    return rows, report_of(answer, rows.num_rows)


def make(scorer: Scorer, task: Task) -> tuple[Done | Failed, dict[str, float]]:
    """Make a part in this thread, stage after stage, and say what each needed.

    The bundle is opened at a process's first task.
    """
    watch = _Stopwatch()
    with watch.of("open"):
        try:
            scorer.check()
        except Exception as error:
            return Failed(-1, error, is_final=True), watch.seconds
    n_done, columns = 0, scorer.columns
    try:
        with new_part(Path(task.place), scorer.schema) as writer:
            tables = task.fragment.tables(columns, batch_rows(scorer.options.top_n))
            while True:
                with watch.of("read"):
                    if (requests := next(tables, None)) is None:
                        break
                with watch.of("score"):
                    rows = answered(scorer, requests, n_done)
                with watch.of("write"):
                    writer.write(*rows)
                n_done += requests.num_rows
            scorer.check_untouched()
    except Exception as error:
        return Failed(task.number, error, is_final=_is_final(error)), watch.seconds
    return Done(task.number, writer.report), watch.seconds


class Worker:
    """The three stages of one process, and what goes from one to the next."""

    def __init__(self, connection: Connection, scorer: Scorer) -> None:
        self._connection = connection
        self._scorer = scorer
        self._sending = threading.Lock()
        # A task, what there is of it piece by piece, and None or what ended it; then the next.
        self._tables: Queue[Any] = Queue(2)
        self._rows: Queue[Any] = Queue(2)
        self._watch = _Stopwatch()

    def run(self) -> None:
        """Open the bundle, then work until there are no more tasks."""
        try:
            self._scorer.check()
        except Exception as error:
            self._send(Failed(-1, error, is_final=True))
            return
        self._watch.seconds["open"] = time.process_time()
        self._send(Ready())
        threading.Thread(target=self._read_all, daemon=True).start()
        writer = threading.Thread(target=self._write_all, daemon=True)
        writer.start()
        while (task := self._tables.get()) is not None:
            self._score(task)
        self._rows.put(None)
        writer.join()
        self._send(Gone(self._watch.seconds))

    def _send(self, message: Any) -> None:
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                self._leave()

    def _leave(self) -> None:
        """End at once: the driver is gone, however it ended."""
        os._exit(1)

    def _read_all(self) -> None:
        while True:
            try:
                task = self._connection.recv()
            except (EOFError, OSError):
                return self._leave()
            if task is None:
                self._tables.put(None)
                continue  # the driver may still go
            self._read(task)

    def _read(self, task: Task) -> None:
        self._tables.put(task)
        since, end = time.thread_time(), None
        n_rows = batch_rows(self._scorer.options.top_n)
        try:
            for requests in task.fragment.tables(self._scorer.columns, n_rows):
                self._tables.put(requests)
        except Exception as error:
            end = error
        self._watch.add("read", since)
        self._tables.put(end)

    def _score(self, task: Task) -> None:
        self._rows.put(task)
        since = time.thread_time()
        end: Exception | None = None
        n_done = 0
        while not _is_end(requests := self._tables.get()):
            if end is not None:
                continue  # what is still to come of it
            try:
                self._rows.put(answered(self._scorer, requests, n_done))
                n_done += requests.num_rows
            except Exception as error:
                end = error
        end = end or requests or self._untouched()
        self._watch.add("score", since)
        self._rows.put(end)

    def _untouched(self) -> Exception | None:
        """Return what is wrong with the bundle that has answered, if anything is."""
        try:
            self._scorer.check_untouched()
        except Exception as error:
            return error
        return None

    def _write_all(self) -> None:
        while (task := self._rows.get()) is not None:
            since = time.thread_time()
            item: Any = task
            try:
                with new_part(Path(task.place), self._scorer.schema) as writer:
                    while not _is_end(item := self._rows.get()):
                        writer.write(*item)
                    if item is not None:
                        raise item
            except Exception as error:
                while not _is_end(item):  # what is still to come of it
                    item = self._rows.get()
                self._send(Failed(task.number, error, is_final=_is_final(error)))
            else:
                self._send(Done(task.number, writer.report))
            self._watch.add("write", since)


def _is_end(item: Any) -> bool:
    """Say whether nothing comes after an item of a part."""
    return item is None or isinstance(item, Exception)


def _is_final(error: Exception) -> bool:
    """Say whether an error is none of the one fragment: of the bundle, the disk or the memory."""
    is_of_job = type(error) is ShortlistError  # not one of its kinds
    return is_of_job or isinstance(error, (BundleError, OSError, MemoryError))


def main(descriptor: int) -> None:
    """Work for the driver at the other end of a connection."""
    connection = Connection(descriptor)
    Worker(connection, connection.recv()).run()
