"""Acknowledged events are there, once, whoever writes and whatever is killed."""

import datetime
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import shortlist
from shortlist import DataError, FeedbackLog, ShortlistError

_MADE = []  # databases of the server
NOON = 1_714_564_800  # 2024-05-01T12:00:00Z


@pytest.fixture(params=["file", "sqlalchemy", "postgres"])
def place(request, tmp_path):
    """Where a log may be: a file, a database through SQLAlchemy, a server."""
    if request.param == "file":
        return tmp_path / "feedback.log"
    sqlalchemy = pytest.importorskip("sqlalchemy")
    if request.param == "sqlalchemy":
        return f"sqlite:///{tmp_path / 'feedback.db'}"
    url = request.getfixturevalue("postgres")
    name = f"log_{len(_MADE)}"
    _MADE.append(name)
    server = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    server.dispose()
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def log(place):
    with FeedbackLog(place) as opened:
        yield opened


@pytest.fixture
def file_log(tmp_path):
    with FeedbackLog(tmp_path / "feedback.log") as opened:
        yield opened


def event(**changes):
    return {"user_id": 1, "item_id": 2, "kind": "click", "timestamp": NOON, **changes}


def test_an_event_comes_back_as_it_was_written(log):
    assert log.append(**event(value=4.5, key="a"))
    assert log.append(**event(user_id=3, timestamp="2024-05-01T12:00:01Z"))
    assert len(log) == 2
    names = ("value", "key", "rank", "bundle", "score", "propensity")
    empty = dict.fromkeys(names)
    assert log.read().to_pylist() == [
        {"sequence": 1, **event(), **empty, "value": 4.5, "key": "a"},
        {"sequence": 2, **event(user_id=3, timestamp=NOON + 1), **empty},
    ]


