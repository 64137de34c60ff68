"""Shards answer as one index of all rows does: the same ids, order and score bits."""

import pickle

import numpy as np
import pytest
import variety
from hard_catalogues import SETTINGS, catalogues
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist import Index, VariedHits, _core
from shortlist.bundle.storages import APPROXIMATE, STORAGES
from shortlist.shards import Shard, ShardedIndex, merge, read_set, search_shards

METRICS = st.sampled_from(["cosine", "dot", "euclidean"])
ANY_STORAGE = st.sampled_from(STORAGES)
KINDS = st.sampled_from(["none", "int64", "string"])


@pytest.fixture(autouse=True)
def _levels():
    level, limit = _core.simd_level(), _core.min_code_bytes_for_nibbles()
    yield
    _core.set_simd_level(level)
    _core.set_min_code_bytes_for_nibbles(limit)


def same(one, other):
    assert one.indices.tolist() == other.indices.tolist()
    assert one.scores.tobytes() == other.scores.tobytes()
    assert one.counts.tolist() == other.counts.tolist()
    assert one.item_ids.tolist() == other.item_ids.tolist()
    assert one.item_ids.dtype == other.item_ids.dtype
    assert isinstance(one, VariedHits) == isinstance(other, VariedHits)
    if isinstance(one, VariedHits):
        lacks = [{name: n.tolist() for name, n in hits.unmet.items()} for hits in (one, other)]
        assert lacks[0] == lacks[1]


def made_ids(kind, n, random):
    if kind == "none":
        return None
    numbers = random.permutation(3 * n)[:n]
    return numbers if kind == "int64" else [f"item {number}" for number in numbers]


def ask(folder):
    """Return what carries calls to shards that are opened here, and the set they are of."""
    shards = read_set(folder)
    opened = [Shard.load(folder, number) for number in range(len(shards.shards))]

    def carry(calls):
        calls = pickle.loads(pickle.dumps(calls))  # as between processes
        return [shard.answer(**call) for shard, call in zip(opened, calls, strict=True)]

    return carry, shards


@settings(SETTINGS, max_examples=40)
@given(catalogues(), METRICS, ANY_STORAGE, KINDS, st.integers(1, 9), st.integers(1, 2600))
def test_shards_answer_as_one_index(tmp_path_factory, catalogue, metric, storage, kind, n, top_n):
    items, queries = catalogue
    if storage == "float16":
        items = np.clip(items, -6e4, 6e4)
    folder = tmp_path_factory.mktemp("shards")
    ids = made_ids(kind, len(items), np.random.default_rng(len(items)))
    whole = Index(items, ids, metric, storage=storage)
    expected = whole.search(queries, top_n)
    built = ShardedIndex.build(folder / "a", items, ids, metric, storage=storage, n_shards=n)
    split = ShardedIndex.split(folder / "b", whole, n)
    hashes = [[shard.n_rows for shard in one.shards] for one in (built, split)]
    assert hashes[0] == hashes[1]
    for index in (built, split, ShardedIndex.load(folder / "b", mmap=False)):
        same(index.search(queries, top_n), expected)
        assert index.item_ids.tolist() == whole.item_ids.tolist()
    rows = np.arange(len(items))
    assert split.vectors(rows).tobytes() == whole.vectors(rows).tobytes()
    shards = [Shard.load(folder / "b", number) for number in range(n)]
    same(merge([shard.search(queries, top_n) for shard in shards[::-1]], top_n), expected)
    alone = [[shard.search(query[None], top_n) for shard in shards] for query in queries]
    scores = np.concatenate([merge(answers, top_n).scores for answers in alone])
    assert scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("seed", range(60))
def test_filters_caps_quotas_and_diversity_are_those_of_one_index(tmp_path, seed):
    random = np.random.default_rng([7, seed])
    whole = pickle.loads(pickle.dumps(variety.catalogue(random)[0]))  # without empty rows
    n_rows, n_queries = len(whole), int(random.integers(1, 12))
    if n_rows == 0:
        return
    n_shards = int(random.integers(1, 7))
    queries = random.normal(size=(n_queries, whole.dim)).astype(np.float32)
    if random.random() < 0.5:  # queries among the items
        queries = whole.vectors(random.integers(0, n_rows, size=n_queries))
    _, given = variety.wishes(random, n_rows, n_queries)
    _, filtered = variety.filters(random, n_rows, n_queries)
    expected = whole.search(queries, **given, **filtered)
    index = ShardedIndex.split(tmp_path / "shards", whole, n_shards)
    same(index.search(queries, **given, **filtered), expected)
    carry, shards = ask(tmp_path / "shards")
    same(search_shards(carry, shards, queries, **given, **filtered), expected)
    plain = whole.search(queries, given["top_n"], **filtered)
    same(search_shards(carry, shards, queries, given["top_n"], **filtered), plain)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_equal_rows_of_different_shards_come_in_the_order_of_their_rows(tmp_path, metric):
    rows = np.ones((500, 5), dtype=np.float32)
    index = ShardedIndex.build(tmp_path / "shards", rows, metric=metric, n_shards=8)
    assert index.search(rows[:2], 200).indices.tolist() == [list(range(200))] * 2
    shards = [Shard.load(tmp_path / "shards", number) for number in range(8)]
    hits = merge([shard.search(rows[:2], 200) for shard in shards], 200)
    assert hits.indices.tolist() == [list(range(200))] * 2


