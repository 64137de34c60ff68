"""Requests while bundles are swapped: times with and without swaps, answers, memory.

Four threads of one process call one engine with single requests, as fast as they can or each at a
constant rate (--interval), while it swaps to and fro between two bundles, one swap right after the
other; then as long without swaps, and so on in turn. A request's time counts from when it was due.
Every answer must be, to the bit, that of the one bundle or of the other.
  c          shortlist_engine_recommend and shortlist_engine_swap of the C ABI (swaps.c)
  engine     `Engine.recommend` and `Engine.swap`

    python benchmarks/swaps.py --bundles movies.shortlist newer.shortlist
    python benchmarks/swaps.py --items 3416 --interval 2000       # generated bundles
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import shortlist
from shortlist.bench.machine import describe_machine
from shortlist.plugin import plugin_path

TOP_N, HISTORY_LENGTH, N_REQUESTS = 10, 50, 256
MOST_TIMES = 1 << 20  # of each caller


class Load:
    """Threads that call an engine until `stop`; their times by what happened meanwhile."""

    def __init__(
        self, engine: Any, requests: list[Any], expected: list[list[Any]], interval: float
    ) -> None:
        self.during = ""  # nothing is kept yet
        self.is_over, self.error = False, ""
        self._kept: list[dict[str, Kept]] = []
        self._engine, self._requests, self._expected = engine, requests, expected
        self._interval = interval

    def run(self) -> None:
        kept = {"": Kept(1), "swaps": Kept(MOST_TIMES), "steady": Kept(MOST_TIMES)}
        self._kept.append(kept)
        i, due = 0, time.perf_counter()
        while not self.is_over:
            during = self.during
            recs = self._engine.recommend(self._requests[i], TOP_N)
            kept[during].add(time.perf_counter() - due)
            got = (recs.indices.tobytes(), recs.scores.tobytes())
            if got not in (self._expected[0][i], self._expected[1][i]):
                self.error, self.is_over = f"request {i} is answered by neither bundle", True
            i = (i + 1) % N_REQUESTS
            due += self._interval
            now = time.perf_counter()
            if not self._interval or due < now - 1:
                due = now
            elif due > now:
                time.sleep(due - now)

    def times(self) -> dict[str, Any]:
        """Return the seconds of each request, by what happened meanwhile."""
        return {
            during: np.concatenate([kept[during].values() for kept in self._kept])
            for during in ("swaps", "steady")
        }


class Kept:
    """Times, in memory that is resident from the start: it must not count as the engine's."""

    def __init__(self, most: int) -> None:
        self._times, self._n = np.ones(most, dtype=np.float32), 0

    def add(self, seconds: float) -> None:
        if self._n < len(self._times):
            self._times[self._n] = seconds
            self._n += 1

    def values(self) -> Any:
        return self._times[: self._n]


def measure_engine(args: argparse.Namespace, bundles: list[Path], histories: Any) -> dict[str, Any]:
    """Measure `Engine.swap`."""
    requests = [[{"history": history}] for history in histories]
    with shortlist.load(bundles[0], n_threads=1) as engine:
        expected = []
        for bundle in bundles:
            engine.swap(bundle)
            answers = [engine.recommend(request, TOP_N) for request in requests]
            expected.append([(a.indices.tobytes(), a.scores.tobytes()) for a in answers])
        load = Load(engine, requests, expected, args.interval * 1e-6)
        callers = [threading.Thread(target=load.run) for _ in range(args.callers)]
        for caller in callers:
            caller.start()
        try:
            before, after, took = swap_in_rounds(load, engine, bundles, args)
        finally:
            load.is_over = True
            for caller in callers:
                caller.join()
    if load.error:
        raise SystemExit(f"swaps: {load.error}")
    return {"times": load.times(), "resident": [before, after], "swap_s": took}


