"""A feedback log says what it is; what is something else is refused and stays as it is."""

import sqlite3

import pytest

from shortlist import FeedbackLog, ShortlistError
from shortlist.feedback.sqlite import APPLICATION_ID

EVENT = {"user_id": 1, "item_id": 2, "kind": "click", "timestamp": 3}


def pragma(path, name):
    connection = sqlite3.connect(path)
    (found,) = connection.execute(f"PRAGMA {name}").fetchone()
    connection.close()
    return found


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_log_has_its_application_id_and_format(tmp_path):
    with FeedbackLog(tmp_path / "log") as log:
        log.append(**EVENT)
    assert pragma(tmp_path / "log", "application_id") == APPLICATION_ID
    assert pragma(tmp_path / "log", "user_version") == 2
    assert (tmp_path / "log").read_bytes()[68:72] == b"SHLF"
    with FeedbackLog(tmp_path / "log") as log:
        log.erase_user(1)
        log.append_many([EVENT] * 3)
    assert pragma(tmp_path / "log", "application_id") == APPLICATION_ID


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("CREATE TABLE customers (a)", r"application id 0, tables: customers\)"),
        ("CREATE TABLE about (name, value); CREATE TABLE events (a)", "tables: about, events"),
        ("CREATE TABLE about (name, value); CREATE TABLE events (sequence, user_id, item_id);"
         "CREATE TABLE more (a)", "tables: about, events, more"),
        ("PRAGMA application_id = 7", "application id 7, tables: none"),
        ("CREATE VIEW v AS SELECT 1", "tables: v"),
    ],
)  # fmt: skip
def test_another_database_is_refused_and_stays_byte_for_byte(tmp_path, mode, script, said):
    path = tmp_path / "shop 100%.db"
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA journal_mode = {mode}; {script};")
    connection.close()
    before = bytes_of(tmp_path)
    for place in (path, str(path)):
        with pytest.raises(ShortlistError, match=f"found another SQLite database .*{said}"):
            FeedbackLog(place)
        assert bytes_of(tmp_path) == before


def test_a_database_that_others_have_open_is_refused_and_stays(tmp_path):
    """Its tables are in its -wal alone."""
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE customers (a)")
    before = bytes_of(tmp_path)
    with pytest.raises(ShortlistError, match="tables: customers"):
        FeedbackLog(path)
    after = bytes_of(tmp_path)
    for name in ("shop.db", "shop.db-wal"):
        assert after[name] == before[name]
    connection.execute("INSERT INTO customers VALUES (1)")
    connection.close()
    assert pragma(path, "application_id") == 0


def earlier(path):
    """Make a log as releases up to 0.2 did."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript("""
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id NOT NULL, item_id NOT NULL, kind TEXT NOT NULL, timestamp INTEGER NOT NULL,
  value REAL, key TEXT UNIQUE, rank INTEGER, bundle TEXT, score REAL, propensity REAL);
CREATE INDEX IF NOT EXISTS acts_of_user
  ON events (user_id, timestamp, sequence, item_id, kind, value) WHERE kind <> 'impression';
INSERT INTO about VALUES ('format', '2'), ('user_id', 'int64'), ('item_id', 'int64');
INSERT INTO events (user_id, item_id, kind, timestamp) VALUES (1, 2, 'click', 3);
""")
    return connection


@pytest.mark.parametrize("is_open", [False, True])
def test_a_log_of_an_earlier_build_opens_and_gets_its_id(tmp_path, is_open):
    connection = earlier(tmp_path / "log")
    if not is_open:
        connection.close()
    with FeedbackLog(tmp_path / "log") as log:
        assert log.read().num_rows == 1
        assert log.id_types == {"user_id": "int64", "item_id": "int64"}
        assert log.append(**EVENT)
    connection.close()
    assert pragma(tmp_path / "log", "application_id") == APPLICATION_ID


def test_a_log_of_another_format_is_refused_and_stays(tmp_path):
    connection = earlier(tmp_path / "log")
    connection.execute("UPDATE about SET value = '1' WHERE name = 'format'")
    connection.close()
    before = bytes_of(tmp_path)
    message = "expected a feedback log of format 2, found format 1; it was written by another rel"
    with pytest.raises(ShortlistError, match=message):
        FeedbackLog(tmp_path / "log")
    assert bytes_of(tmp_path) == before


def test_what_has_no_tables_yet_becomes_a_log(tmp_path):
    (tmp_path / "a").touch()
    connection = sqlite3.connect(tmp_path / "b")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    for name in "ab":
        with FeedbackLog(tmp_path / name) as log:
            assert log.append(**EVENT)


def test_a_log_that_is_not_checked_in_yet_is_known_by_its_wal(tmp_path):
    """As after a kill: all that was written is in the -wal."""
    first = FeedbackLog(tmp_path / "log")
    first.append(**EVENT)
    (tmp_path / "copy").write_bytes((tmp_path / "log").read_bytes())
    (tmp_path / "copy-wal").write_bytes((tmp_path / "log-wal").read_bytes())
    with FeedbackLog(tmp_path / "copy") as log:
        assert len(log) == 1
    first.close()
