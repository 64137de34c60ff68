"""Measure training on generated events: examples per second of an epoch, memory of a whole run.

    python benchmarks/train_speed.py speed --items 50000 --users 100000 --events 1000000
    python benchmarks/train_speed.py memory --items 1000000 --out build/bench

``speed`` times the steps of one epoch after another, batches and negatives included, as `Loop`
runs them; ``memory`` trains with validation, exports and answers a request, as `shortlist train`
does, and prints the peak of the process after each part beside the size of the item embeddings.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import polars as pl

from shortlist.training.config.sections import Config
from shortlist.training.config.settings import load_config
from shortlist.training.data.events import Dataset
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.fit import build_model, configured_split, train
from shortlist.training.fit.loop import Loop

GROUP = 100  # items that are seen together


def make_events(n_users: int, n_items: int, n_events: int, seed: int = 0) -> Dataset:
    """Let each user walk within a few groups of items; popular items are more so (a power law)."""
    rng = np.random.default_rng(seed)
    users = np.sort(rng.integers(0, n_users, n_events))
    groups = rng.integers(0, max(1, n_items // GROUP), (n_users, 3))
    group = groups[users, rng.integers(0, 3, n_events)]
    place = (rng.random(n_events) ** 2 * GROUP).astype(np.int64)
    events = pl.DataFrame(
        {
            "user_id": users,
            "item_id": np.minimum(group * GROUP + place, n_items - 1),
            "timestamp": 1_700_000_000 + np.arange(n_events),
            "kind": "event",
            "value": pl.Series([None], dtype=pl.Float32).new_from_index(0, n_events),
        }
    )
    # Every item has an event, so that the catalogue has the size that was asked for.
    last = pl.DataFrame({"item_id": np.arange(n_items), "user_id": np.arange(n_items) % n_users})
    last = last.with_columns(
        pl.lit(1_600_000_000, pl.Int64).alias("timestamp"),
        pl.lit("event").alias("kind"),
        pl.lit(None, pl.Float32).alias("value"),
    )
    return Dataset("generated", pl.concat([events, last.select(events.columns)]))


def settings(args: argparse.Namespace) -> Config:
    """Sampled softmax at the batch size asked for, and what --set says."""
    wanted: dict[str, object] = {
        "train.loss": "sampled",
        "train.batch_size": args.batch,
        "train.n_negatives": args.negatives,
        "train.epochs": args.epochs,
        "train.n_threads": args.threads,
        "model.dim": args.dim,
        "split.protocol": "leave-one-out",
    }
    return load_config(overrides=wanted | dict(pair.split("=", 1) for pair in args.set))


def peak_gib() -> float:
    """Give the peak memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def speed(args: argparse.Namespace, dataset: Dataset, config: Config) -> None:
    """Print examples per second of wall and CPU time, one line an epoch; the first compiles."""
    split = configured_split(dataset, config)
    features = FeatureSet.fit(dataset, split, config)
    loop = Loop(build_model(config, features, dataset, split), config, split, args.out)
    for epoch in range(args.epochs):
        started, used, n_examples, losses = time.perf_counter(), time.process_time(), 0, []
        for batch in loop.batches(epoch):
            losses.append(loop.step(batch, epoch=epoch))
            n_examples += batch.n_events
        loss = float(np.mean([float(loss) for loss in losses]))
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        print(
            f"epoch {epoch + 1}: {n_examples / seconds:,.0f} examples/s, "
            f"{cpu * 1e6 / n_examples:.1f} CPU s per million, loss {loss:.3f}",
            flush=True,
        )


def memory(args: argparse.Namespace, dataset: Dataset, config: Config) -> None:
    """Print the peak memory after training and after the export."""
    from shortlist.export.writer import export_bundle

    embeddings = args.items * args.dim * 4 / 2**30
    print(f"embeddings {embeddings:.2f} GiB; goal {embeddings * 3 + 2:.2f} GiB", flush=True)
    print(f"before: {peak_gib():.2f} GiB", flush=True)
    folder = args.out / "train_speed.run"
    shutil.rmtree(folder, ignore_errors=True)
    run = train(
        dataset,
        config,
        folder,
        progress=False,
        on_epoch=lambda _, row: print(f"{row}\nepoch: {peak_gib():.2f} GiB", flush=True),
    )
    print(f"trained: {peak_gib():.2f} GiB", flush=True)
    report = export_bundle(run, args.out / "train_speed.shortlist", store_users=False)
    print(f"exported: {peak_gib():.2f} GiB, bundle of {report.size / 2**30:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--negatives", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    dataset = make_events(args.users, args.items, args.events)
    (speed if args.what == "speed" else memory)(args, dataset, settings(args))


if __name__ == "__main__":
    main()