@pytest.mark.parametrize("form", [dict, pa.table, pl.DataFrame, pd.DataFrame, "rows"])
def test_every_shape_of_table_is_read_alike(log, form):
    columns = {
        "user_id": ["ü1", "ü2"],
        "item_id": [7, 8],
        "kind": ["rating", "skip"],
        "timestamp": [NOON, NOON + 5],
        "value": [4.0, None],
        "key": ["x", None],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert log.append_many(rows if form == "rows" else form(columns)) == 2
    found = log.read().select(list(columns))
    assert found.to_pydict() == columns
    assert found.schema.field("user_id").type == pa.string()


@pytest.mark.parametrize(
    "when",
    [
        NOON,
        float(NOON) + 0.75,
        np.int64(NOON),
        np.datetime64("2024-05-01T12:00:00"),
        datetime.datetime(2024, 5, 1, 12),
        datetime.datetime(2024, 5, 1, 14, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        pd.Timestamp("2024-05-01 12:00"),
        "2024-05-01T12:00:00Z",
    ],
)
def test_times_of_every_kind_are_seconds(log, when):
    log.append(**event(timestamp=when))
    assert log.read().column("timestamp").to_pylist() == [NOON]


def test_a_key_is_written_once(log, place):
    assert log.append(**event(key="a"))
    assert not log.append(**event(key="a", item_id=9))
    keys = ["a", "b", "b", None, None]
    columns = {name: [value] * 5 for name, value in event().items()}
    assert log.append_many({**columns, "key": keys}) == 3
    with FeedbackLog(place) as again:
        assert not again.append(**event(key="b"))
        assert len(again) == 4


def test_since_and_after_cut(log):
    log.append_many([event(timestamp=NOON + s) for s in (5, 0, 9)])
    assert log.read(since=NOON + 5).column("sequence").to_pylist() == [1, 3]
    assert log.read(since="2024-05-01T12:00:09").column("sequence").to_pylist() == [3]
    assert log.read(after=1).column("sequence").to_pylist() == [2, 3]
    assert log.read(after=3).num_rows == 0


def test_what_was_shown_is_kept_with_rank_and_bundle(log, world):
    with shortlist.load(world.path) as engine:
        shown = engine.recommend([{"history": [100]}, {"user_id": 9}], top_n=3)
        assert log.append_impressions([5, 9], shown, timestamp=NOON, bundle="tiny-1") == 6
    found = log.read().to_pydict()
    assert found["user_id"] == [5, 5, 5, 9, 9, 9]
    assert found["item_id"] == shown.item_ids.ravel().tolist()
    assert found["rank"] == [1, 2, 3] * 2
    assert set(found["bundle"]) == {"tiny-1"}
    assert set(found["kind"]) == {"impression"}


def test_missing_places_were_not_shown(log, world):
    with shortlist.load(world.path) as engine:
        shown = engine.recommend([{"history": [100]}], top_n=100)
        assert log.append_impressions([5], shown, timestamp=NOON, bundle="b") == shown.counts[0]
        with pytest.raises(ValueError, match="user_ids: got 2, expected one for each of the 1"):
            log.append_impressions([5, 6], shown, timestamp=NOON, bundle="b")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"user_id": None}, DataError, "events: 'user_id' row 0 is missing, expected an id"),
        ({"user_id": 1.5}, TypeError, "events: 'user_id' row 0 is float 1.5, expected an integer"),
        ({"item_id": ""}, DataError, "events: 'item_id' row 0 is missing"),
        ({"kind": None}, TypeError, "events: 'kind' row 0 is NoneType None, expected a string"),
        ({"kind": ""}, DataError, "events: 'kind' row 0 is '', expected text, not empty"),
        ({"kind": 3}, TypeError, "events: 'kind' row 0 is int 3, expected a string"),
        ({"timestamp": None}, DataError, "events: 'timestamp' row 0 is missing, expected a time"),
        ({"timestamp": "noon"}, DataError, "events: 'timestamp' row 0 is 'noon', expected ISO"),
        ({"timestamp": 1e300}, DataError, "events: 'timestamp' row 0 is 1e"),
        ({"value": "4"}, TypeError, "events: 'value' row 0 is str '4', expected a number"),
        ({"value": float("inf")}, DataError, "events: 'value' row 0 is inf, expected a finite"),
        ({"key": 7}, TypeError, "events: 'key' row 0 is int 7, expected a string"),
        ({"key": "\ud800"}, DataError, "events: 'key' row 0 is"),
    ],
)
def test_a_wrong_event_is_refused_and_nothing_is_written(log, changes, error, message):
    with pytest.raises(error, match=message):
        log.append(**event(**changes))
    with pytest.raises((TypeError, DataError)):
        log.append_many([event(), event(**changes)])
    assert len(log) == 0


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (
            {"user_id": [1]},
            DataError,
            "events: no column 'item_id'; expected user_id, item_id, kin",
        ),
        ({**{n: [v] for n, v in event().items()}, "rating": [1]}, DataError, "unknown column 'rat"),
        ({**{n: [v] for n, v in event().items()}, "kind": ["a", "b"]}, DataError, "'kind' has 2"),
        ([event(), 7], TypeError, "events: row 1 is int, expected a dict"),
        (7, TypeError, "events: got int, expected a dict of columns"),
        ([event(rank=0)], DataError, "events: 'rank' row 0 is 0, expected a place from 1 on"),
    ],
)
def test_a_wrong_table_is_refused(log, table, error, message):
    with pytest.raises(error, match=message):
        log.append_many(table)
    assert len(log) == 0


def test_ids_keep_the_type_of_the_first(log, place):
    log.append(**event(user_id="a"))
    message = "events: 'user_id' row 0 is int 1, expected a string"
    with FeedbackLog(place) as again, pytest.raises(TypeError, match=message):
        again.append(**event(user_id=1))


def test_nothing_is_nothing(log):
    assert log.append_many([]) == 0
    assert log.read().num_rows == 0
    assert log.append(**event(user_id="text"))  # nothing fixed a type


def test_an_erased_user_is_not_in_the_bytes(file_log, tmp_path):
    log = file_log
    log.append_many([event(user_id=name) for name in ("Kafka-Franz-1883", "other") * 50])
    assert log.erase_user("Kafka-Franz-1883") == 50
    assert log.erase_user("Kafka-Franz-1883") == 0
    assert set(log.read().column("user_id").to_pylist()) == {"other"}
    for file in tmp_path.iterdir():
        assert b"Kafka" not in file.read_bytes(), file


