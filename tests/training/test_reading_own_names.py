"""Tables under their own names and in their own ways: columns, records, times, what is left out."""

from __future__ import annotations

import datetime
import logging
import re
import shlex

import polars as pl
import pytest

from shortlist.cli import _build_parser, main
from shortlist.cli._reading import reading_options
from shortlist.errors import DataError
from shortlist.training.cleaning import clean_events
from shortlist.training.cleaning.files import load_configured
from shortlist.training.config.settings import apply_overrides, from_toml, load_config, to_toml
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.entities import read_items
from shortlist.training.data.events import read_events
from shortlist.training.data.reading import Reading
from shortlist.training.data.time_text import DAY_FIRST, ordered_microseconds
from shortlist.training.pipeline.evaluation import _trained_config
from shortlist.training.pipeline.update import check_settings
from shortlist.training.updates.tables import with_tables

HEAD = "user_id,item_id,timestamp\n"
ROWS = "1,2,1700000000\n1,3,1700000001\n2,2,1700000002\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# --- names -------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path):
    """A folder whose three tables call their ids otherwise."""
    write(tmp_path / "events.csv", "Customer No,book,Order date\n" + ROWS)
    write(tmp_path / "books.csv", "title,book_id,genres\nA,2,x|y\nB,3,x\n")
    write(tmp_path / "people.csv", "customer,age\n1,30\n2,40\n")
    return tmp_path


def test_all_missing_columns_are_named_at_once_and_the_fix_works(shop, capsys):
    out = shop / "clean.csv"
    argv = ["clean", "--data", str(shop / "events.csv"), "--out", str(out)]
    argv += ["--items", str(shop / "books.csv"), "--users", str(shop / "people.csv")]
    for _ in range(3):  # each table says its own fix
        assert main(argv) == 1
        error = capsys.readouterr().err.split("error: ")[1]
        flags = re.search(r"the names in the table, (.*) \(in Python", error)[1]
        argv += shlex.split(flags)
    assert main(argv) == 0
    assert [flag for flag in argv if flag.startswith("--") and "column" in flag] == [
        *("--item-column", "--user-column", "--column", "--column", "--column")
    ]
    assert read_events(out).height == 3


def test_names_of_each_table_are_settings_too(shop):
    text = f"""
[data]
path = "{shop}/events.csv"
items = "{shop}/books.csv"
users = "{shop}/people.csv"
[data.columns]
user_id = "Customer No"
item_id = "book"
timestamp = "Order date"
[data.item_columns]
item_id = "book_id"
[data.user_columns]
user_id = "customer"
[data.lists]
genres = "|"
"""
    config = from_toml(text)
    assert from_toml(to_toml(config)) == config
    for enabled in (False, True):  # as it is, and cleaned
        config = from_toml(text + f"[cleaning]\nenabled = {str(enabled).lower()}\n")
        dataset, _ = load_configured(config)
        assert dataset.items["item_id"].to_list() == [2, 3]
        assert dataset.items["genres"].to_list() == [["x", "y"], ["x"]]
        assert dataset.users["age"].to_list() == [30, 40]
        assert dataset.text_tables == {"items", "users"}


def test_a_name_that_the_table_has_not_is_answered_with_the_nearest(shop):
    with pytest.raises(DataError, match=r"names 'bok_id'.*did you mean 'book_id'\?"):
        read_items(shop / "books.csv", columns={"item_id": "bok_id"})
    with pytest.raises(DataError, match=r"item_columns: got .*, but no item table"):
        load_dataset(events(), item_columns={"item_id": "a"})


def events():
    return pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [1_700_000_000]})


def test_an_update_reads_tables_as_the_training_did(shop):
    own = {"item_columns": {"item_id": "book_id"}, "lists": {"genres": "|"}}
    dataset = load_dataset(events(), items=shop / "books.csv", **own)
    write(shop / "new.csv", "title,book_id,genres\nC,4,z|y\n")
    updated = with_tables(dataset, shop / "new.csv", None, Reading(**own))
    assert updated.items.rows() == [*dataset.items.rows(), (4, "C", ["z", "y"])]


