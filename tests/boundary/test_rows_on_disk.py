"""disk8, disk6, disk4: of a loaded file the codes are in memory; vectors are read one by one."""

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from shortlist import BundleError, Index, _core
from shortlist.bundle.storages import ON_DISK, index_parts

N_ITEMS, DIM = 3000, 24
METRICS = ["cosine", "dot", "euclidean"]
IDS = np.arange(N_ITEMS) * 3 + 5


@pytest.fixture(scope="module")
def items():
    random = np.random.default_rng(5)
    rows = random.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    rows[::40] *= 30
    rows[7] = 0
    rows[100:120] = rows[100]
    return rows


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(6).normal(size=(40, DIM)).astype(np.float32)


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("item_ids", "scores", "counts", "indices")
    )


@pytest.fixture(params=ON_DISK)
def storage(request):
    return request.param


@pytest.fixture
def loaded(items, storage, tmp_path):
    Index(items, IDS, storage=storage).save(tmp_path / "a.index")
    return Index.load(tmp_path / "a.index")


@pytest.fixture
def plain(items):
    return Index(items, IDS)


def test_only_codes_are_in_memory(loaded, plain, storage, tmp_path):
    memory, rows = loaded.memory(), N_ITEMS * DIM * 4
    assert (memory.rows, memory.mapped_rows, memory.mapped_codes) == (0, 0, 0)
    assert memory.rows_on_disk == rows
    parts = index_parts(tmp_path / "a.index")
    assert memory.codes == parts["codes"] < rows / 3
    assert memory.to_dict()["rows_on_disk"] == rows
    assert str(tmp_path / "a.index") not in Path("/proc/self/maps").read_text()
    copied = Index.load(tmp_path / "a.index", mmap=False).memory()
    assert (copied.rows, copied.rows_on_disk) == (rows, 0)
    assert (plain.memory().rows, plain.memory().rows_on_disk) == (rows, 0)
    plain.save(tmp_path / "plain")
    mapped = Index.load(tmp_path / "plain").memory()
    assert (mapped.rows, mapped.mapped_rows, mapped.codes) == (0, rows, 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mmap", [True, False])
def test_answers_have_the_bits_of_float32(items, queries, storage, metric, mmap, tmp_path):
    Index(items, IDS, metric, storage=storage).save(tmp_path / "a.index")
    index, plain = Index.load(tmp_path / "a.index", mmap=mmap), Index(items, IDS, metric)
    for options in (
        {},
        {"exclude": [IDS[:900].tolist()] * len(queries)},
        {"allow": IDS[:50].tolist()},
        {"allow": np.arange(N_ITEMS) % 3 > 0},
        {"groups": {"kind": np.arange(N_ITEMS) % 7}, "at_most": {"kind": 2}},
        {"groups": {"new": np.arange(N_ITEMS) % 50 == 0}, "at_least": {"new": 3}},
        {"diversity": 0.4},
    ):
        wanted = plain.search(queries, top_n=15, **options)
        assert same(index.search(queries, top_n=15, **options), wanted)
        alone = options | {k: v[:1] for k, v in options.items() if k == "exclude"}
        one = index.search(queries[:1], top_n=15, **alone)
        assert one.scores.tobytes() == wanted.scores[:1].tobytes()
    rows = [5, 7, 2999]
    assert index.vectors(rows).tobytes() == plain.vectors(rows).tobytes()


def reads():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("syscr")))


@pytest.mark.parametrize("metric", METRICS)
def test_what_half_codes_leave_is_judged_by_codes_before_it_is_read(metric, tmp_path):
    random = np.random.default_rng(8)
    rows = random.normal(size=(20_000, 32)).astype(np.float32)
    queries = random.normal(size=(10, 32)).astype(np.float32)
    limit, found, n_reads = _core.min_code_bytes_for_nibbles(), {}, {}
    try:
        for n_bytes in (0, limit):
            _core.set_min_code_bytes_for_nibbles(n_bytes)
            Index(rows, metric=metric, storage="disk8").save(tmp_path / "a.index")
            index = Index.load(tmp_path / "a.index")
            before = reads()
            found[n_bytes] = [index.search(queries[i : i + 1], n_threads=1) for i in range(10)]
            n_reads[n_bytes] = reads() - before
    finally:
        _core.set_min_code_bytes_for_nibbles(limit)
    plain = Index(rows, metric=metric)
    for i in range(10):
        wanted = plain.search(queries[i : i + 1])
        assert same(found[0][i], wanted)
        assert same(found[limit][i], wanted)
    assert n_reads[0] <= 1.1 * n_reads[limit]  # the same candidates, in nearly the same order


