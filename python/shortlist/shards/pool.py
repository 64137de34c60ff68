"""Shards in processes of this machine, which search at the same time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from shortlist import _checks
from shortlist._forks import ForkLock
from shortlist.errors import BundleError, ShortlistError
from shortlist.recommendations import Hits
from shortlist.shards import folder as files
from shortlist.shards.asking import search_shards
from shortlist.shards.merging import ShardAnswer
from shortlist.shards.shard import Shard

_ATTEMPTS = 5  # to open a set that is replaced at the same time


class ShardPool:
    """Processes that each hold some shards of a folder, asked together.

    Parameters
    ----------
    folder : str or path
    n_processes : int
        0 = one a shard. With fewer, each holds several shards.
    mmap : bool
        As for `Index.load`.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    BundleError
        As `ShardedIndex.load`.

    Notes
    -----
    Processes are started anew (spawn), so a script needs ``if __name__ == "__main__":``. One
    search runs at a time; `refresh` waits for it, so that every search sees one set.
    """

    def __init__(
        self, folder: str | os.PathLike[str], n_processes: int = 0, *, mmap: bool = True
    ) -> None:
        self._folder, self._mmap = Path(folder), _checks.flag(mmap, "mmap")
        n_processes = _checks.thread_count(n_processes, "n_processes")
        self._set = files.read_set(self._folder)
        n_shards = len(self._set.shards)
        self._lock = ForkLock()
        self._owner = os.getpid()
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop, self._workers, self._owner)
        try:
            for _ in range(min(n_processes or n_shards, n_shards)):
                self._workers.append(_Worker(self._folder, self._mmap))
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ShardPool:
        """Return the pool."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes."""
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._finalizer()

    def __repr__(self) -> str:
        """Return a one-line description."""
        return (
            f"ShardPool({len(self._set.shards)} shards in {len(self._workers)} processes, "
            f"generation {self.generation})"
        )

    @property
    def generation(self) -> int:
        """Number of the set that searches see."""
        return self._set.generation

    def refresh(self) -> bool:
        """Go over to the set that the folder holds now, in all processes.

        Returns
        -------
        bool
            Whether there was a new set.

        Raises
        ------
        BundleError
            As `ShardedIndex.load`; searches go on with the old set.
        """
        with self._lock:
            if files.read_set(self._folder) == self._set:
                return False
            self._open()
            return True

    def search(
        self,
        queries: ArrayLike,
        top_n: int = 10,
        exclude: Any = None,
        allow: Any = None,
        n_threads: int = 1,
        **variety: Any,
    ) -> Hits:
        """Find the exact top-N items of every query, all shards at the same time.

        Parameters, answers and errors are those of `search_shards`.

        Raises
        ------
        ShortlistError
            A process of the pool has ended; the pool is closed, as an interrupt leaves it; it is
            another process's.
        """
        with self._lock:
            return search_shards(
                self._ask, self._set, queries, top_n, exclude, allow, n_threads, **variety
            )

    def _ask(self, calls: list[dict[str, Any]]) -> list[ShardAnswer]:
        n = len(self._workers)
        answers = self._call([("answer", list(enumerate(calls))[worker::n]) for worker in range(n)])
        return [answer for some in answers for answer in some]

    def _open(self) -> None:
        """Open the set of the folder everywhere, then use it everywhere."""
        n = len(self._workers)
        for attempt in range(_ATTEMPTS):
            shards = files.read_set(self._folder)
            numbers = range(len(shards.shards))
            try:
                opened = self._call([("open", list(numbers[worker::n])) for worker in range(n)])
            except BundleError:
                if attempt == _ATTEMPTS - 1 or files.read_set(self._folder) == shards:
                    raise
                continue
            if all(version == shards.version for some in opened for version in some):
                self._call([("use", None)] * n)
                self._set = shards
                return
        raise BundleError(
            f"{self._folder}: expected a set of shards that stays while it is opened, found "
            f"{_ATTEMPTS} new ones one after another; try again when the writer is done"
        )

    def _call(self, messages: Sequence[tuple[str, Any]]) -> list[Any]:
        """Send each worker its message; all have answered when an error of theirs is raised."""
        if self._owner != os.getpid():
            raise ShortlistError(
                f"ShardPool: it belongs to process {self._owner}, and this is a fork of it; make a "
                "new one here"
            )
        if not self._finalizer.alive:
            raise ShortlistError("ShardPool: it is closed; make a new one")
        try:
            for worker, message in zip(self._workers, messages, strict=True):
                worker.send(message)
            replies = [worker.receive() for worker in self._workers]
        except BaseException:  # an interrupt: what still comes would answer the next call
            self.close()
            raise
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies


class _Worker:
    """One process, at this end of its pipe."""

    def __init__(self, folder: Path, mmap: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, folder, mmap), daemon=True)
        self._process.start()
        other.close()

    def send(self, message: tuple[str, Any]) -> None:
        with contextlib.suppress(OSError):  # `receive` says that it has ended
            self._pipe.send(message)

    def receive(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return ShortlistError(
                f"ShardPool: process {self._process.pid} has ended with the status "
                f"{self._process.exitcode}; expected it to hold its shards; make a new pool"
            )

    def stop(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _stop(workers: Sequence[_Worker], owner: int) -> None:
    if os.getpid() != owner:  # a fork has nothing of its own to stop
        return
    for worker in workers:
        worker.stop()


def _work(pipe: Connection, folder: Path, mmap: bool) -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the one who asks
    shards: dict[int, Shard] = {}
    coming: dict[int, Shard] = {}
    while True:
        try:
            kind, argument = pipe.recv()
        except (EOFError, OSError):
            return
        reply: Any = None
        try:
            if kind == "open":
                coming = {number: Shard.load(folder, number, mmap) for number in argument}
                reply = [shard.version for shard in coming.values()]
            elif kind == "use":
                shards, coming = coming, {}
            else:
                reply = [shards[number].answer(**call) for number, call in argument]
        except Exception as error:
            reply = error
        pipe.send(reply)
