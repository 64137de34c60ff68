"""Locks that a forked child finds free, whatever its parent's other threads held."""

from __future__ import annotations

import os
import threading
import time
import weakref
from functools import cache
from types import TracebackType

# How long a fork waits for a change to be whole; then the child has what there is.
_LONGEST_WAIT_S = 1.0


class ForkLock:
    """A lock for `with`.

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
        _LOCKS.add(self)

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


_LOCKS: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_OWN = threading.local()  # `held`: what this thread took for its fork


def _before() -> None:
    end = time.monotonic() + _LONGEST_WAIT_S
    awaited = [lock for lock in list(_LOCKS) if lock.is_awaited]
    _OWN.held = [lock for lock in awaited if lock.hold(end - time.monotonic())]


def _after_in_parent() -> None:
    for lock in _OWN.held:
        lock.__exit__(None, None, None)
    _OWN.held = []


def _after_in_child() -> None:
    _OWN.held = []
    for lock in list(_LOCKS):
        lock.renew()


@cache
def _hear_of_forks() -> None:
    """Once, and not before there is a lock."""
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
