"""After any updates an index answers, bit for bit, as one built from the present items."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortlist import Index
from shortlist.bundle.storages import STORAGES

METRICS = st.sampled_from(["cosine", "dot", "euclidean"])
KINDS = st.sampled_from(["none", "int", "str"])
ANY_STORAGE = st.sampled_from(STORAGES)
SETTINGS = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Model:
    """What the index should hold: a dict keeps the order of rows as the index does."""

    def __init__(self, random, kind, n_items, dim, storage="float32"):
        self.random, self.kind, self.dim, self.storage = random, kind, dim, storage
        self.style = random.choice(["normal", "ties", "tails"])
        self.has_ids = kind != "none"  # an index without ids gets its row numbers at a change
        start = np.arange(n_items) if kind == "none" else random.permutation(2000)[:n_items]
        self.items = dict(zip(self.ids(start), self.vectors(n_items), strict=True))

    def ids(self, numbers):
        return [f"ü{i}" if self.kind == "str" else int(i) for i in numbers]

    def vectors(self, n):
        random = self.random
        if self.style == "ties":
            return random.integers(-1, 2, size=(n, self.dim)).astype(np.float32)
        rows = random.normal(size=(n, self.dim))
        if self.style == "tails":
            most = 3.5 if self.storage == "float16" else 6
            rows *= 10.0 ** random.uniform(-6, most, size=(n, 1))
        return rows.astype(np.float32)

    def build(self, metric):
        rows = np.array(list(self.items.values()), np.float32).reshape(-1, self.dim)
        ids = self.id_array() if self.has_ids else None
        return Index(rows, item_ids=ids, metric=metric, storage=self.storage)

    def id_array(self):
        return np.array(list(self.items), dtype=np.str_ if self.kind == "str" else np.int64)

    def step(self, index):
        """One random update of both."""
        random = self.random
        n = int(random.choice([1, 1, 2, 10, 100, 600, 1100]))
        if random.random() < 0.3 and self.items:  # ids that are there
            present = list(self.items)
            ids = [present[i] for i in random.permutation(len(present))[:n]]
        else:
            ids = self.ids(random.permutation(2500)[:n])
        if random.random() < 0.5:
            rows = self.vectors(len(ids))
            index.upsert(ids, rows)
            self.items.update(zip(ids, rows, strict=True))
            self.has_ids = True
        else:
            known = [i for i in ids if i in self.items]
            assert index.remove(ids) == len(known)
            for i in known:
                del self.items[i]
                self.has_ids = True


def assert_same_answers(index, model, metric):
    random = model.random
    fresh = model.build(metric)
    queries = np.concatenate([model.vectors(3), np.zeros((1, model.dim), np.float32)])
    pool = np.array(model.ids(range(2600)))
    exclude = [pool[random.permutation(2600)[: random.integers(0, 900)]] for _ in queries]
    short, long = pool[random.permutation(2600)[:30]], pool[random.permutation(2600)[:1500]]
    per_query = [pool[random.permutation(2600)[: random.integers(0, 1500)]] for _ in queries]
    for top_n in (1, 10, 3000):
        for filters in (
            {},
            {"exclude": exclude},
            {"allow": short},
            {"allow": long, "exclude": exclude},
            {"allow": per_query},
        ):
            hits = index.search(queries, top_n=top_n, **filters)
            expected = fresh.search(queries, top_n=top_n, **filters)
            assert np.array_equal(hits.item_ids, expected.item_ids), (top_n, list(filters))
            assert hits.scores.tobytes() == expected.scores.tobytes()
            assert np.array_equal(hits.counts, expected.counts)
    ids = index.item_ids  # a mask has one flag per row, those of removed items do not matter
    flags = dict(zip(model.items, random.random(len(model.items)) < 0.5, strict=True))
    mask = np.array([flags.get(i, True) for i in ids.tolist()], dtype=bool)
    hits = index.search(queries, top_n=20, allow=mask)
    expected = fresh.search(queries, top_n=20, allow=np.array(list(flags.values()), dtype=bool))
    assert np.array_equal(hits.item_ids, expected.item_ids)


def assert_consistent(index, model):
    ids = model.id_array()
    assert len(index) == len(ids)
    rows = index.rows_of(ids)
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(index.item_ids[rows], ids)
    assert (rows >= 0).all()
    hits = index.search(model.vectors(2), top_n=5)
    real = hits.indices >= 0
    assert np.array_equal(index.item_ids[hits.indices[real]], hits.item_ids[real])
    known = set(model.items)
    gone = [i for i in model.ids(range(2600)) if i not in known]
    assert (index.rows_of(gone) == -1).all()


@SETTINGS
@given(METRICS, ANY_STORAGE, KINDS, st.integers(0, 1500), st.integers(1, 40), st.integers(0, 2**31))
def test_updates_equal_an_index_built_anew(metric, storage, kind, n_items, dim, seed):
    random = np.random.default_rng(seed)
    model = Model(random, kind, n_items, dim, storage)
    index = model.build(metric)
    for _ in range(int(random.integers(1, 14))):
        model.step(index)
        assert_consistent(index, model)
    assert_same_answers(index, model, metric)
    stored = index.vectors(index.rows_of(model.id_array()))
    fresh = model.build(metric)
    assert stored.tobytes() == fresh.vectors(np.arange(len(fresh))).tobytes()


def without_recall(path):
    """Bytes of a file but the recall, which updates do not change, and the header's checksum."""
    data = path.read_bytes()
    return data[:56] + data[64:448] + data[456:]


@pytest.mark.parametrize("mmap", [True, False])
@settings(SETTINGS, max_examples=30)
@given(METRICS, ANY_STORAGE, KINDS, st.integers(0, 1200), st.integers(0, 2**31))
def test_saved_updates_are_compact_and_go_on(tmp_path, mmap, metric, storage, kind, n_items, seed):
    random = np.random.default_rng(seed)
    model = Model(random, kind, n_items, 7, storage)
    index = model.build(metric)
    for _ in range(3):
        for _ in range(4):
            model.step(index)
        index.save(tmp_path / "updated")
        model.build(metric).save(tmp_path / "fresh")
        assert without_recall(tmp_path / "updated") == without_recall(tmp_path / "fresh")
        index = Index.load(tmp_path / "updated", mmap=mmap)
        assert np.array_equal(index.item_ids, model.id_array())
        assert_same_answers(index, model, metric)


def test_many_single_updates_equal_an_index_built_anew():
    random = np.random.default_rng(11)
    model = Model(random, "str", 900, 12)
    index = model.build("dot")
    for _ in range(6000):
        if random.random() < 0.6:
            ids, rows = model.ids(random.integers(0, 2500, size=1)), model.vectors(1)
            index.upsert(ids, rows)
            model.items.update(zip(ids, rows, strict=True))
        else:
            (item,) = model.ids(random.integers(0, 2500, size=1))
            assert index.remove([item]) == (model.items.pop(item, None) is not None)
    assert_consistent(index, model)
    assert_same_answers(index, model, "dot")
