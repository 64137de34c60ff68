"""Stored users in the C engine: answers by user_id are the Python engine's, bit for bit."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from c_engine import CEngine, column, filter_of, lists, open_engine
from c_library import FILE_ERROR, INVALID_ARGUMENT, CError
from c_requests import check_same, columns_of, random_requests

import shortlist
from shortlist.bundle import Bundle, BundleWriter


def user_column(world, user_ids):
    if world.item_ids.dtype.kind == "U":
        return column("user_id", np.array([user or "" for user in user_ids], object))
    missing = np.iinfo(np.int64).min
    return column("user_id", [missing if user is None else user for user in user_ids])


def some_users(world, n):
    """Known users, those that are not, and none, in no order."""
    known = list(world.users)
    strange = "?" if isinstance(known[0], str) else 77
    return [[*known, strange, None][(i * 7 + i // 5) % (len(known) + 2)] for i in range(n)]


@pytest.mark.parametrize("which", ["bundle", "text_bundle"])
def test_users_with_and_without_a_history_of_their_own(which, request):
    world = request.getfixturevalue(which)
    with shortlist.load(world.path) as engine, CEngine(world.path) as c_engine:
        sources = set()
        for n in (1, 2, 3, 40, 1100):
            users = some_users(world, n)
            alone = user_column(world, users)
            requests = random_requests(world, n, seed=n)
            for exclude_seen in (True, False):
                expected = engine.recommend({"user_id": users}, 12, exclude_seen)
                check_same(c_engine.recommend([alone], n, 12, not exclude_seen), expected)
                expected = engine.recommend(requests | {"user_id": users}, 12, exclude_seen)
                columns = [alone, *columns_of(world, requests)]
                check_same(c_engine.recommend(columns, n, 12, not exclude_seen), expected)
                sources |= set(expected.source)
        assert sources == {"history", "stored history", "features", "popular"}


def test_filters_join_what_users_have_seen(bundle):
    users = some_users(bundle, 30)
    kept = bundle.item_ids[::2].tolist()
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        where = pc.field("item_id").isin(kept)
        alone = [user_column(bundle, users)]
        expected = engine.recommend({"user_id": users}, 20, where=where)
        check_same(c_engine.recommend(alone, 30, 20, filter=filter_of(allow=kept)), expected)
        expected = engine.recommend({"user_id": users}, 20, where=~where)
        chosen = filter_of(exclude=[kept] * 30)
        check_same(c_engine.recommend(alone, 30, 20, filter=chosen), expected)


def with_users(world, folder, table, **fields):
    """The world's bundle with other users."""
    manifest = Bundle.open(world.path).manifest.to_dict()
    with BundleWriter(folder / "again.shortlist") as writer:
        for file in world.path.iterdir():
            if file.name not in ("users.arrow", "manifest.json"):
                shutil.copy(file, writer.directory)
        users = str(writer.directory / "users.arrow")
        with pa.OSFile(users, "wb") as sink, pa.ipc.new_file(sink, table.schema) as arrow:
            arrow.write_table(table)
        manifest.pop("files")
        writer.write_manifest(manifest | {"n_users": table.num_rows} | fields)
        return writer.commit()


def users_table(n, **columns):
    rng = np.random.default_rng(4)
    histories = [(100 + 7 * rng.integers(0, 45, rng.integers(0, 9))).tolist() for _ in range(n)]
    history = pa.array(histories, pa.list_(pa.int64()))
    return pa.table({"user_id": pa.array(range(3, 3 + n)), "history": history, **columns})


@pytest.mark.parametrize(
    "columns",
    [
        {"level": pa.array([1, None, 3, 2, 9], pa.int8()), "age": pa.array([1, 2, None, 4, 5])},
        {"level": pa.array([1, 2, 3, None, 2], pa.uint32()), "tags": pa.nulls(5)},
        {"level": pa.array([True, False, None, True, True])},
        {"city": pa.array(["Köln", "", None, "北京", "x"])},
        {"age": pa.array([1.5, None, 2, 3, 4], pa.float32())},
        {"tags": pa.array([["a", None, "?"], [], None, ["b"], ["a", "b", "a"]])},
        {"city": pa.nulls(5), "unknown": pa.array([b"1"] * 5, pa.string())},
    ],
)  # fmt: skip
def test_stored_columns_of_every_type_mean_the_same(bundle, columns, tmp_path):
    path = with_users(bundle, tmp_path, users_table(5, **columns))
    users = [*range(2, 9), None]
    given = {"user_id": users, "level": [None, 1] * 4, "tags": [None, ["b"]] * 4}
    missing = np.iinfo(np.int64).min
    asked = [
        user_column(bundle, users),
        column("level", [missing, 1] * 4),
        lists("tags", [[], ["b"]] * 4, object),
    ]
    with shortlist.load(path) as engine, CEngine(path) as c_engine:
        check_same(c_engine.recommend(asked[:1], 8), engine.recommend({"user_id": users}))
        check_same(c_engine.recommend(asked, 8), engine.recommend(given))


