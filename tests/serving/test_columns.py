"""Columns as other libraries encode them, and what is said where a library is missing."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from shortlist._columns.files import read_text
from shortlist._columns.reading import history_column, id_column, tag_column
from shortlist._columns.requests import MISSING_INT, RequestSchema, normalise
from shortlist._columns.texts import TextLists
from shortlist._columns.times import time_column
from shortlist.errors import DataError

IDS = pa.array([7, 5, 7, 9]).dictionary_encode()
NAMES = pa.array(["a", "b", "a", "c"]).dictionary_encode()
SPLITS = [0, 2, 2, 4]


def lists(values, make=pa.ListArray, null=False):
    mask = pa.array([False, True, False]) if null else None
    kind = pa.int64() if make is pa.LargeListArray else pa.int32()
    return make.from_arrays(pa.array(SPLITS, kind), values, mask=mask)


@pytest.mark.parametrize("make", [pa.ListArray, pa.LargeListArray])
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize(("values", "dtype"), [(IDS, "int64"), (NAMES, "string")])
def test_histories_of_dictionary_codes_are_their_values(make, null, values, dtype):
    plain = values.to_pylist()
    for column in (lists(values, make, null), pa.chunked_array([lists(values, make, null)])):
        read = history_column("history", column, dtype)
        assert [row.tolist() for row in read.lists()] == [plain[:2], [], plain[2:]]
        sliced = history_column("history", column[1:], dtype)
        assert [row.tolist() for row in sliced.lists()] == [[], plain[2:]]


def test_tags_of_categories_and_run_ends_are_their_values():
    tags = pl.Series("tags", [["x", "y"], [], ["x"]], dtype=pl.List(pl.Categorical))
    assert tag_column("tags", tags, "string").tolist() == [["x", "y"], ["", ""], ["x", ""]]
    fixed = pa.FixedSizeListArray.from_arrays(NAMES, 2)
    assert tag_column("tags", fixed, "string").tolist() == [["a", "b"], ["a", "c"]]
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([4, 5]))
    assert id_column("user_id", runs, "int64").tolist() == [4, 4, 5]
    empty = pa.chunked_array([], pa.dictionary(pa.int32(), pa.string()))
    assert len(id_column("user_id", empty, "string")) == 0


def test_run_ends_are_read_where_nothing_else_imports_the_compute_module(tmp_path):
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([4, 5]))
    table = pa.table({"user_id": runs})
    with pa.ipc.new_file(tmp_path / "runs.arrow", table.schema) as writer:
        writer.write_table(table)
    program = (  # a column from a file: making one here would import pandas, and compute with it
        "import sys, pyarrow as pa\n"
        "from shortlist._columns.reading import id_column\n"
        "column = pa.ipc.open_file(sys.argv[1]).get_batch(0).column(0)\n"
        "assert id_column('user_id', column, 'int64').tolist() == [4, 4, 5]\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "runs.arrow"], check=True)


def test_a_missing_pyarrow_is_named_with_the_way_to_get_it(monkeypatch):
    schema = RequestSchema("user_id", "int64", [])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for requests in (pd.DataFrame({"user_id": [1]}), {"user_id": pl.Series([1])}):
        with pytest.raises(DataError, match=r"needs the package pyarrow.*shortlist\[cpu\]"):
            normalise(requests, schema)
    assert normalise({"user_id": np.array([1])}, schema).ids.tolist() == [1]


@pytest.mark.parametrize(
    "nothing", [None, float("nan"), np.datetime64("NaT"), "", " ", "NaT", "null"]
)
def test_times_that_are_not_there_are_missing(nothing):
    assert time_column("t", [nothing, "2024-05-01"]).tolist() == [MISSING_INT, 1_714_521_600]


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        (1_714_557_600_123, "auto", 1_714_557_600),
        (1_714_557_600_123, "ms", 1_714_557_600),
        (5_000, "s", 5_000),
        (20240501, "s", 1_714_521_600),
        (20240501, "ms", 20_240),
        ("20240501100000", "auto", 1_714_557_600),
        (20240532, "s", 20_240_532),
    ],
)
def test_numbers_are_times_in_their_unit_and_days_in_digits_are_days(value, unit, seconds):
    assert time_column("t", [value], unit).tolist() == [seconds]
    if isinstance(value, int):
        assert time_column("t", np.array([value]), unit).tolist() == [seconds]
        assert time_column("t", pa.array([value]), unit).tolist() == [seconds]


@pytest.mark.parametrize("value", ["45292.5", "19000", "2024", "20240532"])
def test_text_of_numbers_that_are_no_times_is_refused(value):
    with pytest.raises(
        DataError, match=r"'t' row 0 is .*, which as a number of 's' is the year 1970"
    ):
        time_column("t", [value])
    assert time_column("t", [int(float(value))])[0] == int(float(value))  # a caller means seconds


def test_a_text_file_is_read_without_its_mark_and_unpacked(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "f").write_bytes('{"a": "é"}'.encode(encoding))
        assert read_text(tmp_path / "f") == '{"a": "é"}'
    (tmp_path / "f").write_bytes(b"a\nb\xe9")
    with pytest.raises(DataError, match=r"f, line 2: byte 0xe9 is not UTF-8.*iconv"):
        read_text(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(DataError, match="is a gzip file that is cut off or damaged"):
        read_text(tmp_path / "f")


TEXTS = [["b", "Köln"], None, [], ["a", ""], ["b"]]


@pytest.mark.parametrize("entry", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_texts_of_arrow_lists_stay_as_they_lie(kind, entry):
    column = pa.array([["before"], *TEXTS, ["after"]], kind(entry))[1:-1]
    read = history_column("history", column, "string")
    assert isinstance(read, TextLists)
    assert [row.tolist() for row in read.lists()] == [row or [] for row in TEXTS]
    taken = read.take(np.array([4, 0]))
    assert taken.values.tolist() == ["b", "b", "Köln"]
    again = pickle.loads(pickle.dumps(read))
    assert again.values.tolist() == read.values.tolist()


def test_texts_of_empty_columns():
    for column in (
        pa.array([], pa.list_(pa.string())),
        pa.array([None, []], pa.list_(pa.string())),
    ):
        read = history_column("history", column, "string")
        assert read.values.tolist() == []
        assert read.lengths.tolist() == [0] * len(column)


def test_what_is_no_utf_8_is_named():
    data, offsets = pa.py_buffer(b"ab\xffcd"), pa.py_buffer(np.array([0, 2, 5], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    column = pa.ListArray.from_arrays([0, 2], texts)
    with pytest.raises(DataError, match=r"'history' holds what is no text \(.*UTF.?8"):
        history_column("history", column, "string")


def test_the_engine_answers_texts_of_arrow_as_those_of_lists(text_world, text_engine):
    random = np.random.default_rng(4)
    histories = [
        random.choice([*text_world.item_ids, "unknown", ""], n).tolist() if n else None
        for n in random.integers(0, 9, 60)
    ]
    kinds = [None if row is None else ["click"] * len(row) for row in histories]
    columns = {"history": histories, "user_id": [f"u{i}" for i in range(60)]}
    table = pa.table(columns)
    for options in ({}, {"exclude_seen": False}, {"exclude_seen": ("click",)}):
        if options.get("exclude_seen"):
            columns |= {"history_kinds": kinds}
            table = table.append_column("history_kinds", pa.array(kinds))
        expected = text_engine.recommend(columns, **options)
        found = text_engine.recommend(table, **options)
        assert found.item_ids.tolist() == expected.item_ids.tolist()
        assert found.scores.tobytes() == expected.scores.tobytes()
        assert found.n_known.tolist() == expected.n_known.tolist()
    with pytest.raises(DataError, match=r"'history' row .* which is no item"):
        text_engine.recommend(table.select(["history"]), unknown="error")
