"""Columns of text, times and vectors in requests: what is accepted, and what errors say."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from shortlist._columns.requests import MISSING_INT, FeatureColumn, RequestSchema, normalise
from shortlist.errors import DataError

SCHEMA = RequestSchema(
    "user_id",
    "int64",
    [
        FeatureColumn("about", "text", "string"),
        FeatureColumn("joined", "timestamp", "int64"),
        FeatureColumn("seen", "timestamp", "int64", unit="ms"),
        FeatureColumn("taste", "vector", "float32", width=3),
        FeatureColumn("likes", "multi_categorical", "string", separator="|"),
        FeatureColumn("age", "numeric", "float32"),
        FeatureColumn("city", "categorical", "string"),
    ],
    "int64",
)
SECONDS = 1_714_500_000
MOMENT = datetime.datetime(2024, 4, 30, 18)


def read(name, values):
    return normalise({name: values}, SCHEMA).features[name]


@pytest.mark.parametrize(
    "values",
    [
        [SECONDS, None],
        [SECONDS + 0.5, float("nan")],
        [MOMENT, None],
        [MOMENT.replace(tzinfo=datetime.UTC), None],
        ["2024-04-30T18:00:00", ""],
        ["2024-04-30T20:00:00+02:00", None],
        np.array([SECONDS, MISSING_INT]),
        np.array(["2024-04-30T18:00:00", "NaT"], "datetime64[ns]"),
        [np.datetime64("2024-04-30T18:00:00"), None],
        pd.Series([pd.Timestamp(MOMENT), pd.NaT]),
        [pd.Timestamp(MOMENT), pd.NaT],
        pd.Series([SECONDS, None], dtype="Int64"),
        pl.Series([MOMENT, None]),
        pl.Series([SECONDS, None]),
        pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
        pa.chunked_array([[MOMENT], [None]], pa.timestamp("ns")),
    ],
)
def test_a_time_may_come_in_any_usual_type(values):
    assert read("joined", values).tolist() == [SECONDS, MISSING_INT]
    assert read("joined", values).dtype == np.int64


def test_dates_are_midnight_and_numbers_follow_the_unit():
    assert read("joined", [datetime.date(1970, 1, 3)]).tolist() == [172_800]
    assert read("joined", pl.Series([datetime.date(1970, 1, 3)])).tolist() == [172_800]
    assert read("seen", [1999, -1]).tolist() == [1, -1]
    assert read("seen", np.array([1999, -1])).tolist() == [1, -1]
    assert read("seen", [-0.5, MOMENT]).tolist() == [-1, SECONDS]


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2.5, -3], None],
        [np.array([1, 2.5, -3], np.float32), None],
        pl.Series([[1.0, 2.5, -3.0], None]),
        pa.array([[1, 2.5, -3], None], pa.list_(pa.float32())),
        pa.array([[1, 2.5, -3], None], pa.list_(pa.float32(), 3)),
        pl.Series([[1.0, 2.5, -3.0], None], dtype=pl.Array(pl.Float32, 3)),
        pd.Series([[1, 2.5, -3], None]),
    ],
)
def test_a_vector_may_come_in_any_usual_type(values):
    got = read("taste", values)
    assert got.dtype == np.float32
    assert got[0].tolist() == [1, 2.5, -3]
    assert np.isnan(got[1]).all()


def test_a_matrix_is_a_column_of_vectors():
    np.testing.assert_array_equal(read("taste", np.eye(3)), np.eye(3))
    assert read("taste", np.empty((0, 3))).shape == (0, 3)


def test_text_may_be_missing_and_hold_anything():
    assert read("about", ["红 🙂", None, "", "a\x00b"]).tolist() == ["红 🙂", "", "", "a\x00b"]
    assert read("about", pl.Series(["é", None])).tolist() == ["é", ""]


def test_tags_with_a_separator_come_as_text_or_lists():
    got = read("likes", ["a| b", ["c"], None, ""])
    assert got.tolist() == [["a", "b"], ["c", ""], ["", ""], ["", ""]]
    assert read("likes", pl.Series(["a|b"])).tolist() == [["a", "b"]]


@pytest.mark.parametrize(
    ("name", "values", "error", "message"),
    [
        ("about", ["a", 3], TypeError, "requests: 'about' row 1 is int 3, expected a string"),
        ("about", [b"a"], TypeError, "requests: 'about' row 0 is bytes b'a', expected a string"),
        ("about", np.array([1.5]), TypeError, "requests: 'about' has dtype float64"),
        ("about", ["a", "\ud800"], DataError, "requests: 'about' row 1 holds half a surrogate"),
        ("joined", [1, "soon"], DataError, "requests: 'joined' row 1 is 'soon', expected ISO 8601"),
        ("joined", [True], TypeError, "requests: 'joined' row 0 is bool True, expected a time"),
        ("joined", [1, [2]], TypeError, r"requests: 'joined' row 1 is list \[2\], expected a time"),
        ("joined", [float("inf")], DataError, "requests: 'joined' row 0 is inf, expected a time"),
        (
            "joined",
            [SECONDS, SECONDS * 1000],
            DataError,
            "requests: 'joined' row 1 is 1714500000000, expected a time in 's' before the year "
            "10000; the feature's unit may be another",
        ),
        (
            "joined",
            np.array([SECONDS * 1000]),
            DataError,
            "requests: 'joined' row 0 is 1714500000000, expected a time in 's'",
        ),
        (
            "taste",
            [[1, 2, 3], [1, 2]],
            DataError,
            "requests: 'taste' row 1 has 2 numbers, expected 3 as in training, or None",
        ),
        ("taste", np.eye(4), DataError, "requests: 'taste' row 0 has 4 numbers, expected 3"),
        ("taste", ["abc"], TypeError, "requests: 'taste' row 0 is 'abc', expected a list of num"),
        ("taste", [1.5], TypeError, "requests: 'taste' row 0 is 1.5, expected a list of numbers"),
        ("taste", [[1, 2, "x"]], TypeError, "requests: 'taste' row 0, entry 2 is str 'x', expect"),
        ("taste", [[1, None, 2]], TypeError, "requests: 'taste' row 0, entry 1 is NoneType None"),
        ("taste", [[[1], [2, 3], 4]], TypeError, "requests: 'taste' row 0 is nested or too large"),
        (
            "taste",
            [[1, 2, float("nan")]],
            DataError,
            "requests: 'taste' row 0, entry 2 is nan, expected a finite number; give None where",
        ),
        (
            "taste",
            np.array([[1, 2, 3], [1, np.inf, 3]]),
            DataError,
            "requests: 'taste' row 1, entry 1 is inf, expected a finite number",
        ),
        ("likes", [3], TypeError, "requests: 'likes' row 0 is 3, expected a list"),
        ("likes", [["a", 3]], TypeError, "requests: 'likes' row 0, entry 1 is int 3, expected"),
        ("age", [1, "x"], TypeError, "requests: 'age' row 1 is str 'x', expected a number"),
        ("age", [float("inf")], DataError, "requests: 'age' row 0 is inf, expected a finite"),
        ("city", [1], TypeError, "requests: 'city' row 0 is int 1, expected a string"),
    ],
)
def test_a_wrong_value_is_refused_by_column_and_row(name, values, error, message):
    with pytest.raises(error, match=message):
        read(name, values)


def test_unknown_columns_and_uneven_ones_are_refused():
    with pytest.raises(DataError, match=r"unknown column 'abuot'; did you mean 'about'\?"):
        normalise({"abuot": ["x"]}, SCHEMA)
    with pytest.raises(DataError, match="column 'taste' has 1 entries but 'about' has 2"):
        normalise({"about": ["x", "y"], "taste": [[1, 2, 3]]}, SCHEMA)


def test_all_shapes_of_requests_read_alike():
    rows = [
        {"about": "红", "joined": MOMENT, "taste": [1.0, 2.0, 3.0], "likes": ["a"], "age": 3.0},
        {"about": None, "joined": None, "taste": None, "likes": None, "age": None},
    ]
    frame = pl.DataFrame(rows)
    shapes = [
        rows,
        {name: frame[name].to_list() for name in frame.columns},
        frame,
        frame.to_arrow(),
        frame.to_arrow().to_batches()[0],
        pd.DataFrame(rows),
    ]
    read = [normalise(shape, SCHEMA).features for shape in shapes]
    for features in read[1:]:
        assert features.keys() == read[0].keys()
        for name, column in features.items():
            np.testing.assert_array_equal(column, read[0][name])


def test_missing_columns_have_the_kind_s_missing_value():
    missing = {name: f.missing(2) for name, f in SCHEMA.features.items()}
    assert {name: not f.is_given(missing[name]).any() for name, f in SCHEMA.features.items()} == (
        dict.fromkeys(missing, True)
    )
    assert missing["taste"].shape == (2, 3)
