"""What differential privacy costs: HR@10 and NDCG@10 by ε and by number of users.

    python benchmarks/privacy.py movielens-1m --epsilon 1 2 4 8 --seeds 5
    python benchmarks/privacy.py movielens-1m --epsilon 2 8 --users 0.25 0.5 1 4 --seeds 1

The noise has fixed seeds here, so that anyone gets the same table: such a release is not private,
and no bundle is written. The numbers are those of `shortlist train` with --set privacy.epsilon and
`shortlist evaluate`: leave-one-out, all items ranked, the statistics of the train part alone.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from shortlist.training.config.sections import LinearConfig, PrivacyConfig
from shortlist.training.data.datasets import load_dataset
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.models.baselines import Popularity
from shortlist.training.models.item_item import ItemItem
from shortlist.training.privacy.accounting import noise_scale
from shortlist.training.privacy.contributions import Bounds
from shortlist.training.privacy.denoise import item_weights, popularity
from shortlist.training.privacy.noise import unsafe_bytes
from shortlist.training.privacy.release import Claim, release
from shortlist.training.privacy.settings import DECAY_AGE
from shortlist.training.splits.split import make_split

METRICS = ("HR@10", "NDCG@10")


class Released(ItemItem):
    """The model of a release, among the baselines of an evaluation."""

    decay = DECAY_AGE

    def __init__(self, weights, counts):
        self.weights, self.n_items = weights, len(counts)
        self._trend = np.zeros(len(counts))
        self._floor = 1e-20 * counts / counts.max()

    def _item_weights(self, users, items, weights):
        return self.weights  # released already, whatever the events


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--users", type=float, nargs="+", default=[1.0], help="shares of the users")
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    dataset = load_dataset(args.data, progress=False)
    split = make_split(dataset, "leave-one-out")
    users = split.train["user_id"].rle_id().to_numpy().astype(np.int64)
    items = split.item_rows(split.train["item_id"])
    n_items, linear = len(split.catalogue), LinearConfig()
    popular = Popularity().fit(split.train, split.catalogue)
    print(f"{dataset}\npopularity, no privacy: HR@10, NDCG@10 {measured(popular, split)}")
    print("users, epsilon: HR@10, NDCG@10 (median of the seeds), their least and largest, and of")
    print("private popularity; CPU seconds of the release and of all before the evaluation")
    for share in args.users:
        some = (users, items) if share == 1 else drawn(users, items, share)
        for epsilon in args.epsilon:
            most = PrivacyConfig().contribution
            bounds = Bounds.of(linear.window, linear.decay_gap, most, epsilon)
            claim = Claim(epsilon, args.delta, noise_scale(epsilon, args.delta))
            rows, rivals = [], []
            for seed in range(args.seeds):
                began = time.process_time()
                made = release(*some, n_items, claim, bounds, source=unsafe_bytes(seed))
                released = time.process_time() - began
                weights, counts = item_weights(made.noisy), popularity(made.noisy)
                seconds = time.process_time() - began
                rows.append(measured(Released(weights, counts), split))
                rivals.append(measured(PrivatePopularity(counts), split))
            median = [statistics.median(column) for column in zip(*rows, strict=True)]
            rival = [statistics.median(column) for column in zip(*rivals, strict=True)]
            low, high = np.min(rows, axis=0), np.max(rows, axis=0)
            print(
                f"{int(some[0][-1]) + 1:7,} {epsilon:4g}: {median[0]:.3f} {median[1]:.3f}  "
                f"({low[0]:.3f}–{high[0]:.3f}, {low[1]:.3f}–{high[1]:.3f})  "
                f"{rival[0]:.3f} {rival[1]:.3f}  {released:.1f} s {seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
