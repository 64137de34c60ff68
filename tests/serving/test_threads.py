"""The thread count: what it says, what it refuses, and that no answer depends on it."""

import os
import subprocess
import sys

import numpy as np
import pytest

import shortlist

ITEMS = np.random.default_rng(5).normal(size=(30_000, 32)).astype(np.float32)


@pytest.fixture(autouse=True)
def _restored():
    before = shortlist.get_num_threads()
    yield
    shortlist.set_num_threads(before)


def test_the_count_is_what_was_set():
    for count in (1, 3, np.int64(2), 256):
        shortlist.set_num_threads(count)
        assert shortlist.get_num_threads() == count


def test_zero_means_the_cpus_of_this_process():
    shortlist.set_num_threads(7)
    shortlist.set_num_threads(0)
    assert 1 <= shortlist.get_num_threads() <= len(os.sched_getaffinity(0))


def test_affinity_counts():
    cpu = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{cpu}}}); import shortlist; "
        "print(shortlist.get_num_threads())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (True, TypeError, "n_threads: got True of type bool"),
        (1.0, TypeError, "n_threads: got 1.0 of type float"),
        (None, TypeError, "n_threads: got None of type NoneType"),
        (-1, ValueError, "n_threads: got -1; expected an int >= 0"),
        (257, ValueError, "n_threads: got 257; expected at most 256"),
        (2**70, ValueError, "n_threads: got .*; expected at most 256"),
    ],
)
def test_a_wrong_count_is_refused_and_changes_nothing(value, error, message):
    shortlist.set_num_threads(2)
    with pytest.raises(error, match=message):
        shortlist.set_num_threads(value)
    assert shortlist.get_num_threads() == 2


def test_no_answer_depends_on_the_count():
    index = shortlist.Index(ITEMS)
    answers = set()
    for count in (1, 2, 5, 0):
        shortlist.set_num_threads(count)
        for n_queries in (1, 9, 200):
            hits = index.search(ITEMS[:n_queries], top_n=5)
            answers.add((n_queries, hits.item_ids.tobytes(), hits.scores.tobytes()))
    assert len(answers) == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_search():
    shortlist.set_num_threads(3)
    index = shortlist.Index(ITEMS)
    expected = index.search(ITEMS[:200], top_n=5)
    child = os.fork()
    if child == 0:
        same = np.array_equal(index.search(ITEMS[:200], top_n=5).item_ids, expected.item_ids)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
