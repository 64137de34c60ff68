"""Every storage is exact and reproducible for the values it stores, and rounds as it says."""

import numpy as np
import pytest
import reference
from hard_catalogues import SETTINGS, catalogues, same
from hypothesis import given, settings
from hypothesis import strategies as st

import shortlist
from shortlist import Index, _core
from shortlist.bundle.storages import APPROXIMATE, STORAGES

METRICS = ["cosine", "dot", "euclidean"]
ROUNDING = ["float16", "bfloat16", "int8", "int4"]
ON_DISK = ["disk8", "disk6", "disk4"]


def in_range(items, storage):
    return np.clip(items, -6e4, 6e4) if storage == "float16" else items


def stored_rows(index):
    return index.vectors(np.arange(len(index)))


def bfloat16(rows):
    """Round to nearest, ties to even, with integers."""
    bits = rows.view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


@settings(SETTINGS, max_examples=150)
@given(catalogues(), st.sampled_from(METRICS), st.sampled_from(STORAGES), st.integers(1, 120))
def test_answer_equals_the_oracle_on_the_stored_values(catalogue, metric, storage, top_n):
    items, queries = catalogue
    index = Index(in_range(items, storage), metric=metric, storage=storage)
    hits = index.search(queries, top_n=top_n)
    stored = stored_rows(index)
    expected = reference.all_scores(stored, queries, metric, are_stored=True)
    scale = reference.scale_of(stored, queries, metric)
    reference.assert_top_n(hits.indices, hits.scores, hits.counts, expected, scale)


@settings(SETTINGS, max_examples=40)
@given(catalogues(), st.sampled_from(METRICS), st.sampled_from(ROUNDING))
def test_bits_do_not_depend_on_level_batch_or_threads(catalogue, metric, storage):
    items, queries = catalogue
    index = Index(in_range(items, storage), metric=metric, storage=storage)
    queries = np.tile(queries, (4, 1))
    expected = index.search(queries, top_n=20, n_threads=1)
    best = _core.simd_level()
    for level in _core.simd_levels():
        _core.set_simd_level(level)
        assert same(index.search(queries, top_n=20, n_threads=3), expected)
        alone = [index.search(query[None, :], top_n=20) for query in queries[:3]]
        assert np.array_equal(np.concatenate([h.indices for h in alone]), expected.indices[:3])
        rebuilt = Index(in_range(items, storage), metric=metric, storage=storage)
        assert stored_rows(rebuilt).tobytes() == stored_rows(index).tobytes()
    _core.set_simd_level(best)


@settings(SETTINGS, max_examples=60)
@given(catalogues(), st.sampled_from(METRICS))
def test_half_precision_rounds_to_nearest(catalogue, metric):
    items = in_range(catalogue[0], "float16")
    unrounded = stored_rows(Index(items, metric=metric))  # for cosine normalised
    half = stored_rows(Index(items, metric=metric, storage="float16"))
    assert np.array_equal(half, unrounded.astype(np.float16).astype(np.float32))
    brain = stored_rows(Index(items, metric=metric, storage="bfloat16"))
    assert np.array_equal(brain, bfloat16(unrounded))


def test_every_float16_is_stored_as_it_is():
    bits = np.arange(2**16, dtype=np.uint16)
    every = bits.view(np.float16)
    every = every[np.isfinite(every)].astype(np.float32)[:, None]
    stored = stored_rows(Index(every, metric="dot", storage="float16"))
    assert stored.tobytes() == every.tobytes()


@settings(SETTINGS, max_examples=100)
@given(catalogues(), st.sampled_from(METRICS))
def test_int8_stores_codes_times_a_scale(catalogue, metric):
    items = catalogue[0]
    rows = stored_rows(Index(items, metric=metric)).astype(np.float64)
    stored = stored_rows(Index(items, metric=metric, storage="int8")).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    is_tiny = largest < 1e-30
    assert (stored[is_tiny[:, 0]] == 0).all()
    scale = np.abs(stored).max(axis=1, keepdims=True) / 127
    codes = np.divide(stored, scale, out=np.zeros_like(stored), where=scale > 0)
    assert np.array_equal(codes, np.round(codes))  # float32 holds the products exactly
    error = np.abs(rows / np.where(is_tiny, 1, largest) * 127 - codes)
    assert (error[~is_tiny[:, 0]] <= 0.5 + 1e-4).all()
    if metric == "cosine":
        norms = np.linalg.norm(stored, axis=1)
        assert np.allclose(norms[norms > 0], 1, rtol=2**-15)


@settings(SETTINGS, max_examples=80)
@given(catalogues(), st.sampled_from(METRICS), st.sampled_from(ON_DISK), st.integers(1, 70))
def test_rows_on_disk_answer_with_the_bits_of_float32(catalogue, metric, storage, n_queries):
    items, queries = catalogue
    queries = np.resize(queries, (n_queries, items.shape[1]))
    plain = Index(items, metric=metric)
    expected = plain.search(queries, top_n=20)
    for index in (Index(items, metric=metric, storage=storage), plain.with_storage(storage)):
        assert same(index.search(queries, top_n=20), expected)
        assert stored_rows(index).tobytes() == stored_rows(plain).tobytes()
        assert index.is_exact


