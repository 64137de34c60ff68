"""Tables as other people's tools write them: each was read wrong, or lost something in silence."""

from __future__ import annotations

import datetime
import gzip
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from shortlist._columns.times import time_column
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.cleaning import clean_events
from shortlist.training.config.settings import load_config
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.entities import read_items
from shortlist.training.data.events import read_events
from shortlist.training.data.formats import read_dataset
from shortlist.training.data.tables import read_table
from shortlist.training.evaluation.metrics import per_user_metrics

HEAD = "user_id,item_id,timestamp\n"
ROWS = "1,2,1700000000\n1,3,1700000001\n"
READERS = {"train": read_events, "clean": lambda path: clean_events(path)[0]}
EVENTS = {"user_id": [1, 1], "item_id": [2, 3], "timestamp": [1_700_000_000, 1_700_000_001]}


def both(path):
    """Read events as training and as cleaning read them, which must be the same."""
    found = [read(path).drop("kind", "value").rows() for read in READERS.values()]
    assert found[0] == found[1]
    return found[0]


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- which file, and how it is written ---------------------------------------------------------


@pytest.mark.parametrize("name", ["events[1].csv", "events[1].parquet", "e*.csv", "e?.arrow"])
def test_a_file_name_is_a_name_and_never_a_pattern(tmp_path, name):
    other = {"user_id": [9], "item_id": [9], "timestamp": [1_600_000_000]}
    matched = name.replace("[1]", "1").replace("*", "-2").replace("?", "2")
    for path, columns in ((name, EVENTS), (matched, other)):
        frame = pl.DataFrame(columns)
        write_to = {
            "csv": frame.write_csv,
            "parquet": frame.write_parquet,
            "arrow": frame.write_ipc,
        }
        write_to[path.rpartition(".")[2]](tmp_path / path)
    assert both(tmp_path / name) == [(1, 2, 1_700_000_000), (1, 3, 1_700_000_001)]


@pytest.mark.parametrize(
    "data",
    [
        HEAD + ROWS + "\n",
        HEAD + "1,2,1700000000\n\n1,3,1700000001\n",
        "\n  \n" + HEAD + ROWS,
        HEAD + ROWS + "  \n,,\n",
        (HEAD + ROWS).replace("\n", "\r\n") + "\r\n",
        (HEAD + ROWS).replace("\n", "\r"),
        "\ufeff" + HEAD + ROWS,
        "\ufeff" + HEAD.replace("user_id", '"user_id"') + ROWS,
        ("\ufeff" + HEAD + ROWS).encode("utf-16-le"),
        ("\ufeff" + HEAD + ROWS).replace(",", "\t").encode("utf-16-be"),
        gzip.compress((HEAD + ROWS).encode()),
        gzip.compress(HEAD.encode()) + gzip.compress(ROWS.encode()),
        HEAD.replace(",", " , ") + ROWS.replace(",", ", "),
        '"user_id"\t"item_id"\t"timestamp"\n"1"\t"2"\t1700000000\n"1"\t"3"\t1700000001\n',
    ],
    ids=[
        *("empty last line", "empty line between", "empty lines first", "blanks and commas"),
        *("windows", "old mac", "mark", "mark and quotes", "utf-16", "excel's unicode text"),
        *("gzip by content", "two gzip members", "blanks after commas", "tabs as R writes them"),
    ],
)
def test_what_tools_do_to_a_text_file_changes_no_event(tmp_path, data):
    path = write(tmp_path / "events.csv", data)
    assert both(path) == [(1, 2, 1_700_000_000), (1, 3, 1_700_000_001)]


def test_a_parquet_file_is_known_by_its_content(tmp_path):
    pl.DataFrame(EVENTS).write_parquet(tmp_path / "export.csv")
    assert len(both(tmp_path / "export.csv")) == 2
    pl.DataFrame(EVENTS).write_ipc_stream(tmp_path / "stream.arrow")
    assert len(both(tmp_path / "stream.arrow")) == 2


def test_tables_with_tabs_have_no_quoting(tmp_path):
    items = 'item_id\ttitle\tgenre\n1\t"Heroes\tpop\n2\t12" vinyl\tpop\n3\tLow"\trock\n'
    assert read_items(write(tmp_path / "i.tsv", items))["title"].to_list() == [
        *('"Heroes', '12" vinyl', 'Low"')
    ]


def test_tables_with_tabs_that_are_called_csv_have_quoting(tmp_path):
    items = 'item_id\ttitle\n1\t"one\ttab"\n2\t"two\nlines"\n'
    for data in (items, items.encode("utf-16")):
        titles = read_items(write(tmp_path / "i.csv", data))["title"].to_list()
        assert titles == ["one\ttab", "two\nlines"]