def test_no_users_at_all_are_no_error(bundle, tmp_path):
    path = with_users(bundle, tmp_path, users_table(0))
    with CEngine(path) as c_engine:
        assert c_engine.recommend([user_column(bundle, [3])], 1).sources.tolist() == [0]


def test_what_only_python_reads_is_refused_when_it_is_asked_for(bundle, tmp_path):
    path = with_users(bundle, tmp_path, users_table(2, tags=pa.array(["a|b", "b"])))
    with CEngine(path) as c_engine:
        assert c_engine.recommend([user_column(bundle, [77])], 1).counts.tolist() == [10]
        with pytest.raises(CError, match=r"users\.arrow has column 'tags' in a form of an older"):
            c_engine.recommend([user_column(bundle, [3])], 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (column("user_id", np.array(["a"], object)), "user_id: got other values; expected numbers"),
        (column("user_id", np.array([1.0], np.float32)), "user_id: got other values; expected num"),
        (column("user_id", [[1, 2]]), "user_id: got other values; expected numbers, one a request"),
        (lists("user_id", [[1]], np.int64), "user_id: got other values"),
    ],
)
def test_wrong_user_ids_are_named(bundle, values, message):
    with CEngine(bundle.path) as c_engine:
        for columns, match in (([values], message), ([user_column(bundle, [5])] * 2, "twice")):
            with pytest.raises(CError, match=match) as caught:
                c_engine.recommend(columns, 1)
            assert caught.value.status == INVALID_ARGUMENT


def broken_tables():
    table = users_table(3)
    ids = table.column("user_id")
    return {
        "order": (table.set_column(0, "user_id", pa.array([3, 5, 5])), "user ids in ascending"),
        "null": (table.set_column(0, "user_id", pa.array([3, None, 5])), "'user_id' of the manif"),
        "type": (table.set_column(0, "user_id", ids.cast(pa.int32())), "column 'user_id' of the m"),
        "none": (table.drop_columns("history"), "expected a column 'history', found none"),
        "text": (table.set_column(1, "history", pa.array([["a"]] * 3)), "column 'history' of the "),
        "kind": (table.append_column("x", pa.array([{"a": 1}] * 3)), "numbers, truth values, tim"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["order", "null", "type", "none", "text", "kind"])
def test_tables_that_are_no_users_are_refused(kind, bundle, tmp_path):
    table, message = broken_tables()[kind]
    path = with_users(bundle, tmp_path, table)
    with pytest.raises(CError, match=rf"users\.arrow: expected .*{message}|{message}") as caught:
        open_engine(path)
    assert caught.value.status == FILE_ERROR


def test_another_number_of_users_than_the_manifests_is_refused(bundle, tmp_path):
    path = with_users(bundle, tmp_path, users_table(3), n_users=4)
    with pytest.raises(CError, match=r"users\.arrow: expected 4 rows, found 3"):
        open_engine(path)


def test_damaged_users_are_refused_or_answer_and_never_crash(bundle, tmp_path):
    path = with_users(bundle, tmp_path, users_table(5, tags=pa.array([["a"], [], None, ["b"], []])))
    file = path / "users.arrow"
    whole = file.read_bytes()
    rng = np.random.default_rng(6)
    statuses = []
    for _ in range(100):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        file.write_bytes(data)
        try:
            with CEngine(path, skip_hashes=1) as c_engine:
                c_engine.recommend([user_column(bundle, range(2, 10))], 8, 3)
        except CError as error:
            statuses.append(error.status)
    assert set(statuses) <= {FILE_ERROR, INVALID_ARGUMENT}
    assert 5 < len(statuses) < 95
