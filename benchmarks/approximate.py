"""Where does approximate search begin to pay? Exact Shortlist beside approximate engines.

python benchmarks/approximate.py --out build/approximate     # three sizes; minutes
python benchmarks/approximate.py --data shop.shortlist       # a bundle's own embeddings
python benchmarks/approximate.py --engines "FAISS IVF" ScaNN --n-items 1000000 --dim 128

One thread searches. An engine's breadth is the smallest that reaches the recall with 200 queries
set aside; the table shows the recall of the queries that are timed. Every call has other queries,
so that no engine finds its last answer in the cache. Catalogues in --out are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import approximate_plot
import numpy as np
import vectors
from answers import Reference
from approximate_engines import ENGINES, PACKAGES, ApproximateEngine
from kinds import KINDS
from numpy.typing import NDArray
from peers import ShortlistCosine, limited_threads, versions_of
from timing import take_turns, timed

from shortlist.bench.machine import describe_machine

Rows = NDArray[np.float32]
OURS = "shortlist"
N_TUNING, N_TIMED, TOP_N = 200, 1024, 10


class Ring:
    """A call with the next queries each time, and the first again after the last."""

    def __init__(self, search: Callable[[Rows], Any], queries: Rows, batch: int) -> None:
        self.search, self.batch = search, batch
        self.queries = queries[: len(queries) // batch * batch]
        self.at = 0

    def __call__(self) -> Any:
        part = self.queries[self.at : self.at + self.batch]
        self.at = (self.at + self.batch) % len(self.queries)
        return self.search(part)


def recall(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the mean share of the true top-N among the items found."""
    hits = [len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True)]
    return float(np.mean(hits)) / truth.shape[1]


def narrowest(
    engine: ApproximateEngine, queries: Rows, truth: NDArray[Any], target: float
) -> int | None:
    """Return the smallest breadth that reaches the target, or None."""
    for breadth in engine.breadths:
        engine.set_breadth(breadth)
        if recall(engine.search(queries, TOP_N), truth) >= target:
            return breadth
    return None


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def build(name: str, items: Rows, n_threads: int) -> tuple[ApproximateEngine, dict[str, float]]:
    before, start = resident_bytes(), time.perf_counter()
    engine = ENGINES[name](items, n_threads)
    spent = time.perf_counter() - start
    return engine, {"build_s": spent, "resident_mb": (resident_bytes() - before) / 1e6}


