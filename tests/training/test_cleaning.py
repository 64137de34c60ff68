"""What cleaning drops, that it says so, and that the loader takes what is left."""

import datetime
import json
import math
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.cleaning import clean as cleaning
from shortlist.training.cleaning.clean import clean_dataset, clean_events, clean_file, core_mask
from shortlist.training.config.sections import CleaningConfig
from shortlist.training.data.events import EVENT_COLUMNS, Dataset, make_events, read_events
from shortlist.training.data.formats import read_dataset

DAY = 86_400
NOW = 1_700_000_000
GOOD = {"user_id": "u1", "item_id": "i1", "timestamp": NOW, "kind": "rating", "value": 3.0}
OFF = CleaningConfig(
    missing_ids=False, timestamps=False, values=False, unknown_items=False, duplicates=False,
    conflicts="off", bots=False,
)  # fmt: skip


def table(*rows, base=3):
    """Some good events of other users, then the given changes of a good event."""
    good = [{**GOOD, "user_id": f"g{i}", "timestamp": NOW + i} for i in range(base)]
    return pl.DataFrame(good + [{**GOOD, **row} for row in rows], strict=False)


def dropped(report):
    return {rule.rule: rule.n_dropped for rule in report.rules if rule.n_dropped}


def write_csv(path, frame):
    frame.write_csv(path)
    return path


BROKEN = [
    ({"user_id": None}, "missing_ids"),
    ({"item_id": ""}, "missing_ids"),
    ({"timestamp": None}, "timestamps"),
    ({"timestamp": 0}, "timestamps"),
    ({"timestamp": -5}, "timestamps"),
    ({"timestamp": NOW * 1000}, "timestamps"),
    ({"timestamp": 2**62}, "timestamps"),
    ({"value": math.nan}, "values"),
    ({"value": math.inf}, "values"),
    ({"value": 1e300}, "values"),
    ({"value": 99.0}, "values"),
    ({"value": -1.0}, "values"),
    ({"item_id": "gone"}, "unknown_items"),
]


@pytest.mark.parametrize("is_text", [False, True], ids=["typed", "csv"])
@pytest.mark.parametrize(("change", "rule"), BROKEN, ids=str)
def test_each_broken_row_is_dropped_by_its_rule_and_shown(change, rule, is_text, tmp_path):
    source = table(change)
    if is_text:
        source = write_csv(tmp_path / "events.csv", source)
    config = CleaningConfig(min_value=0.5, max_value=5)
    events, report = clean_events(source, config, items=pl.Series(["i1", "i2"]))
    assert dropped(report) == {rule: 1}
    assert (report.n_rows, report.n_kept, events.height) == (4, 3, 3)
    (shown,) = next(r.examples for r in report.rules if r.rule == rule)
    assert shown["place"] == ("line 5" if is_text else "row 4")
    ((column, got),) = change.items()
    assert shown[column] in (got, got or None) or float(shown[column]) == pytest.approx(
        got, nan_ok=True
    )


