"""What `Index.search` makes of `groups`, `at_most`, `at_least` and `diversity`."""

import numpy as np
import pytest

import shortlist

INDEX = shortlist.Index(np.eye(4) + 0.1 * np.arange(4)[:, None], item_ids=["a", "b", "c", "d"])
QUERY = np.array([[4.0, 3.0, 2.0, 1.0]])
BRAND = np.array([0, 0, 1, -1])


def test_caps_skip_items_of_a_full_brand_and_never_those_without_one():
    hits = INDEX.search(QUERY, 4, groups={"brand": BRAND}, at_most={"brand": 1})
    plain = INDEX.search(QUERY, 4).indices[0].tolist()
    left = [row for row in plain if row != max(plain.index(0), plain.index(1))]
    first = min((0, 1), key=plain.index)
    expected = [row for row in plain if row not in (0, 1) or row == first]
    assert hits.indices[0, :3].tolist() == expected
    assert hits.counts.tolist() == [3]
    assert len(left) >= 3


def test_several_values_all_count():
    values, splits = np.array([0, 1, 1, 2, 0, 0]), np.array([0, 2, 3, 4, 6])
    hits = INDEX.search(QUERY, 4, groups={"genre": (values, splits)}, at_most={"genre": 1})
    rows = hits.indices[0, : hits.counts[0]].tolist()
    seen = [set(values[splits[r] : splits[r + 1]].tolist()) for r in rows]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_quotas_reserve_places_and_say_what_is_missing():
    is_new = np.array([False, False, False, True])
    hits = INDEX.search(QUERY, 2, groups={"new": is_new}, at_least={"new": 1})
    assert isinstance(hits, shortlist.Hits)
    assert 3 in hits.indices[0]
    assert hits.unmet["new"].tolist() == [0]
    hits = INDEX.search(QUERY, 2, groups={"new": is_new}, at_least={"new": 2})
    assert hits.unmet["new"].tolist() == [1]
    assert hits.counts.tolist() == [2]  # the other place is not left empty
    hits = INDEX.search(QUERY, 2, exclude=[["d"]], groups={"new": is_new}, at_least={"new": 1})
    assert hits.unmet["new"].tolist() == [1]


def test_excluded_items_do_not_count_towards_a_cap():
    best = INDEX.search(QUERY, 1).item_ids[0, 0]
    same = np.zeros(4, dtype=np.int32)
    hits = INDEX.search(QUERY, 4, [[best]], groups={"g": same}, at_most={"g": 1})
    assert hits.counts.tolist() == [1]
    assert hits.item_ids[0, 0] != best


def test_each_query_has_its_own():
    queries = np.repeat(QUERY, 3, axis=0)
    same = {"g": np.zeros(4, dtype=np.int32)}
    hits = INDEX.search(queries, 4, groups=same, at_most=[{"g": 1}, None, {"g": 3}])
    assert hits.counts.tolist() == [1, 4, 3]


def test_groups_may_be_any_integers():
    wide = np.array([7, 7, 2_000_000_000, -5], dtype=np.int64)
    hits = INDEX.search(QUERY, 4, groups={"g": wide}, at_most={"g": 1})
    assert hits.counts.tolist() == [3]


def test_lists_come_near_to_shares():
    codes = {"g": np.array([5, 5, 2_000_000_000, -1])}  # with a gap
    for wanted, rows in (({5: 1}, {0, 1}), ({2_000_000_000: 1.0, 5: 1.0}, {0, 2})):
        hits = INDEX.search(QUERY, 2, groups=codes, calibrate={"g": (wanted, 1.0)})
        assert set(hits.indices[0].tolist()) == rows
        assert (np.diff(hits.scores) <= 0).all()
    plain = INDEX.search(QUERY, 4)
    for nothing in (None, {}, [{}], [None], {"g": ({5: 1}, 0.0)}):
        hits = INDEX.search(QUERY, 4, groups=codes, calibrate=nothing)
        assert hits.indices.tolist() == plain.indices.tolist()


def test_popular_items_go_down():
    popularity = np.array([0, 10, 0, 0])
    plain = INDEX.search(QUERY, 4)
    hits = INDEX.search(QUERY, 4, popularity=popularity, popularity_dampening=0.5)
    expected = plain.scores.copy()
    expected[plain.indices == 1] -= np.float32(0.5 * np.log1p(10))
    order = np.argsort(-expected[0], kind="stable")
    assert hits.indices[0].tolist() == plain.indices[0][order].tolist()
    assert hits.scores[0] == pytest.approx(expected[0][order])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, bool])