def test_values_in_marks_of_a_tsv_are_said_and_the_fix_works(tmp_path):
    rows = "".join(f"{i}\tplain {i}\n" for i in range(30))
    items = f'item_id\ttitle\n{rows}77\t"in marks"\n'
    for data in (items, items.rstrip("\n"), gzip.compress(items.encode())):
        with pytest.warns(UserWarning, match=r"i.tab, line 32: got '\"in marks\"': in a .tsv"):
            marked = read_items(write(tmp_path / "i.tab", data))
        assert marked["title"][30] == '"in marks"'
    (tmp_path / "i.tab").rename(tmp_path / "i.csv")
    assert read_items(tmp_path / "i.csv")["title"][30] == "in marks"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"], ids=["old mac", "linux", "windows"])
def test_a_character_at_the_end_of_the_first_block_is_whole(tmp_path, end):
    for begin in range(4):
        text = f"item_id,title{end}1,{'x' * begin}" + "ä€🙂" * 9000 + f"{end}2,low{end}"
        items = read_items(write(tmp_path / "i.csv", text))
        assert items["title"].str.len_chars().to_list() == [27_000 + begin, 3]


def test_a_mark_within_a_value_is_named_and_the_fix_works(tmp_path):
    text = 'item_id,title,genre\n0,"Two\nlines",pop\n1,12" vinyl,pop\n'
    with pytest.raises(DataError, match=re.escape("line 4: got '1,12\" vinyl,pop'")) as caught:
        read_items(write(tmp_path / "i.csv", text))
    assert '("12"" vinyl")' in str(caught.value)
    fixed = text.replace('12" vinyl', '"12"" vinyl"')
    assert read_items(write(tmp_path / "i.csv", fixed))["title"][1] == '12" vinyl'


def test_messages_count_lines_and_not_records(tmp_path):
    text = 'user_id,item_id,timestamp,note\n1,2,1700000000,"a\nb\nc"\n\n1,3,soon,x\n'
    with pytest.raises(DataError, match=r"column 'timestamp', line 6: got 'soon'"):
        read_events(write(tmp_path / "e.csv", text))
    report = clean_events(tmp_path / "e.csv")[1]
    rule = next(rule for rule in report.rules if rule.n_dropped)
    assert rule.examples[0]["place"] == "line 6"


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="two columns are called 'item_id'"):
        read_events(write(tmp_path / "e.csv", "user_id,item_id,item_id,timestamp\n1,2,3,4\n"))
    frame = pd.DataFrame([[1, 2, 3]], columns=["item_id", "a", "a"])
    with pytest.raises(DataError, match="two columns are called 'a'"):
        read_items(frame)


def test_a_folder_that_spark_wrote_is_a_table(tmp_path):
    folder = tmp_path / "events.parquet"
    folder.mkdir()
    part = pl.DataFrame(EVENTS)
    part.write_parquet(folder / "part-00000-c000.snappy.parquet")
    part.clear().write_parquet(folder / "part-00001-c000.snappy.parquet")
    write(folder / "_SUCCESS", b"")
    write(folder / "._SUCCESS.crc", b"crc")
    assert both(folder) == [(1, 2, 1_700_000_000), (1, 3, 1_700_000_001)]
    assert read_dataset(folder).events.height == 2
    assert load_dataset(folder, "events").events.height == 2
    folder.rename(tmp_path / "events")
    assert read_dataset(tmp_path, "events").events.height == 2
    out = tmp_path / "clean.parquet"
    assert main(["clean", "--data", str(tmp_path / "events"), "--out", str(out)]) == 0
    broken = part.with_columns(item_id=pl.Series([4, None]))
    broken.write_parquet(tmp_path / "events" / "part-00002.parquet")
    with pytest.raises(DataError, match=r"column 'item_id', part-00002.parquet, row 2: got noth"):
        read_events(tmp_path / "events")


