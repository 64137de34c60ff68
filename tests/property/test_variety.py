"""Varied lists equal brute force, whatever the data, the filters, the level and the threads."""

import collections
import sys
from pathlib import Path

import numpy as np
import pytest
from hard_catalogues import duplicates, heavy_tails, near_duplicates, same, sparse

import shortlist
from shortlist import _core

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import variety
from varied_lists import Wish, brute_force


@pytest.mark.parametrize("seed", range(40))
def test_random_requests_equal_brute_force(seed):
    variety.check(np.random.default_rng([1, seed]), collections.Counter())


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("diversity", [0.2, 0.5, 0.8, 1.0])
def test_diversity_of_a_catalogue_that_is_searched_in_parts(metric, diversity):
    """More items than are looked at at once: bounds decide which ones are left out."""
    random = np.random.default_rng(int(10 * diversity))
    rows = random.normal(size=(6000, 12)).astype(np.float32)
    rows[1000:2000] = rows[:1000]
    index = shortlist.Index(rows, metric=metric)
    queries = random.normal(size=(3, 12)).astype(np.float32)
    brand = random.integers(0, 40, size=6000)
    lists = [[int(b)] for b in brand]
    given = {"groups": {"brand": brand}, "at_most": {"brand": 1}, "diversity": diversity}
    hits = index.search(queries, 12, **given)
    for q, query in enumerate(queries):
        wish = Wish(12, [(lists, 1)], diversity=diversity)
        allowed = np.ones(6000, dtype=bool)
        expected = brute_force(index.vectors(np.arange(6000)), query, metric, allowed, wish)
        assert hits.indices[q].tolist() == expected[0]
        assert hits.scores[q].tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "disk8", "disk4", "int8"])
@pytest.mark.parametrize("kind", [heavy_tails, near_duplicates, duplicates, sparse])
def test_much_diversity_of_hard_catalogues(kind, storage):
    """Bounds of values come from codes where they can, beside items that came later."""
    random = np.random.default_rng(3)
    rows = kind(random, 5000, 9).astype(np.float32)
    metric = "cosine" if storage in ("float32", "disk4") else "dot"
    index = shortlist.Index(rows, metric=metric, storage=storage)
    index.upsert([7, 6000], random.normal(size=(2, 9)).astype(np.float32))
    index.remove([8])
    ids = np.flatnonzero(index.item_ids >= 0)
    stored = np.zeros((len(index.item_ids), 9), dtype=np.float32)
    stored[ids] = index.vectors(ids)
    query = rows[40]
    hits = index.search(query[None], 9, diversity=0.7, exclude=[[3, 4]])
    allowed = (index.item_ids >= 0) & ~np.isin(index.item_ids, [3, 4])
    expected = brute_force(stored, query, metric, allowed, Wish(9, diversity=0.7))
    assert hits.indices[0].tolist() == expected[0]
    assert hits.scores[0].tobytes() == expected[1].tobytes()


def test_bits_do_not_depend_on_level_batch_or_threads():
    random = np.random.default_rng(7)
    index = shortlist.Index(random.normal(size=(5000, 20)).astype(np.float32))
    queries = random.normal(size=(40, 20)).astype(np.float32)
    groups = {"brand": random.integers(0, 9, size=5000), "new": random.random(5000) < 0.01}
    diversity = np.where(np.arange(40) % 2, 0.4, 0.0)
    given = {"groups": groups, "at_most": {"brand": 2}, "at_least": {"new": 3}}
    expected = None
    for level in _core.simd_levels():
        _core.set_simd_level(level)
        for n_threads, size in ((1, 40), (2, 40), (4, 7)):
            parts = [
                index.search(
                    queries[i : i + size],
                    n_threads=n_threads,
                    diversity=diversity[i : i + size],
                    **given,
                )
                for i in range(0, 40, size)
            ]
            hits = shortlist.Hits(*(np.concatenate(field) for field in zip(*parts, strict=True)))
            expected = expected or hits
            assert same(hits, expected), (level, n_threads, size)


def test_a_longer_list_begins_with_the_shorter_one():
    random = np.random.default_rng(8)
    index = shortlist.Index(random.normal(size=(3000, 16)).astype(np.float32))
    queries = random.normal(size=(5, 16)).astype(np.float32)
    groups = {"brand": random.integers(0, 30, size=3000)}
    for given in ({"at_most": {"brand": 1}}, {"diversity": 0.5}):
        short, long = (index.search(queries, n, groups=groups, **given) for n in (6, 20))
        assert np.array_equal(short.indices, long.indices[:, :6])