def test_updates_live_in_memory_until_they_are_saved(loaded, plain, queries, tmp_path):
    random = np.random.default_rng(9)
    for _ in range(3):  # more than the delta holds: segments are packed
        ids = random.choice(N_ITEMS * 4, size=700, replace=False)
        rows = random.normal(size=(700, DIM)).astype(np.float32)
        for index in (loaded, plain):
            index.upsert(ids, rows)
            index.remove(IDS[:300])
        assert same(loaded.search(queries, 20), plain.search(queries, 20))
    assert loaded.memory().rows > 0
    loaded.save(tmp_path / "a.index")  # in the place of the file it reads from
    plain.save(tmp_path / "b.index")
    again, wanted = Index.load(tmp_path / "a.index"), Index.load(tmp_path / "b.index")
    assert same(again.search(queries, 20), wanted.search(queries, 20))
    assert again.memory().rows == 0
    assert same(loaded.search(queries, 20), plain.search(queries, 20))


def test_it_travels_and_saves_the_same_bytes(loaded, queries, tmp_path):
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy.memory().rows_on_disk == 0
    assert same(copy.search(queries, 20), loaded.search(queries, 20))
    loaded.save(tmp_path / "b.index")
    assert (tmp_path / "b.index").read_bytes() == (tmp_path / "a.index").read_bytes()


def test_a_replaced_file_is_still_read_and_let_go_in_the_end(loaded, plain, queries, tmp_path):
    Index(np.ones((3, DIM)), storage="disk8").save(tmp_path / "a.index")
    assert same(loaded.search(queries, 20), plain.search(queries, 20))
    view = loaded.vectors([1])
    assert view.tobytes() == plain.vectors([1]).tobytes()
    before = len(os.listdir("/proc/self/fd"))
    other = Index.load(tmp_path / "a.index")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del other
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shortened_file_is_an_error_and_no_crash(loaded, queries, tmp_path):
    os.truncate(tmp_path / "a.index", 8192)
    with pytest.raises(BundleError, match=r"a\.index: vector \d+: expected 96 bytes, found the en"):
        loaded.search(queries, 20)
    with pytest.raises(BundleError, match="the file was changed while it was in use"):
        loaded.save(tmp_path / "b.index")
    assert not (tmp_path / "b.index").exists()


def _child(index, queries, pipe):
    pipe.send(index.search(queries, 20).scores.tobytes())


def test_forks_and_threads_read_the_same_file(loaded, queries):
    wanted = loaded.search(queries, 20, n_threads=1).scores.tobytes()
    assert loaded.search(queries, 20, n_threads=3).scores.tobytes() == wanted
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(loaded, queries, theirs))
    child.start()
    assert ours.poll(60)
    assert ours.recv() == wanted
    child.join()


def crowded(kind):
    """Rows that codes tell little about, or whose numbers are at the ends of float32."""
    random = np.random.default_rng(9)
    rows = random.normal(size=(14_000, 8)).astype(np.float32)
    if kind == "near duplicates":  # less than half of each block, so that they are scanned
        alike = random.random(len(rows)) < 0.45
        rows[alike] = 3 + 1e-3 * rows[alike]
    elif kind == "heavy tails":
        rows *= np.exp(3 * random.normal(size=(len(rows), 1))).astype(np.float32)
    else:
        rows[::2] *= np.float32(1e-38)
        rows[::3] = 0
        rows[1::5] *= np.float32(1e15)
    return rows


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["near duplicates", "heavy tails", "extremes"])
def test_what_is_read_last_changes_no_bit(storage, metric, kind, tmp_path):
    rows = crowded(kind)
    plain = Index(rows, metric=metric)
    plain.with_storage(storage).save(tmp_path / "a.index")
    index = Index.load(tmp_path / "a.index")
    queries = np.concatenate([np.ones((1, 8)), rows[:6]]).astype(np.float32)
    for top_n in (1, 10, 150):
        expected = plain.search(queries, top_n)
        for n_threads, n in ((1, 7), (3, 7), (1, 1)):
            found = index.search(queries[:n], top_n, n_threads=n_threads)
            assert np.array_equal(found.indices, expected.indices[:n])
            assert np.array_equal(found.scores.view("i4"), expected.scores[:n].view("i4"))


def n_reads():
    """System calls of this process that read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("syscr:")).split()[1])


def test_few_more_rows_are_read_than_are_returned(tmp_path):
    random = np.random.default_rng(3)
    items = random.normal(size=(60_000, 32)).astype(np.float32)
    Index(items, storage="disk8").save(tmp_path / "a.index")
    index = Index.load(tmp_path / "a.index")
    queries = random.normal(size=(50, 32)).astype(np.float32)
    before = n_reads()
    index.search(queries, 10, n_threads=1)
    assert 10 <= (n_reads() - before) / len(queries) < 40
