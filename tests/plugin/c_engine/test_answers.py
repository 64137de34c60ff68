"""The C engine answers as `Engine.recommend` does, bit for bit, through swaps and from threads."""

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from c_engine import RUNTIME, CEngine, Column, column
from c_requests import check_same, columns_of, random_requests

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema


@pytest.mark.parametrize("which", ["bundle", "text_bundle"])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_answers_are_the_python_engines(which, n_threads, request):
    world = request.getfixturevalue(which)
    with (
        shortlist.load(world.path) as engine,
        CEngine(world.path, n_threads=n_threads) as c_engine,
    ):
        for n in (1, 40, 1500):  # the last is cut into batches
            requests = random_requests(world, n, seed=n)
            columns = columns_of(world, requests)
            for top_n in (1, 12, 55) if n < 100 else (10,):
                for exclude_seen in (True, False):
                    expected = engine.recommend(requests, top_n, exclude_seen)
                    check_same(c_engine.recommend(columns, n, top_n, not exclude_seen), expected)
        assert set(expected.source) == {"history", "features", "popular"}


def long_requests(world, n):
    """Short histories, but for some of 20,000 items, at the ends of batches and in the middle."""
    requests = random_requests(world, n)
    rng = np.random.default_rng(1)
    for i in (0, 300, 700, 701, 1023, n - 1):
        requests["history"][i] = rng.choice([*world.item_ids[:30], 5], 20_000).tolist()
    requests["tags"][400] = ["a"] * 5000
    return requests


def test_long_histories_answer_as_in_python(bundle):
    requests = long_requests(bundle, 1100)
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        found = c_engine.recommend(columns_of(bundle, requests), 1100)
        check_same(found, engine.recommend(requests))
        loaded = engine._switch.loaded
        columns = normalise(requests, request_schema(engine.bundle))
        starts = loaded.core.batch_starts(1100, columns.for_core(loaded.schema))
    assert starts[:4] == [0, 52, 300, 352]  # 52 lists of 20,000 fit


LONG = """
import re, sys
from pathlib import Path
import numpy as np
from c_engine import CEngine, lists
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
history = [[100, 107]] * 1024
history[500] = [100, 107] * 10_000
columns = [lists("history", history, np.int64)]
with CEngine(sys.argv[1]) as engine:
    engine.recommend([], 1)
    before = peak()
    engine.recommend(columns, 1024)
    print(peak() - before)
"""


