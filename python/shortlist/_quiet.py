"""Start TensorFlow without the lines that its C++ part prints before it can be told not to."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
