"""Do new items reach the users who want them? MovieLens-100K, cut in time.

The last tenth of the events is the test. Films that nobody rated before it are cold: they have
never been trained on, so their vectors come from genres and year alone. Every user with such a
target gets 50 films out of all that they have not seen, warm and cold; Recall@50 counts the cold
targets among them.

The baseline is popularity of similar genre. A genre is as popular as its films: the mean (or the
sum) of their known events. A film scores Σ over its genres of (share of the genre in the user's
history) · (popularity of the genre), as a sum or as a mean over the film's genres. Warm films are
scored in the same way, else no cold film would ever be seen; equal scores share their places.
All four variants are shown: they differ by what they make of films with many genres, and with 45
cold films that is much.

The models answer through their exported bundles, which know the numbers of events before the test.
Lists are shown as they come, and with a quota of places for films without events.

    python benchmarks/cold_start.py --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import polars as pl

import shortlist
from shortlist.export.writer import export_bundle
from shortlist.training.config.settings import load_config
from shortlist.training.data.datasets import load_dataset
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.features.features import align_items
from shortlist.training.fit.fit import train
from shortlist.training.splits.split import make_split

K = 50
QUOTAS = (0, 3, 5, 10)  # places of the 50 that are kept for films without events
SPLIT = {"split.protocol": "temporal", "split.valid": 0.1, "split.test": 0.1}
# Chosen on films that were new in the fifth of the events before the test.
YEAR = {"data.features.item.year": {"kind": "numeric", "buckets": 16}}
SETTINGS = {**SPLIT, "train.epochs": 8, "train.id_dropout": 0.6, "scorer.enabled": False}


def known_counts(split: Any) -> Any:
    """Events of each item before the test."""
    rows = split.item_rows(split.known_events("valid")["item_id"])
    return np.bincount(rows, minlength=len(split.catalogue))


def baselines(split: Any) -> dict[str, dict[str, float]]:
    """Recall@50 of cold items by popularity of similar genre, in four variants."""
    count = known_counts(split).astype(float)
    genres = align_items(split.dataset, split.catalogue)["genres"].to_list()
    names = sorted({name for row in genres for name in row or []})
    has = np.array([[name in (row or []) for name in names] for row in genres], dtype=float)
    total = has.T @ count
    histories, targets = split.histories("valid"), split.targets("test")
    found = {}
    for by, over in itertools.product(("mean", "sum"), repeat=2):
        popularity = total / np.maximum(has.T @ (count > 0), 1) if by == "mean" else total
        recalls, filled, places = [], [], []
        for user in range(len(targets)):
            rows = np.unique(targets.rows_of(user))
            rows = rows[count[rows] == 0]
            if not len(rows):
                continue
            history = histories.rows_of(user)
            profile = has[history].sum(axis=0) if len(history) else total
            scores = has @ (profile / max(profile.sum(), 1) * popularity)
            if over == "mean":
                scores /= np.maximum(has.sum(axis=1), 1)
            scores[history] = -np.inf
            recalls.append(np.mean([expected_hit(scores, row) for row in rows]))
            filled.append(len(history) > 0)
            places.append(sum(expected_hit(scores, row) for row in np.flatnonzero(count == 0)))
        told = report(recalls, filled) | {"cold films in a list": float(np.mean(places))}
        found[f"{by} events of a genre, {over} over genres"] = told
    return found


def expected_hit(scores: Any, row: int) -> float:
    """Chance that a row is among the best 50 when equal scores are put in random order."""
    above, equal = int((scores > scores[row]).sum()), int((scores == scores[row]).sum())
    return float(np.clip((K - above) / equal, 0.0, 1.0))


def report(recalls: list[float], has_history: list[bool]) -> dict[str, float]:
    """Mean over all users with a cold target, and over those with a history."""
    values, filled = np.array(recalls), np.array(has_history)
    return {"all users": float(values.mean()), "with a history": float(values[filled].mean())}


class QuotaRanker(EngineRanker):
    """Rank with a bundle that keeps some places for items without events."""

    n_places = 0

    def rank(self, histories: Any, user_ids: Any, top_n: int, *, exclude_seen: bool = True) -> Any:
        """Rank items for some users; see `evaluate.Ranker`."""
        requests, quota = self.requests(histories, user_ids), {"n_events = 0": self.n_places}
        answer = self.engine.recommend(
            requests,
            top_n=top_n,
            exclude_seen=exclude_seen,
            at_least=quota if self.n_places else None,
        )
        return self._catalogue_rows[answer.indices]


def exported(run: Any, path: Path) -> QuotaRanker:
    """Export a run, and tell the bundle the numbers of events before the test."""
    export_bundle(run, path)
    engine, split = shortlist.load(path), run.split
    ids = engine.items["item_id"].to_numpy()
    known = known_counts(split)[split.item_rows(pl.Series("item_id", ids))]
    engine.upsert_items({"item_id": ids, "n_events": known})
    return QuotaRanker(engine, split)


def measure(ranker: Any, split: Any) -> dict[str, dict[str, float]]:
    """Recall@50 of cold items, and NDCG@10 and Recall@50 of warm ones for users with a history."""
    is_cold = known_counts(split) == 0
    lists = evaluate_users(ranker, split, "test", (10, K), cold_users=True)
    values, splits = lists.targets
    recalls, filled, ndcg, recall, places = [], [], [], [], []
    discount = 1 / np.log2(np.arange(2, 12))
    for user in range(len(lists.user_ids)):
        rows, best = values[splits[user] : splits[user + 1]], lists.ranked_rows[user]
        cold, warm = rows[is_cold[rows]], rows[~is_cold[rows]]
        if len(cold):
            recalls.append(float(np.isin(cold, best[:K]).mean()))
            filled.append(bool(lists.history_lengths[user] > 0))
            places.append(int(is_cold[best[:K][best[:K] >= 0]].sum()))
        if len(warm) and lists.history_lengths[user] > 0:
            gain = (np.isin(best[:10], warm) * discount).sum()
            ndcg.append(gain / discount[: min(10, len(warm))].sum())
            recall.append(np.isin(warm, best[:K]).mean())
    error = float(np.std(ndcg, ddof=1) / np.sqrt(len(ndcg)))
    warm_figures = {
        "NDCG@10": float(np.mean(ndcg)),
        "standard error": error,
        "Recall@50": float(np.mean(recall)),
        "users": len(ndcg),
    }
    cold = report(recalls, filled) | {"cold films in a list": float(np.mean(places))}
    return {"cold Recall@50": cold, "warm": warm_figures}


def main() -> None:
    """Train with and without content, print all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    dataset = load_dataset("movielens-100k")
    split = make_split(dataset, "temporal", valid=SPLIT["split.valid"], test=SPLIT["split.test"])
    told: dict[str, Any] = {
        "events of cold items": int((known_counts(split) == 0)[split.targets("test").rows].sum()),
        "popularity of similar genre, cold Recall@50": baselines(split),
    }
    print(json.dumps(told, indent=1), flush=True)
    variants = {"with content": YEAR, "without content": {"model.item_features": False}}
    for seed, (name, change) in itertools.product(args.seeds, variants.items()):
        config = load_config("movielens-100k", None, {**SETTINGS, **change, "train.seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            run = train(dataset, config, Path(folder) / "run", progress=False)
            ranker = exported(run, Path(folder) / "films.shortlist")
            for ranker.n_places in QUOTAS:
                label = f"{name}, seed {seed}, {ranker.n_places} places for new films"
                print(json.dumps({label: measure(ranker, split)}, indent=1), flush=True)


if __name__ == "__main__":
    main()
