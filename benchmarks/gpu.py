"""One bundle on the CPU and on a GPU: encoder alone, engine with each way to find the items.

    python benchmarks/gpu.py --bundle movies.shortlist                     # needs shortlist[gpu]
    python benchmarks/gpu.py --bundle movies.shortlist --device tensorrt
    python benchmarks/gpu.py --bundle movies.shortlist --device cpu        # tries the script

  encoder    `Engine.encode_users`
  index      `Engine.recommend`, embeddings copied to the index on the CPU
  graph      the same with search="graph": the portable graph on the device
  fixed      index, with shapes that do not change for this batch size
  auto       what the calibration at load chose
Scores are compared with the CPU's first. Ways take turns; medians and 99th percentiles in µs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import shortlist
from shortlist.bench.machine import describe_machine
from shortlist.export.host_graphs import PORTABLE_GRAPH

TOP_N, HISTORY_LENGTH, TOLERANCE = 10, 50, 1e-2  # GPUs may use TF32
Call = Callable[[], Any]


def make_requests(engine: shortlist.Engine, n: int) -> dict[str, Any]:
    ids = engine.index.item_ids
    random = np.random.default_rng(n)
    length = min(HISTORY_LENGTH, len(ids) // 2)
    return {"history": [ids[random.integers(0, len(ids), length)] for _ in range(n)]}


def open_engines(
    bundle: Path, device: Any, batches: list[int], stack: ExitStack
) -> dict[str, shortlist.Engine]:
    """An engine for each way, by name; "cpu" is what the others are compared with."""
    options: dict[str, dict[str, Any]] = {
        "cpu": {"device": "cpu"},
        "index": {"device": device, "search": "index"},
        "fixed": {"device": device, "search": "index", "fixed_batches": batches},
        "auto": {"device": device},
    }
    with shortlist.Bundle.open(bundle, verify=False) as opened:
        if opened.has(PORTABLE_GRAPH):
            options["graph"] = {"device": device, "search": "graph"}
    return {
        name: stack.enter_context(shortlist.load(bundle, **chosen))
        for name, chosen in options.items()
    }


def check(engines: dict[str, shortlist.Engine], requests: dict[str, Any]) -> None:
    expected = engines["cpu"].recommend(requests, TOP_N).scores
    for name, engine in engines.items():
        found = engine.recommend(requests, TOP_N).scores
        largest = float(np.abs(np.where(np.isfinite(expected), found - expected, 0)).max())
        if not largest <= TOLERANCE * max(
            1.0, float(np.abs(expected[np.isfinite(expected)]).max())
        ):
            raise SystemExit(f"{name}: scores differ from the CPU's by {largest}")


def measure(calls: dict[str, Call], seconds: float) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    stop, turn = time.perf_counter() + seconds, 0
    while turn < 20 or time.perf_counter() < stop:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        turn += 1
    return {
        name: {
            "p50_us": float(np.median(told)) * 1e6,
            "p99_us": float(np.percentile(told, 99)) * 1e6,
        }
        for name, told in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=["cuda", "tensorrt", "cpu"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256, 1024])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each batch size")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": describe_machine(), "device": args.device, "cells": []}
    with ExitStack() as stack:
        try:
            engines = open_engines(args.bundle, args.device, args.batches, stack)
        except shortlist.ShortlistError as error:
            raise SystemExit(f"gpu.py: {error}") from error
        for size in args.batches:
            requests = make_requests(engines["cpu"], size)
            check(engines, requests)
            calls: dict[str, Call] = {}
            for name, engine in engines.items():
                calls[name] = lambda e=engine: e.recommend(requests, TOP_N)  # noqa: B023
                if name in ("cpu", "index"):
                    calls[f"{name} encoder"] = lambda e=engine: e.encode_users(requests)  # noqa: B023
            times = measure(calls, args.seconds)
            result["cells"].append({"batch": size, "times": times})
            for name, told in times.items() if not args.json else ():
                print(
                    f"batch {size:>4}  {name:<13} p50 {told['p50_us']:>10.1f} µs  "
                    f"p99 {told['p99_us']:>10.1f} µs"
                )
        keys = ("providers", "nodes", "graph_search", "fixed_batches")
        result["reports"] = {
            name: {key: engine.report()[key] for key in keys} for name, engine in engines.items()
        }
    print(json.dumps(result) if args.json else json.dumps(result["reports"], indent=1))


if __name__ == "__main__":
    main()