def swap_in_rounds(
    load: Load, engine: Any, bundles: list[Path], args: argparse.Namespace
) -> tuple[int, int, float]:
    """Return resident bytes after the first round and the last one, and seconds of a swap."""
    for i in range(10):
        engine.swap(bundles[i % 2])
    before, took = 0, 0.0
    for _ in range(args.rounds):
        began = time.perf_counter()
        load.during = "swaps"
        for i in range(args.swaps // args.rounds):
            engine.swap(bundles[i % 2])
        load.during = "steady"
        lasted = time.perf_counter() - began
        took += lasted
        time.sleep(lasted)
        before = before or resident()
        if load.is_over:
            break
    return before, resident(), took / args.swaps


def resident() -> int:
    """Resident bytes of this process."""
    import resource

    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure_c(args: argparse.Namespace, bundles: list[Path], histories: Any) -> dict[str, Any]:
    """Measure shortlist_engine_swap, in a process without Python."""
    (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
    library = Path(plugin_path())
    with tempfile.TemporaryDirectory() as folder:
        program, file = Path(folder) / "swaps", Path(folder) / "histories"
        options = ["-std=c11", "-O2", "-pthread", f"-I{library.parent / 'include'}"]
        source = Path(__file__).with_name("swaps.c")
        linked = [library, f"-Wl,-rpath,{library.parent}"]
        subprocess.run(["gcc", *options, source, "-o", program, *linked], check=True)
        np.stack(histories).tofile(file)
        numbers = [args.callers, args.interval, args.rounds, args.swaps // args.rounds]
        command = [program, *bundles, runtime, file, HISTORY_LENGTH, *numbers]
        done = subprocess.run(
            list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True
        )
    told = {name: values for name, *values in map(str.split, done.stdout.splitlines())}
    times = {name: np.array(told[name], np.float64) for name in ("steady", "swaps")}
    resident = [int(value) for value in told["resident"]]
    return {"times": times, "resident": resident, "swap_s": float(told["swap"][0])}


@contextlib.contextmanager
def two_bundles(args: argparse.Namespace) -> Iterator[list[Path]]:
    """Give the bundles to swap between: those named, or two of random weights."""
    if args.bundles:
        yield args.bundles
        return
    from serving import export_untrained, synthetic

    with tempfile.TemporaryDirectory() as folder:
        dataset, paths = synthetic(args.items), []
        for seed in (1, 2):
            place = Path(folder) / str(seed)
            place.mkdir()
            paths.append(export_untrained(dataset, place, seed)[0])
        yield paths


def row_of(name: str, measured: dict[str, Any], interval: int) -> dict[str, Any]:
    """Sum up what was measured."""
    row: dict[str, Any] = {"way": name, "interval_us": interval, "swap_s": measured["swap_s"]}
    for during, times in measured["times"].items():
        p50, p99, p999 = np.percentile(times, [50, 99, 99.9]) * 1e3
        row[during] = {"n": len(times), "p50_ms": p50, "p99_ms": p99, "p99.9_ms": p999}
    row["p99_ratio"] = row["swaps"]["p99_ms"] / row["steady"]["p99_ms"]
    before, after = measured["resident"]
    row |= {"resident_before": before, "resident_after": after}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundles", type=Path, nargs=2, help="two bundles with integer item ids")
    parser.add_argument("--items", type=int, default=3416, help="of generated bundles")
    parser.add_argument("--ways", nargs="+", choices=("c", "engine"), default=["c", "engine"])
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--interval", type=int, default=0, help="µs between a caller's requests")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    rows = []
    with two_bundles(args) as bundles:
        with shortlist.load(bundles[0]) as engine:
            item_ids = engine.index.item_ids
        random = np.random.default_rng(4)
        histories = [
            random.choice(item_ids, HISTORY_LENGTH).astype(np.int64) for _ in range(N_REQUESTS)
        ]
        measures = {"c": measure_c, "engine": measure_engine}
        for way in args.ways:
            row = row_of(way, measures[way](args, bundles, histories), args.interval)
            rows.append(row)
            if args.json:
                continue
            print(f"{way}: {args.swaps} swaps, {1e3 * row['swap_s']:.0f} ms each")
            for during in ("steady", "swaps"):
                told = row[during]
                print(
                    f"  {during:<7} {told['n']:>9,} requests, ms: p50 {told['p50_ms']:.3f}, "
                    f"p99 {told['p99_ms']:.3f}, p99.9 {told['p99.9_ms']:.3f}"
                )
            before, after = row["resident_before"] / 1e6, row["resident_after"] / 1e6
            print(f"  p99 {row['p99_ratio']:.2f}×; resident {before:.1f} → {after:.1f} MB")
    print(
        json.dumps({"machine": describe_machine(), "rows": rows})
        if args.json
        else describe_machine()
    )


if __name__ == "__main__":
    main()
