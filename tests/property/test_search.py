"""Promises that hold for any data: exact, reproducible, ordered, filtered."""

import numpy as np
import pytest
import reference
from hard_catalogues import (
    SETTINGS,
    all_equal,
    catalogues,
    duplicates,
    heavy_tails,
    mixed_huge,
    near_duplicates,
    same,
)
from hypothesis import given
from hypothesis import strategies as st

import shortlist
from shortlist import _core

METRICS = st.sampled_from(["cosine", "dot", "euclidean"])


@SETTINGS
@given(catalogues(), METRICS, st.integers(1, 120))
def test_answer_equals_the_float64_oracle(catalogue, metric, top_n):
    items, queries = catalogue
    hits = shortlist.Index(items, metric=metric).search(queries, top_n=top_n)
    stored = items.astype(np.float64)
    expected = reference.all_scores(stored, queries, metric)
    scale = reference.scale_of(items, queries, metric)
    reference.assert_top_n(hits.indices, hits.scores, hits.counts, expected, scale)


@SETTINGS
@given(catalogues(), METRICS, st.integers(1, 40))
def test_scan_equals_scoring_every_row(catalogue, metric, top_n):
    """A short allow-list takes the path without a bound: same bits, so the bound lost nothing."""
    items, queries = catalogue
    index = shortlist.Index(items, metric=metric)
    hits = index.search(queries, top_n=top_n)
    rest = [np.setdiff1d(np.arange(len(items)), row)[: len(items) // 20] for row in hits.indices]
    allow = [
        np.concatenate([row[row >= 0], more]) for row, more in zip(hits.indices, rest, strict=True)
    ]
    assert same(hits, index.search(queries, top_n=top_n, allow=allow))


@SETTINGS
@given(catalogues(), METRICS, st.integers(1, 30), st.integers(0, 1000))
def test_bits_do_not_depend_on_level_batch_or_threads(catalogue, metric, top_n, seed):
    items, queries = catalogue
    random = np.random.default_rng(seed)
    queries = queries[random.integers(0, len(queries), size=int(random.integers(1, 71)))]
    index = shortlist.Index(items, metric=metric)
    expected = None
    for level in _core.simd_levels():
        _core.set_simd_level(level)
        for n_threads in range(1, 5):
            size = int(random.integers(1, len(queries) + 1))
            parts = [
                index.search(queries[i : i + size], top_n=top_n, n_threads=n_threads)
                for i in range(0, len(queries), size)
            ]
            hits = shortlist.Hits(*(np.concatenate(field) for field in zip(*parts, strict=True)))
            expected = expected or hits
            assert same(hits, expected), (level, n_threads, size)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_every_batch_size_and_thread_count_gives_the_same_bits(metric):
    random = np.random.default_rng(5)
    items = random.normal(size=(70_000, 32)).astype(np.float32)  # enough work for 4 threads
    queries = random.normal(size=(70, 32)).astype(np.float32)
    index = shortlist.Index(items, metric=metric)
    expected = index.search(queries, n_threads=1)
    for size in range(1, 71):
        hits = index.search(queries[:size], n_threads=size % 4 + 1)
        assert same(hits, shortlist.Hits(*(field[:size] for field in expected)))


@SETTINGS
@given(catalogues(), METRICS, st.integers(1, 50))
def test_top_n_is_a_prefix_of_top_n_plus_one(catalogue, metric, top_n):
    items, queries = catalogue
    index = shortlist.Index(items, metric=metric)
    short, long = (index.search(queries, top_n=n) for n in (top_n, top_n + 1))
    assert np.array_equal(short.indices, long.indices[:, :top_n])
    assert short.scores.tobytes() == long.scores[:, :top_n].tobytes()


@SETTINGS
@given(catalogues(), METRICS)
def test_permuting_items_permutes_indices(catalogue, metric):
    items, queries = catalogue
    order = np.random.default_rng(len(items)).permutation(len(items))
    hits = shortlist.Index(items, metric=metric).search(queries)
    moved = shortlist.Index(items[order], metric=metric).search(queries)
    assert hits.scores.tobytes() == moved.scores.tobytes()
    for q in range(len(queries)):  # equal scores keep the lower row, so compare inside score groups
        real = hits.indices[q, : hits.counts[q]]
        back = order[moved.indices[q, : hits.counts[q]]]
        last = hits.scores[q, len(real) - 1]
        inner = hits.scores[q, : len(real)] > last
        assert set(real[inner]) == set(back[inner])


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("batch", [1, 8])
def test_near_duplicates_are_returned_once(metric, batch):
    # The bound proves nothing: after the best items, all the rest of a slice are scored.
    rng = np.random.default_rng(0)
    items = (100 + rng.normal(size=(12_000, 2))).astype(np.float32)
    queries = rng.normal(size=(batch, 2)).astype(np.float32)
    hits = shortlist.Index(items, metric=metric).search(queries, top_n=50)
    for row in hits.indices:
        assert len(set(row)) == 50


@SETTINGS
@given(catalogues(), METRICS, st.integers(1, 30))
def test_split_and_merge_equals_the_whole(catalogue, metric, top_n):
    items, queries = catalogue
    cut = len(items) // 3
    whole = shortlist.Index(items, metric=metric).search(queries, top_n=top_n)
    parts = [
        (shortlist.Index(part, metric=metric).search(queries, top_n=top_n), start)
        for part, start in ((items[:cut], 0), (items[cut:], cut))
        if len(part)
    ]
    for q in range(len(queries)):
        pairs = [
            (-score, index + start)
            for hits, start in parts
            for score, index in zip(hits.scores[q], hits.indices[q], strict=True)
            if index >= 0
        ]
        merged = [row for _, row in sorted(pairs)[:top_n]]
        assert merged == whole.indices[q, : whole.counts[q]].tolist()


@SETTINGS
@given(catalogues(), METRICS, st.integers(1, 60), st.integers(0, 2**31))
def test_filters_equal_the_filtered_oracle(catalogue, metric, top_n, seed):
    items, queries = catalogue
    n, random = len(items), np.random.default_rng(seed)
    exclude = [random.integers(-3, n + 3, size=random.integers(0, 50)) for _ in queries]
    allow = random.random((len(queries), n)) < random.choice([0.01, 0.3, 1.0])
    form = random.integers(0, 4)
    if form == 0:
        allow[:] = True
        argument = None
    elif form == 1:
        allow[:] = allow[0]
        argument = allow[0].copy()
    elif form == 2:
        allow[:] = allow[0]
        argument = np.concatenate([random.permutation(np.flatnonzero(allow[0])), [-1, n]])
    else:
        argument = [np.flatnonzero(row) for row in allow]
    for q, rows in enumerate(exclude):
        allow[q, rows[(rows >= 0) & (rows < n)]] = False
    hits = shortlist.Index(items, metric=metric).search(
        queries, top_n=top_n, exclude=exclude, allow=argument
    )
    expected = reference.all_scores(items, queries, metric)
    scale = reference.scale_of(items, queries, metric)
    reference.assert_top_n(hits.indices, hits.scores, hits.counts, expected, scale, allow)


@SETTINGS
@given(catalogues(max_items=400), METRICS)
def test_positive_scaling_of_a_query_keeps_the_order(catalogue, metric):
    items, queries = catalogue
    if metric == "euclidean":
        return
    index = shortlist.Index(items, metric=metric)
    hits, doubled = index.search(queries), index.search(queries * np.float32(2))
    if metric == "cosine" or np.abs(hits.scores[np.isfinite(hits.scores)]).min(initial=1) > 1e-30:
        assert np.array_equal(hits.indices, doubled.indices)


def half_alike(random, n, dim):
    rows = random.normal(size=(n, dim))
    rows[n // 4 : 3 * n // 4] = rows[0] + 1e-5 * random.normal(size=(3 * n // 4 - n // 4, dim))
    return rows


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", [all_equal, near_duplicates, duplicates, half_alike])
def test_catalogues_that_no_bound_can_prune_stay_exact(kind, metric):
    """Long enough that slices are scored without a scan, and that scanning starts again.

    The queries score a slice together, and one by one when each comes alone.
    """
    random = np.random.default_rng(11)
    items = kind(random, 60_000, 64).astype(np.float32)
    queries = np.concatenate([items[:5], random.normal(size=(6, 64)).astype(np.float32)])
    index = shortlist.Index(items, metric=metric)
    mask = random.random(len(items)) < 0.5
    hits = {n: index.search(queries, top_n=20, allow=mask, n_threads=n) for n in (1, 2)}
    expected = np.concatenate(
        [reference.all_scores(items, query[None], metric) for query in queries]
    )
    scale = reference.scale_of(items, queries, metric)
    allowed = np.broadcast_to(mask, expected.shape)
    reference.assert_top_n(
        hits[1].indices, hits[1].scores, hits[1].counts, expected, scale, allowed
    )
    assert same(hits[1], hits[2])
    for q in range(len(queries)):
        assert same(
            index.search(queries[q : q + 1], top_n=20, allow=mask),
            shortlist.Hits(*(field[q : q + 1] for field in hits[1])),
        )


def misleading(random, n, dim):
    """The blocks that a sample of every third one looks at are not like the others."""
    rows = random.normal(size=(n, dim))
    rows[np.arange(n) // 64 % 3 == 0] += 9
    return rows


def clustered(random, n, dim):
    return np.repeat(random.normal(size=(n // 500 + 1, dim)), 500, axis=0)[:n] + random.normal(
        scale=0.1, size=(n, dim)
    )


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", [misleading, clustered, heavy_tails, duplicates, mixed_huge])
def test_long_lists_are_exact_whatever_a_sample_says(kind, metric):
    random = np.random.default_rng(12)
    items = kind(random, 52_000, 8).astype(np.float32)
    queries = np.concatenate([items[:3], random.normal(size=(4, 8)).astype(np.float32)])
    index = shortlist.Index(items, metric=metric)
    mask = random.random(len(items)) < 0.4
    hits = {n: index.search(queries, top_n=1500, allow=mask, n_threads=n) for n in (1, 2)}
    reference.assert_top_n(
        hits[1].indices,
        hits[1].scores,
        hits[1].counts,
        reference.all_scores(items, queries, metric),
        reference.scale_of(items, queries, metric),
        np.broadcast_to(mask, (len(queries), len(items))),
    )
    assert same(hits[1], hits[2])
    alone = index.search(queries[:1], top_n=1500, allow=mask)
    assert same(alone, shortlist.Hits(*(field[:1] for field in hits[1])))
