"""Work that must not slow down requests, and waiting until none needs a thing any more."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from shortlist import _core

Result = TypeVar("Result")


def in_background(work: Callable[[], Result]) -> Result:
    """Run `work` on a thread of its own, which gives way to all others, and wait for it.

    It is for work that hardly needs the interpreter (hashing, opening a session): a thread that
    gives way while it holds the interpreter would keep everyone waiting. Threads that `work` starts
    give way as well, for as long as they live.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        _core.give_way()
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="shortlist-background")
    thread.start()
    thread.join()
    if failed:
        try:
            raise failed[0]
        finally:
            failed.clear()  # an error that knows its frames, which know the error: a cycle
    return done[0]


def wait_until_unused(held: list[object], seconds: float = 1.0) -> None:
    """Wait until nothing but the list has its one object, or until that has lasted too long."""
    end = time.monotonic() + seconds
    # Of the list and of the call itself.
    while sys.getrefcount(held[0]) > 2 and time.monotonic() < end:
        time.sleep(1e-3)
