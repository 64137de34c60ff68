"""Exact top-N against every exact engine at hand: interleaved, answers checked before any time.

python benchmarks/top_n.py --out build/bench            # two catalogues, a minute or two
python benchmarks/top_n.py --grid --out build/bench     # the whole grid, an hour
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np
from ceilings import Ceilings
from peers import BUILDERS, Search, build, limited_threads

from shortlist.bench.machine import describe_machine

PACKAGES = ["faiss-cpu", "scann", "numpy", "torch", "usearch", "implicit"]
GRID = {"n": [10_000, 200_000, 1_000_000], "dim": [32, 64, 128, 256], "top_n": [10, 100]}
# Rounds that would keep one cell busy longer than this are not started for a slow engine.
SLOW_FACTOR = 40


def unit_rows(n_rows: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n_rows, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def check(engines: dict[str, Search], items: np.ndarray, queries: np.ndarray, top_n: int) -> None:
    """Stop unless every engine's lists hold the best float64 scores, to 1e-6."""
    best = np.empty((len(queries), 0))
    for start in range(0, len(items), 50_000):  # in parts: never a float64 copy of a catalogue
        part = queries.astype(np.float64) @ items[start : start + 50_000].T.astype(np.float64)
        best = -np.sort(-np.hstack([best, part]), axis=1)[:, :top_n]
    for name, search in engines.items():
        rows = np.asarray(search(queries, top_n), dtype=np.int64)
        found = np.einsum("qnd,qd->qn", items[rows].astype(np.float64), queries.astype(np.float64))
        if not np.allclose(-np.sort(-found, axis=1), best, atol=1e-6):
            raise SystemExit(f"{name}: answers differ from float64; no time printed")


def timed(search: Search, queries: np.ndarray, top_n: int) -> float:
    start = time.perf_counter()
    search(queries, top_n)
    return (time.perf_counter() - start) * 1e3


def measure(
    engines: dict[str, Search], queries: np.ndarray, top_n: int, seconds: float
) -> dict[str, float]:
    """Median ms of each engine over interleaved rounds; very slow engines run once or twice."""
    times = {name: [timed(search, queries, top_n)] for name, search in engines.items()}
    fastest = min(values[0] for values in times.values())
    deadline = time.perf_counter() + seconds
    n_rounds = 0
    while n_rounds < 5 or time.perf_counter() < deadline:
        n_rounds += 1
        for name, search in engines.items():
            if times[name][0] > SLOW_FACTOR * fastest and len(times[name]) > n_rounds // 5:
                continue
            times[name].append(timed(search, queries, top_n))
    return {name: float(np.median(values)) for name, values in times.items()}


def run_cells(args: argparse.Namespace, ceilings: Ceilings) -> tuple[list[dict], dict[str, str]]:
    cells: list[dict] = []
    missing: dict[str, str] = {}
    for n_items, dim, n_threads in product(args.n, args.dim, args.threads):
        items = unit_rows(n_items, dim, seed=0)
        with limited_threads(n_threads):
            engines, missing = build(items, n_threads, args.engines)
            for top_n in args.top_n:
                check(engines, items, unit_rows(16, dim, seed=1), top_n)
                for batch in args.batch:
                    queries = unit_rows(batch, dim, seed=2)
                    median = measure(engines, queries, top_n, args.seconds)
                    cell = {"n_items": n_items, "dim": dim, "n_threads": n_threads}
                    cell |= {"top_n": top_n, "batch": batch, "median_ms": median}
                    cell["gmacs"] = n_items * dim * batch / median["shortlist"] / 1e6
                    cells.append(cell)
                    print(row_of(cell, list(median)), flush=True)
                    ceilings.update()
    return cells, missing


