"""Processes that begin and end beside an engine: a program for test_process_life.py.

python process_life.py BUNDLE START N_THREADS WHAT N: starts N processes one after another, each of
which does WHAT with an engine, and prints how many of them ended with 0, and how the others did.
"""

import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter

import numpy as np

import shortlist

warnings.simplefilter("ignore")  # Python 3.12 and later warn of forks beside threads
LIMIT_S = 60
QUERIES = np.random.default_rng(0).standard_normal((64, 16), "f4")
REQUESTS = {"user_id": [5, 9] * 50}


def loops(engine):
    """Calls for threads that never stop."""
    index = shortlist.Index(np.random.default_rng(1).standard_normal((20_000, 16), "f4"))
    return [
        lambda: engine.recommend([{"user_id": 5}]),
        lambda: index.search(QUERIES, 5),
        lambda: index.upsert(range(64), QUERIES),
        lambda: engine.upsert_items({"item_id": [100 + random.randrange(9)], "year": [1990.0]}),
    ]


def forever(call):
    """Call again and again on a daemon thread."""

    def run():
        while True:
            call()

    call()
    threading.Thread(target=run, daemon=True).start()


def work(engine, bundle, what):
    """Do it in this process."""
    expected = engine.recommend(REQUESTS).item_ids.tolist()
    if what == "swap":
        engine.swap(bundle)
        assert engine.recommend(REQUESTS).item_ids.tolist() == expected
    elif what == "close":
        engine.close()
        del engine
        gc.collect()
    elif what == "exit":
        for call in loops(engine):
            forever(call)
        time.sleep(random.uniform(0, 0.05))


def in_fork(engine, bundle, what):
    """Fork, and give the child's exit code; the child ends as a program does."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(LIMIT_S)
        work(engine, bundle, what)
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def begin(bundle, n_threads, what):
    """Do it in a process that inherits nothing."""
    signal.alarm(LIMIT_S)
    work(shortlist.load(bundle, n_threads=n_threads), bundle, what)


def main(bundle, start, n_threads, what, n):
    """Start the processes."""
    engine = shortlist.load(bundle, n_threads=n_threads)
    engine.recommend(REQUESTS)
    if start == "fork-busy":
        for call in loops(engine):
            forever(call)
    codes = []
    for _ in range(n):
        if start.startswith("fork") and start != "forkserver":
            codes.append(in_fork(engine, bundle, what))
            continue
        process = multiprocessing.get_context(start).Process(
            target=begin, args=(bundle, n_threads, what)
        )
        process.start()
        process.join()
        codes.append(process.exitcode)
    print(f"{codes.count(0)} of {n} ended with 0; others: {dict(Counter(c for c in codes if c))}")
    if start == "end":
        work(engine, bundle, what)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
