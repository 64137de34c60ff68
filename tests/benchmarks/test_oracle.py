"""The oracle finds no miss in the index, and does find the misses that are put in."""

import numpy as np
import oracle
import pytest
from exact_check import misses, score_bounds

import shortlist


@pytest.fixture
def answer():
    random = np.random.default_rng(3)
    items = random.integers(-2, 3, size=(300, 6)).astype(np.float32)  # ties
    items[50:] = random.normal(size=(250, 6))
    queries = np.concatenate([items[:4], random.normal(size=(4, 6))]).astype(np.float32)
    allowed = random.random((8, 300)) < 0.7
    allow = [np.flatnonzero(flags) for flags in allowed]
    hits = shortlist.Index(items, metric="dot").search(queries, top_n=40, allow=allow)
    rows = np.arange(300)
    return hits, score_bounds(items, queries, "dot"), allowed, rows


def changed(hits, **fields):
    return hits._replace(**{name: np.array(value) for name, value in fields.items()})


def test_a_right_answer_has_no_misses(answer):
    assert misses(*answer) == []


def test_a_score_that_is_off_by_its_last_bit_is_a_miss(answer):
    hits, *rest = answer
    scores = hits.scores.copy()
    scores[2, 39] = np.nextafter(scores[2, 39], np.float32(-np.inf))
    assert misses(changed(hits, scores=scores), *rest)[0].startswith("query 2: score")


def test_ties_in_the_wrong_order_are_a_miss(answer):
    hits, *rest = answer
    ties = np.argwhere(np.diff(hits.scores, axis=1) == 0)
    assert len(ties)
    q, place = ties[0]
    indices = hits.indices.copy()
    indices[q, [place, place + 1]] = indices[q, [place + 1, place]]
    assert "not in order" in misses(changed(hits, indices=indices), *rest)[0]


@pytest.mark.parametrize("place", [0, 20, 38])
def test_a_better_item_that_is_left_out_is_a_miss(answer, place):
    hits, *rest = answer
    kept = np.delete(np.arange(40), place)  # the others move up, as if top_n had been 39
    shorter = changed(
        hits, indices=hits.indices[:, kept], scores=hits.scores[:, kept], counts=hits.counts - 1
    )
    found = misses(shorter, *rest)
    assert len(found) == 8
    assert all("is missing" in line for line in found)


def test_a_row_that_is_not_allowed_or_comes_twice_is_a_miss(answer):
    hits, bounds, allowed, rows = answer
    forbidden = allowed.copy()
    forbidden[5, hits.indices[5, 7]] = False
    assert misses(hits, bounds, forbidden, rows) == [
        "query 5: a row that does not exist or is not allowed"
    ]
    twice = hits.indices.copy()
    twice[1, 8] = twice[1, 7]
    assert len(misses(changed(hits, indices=twice), bounds, allowed, rows)) == 1


def test_counts_and_missing_places_are_checked(answer):
    hits, *rest = answer
    assert "count 39" in misses(changed(hits, counts=hits.counts - 1), *rest)[0]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_bounds_leave_one_float32_score_nearly_always(metric):
    random = np.random.default_rng(1)
    items, queries = (random.normal(size=(n, 200)).astype(np.float32) for n in (2000, 30))
    bounds = score_bounds(items, queries, metric)
    assert (bounds.low <= bounds.high).all()
    assert (bounds.low != bounds.high).mean() < 1e-3


def test_a_thousand_searches_have_no_miss():
    done, seen = oracle.run(1000, seed=1)
    assert done >= 1000
    assert seen["compared bit for bit"] >= 2 * done


@pytest.mark.slow
def test_a_hundred_thousand_searches_have_no_miss():
    done, seen = oracle.run(100_000, seed=0, progress=True)
    print(f"{done:,} searches against the float64 oracle, 0 misses", dict(seen))
    assert done >= 100_000
    assert all(seen[metric] > 10_000 for metric in oracle.METRICS)


def test_a_wrong_engine_is_caught(monkeypatch):
    search = shortlist.Index.search

    def without_the_best(self, queries, top_n=10, **options):
        hits = search(self, queries, top_n + 1, **options)
        return hits._replace(
            indices=hits.indices[:, 1:],
            scores=hits.scores[:, 1:],
            item_ids=hits.item_ids[:, 1:],
            counts=np.maximum(hits.counts - 1, 0),
        )

    monkeypatch.setattr(shortlist.Index, "search", without_the_best)
    with pytest.raises(oracle.Missed, match="seed 4, round 0"):
        oracle.run(200, seed=4)
