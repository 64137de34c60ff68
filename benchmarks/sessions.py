"""Sessions: what a click costs with the state of a `gru`, and with the whole history again.

CPU microseconds on one thread (least, median; of a step the median alone, as it is what a list
with a step costs more than one without), after histories of --lengths items:
  step        the encoder's part of a click: `session_encoder.onnx`, state in and out
  click       `append` one item and `recommend` the top-10
  recompute   `Engine.recommend` on the whole history
--clicks random clicks are compared with the last history_length items of the same history.
--sessions live sessions of --events items each, all with a state: what the process grows by. Only
the last item is one that the encoder knows: the others cost no step, and as much memory.

    python benchmarks/sessions.py                      # an untrained gru: weights change no time
    python benchmarks/sessions.py --bundle shop.shortlist
    python benchmarks/sessions.py --clicks 0 --lengths --sessions 1000000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import shortlist
from shortlist.bench.machine import describe_machine

TOP_N, N_TIMES = 10, 300


@contextmanager
def bundle_of(args: argparse.Namespace) -> Iterator[Path]:
    """Give the bundle to measure; an untrained one is deleted afterwards."""
    if args.bundle:
        yield args.bundle
        return
    from serving import export_untrained, synthetic

    from shortlist.training.data.datasets import load_dataset

    with tempfile.TemporaryDirectory() as folder:
        dataset: Any = synthetic(args.items) if args.items else load_dataset(args.data)
        settings = {"model.encoder": "gru", "model.n_blocks": args.layers}
        yield export_untrained(dataset, Path(folder), **settings)[0]


def least_and_median(call: Callable[[int], Any]) -> str:
    times = []
    for i in range(N_TIMES):
        start = time.thread_time()
        call(i)
        times.append(time.thread_time() - start)
    return f"{min(times) * 1e6:9.1f} {float(np.median(times)) * 1e6:9.1f}"


def print_times(engine: shortlist.Engine, length: int) -> None:
    """Print a line for each call."""
    random = np.random.default_rng(5)
    items = random.choice(engine.index.item_ids, length + 3 * N_TIMES).tolist()
    session = engine.session()
    session.append(items[:length])
    session.recommend(TOP_N)
    few = items[-1:]

    def click(i: int) -> None:
        session.append([items[length + i]])
        session.recommend(TOP_N)

    times = []
    for i in range(N_TIMES):
        pair = []
        for n in (0, 1):  # a list without a step, and with one
            session.append(items[length + N_TIMES + i :][:n])
            start = time.thread_time()
            session.recommend(1, allow=few, exclude_seen=False)
            pair.append(time.thread_time() - start)
        times.append(pair[1] - pair[0])
    print(f"{length:6} step                {float(np.median(times)) * 1e6:9.1f}")
    print(f"{length:6} click     {least_and_median(click)}")
    request = [{"history": items[:length]}]
    print(f"{length:6} recompute {least_and_median(lambda i: engine.recommend(request, TOP_N))}")


def compare(engine: shortlist.Engine, n_clicks: int) -> None:
    """Count lists that differ from those of the whole history, while that is what counts."""
    random, longest = np.random.default_rng(7), engine.bundle.manifest.max_history
    n_same = n_asked = 0
    while n_asked < n_clicks:
        session, history = engine.session(), []
        for item in random.choice(engine.index.item_ids, longest).tolist():
            history.append(item)
            session.append([item])
            found = session.recommend(TOP_N)
            whole = engine.recommend([{"history": history}], TOP_N)
            n_same += found.scores.tobytes() == whole.scores.tobytes()
            n_asked += 1
    print(f"{n_same:,} of {n_asked:,} lists have the same bits")


def n_resident() -> int:
    """Return the bytes of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fill(engine: shortlist.Engine, n_sessions: int, n_events: int) -> None:
    """Print what live sessions take."""
    items = engine.index.item_ids[:2_000].tolist()
    strange = [-2 - i for i in range(n_events - 1)]
    for item in items:  # what the first calls bring into memory is not of sessions
        engine.session({"history": [item]}).recommend(1, allow=items[:1])
    store = engine.sessions(max_bytes=1 << 40)
    before = n_resident()
    for user in range(n_sessions):
        session = store.get(user)
        session.append([*strange, items[user % len(items)]])
        session.recommend(1, allow=items[:1], exclude_seen=False)
    grown = n_resident() - before
    print(
        f"{len(store):,} sessions of {n_events} items: the process grew by {grown:,} bytes, "
        f"{grown / n_sessions:,.0f} each; the store counts {store.n_bytes:,}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", default="movielens-100k", help="for an untrained bundle")
    parser.add_argument("--items", type=int, help="a synthetic catalogue of so many instead")
    parser.add_argument("--layers", type=int, default=1, help="of the untrained bundle")
    parser.add_argument("--lengths", type=int, nargs="*", default=[50, 1000, 10_000])
    parser.add_argument("--clicks", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--events", type=int, default=10)
    args = parser.parse_args()
    print(describe_machine())
    with bundle_of(args) as path, shortlist.load(path, n_threads=1) as engine:
        print(engine, engine.session().report())
        print("history             least    median")
        for length in args.lengths:
            print_times(engine, length)
        if args.clicks:
            compare(engine, args.clicks)
        if args.sessions:
            fill(engine, args.sessions, args.events)


if __name__ == "__main__":
    main()
