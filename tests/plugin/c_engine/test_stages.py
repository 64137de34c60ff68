"""Stages by choice: answers of one stage and of two are those of `Engine.recommend(stages=…)`."""

import numpy as np
import pytest
from c_engine import CEngine, column, lists
from c_library import INVALID_ARGUMENT, CError
from c_requests import check_same, columns_of, random_requests

import shortlist


@pytest.fixture(scope="module")
def engines(bundle):
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        yield bundle, engine, c_engine


@pytest.mark.parametrize("stages", [1, 2])
def test_as_many_stages_answer_as_in_python(engines, stages):
    world, engine, c_engine = engines
    for n in (1, 40, 1300):  # the last is cut into batches
        requests = random_requests(world, n, seed=n)
        columns = columns_of(world, requests)
        for top_n in (3, 30) if n < 100 else (10,):
            expected = engine.recommend(requests, top_n, stages=stages)
            check_same(c_engine.recommend(columns, n, top_n, stages=stages), expected)


def test_no_choice_is_all_that_the_bundle_has(engines):
    world, _, c_engine = engines
    ids = world.item_ids.tolist()
    history = lists("history", [[ids[3], ids[8]], [], []], np.int64)
    columns = [history, column("age", np.array([np.nan, 50, np.nan], np.float32))]
    free, one, two = (c_engine.recommend(columns, 3, stages=stages) for stages in (0, 1, 2))
    assert free.scores.tobytes() == two.scores.tobytes()
    assert free.scores.tobytes() != one.scores.tobytes()
    assert one.stages.tolist() == [1, 1, 0]
    assert free.stages.tolist() == two.stages.tolist() == [2, 1, 0]


def test_stored_users_get_the_stages_that_are_asked_for(engines):
    world, engine, c_engine = engines
    users = [*world.users, 77]
    for stages in (1, 2):
        expected = engine.recommend({"user_id": users}, 12, stages=stages)
        asked = [column("user_id", np.array(users))]
        found = c_engine.recommend(asked, len(users), 12, stages=stages)
        check_same(found, expected)
        assert found.stages.tolist() == [stages, stages, 1, 0]


def test_a_bundle_without_a_reranker_has_one_stage(text_bundle):
    requests = random_requests(text_bundle, 20)
    columns = columns_of(text_bundle, requests)
    with shortlist.load(text_bundle.path) as engine, CEngine(text_bundle.path) as c_engine:
        expected = engine.recommend(requests)
        for stages in (0, 1):
            check_same(c_engine.recommend(columns, 20, stages=stages), expected)
        with pytest.raises(CError, match=r"stages: got 2, but text\.shortlist has no second stage"):
            c_engine.recommend(columns, 20, stages=2)


@pytest.mark.parametrize("stages", [3, -1])
def test_a_number_that_is_no_stage_is_named(engines, stages):
    message = rf"requests\.stages: got {stages}; expected 1, 2, or 0 for all that the bundle has"
    with pytest.raises(CError, match=message) as caught:
        engines[2].recommend([], 1, stages=stages)
    assert caught.value.status == INVALID_ARGUMENT
