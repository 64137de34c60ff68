"""What a fork must know of other threads: whom it waits for, and what its child finds.

A child has its parent's memory and none of its other threads: a lock that one of those held, ours
or one inside SQLite or SQLAlchemy, would stay locked in it for ever. So a fork waits until nobody
is `inside` a store or changes what an awaited `ForkLock` guards, and the child begins anew: with
free locks, and without its parent's connections. A fork that waits for a long call keeps no other
one out; only for its last second does it. Where it waits in vain, the child has what there is.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Protocol

_INSIDE_SECONDS = 90.0  # a fork waits for stores: longer than a writer waits for its turn
_LOCK_SECONDS = 1.0  # and for awaited locks; nor does it keep others out for longer


class ForkLock:
    """A lock for `with`, free in a forked child whatever its parent's other threads held.

    Parameters
    ----------
    is_awaited : bool
        A fork waits for whoever has the lock, a second at most, so that the child finds whole what
        the lock guards. For short work; otherwise the child must be fine with half of it.
    """

    def __init__(self, *, is_awaited: bool = False) -> None:
        self._lock = threading.Lock()
        self.is_awaited = is_awaited
        _hear_of_forks()
        _locks.add(self)

    def __enter__(self) -> None:
        """Wait for the lock."""
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give it back; a child that was forked inside has a new one already."""
        if self._lock.locked():
            self._lock.release()

    def hold(self, seconds: float) -> bool:
        """Wait for the lock, but not for ever; says whether it was got."""
        return self._lock.acquire(timeout=max(0.0, seconds))

    def renew(self) -> None:
        """Forget who had it."""
        self._lock = threading.Lock()


class Store(Protocol):
    """What has connections, which no child may inherit; its calls are `inside`."""

    def before_fork(self) -> None:
        """Close all connections; parent and child open new ones when they need them.

        SQLite's own state must not be inherited: the locks it believes to hold are the parent's,
        and a file it takes for open in common may be deleted under it.
        """

    def after_fork(self) -> None:
        """Begin anew in a child: with new locks, and without its parent's connections."""


class _Own(threading.local):
    """What a thread has here."""

    depth = 0  # how often it is inside
    entry = 0  # its number
    is_closing = False  # by its fork
    held: Sequence[ForkLock] = ()  # by its fork


class _Gate:
    """The calls that are inside a store; a fork wants a moment without any."""

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.n_entries = 0  # so far
        self.entries: set[int] = set()  # those that have not left
        self.n_forks = 0  # that keep the gate closed
        self.own = _Own()

    def enter(self) -> None:
        if self.own.depth == 0:
            with self.turn:
                self.turn.wait_for(lambda: self.n_forks == 0)
                self.n_entries += 1
                self.entries.add(self.n_entries)
                self.own.entry, self.own.depth = self.n_entries, 1
        else:
            self.own.depth += 1

    def leave(self) -> None:
        self.own.depth -= 1
        if self.own.depth == 0:
            with self.turn:
                self.entries.discard(self.own.entry)
                self.turn.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in; says whether all have left who were inside, but for this thread.

        It waits for that with an open gate, and closes it when only calls are inside that came
        meanwhile: so a long call keeps no other one out.
        """
        end = time.monotonic() + seconds
        with self.turn:
            while True:
                self._wait(self.n_entries, end)
                self.n_forks += 1
                self.own.is_closing = True
                is_free = self._wait(self.n_entries, min(end, time.monotonic() + _LOCK_SECONDS))
                if is_free or time.monotonic() >= end:
                    return is_free
                self._open()

    def open(self) -> None:
        """Let others in again."""
        with self.turn:
            self._open()

    def _open(self) -> None:
        if self.own.is_closing:  # else an interrupt came before
            self.own.is_closing = False
            self.n_forks -= 1
            self.turn.notify_all()

    def _wait(self, newest: int, end: float) -> bool:
        """Wait until all others of the first entries have left; says whether they have."""
        own = {self.own.entry} if self.own.depth else set()
        return self.turn.wait_for(
            lambda: min(self.entries - own, default=newest + 1) > newest, end - time.monotonic()
        )


_gate = _Gate()
_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def tell_of_forks(store: Store) -> None:
    """Call a store's `before_fork`, and `after_fork` in every child, while the store is there."""
    _hear_of_forks()
    _stores.add(store)


@contextmanager
def inside() -> Iterator[None]:
    """Be inside a store: no fork begins meanwhile."""
    gate, depth = _gate, _gate.own.depth
    try:
        gate.enter()
        yield
    finally:
        if gate.own.depth > depth:  # not where an interrupt came before, nor in a forked child
            gate.leave()


def _before() -> None:
    if _gate.close(_INSIDE_SECONDS) and not _gate.own.depth:
        for store in list(_stores):
            store.before_fork()
    end = time.monotonic() + _LOCK_SECONDS
    awaited = [lock for lock in list(_locks) if lock.is_awaited]
    _gate.own.held = held = []  # filled one by one: an interrupt may come in between
    for lock in awaited:
        if lock.hold(end - time.monotonic()):
            held.append(lock)


def _in_parent() -> None:
    for lock in _gate.own.held:
        lock.__exit__(None, None, None)
    _gate.own.held = ()
    _gate.open()


def _in_child() -> None:
    global _gate
    _gate.own.depth = 0
    _gate = _Gate()
    for lock in list(_locks):
        lock.renew()
    for store in list(_stores):
        store.after_fork()


@cache
def _hear_of_forks() -> None:
    """Once, and not before there is a lock or a store."""
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