def measure(data: vectors.Vectors, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one catalogue: what engines took to build, a breadth for each recall, and times."""
    tuning, timed_queries = data.queries[:N_TUNING], data.queries[N_TUNING:]
    exact = ShortlistCosine(data.items)
    wrong = Reference(data.items, timed_queries, TOP_N).why_wrong(
        exact.search(timed_queries, TOP_N), len(timed_queries), TOP_N
    )
    if wrong:
        raise SystemExit(f"shortlist: {wrong}; nothing is timed")
    truths = exact.search(tuning, TOP_N), exact.search(timed_queries, TOP_N)
    searches: dict[str, Callable[[Rows], Any]] = {OURS: partial(exact.search, top_n=TOP_N)}
    built, chosen = {}, []
    for name in args.engines:
        try:
            engine, built[name] = build(name, data.items, args.build_threads)
        except (ImportError, RuntimeError, ValueError) as error:
            print(f"skipped: {name} ({error})", flush=True)
            continue
        print(f"{name}: built in {built[name]['build_s']:.0f} s", flush=True)
        for target in args.recall:
            breadth = narrowest(engine, tuning, truths[0], target)
            row = {"engine": name, "target": target, "breadth": breadth, "recall": None}
            if breadth is not None:
                engine.set_breadth(breadth)
                row["recall"] = recall(engine.search(timed_queries, TOP_N), truths[1])

                def search(part: Rows, engine: Any = engine, breadth: int = breadth) -> Any:
                    engine.set_breadth(breadth)
                    return engine.search(part, TOP_N)

                searches[f"{name} at {target}"] = search
            chosen.append(row)
    times = {}
    for batch in args.batches:
        calls = {name: Ring(search, timed_queries, batch) for name, search in searches.items()}
        first = {name: timed(call)[1] for name, call in calls.items()}
        clocks = take_turns(calls, first, args.seconds)
        times[str(batch)] = {
            name: clock.median_ms(args.clock == "cpu") for name, clock in clocks.items()
        }
    return {"n_items": len(data.items), "built": built, "chosen": chosen, "ms": times}


def table(result: dict[str, Any]) -> list[str]:
    """Return the rows of a Markdown table: times of others divided by Shortlist's."""
    batches = [str(batch) for batch in result["batches"]]
    heads = ["items", "engine", "recall@10", "built in", "memory"]
    lines = [heads + [f"batch {batch}" for batch in batches]]
    lines.append(["---:", "---", *["---:"] * (len(lines[0]) - 2)])
    for catalogue in result["catalogues"]:
        size = f"{catalogue['n_items']:,} × {result['dim']}"
        ours = {batch: catalogue["ms"][batch][OURS] for batch in batches}
        lines.append([size, OURS, "1", "", "", *(f"{ours[batch]:.3g} ms" for batch in batches)])
        for row in catalogue["chosen"]:
            cost = catalogue["built"][row["engine"]]
            cells = [size, row["engine"]]
            if row["recall"] is None:
                cells.append(f"{row['target']} not reached")
            else:
                cells.append(f"{row['recall']:.3f}")
            cells += [f"{cost['build_s']:.0f} s", f"{cost['resident_mb']:.0f} MB"]
            key = f"{row['engine']} at {row['target']}"
            for batch in batches:
                spent = catalogue["ms"][batch].get(key)
                cells.append("–" if spent is None else f"{spent / ours[batch]:.2g}×")
            lines.append(cells)
    return ["| " + " | ".join(line) + " |" for line in lines]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-items", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--recall", type=float, nargs="+", default=[0.95, 0.99])
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--kind", choices=list(KINDS), default="decaying", help="random numbers")
    parser.add_argument("--data", type=Path, help="a bundle, an index file or an .npy matrix")
    parser.add_argument("--build-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=5.0, help="for each batch, about")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, help="folder for approximate.json, .md and .png")
    args = parser.parse_args()
    if max(args.batches) > N_TIMED:
        parser.error(f"--batches: got {max(args.batches)}; expected at most {N_TIMED}")
    return args


def settings_of(args: argparse.Namespace, dim: int) -> dict[str, Any]:
    machine = describe_machine()
    return {
        "cpu": machine["cpu"],
        "simd_level": machine["simd_level"],
        "versions": versions_of(PACKAGES),
        "data": args.data.name if args.data else args.kind,
        "dim": dim,
        "batches": args.batches,
        "recall": args.recall,
        "clock": args.clock,
    }


def read(path: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the catalogues that --out has; exits if they were measured with other settings."""
    if path is None or not path.exists():
        return []
    old = json.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if old[name] != value:
            raise SystemExit(
                f"--out: {path} was measured with {name} {old[name]}, this run has {value}; "
                "choose another folder"
            )
    catalogues: list[dict[str, Any]] = old["catalogues"]
    return catalogues


def main() -> None:
    args = parse()
    n_queries = N_TUNING + N_TIMED
    data = vectors.read(args.data, "cosine", n_queries) if args.data else None
    sizes = [len(data.items)] if data else args.n_items
    settings = settings_of(args, data.items.shape[1] if data else args.dim)
    path = args.out / "approximate.json" if args.out else None
    catalogues = read(path, settings)
    for n_items in sizes:
        if any(catalogue["n_items"] == n_items for catalogue in catalogues):
            continue
        made = data or vectors.made(args.kind, "cosine", n_items, args.dim, n_queries)
        with limited_threads({}, args.build_threads):
            catalogue = measure(made, args)
        catalogues = sorted([*catalogues, catalogue], key=lambda each: each["n_items"])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings | {"catalogues": catalogues}, indent=1), "utf-8")
    result = settings | {"catalogues": catalogues}
    lines = table(result)
    print("\n" + "\n".join(lines))
    if path is not None:
        path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        approximate_plot.plot(result, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
