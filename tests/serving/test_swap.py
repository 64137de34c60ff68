"""A swap shows callers the old bundle or the new one, never both, and leaves nothing behind."""

import gc
import os
import shutil
import threading
import time
import weakref
import zipfile
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import shortlist
from shortlist import BundleError, ShortlistError
from shortlist._serving.switch import wait_until_unused

REQUESTS = [{"history": [100, 107]}, {"user_id": 5}, {"history": [121, 300, 114], "age": 20.0}, {}]


@pytest.fixture(scope="module")
def other(make_tiny_bundle, tmp_path_factory):
    """The same items with opposite vectors: no answer of one bundle is one of the other."""
    return make_tiny_bundle(tmp_path_factory.mktemp("other") / "other.shortlist", sign=-1)


def answer(engine):
    found = engine.recommend(REQUESTS, top_n=5, stages=1)
    return found.item_ids.tobytes() + found.scores.tobytes() + found.source.tobytes()


def answer_of(world):
    with shortlist.load(world.path) as engine:
        return answer(engine)


def test_a_swap_changes_the_answers_and_swaps_back(world, other):
    with shortlist.load(world.path) as engine:
        engine.swap(other.path)
        assert answer(engine) == answer_of(other) != answer_of(world)
        assert engine.report()["bundle"] == str(other.path) == str(engine.bundle.path)
        assert engine.index.vectors([0]).tolist() == (-world_vectors(world)).tolist()
        engine.swap(world.path)
        assert answer(engine) == answer_of(world)


@pytest.mark.parametrize("is_zip", [False, True])
def test_an_answer_knows_its_titles_after_a_swap_and_a_close(world, other, tmp_path, is_zip):
    path = world.path
    if is_zip:
        path = tmp_path / "bundle.zip"
        with zipfile.ZipFile(path, "w") as file:
            for part in sorted(world.path.iterdir()):
                file.write(part, part.name)
    expected = []
    for one in (world, other):
        with shortlist.load(one.path) as engine:
            expected.append(engine.recommend(REQUESTS, top_n=5).titles.tolist())
    with shortlist.load(path) as engine:
        swapped = engine.recommend(REQUESTS, top_n=5)
        engine.swap(other.path)
        closed = engine.recommend(REQUESTS, top_n=5)
    gc.collect()
    assert [swapped.titles.tolist(), closed.titles.tolist()] == expected


def world_vectors(world):
    with shortlist.load(world.path) as engine:
        return engine.index.vectors([0])


def test_a_bundle_that_cannot_be_used_leaves_the_engine_as_it_was(world, text_world, tmp_path):
    broken = tmp_path / "broken.shortlist"
    broken.mkdir()
    for file in world.path.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: -1 if "index" in file.name else None])
    with shortlist.load(world.path) as engine:
        with pytest.raises(BundleError, match=r"items\.index"):
            engine.swap(broken)
        with pytest.raises(BundleError, match="found nothing there"):
            engine.swap(tmp_path / "none.shortlist")
        with pytest.raises(
            BundleError,
            match=r"item ids are string, those of the running bundle int64: .*engine of",
        ):
            engine.swap(text_world.path)
        assert answer(engine) == answer_of(world)