# --- what is left out, and records -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "polars", "pandas", "arrow"])
def test_a_column_that_cannot_be_read_is_left_out(tmp_path, kind, caplog):
    frame = pl.DataFrame({"item_id": [1, 2], "price": [1.5, 2.5], "raw": [b"\0", b"\1"]})
    frame.write_parquet(tmp_path / "items.parquet")
    odd = frame.to_pandas()
    odd["raw"] = [1, "a"]  # of no one type
    source = {
        "parquet": tmp_path / "items.parquet",
        "polars": frame,
        "pandas": odd,
        "arrow": frame.to_arrow(),
    }[kind]
    with pytest.raises(DataError, match="'raw'") as caught:
        read_items(source)
    if kind != "pandas":
        assert "--ignore item.raw" in str(caught.value)
    with caplog.at_level(logging.INFO, "shortlist.reading"):
        assert read_items(source, ignore=["raw"]).columns == ["item_id", "price"]
    assert "columns left out by ignore: raw" in caplog.text
    dataset = load_dataset(events(), items=source, ignore=["item.raw", "user.age"])
    assert dataset.items.columns == ["item_id", "price"]


def test_a_column_of_the_events_is_left_out(tmp_path):
    path = write(tmp_path / "e.csv", "user_id,item_id,timestamp,value\n1,2,1700000000,cheap\n")
    with pytest.raises(DataError, match="column 'value', line 2: got 'cheap'"):
        read_events(path)
    assert read_events(path, ignore=["value"])["value"].to_list() == [None]
    out = tmp_path / "clean.csv"
    argv = ["clean", "--data", str(path), "--out", str(out), "--set", "cleaning.bots=false"]
    assert main(argv) == 1
    assert main([*argv, "--ignore", "event.value"]) == 0
    assert load_dataset(path, ignore=["event.value"]).events.height == 1


def test_what_is_to_be_left_out_must_be_of_a_table(tmp_path):
    with pytest.raises(DataError, match=r"got 'raw', expected item.NAME.*--ignore item.raw"):
        load_dataset(events(), ignore=["raw"])
    items = pl.DataFrame({"item_id": [1], "a": [2]})
    with pytest.warns(UserWarning, match="ignore names 'b', which the table has not"):
        read_items(items, ignore=["b"])


