r"""What a federation costs: seconds, bytes and memory, and whether its bundle is the central one.

    python benchmarks/federated.py movielens-1m --parties 5 --encoder cooccurrence
    python benchmarks/federated.py movielens-1m --parties 50 --encoder cooccurrence
    python benchmarks/federated.py movielens-1m --parties 10 --encoder pool --set federated.rounds=8
    python benchmarks/federated.py movielens-1m --parties 10 \
        --set privacy.epsilon=8 privacy.delta=1e-5

The users are dealt out to parties of unequal sizes. The parties join one after another, each in
this process; the coordinator is a process of its own, whose memory is measured. At the end the
files of the bundle are compared with those of `shortlist train --no-users` on all events.

Encoders train in rounds, and with ``privacy.epsilon`` there is noise. Such a bundle is compared by
NDCG@10 on the held-out events of all users with a central training of the same settings
(``--epochs``), and with what each party has alone.
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
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

import shortlist
from shortlist.cli._common import parse_overrides
from shortlist.training import train
from shortlist.training.config.sections import ENCODERS
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.events import Dataset, read_events
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.keys import load_key, make_key
from shortlist.training.models.item_item import RecencyItemKNN
from shortlist.training.pipeline.federation import (
    collect_federation,
    join_federation,
    plan_federation,
)
from shortlist.training.splits.split import leave_one_out

COLLECT = """
import json, sys, time
from pathlib import Path
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.keys import load_key
from shortlist.training.federated.sums import total_of
from shortlist.training.pipeline import federation
marks = {}
def peak():  # of this program: ru_maxrss begins with that of the process which started it
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
def marked(*arguments):
    start = time.process_time()
    total = total_of(*arguments)
    marks["sum_seconds"] = time.process_time() - start
    marks["sum_peak"] = peak()
    return total
federation.total_of = marked
folder = Path(sys.argv[1])
exchange, key = FolderExchange(folder / "exchange"), load_key(folder / "head.key")
federation.collect_federation(exchange, key, folder / "out.shortlist")
marks["seconds"] = time.process_time()
marks["peak"] = peak()
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


class Wire(FolderExchange):
    """Counts what a party reads and writes, as over a network."""

    n_read, n_written = 0, 0

    def open(self, name):
        self.n_read += (self.folder / name).stat().st_size
        return super().open(name)

    def write(self, name, content):
        self.n_written += len(content)
        super().write(name, content)


def measured(bundle, dataset):
    """NDCG@10 of a bundle on the held-out events of a data set."""
    split = leave_one_out(dataset)
    with shortlist.load(bundle, device="cpu") as engine:
        return evaluate_users(EngineRanker(engine, split), split).per_user()["NDCG@10"].mean()


def by_ranking(args, dataset, items, settings, folder, keys, exchange):
    """Run a federation of an encoder or with noise, and the trainings it is compared with."""
    head = load_key(folder / "head.key")
    parts = list(dealt(dataset.events, args.parties))
    sizes = [events["user_id"].n_unique() for events in parts]
    print(
        f"{args.data}, {args.encoder}, {args.parties} parties of {min(sizes)} to {max(sizes)} users"
    )
    wires = [Wire(exchange.folder) for _ in keys]
    seconds, started = [], time.process_time()
    done = None
    while done is None or done.is_published is None:
        for key, events, wire in zip(keys, parts, wires, strict=True):
            before = time.process_time()
            answers = Answers(folder / f"{key.name}.answers")
            join_federation(wire, key, answers, events=events, progress=False)
            seconds.append(time.process_time() - before)
        done = collect_federation(exchange, head, folder / "out.shortlist")
        print(f"  {str(done).splitlines()[0]}", flush=True)
    print("\n".join(f"  {line}" for line in str(done).splitlines()[1:-1]))
    out = folder / "party.shortlist"
    join_federation(wires[0], keys[0], Answers(folder / "p00.answers"), out=out, progress=False)
    sent, read = wires[0].n_written, wires[0].n_read
    print(f"  traffic of a party        {(sent + read) / 1e6:8.1f} MB, {sent / 1e6:.1f} sent")
    print(f"  CPU time of a party       {sum(seconds) / len(keys):8.1f} s in all")
    print(f"  CPU time of everything    {time.process_time() - started:8.1f} s")
    name = next(exchange.folder.glob("*.bundle-*"))
    whole = replace(dataset, items=items, users=None)
    together = measured(name, whole)
    print(f"  NDCG@10 together          {together:8.4f}", flush=True)
    alike = {k: v for k, v in settings.items() if not k.startswith("federated.")}
    alike |= {"export.store_users": False}
    if args.encoder in ENCODERS:
        alike = {"train.item_init": "cooccurrence"} | alike | {"train.epochs": args.epochs}
    out = folder / "central.shortlist"
    train(dataset.events, items, out=out, settings=alike, progress=False)
    central = measured(out, whole)
    print(f"  NDCG@10 central           {central:8.4f}: together has {together / central:.1%}")
    users, value = 0, 0.0
    for n_users, events in zip(sizes, parts, strict=True):
        own = Dataset("own", read_events(events), items=items)
        split = leave_one_out(own)
        model = RecencyItemKNN().fit(split.train, split.catalogue, split.weights(split.train))
        value += n_users * evaluate_users(model, split).per_user()["NDCG@10"].mean()
        users += n_users
    print(
        f"  NDCG@10 alone             {value / users:8.4f}, co-occurrence of a party's own events"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", default="movielens-1m")
    parser.add_argument("--parties", type=int, default=5)
    parser.add_argument("--encoder", default="cooccurrence")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings")
    parser.add_argument("--epochs", type=int, default=20, help="of the central training")
    args = parser.parse_args()
    dataset = load_dataset(args.data)
    settings = {"model.encoder": args.encoder, "model.history_length": 100} | parse_overrides(
        args.set
    )
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
        if args.encoder in ENCODERS or "privacy.epsilon" in settings:
            by_ranking(args, dataset, items, settings, folder, keys, exchange)
            return
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
