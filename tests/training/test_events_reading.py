"""What a table of events may be, and that every way of being wrong is told in one message."""

import datetime
import gzip
import re
import time
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from shortlist.errors import DataError
from shortlist.training.data.events import EVENT_COLUMNS, Dataset, make_events, read_events

GOOD = "user_id,item_id,timestamp,kind,value\n2,a,100,view,\n1,b,50,,2.5\n1,a,40,buy,1\n"
ROWS = [(1, "a", 40, "buy", 1.0), (1, "b", 50, "event", 2.5), (2, "a", 100, "view", None)]


def write(tmp_path, text, name="events.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def frame():
    return pl.DataFrame(
        {
            "user_id": [2, 1, 1],
            "item_id": ["a", "b", "a"],
            "timestamp": [100, 50, 40],
            "kind": ["view", None, "buy"],
            "value": [None, 2.5, 1.0],
        }
    )


@pytest.mark.parametrize(
    "name", ["e.csv", "e.tsv", "e.csv.gz", "e.parquet", "e.arrow", "e.feather"]
)
def test_every_file_type_gives_the_same_sorted_events(tmp_path, name):
    path = tmp_path / name
    if "csv" in name:
        path.write_bytes(gzip.compress(GOOD.encode()) if name.endswith("gz") else GOOD.encode())
    elif name == "e.tsv":
        path.write_text(GOOD.replace(",", "\t"))
    elif name == "e.parquet":
        frame().write_parquet(path)
    else:
        frame().write_ipc(path)
    events = read_events(path)
    assert tuple(events.columns) == EVENT_COLUMNS
    assert events.dtypes == [pl.Int64, pl.String, pl.Int64, pl.String, pl.Float32]
    assert events.rows() == ROWS


@pytest.mark.parametrize(
    "convert",
    [
        lambda f: f,
        lambda f: f.lazy(),
        lambda f: f.to_arrow(),
        lambda f: pd.DataFrame(f.to_dict(as_series=False)),
    ],
    ids=["polars", "lazy", "arrow", "pandas"],
)
def test_every_kind_of_frame_gives_the_same_events(convert):
    assert read_events(convert(frame())).rows() == ROWS


def test_semicolons_byte_order_mark_and_windows_lines_are_read(tmp_path):
    text = "\ufeff" + GOOD.replace(",", ";").replace("\n", "\r\n")
    assert read_events(write(tmp_path, text)).rows() == ROWS


def test_other_names_are_read_only_with_an_explicit_mapping(tmp_path):
    path = write(tmp_path, "customer,sku,at\n1,7,5\n")
    said = r"events have no columns 'user_id', 'item_id', 'timestamp': got columns \['customer'"
    with pytest.raises(DataError, match=said):
        read_events(path)
    mapping = {"user_id": "customer", "item_id": "sku", "timestamp": "at"}
    assert read_events(path, columns=mapping).rows() == [(1, 7, 5, "event", None)]
    with pytest.raises(DataError, match="columns\\['user_id'\\] names 'client', got columns"):
        read_events(path, columns={**mapping, "user_id": "client"})


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "12"], [7, 12]),
        (["007", "12"], ["007", "12"]),
        (["7", "x"], ["7", "x"]),
        (["+7", "8"], ["+7", "8"]),
        (["99999999999999999999", "1"], ["1", "99999999999999999999"]),
        (["é", "日本"], ["é", "日本"]),
    ],
)
def test_csv_ids_are_integers_only_if_all_are_plain_integers(tmp_path, ids, expected):
    rows = "".join(f"{i},1,{n}\n" for n, i in enumerate(ids))
    events = read_events(write(tmp_path, "user_id,item_id,timestamp\n" + rows))
    assert sorted(events["user_id"].to_list()) == sorted(expected)


def test_typed_string_ids_stay_strings_and_whole_floats_become_integers():
    table = pl.DataFrame({"user_id": ["1"], "item_id": [3.0], "timestamp": [1]})
    assert read_events(table).rows() == [("1", 3, 1, "event", None)]


SECOND = 1_714_557_600  # 2024-05-01 10:00:00 UTC
NOON_PARIS = datetime.datetime(
    2024, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
)


@pytest.mark.parametrize(
    "when",
    [
        SECOND,
        float(SECOND) + 0.25,
        SECOND * 1000,
        SECOND * 10**6,
        SECOND * 10**9,
        str(SECOND),
        f"{SECOND}.75",
        "2024-05-01T10:00:00Z",
        "2024-05-01T12:00:00+02:00",
        "2024-05-01 10:00:00.5",
        "2024-05-01 10:00",
        "2024/05/01 10:00:00",
        datetime.datetime(2024, 5, 1, 10),
        NOON_PARIS,
    ],
    ids=str,
)
def test_every_way_to_write_a_time_is_the_same_second(when):
    table = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [when]})
    assert read_events(table)["timestamp"].to_list() == [SECOND]


