"""Answers and an index go to other processes; what is open in this one says why it does not."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import shortlist
from shortlist import FeedbackLog

WAYS = [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy]


def same(first, second):
    assert type(first) is type(second)
    for name in ("item_ids", "scores", "counts", "indices"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", ["world", "text_world"])
def test_an_answer_travels_with_its_titles(way, which, request):
    world = request.getfixturevalue(which)
    users = list(world.users)
    with shortlist.load(world.path) as engine:
        explore = shortlist.Epsilon(0.5, seed=1)
        shown = engine.recommend(user_ids=users, top_n=50, explore=explore)
        expected, said = shown.to_dicts(), repr(shown)
        sent = way(shown)
    same(sent, shown)
    for name in ("source", "stages", "version", "propensities", "titles"):
        np.testing.assert_array_equal(getattr(sent, name), getattr(shown, name))
    assert (sent.to_dicts(), repr(sent)) == (expected, said)
    same(way(sent), shown)


ANSWER = """
import pickle, sys
import shortlist
with shortlist.load(sys.argv[1]) as engine:
    sys.stdout.buffer.write(pickle.dumps(engine.recommend(user_ids=[5], top_n=3)))
"""


def test_the_answer_of_another_process_arrives(world, engine):
    command = [sys.executable, "-c", ANSWER, str(world.path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found, expected = pickle.loads(done.stdout), engine.recommend(user_ids=[5], top_n=3)
    same(found, expected)
    assert found.titles.tolist() == expected.titles.tolist()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ids", [None, [5, 7, 9, 11], ["a", "é", "c", "d"]])
@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "disk4", "int4"])
def test_an_index_and_its_hits_travel(way, ids, storage):
    vectors = np.random.default_rng(0).standard_normal((4, 8), "f4")
    index = shortlist.Index(vectors, ids, storage=storage)
    hits = index.search(vectors, top_n=5)
    same(way(hits), hits)
    sent = way(index)
    same(sent.search(vectors, top_n=5), hits)
    assert (repr(sent), sent.recall) == (repr(index), index.recall)
    sent.remove(index.item_ids[:1])
    assert (len(sent), len(index)) == (3, 4)


@pytest.mark.parametrize("way", WAYS)
def test_an_open_log_and_an_engine_say_what_to_do_instead(way, engine, tmp_path):
    with pytest.raises(TypeError, match=r"an engine cannot be pickled .* shortlist.load\(path\)"):
        way(engine)
    with FeedbackLog(tmp_path / "log") as log:
        with pytest.raises(TypeError, match=r"an open log cannot .* shortlist.FeedbackLog\(path\)"):
            way(log)
        assert log.append(user_id=1, item_id=2, kind="click", timestamp=3)
