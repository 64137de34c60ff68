"""Exact top-N against FAISS IndexFlatIP and NumPy, one thread, interleaved; answers checked first.

python benchmarks/top_n.py --out build/bench
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

import shortlist
from shortlist.bench.machine import describe_machine

Search = Callable[[np.ndarray, int], np.ndarray]


def unit_rows(n_rows: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def numpy_search(items: np.ndarray) -> Search:
    def search(queries: np.ndarray, top_n: int) -> np.ndarray:
        scores = queries @ items.T
        best = np.argpartition(-scores, top_n, axis=1)[:, :top_n]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return search


def build_engines(items: np.ndarray) -> dict[str, Search]:
    index = shortlist.Index(items)
    flat = faiss.IndexFlatIP(items.shape[1])
    flat.add(items)
    return {
        "shortlist": lambda queries, n: index.search(queries, n, n_threads=1).indices,
        "FAISS IndexFlatIP": lambda queries, n: flat.search(queries, n)[1],
        "NumPy": numpy_search(items),
    }


def check(engines: dict[str, Search], items: np.ndarray, queries: np.ndarray, top_n: int) -> None:
    """Every engine's lists must hold the float64 best scores, to 1e-6."""
    scores = queries.astype(np.float64) @ items.T.astype(np.float64)
    best = -np.sort(-scores, axis=1)[:, :top_n]
    for name, search in engines.items():
        found = np.take_along_axis(scores, search(queries, top_n), axis=1)
        if not np.allclose(found, best, atol=1e-6):
            raise SystemExit(f"{name}: answers differ from float64; no time printed")


def measure(
    engines: dict[str, Search], queries: np.ndarray, top_n: int, seconds: float
) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    deadline = time.perf_counter() + seconds * len(engines)
    while len(times["shortlist"]) < 5 or time.perf_counter() < deadline:
        for name, search in engines.items():
            start = time.perf_counter()
            search(queries, top_n)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--top-n", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each engine and cell")
    parser.add_argument("--out", type=Path, help="folder for top_n.json and top_n.md")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    machine, rows = describe_machine(), []
    lines = ["| items | batch | shortlist ms | FAISS flat ms | NumPy ms | vs FAISS | vs best |",
             "|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    with threadpool_limits(1):
        for n_items in args.n:
            items = unit_rows(n_items, args.dim, seed=0)
            engines = build_engines(items)
            check(engines, items, unit_rows(32, args.dim, seed=1), args.top_n)
            for batch in args.batch:
                queries = unit_rows(batch, args.dim, seed=2)
                median = measure(engines, queries, args.top_n, args.seconds)
                ours, *peers = median.values()
                rows.append({"n_items": n_items, "batch": batch, "median_ms": median})
                lines.append(
                    f"| {n_items:,} × {args.dim} | {batch} | "
                    + " | ".join(f"{value:.3g}" for value in median.values())
                    + f" | {peers[0] / ours:.1f}× | {min(peers) / ours:.1f}× |"
                )
    lines.append(f"\nOne thread, top-{args.top_n}, medians of interleaved rounds, answers checked "
                 f"against float64. {machine['cpu']}, SIMD level {machine['simd_level']}, FAISS "
                 f"{faiss.__version__}, load average {machine['load_average']}.")  # fmt: skip
    print("\n".join(lines))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine, "faiss": faiss.__version__, "results": rows}
        (args.out / "top_n.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
        (args.out / "top_n.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
