"""Long answers from small catalogues: the buffer of the best is a list, not a heap, and is cut."""

import numpy as np
import pytest

from shortlist import Index


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("n_items", [150, 1700, 6000])
def test_long_answers_are_prefixes_of_all_items_in_order(n_items, metric):
    random = np.random.default_rng(n_items)
    vectors = random.normal(size=(n_items, 12)).astype(np.float32)
    vectors[5::7] = vectors[5]  # many equal scores
    queries = random.normal(size=(9, 12)).astype(np.float32)
    index = Index(vectors, metric=metric)
    exclude = [random.integers(0, n_items, n_items // 3) for _ in range(9)]
    everything = index.search(queries, top_n=n_items, exclude=exclude, n_threads=1)
    for i in range(9):
        n = everything.counts[i]
        rows, scores = everything.indices[i, :n], everything.scores[i, :n]
        assert sorted(rows) == sorted(set(range(n_items)) - set(exclude[i].tolist()))
        assert all(np.lexsort((rows, -scores)) == np.arange(n))
    for top_n in (1, 48, 64, 65, 100, 200, 500, n_items - 1):
        for n_threads in (1, 2):
            found = index.search(queries, top_n=top_n, exclude=exclude, n_threads=n_threads)
            k = min(top_n, n_items)
            assert np.array_equal(found.indices[:, :k], everything.indices[:, :k])
            assert found.scores[:, :k].tobytes() == everything.scores[:, :k].tobytes()


def test_scores_of_both_signs_and_zero_are_in_order():
    values = np.concatenate([np.linspace(-3, 3, 301), np.zeros(20), [1e-38, -1e-38, 3e38]])
    index = Index(values.astype(np.float32)[:, None], metric="dot")
    found = index.search(np.ones((1, 1), np.float32), top_n=len(values))
    expected = np.lexsort((np.arange(len(values)), -values.astype(np.float32)))
    assert found.indices[0].tolist() == expected.tolist()
    assert found.scores[0].tolist() == values.astype(np.float32)[expected].tolist()
