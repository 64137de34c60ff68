import time

import numpy as np
import pytest

from shortlist.training.config.settings import load_config
from shortlist.training.data.datasets import load_dataset
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.fit.fit import train

pytestmark = pytest.mark.slow


def test_movielens_100k_reaches_the_promised_quality_in_three_seeds(tmp_path):
    dataset = load_dataset("movielens-100k")
    results = []
    for seed in (1, 2, 3):
        config = load_config("movielens-100k", overrides={"train.seed": seed})
        started = time.perf_counter()
        run = train(dataset, config, tmp_path / f"seed{seed}", progress=False)
        minutes = (time.perf_counter() - started) / 60
        test = evaluate(run.ranker(), run.split, on="test")
        results.append((test["HR@10"], test["NDCG@10"]))
        print(
            f"seed {seed}: {minutes:.1f} min, {len(run.history)} epochs, valid NDCG@10 "
            f"{run.metrics['NDCG@10']:.4f}, test HR@10 {test['HR@10']:.4f} NDCG@10 "
            f"{test['NDCG@10']:.4f}"
        )
    hit_rate, ndcg = np.median(results, axis=0)
    assert hit_rate >= 0.20
    assert ndcg >= 0.105
