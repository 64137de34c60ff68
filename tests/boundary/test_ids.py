"""Ids: what is accepted, what is refused by name and position, and nothing changed on the way."""

import tracemalloc

import numpy as np
import pytest

from shortlist import Index

EYE = np.eye(3, dtype=np.float32)


@pytest.fixture
def index():
    return Index(EYE, item_ids=["a", "b", "c"])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, "a", 2], TypeError, "got str 'a' at position 1; expected int64 or str ids"),
        (["a", 1, "b"], TypeError, "got int 1 at position 1; expected int64 or str ids"),
        ([0, 1, True], TypeError, "got bool True at position 2; expected int64 or str ids"),
        ([0, np.True_, 1], TypeError, "got bool np.True_ at position 1; expected int64 or str ids"),
        ([0, 1.0, 2], TypeError, "got float 1.0 at position 1; expected int64 or str ids"),
        (["a", None, "b"], TypeError, "got NoneType None at position 1; expected int64 or str"),
        (np.array([1, "a", 2], dtype=object), TypeError, "got str 'a' at position 1"),
        ([1, [2, 3], 4], ValueError, r"got \[2, 3\] at position 1; expected one dimension"),
        ([0, 1, 2**63], ValueError, f"got {2**63}; expected ids that fit in int64"),
        ([0, 1, np.uint64(2**63)], ValueError, f"got {2**63}; expected ids that fit in int64"),
        (np.array(["a", "a\0", "b"], dtype=object), ValueError, r"got 'a\\x00' at position 1"),
        (["x", "y", "\ud800"], ValueError, r"got '\\ud800' at position 2; expected text without"),
    ],
)
def test_an_id_of_the_wrong_kind_is_named_with_its_place(index, ids, error, message):
    with pytest.raises(error, match=f"^item_ids: {message}"):
        Index(EYE, item_ids=ids)
    with pytest.raises(error, match=f"^item_ids: {message}"):
        index.upsert(ids, EYE)
    with pytest.raises(error, match=f"^item_ids: {message}"):
        index.remove(ids)
    with pytest.raises(error, match=f"^ids: {message}"):
        index.rows_of(ids)
    for name in ("exclude", "allow"):
        with pytest.raises(error, match=rf"^{name}\[1\]: {message}"):
            index.search(EYE[:2], **{name: [["a"], ids]})
    assert index.item_ids.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5, -1, 7], "got -1 at position 1, which marks missing places"),
        (np.array([5, 6, -1]), "got -1 at position 2, which marks missing places"),
        (["", "b", "c"], "got '' at position 0, which marks missing places"),
    ],
)
def test_the_mark_of_missing_places_is_no_id(ids, message):
    with pytest.raises(ValueError, match=f"^item_ids: {message}"):
        Index(EYE, item_ids=ids)
    index = Index(EYE, item_ids=[f"i{i}" for i in range(3)] if ids[0] == "" else [1, 2, 3])
    with pytest.raises(ValueError, match=f"^item_ids: {message}"):
        index.upsert(ids, EYE)
    missing = [ids[-1]] if isinstance(ids, np.ndarray) else [min(ids)]
    assert index.rows_of(missing).tolist() == [-1]
    assert index.remove(missing) == 0
    assert index.search(EYE[:1], exclude=[missing]).counts.tolist() == [3]


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1, 2],
        (3, 1, 2),
        [np.int32(3), 1, np.uint64(2)],
        np.array([3, 1, 2], dtype=object),
        np.array([3, 1, 2], dtype=">i2"),
    ],
)
def test_integers_come_back_as_they_went_in(ids):
    assert Index(EYE, item_ids=ids).item_ids.tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    "ids",
    [
        ["ü", "b ", "𝄞"],
        np.array(["ü", "b ", "𝄞"]),
        np.array(["ü", "b ", "𝄞"], dtype=object),
        np.array(["ü", "b ", "𝄞"], dtype=np.dtypes.StringDType()),
        [np.str_("ü"), "b ", "𝄞"],
    ],
)
def test_texts_come_back_as_they_went_in(ids):
    index = Index(EYE, item_ids=ids)
    assert index.item_ids.tolist() == ["ü", "b ", "𝄞"]
    assert index.search(EYE, top_n=1).item_ids.ravel().tolist() == ["ü", "b ", "𝄞"]


def test_one_long_id_does_not_widen_the_others():
    ids = [f"i{i}" for i in range(20_000)]
    ids[7] = "x" * 20_020
    vectors = np.random.default_rng(0).normal(size=(len(ids), 2))
    tracemalloc.start()
    index = Index(vectors, item_ids=ids)
    hits = index.search(vectors[6:9], top_n=1)
    assert index.item_ids.tolist() == ids
    assert index.rows_of(ids[5:9]).tolist() == [5, 6, 7, 8]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hits.item_ids.shape == (3, 1)
    assert peak < 20e6  # 20,000 ids as wide as the longest are 1.6 GB


@pytest.mark.parametrize(
    "allow", [["b"], ("b",), np.array(["b"], dtype=object), np.array(["b"]), [["b"], ["b"]]]
)
def test_every_natural_form_of_one_allowed_item_is_taken(index, allow):
    hits = index.search(EYE[:2], top_n=2, allow=allow)
    assert hits.item_ids.tolist() == [["b", ""], ["b", ""]]


@pytest.mark.parametrize("nothing", [[], (), np.array([]), np.array([], dtype=object)])
def test_an_empty_allow_list_allows_nothing(index, nothing):
    assert index.search(EYE[:2], allow=nothing).counts.tolist() == [0, 0]


def test_allowed_ids_of_the_wrong_kind_are_not_taken_for_lists(index):
    with pytest.raises(
        TypeError, match=r"^allow: got integers; the item ids of this index are str"
    ):
        index.search(EYE[:2], allow=[1])
    with pytest.raises(TypeError, match=r"^allow: got bool True at position 0; expected int64 or"):
        index.search(EYE[:2], allow=[True, False, True])


def test_a_tuple_of_two_lists_is_two_lists():
    index = Index(EYE, item_ids=[0, 1, 2])
    hits = index.search(EYE[:2], top_n=3, exclude=([0, 1], [0, 1, 2]))
    assert hits.counts.tolist() == [1, 0]
    assert hits.item_ids[0, 0] == 2
    splits = np.array([0, 1, 2])
    hits = index.search(EYE[:2], top_n=3, exclude=(np.array([0, 1]), splits))
    assert hits.counts.tolist() == [2, 2]