def test_folders_of_text_parts_and_of_partitions_are_tables(tmp_path):
    folder = tmp_path / "events.csv"
    for kind in ("view", "buy"):
        (folder / f"kind={kind}").mkdir(parents=True)
        write(folder / f"kind={kind}" / "part-0.csv", HEAD + ROWS)
    assert sorted(read_events(folder)["kind"].to_list()) == ["buy", "buy", "view", "view"]
    write(folder / "kind=view" / "part-1.csv", HEAD + "1,,1700000005\n")
    with pytest.raises(DataError, match=re.escape("kind=view/part-1.csv, line 2: got nothing")):
        read_events(folder)
    write(folder / "kind=view" / "part-1.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match="expected the same in all files"):
        read_events(folder)
    (tmp_path / "delta" / "_delta_log").mkdir(parents=True)
    with pytest.raises(DataError, match="is a Delta table, whose files also hold rows"):
        read_events(tmp_path / "delta")


MARKED = {
    "sas.txt": ("sasrec", "1 2\n1 3\n1 4\n2 3\n"),
    "s3.txt": ("s3rec", "1 2 3 4\n2 3 5\n"),
    "r.inter": ("recbole", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t1700000000\n\n"),
    "ratings.csv": ("movielens", "userId,movieId,rating,timestamp\n1,2,4.0,1700000000\n"),
    "u.data": ("movielens", "1\t2\t4\t1700000000\n2\t2\t4\t1700000001\n\n"),
    "ratings.dat": ("movielens", "1::2::4::1700000000\n"),
}


@pytest.mark.parametrize("name", MARKED)
def test_no_format_takes_the_byte_order_mark_for_a_part_of_the_first_id(tmp_path, name):
    form, text = MARKED[name]
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        events = read_dataset(tmp_path / name, form).events
        assert events.row(0)[:2] == (1, 2)


def test_settings_with_a_byte_order_mark_are_read(tmp_path):
    path = write(tmp_path / "s.toml", "\ufeff[train]\nepochs = 3\n")
    assert load_config(path=path).train.epochs == 3


@pytest.mark.parametrize("level", ["top", "list", "list in a Parquet file"])
def test_dictionaries_are_undone_at_any_depth(tmp_path, level):
    codes = pa.array(["a", "b", "a"]).dictionary_encode()
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3]), codes)
    source = pa.table({"item_id": [1, 2], "tags": lists if level != "top" else codes[:2]})
    if "Parquet" in level:
        import pyarrow.parquet as pq

        pq.write_table(source, tmp_path / "items.parquet")
        source = tmp_path / "items.parquet"
    expected = ["a", "b"] if level == "top" else [["a", "b"], ["a"]]
    assert read_items(source)["tags"].to_list() == expected


def test_errors_of_other_libraries_are_told_in_our_words(tmp_path):
    mixed = pd.DataFrame({"user_id": [1, "a7"], "item_id": [1, 2], "timestamp": [1, 2]})
    for read in READERS.values():
        with pytest.raises(
            DataError, match=r"'user_id', row 2: got 'a7' of type str, expected int"
        ):
            read(mixed)
    mixed["user_id"] = mixed["user_id"].astype(str)  # as the message says
    assert read_events(mixed)["user_id"].to_list() == ["1", "a7"]
    damaged = gzip.compress((HEAD + ROWS * 5000).encode())
    path = write(tmp_path / "e.csv.gz", damaged[:-20])
    for read in READERS.values():
        with pytest.raises(DataError, match="is a gzip file that is cut off or damaged"):
            read(path)
    pl.DataFrame(EVENTS).write_parquet(tmp_path / "e.parquet")
    whole = (tmp_path / "e.parquet").read_bytes()
    for read in READERS.values():
        with pytest.raises(DataError, match=r"e.parquet cannot be read as a Parquet file"):
            read(write(tmp_path / "e.parquet", whole[:-9]))


def test_an_index_that_has_a_name_is_not_lost():
    frame = pd.DataFrame({"item_id": [1, 2], "price": [1.0, 2.0]}).set_index("price")
    with pytest.raises(DataError, match=r"'price' is the frame's index.*reset_index"):
        read_items(frame)
    assert read_items(frame.reset_index()).columns == ["price", "item_id"][::-1]


# --- times -------------------------------------------------------------------------------------


def at(path, *times):
    rows = "".join(f'1,{i},"{text}"\n' for i, text in enumerate(times))
    return write(path / "events.csv", HEAD + rows)


def test_days_in_digits_are_days(tmp_path):
    path = at(tmp_path, "20230131", "20230601", "20240131")
    days = [datetime.datetime.fromtimestamp(row[2], datetime.UTC) for row in both(path)]
    assert [day.strftime("%Y%m%d") for day in days] == ["20230131", "20230601", "20240131"]
    typed = pl.DataFrame({**EVENTS, "timestamp": [20240131, 20240201]})
    assert both(typed)[0][2] == 1_706_659_200
    moments = pl.DataFrame({**EVENTS, "timestamp": [20240131000001, 20240201000000]})
    assert both(moments)[0][2] == 1_706_659_201


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (202401311230, 202402012359),
        (20240131123000, 20240201235959),
        (20240131123000123, 20240201235959999),
    ],
    ids=["minutes", "seconds", "milliseconds"],
)
def test_moments_in_digits_are_moments(tmp_path, first, second, as_text):
    source = pl.DataFrame({**EVENTS, "timestamp": [first, second]})
    if as_text:
        source = at(tmp_path, str(first), f" {second} ")
    times = [row[2] for row in both(source)]
    assert times[0] == 1_706_704_200
    assert times[1] // 60 == 1_706_831_999 // 60
    assert time_column("timestamp", [first, second]).tolist() == times
    # ordered by what a second holds
    events = pl.DataFrame({**EVENTS, "timestamp": [first + 1, first]})
    assert read_events(events)["item_id"].to_list() == [3, 2]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (("44957.5", "45078.25", "45322.0"), "a spreadsheet's day? Write it as 2024-01-31"),
        (("19700", "19701"), "days since 1970? Multiply them by 86400"),
        (("2023", "2024"), "a year? Write it as a day, 2024-01-01"),
        (("202301", "202302"), "a year and month? Write it as a day"),
        (("28400000", "28400001"), "another unit?"),
        (("240131", "240201"), "a day without its century? Write it as 2024-01-31"),
        (("240131123000", "240201000000"), "a moment without its century? Write it as 2024-01-31"),
        (("202401011230", "202401011260"), "a moment in digits that is not in the calendar"),
        (("300000000000", "300000000001"), "or another unit?"),
        (("300000000000000", "300000000000001"), "or another unit?"),
    ],
)
def test_numbers_that_are_no_times_are_refused_and_the_fix_works(tmp_path, times, said):
    path = at(tmp_path, *times)
    for read in READERS.values():
        with pytest.raises(DataError, match=r"line 2: got .* is the year 19[78]\d"):
            read(path)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_events(path)
    with pytest.raises(DataError, match="as a number of"):
        time_column("timestamp", list(times))
    unit = re.search(r"--time-unit (\w+)", str(caught.value))[1]
    assert read_events(path, time_unit=unit).height == len(times)


