"""Many callers on one engine: requests a second by cores, with and without micro-batching.

16 threads of one process, which may use so many cores (affinity), call one engine with single
requests as fast as they can:
  engine     `Engine.recommend`, n_threads=1
  batched    the same with max_batch=16
  c          shortlist_engine_recommend of the C ABI, in a process without Python (callers.c)
Answers are compared first. "of sum" is what all threads got together as a part of what the cores
give: one process with one caller on each core, at the same time (for `batched`: without batches).
"by CPU time" is the same for requests a second of CPU time: on a busy machine, where many threads
get more of the cores than few, only that counts; it does not see idle cores. Measured in turn;
medians of the rounds.

    python benchmarks/callers.py --bundle movies.shortlist
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import shortlist
from shortlist.bench.machine import describe_machine
from shortlist.plugin import plugin_path

TOP_N, N_CALLERS, HISTORY_LENGTH, N_REQUESTS, N_CHECKED = 10, 16, 50, 512, 32
Measure = Callable[[int, float], tuple[float, float]]


class CEngine:
    """benchmarks/callers.c, compiled and running, on single histories of int64 ids."""

    def __init__(self, bundle: Path, histories: list[np.ndarray]) -> None:
        (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
        self._folder = tempfile.TemporaryDirectory()
        program, file = Path(self._folder.name) / "callers", Path(self._folder.name) / "histories"
        library = Path(plugin_path())
        options = ["-std=c11", "-O2", "-pthread", f"-I{library.parent / 'include'}"]
        source = Path(__file__).with_name("callers.c")
        subprocess.run(
            ["gcc", *options, source, "-o", program, library, f"-Wl,-rpath,{library.parent}"],
            check=True,
        )
        np.stack(histories).tofile(file)
        command = [program, bundle, runtime, file, str(len(histories[0]))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rows = [[int(row) for row in self._line().split()] for _ in range(N_CHECKED)]

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"callers.c ended with {self._process.wait()}")
        return line

    def throughput(self, n_callers: int, seconds: float) -> tuple[float, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{n_callers} {seconds}\n")
        self._process.stdin.flush()
        wall, cpu = self._line().split()
        return float(wall), float(cpu)

    def close(self) -> None:
        self._process.communicate()
        self._folder.cleanup()


def make_histories(bundle: Path) -> list[np.ndarray]:
    with shortlist.load(bundle) as engine:
        item_ids = engine.index.item_ids
    random = np.random.default_rng(4)
    length = min(HISTORY_LENGTH, len(item_ids) // 2)
    return [random.choice(item_ids, length).astype(np.int64) for _ in range(N_REQUESTS)]


def throughput(call: Callable[[int], Any], n_callers: int, seconds: float) -> tuple[float, float]:
    """Requests a second of n callers together, and requests a second of CPU time."""
    counts = [0] * n_callers
    start = threading.Barrier(n_callers + 1)
    stop = [float("inf")]

    def run(caller: int) -> None:
        start.wait()
        i = caller
        while time.perf_counter() < stop[0]:
            call(i % N_REQUESTS)
            i += n_callers
            counts[caller] += 1

    callers = [threading.Thread(target=run, args=(i,)) for i in range(n_callers)]
    for caller in callers:
        caller.start()
    began, cpu = time.perf_counter(), time.process_time()
    stop[0] = began + seconds
    start.wait()
    for caller in callers:
        caller.join()
    n = sum(counts)
    return n / (time.perf_counter() - began), n / (time.process_time() - cpu)


def open_ways(bundle: Path, stack: ExitStack) -> dict[str, Measure]:
    """Every way to call a bundle, by name; all must give the same items."""
    histories = make_histories(bundle)
    requests = [[{"history": history}] for history in histories]
    engine = stack.enter_context(shortlist.load(bundle, n_threads=1))
    batched = stack.enter_context(shortlist.load(bundle, n_threads=1, max_batch=16))
    ways: dict[str, Measure] = {
        "engine": partial(throughput, lambda i: engine.recommend(requests[i], TOP_N)),
        "batched": partial(throughput, lambda i: batched.recommend(requests[i], TOP_N)),
    }
    if engine.bundle.has("recommend.onnx"):
        c_engine = CEngine(bundle, histories)
        stack.callback(c_engine.close)
        ways["c"] = c_engine.throughput
        expected = [engine.recommend(r, TOP_N).indices[0].tolist() for r in requests[:N_CHECKED]]
        if c_engine.rows != expected:
            raise SystemExit("the C engine answers otherwise than the Python engine")
    whole = engine.recommend({"history": histories[:N_CHECKED]}, TOP_N).indices
    with ThreadPoolExecutor(N_CALLERS) as pool:
        found = pool.map(lambda r: batched.recommend(r, TOP_N).indices[0], requests[:N_CHECKED])
        if not np.array_equal(np.stack(list(found)), whole):
            raise SystemExit("batched requests are answered otherwise than others")
    return ways


def work(bundle: Path, cores: list[int], commands: Any) -> None:
    """Measure what is asked for, on these cores, until None is asked for."""
    os.sched_setaffinity(0, cores)
    shortlist.set_num_threads(len(cores))
    with ExitStack() as stack:
        ways = open_ways(bundle, stack)
        commands.send(list(ways))
        while (command := commands.recv()) is not None:
            name, n_callers, seconds = command
            commands.send(ways[name](n_callers, seconds))


class Worker:
    """A process that measures on some cores."""

    def __init__(self, bundle: Path, cores: list[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self.commands, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(bundle, cores, theirs))
        self.process.start()
        theirs.close()
        self.names: list[str] = self.commands.recv()

    def close(self) -> None:
        self.commands.send(None)
        self.process.join()


def measure(bundle: Path, cores: list[int], n_rounds: int, seconds: float) -> dict[str, Any]:
    """Medians on these cores: requests a second together, and their part of those apart."""
    together = Worker(bundle, cores)
    apart = [Worker(bundle, [core]) for core in cores]
    rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in together.names}
    for _ in range(n_rounds):
        for name in together.names:
            for worker in apart:  # all at once, each with a core of its own
                worker.commands.send(("c" if name == "c" else "engine", 1, seconds))
            alone = [worker.commands.recv() for worker in apart]
            together.commands.send((name, N_CALLERS, seconds))
            rate, cpu_rate = together.commands.recv()
            of_sum = rate / sum(wall for wall, _ in alone)
            by_cpu = cpu_rate / float(np.mean([cpu for _, cpu in alone]))
            rounds[name].append((rate, of_sum, by_cpu))
    for worker in (together, *apart):
        worker.close()
    keys = ("requests_s", "of_sum", "by_cpu_time")
    return {
        name: dict(zip(keys, np.median(told, axis=0).tolist(), strict=True))
        for name, told in rounds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle with integer ids")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each way and round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    there = sorted(os.sched_getaffinity(0))
    counts = sorted({1, len(there), *(k for k in (2, 4, 8, 16, 32) if k < len(there))})
    result: dict[str, Any] = {"machine": describe_machine(), "cores": {}}
    for n_cores in counts:
        told = measure(args.bundle, there[:n_cores], args.rounds, args.seconds)
        result["cores"][n_cores] = told
        for name, one in told.items() if not args.json else ():
            print(
                f"{n_cores} cores  {name:>8}  {one['requests_s']:>9.0f} requests/s  "
                f"{one['of_sum']:.2f} of sum, {one['by_cpu_time']:.2f} by CPU time"
            )
    print(json.dumps(result) if args.json else result["machine"])


if __name__ == "__main__":
    main()
