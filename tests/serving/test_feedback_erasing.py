"""After `erase_user` no byte of the user is left: in no table, index, page gap, WAL or journal."""

import random
import sqlite3

import pytest

import shortlist.feedback.sqlite
from shortlist import FeedbackLog, ShortlistError
from shortlist.feedback import remnants

NOON = 1_714_564_800
SCATTERED = "(sequence * 7919) % 10007 % 100"  # a share of the rows, as if by chance


def varint(number):
    """An integer as SQLite writes lengths and row numbers."""
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127 | 128)
    return bytes(reversed(groups))


def forms(value):
    """All the ways that a value could lie in a file."""
    if isinstance(value, str):
        return {value.encode(), value.encode("utf-16-le"), value.encode("utf-16-be")}
    width = next(w for w in (1, 2, 3, 4, 6, 8) if -(1 << 8 * w - 1) <= value < 1 << 8 * w - 1)
    ways = {
        value.to_bytes(w, order, signed=True) for w in {width, 8} for order in ("big", "little")
    }
    return ways | {str(value).encode(), *([varint(value)] if 0 <= value < 2**56 else [])}


def found_in(folder, values):
    """The values of which a byte form is in some file of a folder."""
    content = b"\0\0".join(path.read_bytes() for path in folder.iterdir())
    return [value for value in values if any(form in content for form in forms(value))]


class Crowd:
    """Events of many users, interleaved; every item, key and time is of one event only."""

    def __init__(self, log, kind, n_users, n_events, seed=4):
        self.random = random.Random(seed)
        self.users = [self.id_of(kind, "person") for _ in range(n_users)]
        self.traces = {user: [user] for user in self.users}
        events = []
        for i in range(n_events):
            user, item = self.random.choice(self.users), self.id_of(kind, "thing")
            event = {"user_id": user, "item_id": item, "kind": "click", "timestamp": NOON + i}
            if i % 3 == 0:
                event |= {"kind": "impression", "rank": 1, "bundle": "b", "score": 0.5}
            if i % 2 == 0:
                event["key"] = f"key-{self.random.randrange(10**12):012d}"
                self.traces[user].append(event["key"])
            self.traces[user].append(item)
            events.append(event)
        for start in range(0, n_events, 50):
            log.append_many(events[start : start + 50])
        self.n_events = n_events

    def id_of(self, kind, word):
        if kind == "text":
            return f"{word}-{self.random.randrange(10**9):09d}@example"
        return self.random.randrange(2**40, 2**46 if kind == "six bytes" else 2**62)


@pytest.mark.parametrize("kind", ["text", "six bytes", "eight bytes"])
@pytest.mark.parametrize(("n_users", "n_erased"), [(100, 6), (10, 8)])
def test_no_byte_of_erased_users_is_left(tmp_path, kind, n_users, n_erased):
    with FeedbackLog(tmp_path / "log") as log:
        crowd = Crowd(log, kind, n_users, 1_200)
        gone = []
        for user in crowd.users[:n_erased]:
            assert found_in(tmp_path, crowd.traces[user][:2])
            assert log.erase_user(user) == sum(
                not str(trace).startswith("key-") for trace in crowd.traces[user][1:]
            )
            assert found_in(tmp_path, crowd.traces[user]) == []
            gone += crowd.traces[user]
        rest = [crowd.traces[user][-1] for user in crowd.users[n_erased:]]
        assert found_in(tmp_path, rest) == rest
        told = log.read()
        assert set(told.column("user_id").to_pylist()) == set(crowd.users[n_erased:])
        assert told.num_rows == len(log)
    assert found_in(tmp_path, gone) == []
    check_integrity(tmp_path / "log")


@pytest.mark.parametrize("kind", ["text", "eight bytes"])
def test_no_byte_of_what_is_too_old_is_left(tmp_path, kind):
    with FeedbackLog(tmp_path / "log") as log:
        crowd = Crowd(log, kind, 50, 1_000)
        table = log.read()
        for n in (7, 500, 1_000):
            log.remove_before(NOON + n)
            gone = [*table.column("item_id")[:n].to_pylist(), *table.column("key")[:n].to_pylist()]
            assert found_in(tmp_path, [trace for trace in gone if trace]) == []
            assert len(log) == 1_000 - n
        assert found_in(tmp_path, crowd.users) == []


def check_integrity(path):
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def statements(log):
    """What is told to the file from now on."""
    said = []
    log._store._writer.get().set_trace_callback(said.append)
    return said


def test_the_whole_file_is_written_anew_only_where_rows_of_the_table_moved(tmp_path):
    with FeedbackLog(tmp_path / "log") as log:
        crowd = Crowd(log, "text", 60, 3_000)
        said = statements(log)
        for user in crowd.users[:3]:
            log.erase_user(user)
        assert said.count("REINDEX events") == 3
        assert "VACUUM" not in said
        size = (tmp_path / "log").stat().st_size
        log._store._delete(f"{SCATTERED} < ?", 80)
        assert "VACUUM" in said
        assert (tmp_path / "log").stat().st_size < size / 2
        del said[:]
        assert log.erase_user("nobody") == 0
        assert not [text for text in said if "REINDEX" in text or "VACUUM" in text]