def test_records_become_columns(tmp_path):
    frame = pl.DataFrame(
        {
            "item_id": [1, 2],
            "size": [{"w": 1.5, "box": {"kind": "a"}}, {"w": None, "box": None}],
            "tags": [["x"], []],
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    for source in (frame, frame.to_arrow(), frame.to_pandas(), tmp_path / "items.parquet"):
        items = read_items(source)
        assert items.columns == ["item_id", "size.w", "size.box.kind", "tags"]
        assert items["size.w"].to_list() == [1.5, None]
        assert items["size.box.kind"].to_list() == ["a", None]
    assert read_items(frame, ignore=["size"]).columns == ["item_id", "tags"]
    assert read_items(frame, ignore=["size.box"]).columns == ["item_id", "size.w", "tags"]
    assert read_items(frame, columns={"width": "size.w"})["width"].to_list() == [1.5, None]
    twice = frame.with_columns(pl.lit(1).alias("size.w"))
    with pytest.raises(DataError, match=r"two columns are called 'size.w'"):
        read_items(twice)
    lists = frame.with_columns(size=pl.concat_list("size"))
    with pytest.raises(DataError, match=r"column 'size' has type List.*--ignore item.size"):
        read_items(lists)


# --- times -------------------------------------------------------------------------------------


def at(folder, *times):
    rows = "".join(f'{i},{i},"{text}"\n' for i, text in enumerate(times))
    return write(folder / "events.csv", HEAD + rows)


def moments(source, **how):
    """Read times as training and as cleaning read them, which must be the same."""
    trained = read_events(source, **how)["timestamp"].to_list()
    assert clean_events(source, **how)[0]["timestamp"].to_list() == trained
    return [
        datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        for t in trained
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("24.12.2025 18:30", "1.2.2025 8:05"), ("2025-12-24 18:30:00", "2025-02-01 08:05:00")),
        (("03.02.2025", "04.02.2025"), ("2025-02-03 00:00:00", "2025-02-04 00:00:00")),
        (("01.13.2025", "02.03.2025"), ("2025-01-13 00:00:00", "2025-02-03 00:00:00")),
        (("12/24/2025", "02/03/2025"), ("2025-12-24 00:00:00", "2025-02-03 00:00:00")),
        (
            ("2/3/2025, 12:05:00 AM", "12/24/2024, 6:30:15 PM"),
            ("2025-02-03 00:05:00", "2024-12-24 18:30:15"),
        ),
        (("24/12/2025 18:30:05", "02/03/2025"), ("2025-12-24 18:30:05", "2025-03-02 00:00:00")),
        (
            ("02-03-2025T10:00:00.5Z", "24-12-2024 18:30 +02:00"),
            ("2025-03-02 10:00:00", "2024-12-24 16:30:00"),
        ),
    ],
)
def test_days_in_the_order_of_the_column_are_read(tmp_path, texts, expected):
    assert (
        tuple(
            moments(
                at(tmp_path, *texts),
            )
        )
        == expected
    )


@pytest.mark.parametrize(
    "clock",
    [
        *("", " 18:30", " 18:30:05", " 18:30:05.25", ", 18:30:05,123", "T18:30Z"),
        *(", 6:30 PM", " 6:30 p.m.", " 6:30:05 P.M.", " 6:30pm", " 6:30\u202fp.m. +02:00"),
        *(" 18:30+02", " 18:30 -0200", " 18:30:05,5+02:00"),
    ],
)
def test_an_order_that_no_row_decides_is_asked_about(tmp_path, clock):
    path = at(tmp_path, f"01/02/2025{clock}", f"11/12/2024{clock}")
    with pytest.raises(DataError, match=r"line 2: got '01/02/2025.*no row decides it") as caught:
        read_events(path)
    with pytest.raises(DataError, match="no row decides it"):
        clean_events(path)
    ways = re.findall(r"--time-format '([^']+)' for ([0-9-]+)", str(caught.value))
    assert [day for _, day in ways] == ["2025-02-01", "2025-01-02"]
    order = ordered_microseconds(pl.lit(f"01/02/2025{clock}"), DAY_FIRST)
    seconds = (pl.select(order).item() // 1_000_000) % 86_400
    for layout, day in ways:
        found = moments(path, time_format=layout)[0]
        assert found == f"{day} {datetime.timedelta(seconds=seconds)!s:0>8}"
    out = tmp_path / "clean.csv"
    argv = ["clean", "--data", str(path), "--out", str(out)]
    assert main(argv) == 1
    assert main([*argv, "--time-format", ways[0][0]]) == 0
    config = load_config(overrides={"data.path": str(path), "data.time_format": ways[1][0]})
    assert load_configured(config)[0].events.height == 2


def test_rows_of_two_orders_are_refused_with_both(tmp_path):
    path = at(tmp_path, "24/12/2025", "01/02/2025", "12/25/2025")
    said = r"line 2: got '24/12/2025' with the day first, and line 4: '12/25/2025' with the month"
    for read in (read_events, clean_events):
        with pytest.raises(DataError, match=said):
            read(path)
    assert clean_events(path, time_format="%d/%m/%Y")[0].height == 2
    dotted = at(tmp_path, "01.02.2025", "01.13.2025", "13.01.2025")
    with pytest.raises(DataError, match=r"line 4: got '13.01.2025' with the day first, and line 3"):
        read_events(dotted)


def test_one_time_that_is_none_is_named_beside_its_column(tmp_path):
    path = at(tmp_path, "24.12.2025", "25.12.2025", "32.12.2025")
    with pytest.raises(
        DataError, match=r"line 4: got '32.12.2025', expected a time with the day first"
    ):
        read_events(path)
    events, report = clean_events(path)
    assert events.height == 2
    assert "cannot be read as a time" in str(report)
    path = at(tmp_path, "24.12.25", "25.12.2025")
    with pytest.raises(
        DataError, match=r"line 3: got '25.12.2025', expected a time written as '%d"
    ):
        read_events(path, time_format="%d.%m.%y")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("1700000000", "1700000001", "2024-05-01"), r"a number \(seconds since 1970\)"),
        (("1700000000000", "1700000000001", "soon"), r"a number \(milliseconds since 1970\)"),
        (("20240501", "20240502", "2024-05-01"), "a day such as 20240501"),
        (("2024-05-01", "2024-05-02", "1700000000"), "ISO 8601 text"),
    ],
)
def test_a_time_written_otherwise_than_the_others_is_named_so(tmp_path, texts, expected):
    said = f"line 4: got '{texts[2]}', expected {expected}, as the others of the column"
    with pytest.raises(DataError, match=said):
        read_events(at(tmp_path, *texts))