def test_dates_mean_midnight_utc():
    for day in ("2024-05-01", datetime.date(2024, 5, 1)):
        table = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [day]})
        assert read_events(table)["timestamp"].to_list() == [SECOND - 36_000]


def test_an_explicit_time_unit_wins_over_the_guess():
    table = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [5000]})
    assert read_events(table)["timestamp"].to_list() == [5000]
    assert read_events(table, time_unit="ms")["timestamp"].to_list() == [5]
    with pytest.raises(DataError, match="time_unit: got 'minutes', expected one of"):
        read_events(table, time_unit="minutes")


def test_order_within_a_second_survives_and_ties_keep_file_order():
    ms = SECOND * 1000
    table = pl.DataFrame(
        {
            "user_id": [1] * 4,
            "item_id": [9, 8, 7, 6],
            "timestamp": [ms + 900, ms + 100, ms + 100, ms + 500],
        }
    )
    events = read_events(table)
    assert events["item_id"].to_list() == [8, 7, 6, 9]
    assert events["timestamp"].to_list() == [SECOND] * 4
    assert Dataset("x", events).events["item_id"].to_list() == [8, 7, 6, 9]


LINE3 = "user_id,item_id,timestamp,value\n1,1,1,1\n{}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",2,2,", "column 'user_id', line 3: got nothing (empty or null), expected an id"),
        ("1,,2,", "column 'item_id', line 3: got nothing (empty or null), expected an id"),
        ('1,"",2,', "column 'item_id', line 3: got nothing (empty or null), expected an id"),
        ("1,2,,", "column 'timestamp', line 3: got nothing (empty or null), expected a time"),
        (
            "1,2,soon,",
            "column 'timestamp', line 3: got 'soon', expected a number (seconds since 1970)",
        ),
        ("1,2,nan,", "column 'timestamp', line 3: got 'nan', expected a finite time"),
        ("1,2,1e400,", "column 'timestamp', line 3: got '1e400', expected a finite time"),
        ("1,2,2,five", "column 'value', line 3: got 'five', expected a number"),
        ("1,2,2,inf", "column 'value', line 3: got 'inf', expected a finite number"),
        ("1,2,2,NaN", "column 'value', line 3: got 'NaN', expected a finite number"),
        ("1,2,2,1e39", "column 'value', line 3: got '1e39', expected a finite number"),
        ("1,2,2,3,4", "line 3: got 5 fields, expected 4 as in the header. Fix: quote values"),
    ],
)
def test_bad_values_are_named_by_column_and_line(tmp_path, line, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_events(write(tmp_path, LINE3.format(line)))
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1, None], "column 'user_id', row 2: got nothing"),
        ("user_id", [1.0, float("nan")], "column 'user_id', row 2: got nan"),
        ("user_id", [1.0, 2.5], "column 'user_id', row 2: got 2.5, expected a whole number"),
        ("item_id", pl.Series([1, 2**63], dtype=pl.UInt64), "row 2: got 9223372036854775808"),
        (
            "item_id",
            [True, False],
            "column 'item_id' has type Boolean, expected integers or strings",
        ),
        ("item_id", [None, None], "column 'item_id', row 1: got nothing"),
        ("timestamp", [1, None], "column 'timestamp', row 2: got nothing"),
        (
            "timestamp",
            [1.0, float("inf")],
            "column 'timestamp', row 2: got inf, expected a finite time",
        ),
        ("timestamp", [True, False], "column 'timestamp' has type Boolean, expected numbers"),
        ("value", [1.0, float("nan")], "column 'value', row 2: got nan, expected a finite number"),
    ],
)
def test_bad_values_of_frames_are_named_by_column_and_row(column, values, message):
    good = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "value": [1.0, 2.0]}
    with pytest.raises(DataError, match=re.escape(message)):
        read_events(pl.DataFrame({**good, column: values}))


def test_future_times_are_an_error_unless_allowed():
    future = int(time.time()) + 400_000
    table = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [5, future]})
    with pytest.raises(
        DataError,
        match=f"row 2: got {future}, expected a time that is not in the future.*allow_future=True",
    ):
        read_events(table)
    assert read_events(table, allow_future=True)["timestamp"].to_list() == [5, future]