def test_text_that_is_no_time_or_number_is_dropped_with_its_line(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(
        "user_id,item_id,timestamp,value\n1,2,2024-05-01,3\n1,3,yesterday,3\n1,4,2024-05-01,bad\n"
    )
    events, report = clean_events(path)
    assert events.rows() == [(1, 2, 1_714_521_600, "event", 3.0)]
    places = {r.rule: [e["place"] for e in r.examples] for r in report.rules if r.examples}
    assert places == {"timestamps": ["line 3"], "values": ["line 4"]}


def test_repeats_and_conflicts_are_told_apart():
    source = table({}, {}, {"value": 4.0}, {"value": None}, {"kind": "view", "value": None})
    _, report = clean_events(source, CleaningConfig(conflicts="off"))
    assert dropped(report) == {"duplicates": 1}
    for keep, left in (("first", [3.0]), ("last", [None]), ("drop", [])):
        events, report = clean_events(source, CleaningConfig(conflicts=keep))
        ratings = events.filter((pl.col("user_id") == "u1") & (pl.col("kind") == "rating"))
        assert ratings["value"].to_list() == left
        assert dropped(report) == {"duplicates": 1, "conflicts": 3 - len(left)}


def test_a_user_is_a_bot_by_the_events_of_one_day():
    busy = [{"user_id": "bot", "timestamp": NOW + i, "item_id": f"i{i}"} for i in range(11)]
    steady = [{"user_id": "fan", "timestamp": NOW + i * DAY} for i in range(-30, 0)]
    events, report = clean_events(table(*busy, *steady), CleaningConfig(max_events_per_day=10))
    assert dropped(report) == {"bots": 11}
    assert "bot" not in events["user_id"]
    _, report = clean_events(table(*busy, *steady), CleaningConfig(max_events_per_day=11))
    assert dropped(report) == {}


def test_the_k_core_is_what_repeated_dropping_leaves():
    everyone = [(u, i) for u in range(3) for i in range(3)]
    # A chain from user 3 on: each end has one event, and dropping it leaves the next with one.
    chain = [(u, u + step) for u in range(3, 9) for step in (0, 1)]
    users, items = np.array(everyone + chain, np.uint32).T
    kept = core_mask(users, items, 9, 10, (2, 2))
    assert kept.tolist() == [True] * 9 + [False] * 12
    assert core_mask(users, items, 9, 10, (2, 1)).all()


def test_the_k_core_goes_over_all_groups_of_users(monkeypatch):
    monkeypatch.setattr(cleaning, "ROWS_PER_PART", 10)
    rows = [(u, i) for u in range(12) for i in range(5)] + [(99, 0), (0, 77), (1, 77)]
    source = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(
        timestamp=NOW + pl.int_range(pl.len())
    )
    config = CleaningConfig(k_core=True, min_user_events=5, min_item_events=3)
    events, report = clean_events(source, config)
    assert dropped(report) == {"k_core": 3}
    assert {row[:2] for row in events.rows()} == set(rows[:60])
    shown = {(e["user_id"], e["item_id"]) for e in report.rules[-1].examples}
    assert shown == {(99, 0), (0, 77), (1, 77)}


def test_groups_of_users_give_what_one_group_gives(monkeypatch):
    rng = np.random.default_rng(0)
    source = table(
        *({"user_id": f"u{rng.integers(30)}", "item_id": f"i{rng.integers(9)}",
           "timestamp": NOW + int(rng.integers(3)), "value": float(rng.integers(2))}
          for _ in range(400))
    )  # fmt: skip
    whole, report = clean_events(source)
    monkeypatch.setattr(cleaning, "ROWS_PER_PART", 37)
    split, again = clean_events(source)
    assert split.equals(whole)
    assert dropped(again) == dropped(report)
    assert dropped(report).keys() == {"duplicates", "conflicts"}
    assert [r.examples for r in again.rules] == [r.examples for r in report.rules]


def test_what_is_clean_already_is_left_alone_and_read_as_the_loader_reads_it(tmp_path):
    source = table({"timestamp": NOW + 10}, {"kind": None, "value": None}).sort("timestamp")
    expected = read_events(source)
    for out in ("a.parquet", "a.csv", "a.arrow"):
        report = clean_file(source, tmp_path / out)
        assert (report.n_kept, dropped(report)) == (5, {})
        assert read_events(tmp_path / out).equals(expected)
    assert clean_events(source)[0].equals(expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.arrow", "a.csv", "a.parquet"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_loader_takes_whatever_cleaning_leaves_without_a_warning(data):
    n = data.draw(st.integers(1, 12))
    cells = {
        "user_id": st.sampled_from(["1", "2", "", None, "é"]),
        "item_id": st.sampled_from(["7", "8", "", None]),
        "timestamp": st.sampled_from([NOW, NOW + 1, 0, None, 2**62]),
        "kind": st.sampled_from(["view", "buy", "", None]),
        "value": st.sampled_from([1.0, 2.0, None, math.nan, math.inf, 1e300]),
    }
    rows = [{name: data.draw(cell) for name, cell in cells.items()} for _ in range(n)]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64,
              "kind": pl.String, "value": pl.Float64}  # fmt: skip
    source = pl.concat([table(), pl.DataFrame(rows, schema=schema)], how="vertical_relaxed")
    events, report = clean_events(source, time_unit="s")
    n_dropped = sum(dropped(report).values())
    assert report.n_rows == source.height == events.height + n_dropped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_events(events, time_unit="s", duplicates="error").equals(events)


def test_rows_the_loader_refuses_name_the_command_that_drops_them():
    for change in ({"user_id": None}, {"timestamp": None}, {"value": math.nan}):
        with pytest.raises(DataError, match="`shortlist clean` drops such rows"):
            read_events(table(change))


@pytest.mark.parametrize(
    ("change", "rule"), [(c, r) for c, r in BROKEN if r != "unknown_items"], ids=str
)
def test_a_rule_that_is_off_keeps_bounds_but_never_hides_a_broken_cell(change, rule):
    is_usable = next(iter(change.values())) in (0, -5, 99.0, -1.0, NOW * 1000)
    if is_usable:
        assert clean_events(table(change), OFF)[1].n_kept == 4
        return
    with pytest.raises(DataError, match=rf"row 4: got .* \(1 such rows\).*cleaning\.{rule}"):
        clean_events(table(change), OFF)


def test_all_rules_off_keeps_everything():
    source = table({}, {}, {"value": 4.0}, {"item_id": "gone"})
    _, report = clean_events(source, OFF, items=pl.Series(["i1"]))
    assert (report.n_kept, [r.is_on for r in report.rules]) == (7, [False] * 8)


def test_without_an_item_table_its_rule_says_that_it_did_not_run():
    _, report = clean_events(table())
    (rule,) = (r for r in report.rules if r.rule == "unknown_items")
    assert (rule.is_on, rule.what) == (False, "not run: no item table")


def test_integer_ids_meet_a_text_item_table_and_the_other_way_round(tmp_path):
    path = write_csv(tmp_path / "e.csv", table({"item_id": "7"}, {"item_id": "8"}, base=0))
    for items in (pl.Series([7]), pl.Series(["7", "x"])):
        events, report = clean_events(path, items=items)
        assert events["item_id"].to_list() == [7]
        assert dropped(report) == {"unknown_items": 1}


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_numeric_times_of_every_unit_are_understood(unit):
    source = table().with_columns(pl.col("timestamp") * unit)
    assert clean_events(source)[0]["timestamp"].to_list() == [NOW, NOW + 1, NOW + 2]
    real = source.with_columns(pl.col("timestamp").cast(pl.Float64))
    assert clean_events(real)[0]["timestamp"].to_list() == [NOW, NOW + 1, NOW + 2]


def test_a_dataset_without_times_is_cleaned_without_the_rules_on_times(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("1 5\n1 5\n1 6\n2 5\n")
    dataset = read_dataset(path, "sasrec")
    cleaned, report = clean_dataset(dataset)
    assert cleaned.events.equals(dataset.events)  # a position is a time: nothing repeats
    assert [r.rule for r in report.rules if not r.is_on] == [
        "timestamps", "unknown_items", "bots", "k_core"
    ]  # fmt: skip


def test_a_dataset_is_cleaned_against_its_own_items():
    events = make_events(pl.Series([1, 1]), pl.Series(["a", "b"]), pl.Series([NOW, NOW]))
    dataset = Dataset("tiny", events, pl.DataFrame({"item_id": ["a"]}))
    cleaned, report = clean_dataset(dataset)
    assert cleaned.events["item_id"].to_list() == ["a"]
    assert str(report).startswith("tiny: 2 events, 1 kept, 1 dropped (50.00%)")


def test_the_days_of_possible_times_are_included():
    day = {
        "timestamp": int(datetime.datetime(2020, 1, 31, 23, 59, tzinfo=datetime.UTC).timestamp())
    }
    limits = CleaningConfig(earliest="2020-01-31", latest="2020-01-31")
    assert clean_events(table(day), limits)[1].n_kept == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"earliest": "soon"}, r"cleaning\.earliest: got 'soon', expected a day such as"),
        ({"latest": "2024-13-01"}, r"cleaning\.latest: got '2024-13-01', expected a day such as"),
        ({"earliest": "2024-01-02", "latest": "2024-01-01"}, r"expected a day before cleaning\.la"),
        ({"min_value": 4.0}, r"got no event that passes the rules, of 3.*\n.*3 events, 0 kept"),
    ],
)
def test_settings_that_cannot_be_are_named(config, message):
    with pytest.raises(DataError, match=message):
        clean_events(table(), CleaningConfig(**config))


