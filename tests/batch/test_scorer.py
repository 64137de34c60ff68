"""The Arrow function: its lists are those of `Engine.recommend`, whatever process asks."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import shortlist
from shortlist.errors import BundleError, DataError


def requests_of(world, n=30):
    """Users, histories and features, some of each left out."""
    random = np.random.default_rng(5)
    users = list(world.users)
    return {
        "user_id": [users[i % 3] if i % 4 else None for i in range(n)],
        "history": [random.choice(world.item_ids, 3).tolist() if i % 3 else None for i in range(n)],
        "city": [["Köln", None, "Rom"][i % 3] for i in range(n)],
        "level": [[1, None][i % 2] for i in range(n)],
        "age": [float(i) for i in range(n)],
    }


def ids_of(world):
    kind = pa.string() if isinstance(world.item_ids[0], str) else pa.int64()
    return pa.schema({"user_id": kind, "history": pa.list_(kind)})


def batch_of(world, columns):
    kinds = ids_of(world)
    arrays = {
        name: pa.array(values, kinds.field(name).type if name in kinds.names else None)
        for name, values in columns.items()
    }
    return pa.RecordBatch.from_pydict(arrays)


def expected_rows(answer, user_ids):
    """What the long layout says of an answer, place by place."""
    rows = []
    for one, user_id in zip(answer, user_ids, strict=True):
        for rank, (item_id, score, _) in enumerate(one.places(), 1):
            rows.append((user_id, rank, item_id, np.float32(score).tobytes(), one.source))
    return rows


def rows_of(batch):
    scores = [np.float32(score).tobytes() for score in batch["score"].to_pylist()]
    names = ("user_id", "rank", "item_id")
    columns = [batch[name].to_pylist() for name in names]
    return list(zip(*columns, scores, batch["source"].to_pylist(), strict=True))


OPTIONS = {
    "plain": {},
    "one stage": {"stages": 1},
    "many": {"top_n": 40},
    "where": {"where": "year >= 2000", "stages": 2},
    "seen": {"exclude_seen": False},
    "caps": {"at_most": {"genres": 3}, "at_least": {"year >= 2010": 2}},
    "diversity": {"diversity": 0.4, "stages": 1},
    "nothing": {"where": "year < 1900"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("kind", ["int64", "string"])
def test_lists_are_those_of_recommend(kind, options, request):
    which = "text_world" if kind == "string" else "world"
    world = request.getfixturevalue(which)
    engine = request.getfixturevalue("text_engine" if kind == "string" else "engine")
    columns = requests_of(world)
    score = shortlist.batch.scorer(world.path, **options)
    rows = score(batch_of(world, columns))
    assert rows.schema == score.schema
    answer = engine.recommend(columns, **options)
    assert rows_of(rows) == expected_rows(answer, columns["user_id"])


def test_users_are_answered_from_what_is_stored(world, engine):
    score = shortlist.batch.scorer(world.path, top_n=5)
    users = [*world.users, 777]
    rows = score(pa.record_batch({"user_id": users}))
    assert rows_of(rows) == expected_rows(engine.recommend(user_ids=users, top_n=5), users)
    assert set(rows["source"].to_pylist()) == {"stored history", "popular", "features"}


def test_kinds_that_stay_out_are_told_by_the_requests(world, engine):
    item_ids = world.item_ids.tolist()
    columns = {
        "user_id": [5, None],
        "history": [item_ids[:2], item_ids[2:4]],
        "history_kinds": [["view", "purchase"], ["purchase", "view"]],
    }
    score = shortlist.batch.scorer(world.path, exclude_seen=("purchase",), top_n=40)
    score.check()
    answer = engine.recommend(columns, exclude_seen=("purchase",), top_n=40)
    assert rows_of(score(batch_of(world, columns))) == expected_rows(answer, [5, None])


def test_lists_and_titles(world, engine):
    columns = requests_of(world)
    options = {"where": "year >= 2015", "top_n": 6}
    score = shortlist.batch.scorer(world.path, layout="lists", titles=True, **options)
    rows = score(batch_of(world, columns))
    assert rows.schema == score.schema
    assert rows.schema.names == ["user_id", "item_ids", "titles", "scores", "source"]
    answer = engine.recommend(columns, **options)
    assert rows["user_id"].to_pylist() == columns["user_id"]
    assert rows["item_ids"].to_pylist() == [one.item_ids.tolist() for one in answer]
    assert rows["titles"].to_pylist() == [one.titles.tolist() for one in answer]
    assert rows["scores"].to_pylist() == [one.scores.tolist() for one in answer]
    titled = shortlist.batch.scorer(world.path, titles=True, **options)(batch_of(world, columns))
    assert titled["title"].to_pylist() == [title for one in answer for title in one.titles]


@pytest.mark.parametrize("kind", [pa.int32(), pa.uint16(), pa.dictionary(pa.int8(), pa.int64())])
def test_ids_of_other_widths_are_the_same_users(kind, world):
    score = shortlist.batch.scorer(world.path, top_n=3)
    users = list(world.users)
    ids = pa.array(users).cast(pa.int64())
    given = ids.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else ids.cast(kind)
    assert score(pa.record_batch({"user_id": given})).equals(
        score(pa.record_batch({"user_id": ids}))
    )


def test_an_empty_batch_gives_no_rows(world):
    for layout in ("long", "lists"):
        score = shortlist.batch.scorer(world.path, layout=layout)
        rows = score(pa.record_batch({"user_id": pa.array([], pa.int64())}))
        assert rows.num_rows == 0
        assert rows.schema == score.schema


def test_slices_and_tables_are_answered_like_whole_batches(world):
    score = shortlist.batch.scorer(world.path, top_n=4)
    batch = batch_of(world, requests_of(world))
    table = pa.Table.from_batches([batch, batch])
    whole = pa.Table.from_batches([score(batch), score(batch)])
    parts = [score(table.slice(start, 7)) for start in range(0, 60, 7)]
    assert pa.Table.from_batches(parts).equals(whole)


def test_another_process_gives_the_same_rows(world, tmp_path):
    score = shortlist.batch.scorer(world.path, top_n=4)
    batch = batch_of(world, requests_of(world))
    (tmp_path / "given").write_bytes(pickle.dumps((score, batch)))
    code = "import pickle,sys; f, b = pickle.load(open('given', 'rb')); "
    code += "sys.stdout.buffer.write(pickle.dumps(f(b)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert pickle.loads(done.stdout).equals(score(batch))


def test_a_process_opens_a_bundle_once(world):
    one = shortlist.batch.scorer(world.path, top_n=3)
    other = pickle.loads(pickle.dumps(shortlist.batch.scorer(world.path, top_n=5)))
    assert one.engine is other.engine


def test_another_bundle_in_its_place_is_refused(tmp_path):
    from worlds import make_world

    path = make_world(tmp_path / "a.shortlist").path
    score = shortlist.batch.scorer(path)
    path.rename(tmp_path / "old.shortlist")
    make_world(path, sign=-1)
    with pytest.raises(BundleError, match="it was replaced meanwhile"):
        score(pa.record_batch({"user_id": [5]}))


def test_requests_without_users_are_refused(world):
    score = shortlist.batch.scorer(world.path)
    batch = pa.record_batch({"history": [[int(world.item_ids[0])]]})
    with pytest.raises(DataError, match=r"no column 'user_id' among history; expected one"):
        score(batch)


WRONG = {
    "layout": ({"layout": "wide"}, ValueError, "layout: got 'wide', expected one of long, lists"),
    "device": ({"device": "tpu"}, ValueError, "device: got 'tpu', expected one of auto"),
    "top_n": ({"top_n": 0}, ValueError, "top_n: got 0"),
    "quota": ({"at_most": [{}]}, TypeError, "at_most: got list, expected one dict"),
    "titles": ({"titles": "yes"}, TypeError, "titles: got 'yes', expected True or False"),
}


@pytest.mark.parametrize(("options", "kind", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_options_are_refused_at_once(world, options, kind, said):
    with pytest.raises(kind, match=said):
        shortlist.batch.scorer(world.path, **options)