def test_filters_may_leave_nothing_in_a_shard_or_in_all(tmp_path):
    rows = np.eye(9, dtype=np.float32)
    for ids in (None, [f"i{row}" for row in range(9)]):
        whole = Index(rows, ids)
        ShardedIndex.split(tmp_path / "shards", whole, 3)
        carry, shards = ask(tmp_path / "shards")
        names = whole.item_ids
        for allow in (np.arange(9) < 2, names[:2], [names[:2], names[8:]], np.zeros(9, bool)):
            same(
                search_shards(carry, shards, rows[:2], 4, [names[:1], None], allow),
                whole.search(rows[:2], 4, [names[:1], None], allow),
            )


def test_empty_shards_and_an_empty_catalogue(tmp_path):
    for n, ids in ((3, None), (3, ["a", "b", "c"]), (0, None), (0, [])):
        rows = np.eye(3, dtype=np.float32)[:n]
        whole = Index(rows, ids)
        index = ShardedIndex.build(tmp_path / "shards", rows, ids, n_shards=7)
        carry, shards = ask(tmp_path / "shards")
        queries = np.ones((2, 3), dtype=np.float32)
        same(index.search(queries, 5), whole.search(queries, 5))
        hits = search_shards(carry, shards, queries, 5, diversity=0.5)
        assert hits.counts.tolist() == [n, n]
        assert search_shards(carry, shards, queries[:0], 5).scores.shape == (0, 5)


def test_a_shard_knows_its_rows_and_ignores_the_ids_of_others(tmp_path):
    ShardedIndex.build(tmp_path / "shards", np.eye(10), n_shards=3)
    shard = Shard.load(tmp_path / "shards", 1)
    assert (shard.first_row, shard.end_row, len(shard), shard.n_shards) == (3, 6, 3, 3)
    answer = shard.search(np.ones((1, 10)), 5, exclude=[[0, 4, 9, 77, -1]])
    assert answer.indices.tolist() == [[3, 5, -1]]
    assert answer.item_ids.tolist() == [[3, 5, -1]]
    assert shard.search(np.ones((1, 10)), 5, allow=[5, 6]).indices.tolist() == [[5, -1, -1]]


def test_merge_refuses_answers_that_do_not_make_a_whole(tmp_path):
    ShardedIndex.build(tmp_path / "shards", np.eye(10), n_shards=3)
    shards = [Shard.load(tmp_path / "shards", number) for number in range(3)]
    answers = [shard.search(np.ones((2, 10)), 2) for shard in shards]
    for wrong, message in (
        ([], "got none"),
        (answers[:2], r"shards 0, 1; expected one of each, 0 to 2"),
        ([*answers, answers[0]], "expected one of each"),
        (
            [*answers[:2], answers[2]._replace(version="9")],
            "shard 2 answered from the set 9, .* ask",
        ),
        ([*answers[:2], shards[2].search(np.ones((1, 10)), 2)], "answered 1 queries"),
    ):
        with pytest.raises(ValueError, match=message):
            merge(wrong, 2)
    with pytest.raises(ValueError, match=r"shard 0 has 2 places; expected 3"):
        merge(answers, 3)


@pytest.mark.parametrize("seed", range(12))
def test_all_shards_as_one_index_take_updates(tmp_path, seed):
    random = np.random.default_rng([8, seed])
    n, dim = int(random.integers(1, 3000)), int(random.integers(1, 12))
    metric = str(random.choice(["cosine", "dot", "euclidean"]))
    storage = str(random.choice(STORAGES))
    kind = str(random.choice(["none", "int64"]))
    ids = made_ids(kind, n, random)
    whole = Index(random.normal(size=(n, dim)), ids, metric, storage=storage)
    joined = ShardedIndex.split(tmp_path / "shards", whole, int(random.integers(1, 9))).index
    queries = random.normal(size=(5, dim)).astype(np.float32)
    for _ in range(6):
        some = np.unique(random.integers(0, 4 * n, size=random.integers(1, 1200)))
        vectors = random.normal(size=(len(some), dim)).astype(np.float32)
        gone = np.unique(random.integers(0, 4 * n, size=random.integers(1, 1200)))
        for index in (whole, joined):
            index.upsert(some, vectors)
            index.remove(gone)
        same(joined.search(queries, 50), whole.search(queries, 50))
        same(joined.search(queries, 5, diversity=0.4), whole.search(queries, 5, diversity=0.4))
    for name, index in (("one", whole), ("joined", joined)):
        index.save(tmp_path / name)
    if storage not in APPROXIMATE:  # its recall is not known of shards
        assert (tmp_path / "one").read_bytes() == (tmp_path / "joined").read_bytes()
    again = ShardedIndex.split(tmp_path / "shards", joined, 3)  # without rows of removed items
    same(again.search(queries, 50), Index.load(tmp_path / "one").search(queries, 50))