def test_tables_that_cannot_be_cleaned_are_named(tmp_path):
    with pytest.raises(DataError, match="events have no column 'item_id': got columns"):
        clean_events(table().drop("item_id"))
    with pytest.raises(DataError, match="column 'user_id' has type Boolean, expected integers or"):
        clean_events(table().with_columns(user_id=True))
    with pytest.raises(DataError, match="column 'timestamp' has type Boolean, expected numbers"):
        clean_events(table().with_columns(timestamp=True))
    with pytest.raises(DataError, match="time_unit: got 'h', expected one of"):
        clean_events(table(), time_unit="h")
    with pytest.raises(DataError, match=r"no such file: .*none\.csv"):
        clean_events(tmp_path / "none.csv")
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("user_id,item_id,timestamp\n1,2,3\n1,2,3,4\n")
    with pytest.raises(DataError, match=r"ragged\.csv, line 3: got 4 fields, expected 3"):
        clean_events(ragged)
    fake = tmp_path / "fake.parquet"
    fake.write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match=r"fake\.parquet cannot be read as a Parquet file"):
        clean_events(fake)
    picture = tmp_path / "picture.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(DataError, match=r"picture\.csv is a PNG image"):
        clean_events(picture)
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(DataError, match=r"empty\.csv is empty"):
        clean_events(empty)
    headed = tmp_path / "headed.csv"
    headed.write_text("user_id,item_id,timestamp\n")
    with pytest.raises(DataError, match=r"headed\.csv: got no event that passes the rules, of 0"):
        clean_events(headed)


