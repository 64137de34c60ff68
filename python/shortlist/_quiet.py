"""Starts without noise: no traceback of an interrupted import, no lines of TensorFlow's C++ part.

The first import of the package: from then on an interrupt ends the command, which needs half a
second more to import the rest, with one line. Programs that import the package keep their own ways.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = "shortlist: interrupted"
INTERRUPTED_STATUS = 130  # as shells say of what SIGINT ended
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # of TensorFlow's C++ part; "0" asks for all of it
_HIDES = "2"
_redirecting = threading.RLock()  # file descriptor 2 is the whole process's


@contextmanager
def quiet_start() -> Iterator[None]:
    """Hide what is written to standard error inside the block, and show it if the block fails.

    For imports alone: what other threads write meanwhile is hidden too, and they wait with imports
    of their own. With
    TF_CPP_MIN_LOG_LEVEL=0, which `shortlist --verbose` sets, everything is shown as it comes. If
    the process is ended by a signal, Python's faulthandler says where.

    Notes
    -----
    These lines come from C++ code on file descriptor 2, so `sys.stderr` cannot hold them back.
    """
    if os.environ.setdefault(LOG_LEVEL, _HIDES) == "0":
        yield
        return
    with _redirecting:
        yield from _hidden()


def _hidden() -> Iterator[None]:
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        shown = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with tempfile.TemporaryFile() as kept:
        is_ours = not faulthandler.is_enabled()
        if is_ours:
            faulthandler.enable(file=shown)
        os.dup2(kept.fileno(), 2)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(shown, 2)
            if is_ours:
                faulthandler.disable()
            if not is_done:
                kept.seek(0)
                os.write(2, kept.read())
            os.close(shown)


def raise_at_interrupt() -> None:
    """Let an interrupt be a KeyboardInterrupt again: from now on the command catches it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(INTERRUPTED_STATUS)  # nothing is open yet


def _is_command() -> bool:
    if sys.argv[0] == "-m":  # until the module is found
        return "shortlist.cli" in sys.orig_argv
    return os.path.basename(sys.argv[0]) == "shortlist"


if (
    _is_command()
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _end)
