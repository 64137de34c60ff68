"""Reasons of the C engine are those of `Engine.explain`, bit for bit."""

from ctypes import POINTER, byref, pointer

import numpy as np
import pytest
from c_engine import CEngine, Explanation, column, filter_of, requests_of
from c_library import INVALID_ARGUMENT, LIBRARY, CError, call, variety_of
from c_requests import check_same, columns_of, random_requests

import shortlist


@pytest.fixture(scope="module", params=["bundle", "text_bundle"])
def engines(request):
    world = request.getfixturevalue(request.param)
    with shortlist.load(world.path) as engine, CEngine(world.path) as c_engine:
        yield world, engine, c_engine


def as_tuples(explanations):
    return [
        [
            [(one.item_id, one.feature, one.drop, one.leaves_list) for one in reasons]
            for reasons in of_request
        ]
        for of_request in explanations.reasons
    ]


def test_reasons_are_those_of_python(engines):
    world, engine, c_engine = engines
    requests = random_requests(world, 30)
    columns = columns_of(world, requests)
    for options in ({}, {"thorough": True}, {"n_reasons": 1}, {"stages": 1}):
        expected = engine.explain(requests, 4, **options)
        found = c_engine.explain(columns, 30, 4, **options)
        check_same(found, expected.answer)
        assert found.reasons == as_tuples(expected)
        assert any(any(of_request) for of_request in found.reasons)


def test_filters_and_groups_count(engines):
    world, engine, c_engine = engines
    requests = random_requests(world, 8)
    columns = columns_of(world, requests)
    exclude = [world.item_ids[i : i + 3].tolist() for i in range(8)]
    expected = engine.explain(requests, 5, exclude=exclude)
    found = c_engine.explain(columns, 8, 5, filter=filter_of(exclude=exclude))
    assert found.reasons == as_tuples(expected)
    n_events = world.items.column("n_events").to_pylist()
    expected = engine.explain(requests, 5, explain_by="n_events")
    found = c_engine.explain(columns, 8, 5, groups=n_events)
    assert found.reasons == as_tuples(expected)


def test_stored_users_have_reasons(engines):
    world, engine, c_engine = engines
    users = list(world.users)
    expected = engine.explain(user_ids=users, top_n=4)
    found = c_engine.explain([column("user_id", np.array(users))], len(users), 4)
    assert found.reasons == as_tuples(expected)


def test_bad_options_are_named(bundle):
    with CEngine(bundle.path) as engine:
        for options, said in (
            ({"n_reasons": 0}, r"options\.n_reasons: got 0; expected 1 to 100"),
            ({"n_reasons": 101}, r"options\.n_reasons: got 101; expected 1 to 100"),
            ({"groups": [1, 2]}, r"options\.n_groups: got 2; expected 40, one for each item"),
        ):
            with pytest.raises(CError, match=said) as raised:
                engine.explain([], 1, **options)
            assert raised.value.status == INVALID_ARGUMENT
        with pytest.raises(CError, match="explanation: got NULL"):
            call("engine_explain", engine.handle, byref(requests_of([], 1, 3)), None, None)


def test_three_reasons_are_usual_and_nothing_is_freed_quietly(bundle):
    with CEngine(bundle.path) as engine:
        found = POINTER(Explanation)()
        call("engine_explain", engine.handle, byref(requests_of([], 1, 3)), None, byref(found))
        assert found.contents.n_reasons == 3
        LIBRARY.shortlist_explanation_free(found)
        LIBRARY.shortlist_explanation_free(None)


def test_lists_with_variety_have_no_reasons(bundle):
    wanted = filter_of()
    wanted.variety = pointer(variety_of(40, 1, [(np.zeros(40, np.int32), 2)]))
    with CEngine(bundle.path) as engine, pytest.raises(CError, match=r"filter\.variety: got some"):
        engine.explain([], 1, 3, filter=wanted)
