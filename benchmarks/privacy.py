"""What differential privacy costs: HR@10 and NDCG@10 by ε and by number of users.

    python benchmarks/privacy.py movielens-1m --epsilon 1 2 4 8 --seeds 5
    python benchmarks/privacy.py movielens-1m --epsilon 2 8 --users 0.25 0.5 1 4 --seeds 1
    python benchmarks/privacy.py movielens-1m --epsilon 8 --seeds 1 --encoder pool
    python benchmarks/privacy.py movielens-1m --epsilon 8 --seeds 1 --encoder pool \\
        --users 8.28 --set privacy.mechanism=sgd --set privacy.rate=0.02

The noise has fixed seeds here, so that anyone gets the same table: such a release is not private,
and no bundle is written. The numbers are those of `shortlist train` with --set privacy.epsilon and
`shortlist evaluate`: leave-one-out, all items ranked, the statistics of the train part alone.
With an encoder it is trained as `shortlist train` does it, on synthetic histories, and then with
noisy steps where these are asked for.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from shortlist.training.config.settings import apply_overrides, load_config
from shortlist.training.data.datasets import load_dataset
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.models.baselines import Popularity
from shortlist.training.models.item_item import ItemItem
from shortlist.training.privacy.denoise import item_weights, popularity
from shortlist.training.privacy.noise import unsafe_bytes
from shortlist.training.privacy.release import claim_of, release
from shortlist.training.privacy.settings import DECAY_AGE, private_config
from shortlist.training.splits.split import make_split

METRICS = ("HR@10", "NDCG@10")


class Released(ItemItem):
    """The model of a release, among the baselines of an evaluation."""

    decay = DECAY_AGE

    def __init__(self, weights, counts):
        self.weights, self.n_items = weights, len(counts)
        self._trend = np.zeros(len(counts))
        self._floor = 1e-20 * counts / counts.max()

    def _count_pairs(self, users, items, weights, n_items):
        return {}  # the release has counted

    def _item_weights(self, sums):
        return self.weights


class PrivatePopularity(Released):
    """The released counts alone."""

    def __init__(self, counts):
        n = len(counts)
        super().__init__(np.broadcast_to(counts.astype(np.float32), (n, n)), counts)


def measured(ranker, split):
    metrics = evaluate_users(ranker, split, "test", (10,)).metrics()
    return [metrics[name] for name in METRICS]


def drawn(users, items, share):
    """Return the events of a share of the users; above 1, users are drawn with replacement."""
    n_users = int(users[-1]) + 1
    starts = np.searchsorted(users, np.arange(n_users + 1))
    random = np.random.default_rng(0)
    chosen = random.choice(n_users, round(share * n_users), replace=share > 1)
    lengths = np.diff(starts)[chosen]
    places = np.concatenate([np.arange(starts[u], starts[u + 1]) for u in chosen])
    return np.repeat(np.arange(len(chosen)), lengths), items[places]


def trained(made, some, claim, config, items, source):
    """Train the encoder of the settings on a release, and make the noisy steps of its claim."""
    from shortlist.training.evaluation.ranker import TwoTowerRanker  # imports TensorFlow
    from shortlist.training.pipeline.private import descent, train_on

    refine = descent(*some, config, claim, source=source, progress=False)
    public = apply_overrides(config, {"privacy.epsilon": math.inf})
    with tempfile.TemporaryDirectory() as folder:
        run = train_on(made, items, pl.Int64(), public, Path(folder), refine, progress=False)
    return TwoTowerRanker(run.two_tower, run.split.dataset, n_threads=1)


def settings_of(args, epsilon):
    given = {"privacy.epsilon": epsilon, "privacy.delta": args.delta, "train.n_threads": 1}
    given |= dict(pair.split("=", 1) for pair in args.set)
    if args.encoder != "cooccurrence":
        given |= {"model.encoder": args.encoder}
    return private_config(load_config(args.preset, overrides=given), set(given))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--users", type=float, nargs="+", default=[1.0], help="shares of the users")
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", default="cooccurrence", help="that of the model")
    parser.add_argument("--preset", help="settings to begin with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings")
    args = parser.parse_args()
    dataset = load_dataset(args.data, progress=False)
    split = make_split(dataset, "leave-one-out")
    table = pl.DataFrame({"item_id": split.catalogue})
    users = split.train["user_id"].rle_id().to_numpy().astype(np.int64)
    items = split.item_rows(split.train["item_id"])
    popular = Popularity().fit(split.train, split.catalogue)
    print(f"{dataset}\npopularity, no privacy: HR@10, NDCG@10 {measured(popular, split)}")
    print("users, epsilon: HR@10, NDCG@10 (median of the seeds), their least and largest, and of")
    print("private popularity; CPU seconds of the release and of all before the evaluation")
    for share in args.users:
        some = (users, items) if share == 1 else drawn(users, items, share)
        for epsilon in args.epsilon:
            report(args, some, settings_of(args, epsilon), table, split)


def report(args, some, config, table, split):
    """Release, train and measure with each seed; print one line."""
    from shortlist.training.pipeline.private import bounds_of

    n_users = int(some[0][-1]) + 1
    claim = claim_of(config.privacy, n_users)
    bounds = bounds_of(config, claim)
    rows, rivals = [], []
    for seed in range(args.seeds):
        source, began = unsafe_bytes(seed), time.process_time()
        made = release(*some, table.height, claim, bounds, source=source)
        released = time.process_time() - began
        counts = popularity(made.noisy)
        if args.encoder == "cooccurrence":
            ranker = Released(item_weights(made.noisy), counts)
        else:
            ranker = trained(made, some, claim, config, table, source)
        seconds = time.process_time() - began
        rows.append(measured(ranker, split))
        rivals.append(measured(PrivatePopularity(counts), split))
    median = [statistics.median(column) for column in zip(*rows, strict=True)]
    rival = [statistics.median(column) for column in zip(*rivals, strict=True)]
    low, high = np.min(rows, axis=0), np.max(rows, axis=0)
    print(
        f"{n_users:7,} {claim.epsilon:4g}: {median[0]:.3f} {median[1]:.3f}  "
        f"({low[0]:.3f}–{high[0]:.3f}, {low[1]:.3f}–{high[1]:.3f})  "
        f"{rival[0]:.3f} {rival[1]:.3f}  {released:.1f} s {seconds:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
