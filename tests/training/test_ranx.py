"""Our metrics equal those of ranx, which others use."""

import numpy as np
import pytest

from shortlist.training.evaluation.metrics import per_user_metrics

NAMES = {
    "HR": "hit_rate",
    "Recall": "recall",
    "NDCG": "ndcg",
    "MRR": "mrr",
    "MAP": "map",
}
N_USERS, N_ITEMS, N_RANKED = 30, 50, 20


@pytest.mark.slow  # numba compiles for half a minute
@pytest.mark.filterwarnings("ignore")  # of numba and others, on import
def test_metrics_of_random_lists_equal_those_of_ranx():
    ranx = pytest.importorskip("ranx", reason="the library ranx is not installed")
    rng = np.random.default_rng(0)
    ranked = np.array([rng.permutation(N_ITEMS)[:N_RANKED] for _ in range(N_USERS)])
    targets = [rng.permutation(N_ITEMS)[: rng.integers(1, 9)] for _ in range(N_USERS)]
    ranked[3, 5:] = -1  # a short list
    relevant = ranx.Qrels({f"u{u}": {f"i{t}": 1 for t in rows} for u, rows in enumerate(targets)})
    lists = ranx.Run(
        {
            f"u{u}": {f"i{r}": 1.0 - n / 100 for n, r in enumerate(rows) if r >= 0}
            for u, rows in enumerate(ranked)
        }
    )
    own = per_user_metrics(ranked, targets, (5, 20))
    for name, theirs in NAMES.items():
        for k in (5, 20):
            wanted = ranx.evaluate(relevant, lists, f"{theirs}@{k}", return_mean=False)
            order = np.argsort([f"u{u}" for u in range(N_USERS)])
            np.testing.assert_allclose(own[f"{name}@{k}"][order], wanted, atol=1e-9)
