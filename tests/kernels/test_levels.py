"""Every SIMD level of this CPU gives the oracle's answer and the scalar level's bits."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import shortlist
from shortlist import _core
from shortlist.bundle.storages import STORAGES

DIMS = [*range(1, 66), 127, 128, 129, 255, 256, 257]
METRICS = ["cosine", "dot", "euclidean"]


LEVELS = _core.simd_levels()  # all that the tests below run on
FLAGS = {  # what Linux calls the instructions of each level
    "avx2": {"avx2", "fma"},
    "avxvnni": {"avx2", "fma", "avx_vnni"},
    "avx512": {"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"},
    "amx-int8": {"avx512f", "avx512bw", "avx512vl", "avx512_vnni", "amx_tile", "amx_int8"},
    "neon": {"asimddp"},
}


@pytest.fixture(params=LEVELS)
def level(request):
    _core.set_simd_level(request.param)
    assert _core.simd_level() == request.param
    return request.param


def cpu_flags():
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()
    }


def may_use_tiles():
    """Ask as the library does: a sandbox can forbid what the CPU has."""
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


@pytest.mark.parametrize("name", FLAGS)
def test_level_is_covered(name):
    """Asked of Linux, not of the library: a level that its own check misses is never tested."""
    has_level = FLAGS[name] <= cpu_flags() and (name != "amx-int8" or may_use_tiles())
    assert (name in LEVELS) == has_level
    if not has_level:
        pytest.skip(f"this CPU has no {name}")


def data(dim, n_items=300, n_queries=5, seed=0):
    random = np.random.default_rng(seed + dim)
    items = random.normal(size=(n_items, dim)).astype(np.float32)
    return items, random.normal(size=(n_queries, dim)).astype(np.float32)


def check(items, queries, metric, top_n=10):
    hits = shortlist.Index(items, metric=metric).search(queries, top_n=top_n)
    expected = reference.all_scores(items, queries, metric)
    scale = reference.scale_of(items, queries, metric)
    reference.assert_top_n(hits.indices, hits.scores, hits.counts, expected, scale)
    return hits


@pytest.mark.parametrize("metric", METRICS)
def test_every_dim_equals_the_oracle(level, metric):
    for dim in DIMS:
        check(*data(dim), metric)


@pytest.mark.parametrize("n_excluded", [1, 5, 12, 40, 700])  # hashed, and sorted
def test_the_best_items_of_each_query_may_be_excluded(level, n_excluded):
    items, queries = data(24, n_items=3000)
    expected = reference.all_scores(items, queries, "cosine")
    seen = np.argsort(-expected, axis=1)[:, :n_excluded]
    exclude = [[*reversed(rows), rows[0], -1] for rows in seen.tolist()]  # in any order, repeated
    hits = shortlist.Index(items).search(queries, exclude=exclude)
    allowed = np.ones(expected.shape, np.bool_)
    np.put_along_axis(allowed, seen, False, axis=1)
    reference.assert_top_n(hits.indices, hits.scores, hits.counts, expected, 1.0, allowed)


@pytest.mark.parametrize("lane", [3, 7])
def test_near_ties_among_excluded_items_are_looked_at_once(level, lane):
    """Their cutoffs rise from one round of the first slice to the next (found by a reader)."""

    def block(cosine, is_strong):
        rows = np.tile([-0.5, -0.5, np.sqrt(0.5), 0, 0, 0, 0, 0], (64, 1))
        rows[8] = [-cosine, 0, np.sqrt(1 - cosine**2), 0, 0, 0, 0, 0]
        rows[: 8 * is_strong] = [0.6, 0.8, 0, 0, 0, 0, 0, 0]
        return rows

    cosines = [(0.95 * (1 + 8e-7), 1)] * 2 + [(0.95 * (1 + 5e-7), 1)] * 2 + [(0.95, 1)] * 8
    items = np.concatenate([block(*kind) for kind in [*cosines, *[(0.95, 0)] * 4]])
    kept = [64 * (4 + i) + lane for i in range(5)]
    exclude = {64 * b + i for b in range(12) for i in range(8)} - set(kept)
    query = np.array([[0.6, 0.8, 0, 0, 0, 0, 0, 0]], np.float32)
    hits = shortlist.Index(items.astype(np.float32)).search(query, exclude=[sorted(exclude)])
    assert hits.indices[0, :5].tolist() == kept
    assert len(set(hits.indices[0].tolist())) == 10


@pytest.mark.parametrize("metric", METRICS)
def test_bits_equal_the_scalar_level(level, metric):
    for dim in DIMS:
        items, queries = data(dim, n_items=1000)
        index = shortlist.Index(items, metric=metric)
        hits = index.search(queries)
        _core.set_simd_level("scalar")
        expected = index.search(queries)
        _core.set_simd_level(level)
        assert np.array_equal(hits.indices, expected.indices)
        assert hits.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [3, 16, 33, 64, 100])
def test_large_batches_have_the_bits_of_the_scalar_level(level, metric, dim):
    """More items than a first slice holds, and batches of whole tiles of queries and of parts."""
    items, queries = data(dim, n_items=20_000, n_queries=70)
    index = shortlist.Index(items, metric=metric)
    _core.set_simd_level("scalar")
    expected = index.search(queries, n_threads=1)
    _core.set_simd_level(level)
    for n in (70, 32, 20, 7, 3):
        hits = index.search(queries[:n], n_threads=1)
        assert np.array_equal(hits.indices, expected.indices[:n])
        assert hits.scores.tobytes() == expected.scores[:n].tobytes()


@pytest.mark.parametrize("storage", STORAGES[1:])
@pytest.mark.parametrize("metric", METRICS)
def test_every_storage_has_the_bits_of_the_scalar_level(level, metric, storage):
    for dim in [1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 129, 257]:
        items, queries = data(dim, n_items=1000)
        index = shortlist.Index(items, metric=metric, storage=storage)
        hits = index.search(queries)
        stored = index.vectors(np.arange(1000))
        expected = reference.all_scores(stored, queries, metric, are_stored=True)
        scale = reference.scale_of(stored, queries, metric)
        reference.assert_top_n(hits.indices, hits.scores, hits.counts, expected, scale)
        _core.set_simd_level("scalar")
        again = shortlist.Index(items, metric=metric, storage=storage)
        assert again.vectors(np.arange(1000)).tobytes() == stored.tobytes()
        assert again.search(queries).scores.tobytes() == hits.scores.tobytes()
        assert np.array_equal(again.search(queries).indices, hits.indices)
        _core.set_simd_level(level)


@pytest.mark.parametrize("offset", [1, 2, 3, 7])
def test_misaligned_arrays_are_read_right(level, offset):
    items, queries = data(33)
    shifted = np.empty(items.size + offset, np.float32)[offset:].reshape(items.shape)
    shifted[:] = items
    check(shifted, queries, "dot")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-12, 1.0, 1e12, 1e18])
def test_magnitudes_from_denormal_to_huge(level, metric, scale):
    items, queries = data(24)
    items = (items * np.float32(scale)).astype(np.float32)
    scores_fit = metric != "euclidean" or scale >= 1e-12
    queries = queries if not scores_fit or metric == "dot" else queries * np.float32(scale)
    check(items, queries.astype(np.float32), metric)


def test_all_scores_negative_still_returns_the_best(level):
    items, queries = data(16)
    check(np.abs(items), -np.abs(queries), "dot")


@pytest.mark.parametrize("metric", METRICS)
def test_zero_rows_and_zero_queries(level, metric):
    items, queries = data(20)
    items[::3] = 0
    queries[1] = 0
    hits = check(items, queries, metric)
    assert np.isfinite(hits.scores).all()
    if metric == "cosine":
        assert (hits.scores[1] == 0).all()
        assert hits.indices[1].tolist() == list(range(10))


@pytest.mark.parametrize("metric", METRICS)
def test_zero_padding_on_the_right_changes_nothing(level, metric):
    items, queries = data(19)
    narrow = shortlist.Index(items, metric=metric).search(queries)
    pad = [(0, 0), (0, 14)]
    wide = shortlist.Index(np.pad(items, pad), metric=metric).search(np.pad(queries, pad))
    assert np.array_equal(narrow.indices, wide.indices)
    assert narrow.scores.tobytes() == wide.scores.tobytes()


def test_scores_beyond_float32_are_clamped_and_ordered_by_row(level):
    items = np.full((200, 4), 1e30, np.float32)
    hits = shortlist.Index(items, metric="dot").search(np.full((1, 4), 1e30, np.float32), top_n=5)
    assert hits.indices.tolist() == [[0, 1, 2, 3, 4]]
    assert (hits.scores == np.finfo(np.float32).max).all()


def test_level_can_be_forced_by_the_environment(level):
    code = "import shortlist; print(shortlist.simd_level())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"SHORTLIST_SIMD": level, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == level, run.stderr


@pytest.mark.parametrize(("forced", "expected"), [("avx512", 0), ("amx-int8", 1)])
def test_permission_is_asked_only_for_the_level_that_needs_it(forced, expected):
    if forced not in LEVELS:
        pytest.skip(f"this CPU has no {forced}")
    code = f"""
import ctypes, shortlist
shortlist.simd_level()
permitted = ctypes.c_uint64()
ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(permitted))  # ARCH_GET_XCOMP_PERM
assert permitted.value >> 18 & 1 == {expected}
"""
    environment = {"SHORTLIST_SIMD": forced, "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", ["sse9", *FLAGS])
def test_missing_level_is_an_error_that_lists_the_levels(name):
    if name in _core.simd_levels():
        pytest.skip(f"this CPU has {name}")
    code = "import shortlist; shortlist.simd_level()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"SHORTLIST_SIMD": name, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    levels = ", ".join(_core.simd_levels())
    assert run.returncode == 1
    assert f"SHORTLIST_SIMD: got '{name}'; expected a level this CPU can run: {levels};" in (
        run.stderr
    )