def test_a_bad_place_for_the_result_is_refused_before_any_work(tmp_path):
    source = write_csv(tmp_path / "events.csv", table())
    for out, message in (
        (tmp_path / "x.txt", r"out: got '.*x\.txt', expected a name that ends in one of"),
        (tmp_path / "no" / "x.csv", "out: no such folder"),
        (source, "which is the source"),
    ):
        with pytest.raises(DataError, match=message):
            clean_file(source, out)
    assert [p.name for p in tmp_path.iterdir()] == ["events.csv"]


def test_nothing_is_written_where_no_event_is_left(tmp_path):
    with pytest.raises(DataError, match="got no event that passes the rules"):
        clean_file(table({"user_id": None}, base=0), tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_and_saves_the_report(tmp_path, capsys):
    write_csv(tmp_path / "events.csv", table({"value": math.nan}, {"item_id": "gone"}))
    write_csv(tmp_path / "items.csv", pl.DataFrame({"item_id": ["i1"]}))
    out = tmp_path / "clean.parquet"
    assert main(["clean", "--data", str(tmp_path), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "5 events, 3 kept, 2 dropped (40.00%)" in text
    assert "e.g. line 5: user_id 'u1'" in text
    assert tuple(read_events(out).columns) == EVENT_COLUMNS
    saved = tmp_path / "clean.parquet.report"
    assert saved.with_suffix(".report.txt").read_text() == text
    as_json = json.loads(saved.with_suffix(".report.json").read_text())
    assert [r["n_dropped"] for r in as_json["rules"]] == [0, 0, 1, 1, 0, 0, 0, 0]
    argv = ["clean", "--data", str(tmp_path), "--out", str(out), "--json"]
    assert main([*argv, "--set", "cleaning.unknown_items=false"]) == 0
    assert json.loads(capsys.readouterr().out)["n_kept"] == 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "data.path: got nothing, expected a table of events"),
        (["--data", "movielens-100k"], "expected a table of events or a folder with one"),
        (["--data", "none.parquet"], "no such file: none.parquet"),
        (["--data", ".", "--set", "cleaning.bot=true"], "did you mean 'bots'?"),
        (["--data", ".", "--set", "cleaning"], "--set: got 'cleaning', expected SECTION.KEY"),
        (["--data", ".", "--report", "no/r.json"], "--report: got no/r.json, but there is no fold"),
    ],
)
def test_what_the_command_cannot_clean_gives_status_1(argv, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["clean", *argv, "--out", "out.parquet"]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_limits_of_values_that_exclude_every_value_are_refused():
    table = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [1_700_000_000]})
    with pytest.raises(DataError, match=r"cleaning\.min_value: got 5, expected at most .* \(1\)"):
        clean_events(table, CleaningConfig(min_value=5, max_value=1))
