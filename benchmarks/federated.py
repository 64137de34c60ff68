"""What a federation costs: seconds, bytes and memory, and whether its bundle is the central one.

    python benchmarks/federated.py movielens-1m --parties 5 --encoder cooccurrence
    python benchmarks/federated.py movielens-1m --parties 50 --encoder cooccurrence

The users are dealt out to parties of unequal sizes. The parties join one after another, each in
this process; the coordinator is a process of its own, whose memory is measured. At the end the
files of the bundle are compared with those of `shortlist train --no-users` on all events.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from shortlist.training.data.datasets import load_dataset
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.keys import make_key
from shortlist.training.pipeline.federation import join_federation, plan_federation

COLLECT = """
import json, resource, sys, time
from pathlib import Path
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.keys import load_key
from shortlist.training.federated.sums import total_of
from shortlist.training.pipeline import federation
marks = {}
def marked(*arguments):
    start = time.process_time()
    total = total_of(*arguments)
    marks["sum_seconds"] = time.process_time() - start
    marks["sum_peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return total
federation.total_of = marked
folder = Path(sys.argv[1])
exchange, key = FolderExchange(folder / "exchange"), load_key(folder / "head.key")
federation.collect_federation(exchange, key, folder / "out.shortlist")
marks["seconds"] = time.process_time()
marks["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(marks))
"""


def dealt(events, n_parties, seed=0):
    """Deal the users out to parties whose sizes are of a few orders of magnitude."""
    random = np.random.default_rng(seed)
    users = events["user_id"].unique().sort()
    shares = random.exponential(size=n_parties) + 0.02
    owner = random.choice(n_parties, len(users), p=shares / shares.sum())
    for party in range(n_parties):
        own = users.filter(pl.Series(owner == party))
        yield events.filter(pl.col("user_id").is_in(own.implode()))


def hashes(names):
    return {
        name: hashlib.sha256(data).hexdigest() for name, data in names if "manifest" not in name
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", default="movielens-1m")
    parser.add_argument("--parties", type=int, default=5)
    parser.add_argument("--encoder", default="cooccurrence")
    args = parser.parse_args()
    dataset = load_dataset(args.data)
    settings = {"model.encoder": args.encoder, "model.history_length": 100}
    items = (
        dataset.items if dataset.items is not None else dataset.events.select("item_id").unique()
    )
    items = items.select("item_id").sort("item_id")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = [make_key(folder / f"p{i}.key", f"p{i:02}") for i in range(args.parties)]
        head = make_key(folder / "head.key", "head")
        exchange = FolderExchange(folder / "exchange", is_new=True)
        plan_federation(exchange, head, [k.party for k in keys], items, overrides=settings)
        seconds, sizes = [], []
        for key, events in zip(keys, dealt(dataset.events, args.parties), strict=True):
            started = time.process_time()
            answers = Answers(folder / "answers")
            join_federation(exchange, key, answers, events=events, progress=False)
            seconds.append(time.process_time() - started)
            sizes.append(events["user_id"].n_unique())
            for kept in (folder / "answers").iterdir():
                kept.unlink()
        message = (exchange.folder / "0001.sums.p00").stat().st_size
        done = subprocess.run(
            [sys.executable, "-c", COLLECT, name], stdout=subprocess.PIPE, text=True, check=True
        )
        marks = json.loads(done.stdout.splitlines()[-1])
        with zipfile.ZipFile(next(exchange.folder.glob("*.bundle-*"))) as bundle:
            found = hashes((entry, bundle.read(entry)) for entry in bundle.namelist())
        dataset.events.write_parquet(folder / "events.parquet")
        items.write_parquet(folder / "items.parquet")
        flags = [f"--set={key}={value}" for key, value in settings.items()]
        subprocess.run(
            [sys.executable, "-m", "shortlist.cli", "train", f"--data={folder / 'events.parquet'}",
             f"--items={folder / 'items.parquet'}", "--no-users", "--quiet", *flags,
             f"--out={folder / 'central.shortlist'}"],
            stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        central = folder / "central.shortlist"
        alone = hashes((path.name, path.read_bytes()) for path in central.iterdir())
    assert found == alone, {name for name in found | alone if found.get(name) != alone.get(name)}
    print(
        f"{args.data}, {args.encoder}, {args.parties} parties of {min(sizes)} to {max(sizes)} users"
    )
    print(f"  message of a party        {message / 2**20:8.1f} MiB")
    print(f"  CPU time of a party       {np.median(seconds):8.1f} s, at most {max(seconds):.1f} s")
    print(f"  CPU time to add up        {marks['sum_seconds']:8.1f} s")
    print(f"  CPU time of coordinator   {marks['seconds']:8.1f} s, with training and export")
    print(f"  memory after adding up    {marks['sum_peak'] / 2**30:8.2f} GiB")
    print(f"  memory of coordinator     {marks['peak'] / 2**30:8.2f} GiB, with training and export")
    print(f"  memory of a party         {_peak():8.2f} GiB")
    print(f"  all {len(found)} files equal those of the central training (but manifest.json)")


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
