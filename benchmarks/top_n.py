"""Exact top-N against every exact engine at hand: interleaved, answers checked before any time.

python benchmarks/top_n.py --out build/bench                  # two catalogues, minutes
python benchmarks/top_n.py --grid --out build/bench           # the whole grid, hours
python benchmarks/top_n.py --grid --budget 3600 --out build/bench   # an hour of it; again: goes on
python benchmarks/top_n.py --data shop.shortlist              # a bundle's own embeddings
python benchmarks/top_n.py --kind heavy_tails --metric dot    # a hard case

Every finished cell is written to top_n.json at once; a run with the same --out, machine, versions
and data measures only what is missing. How to read the figures: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import report
import vectors
from answers import Reference
from ceilings import Ceilings, last_level_cache_bytes
from kinds import KINDS
from peers import PACKAGES, PEERS, Engine, build, limited_threads, versions_of
from timing import take_turns, timed

from shortlist import _core
from shortlist.bench.machine import describe_machine

GRID = {
    "n_items": [10_000, 200_000, 1_000_000],
    "dims": [32, 64, 128, 256],
    "batches": [1, 8, 64, 512],
    "top_n": [10, 100],
}
KEYS = ("n_items", "dim", "n_threads", "top_n", "batch")
Result = dict[str, Any]


class Store:
    """The result so far; a file that an interrupted run can go on from."""

    def __init__(self, folder: Path | None, settings: Result, fresh: bool) -> None:
        self.path = folder / "top_n.json" if folder else None
        self.result: Result = settings | {
            "skipped": {},
            "ceilings": {},
            "results": [],
            "complete": False,
        }
        if self.path and self.path.exists() and not fresh:
            self._go_on(json.loads(self.path.read_text(encoding="utf-8")))

    def _go_on(self, old: Result) -> None:
        for name in ("data", "metric", "versions", "peers"):
            if old[name] != self.result[name]:
                raise SystemExit(
                    f"--out: {self.path} was measured with {name} {old[name]}, this run has "
                    f"{self.result[name]}; choose another folder, or --fresh to begin anew"
                )
        for name in ("cpu", "n_cpus", "simd_level"):
            if old["machine"][name] != self.result["machine"][name]:
                raise SystemExit(
                    f"--out: {self.path} was measured with {name} {old['machine'][name]}, this "
                    f"run has {self.result['machine'][name]}; choose another folder, or --fresh"
                )
        self.result = old | {"complete": False}

    def has(self, key: tuple[int, ...]) -> bool:
        return any(tuple(cell[name] for name in KEYS) == key for cell in self.result["results"])

    def add(self, cell: Result) -> None:
        self.result["results"].append(cell)
        self.write()

    def note_ceilings(self, n_threads: int, values: dict[str, float]) -> None:
        known = self.result["ceilings"].setdefault(str(n_threads), {}) if values else {}
        for name, value in values.items():
            known[name] = max(value, known.get(name, 0.0))

    def write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.result, indent=1), encoding="utf-8")
        part.replace(self.path)


def check(engines: dict[str, Engine], reference: Reference, queries: Any, top_n: int) -> Result:
    """Call every engine: its time if its answer is right, and what is wrong if not."""
    first, differs = {}, {}
    for name, engine in engines.items():
        call = partial(engine.search, queries, top_n)
        answer, spent = timed(call)
        wrong = reference.why_wrong(answer, len(queries), top_n)
        if wrong and name == report.OURS:
            raise SystemExit(f"shortlist: {wrong}; nothing is timed")
        if wrong:
            differs[name] = wrong
        else:  # a short first call may have woken threads or met cold memory
            first[name] = spent if spent[0] > 1 else timed(call)[1]
    return {"first": first, "differs": differs}


def measure(
    engines: dict[str, Engine], reference: Reference, queries: Any, top_n: int, seconds: float
) -> Result:
    checked = check(engines, reference, queries, top_n)
    calls: dict[str, Callable[[], Any]] = {
        name: partial(engines[name].search, queries, top_n) for name in checked["first"]
    }
    clocks = take_turns(calls, checked["first"], seconds)
    return {
        "median_ms": {name: clock.median_ms(0) for name, clock in clocks.items()},
        "cpu_ms": {name: clock.median_ms(1) for name, clock in clocks.items()},
        "n_calls": {name: clock.n_calls or 1 for name, clock in clocks.items()},
        "differs": checked["differs"],
        "load_average": round(os.getloadavg()[0], 2),
    }


Make = Callable[[], vectors.Vectors]


def catalogues(args: argparse.Namespace) -> tuple[str, Iterable[tuple[int, int, Make]]]:
    """Return the metric, and of each catalogue the sizes and a function that makes it."""
    n_queries = max(args.batches)
    if args.data:
        data = vectors.read(args.data, args.metric, n_queries)
        n_items, dim = data.items.shape

        def keep() -> vectors.Vectors:
            return data

        return data.metric, [(n_items, dim, keep)]
    metric = args.metric or "cosine"
    sizes = product(args.n_items, args.dims)
    return metric, ((*s, partial(vectors.made, args.kind, metric, *s, n_queries)) for s in sizes)


def run(
    args: argparse.Namespace,
    store: Store,
    ceilings: Ceilings,
    sources: Iterable[tuple[int, int, Make]],
) -> None:
    deadline = time.monotonic() + args.budget
    inner = list(product(args.threads, args.top_n, args.batches))
    for n_items, dim, make in sources:
        todo = [cell for cell in inner if not store.has((n_items, dim, *cell))]
        if not todo:
            continue
        if time.monotonic() >= deadline:
            return
        data = make()
        engines, skipped = build(data.items, data.metric, args.peers)
        store.result["skipped"] |= skipped
        reference = Reference(data.items, data.queries, max(args.top_n))
        for n_threads, top_n, batch in todo:
            if time.monotonic() >= deadline:
                return
            with limited_threads(engines, n_threads):
                queries = data.queries[:batch]
                cell = dict(zip(KEYS, (n_items, dim, n_threads, top_n, batch), strict=True))
                cell |= measure(engines, reference, queries, top_n, args.seconds)
            store.note_ceilings(n_threads, ceilings.update(n_threads))
            store.add(cell)
            print(report.table(store.result, args.clock)[-1], flush=True)
    store.result["complete"] = True


def thread_count(text: str) -> int:
    return len(os.sched_getaffinity(0)) if text == "all" else int(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-items", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[64])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--top-n", type=int, nargs="+", default=[10])
    parser.add_argument(
        "--threads", type=thread_count, nargs="+", default=[1], help='numbers, or "all"'
    )
    parser.add_argument("--grid", action="store_true", help=f"{GRID}, threads 1 and all")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--simd", choices=_core.simd_levels(), help="instruction set of shortlist")
    parser.add_argument("--data", type=Path, help="a bundle, an index file or an .npy matrix")
    parser.add_argument("--kind", choices=list(KINDS), default="gaussian", help="random numbers")
    parser.add_argument("--metric", choices=["cosine", "dot"], help="cosine: rows of length 1")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell, about")
    parser.add_argument(
        "--budget", type=float, default=float("inf"), help="seconds after which no cell begins"
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: leave out what a busy machine gave to others (tables only, one thread only)",
    )
    parser.add_argument("--out", type=Path, help="folder for top_n.json, top_n.md and top_n.png")
    parser.add_argument("--fresh", action="store_true", help="forget what --out holds")
    args = parser.parse_args()
    if args.grid:
        vars(args).update(GRID, threads=sorted({1, thread_count("all")}))
    return args


def main() -> None:
    args = parse()
    if args.simd:
        _core.set_simd_level(args.simd)
    ceilings = Ceilings()
    metric, sources = catalogues(args)
    settings = {
        "machine": describe_machine(),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "no_ceilings": ceilings.why_not,
        "versions": versions_of(PACKAGES),
        "data": args.data.name if args.data else args.kind,
        "metric": metric,
        "peers": args.peers,
    }
    store = Store(args.out, settings, args.fresh)
    try:
        run(args, store, ceilings, sources)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept", file=sys.stderr)
    store.write()
    lines = [*report.table(store.result, args.clock), ""]
    lines += report.notes(store.result, args.clock)
    print("\n" + "\n".join(lines))
    if args.out and store.result["results"]:
        (args.out / "top_n.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        report.plot(store.result, args.out / "top_n.png")


if __name__ == "__main__":
    main()
