"""Shards in processes: the same answers, one set at a time, and processes that end."""

import os
import signal
import warnings

import numpy as np
import pytest

from shortlist import Index, ShortlistError
from shortlist.shards import ShardedIndex, ShardPool


def rows(seed, n=300, dim=8):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool") / "items.shards"
    ids = [f"item {row}" for row in range(300)]
    ShardedIndex.build(folder, rows(0), ids, n_shards=5)
    with ShardPool(folder, 2) as pool:
        yield pool


def test_processes_answer_as_one_index(pool):
    whole = Index(rows(0), [f"item {row}" for row in range(300)])
    groups = {"brand": np.arange(300) % 7, "new": np.arange(300) > 280}
    exclude = [whole.item_ids[:20]] * 4
    for given in (
        {},
        {"exclude": exclude},
        {"allow": np.arange(300) < 130},
        {"groups": groups, "at_most": {"brand": 1}, "at_least": {"new": 3}},
        {"groups": groups, "at_most": {"brand": 2}, "diversity": 0.4, "exclude": exclude},
    ):
        hits, expected = pool.search(rows(1, 4), 12, **given), whole.search(rows(1, 4), 12, **given)
        assert hits.item_ids.tolist() == expected.item_ids.tolist()
        assert hits.indices.tolist() == expected.indices.tolist()
        assert hits.scores.tobytes() == expected.scores.tobytes()


def test_an_error_is_the_callers_and_the_pool_goes_on(pool):
    with pytest.raises(ValueError, match="queries: got dim 3; the index has dim 8"):
        pool.search(np.ones((1, 3)))
    with pytest.raises(TypeError, match="item ids of this index are str"):
        pool.search(np.ones((1, 8)), exclude=[[1]])
    assert pool.search(rows(1, 2), 3).counts.tolist() == [3, 3]


def test_all_processes_go_over_at_once(tmp_path):
    index = ShardedIndex.build(tmp_path / "shards", rows(0), n_shards=3)
    with ShardPool(tmp_path / "shards") as pool:
        assert repr(pool) == "ShardPool(3 shards in 3 processes, generation 1)"
        assert not pool.refresh()
        before = pool.search(rows(1, 2), 5)
        index.replace({0: Index(rows(2, 100)), 2: Index(rows(3, 100))})
        assert pool.search(rows(1, 2), 5).scores.tobytes() == before.scores.tobytes()
        assert pool.refresh()
        expected = index.search(rows(1, 2), 5)
        assert pool.search(rows(1, 2), 5).scores.tobytes() == expected.scores.tobytes()


def test_a_process_that_ends_is_told_and_no_one_waits(tmp_path):
    ShardedIndex.build(tmp_path / "shards", rows(0), n_shards=2)
    pool = ShardPool(tmp_path / "shards")
    os.kill(pool._workers[1]._process.pid, signal.SIGKILL)
    with pytest.raises(ShortlistError, match=r"has ended with the status -9; .* make a new pool"):
        pool.search(rows(1, 2))
    pool.close()
    with pytest.raises(ShortlistError, match="it is closed"):
        pool.search(rows(1, 2))


def test_an_interrupted_search_leaves_no_answer_for_the_next_one(tmp_path, monkeypatch):
    ShardedIndex.build(tmp_path / "items.shards", rows(0), n_shards=2)
    with ShardPool(tmp_path / "items.shards") as pool:
        last = pool._workers[-1]
        real = last.receive

        def interrupt():
            raise KeyboardInterrupt

        monkeypatch.setattr(last, "receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.search(rows(1, 2), 3)
        monkeypatch.setattr(last, "receive", real)
        with pytest.raises(ShortlistError, match="it is closed; make a new one"):
            pool.search(rows(2, 1), 3)


def test_a_fork_makes_a_pool_of_its_own(pool):
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        said = b"nothing"
        try:
            pool.search(rows(1, 2), 3)
        except ShortlistError as error:
            said = str(error).encode()
        pool.close()
        os.write(write, said)
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        assert f"it belongs to process {os.getpid()}, and this is a fork of it" in pipe.read()
    assert pool.search(rows(1, 2), 3).counts.tolist() == [3, 3]
