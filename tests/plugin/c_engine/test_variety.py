"""Varied lists of the C engine are those of the Python engine."""

import ctypes

import numpy as np
import pytest
from c_engine import CEngine, filter_of
from c_library import set_calibration, set_dampening, variety_of
from c_requests import check_same, columns_of, random_requests

import shortlist

N = 90  # more than one search at a time


@pytest.fixture(scope="module")
def engines(bundle):
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        yield bundle, engine, c_engine


def ask(engines, top_n=7, stages=0, **wants):
    world, _, c_engine = engines
    columns = columns_of(world, random_requests(world, N))
    chosen = filter_of(exclude=[world.item_ids[:2].tolist()] * N)
    chosen.variety = ctypes.pointer(variety_of(len(world.item_ids), N, **wants))
    return c_engine.recommend(columns, N, top_n, filter=chosen, stages=stages)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("diversity", [None, 0.6])
def test_lists_equal_pythons(engines, stages, diversity):
    world, engine, _ = engines
    decade = np.arange(len(world.item_ids)) % 6
    engine_items = world.items.column("year").to_numpy()
    is_late = engine_items >= 2012
    values = engine_items - engine_items.min()
    wants = {"columns": [(values, 1)], "quotas": [(is_late, 3), (decade < 0, 1)]}
    found = ask(engines, stages=stages, diversity=diversity, **wants)
    expected = engine.recommend(
        random_requests(world, N),
        7,
        exclude=world.item_ids[:2].tolist(),
        stages=stages,
        at_most={"year": 1},
        at_least={"year >= 2012": 3, "year < 0": 1},
        diversity=diversity,
    )
    check_same(found, expected)
    lacks = [[one.get("year >= 2012", 0), one.get("year < 0", 0)] for one in expected.unmet]
    assert found.missing.tolist() == lacks
    assert (found.missing[:, 1] == 1).all()


def test_caps_under_a_second_stage(engines):
    world, engine, _ = engines
    genres = world.items.column("genres").to_pylist()
    codes = {"drama": 0, "war": 1}
    splits = np.append(0, np.cumsum([len(own) for own in genres]))
    values = np.array([codes[genre] for own in genres for genre in own])
    found = ask(engines, columns=[((values, splits), 5)])
    expected = engine.recommend(
        random_requests(world, N), 7, exclude=world.item_ids[:2].tolist(), at_most={"genres": 5}
    )
    check_same(found, expected)
    assert found.missing is None
    assert (found.counts == 5).all()


def test_calibrated_and_dampened_lists_equal_pythons(engines):
    world, engine, c_engine = engines
    requests = random_requests(world, N)
    genres = world.items.column("genres").to_pylist()
    codes = {"drama": 0, "war": 1}
    splits = np.append(0, np.cumsum([len(own) for own in genres]))
    values = np.array([codes[genre] for own in genres for genre in own])
    made = variety_of(len(genres), N)
    set_calibration(made, N, (values, splits), None, 0.5)
    set_dampening(made, N, np.log1p(world.items.column("n_events").to_numpy()), 0.02)
    chosen = filter_of()
    chosen.variety = ctypes.pointer(made)
    found = c_engine.recommend(columns_of(world, requests), N, 7, filter=chosen)
    wants = {"calibrate": {"genres": "history"}, "popularity_dampening": 0.02}
    check_same(found, engine.recommend(requests, 7, **wants))
    nearest = c_engine.recommend(columns_of(world, requests), N, 7, filter=chosen, stages=1)
    check_same(nearest, engine.recommend(requests, 7, stages=1, **wants))


@pytest.mark.parametrize("stages", [1, 2])
def test_scores_of_given_items_know_of_no_variety(engines, stages):
    world, _, c_engine = engines
    columns, n_items = columns_of(world, random_requests(world, 3)), len(world.item_ids)
    ids = [world.item_ids.tolist()] * 3
    filter_ = filter_of()
    wants = {"columns": [(np.zeros(n_items, np.int32), 2)], "quotas": [(np.ones(n_items, bool), 1)]}
    filter_.variety = ctypes.pointer(variety_of(n_items, 3, **wants))
    found = c_engine.score(columns, ids, filter=filter_, stages=stages)
    assert found.tobytes() == c_engine.score(columns, ids, stages=stages).tobytes()