def test_a_changed_byte_is_found_before_the_bundle_answers(world, tmp_path):
    changed = tmp_path / "changed.shortlist"
    shutil.copytree(world.path, changed)
    data = bytearray((changed / "items.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (changed / "items.arrow").write_bytes(data)
    with shortlist.load(world.path) as engine:
        with pytest.raises(BundleError, match=r"changed\.shortlist/items\.arrow: expected sha256"):
            engine.swap(changed)
        assert answer(engine) == answer_of(world)
        engine.swap(changed, verify=False)


def test_a_swap_names_a_changed_file_as_load_does(world, tmp_path, monkeypatch):
    changed = tmp_path / "changed.shortlist"
    shutil.copytree(world.path, changed)
    data = bytearray((changed / "items.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (changed / "items.arrow").write_bytes(data)
    (tmp_path / "link.shortlist").symlink_to(changed)
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as archive:
        for file in changed.iterdir():
            archive.write(file, file.name)
    monkeypatch.chdir(changed)
    names = {
        tmp_path / "tiny.zip": "tiny.zip",
        Path("."): "changed.shortlist",
        tmp_path / "link.shortlist": "changed.shortlist",
    }
    with shortlist.load(world.path) as engine:
        for path, name in names.items():
            said = []
            for take in (shortlist.load, engine.swap):
                with pytest.raises(BundleError) as caught:
                    take(path)
                said.append(str(caught.value))
            assert said[0] == said[1]
            assert said[0].startswith(f"{name}/items.arrow: expected sha256 ")
        assert answer(engine) == answer_of(world)


def test_a_closed_engine_does_not_swap(world, other):
    engine = shortlist.load(world.path)
    engine.close()
    with pytest.raises(ShortlistError, match="engine: it is closed"):
        engine.swap(other.path)


def test_upserted_items_stay_with_their_bundle(world, other):
    with shortlist.load(world.path) as engine:
        engine.upsert_items([{"item_id": 5, "genres": ["war"]}])
        assert len(engine.index) == len(world.item_ids) + 1
        engine.swap(other.path)
        assert len(engine.index) == len(world.item_ids)
        engine.upsert_items([{"item_id": 5, "genres": ["war"]}])
        assert 5 in engine.index.item_ids


def test_nothing_of_the_old_bundle_stays(world, other, tmp_path):
    zipped = tmp_path / "tiny.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for file in world.path.iterdir():
            archive.write(file, file.name)
    with shortlist.load(zipped) as engine:
        old, folder = weakref.ref(engine._switch.loaded), engine.bundle.directory
        assert folder.exists()
        engine.swap(other.path)
        gc.collect()
        assert old() is None
        assert not folder.exists()


def hold_calls(engine, has_begun, may_go_on):
    """Let calls of the present bundle begin, and wait before the compiled engine answers."""
    loaded = engine._switch.loaded
    core = loaded._core

    class Held:
        def recommend(self, *args, **options):
            has_begun.set()
            assert may_go_on.wait(60)
            return core.recommend(*args, **options)

        def __getattr__(self, name):
            return getattr(core, name)

    loaded._core = Held()


def test_a_call_under_way_finishes_on_the_old_bundle(world, other):
    has_begun, may_go_on, answers = threading.Event(), threading.Event(), []
    with shortlist.load(world.path) as engine:
        hold_calls(engine, has_begun, may_go_on)
        caller = threading.Thread(target=lambda: answers.append(answer(engine)))
        caller.start()
        assert has_begun.wait(60)
        engine.swap(other.path)
        assert answer(engine) == answer_of(other)
        may_go_on.set()
        caller.join()
        assert answers == [answer_of(world)]


def test_a_swap_outlasts_the_calls_under_way_and_frees_the_old_bundle(world, other, monkeypatch):
    has_begun, may_go_on = threading.Event(), threading.Event()
    with shortlist.load(world.path) as engine:
        old = weakref.ref(engine._switch.loaded)
        hold_calls(engine, has_begun, may_go_on)
        caller = threading.Thread(target=lambda: answer(engine))
        caller.start()
        assert has_begun.wait(60)
        monkeypatch.setattr(
            "shortlist._serving.switch.wait_until_unused", partial(until_unused, may_go_on)
        )
        engine.swap(other.path)
        assert old() is None
        caller.join()


def until_unused(may_go_on, held):
    may_go_on.set()
    wait_until_unused(held, 60)


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def swap_under_load(world, other, n_swaps):
    """Swap back and forth while four threads call; return latencies before and during."""
    expected = {answer_of(world), answer_of(other)}
    wrong, is_over = [], threading.Event()
    # The newest ones: a longer list would be what grows.
    latencies = {name: deque(maxlen=20_000) for name in ("before", "during")}
    phase = "before"
    with shortlist.load(world.path) as engine:

        def call():
            while not is_over.is_set():
                start = time.perf_counter()
                try:
                    found = answer(engine)
                except Exception as error:
                    wrong.append(error)
                    return
                latencies[phase].append(time.perf_counter() - start)
                if found not in expected:
                    wrong.append(found)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        resident = []
        time.sleep(0.5 if n_swaps < 100 else 5)
        phase = "during"
        for n in range(n_swaps):
            engine.swap((other if n % 2 == 0 else world).path)
            if n % 50 == 49:
                resident.append(resident_bytes())
        is_over.set()
        for caller in callers:
            caller.join()
    assert wrong == []
    return latencies, resident


def test_swaps_under_load_give_whole_answers(world, other):
    latencies, _ = swap_under_load(world, other, 20)
    assert min(len(seconds) for seconds in latencies.values()) > 0


@pytest.mark.slow
def test_a_thousand_swaps_leave_memory_as_it_was(world, other):
    latencies, resident = swap_under_load(world, other, 1000)
    p99 = {name: float(np.quantile(seconds, 0.99)) for name, seconds in latencies.items()}
    print(f"p99 ms {p99['before'] * 1e3:.2f} before, {p99['during'] * 1e3:.2f} during the swaps")
    print("resident MB", [round(n / 2**20, 1) for n in resident])
    assert np.median(resident[-4:]) <= 1.03 * np.median(resident[:4])
