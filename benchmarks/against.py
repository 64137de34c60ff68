"""This checkout beside another commit in one run: what `Engine.recommend` costs in each.

One process for each, with the Python of its environment, takes its turn after the other (A B, B A,
…), on one thread, for one stage and for two where both bundles have a reranker:
  batch 1, warm        one call right after the other
  batch 1, every 10 ms one call every 10 ms: caches have gone cold, as most hosts know them
  batch 512            calls of 512 requests
  1, 2, 16 threads     requests a second of so many threads of one process, a request a call
Both get the same requests, drawn from the bundle's items, and must answer the same ids before a
time is printed. Figures are medians over the rounds; the ratio, this checkout to the other one, is
the median of the rounds' ratios. Only the public API is used, which both commits have.

    python benchmarks/against.py --other ../before/.venv/bin/python --bundle movies.shortlist
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TOP_N, HISTORY_LENGTH, N_REQUESTS, N_CHECKED, BATCH = 10, 50, 1024, 128, 512
GAP = 0.01
CELLS = {  # what is measured: its unit
    "batch 1, warm": "µs",
    "batch 1, every 10 ms": "µs",
    "batch 1, every 10 ms, p99": "µs",
    "batch 512": "µs",
    "1 thread": "requests/s",
    "2 threads": "requests/s",
    "16 threads": "requests/s",
}


class Engine:
    """An engine of whatever commit is installed here, and the requests that both get."""

    def __init__(self, bundle: str) -> None:
        import shortlist

        self.engine = shortlist.load(bundle, n_threads=1)
        random, item_ids = np.random.default_rng(12), sorted(self.engine.index.item_ids.tolist())
        length = min(HISTORY_LENGTH, len(item_ids) // 2)
        rows = [random.choice(len(item_ids), length, replace=False) for _ in range(N_REQUESTS)]
        histories = [[item_ids[row] for row in part] for part in rows]
        self.single = [[{"history": history}] for history in histories]
        self.batches = [{"history": histories[i : i + BATCH]} for i in range(0, N_REQUESTS, BATCH)]
        self.n_stages = self.engine.default_stages

    def answers(self, stages: int) -> list[Any]:
        """Item ids of single requests and of a batch."""
        single = [
            self.engine.recommend(request, TOP_N, stages=stages).item_ids[0].tolist()
            for request in self.single[:N_CHECKED]
        ]
        batch = self.engine.recommend(self.batches[0], TOP_N, stages=stages)
        return [*single, *batch.item_ids.tolist()]

    def measure(self, cell: str, stages: int, seconds: float) -> dict[str, float]:
        """Measure a cell, and what comes with it, for so many seconds."""

        def single(i: int) -> object:
            return self.engine.recommend(self.single[i % N_REQUESTS], TOP_N, stages=stages)

        def batch(i: int) -> object:
            return self.engine.recommend(self.batches[i % 2], TOP_N, stages=stages)

        if cell.endswith(("thread", "threads")):
            return {cell: throughput(single, int(cell.split()[0]), seconds)}
        gap = GAP if "10 ms" in cell else 0.0
        call = batch if cell == f"batch {BATCH}" else single
        times = timed(call, seconds, gap)
        found = {cell: float(np.median(times)) * 1e6}
        if gap:
            found[f"{cell}, p99"] = float(np.percentile(times, 99)) * 1e6
        return found


def timed(call: Callable[[int], object], seconds: float, gap: float) -> list[float]:
    """Return seconds of calls that come right after each other, or one every `gap` seconds."""
    call(0)
    times: list[float] = []
    due = began = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < seconds:
        if gap:
            due = max(due + gap, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - start)
    return times


def throughput(call: Callable[[int], object], n_callers: int, seconds: float) -> float:
    """Requests a second of n threads together."""
    counts, stop = [0] * n_callers, [float("inf")]
    start = threading.Barrier(n_callers + 1)

    def run(caller: int) -> None:
        start.wait()
        while time.perf_counter() < stop[0]:
            call(caller + n_callers * counts[caller])
            counts[caller] += 1

    callers = [threading.Thread(target=run, args=(i,)) for i in range(n_callers)]
    for caller in callers:
        caller.start()
    began = time.perf_counter()
    stop[0] = began + seconds
    start.wait()
    for caller in callers:
        caller.join()
    return sum(counts) / (time.perf_counter() - began)


def work(bundle: str) -> None:
    """Answer commands, a line of JSON each, until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print; the pipe is for answers
    engine = Engine(bundle)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        found = getattr(engine, name)
        print(json.dumps(found(*arguments) if callable(found) else found), file=answers, flush=True)


class Worker:
    """A process with another environment's Python."""

    def __init__(self, python: str, bundle: Path) -> None:
        self._process = subprocess.Popen(
            [python, __file__, "--worker", str(bundle)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        self._name = f"{python} with {bundle}"

    def ask(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(command), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._name}: ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


def check(workers: list[Worker], stages: int) -> None:
    """Refuse to measure what is answered differently."""
    this, other = (worker.ask("answers", stages) for worker in workers)
    different = [i for i, (one, two) in enumerate(zip(this, other, strict=True)) if one != two]
    if different:
        i = different[0]
        sys.exit(
            f"stages={stages}: {len(different)} of {len(this)} answers differ, first number {i}: "
            f"this {this[i]}, other {other[i]}; no time reported"
        )


def measure(workers: list[Worker], stages: int, n_rounds: int, seconds: float) -> dict[str, Any]:
    """Medians and ratios of every cell."""
    rounds: dict[str, list[list[float]]] = {cell: [] for cell in CELLS}
    for turn in range(n_rounds):
        for cell in CELLS:
            if cell.endswith("p99"):
                continue
            found: list[dict[str, float]] = [{}, {}]
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                found[side] = workers[side].ask("measure", cell, stages, seconds)
            for name in found[0]:
                rounds[name].append([one[name] for one in found])
    told = {}
    for cell, values in rounds.items():
        this, other = np.array(values).T
        told[cell] = {
            "this": float(np.median(this)),
            "other": float(np.median(other)),
            "ratio": float(np.median(this / other)),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--other", help="Python of an environment with the other commit")
    parser.add_argument("--bundle", type=Path, help="a bundle")
    parser.add_argument("--other-bundle", type=Path, help="the other commit's export of the same")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell, side and round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return
    if not args.other or not args.bundle:
        parser.error("expected --other and --bundle")
    from shortlist.bench.machine import describe_machine

    result: dict[str, Any] = {"machine": describe_machine(), "stages": {}}
    workers = [
        Worker(sys.executable, args.bundle),
        Worker(args.other, args.other_bundle or args.bundle),
    ]
    n_stages = min(worker.ask("n_stages") for worker in workers)
    for stages in range(1, n_stages + 1):
        check(workers, stages)
    for stages in range(1, n_stages + 1):
        told = measure(workers, stages, args.rounds, args.seconds)
        result["stages"][stages] = told
        for cell, one in told.items() if not args.json else ():
            print(
                f"{stages} stage{'s' * (stages > 1):<1}  {cell:<25} this {one['this']:>10,.1f}  "
                f"other {one['other']:>10,.1f} {CELLS[cell]:<10}  {one['ratio']:.2f}×"
            )
    for worker in workers:
        worker.close()
    print(json.dumps(result) if args.json else result["machine"])


if __name__ == "__main__":
    main()
