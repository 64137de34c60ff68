"""The soak's checks accept every state an index may be in, and nothing between two of them."""

import subprocess
import sys

import numpy as np
import pytest
import soak
import soak_model
from soak_model import GROUP_ITEMS, Change, State, WrongAnswer

import shortlist

NONE = np.empty(0, np.int64)


@pytest.fixture
def changing():
    """An index, the state it began with, two changes, and queries."""
    random = np.random.default_rng(0)
    state = State()
    start = soak_model.journal_vectors(random, soak_model.N_JOURNAL)
    state.apply(Change(np.arange(soak_model.N_JOURNAL), start))
    index = shortlist.Index(start, metric="dot")
    queries = soak_model.journal_queries(random, 3)
    best = np.unique(index.search(queries, top_n=10).item_ids)
    changes = [
        Change(best[::2], None),
        Change(best[::2], soak_model.journal_vectors(random, len(best[::2]))),
    ]
    return index, state, changes, queries


def apply(index, change):
    if change.vectors is None:
        index.remove(change.ids)
    else:
        index.upsert(change.ids, change.vectors)


def test_every_state_in_the_window_is_accepted(changing):
    index, state, changes, queries = changing
    for n_applied in range(3):
        hits = index.search(queries, top_n=10)
        soak_model.check_journal(hits, state, changes, queries, NONE)
        excluded = hits.item_ids[0, :3]
        without = index.search(queries, top_n=10, exclude=[excluded] * 3)
        soak_model.check_journal(without, state, changes, queries, excluded)
        if n_applied < 2:
            apply(index, changes[n_applied])


def test_half_an_update_is_refused(changing):
    index, state, changes, queries = changing
    apply(index, Change(changes[0].ids[::2], None))
    hits = index.search(queries, top_n=10)
    with pytest.raises(WrongAnswer, match="no state after 1 to 3 changes"):
        soak_model.check_journal(hits, state, changes, queries, NONE)


def test_two_states_in_one_batch_are_refused(changing):
    index, state, changes, queries = changing
    before = index.search(queries[:1], top_n=10)
    apply(index, changes[0])
    after = index.search(queries[1:], top_n=10)
    mixed = shortlist.Hits(*(np.concatenate(pair) for pair in zip(before, after, strict=True)))
    with pytest.raises(WrongAnswer, match="no state"):
        soak_model.check_journal(mixed, state, changes, queries, NONE)


def test_a_state_outside_the_window_is_refused(changing):
    index, state, changes, queries = changing
    apply(index, changes[0])
    hits = index.search(queries, top_n=10)
    with pytest.raises(WrongAnswer, match="no state after 1 to 1 changes"):
        soak_model.check_journal(hits, state, [], queries, NONE)


def test_a_group_must_be_whole_current_and_of_one_generation():
    window = np.full(soak_model.N_GROUPS, 4), np.full(soak_model.N_GROUPS, 5)
    ids, stamps = GROUP_ITEMS[7], np.full(soak_model.GROUP_SIZE, 4, np.float32)
    soak_model.check_groups(ids, stamps, [7], *window)
    soak_model.check_groups(NONE, np.empty(0, np.float32), [7], *window)  # 5 is a removal
    torn = stamps.copy()
    torn[3] = 6
    for wrong_ids, wrong_stamps in (
        (ids[1:], stamps[1:]),
        (ids, torn),
        (ids, stamps - 2),
        (ids, stamps + 1),
        (np.append(ids[1:], ids[1]), stamps),
    ):
        with pytest.raises(WrongAnswer, match="group 7"):
            soak_model.check_groups(wrong_ids, wrong_stamps, [7], *window)
    with pytest.raises(WrongAnswer, match="group 7: 0 of 40"):
        soak_model.check_groups(NONE, np.empty(0, np.float32), [7], window[0], window[0])


def test_growing_memory_is_seen():
    flat = [100 * 2**20 + i % 7 for i in range(200)]
    memory = soak.memory_of(flat)
    assert memory["last_quarter"] <= memory["limit"]
    memory = soak.memory_of([n + i * 2**17 for i, n in enumerate(flat)])
    assert memory["last_quarter"] > memory["limit"]


def run(seconds, folder):
    test = soak.Soak(seed=0, folder=folder)
    test.run(seconds)
    totals = test.totals()
    assert min(totals[name] for name in ("answers checked", "updates", "saves", "loads")) > 0
    return test


def test_a_short_soak_finds_no_wrong_answer(tmp_path):
    run(1, tmp_path)


@pytest.mark.slow
def test_a_minute_of_soak_finds_no_wrong_answer_and_no_growth():
    # In a process of its own: what other tests left in the heap would count.
    command = [sys.executable, soak.__file__, "--minutes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no wrong answer" in done.stdout


def test_a_failing_thread_stops_the_soak(tmp_path, monkeypatch):
    def upsert(self, item_ids, vectors):
        raise RuntimeError("no more updates")

    monkeypatch.setattr(shortlist.Index, "upsert", upsert)
    with pytest.raises(WrongAnswer, match="no more updates"):
        soak.Soak(seed=0, folder=tmp_path).run(60)
