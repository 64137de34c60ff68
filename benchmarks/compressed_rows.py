"""Memory, speed and answers of an index whose vectors stay on disk, against one that has them all.

    python benchmarks/compressed_rows.py --n-items 1000000 --dim 128 --queries 100000

Every storage is loaded, memory-mapped, in a process of its own. What it counts as the item memory
is what the process holds more than before the load (Pss of /proc/self/smaps_rollup), after the
searches. All answers are compared first, items and score bits; one that differs ends the run.
Seconds are CPU seconds, those of the system included, of interleaved runs: medians, and the median
of the ratios of each round. Cold times are wall seconds after the file was dropped from the page
cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import shortlist

EXACT = ("float32", "disk8", "disk6", "disk4")
BATCHES = (1, 64)
TOP_N = 10


def rows(seed: int, n: int, dim: int) -> Any:
    """Return vectors of clusters: neighbours are neither all alike nor all random."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(256, dim))
    noise = random.normal(size=(n, dim))
    return (centres[random.integers(0, 256, n)] * 0.7 + noise).astype(np.float32)


def held() -> int:
    """Return the bytes of this process in memory, shared pages in proportion."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/smaps_rollup: expected a line Pss")


def drop(path: Path) -> None:
    """Let the page cache forget a file; what is mapped and held by a process stays."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cpu_seconds() -> float:
    """Return the seconds of the CPU, those of the system's reads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(path: Path, queries_path: Path) -> None:
    """Load one index and do what the lines of standard input say, until there are no more."""
    queries = np.load(queries_path)
    np.asarray(queries[:1]).sum()
    before = held()
    index = shortlist.Index.load(path)
    answer: dict[str, Any] = {"loaded": held() - before, "memory": index.memory().to_dict()}
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        first, n, batch = asked["first"], asked["n"], asked["batch"]
        before_disk = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        cpu, wall = cpu_seconds(), time.perf_counter()
        digest = hashlib.sha256()
        for start in range(first, first + n, batch):
            hits = index.search(queries[start : start + batch], top_n=TOP_N, n_threads=1)
            if asked["hash"]:
                digest.update(hits.indices.tobytes() + hits.scores.tobytes())
        seconds = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}
        after = resource.getrusage(resource.RUSAGE_SELF)
        print(
            json.dumps(
                {
                    **seconds,
                    "digest": digest.hexdigest(),
                    "held": held() - before,
                    "blocks": (after.ru_inblock - before_disk) / 8,  # of 512 bytes; pages
                }
            ),
            flush=True,
        )


class Served:
    """One index in a process of its own."""

    def __init__(self, path: Path, queries: Path) -> None:
        self.path = path
        command = [sys.executable, __file__, "--serve", str(path), str(queries)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.loaded = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def ask(self, first: int, n: int, batch: int, *, hashed: bool = False) -> dict[str, Any]:
        assert self.process.stdin is not None
        told = {"first": first, "n": n, "batch": batch, "hash": hashed}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def build(folder: Path, n_items: int, dim: int, metric: Any) -> None:
    plain = folder / "float32"
    if plain.exists():
        index = shortlist.Index.load(plain)
    else:
        index = shortlist.Index(rows(1, n_items, dim), metric=metric)
    for storage in (*EXACT, "int8", "int4"):
        if (folder / storage).exists():
            continue
        made = index if storage == "float32" else index.with_storage(storage)
        made.save(folder / storage)
        told = "" if made.recall is None else f", recall {made.recall:.3f}"
        print(f"{storage}: {(folder / storage).stat().st_size / n_items:.0f} bytes/item{told}")


def compare(served: dict[str, Served], n_queries: int) -> None:
    """End the run unless every storage gives every list of float32."""
    step = 10_000
    for first in range(0, n_queries, step):
        n = min(step, n_queries - first)
        digests = {s: at.ask(first, n, 64, hashed=True)["digest"] for s, at in served.items()}
        if len(set(digests.values())) > 1:
            sys.exit(f"queries {first} to {first + n}: lists differ: {digests}")
    print(f"0 of {n_queries:,} lists differ, items and score bits")


def measure(served: dict[str, Served], n_items: int, repeats: int) -> None:
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for batch in BATCHES:
            for storage, at in served.items():
                n = batch * max(1, 256 // batch // 2)
                found = at.ask(0, n, batch)["cpu"] / n
                seconds.setdefault((storage, batch), []).append(found)
    held_now = {storage: at.ask(0, 64, 64)["held"] for storage, at in served.items()}
    print("storage   loaded  held: bytes/item (ratio)   ms/query at batch 1, 64 (throughput ratio)")
    for storage, at in served.items():
        loaded = at.loaded["loaded"] / n_items
        now = held_now[storage] / n_items
        base = held_now["float32"] / n_items
        speeds = []
        for batch in BATCHES:
            own, whole = np.array(seconds[storage, batch]), np.array(seconds["float32", batch])
            speeds.append(f"{np.median(own) * 1e3:8.3f} ({np.median(whole / own):.2f})")
        print(f"{storage:8} {loaded:7.0f} {now:7.0f} ({now / base:.3f})   {' '.join(speeds)}")


def measure_cold(folder: Path, queries: Path) -> None:
    for storage in EXACT[1:]:
        at = Served(folder / storage, queries)
        at.ask(0, 64, 64)
        for batch in BATCHES:
            drop(folder / storage)
            cold, warm = (at.ask(256, batch, batch) for _ in range(2))
            print(
                f"{storage}, batch {batch}, cold: {cold['wall'] / batch * 1e3:.2f} ms/query, "
                f"{cold['blocks'] / batch:.0f} pages read a query; "
                f"then {warm['wall'] / batch * 1e3:.2f} ms"
            )
        at.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--metric", default="cosine")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the indexes here, and use those there")
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        queries = folder / "queries.npy"
        build(folder, args.n_items, args.dim, args.metric)
        np.save(queries, rows(2, max(1024, args.queries), args.dim))
        measure_cold(folder, queries)
        served = {storage: Served(folder / storage, queries) for storage in EXACT}
        print(f"load average {os.getloadavg()[0]:.1f}, {shortlist.simd_level()}")
        compare(served, args.queries)
        measure(served, args.n_items, args.repeats)
        for at in served.values():
            at.close()


if __name__ == "__main__":
    main()