def test_repeated_events_are_dropped_with_a_warning_or_kept_or_refused(tmp_path):
    path = write(tmp_path, "user_id,item_id,timestamp\n1,2,3\n4,5,6\n1,2,3\n")
    with pytest.warns(
        UserWarning, match="1 of 3 events repeat another event; the first is at line 4"
    ):
        assert read_events(path).height == 2
    assert read_events(path, duplicates="keep").height == 3
    with pytest.raises(DataError, match=r"line 4 .*expected each event once"):
        read_events(path, duplicates="error")
    with pytest.raises(DataError, match="duplicates: got 'ignore', expected 'drop'"):
        read_events(path, duplicates="ignore")


def test_the_same_pair_at_another_time_or_of_another_kind_is_no_duplicate():
    table = pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [2, 2, 2],
            "timestamp": [3, 4, 4],
            "kind": ["view", "view", "buy"],
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_events(table).height == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", b"\x89PNG\r\n\x1a\n....", "e.csv is a PNG image, expected CSV text"),
        ("e.csv", b"PK\x03\x04....", "e.csv is a zip archive (or an Excel workbook), expected CSV"),
        ("e.csv", b"PAR1....", "e.csv cannot be read as a Parquet file"),
        ("e.tsv", b"user_id\0item", "e.tsv is a binary file (it has NUL bytes), expected TSV text"),
        ("e.csv", b"", "e.csv is empty (0 bytes), expected CSV text"),
        ("e.csv", b"\n \n", "e.csv is empty (3 bytes), expected CSV text"),
        (
            "e.csv",
            b"user_id,item_id,timestamp\n",
            "has 0 rows and 3 columns, expected at least one row",
        ),
        (
            "e.csv",
            b"user_id,item_id,timestamp\n1,\xe9,3\n",
            "e.csv, line 2: byte 0xe9 is not UTF-8",
        ),
        ("e.parquet", b"user_id,item_id\n", "e.parquet cannot be read as a Parquet file"),
        ("e.arrow", b"user_id,item_id\n", "e.arrow cannot be read as an Arrow IPC"),
        ("e.xlsx", b"PK", "e.xlsx: unknown file type '.xlsx', expected one of .csv"),
        ("e", b"1 2", "e: unknown file type '(no ending)', expected one of .csv"),
        ("e.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "is a gzip file that is cut off"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_named(tmp_path, name, content, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_events(write(tmp_path, content, name))
    assert "Fix: " in str(caught.value)


def test_a_missing_file_a_folder_and_another_object_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*nowhere.csv"):
        read_events(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="is a folder, expected a file"):
        read_events(tmp_path)
    with pytest.raises(DataError, match="events: got dict, expected a path or a polars, pandas"):
        read_events({"user_id": [1]})
    with pytest.raises(DataError, match="column names must be str"):
        read_events(pd.DataFrame({0: [1]}))


def test_arrow_dictionaries_and_pandas_categories_are_text():
    table = pa.table(
        {
            "user_id": pa.array(["u", "u"]).dictionary_encode(),
            "item_id": [1, 2],
            "timestamp": [1, 2],
        }
    )
    assert read_events(table)["user_id"].to_list() == ["u", "u"]
    assert read_events(table.to_pandas())["user_id"].to_list() == ["u", "u"]


def test_a_dataset_sorts_its_events_and_puts_ids_into_one_type():
    events = make_events(pl.Series([2, 1]), pl.Series([5, 6]), pl.Series([1, 2]))
    items = pl.DataFrame({"item_id": ["5", "x"]})
    dataset = Dataset("shop", events, items)
    assert dataset.events["user_id"].to_list() == [1, 2]
    assert dataset.events["item_id"].to_list() == ["6", "5"]
    assert "2 events, 2 users, 2 items" in repr(dataset)


def test_a_dataset_refuses_frames_of_another_form():
    events = make_events(pl.Series([1]), pl.Series([1]))
    with pytest.raises(DataError, match=r"bad: events have columns .*expected user_id"):
        Dataset("bad", events.drop("kind"))
    with pytest.raises(DataError, match="'timestamp' has 1 nulls, expected none"):
        Dataset("bad", events.with_columns(pl.lit(None, pl.Int64).alias("timestamp")))
    with pytest.raises(DataError, match="items have item_id 1 more than once"):
        Dataset("bad", events, pl.DataFrame({"item_id": [1, 1]}))
    with pytest.raises(DataError, match=r"users have columns .*expected 'user_id'"):
        Dataset("bad", events, users=pl.DataFrame({"id": [1]}))


def test_large_integer_ids_keep_every_digit(tmp_path):
    big = 2**62 + 1
    text = f"user_id,item_id,timestamp\n{big},{np.iinfo(np.int64).max},1\n"
    assert read_events(write(tmp_path, text)).row(0)[:2] == (big, 2**63 - 1)