@settings(SETTINGS, max_examples=60)
@given(catalogues(), st.sampled_from(METRICS))
def test_int4_stores_odd_codes_times_a_scale(catalogue, metric):
    rows = stored_rows(Index(catalogue[0], metric=metric)).astype(np.float64)
    stored = stored_rows(Index(catalogue[0], metric=metric, storage="int4")).astype(np.float64)
    is_tiny = np.abs(rows).max(axis=1) < 1e-30
    assert (stored[is_tiny] == 0).all()
    rows, stored = rows[~is_tiny], stored[~is_tiny]
    codes = stored / (np.abs(stored).max(axis=1, keepdims=True) / 15)
    assert np.array_equal(codes, np.round(codes))
    assert (codes % 2 == 1).all()
    cosines = np.einsum("nd,nd->n", rows, stored)
    cosines /= np.linalg.norm(rows, axis=1) * np.linalg.norm(stored, axis=1)
    # At worst the other numbers are 0, and become the least codes beside one of 15.
    assert (cosines > 0.99 / np.sqrt(1 + rows.shape[1] / 225)).all()
    if metric == "cosine":
        assert np.allclose(np.linalg.norm(stored, axis=1), 1, rtol=2**-15)


@settings(SETTINGS, max_examples=60)
@given(catalogues(), st.sampled_from(["dot", "euclidean"]), st.sampled_from(ROUNDING))
def test_rounding_what_is_rounded_changes_nothing(catalogue, metric, storage):
    index = Index(in_range(catalogue[0], storage), metric=metric, storage=storage)
    stored = stored_rows(index)
    again = stored_rows(Index(stored, metric=metric, storage=storage))
    assert again.tobytes() == stored.tobytes()


@pytest.mark.parametrize("storage", APPROXIMATE)
@pytest.mark.parametrize("metric", METRICS)
def test_recall_is_what_a_brute_force_finds(metric, storage):
    random = np.random.default_rng(4)
    items = random.normal(size=(3000, 16)).astype(np.float32)
    index = Index(items, metric=metric, storage=storage)
    rows = np.unique(np.linspace(0, 2999, 100).astype(int))
    scores = reference.all_scores(items, items[rows], metric)
    scores[np.arange(len(rows)), rows] = -np.inf
    truth = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    hits = index.search(items[rows], top_n=10, exclude=[[row] for row in rows])
    found = [np.isin(t, f).mean() for t, f in zip(truth, hits.indices, strict=True)]
    assert index.recall == pytest.approx(np.mean(found), abs=1e-9)
    assert 0.8 < index.recall < 1
    assert not index.is_exact
    assert Index(items, metric=metric).with_storage(storage).recall == index.recall


def test_recall_is_known_only_where_it_is_measured(tmp_path):
    items = np.eye(3, dtype=np.float32)
    for storage in set(STORAGES) - set(APPROXIMATE):
        index = Index(items, storage=storage)
        assert (index.recall, index.is_exact, index.storage) == (None, True, storage)
    index = Index(items, storage="int8")
    assert (index.recall, index.is_exact, index.storage) == (1.0, False, "int8")
    index.upsert([0, 7], items[:2])
    assert index.recall == 1.0
    index.save(tmp_path / "a")
    assert Index.load(tmp_path / "a").recall == 1.0
    assert Index(items[:1], storage="int8").recall is None
    assert Index(np.empty((0, 3)), storage="int8").recall is None


def test_smaller_storages_are_smaller(tmp_path):
    items = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    sizes = {}
    for storage in STORAGES:
        Index(items, metric="dot", storage=storage).save(tmp_path / storage)
        sizes[storage] = (tmp_path / storage).stat().st_size / items.size
    nibbles = 0.5 if _core.min_code_bytes_for_nibbles() == 0 else 0
    assert 5 + nibbles < sizes["float32"] < 5.1 + nibbles
    assert 3 + nibbles < sizes["float16"] == sizes["bfloat16"] < 3.1 + nibbles
    assert 1 < sizes["int8"] < 1.2
    assert 5 + nibbles < sizes["disk8"] < 5.1 + nibbles
    assert 4.75 < sizes["disk6"] < 4.95
    assert 4.5 < sizes["disk4"] < 4.7
    assert 0.5 < sizes["int4"] < 0.7


def test_what_is_rounded_is_not_rounded_to_something_else():
    rounded = Index(np.eye(3), storage="int8")
    with pytest.raises(ValueError, match="got float32 for an index of storage int8; the numbers"):
        rounded.with_storage("float32")
    assert same(rounded.with_storage("int8").search(np.eye(3), 2), rounded.search(np.eye(3), 2))
    large = Index(np.full((2, 3), 1e30), metric="dot")
    with pytest.raises(ValueError, match="row 0 holds a number beyond the range of storage float1"):
        large.with_storage("float16")
    with pytest.raises(ValueError, match="storage: got 'pq'"):
        large.with_storage("pq")


def test_an_updated_index_changes_its_storage(tmp_path):
    random = np.random.default_rng(2)
    index = Index(random.normal(size=(700, 20)), item_ids=[f"i{n}" for n in range(700)])
    index.upsert(["i3", "new"], random.normal(size=(2, 20)))
    index.remove(["i0", "i699"])
    index.save(tmp_path / "a")
    queries = np.random.default_rng(3).normal(size=(9, 20))
    expected = Index.load(tmp_path / "a").search(queries, top_n=30)
    for storage in ON_DISK:
        changed = index.with_storage(storage)
        assert same(changed.search(queries, top_n=30), expected)
        assert changed.search(queries, 30).item_ids.tolist() == expected.item_ids.tolist()
    assert index.storage == "float32"


def test_storage_is_seen():
    assert "float16" in repr(Index(np.eye(2), storage="float16"))
    assert shortlist.Index(np.eye(2)).storage == "float32"
