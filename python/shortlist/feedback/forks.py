"""A fork beside threads that write: it waits until none is inside a store; a child begins anew.

A child has its parent's memory and none of its other threads: a lock that one of those held, ours
or one inside SQLite or SQLAlchemy, would stay locked in it for ever.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_FORK_SECONDS = 90.0  # longer than a writer waits for its turn


class Store(Protocol):
    """What is told of forks."""

    def before_fork(self) -> None:
        """Close all connections; parent and child open new ones when they need them.

        SQLite's own state must not be inherited: the locks it believes to hold are the parent's,
        and a file it takes for open in common may be deleted under it.
        """

    def after_fork(self) -> None:
        """Begin anew in a child: with new locks, and without its parent's connections."""


class _Gate:
    """Counts the threads that are inside; a fork lets none in and waits for the last."""

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.n_inside = 0
        self.n_forks = 0
        self.own = threading.local()

    @property
    def depth(self) -> int:
        """How often this thread is inside."""
        depth: int = getattr(self.own, "depth", 0)
        return depth

    def enter(self) -> None:
        if self.depth == 0:
            with self.turn:
                self.turn.wait_for(lambda: self.n_forks == 0)
                self.n_inside += 1
                self.own.depth = 1
        else:
            self.own.depth = self.depth + 1

    def leave(self) -> None:
        self.own.depth = self.depth - 1
        if self.depth == 0:
            with self.turn:
                self.n_inside -= 1
                self.turn.notify_all()


_gate = _Gate()
_stores: "weakref.WeakSet[Store]" = weakref.WeakSet()


def tell_of_forks(store: Store) -> None:
    """Call a store's `before_fork`, and `after_fork` in every child, while the store is there."""
    _stores.add(store)


@contextmanager
def inside() -> Iterator[None]:
    """Be inside a store: no fork begins meanwhile."""
    gate, depth = _gate, _gate.depth
    try:
        gate.enter()
        yield
    finally:
        if gate.depth > depth:  # an interrupt may have come before
            gate.leave()


def _before() -> None:
    with _gate.turn:
        _gate.n_forks += 1
        own = int(_gate.depth > 0)
        is_free = _gate.turn.wait_for(lambda: _gate.n_inside <= own, _FORK_SECONDS)
    if is_free and not own:
        for store in list(_stores):
            store.before_fork()


def _in_parent() -> None:
    with _gate.turn:
        _gate.n_forks -= 1
        _gate.turn.notify_all()


def _in_child() -> None:
    global _gate
    _gate = _Gate()
    for store in list(_stores):
        store.after_fork()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
