"""Files that are overwritten, interrupts, and indexes on their way to other processes."""

import copy
import os
import pickle
import shutil
import signal
import threading
import time

import numpy as np
import pytest

import shortlist
from shortlist.bundle.storages import STORAGES
from shortlist.errors import BundleError

ROWS = np.random.default_rng(3).standard_normal((500, 24), "f4")


def write_over(source, target):
    """What `cp -r source/. target/` does."""
    for name in os.listdir(source):
        with open(source / name, "rb") as read, open(target / name, "wb") as written:
            shutil.copyfileobj(read, written)


@pytest.mark.parametrize("ids", [None, np.arange(500) * 7, [f"ü{i}" for i in range(500)]])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    "take", [copy.copy, copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i))]
)
def test_a_pickled_index_answers_alike(ids, storage, take):
    index = shortlist.Index(ROWS, ids, "dot", storage=storage)
    index.remove(index.item_ids[:3])
    found, hits = take(index), index.search(ROWS[:20])
    again = found.search(ROWS[:20])
    assert (len(found), found.metric, found.storage) == (497, "dot", storage)
    assert found.recall == index.recall
    assert again.item_ids.tolist() == hits.item_ids.tolist()
    assert again.scores.tobytes() == hits.scores.tobytes()
    found.remove(found.item_ids[:5])
    assert len(index) == 497


def test_a_damaged_pickle_is_refused():
    data = pickle.dumps(shortlist.Index(ROWS))
    with pytest.raises(BundleError, match=r"Index: .*; the file is damaged"):
        pickle.loads(data[:200] + bytes([data[200] ^ 1]) + data[201:])


def test_an_engine_with_a_copy_outlives_its_files(world, tmp_path):
    live = tmp_path / "live.shortlist"
    shutil.copytree(world.path, live)
    with shortlist.load(live, mmap=False) as engine:
        expected = engine.recommend([{"user_id": 5}]).item_ids.tolist()
        for name in os.listdir(live):
            (live / name).write_bytes(b"")
        assert engine.recommend([{"user_id": 5}]).item_ids.tolist() == expected
        assert engine.encode_items({"item_id": world.item_ids[:2]}).shape[0] == 2
        write_over(world.path, live)
        engine.swap(live)
        directory = engine.bundle.directory
    assert not directory.exists()
    with pytest.raises(TypeError, match="mmap: got 1"):
        shortlist.load(live, mmap=1)


def test_a_folder_that_was_written_over_is_not_swapped_to(world, tmp_path):
    live, other = tmp_path / "live.shortlist", tmp_path / "other.shortlist"
    shutil.copytree(world.path, live)
    shutil.copytree(world.path, other)
    with shortlist.load(live) as engine:
        engine.swap(live)  # untouched
        write_over(world.path, live)  # the same bytes: the engine lives on
        for change in (engine.swap, engine.start_trial):
            with pytest.raises(BundleError, match=r"written over in place .* mmap=False"):
                change(live)
        engine.swap(other)


def test_a_long_search_hears_an_interrupt():
    index = shortlist.Index(np.random.default_rng(0).standard_normal((100_000, 64), "f4"))
    queries = np.random.default_rng(1).standard_normal((200_000, 64), "f4")
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    start = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        index.search(queries, n_threads=1)
    timer.join()
    assert time.process_time() - start < 2  # the whole search takes many times that


def test_parts_of_a_long_search_give_the_same_bits():
    index = shortlist.Index(np.random.default_rng(0).standard_normal((60_000, 64), "f4"))
    queries = np.random.default_rng(1).standard_normal((3000, 64), "f4")
    allow = [np.arange(i, i + 50) if i % 2 else None for i in range(3000)]
    whole = index.search(queries, allow=allow)
    for i in (0, 1, 640, 1501, 2999):
        one = index.search(queries[i : i + 1], allow=allow[i : i + 1])
        assert one.scores.tobytes() == whole.scores[i].tobytes()
        assert one.item_ids[0].tolist() == whole.item_ids[i].tolist()