@pytest.mark.parametrize(
    "texts", [("24.12.25 18:30", "25.12.25 9:00"), ("soon", "later"), ("24.12.2025", *("x",) * 3)]
)
def test_times_that_cannot_be_read_are_said_to_be_so(tmp_path, texts):
    path = at(tmp_path, *texts)
    if texts[0] != "24.12.2025":
        for read in (read_events, clean_events):
            with pytest.raises(
                DataError, match=r"line 2: got .* cannot be read as a time.*--time-format"
            ):
                read(path)
    for read in (read_events, clean_events):
        with pytest.raises(
            DataError, match=r"cannot be read as a time, nor can any.*'%H.%d.%m.%Y'"
        ):
            read(path, time_format="%H.%d.%m.%Y")


@pytest.mark.parametrize(
    ("layout", "texts", "expected"),
    [
        (
            "%d.%m.%y %H:%M",
            ("24.12.25 18:30", " 1.2.25 9:05 "),
            ("2025-12-24 18:30:00", "2025-02-01 09:05:00"),
        ),
        ("%Y%m%d%H", ("2025122418", "2025020109"), ("2025-12-24 18:00:00", "2025-02-01 09:00:00")),
        ("%y%m%d", ("251224", "050201"), ("2025-12-24 00:00:00", "2005-02-01 00:00:00")),
        ("%d %b %Y", ("24 Dec 2025", "1 Feb 2025"), ("2025-12-24 00:00:00", "2025-02-01 00:00:00")),
        ("%d.%m.%Y %H:%M:%S.%f %z", ("24.12.2025 18:30:00.25 +0200",), ("2025-12-24 16:30:00",)),
        ("%m/%d/%Y %I:%M %p", ("12/24/2025 06:30 pm",), ("2025-12-24 18:30:00",)),
        ("%m/%d/%Y %I:%M %p.", ("12/24/2025 06:30 pm.",), ("2025-12-24 18:30:00",)),
        ("%d %b %Y, %H:%M %z", ("24 Dec 2025, 18:30 +02",), ("2025-12-24 16:30:00",)),
    ],
)
def test_a_layout_says_how_times_are_written(tmp_path, layout, texts, expected):
    assert tuple(moments(at(tmp_path, *texts), time_format=layout)) == expected
    if texts[0].isdigit():
        typed = pl.DataFrame(
            {"user_id": [0, 1], "item_id": [0, 1], "timestamp": [int(text) for text in texts]}
        )
        assert tuple(moments(typed, time_format=layout)) == expected