@pytest.mark.parametrize("share", [70, 80, 85, 90, 95])
def test_no_row_that_moved_in_the_table_is_missed(tmp_path, monkeypatch, share):
    """Without the writing anew, deleted rows stay in the table's pages: REINDEX is not enough."""
    said = []

    def spy(wal):
        said.append(remnants.moved_rows(wal))
        return False

    monkeypatch.setattr(shortlist.feedback.sqlite, "moved_rows", spy)
    n_left = 0
    for seed in range(4):
        with FeedbackLog(tmp_path / str(seed)) as log:
            Crowd(log, "text", 10, 1_000, seed)
            items = set(log.read().column("item_id").to_pylist())
            log._store._delete(f"{SCATTERED.replace('7919', str(7919 + 2 * seed))} < ?", share)
            items -= set(log.read().column("item_id").to_pylist())
            content = (tmp_path / str(seed)).read_bytes()
        is_left = any(item.encode() in content for item in items)
        assert said[-1] or not is_left
        n_left += is_left
    if share in (70, 80, 85):
        assert n_left


@pytest.mark.parametrize("step", ["moved_rows", "VACUUM", "wal_checkpoint"])
def test_an_erasure_that_was_cut_short_is_finished_by_the_next_call(tmp_path, monkeypatch, step):
    """The rows are deleted, their bytes are not yet all gone."""
    with FeedbackLog(tmp_path / "log") as log:
        crowd = Crowd(log, "text", 10, 1_000)
        user = crowd.users[0]
        if step == "moved_rows":
            monkeypatch.setattr(shortlist.feedback.sqlite, "moved_rows", lambda _: 1 / 0)
            expected = ZeroDivisionError
        else:
            monkeypatch.setattr(shortlist.feedback.sqlite, "moved_rows", lambda _: True)
            real = log._store._writer
            monkeypatch.setattr(log._store, "_writer", Failing(real, step))
            expected = ShortlistError
        with pytest.raises(expected):
            log.erase_user(user)
        monkeypatch.undo()
        assert log.erase_user(user) == 0
        assert found_in(tmp_path, crowd.traces[user]) == []
    check_integrity(tmp_path / "log")


class Failing:
    """A connection that fails at one statement."""

    def __init__(self, real, word):
        self.real, self.word, self.lock = real, word, real.lock

    def get(self):
        return self

    def execute(self, statement, *values):
        if self.word in statement:
            raise sqlite3.OperationalError("database or disk is full")
        return self.real.get().execute(statement, *values)

    @property
    def in_transaction(self):
        return self.real.get().in_transaction


def test_what_earlier_builds_left_goes_with_the_next_erasure(tmp_path):
    """They deleted rows, and left the copies that SQLite had made of them."""
    path = tmp_path / "log"
    with FeedbackLog(path) as log:
        Crowd(log, "text", 10, 1_000)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA application_id = 0")
    some = f"FROM events WHERE {SCATTERED} < 80"
    gone = [item for (item,) in connection.execute(f"SELECT item_id {some}")]
    connection.execute(f"DELETE {some}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert found_in(tmp_path, gone)
    with FeedbackLog(path) as log:
        assert log.erase_user("nobody") == 0
        assert found_in(tmp_path, gone) == []
        said = statements(log)
        assert log.erase_user("nobody") == 0
        assert "VACUUM" not in said  # once is enough


def test_pages_are_read_as_sqlite_lays_them_out(tmp_path):
    """Every table leaf with a stale cell is found, and a clean file has none."""
    connection = sqlite3.connect(tmp_path / "x", isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    with_rows = [(i, f"row-{i:05d}") for i in range(3_000)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, ?)", with_rows)
    connection.execute("COMMIT")
    wal = tmp_path / "x-wal"
    assert not remnants.moved_rows(wal)
    connection.execute("DELETE FROM t WHERE a % 50 = 0")
    assert not remnants.moved_rows(wal)
    connection.execute("DELETE FROM t WHERE a % 50 < 40")
    assert remnants.moved_rows(wal)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not remnants.moved_rows(wal)
    connection.execute("VACUUM")
    assert not remnants.moved_rows(wal)
    connection.close()


def test_the_bytes_in_a_server_go_when_it_frees_them(request):
    """As `docs/feedback.md` says: VACUUM FULL writes the tables anew; its own log is another."""
    postgres = request.getfixturevalue("postgres")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    server = sqlalchemy.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with FeedbackLog(postgres) as log, server.connect() as connection:
        log.append_many(
            [{"user_id": name, "item_id": "i", "kind": "click", "timestamp": NOON + i}
             for i in range(50) for name in ("Kafka-Franz-1883", "other")]
        )  # fmt: skip
        assert log.erase_user("Kafka-Franz-1883") == 50
        assert set(log.read().column("user_id").to_pylist()) == {"other"}
        for statement in ("VACUUM FULL shortlist_events", "CHECKPOINT"):
            connection.execute(sqlalchemy.text(statement))
        query = "SELECT pg_relation_filepath(oid), pg_relation_size(oid) FROM pg_class"
        query += " WHERE relname LIKE 'shortlist%' AND relkind IN ('r', 'i')"
        for path, size in connection.execute(sqlalchemy.text(query)).all():
            text = f"SELECT pg_read_binary_file('{path}')"
            content = connection.execute(sqlalchemy.text(text)).scalar_one()
            assert len(content) == size
            assert b"Kafka" not in bytes(content), path
    server.dispose()
