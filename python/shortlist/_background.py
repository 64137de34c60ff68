"""Work that must not slow down requests, and waiting until none needs a thing any more."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from shortlist import _core

Result = TypeVar("Result")


def in_background(work: Callable[[], Result], interrupted: threading.Event | None = None) -> Result:
    """Run `work` on a thread of its own, which gives way to all others, and wait for it.

    It is for work that hardly needs the interpreter (hashing, opening a session): a thread that
    gives way while it holds the interpreter would keep everyone waiting. Threads that `work` starts
    give way as well, for as long as they live.

    An interrupt ends the wait, not the thread: it sets `interrupted`, at which `work` may look.
    """
    done: list[Result] = []
    failed: list[BaseException] = []
    is_over = threading.Event()

    def run() -> None:
        _core.give_way()
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=run, name="shortlist-background")
    try:
        thread.start()
        # Not `join`: interrupted there, Python 3.11 takes the thread for ended, and would not wait
        # for it at exit.
        is_over.wait()
    except BaseException:
        if interrupted is not None:
            interrupted.set()
        raise
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