def test_bytes_that_a_reader_keeps_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("shortlist.feedback.sqlite._BUSY_SECONDS", 0.1)
    with FeedbackLog(tmp_path / "a") as log:
        log.append(**event(user_id="Kafka"))
        reader = sqlite3.connect(tmp_path / "a", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        with pytest.raises(ShortlistError, match=r"rows are deleted, but a reader .* call this ag"):
            log.erase_user("Kafka")
        assert len(log) == 0
        reader.close()
        assert log.erase_user("Kafka") == 0
    assert not any(b"Kafka" in file.read_bytes() for file in tmp_path.iterdir())


def test_old_events_go(log):
    log.append_many([event(timestamp=NOON + s) for s in range(10)])
    assert log.remove_before(NOON + 4) == 4
    assert log.read().column("timestamp").to_pylist() == list(range(NOON + 4, NOON + 10))
    log.append(**event())
    assert log.read().column("sequence").to_pylist()[-1] == 11  # numbers are never used again


def test_a_closed_log_and_a_strange_file_are_refused(tmp_path):
    log = FeedbackLog(tmp_path / "a")
    log.close()
    log.close()
    with pytest.raises(ShortlistError, match="feedback log: it is closed"):
        log.append(**event())
    (tmp_path / "b").write_text("user_id,item_id\n" * 100)
    with pytest.raises(ShortlistError, match=r"b: expected a feedback log .*not a database"):
        FeedbackLog(tmp_path / "b")
    with pytest.raises(ShortlistError, match=r"unable to open"):
        FeedbackLog(tmp_path / "none" / "c")


WRITER = """
import sys, shortlist
log = shortlist.FeedbackLog(sys.argv[1])
name, n = sys.argv[2], int(sys.argv[3])
for i in range(n):
    event = dict(user_id=i % 7, item_id=i, kind="click", timestamp=1700000000 + i)
    if i % 3 == 0:
        log.append_many([{**event, "key": f"{name}-{i}-{k}"} for k in range(5)])
    else:
        log.append(**event, key=f"{name}-{i}")
    print(i, flush=True)
"""


def writer(path, name, n):
    command = [sys.executable, "-c", WRITER, str(path), name, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def keys_of(name, n):
    return {f"{name}-{i}-{k}" for i in range(0, n, 3) for k in range(5)} | {
        f"{name}-{i}" for i in range(n) if i % 3
    }


def test_an_erased_user_is_gone(log):
    log.append_many([event(user_id=name) for name in ("Kafka", "other") * 5])
    assert log.erase_user("Kafka") == 5
    assert log.erase_user("Kafka") == 0
    assert set(log.read().column("user_id").to_pylist()) == {"other"}


def test_threads_and_processes_write_at_once(place):
    path = place
    others = [writer(path, f"process{i}", 30) for i in range(3)]
    with FeedbackLog(path) as log:

        def write(name):
            for i in range(30):
                log.append(**event(key=f"{name}-{i}"))

        threads = [threading.Thread(target=write, args=[f"thread{i}"]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for other in others:
            other.communicate(timeout=120)
            assert other.returncode == 0
        expected = {f"thread{t}-{i}" for t in range(4) for i in range(30)}
        expected = expected.union(*(keys_of(f"process{i}", 30) for i in range(3)))
        found = log.read().column("key").to_pylist()
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_a_killed_writer_loses_nothing_it_has_acknowledged(place):
    kill_writers(place, 4)


@pytest.mark.slow
def test_two_hundred_killed_writers_lose_nothing_they_have_acknowledged(tmp_path):
    kill_writers(tmp_path / "feedback.log", 200)


def kill_writers(path, n):
    random = np.random.default_rng(0)
    for attempt in range(n):
        process, acknowledged = writer(path, f"run{attempt}", 10_000), -1
        wanted = int(random.integers(0, 200))
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= wanted:
                os.kill(process.pid, signal.SIGKILL)
                break
        rest, _ = process.communicate()
        acknowledged = max([acknowledged, *map(int, rest.split())])
        with FeedbackLog(path) as log:
            keys = [
                k for k in log.read().column("key").to_pylist() if k.startswith(f"run{attempt}")
            ]
        assert len(keys) == len(set(keys))
        # At most the next write is there as well, whole.
        assert set(keys) in (
            keys_of(f"run{attempt}", acknowledged + 1),
            keys_of(f"run{attempt}", acknowledged + 2),
        )


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_writes_on(log):
    log.append(**event(key="parent"))
    child = os.fork()
    if child == 0:
        try:
            log.append(**event(key="child"))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    log.append(**event(key="parent again"))
    assert log.read().column("key").to_pylist() == ["parent", "child", "parent again"]


def test_what_users_did_is_read_by_user_in_time_order(log):
    rows = [(7, 1, 5), (7, 2, 3), (9, 3, 4), (7, 4, 5), (8, 5, 1)]
    log.append_many([event(user_id=u, item_id=i, timestamp=NOON + s) for u, i, s in rows])
    log.append_many([event(user_id=7, kind="impression", item_id=99, rank=1)])
    first, nobody, second, no_id = log.acts([7, 77, 9, None])
    assert first.item_ids == [2, 1, 4]
    assert first.times == [NOON + 3, NOON + 5, NOON + 5]
    assert (first.kinds, first.values) == (["click"] * 3, [None] * 3)
    assert second.item_ids == [3]
    assert nobody is no_id is None


def test_a_url_that_leads_nowhere_is_refused(tmp_path):
    pytest.importorskip("sqlalchemy")
    with pytest.raises(ShortlistError, match="feedback log: expected a database URL such as"):
        FeedbackLog("nothing://x")
    url = f"sqlite:///{tmp_path}/none/x.db"
    with pytest.raises(ShortlistError, match=r"x.db: expected a feedback log that can be read"):
        FeedbackLog(url)
    with FeedbackLog(f"sqlite:///{tmp_path}/x.db") as log:
        pass
    with pytest.raises(ShortlistError, match="feedback log: it is closed"):
        log.append(**event())


def test_a_password_is_not_shown():
    pytest.importorskip("psycopg")
    with pytest.raises(ShortlistError, match=r"shortlist:\*\*\*@localhost") as error:
        FeedbackLog("postgresql+psycopg://shortlist:secret@localhost:1/none")
    assert "secret" not in str(error.value)


def test_impressions_that_no_one_wants_never_leave_the_store(log, tmp_path, monkeypatch):
    shown = [event(item_id=i, kind="impression", rank=1) for i in range(20)]
    log.append_many([*shown, event(item_id=30), *shown, event(item_id=31), *shown])
    real, n_read = log._store.read, []

    def read(*arguments):
        rows = real(*arguments)
        n_read.append(len(rows))
        return rows

    monkeypatch.setattr(log._store, "read", read)
    assert log.read(impressions=False).column("item_id").to_pylist() == [30, 31]
    assert log.read(after=21, impressions=False).column("sequence").to_pylist() == [42]
    assert log.export(tmp_path / "events.parquet", impressions=False) == 2
    assert sum(n_read) == 5
    assert log.read().num_rows == 62


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_log_is_exported_as_it_is_read(log, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("shortlist.feedback.log.PAGE", 7)
    log.append_many([event(user_id=f"ü{i}", timestamp=NOON + i, value=i) for i in range(20)])
    log.append_many([event(user_id="x", kind="impression", rank=1, propensity=0.5, score=2.0)])
    path = tmp_path / f"events.{suffix}"
    read = pl.read_parquet if suffix == "parquet" else pl.read_ipc
    path.write_bytes(b"an old file")
    assert log.export(path) == 21
    assert read(path).to_arrow().to_pylist() == log.read().to_pylist()
    assert log.export(path, since=NOON + 15, impressions=False) == 5
    assert read(path)["timestamp"].to_list() == list(range(NOON + 15, NOON + 20))
    assert log.export(str(path), since="2030-01-01") == 0
    assert read(path).schema["user_id"] == pl.String
    left = {file.name for file in tmp_path.iterdir() if not file.name.startswith("feedback")}
    assert left == {path.name}


def test_an_export_that_fails_leaves_the_old_file(file_log, tmp_path, monkeypatch):
    file_log.append_many([event()] * 20)
    path = tmp_path / "events.parquet"
    assert file_log.export(path) == 20
    before = path.read_bytes()
    monkeypatch.setattr("shortlist.feedback.log.PAGE", 10)
    real = file_log._store.read

    def fail(after, since, limit, impressions):
        if after >= 10:
            raise ShortlistError("the disk is gone")
        return real(after, since, limit)

    monkeypatch.setattr(file_log._store, "read", fail)
    with pytest.raises(ShortlistError, match="the disk is gone"):
        file_log.export(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "events" in file.name] == ["events.parquet"]
    with pytest.raises(DataError, match=r"path: got .*events.csv', expected a name that ends in"):
        file_log.export(tmp_path / "events.csv")
    with pytest.raises(DataError, match=r"path: .*events.parquet cannot be written \(No such"):
        file_log.export(tmp_path / "none" / "events.parquet")