def test_groups_may_be_of_any_width(dtype):
    hits = INDEX.search(QUERY, 4, groups={"g": np.array([0, 0, 1, 1], dtype)}, at_most={"g": 1})
    assert hits.counts.tolist() == [2]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"at_most": {"brand": 0}}, ValueError, r"at_most\['brand'\]: got 0; expected an int >= 1"),
        ({"at_most": {"brand": 1.5}}, TypeError, r"at_most\['brand'\]: got 1.5"),
        ({"at_most": {"colour": 1}}, ValueError, "at_most: got the name 'colour'; groups has"),
        ({"at_most": {3: 1}}, TypeError, "at_most: got the name 3, expected a str"),
        ({"at_most": 2}, TypeError, "at_most: got 2, expected a dict such as {'brand': 2}"),
        ({"at_most": [{}, {}]}, ValueError, "at_most: got 2 entries; expected one for each query"),
        ({"at_least": {"new": 11}}, ValueError, "got 11 for lists of 10; expected no more than"),
        ({"at_least": {"brand": 1}}, ValueError, "`at_least` expects a bool mask of shape"),
        ({"diversity": 1.5}, ValueError, "diversity: got 1.5, expected a number from 0"),
        ({"diversity": float("nan")}, ValueError, "diversity: got nan"),
        ({"diversity": "much"}, TypeError, "diversity: got 'much', expected a number"),
        ({"diversity": [0.1, 0.2]}, ValueError, "diversity: got 2 numbers; expected one for each"),
        ({"at_most": {"short": 1}}, ValueError, "got 3 values; expected one for each of 4 rows"),
        ({"at_most": {"text": 1}}, TypeError, "expected integers, one a row"),
        ({"at_most": {"csr": 1}}, ValueError, r"expected 1-D values and n_rows \+ 1 = 5"),
        ({"at_most": {"alone": 1}}, TypeError, "2 dimensions; expected integers, one a row"),
        ({"at_most": {"three": 1}}, TypeError, "got dtype object and 1 dimensions; expected int"),
        ({"calibrate": {"brand": "history"}}, ValueError, "got 'history', but an index knows no"),
        ({"calibrate": {"brand": "much"}}, TypeError, "got 'much', expected 'history', a dict"),
        ({"calibrate": {"brand": {0: -1}}}, ValueError, r"calibrate\['brand'\]\[0\]: got -1, exp"),
        ({"calibrate": {"brand": {0: 0}}}, ValueError, r"\['brand'\]: got no share above 0"),
        ({"calibrate": {"brand": {9: 1}}}, ValueError, r"got shares of \[9\], which no item has"),
        ({"calibrate": {"brand": {"x": 1}}}, TypeError, "expected integers as in groups"),
        ({"calibrate": {"colour": {0: 1}}}, ValueError, "calibrate: got the name 'colour'; groups"),
        ({"calibrate": {"brand": ({0: 1}, 2)}}, ValueError, "got the strength 2.0, expected a num"),
        (
            {"calibrate": {"brand": ({0: 1}, "a")}},
            TypeError,
            "strength: got 'a', expected a number",
        ),
        ({"calibrate": {"brand": ({0: 1},)}}, TypeError, "got a tuple of 1, expected .target, st"),
        ({"calibrate": {"a": {0: 1}, "b": {0: 1}}}, ValueError, "expected one in a call"),
        ({"calibrate": "brand"}, TypeError, "got 'brand', expected a dict such as"),
        ({"calibrate": {3: {0: 1}}}, TypeError, "got the name 3, expected a str"),
        (
            {"calibrate": [None, None]},
            ValueError,
            "calibrate: got 2 entries; expected one for each",
        ),
        ({"calibrate": {"brand": {0: 1}}, "diversity": 0.5}, ValueError, "calibrate: got both for"),
        ({"popularity_dampening": 0.1}, ValueError, "popularity: got None with popularity_damp"),
        ({"popularity_dampening": -1}, ValueError, "popularity_dampening: got -1.0, expected a"),
        ({"popularity_dampening": "a"}, TypeError, "popularity_dampening: got 'a', expected a num"),
        (
            {"popularity_dampening": [1, 2]},
            ValueError,
            "got 2 numbers; expected one for each query",
        ),
        ({"popularity_dampening": 1, "popularity": [1]}, ValueError, r"and shape \(1,\); expected"),
        ({"popularity_dampening": 1, "popularity": [-1] * 4}, ValueError, "numbers of 0 or more"),
        ({"diversity": [[0.1], [0.2, 0.3]]}, TypeError, "expected a number from 0 to 1"),
    ],
)
def test_messages(given, error, words):
    groups = {
        "brand": BRAND,
        "new": np.ones(4, dtype=bool),
        "short": np.zeros(3, dtype=int),
        "text": np.array(["x"] * 4),
        "csr": (np.zeros(4, dtype=int), np.arange(4)),
        "alone": (np.zeros(4, dtype=int),),
        "three": (np.zeros(4, dtype=int), np.arange(5), 0),
    }
    with pytest.raises(error, match=words):
        INDEX.search(QUERY, groups=groups, **given)


def test_groups_are_a_dict():
    with pytest.raises(TypeError, match="groups: got list, expected a dict of arrays"):
        INDEX.search(QUERY, groups=[BRAND], at_most={"brand": 1})