def test_one_long_history_costs_its_batch_no_memory(bundle):
    # A process of its own: this one's peak has been. Padded to the longest, 1,024 requests would be
    # tensors of 160 MiB each.
    done = subprocess.run(
        [sys.executable, "-c", LONG, bundle.path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 200 << 10  # KiB


def test_arrays_with_missing_values_answer_like_lists(bundle):
    history = bundle.item_ids[:6].reshape(2, 3)
    padded = np.hstack([np.full((2, 2), np.iinfo(np.int64).min), history])
    tags = np.array([["a", "b"], ["b", ""]], object)
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        expected = engine.recommend({"history": history.tolist(), "tags": [["a", "b"], ["b"]]}, 7)
        check_same(c_engine.recommend([column("history", padded), column("tags", tags)], 2, 7),
                   expected)  # fmt: skip


def test_no_requests_and_no_columns_are_fine(bundle):
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        assert c_engine.recommend([], 0, 3).item_ids.shape == (0, 3)
        check_same(c_engine.recommend([], 2, 3), engine.recommend([{}, {}], 3))
        requests = {"history": [], "city": [], "age": []}
        assert engine.recommend(requests, 3).item_ids.shape == (0, 3)
        nothing = [Column(name=name.encode()) for name in requests]
        assert c_engine.recommend(nothing, 0, 3).item_ids.shape == (0, 3)


def test_the_report_says_what_runs(bundle, text_bundle):
    with CEngine(bundle.path, n_threads=2) as engine, CEngine(text_bundle.path) as other:
        info = engine.info()
        assert (info.version, info.n_items, info.dim, info.n_threads) == (1, 40, 8, 2)
        assert (info.metric, info.has_texts, other.info().has_texts) == (0, 0, 1)
        assert info.onnxruntime.decode() == onnxruntime.__version__
        assert info.provider == b"CPUExecutionProvider"
        assert info.bundle.decode() == str(bundle.path.resolve())


def test_a_swap_changes_the_answers_and_swaps_back(bundle, other):
    requests = random_requests(bundle, 20)
    columns = columns_of(bundle, requests)
    with CEngine(bundle.path) as c_engine:
        for number, world in enumerate((bundle, other, bundle), 1):
            if number > 1:
                c_engine.swap(world.path)
            with shortlist.load(world.path) as engine:
                found = c_engine.recommend(columns, 20)
                check_same(found, engine.recommend(requests))
                assert found.version == c_engine.info().version == number


@pytest.mark.skipif(sys.platform != "linux", reason="threads have nice values there")
def test_the_workers_of_a_swapped_bundle_do_not_give_way(bundle, other):
    def nice_values():
        found = {}
        for thread in os.listdir("/proc/self/task"):
            try:
                found[thread] = os.getpriority(os.PRIO_PROCESS, int(thread))
            except ProcessLookupError:  # it ended meanwhile
                continue
        return found

    with CEngine(bundle.path, n_threads=3) as engine:
        before = nice_values()
        engine.swap(other.path)
        new = {thread: value for thread, value in nice_values().items() if thread not in before}
        assert new  # the new session's workers
        assert set(new.values()) == {os.getpriority(os.PRIO_PROCESS, threading.get_native_id())}


# ONNX Runtime, but when its first environment is made, when the bundle's files have been hashed and
# no graph is open yet, another folder comes into the bundle's place. CreateEnv is the fourth of the
# functions of OrtApi, whose order is for ever; 1.17 has more than 270.
EXCHANGING = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct base { const void* (*api)(uint32_t); const char* (*version)(void); };
static const struct base* real;
static void* functions[270];
static void* (*create_env)(int, const char*, void**);
static int n_made;
static void* exchange(int level, const char* name, void** made) {
  if (++n_made == 1 && (rename("%(running)s", "%(aside)s") || rename("%(next)s", "%(running)s")))
    return 0;
  return create_env(level, name, made);
}
static const void* get_api(uint32_t version) {
  if (version > 17) return real->api(version);  /* a longer table, for what is newer */
  memcpy(functions, real->api(version), sizeof functions);
  *(void**)&create_env = functions[3];
  *(void**)&functions[3] = (void*)exchange;
  return functions;
}
static const char* get_version(void) { return real->version(); }
const struct base* OrtGetApiBase(void) {
  static const struct base made = {get_api, get_version};
  const struct base* (*get_base)(void);
  *(void**)&get_base = dlsym(dlopen("%(runtime)s", RTLD_NOW | RTLD_LOCAL), "OrtGetApiBase");
  real = get_base();
  return &made;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc for a runtime that exchanges")
def test_the_bundle_that_was_checked_is_the_one_that_runs(bundle, other, tmp_path):
    places = {name: tmp_path / f"{name}.shortlist" for name in ("running", "aside", "next")}
    shutil.copytree(bundle.path, places["running"])
    shutil.copytree(other.path, places["next"])
    source, runtime = tmp_path / "exchanging.c", tmp_path / "exchanging.so"
    source.write_text(EXCHANGING % {**places, "runtime": RUNTIME}, encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", runtime, "-ldl"], check=True)
    requests = random_requests(bundle, 20)
    columns = columns_of(bundle, requests)
    with CEngine(places["running"], onnxruntime=str(runtime).encode()) as c_engine:
        assert places["aside"].exists()
        assert not places["next"].exists()
        with shortlist.load(bundle.path) as engine:
            check_same(c_engine.recommend(columns, 20), engine.recommend(requests))
        c_engine.swap(places["running"])
        with shortlist.load(other.path) as engine:
            check_same(c_engine.recommend(columns, 20), engine.recommend(requests))
        open_files = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
        # The running one's folder, for its item encoder; the other one is let go again.
        assert len({str(path) for path in places.values()} & set(open_files)) == 1


def test_sixteen_threads_and_swaps_give_whole_answers(bundle, other):
    requests = random_requests(bundle, 3)
    columns = columns_of(bundle, requests)
    expected = {}
    for parity, world in ((1, bundle), (0, other)):
        with shortlist.load(world.path) as engine:
            expected[parity] = engine.recommend(requests)
    is_over = threading.Event()
    with CEngine(bundle.path) as c_engine:

        def ask(_):
            versions = set()
            while not is_over.is_set():
                found = c_engine.recommend(columns, 3)
                check_same(found, expected[found.version % 2])
                versions.add(found.version)
            return len(versions)

        with ThreadPoolExecutor(16) as pool:
            counts = pool.map(ask, range(16))
            for number in range(40):
                c_engine.swap((other if number % 2 == 0 else bundle).path)
            is_over.set()
        assert max(counts) > 1  # some thread saw more than one version


def test_swapped_bundles_leave_no_memory_behind(bundle, other):
    def resident_bytes():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    columns = columns_of(bundle, random_requests(bundle, 3))
    with CEngine(bundle.path) as engine:
        seen = []
        for number in range(120):
            engine.swap((other if number % 2 == 0 else bundle).path)
            engine.recommend(columns, 3)
            seen.append(resident_bytes())
    assert np.median(seen[-20:]) <= 1.03 * np.median(seen[20:40])
