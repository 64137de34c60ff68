"""A large catalogue in shards: answers equal to those of one index, memory, and what merging costs.

    python benchmarks/shards.py --folder /some/disk --n-items 10000000 --n-queries 10000
    python benchmarks/shards.py --merge

The first builds one index file and eight shards, answers the same queries from both, each in a
process of its own, and compares every id and score bit. The second times `merge` for one query.
The folder needs about 8 GB for ten million items of 64 numbers; all that is written is removed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import shortlist
from shortlist.shards import Shard, ShardedIndex, ShardPool, merge

CHUNK = 250_000


def write_vectors(path: Path, n_items: int, dim: int) -> None:
    """Write random vectors, in each chunk some that are equal to those of the chunk before."""
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (n_items, dim))
    before = np.zeros((0, dim), dtype=np.float32)
    for first in range(0, n_items, CHUNK):
        part = np.random.default_rng(first).normal(size=(min(CHUNK, n_items - first), dim))
        part[: len(before) // 100] = before[: len(before) // 100]
        vectors[first : first + len(part)] = before = part.astype(np.float32)
    vectors.flush()


def peak_mib() -> float:
    """Return the largest resident memory this process has had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def seconds() -> float:
    """Return the CPU time of this process."""
    return time.process_time()


def step(name: str, folder: Path, n_shards: int, n_queries: int, top_n: int) -> None:
    """Do one step in this process, and say what it took."""
    start = seconds()
    if name == "build":
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        ShardedIndex.build(folder / "items.shards", vectors, n_shards=n_shards)
    elif name == "one":
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        shortlist.Index(vectors).save(folder / "items.index")
    else:
        opened = open_index(name, folder)
        loaded = seconds()
        print(f"  {name}: opened in {loaded - start:.1f} s of CPU time", flush=True)
        queries = np.load(folder / "queries.npy")
        start = seconds()
        hits = opened.search(queries, top_n, n_threads=1)
        np.savez(folder / f"{name}.npz", *hits)
    print(f"  {name}: {seconds() - start:.1f} s of CPU time, peak {peak_mib():,.0f} MiB resident")


def open_index(name: str, folder: Path) -> shortlist.Index | ShardedIndex:
    """Open the whole index, or its shards."""
    if name == "search-one":
        return shortlist.Index.load(folder / "items.index")
    return ShardedIndex.load(folder / "items.shards")


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Run all steps, and compare the answers."""
    write_vectors(folder / "vectors.npy", args.n_items, args.dim)
    random = np.random.default_rng(1)
    queries = random.normal(size=(args.n_queries, args.dim)).astype(np.float32)
    queries[: args.n_queries // 2] = np.load(folder / "vectors.npy", mmap_mode="r")[
        random.integers(0, args.n_items, size=args.n_queries // 2)
    ]
    np.save(folder / "queries.npy", queries)
    print(f"{args.n_items:,} × {args.dim}, {args.n_shards} shards, {shortlist.simd_level()}")
    for name in ("build", "one", "search-one", "search-shards"):
        command = [sys.executable, __file__, "--folder", str(folder), "--step", name]
        for option in ("n_shards", "n_queries", "top_n"):
            command += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
        subprocess.run(command, check=True)
    one, shards = (np.load(folder / f"search-{name}.npz") for name in ("one", "shards"))
    for field in one.files:
        if one[field].tobytes() != shards[field].tobytes():
            sys.exit(f"the answers differ in {field}")
    print(f"  {args.n_queries:,} queries, top {args.top_n}: ids, rows, order and score bits equal")


def time_merge(n_shards: int, top_n: int) -> None:
    """Time merging one query's answers, and the ways to search a catalogue of 200k × 64.

    CPU time, but for the pool: there the time until the answer.
    """
    vectors = np.random.default_rng(0).normal(size=(200_000, 64)).astype(np.float32)
    query = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.shards"
        whole = shortlist.Index(vectors)
        sharded = ShardedIndex.split(path, whole, n_shards)
        shards = [Shard.load(path, number) for number in range(n_shards)]
        answers = [shard.search(query, top_n, n_threads=1) for shard in shards]
        with ShardPool(path, 2) as pool:
            cpu, wall = time.process_time, time.perf_counter
            for name, clock, call in (
                ("merge", cpu, lambda: merge(answers, top_n)),
                ("one index", cpu, lambda: whole.search(query, top_n, n_threads=1)),
                ("ShardedIndex", cpu, lambda: sharded.search(query, top_n, n_threads=1)),
                ("ShardPool, 2 processes", wall, lambda: pool.search(query, top_n)),
            ):
                times = []
                for _ in range(500):
                    start = clock()
                    call()
                    times.append(clock() - start)
                print(f"  {name:<24} {np.median(times) * 1e6:7.0f} µs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="on a disk with room; for what is written")
    parser.add_argument("--n-items", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--n-shards", type=int, default=8)
    parser.add_argument("--n-queries", type=int, default=10_000)
    parser.add_argument("--top-n", type=int, default=10)
    parser.add_argument("--merge", action="store_true", help="time merging instead")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.merge:
        time_merge(args.n_shards, args.top_n)
    elif args.step:
        step(args.step, args.folder, args.n_shards, args.n_queries, args.top_n)
    else:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            compare(Path(folder), args)


if __name__ == "__main__":
    main()