def test_seconds_beside_milliseconds_are_refused_by_row(tmp_path):
    path = at(tmp_path, "1685613600000", "1675159200", "1706695200000")
    with pytest.raises(DataError, match="line 3: got '1675159200', expected a time from 1990 on"):
        read_events(path)
    events, report = clean_events(path)
    assert events.height == 2
    assert report.rules[1].n_dropped == 1


# --- ids ---------------------------------------------------------------------------------------


def test_floats_that_lost_digits_are_no_ids(tmp_path):
    frame = pd.DataFrame({**EVENTS, "user_id": [1582218195625938945.0, 7.0]})
    frame.to_csv(tmp_path / "e.csv", index=False)
    frame.to_parquet(tmp_path / "e.parquet")
    long = write(tmp_path / "l.csv", HEAD + "9007199254740993.0,2,1700000000\n")
    for source in (frame, tmp_path / "e.csv", tmp_path / "e.parquet", long):
        for read in READERS.values():
            with pytest.raises(
                DataError, match=r"column 'user_id', \w+ [12]: got .* from 2\^53 on"
            ):
                read(source)
    frame["user_id"] = pd.array([1582218195625938945, 7], dtype="Int64")  # as the message says
    assert both(frame)[1][0] == 1582218195625938945


# --- what the commands say ---------------------------------------------------------------------


def test_the_fix_for_another_name_of_a_column_works_for_folders_too(tmp_path):
    write(tmp_path / "events.csv", HEAD.replace("user_id", "customer") + ROWS)
    argv = ["clean", "--data", str(tmp_path), "--out", str(tmp_path / "clean.csv")]
    assert main(argv) == 1
    assert main([*argv, "--column", "user_id=customer"]) == 0
    assert load_dataset(tmp_path, columns={"user_id": "customer"}).events.height == 2


def test_a_table_names_its_rows_wherever_they_are(tmp_path):
    rows = [f'{i},"{"x" * (i % 3)}\n{i}"' if i % 1000 == 7 else f"{i},y" for i in range(5000)]
    rows[100:100] = ["", "  "]
    path = write(tmp_path / "t.csv", "item_id,title\n" + "\n".join(rows) + "\n")
    table = read_table(path)
    assert table.frame.height == 5000
    lines = path.read_text().split("\n")
    for row in (0, 6, 7, 8, 99, 100, 2007, 2008, 4999):
        line = int(table.place(row).removeprefix("line "))
        assert lines[line - 1].startswith(f"{row},")


# --- ranked lists ------------------------------------------------------------------------------


def test_an_item_twice_in_a_list_counts_once():
    found = per_user_metrics(np.array([[1, 1, 2]]), [np.array([1])], (3,))
    assert {name: value[0] for name, value in found.items()} == dict.fromkeys(found, 1.0)
    late = per_user_metrics(np.array([[5, 1, 1, -1, -1]]), [np.array([1, 2])], (5,))
    plain = per_user_metrics(np.array([[5, 1, -1, -1, -1]]), [np.array([1, 2])], (5,))
    assert {n: v[0] for n, v in late.items()} == {n: v[0] for n, v in plain.items()}
    twice = per_user_metrics(np.array([[1, 5, 2]]), [np.array([1, 1, 2])], (3,))
    once = per_user_metrics(np.array([[1, 5, 2]]), [np.array([1, 2])], (3,))
    assert {n: v[0] for n, v in twice.items()} == {n: v[0] for n, v in once.items()}