def row_of(cell: dict, names: list[str]) -> str:
    median = cell["median_ms"]
    ours = median["shortlist"]
    peers = {name: value for name, value in median.items() if name != "shortlist"}
    fastest = min(peers, key=peers.__getitem__) if peers else "shortlist"
    flat = f"{median['FAISS flat'] / ours:.1f}×" if "FAISS flat" in median else "–"
    where = [f"{cell['n_items']:,} × {cell['dim']}", cell["n_threads"], cell["top_n"]]
    times = [f"{median[name]:.3g}" if name in median else "–" for name in names]
    ratios = [flat, f"{median[fastest] / ours:.1f}× ({fastest})", f"{cell['gmacs']:.3g}"]
    return "| " + " | ".join(map(str, [*where, cell["batch"], *times, *ratios])) + " |"


def table_of(cells: list[dict], names: list[str]) -> list[str]:
    heads = ["items", "threads", "top-N", "batch", *(f"{name} ms" for name in names)]
    heads += ["vs FAISS flat", "vs fastest peer", "shortlist G MAC/s"]
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---:|" * len(heads),
        *(row_of(cell, names) for cell in cells),
    ]


def plot(cells: list[dict], path: Path) -> None:
    """One panel per catalogue of the first thread count and top-N: ms per query by batch size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    first = (cells[0]["n_threads"], cells[0]["top_n"])
    shown = [cell for cell in cells if (cell["n_threads"], cell["top_n"]) == first]
    shapes = list(dict.fromkeys((cell["n_items"], cell["dim"]) for cell in shown))
    figure, axes = pyplot.subplots(
        1, len(shapes), figsize=(4.2 * len(shapes), 3.8), squeeze=False, layout="constrained"
    )
    for axis, shape in zip(axes[0], shapes, strict=True):
        here = [cell for cell in shown if (cell["n_items"], cell["dim"]) == shape]
        batches = [cell["batch"] for cell in here]
        for name in here[0]["median_ms"]:
            times = [cell["median_ms"][name] / cell["batch"] for cell in here]
            axis.loglog(batches, times, marker="o", label=name, lw=3 if name == "shortlist" else 1)
        axis.set(title=f"{shape[0]:,} × {shape[1]}", xlabel="queries per call")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(f"ms per query, top-{first[1]}, {first[0]} thread(s)")
    axes[0][-1].legend(fontsize=7)
    figure.savefig(path, dpi=130)


def notes(machine: dict, ceilings: Ceilings, versions: dict, missing: dict) -> str:
    limits = ", ".join(f"{name} {value:.3g}" for name, value in ceilings.values.items())
    peers = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = (
        "Medians of interleaved rounds, answers checked against float64 first. "
        f"{machine['cpu']}, SIMD level {machine['simd_level']}, load average "
        f"{machine['load_average']} before the run. One core at best, measured in the same run: "
        f"{limits or 'not measured (' + ceilings.why_not + ')'}. Peers: {peers}."
    )
    return text + (f" Not installed: {', '.join(missing)}." if missing else "")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--dim", type=int, nargs="+", default=[64])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--top-n", type=int, nargs="+", default=[10])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--grid", action="store_true", help="all sizes, dims, top-N; 1 and all CPUs"
    )
    parser.add_argument("--engines", nargs="+", choices=list(BUILDERS), default=list(BUILDERS))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell")
    parser.add_argument("--out", type=Path, help="folder for top_n.json, top_n.md and top_n.png")
    args = parser.parse_args()
    if args.grid:
        vars(args).update(GRID, threads=sorted({1, len(os.sched_getaffinity(0))}))
    if "shortlist" not in args.engines:
        args.engines.insert(0, "shortlist")
    return args


def versions_of(packages: list[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    args = parse()
    machine, ceilings = describe_machine(), Ceilings()
    cells, missing = run_cells(args, ceilings)
    names = [name for name in args.engines if name not in missing]
    versions = versions_of(PACKAGES)
    lines = [*table_of(cells, names), "", notes(machine, ceilings, versions, missing)]
    print("\n" + "\n".join(lines))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine, "versions": versions, "ceilings": ceilings.values}
        result |= {"missing": missing, "results": cells}
        (args.out / "top_n.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
        (args.out / "top_n.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        plot(cells, args.out / "top_n.png")


if __name__ == "__main__":
    main()