@pytest.mark.parametrize("layout", ["%H:%M", "%d.%m", "%Q", "dd.mm.yyyy", "%Y", "%Y-%m-%d %K"])
def test_a_layout_without_a_day_is_refused(tmp_path, layout):
    path = at(tmp_path, "2025-12-24")
    with pytest.raises(DataError, match=f"time_format: got {layout!r}, expected how times"):
        read_events(path, time_format=layout)


def test_a_unit_and_a_layout_are_one_too_many(tmp_path):
    with pytest.raises(DataError, match="time_unit and time_format: got 's' and '%Y%m%d'"):
        read_events(at(tmp_path, "20251224"), time_unit="s", time_format="%Y%m%d")


# --- the same flags everywhere -----------------------------------------------------------------

FLAGS = ["--item-column", "item_id=sku", "--user-column", "user_id=who"]
FLAGS += ["--list", "tags=|", "--ignore", "item.raw"]
OF_EVENTS = ["--column", "user_id=who", "--time-format", "%d.%m.%y", "--allow-future"]
COMMANDS = {
    "train": [],
    "clean": ["--out", "x"],
    "tune": ["--space", "x", "--study", "x"],
    "evaluate": ["x"],
    "replay": [],
    "update": ["x", "--feedback", "x"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_tables_takes_the_same_flags(command):
    flags = FLAGS if command == "update" else [*FLAGS, *OF_EVENTS]
    options = reading_options(_build_parser().parse_args([command, *COMMANDS[command], *flags]))
    overrides = {f"data.{name}": value for name, value in options.items()}
    reading = Reading.of(apply_overrides(load_config(), overrides).data)
    assert (reading.item_columns, reading.user_columns) == ({"item_id": "sku"}, {"user_id": "who"})
    assert (reading.lists, reading.ignored("item")) == ({"tags": "|"}, ("raw",))
    if command == "update":
        check_settings(overrides)
    else:
        assert (reading.columns, reading.time_format) == ({"user_id": "who"}, "%d.%m.%y")
        assert reading.allow_future


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flag_leaves_the_columns_that_are_named_elsewhere(command):
    whole = {"item_columns": {"item_id": "code", "title": "name"}, "lists": {"topics": ","}}
    elsewhere = from_toml(to_toml(apply_overrides(load_config(), {"data.ignore": ["item.size"]})))
    elsewhere = apply_overrides(elsewhere, {f"data.{k}": v for k, v in whole.items()})
    args = _build_parser().parse_args([command, *COMMANDS[command], *FLAGS])
    options = {f"data.{name}": value for name, value in reading_options(args).items()}
    reading = Reading.of(apply_overrides(elsewhere, options).data)
    assert reading.item_columns == {"item_id": "sku", "title": "name"}
    assert reading.lists == {"topics": ",", "tags": "|"}
    assert reading.ignore == ("item.size", "item.raw")


def test_settings_and_flags_name_columns_together(shop, capsys):
    named = ["--set", "data.columns.item_id=book", "--set", "data.columns.user_id=Customer No"]
    argv = ["clean", "--data", str(shop / "events.csv"), "--out", str(shop / "clean.csv")]
    assert main([*argv, *named, "--column", "timestamp=Order date"]) == 0, capsys.readouterr().err
    (shop / "names.toml").write_text('[data.columns]\nuser_id = "Customer No"\nitem_id = "book"\n')
    config = ["--config", str(shop / "names.toml")]
    assert main([*argv, *config, "--column", "timestamp=Order date"]) == 0


def test_evaluation_reads_the_columns_that_the_training_declared(tmp_path):
    training = {"config": {"data": {"features": {"index": "numeric", "user.level_0": {}}}}}
    reading = Reading.of(_trained_config(training).data)
    table = pl.DataFrame({"user_id": ["a", "b"], "index": [0, 1], "level_0": [0, 1]})
    assert reading.entities("user", table)[0].columns == ["user_id", "index", "level_0"]
