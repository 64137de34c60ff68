"""What answers are made of, asked for alone: user embeddings, and scores of given items."""

import numpy as np
import pytest
from conformance.bundles import BUNDLES, items
from conformance.case import Case
from conformance.oracle import Oracle
from conformance.table import CASES

import shortlist

PLAIN = Case("nothing but requests", "", [])


@pytest.mark.parametrize("bundle", BUNDLES)
def test_user_embeddings_are_those_of_the_answers(bundle, world_of):
    cases = [c for c in CASES if c.bundle == bundle and not c.changes and len(c.requests) < 100]
    requests = [request for case in cases for request in case.requests]
    world = world_of(bundle)
    oracle = Oracle(world)
    expected = [oracle.embedding(oracle.told(request, PLAIN)) for request in requests]
    with shortlist.load(world.path) as engine:
        found = engine.encode_users(requests)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(expected, np.float64), atol=2e-5)


@pytest.mark.parametrize("bundle", ["network", "counts"])
def test_given_items_are_scored_as_the_second_stage_scores_them(bundle, world_of):
    world = world_of(bundle)
    oracle = Oracle(world)
    requests = [{"history": items(2, 4, 8)}, {"user_id": 9}, {"user_id": 12, "history": items(9)}]
    asked = [items(5, 2, 7), [*items(4), -1, *items(39)], [-1, -1, -1]]
    expected = np.full((3, 3), -np.inf)
    for i, request in enumerate(requests):
        told = oracle.told(request, PLAIN)
        user = oracle.embedding(told)
        for place, item_id in enumerate(asked[i]):
            if item_id != -1:
                item = oracle.items[item_id]
                score = oracle.rerank_score(told, item, oracle.similarity(user, item))
                expected[i, place] = score
    with shortlist.load(world.path) as engine:
        found = engine.score(requests, asked)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
