"""Propensities are the probabilities of what is shown: by counting, for both ways to explore."""

import itertools

import numpy as np
import pytest

import shortlist
from shortlist import Epsilon, Softmax

SCORES = np.array([[0.9, 0.7, 0.65, 0.1, -0.3]], dtype=np.float32)
WAYS = [Epsilon(0.0), Epsilon(0.4), Epsilon(1.0), Softmax(0.3), Softmax(2.0)]


def again(explore, seed):
    """The same way to explore, seeded."""
    if isinstance(explore, Epsilon):
        return Epsilon(explore.epsilon, seed=seed)
    return Softmax(explore.temperature, seed=seed)


@pytest.mark.parametrize("explore", WAYS)
def test_lists_are_drawn_as_often_as_their_propensities_say(explore):
    n, top_n = 40_000, 3
    places, propensities = again(explore, 1).choose(np.repeat(SCORES, n, axis=0), top_n)
    lists = np.array(list(itertools.permutations(range(5), top_n)))
    expected = explore.propensities(np.repeat(SCORES, len(lists), axis=0), lists).prod(axis=1)
    assert expected.sum() == pytest.approx(1)
    code = np.array([25, 5, 1])
    counts = np.bincount(places @ code, minlength=125)[lists @ code]
    assert counts.sum() == n
    # Six standard errors; one count more in the variance, as rare lists are not normal.
    is_possible = expected > 0
    error = np.sqrt(n * expected * (1 - expected) + is_possible)
    assert (np.abs(counts - n * expected) <= 6 * error + 1e-9 * n).all()
    by_list = dict(zip((lists @ code).tolist(), expected.tolist(), strict=True))
    told = [by_list[c] for c in (places @ code).tolist()]
    np.testing.assert_allclose(propensities.prod(axis=1), told, rtol=1e-9)


def test_propensities_of_softmax_in_closed_form():
    weights = np.exp(SCORES[0].astype(np.float64) / (0.5 * SCORES[0].astype(np.float64).std()))
    found = Softmax(0.5).propensities(SCORES, np.array([[2, 0, 4]]))
    total = weights.sum()
    expected = [
        weights[2] / total,
        weights[0] / (total - weights[2]),
        weights[4] / (total - weights[2] - weights[0]),
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_propensities_of_epsilon_in_closed_form():
    found = Epsilon(0.2).propensities(np.repeat(SCORES, 2, 0), np.array([[0, 1, 4], [3, 0, 1]]))
    expected = [[0.8 + 0.04, 0.8 + 0.05, 0.2 / 3], [0.04, 0.8 + 0.05, 0.8 + 0.2 / 3]]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("explore", [Epsilon(0.5, seed=3), Softmax(0.5, seed=3)])
def test_short_and_empty_rows_stay_short(explore):
    scores = np.full((3, 4), -np.inf, np.float32)
    scores[0, :2], scores[1, 0] = [2, 1], 5
    places, propensities = explore.choose(scores, 6)
    assert (places >= 0).sum(axis=1).tolist() == [2, 1, 0]
    assert sorted(places[0, :2].tolist()) == [0, 1]
    assert (places[:, 2:] == -1).all()
    assert propensities[0, 1] == propensities[1, 0] == 1
    assert (propensities[places < 0] == 0).all()
    assert explore.choose(np.empty((0, 4), np.float32), 2)[0].shape == (0, 2)


@pytest.mark.parametrize("explore", WAYS[1:])
def test_below_an_item_that_is_no_candidate_nothing_is_possible(explore):
    found = explore.propensities(np.repeat(SCORES, 2, 0), np.array([[0, -1, 1], [1, 1, 2]]))
    assert (found[:, 0] > 0).all()
    assert (found[:, 1:] == 0).all()


def test_equal_scores_are_equally_likely():
    found = Softmax(0.3).propensities(np.ones((1, 4), np.float32), np.array([[2, 0]]))
    np.testing.assert_allclose(found, [[1 / 4, 1 / 3]])


@pytest.mark.parametrize("make", [Epsilon, Softmax])
def test_the_seed_repeats_the_draws_and_the_engine_says_the_propensities(engine, make):
    asked = {"user_ids": [5, 9, 77] * 20, "top_n": 4}
    first, second, other = (
        engine.recommend(**asked, explore=make(0.9, n_candidates=12, seed=seed))
        for seed in (1, 1, 2)
    )
    assert first.item_ids.tolist() == second.item_ids.tolist() != other.item_ids.tolist()
    best = engine.recommend(**asked | {"top_n": 12})
    places = np.argmax(best.item_ids[:, None, :] == first.item_ids[:, :, None], axis=2)
    assert np.take_along_axis(best.item_ids, places, 1).tolist() == first.item_ids.tolist()
    np.testing.assert_array_equal(
        first.propensities, make(0.9, n_candidates=12).propensities(best.scores, places)
    )
    np.testing.assert_array_equal(np.take_along_axis(best.scores, places, 1), first.scores)
    assert all(len(set(row)) == 4 for row in first.item_ids.tolist())
    assert best.propensities is None


def test_nothing_explored_is_the_exact_answer(engine):
    plain = engine.recommend(user_ids=[5, 9, 77])
    found = engine.recommend(user_ids=[5, 9, 77], explore=Epsilon(0.0))
    assert found.item_ids.tolist() == plain.item_ids.tolist()
    assert found.counts.tolist() == plain.counts.tolist()
    assert (found.propensities == 1).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Epsilon(1.5), ValueError, "epsilon: got 1.5, expected a probability from 0 to 1"),
        (lambda: Epsilon(True), TypeError, "epsilon: got True of type bool, expected a number"),
        (lambda: Softmax(0), ValueError, "temperature: got 0, expected a number above 0"),
        (lambda: Softmax(float("nan")), ValueError, "temperature: got nan, expected a finite"),
        (lambda: Softmax(n_candidates=0), ValueError, "n_candidates: got 0; expected an int >= 1"),
    ],
)
def test_wrong_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_ways_to_explore_are_named():
    assert {shortlist.Epsilon, shortlist.Softmax} == {Epsilon, Softmax}
