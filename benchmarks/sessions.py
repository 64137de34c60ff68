"""Sessions: what a click costs with the state of a `gru`, and with the whole history again.

CPU microseconds on one thread (least, median), after histories of --lengths items:
  step        the encoder's part of a click: `session_encoder.onnx`, state in and out
  click       `append` one item and `recommend` the top-10
  recompute   `Engine.recommend` on the whole history
--clicks random clicks are compared with the last history_length items of the same history.

    python benchmarks/sessions.py                      # an untrained gru: weights change no time
    python benchmarks/sessions.py --bundle shop.shortlist
"""

from __future__ import annotations

import argparse
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
        yield export_untrained(dataset, Path(folder), **{"model.encoder": "gru"})[0]


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
    session, loaded = engine.session(), engine._switch.now()
    session.append(items[:length])
    session.recommend(TOP_N)

    def step(i: int) -> None:
        session._step_all(loaded)

    def click(i: int) -> None:
        session.append([items[length + i]])
        session.recommend(TOP_N)

    times = []
    for i in range(N_TIMES):
        session.append([items[length + N_TIMES + i]])
        start = time.thread_time()
        step(i)
        times.append(time.thread_time() - start)
    print(f"{length:6} step      {min(times) * 1e6:9.1f} {float(np.median(times)) * 1e6:9.1f}")
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", default="movielens-100k", help="for an untrained bundle")
    parser.add_argument("--items", type=int, help="a synthetic catalogue of so many instead")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 1000, 10_000])
    parser.add_argument("--clicks", type=int, default=10_000)
    args = parser.parse_args()
    print(describe_machine())
    with bundle_of(args) as path, shortlist.load(path, n_threads=1) as engine:
        print(engine, engine.session().report())
        print("history             least    median")
        for length in args.lengths:
            print_times(engine, length)
        compare(engine, args.clicks)


if __name__ == "__main__":
    main()
