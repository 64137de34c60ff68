"""Items like an item, and one list for several people: the rules, in Python and by C's parts."""

import numpy as np
import pytest
from c_engine import CEngine, filter_of
from conformance.bundles import items, texts
from conformance.case import Case, Filter
from conformance.comparison import EXACT, assert_row
from conformance.host_columns import c_columns
from conformance.oracle import Expected, Oracle, best_first

import shortlist

TOP_N = 7
BUNDLES = ["plain", "texts", "twins", "dot", "euclidean", "float16", "bfloat16"]
PEOPLE = [{"history": items(3, 8, 20)}, {"history": items(9, 4)}, {"history": items(30)}]


def expected_of(scored):
    ranked = best_first(scored)
    scale = max(1.0, *(abs(score) for _, score in ranked))
    return Expected("item", 1, ranked, scale, TOP_N)


def assert_list(found, i, expected):
    row = (list(np.asarray(found[0][i]).tolist()), found[1][i], found[2][i])
    assert_row(*row, expected, 2 * EXACT * expected.scale, f"list {i}")


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("is_filtered", [False, True])
def test_similar_items_are_the_nearest_by_their_vectors(world_of, bundle, is_filtered):
    world = world_of(bundle)
    oracle, named = Oracle(world), texts if bundle == "texts" else items
    asked = named(3, 8, 21, 33)
    allow = named(*range(5, 30)) if is_filtered else None
    with shortlist.load(world.path) as engine, CEngine(world.path) as host:
        said = engine.similar(asked, TOP_N, allow=allow)
        view = host.view()
        rows = view.rows_of(asked)
        chosen = filter_of(exclude=[[item] for item in asked],
                           allow=[allow] * len(asked) if is_filtered else None)  # fmt: skip
        scores, found_rows, ids, _ = view.search(view.vectors(rows), TOP_N, chosen)
        view.close()
    assert said.scores.tobytes() == scores.tobytes()
    assert said.indices.tolist() == found_rows.tolist()
    for i, item_id in enumerate(asked):
        vector = oracle.items[item_id].vector
        others = [o for o in oracle.items.values() if o.item_id != item_id]
        if is_filtered:
            others = [o for o in others if o.item_id in allow]
        expected = expected_of([(o.item_id, oracle.similarity(vector, o)) for o in others])
        assert_list((said.item_ids, said.scores, said.indices), i, expected)
        assert_list((ids, scores, found_rows), i, expected)


@pytest.mark.parametrize("how", ["mean", "least_misery"])
@pytest.mark.parametrize("bundle", ["plain", "dot", "euclidean"])
def test_a_group_gets_the_best_by_all_its_members(world_of, bundle, how):
    world = world_of(bundle)
    oracle, case = Oracle(world), Case("", bundle, PEOPLE, filter=Filter())
    told = [oracle.told(request, case) for request in PEOPLE]
    users = [oracle.embedding(one) for one in told]
    seen = set().union(*(one.seen for one in told))
    least = np.mean if how == "mean" else np.min
    left = [item for item in oracle.items.values() if item.item_id not in seen]
    expected = expected_of(
        [(o.item_id, float(least([oracle.similarity(user, o) for user in users]))) for o in left]
    )
    with shortlist.load(world.path) as engine, CEngine(world.path) as host:
        found = engine.recommend_group(PEOPLE, TOP_N, how)
        ids = [item.item_id for item in left]
        scores = host.score(c_columns(world, PEOPLE), [ids] * len(PEOPLE), stages=1)
    assert_list((found.item_ids, found.scores, found.indices), 0, expected)
    together = least(scores.astype(np.float64), axis=0)
    order = np.lexsort((np.arange(len(ids)), -together.astype(np.float32)))[:TOP_N]
    assert found.scores[0] == pytest.approx(together[order], rel=1e-6, abs=1e-6)
