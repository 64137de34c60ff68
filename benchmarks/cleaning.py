"""Measure `clean_file` on generated events: events per second, CPU time, peak memory.

    python benchmarks/cleaning.py --events 50000000 --out build/bench

The events have text ids (a million users, 200,000 items) and 1 % exact repeats; the time is end to
end, from a Parquet file on disk to a Parquet file on disk.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl

from shortlist.training.cleaning.clean import clean_file
from shortlist.training.config.sections import CleaningConfig

CHUNK = 2_000_000


def write_events(folder: Path, n_events: int) -> list[Path]:
    """Write the events in files of a chunk each, so that this needs little memory too."""
    rng = np.random.default_rng(0)
    paths = []
    for start in range(0, n_events, CHUNK):
        n = min(CHUNK, n_events - start)
        users = (rng.random(n) ** 2 * 1_000_000).astype(np.int64)
        items = (rng.random(n) ** 3 * 200_000).astype(np.int64)
        events = pl.DataFrame(
            {
                "user_id": pl.select(pl.format("u{}", pl.Series(users))).to_series(),
                "item_id": pl.select(pl.format("sku-{}", pl.Series(items))).to_series(),
                "timestamp": 1_700_000_000 + rng.integers(0, 50_000_000, n),
                "kind": pl.Series(["view", "click", "purchase"]).gather(rng.integers(0, 3, n)),
                "value": rng.integers(1, 6, n).astype(np.float32),
            }
        )
        repeated = events.head(n // 100)
        events = pl.concat([events.head(n - len(repeated)), repeated])
        paths.append(folder / f"events-{start // CHUNK:03d}.parquet")
        events.write_parquet(paths[-1])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--k-core", action="store_true", help="with the k-core of 5 events as well")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    source = args.out / "events.parquet"
    parts = write_events(args.out, args.events)
    pl.scan_parquet(parts).sink_parquet(source)
    for part in parts:
        part.unlink()
    started, used = time.perf_counter(), time.process_time()
    report = clean_file(source, args.out / "clean.parquet", CleaningConfig(k_core=args.k_core))
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    repeats = next(rule.n_dropped for rule in report.rules if rule.rule == "duplicates")
    if repeats != sum(min(CHUNK, args.events - s) // 100 for s in range(0, args.events, CHUNK)):
        raise SystemExit(f"wrong result: {repeats:,} repeats found")
    print(report)
    print(f"{args.events:,} events in {seconds:.1f} s: {args.events / seconds / 1e6:.2f} M/s, ")
    print(f"{cpu:.1f} s of CPU, peak memory {peak:.2f} GiB (of generating and cleaning)")


if __name__ == "__main__":
    main()
