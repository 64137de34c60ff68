"""Reasons: what `Engine.explain` costs on one thread, and whether its sentences are true.

For one request of --length items, top-10, three reasons each, in milliseconds of CPU time (least,
median), which other work on the machine changes least:
  recommend   the answer alone
  encode      all histories without one item, in one run of the encoder: the floor
  one reason  `explain(n_reasons=1)`
  explain     `explain`
  thorough    `explain(thorough=True)`: everything is tried again for every reason
Then --replays sentences "without A and B this would not be in the top 10" are put to the test: the
request is asked again without A and B, as a caller would.

    python benchmarks/explain.py --encoder pool                # untrained: weights change no time
    python benchmarks/explain.py --encoder transformer
    python benchmarks/explain.py --bundle movies.shortlist --replays 10000
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

TOP_N = 10
N_REQUESTS = 64  # different ones, taken in turn


@contextmanager
def bundle_of(args: argparse.Namespace) -> Iterator[Path]:
    """Give the bundle to measure; an untrained one is deleted afterwards."""
    if args.bundle:
        yield args.bundle
        return
    from serving import export_untrained

    from shortlist.training.data.datasets import load_dataset

    with tempfile.TemporaryDirectory() as folder:
        dataset, overrides = load_dataset(args.data), {"model.encoder": args.encoder}
        yield export_untrained(dataset, Path(folder), **overrides)[0]


def least_and_median(call: Callable[[int], Any], seconds: float) -> str:
    """Return the CPU time of a call whose argument is the number of a request."""
    for i in range(3):
        call(i)
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < N_REQUESTS or time.perf_counter() < stop:
        start = time.thread_time()
        call(len(times) % N_REQUESTS)
        times.append(time.thread_time() - start)
    return f"{min(times) * 1e3:8.3f} {float(np.median(times)) * 1e3:8.3f}"


def print_times(engine: shortlist.Engine, length: int, seconds: float) -> None:
    """Print a line for each call."""
    random = np.random.default_rng(5)
    ids = engine.index.item_ids
    histories = [random.choice(ids, length, replace=False).tolist() for _ in range(N_REQUESTS)]
    requests = [[{"history": history}] for history in histories]
    left = [
        {"history": [history, *(history[:k] + history[k + 1 :] for k in range(length))]}
        for history in histories
    ]
    calls: dict[str, Callable[[int], Any]] = {
        "recommend": lambda i: engine.recommend(requests[i], TOP_N),
        "encode": lambda i: engine.encode_users(left[i]),
        "one reason": lambda i: engine.explain(requests[i], TOP_N, 1),
        "explain": lambda i: engine.explain(requests[i], TOP_N),
        "thorough": lambda i: engine.explain(requests[i], TOP_N, thorough=True),
    }
    print(f"{'CPU ms, history of ' + str(length):24} {'least':>8} {'median':>8}")
    for name, call in calls.items():
        print(f"{name:24} {least_and_median(call, seconds)}")


def count_true_sentences(engine: shortlist.Engine, n_replays: int) -> None:
    """Ask again without the reasons of each sentence, and count the items that are not there."""
    import pyarrow as pa

    with pa.OSFile(str(engine.bundle.file("users.arrow")), "rb") as file:
        users = pa.ipc.open_file(file).read_all()
    names = ["history", *(f.name for f in engine.bundle.manifest.features_of("user"))]
    known = users.select(names).to_pylist()
    random, n_true, n_asked = np.random.default_rng(7), 0, 0
    while n_asked < n_replays:
        rows = [known[i] for i in random.integers(0, len(known), 64)]
        for row in rows:  # another part of the history each time
            row = dict(row)
            row["history"] = row["history"][: random.integers(5, 60)]
            given = {name: value for name, value in row.items() if value is not None}
            said = engine.explain([given], TOP_N)
            again, items = replays_of(given, said)
            if not again:
                continue
            exclude = [given["history"]] * len(again)
            found = engine.recommend(again, TOP_N, exclude=exclude).item_ids.tolist()
            n_true += sum(item not in ids for item, ids in zip(items, found, strict=True))
            n_asked += len(again)
    print(f"{n_true:,} of {n_asked:,} sentences are true")


def replays_of(given: dict[str, Any], said: shortlist.Explanations) -> tuple[list[Any], list[Any]]:
    """Return the request without the reasons of each sentence, and the item that it is about."""
    again, items = [], []
    for item, reasons in zip(said.item_ids[0].tolist(), said.reasons[0], strict=True):
        n = next((k for k, reason in enumerate(reasons, 1) if reason.leaves_list), 0)
        if n == 0:
            continue
        gone = {reason.item_id for reason in reasons[:n]}
        features = {reason.feature for reason in reasons[:n]}
        left = {name: value for name, value in given.items() if name not in features}
        left["history"] = [one for one in given["history"] if one not in gone]
        again.append(left)
        items.append(item)
    return again, items


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", default="movielens-100k", help="for an untrained bundle")
    parser.add_argument("--encoder", default="pool")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each call")
    parser.add_argument("--replays", type=int, default=0)
    args = parser.parse_args()
    print(describe_machine())
    with bundle_of(args) as path, shortlist.load(path, n_threads=1) as engine:
        print(engine)
        print_times(engine, args.length, args.seconds)
        if args.replays:
            count_true_sentences(engine, args.replays)


if __name__ == "__main__":
    main()
