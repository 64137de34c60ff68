# ruff: noqa: E501  (a table of cases, one a line, is easier to read than its wrapped form)
"""Requests of every shape become the same columns; what is wrong is named by column and row."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from shortlist._columns.requests import MISSING_INT, FeatureColumn, RequestSchema, normalise
from shortlist.errors import DataError

FEATURES = (
    FeatureColumn("city", "categorical", "string"),
    FeatureColumn("level", "categorical", "int64"),
    FeatureColumn("tags", "multi_categorical", "string"),
    FeatureColumn("years", "multi_categorical", "int64"),
    FeatureColumn("age", "numeric", "float32"),
)
INT = RequestSchema("user_id", "int64", FEATURES, "int64")
TEXT = RequestSchema("user_id", "string", FEATURES, "string")

COLUMNS = {
    "user_id": [196, None, 7],
    "history": [[50, 172], [], None],
    "city": ["Köln", None, "北京"],
    "level": [1, None, 3],
    "tags": [["a", "b"], None, ["c"]],
    "years": [[1990], [], None],
    "age": [20.0, None, 33.5],
}
TEXT_COLUMNS = COLUMNS | {"user_id": ["u1", None, "ü"], "history": [["é1", "é2"], [], None]}


def rows(columns):
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def pandas_frame(columns):
    frame = pd.DataFrame(
        {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    )
    frame["level"] = pd.Series(columns["level"], dtype="Int64")
    frame["age"] = pd.Series(columns["age"], dtype="float64")
    return frame


SHAPES = {
    "dict of lists": dict,
    "dict of object arrays": lambda columns: {
        name: np.array([*values, None], dtype=object)[:-1] for name, values in columns.items()
    },
    "list of dicts": rows,
    "tuple of dicts, None left out": lambda columns: tuple(
        {name: value for name, value in row.items() if value is not None} for row in rows(columns)
    ),
    "pandas": pandas_frame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "arrow in chunks": lambda columns: pa.concat_tables(
        [pa.table(columns).slice(0, 1), pa.table(columns).slice(1)]
    ),
    "arrow large types": lambda columns: pl.DataFrame(columns).to_arrow(),
    "dict of polars series": lambda columns: pl.DataFrame(columns).to_dict(),
    "dict of pandas series": lambda columns: dict(pandas_frame(columns).items()),
    "dict of arrow arrays": lambda columns: {name: pa.array(v) for name, v in columns.items()},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["int64", "string"])
def test_every_shape_gives_the_same_columns(shape, dtype):
    schema, columns = (INT, COLUMNS) if dtype == "int64" else (TEXT, TEXT_COLUMNS)
    found = normalise(SHAPES[shape](columns), schema)
    assert found.n_requests == 3
    missing = MISSING_INT if dtype == "int64" else ""
    assert found.ids.tolist() == [columns["user_id"][0], missing, columns["user_id"][2]]
    assert [history.tolist() for history in found.histories.lists()] == [
        columns["history"][0],
        [],
        [],
    ]
    assert found.features["city"].tolist() == ["Köln", "", "北京"]
    assert found.features["level"].tolist() == [1, MISSING_INT, 3]
    assert found.features["tags"].tolist() == [["a", "b"], ["", ""], ["c", ""]]
    assert found.features["years"].tolist() == [[1990], [MISSING_INT], [MISSING_INT]]
    np.testing.assert_array_equal(found.features["age"], np.array([20, np.nan, 33.5], np.float32))
    kinds = {name: values.dtype for name, values in found.features.items()}
    assert kinds == {
        "city": object,
        "level": np.int64,
        "tags": object,
        "years": np.int64,
        "age": np.float32,
    }


def test_typed_arrays_and_arrays_of_histories_are_taken_as_they_are():
    found = normalise(
        {
            "user_id": np.array([1, 2], np.uint8),
            "history": np.array([[1, 2], [3, 4]], np.int32),
            "age": np.array([1, 2], np.int16),
            "level": np.array([True, False]),
        },
        INT,
    )
    assert found.ids.tolist() == [1, 2]
    assert [history.tolist() for history in found.histories.lists()] == [[1, 2], [3, 4]]
    assert found.histories.values.dtype == np.int64
    assert found.features["age"].tolist() == [1, 2]
    assert found.features["level"].tolist() == [1, 0]
    sliced = np.arange(10)[::2]
    assert normalise({"history": [sliced]}, INT).histories.values.tolist() == [0, 2, 4, 6, 8]
    text = normalise({"history": [np.array(["é1", "x"])], "user_id": np.array(["u"])}, TEXT)
    assert text.histories.values.tolist() == ["é1", "x"]
    assert text.ids.tolist() == ["u"]


def test_columns_that_are_absent_stay_absent():
    found = normalise([{"history": [1]}], INT)
    assert found.ids is None
    assert found.features == {}
    assert normalise([{}, {}], INT).n_requests == 2


@pytest.mark.parametrize(
    "requests",
    [
        [],
        (),
        {},
        {"user_id": []},
        {"history": [], "age": []},
        pd.DataFrame(),
        pl.DataFrame(),
        pa.table({}),
        pl.DataFrame({"history": []}),
    ],
)
def test_empty_requests_have_no_rows(requests):
    assert normalise(requests, INT).n_requests == 0


BIG = 2**63
WRONG = [
    # one case a line: requests, schema, error, message
    ([{"histroy": [1]}], INT, DataError, "row 0: unknown column 'histroy'; did you mean 'history'?"),
    ({"User": [1]}, INT, DataError, "unknown column 'User'; did you mean 'user_id'? This bundle"),
    ({"price": [1]}, INT, DataError, "unknown column 'price'; This bundle knows user_id, history"),
    (pd.DataFrame({"x1": [1]}), INT, DataError, "unknown column 'x1'; This bundle knows"),
    ({"user_id": [1, 2], "age": [1]}, INT, DataError,
     "column 'age' has 1 entries but 'user_id' has 2; every column needs one entry a request"),
    ({"user_id": 196}, INT, TypeError, "column 'user_id' is the single value 196, expected a column "
     "with one entry a request; for one request write [196]"),
    ({"city": "Köln"}, INT, TypeError, "column 'city' is the single value 'Köln'"),
    ({"user_id": np.array(196)}, INT, TypeError, "column 'user_id' is a"),
    ({"history": [1, 2]}, INT, TypeError,
     "'history' row 0 is 1, expected a list; one request with a list is written {'history': [[…]]}"),
    ({"history": ["abc"]}, TEXT, TypeError, "'history' row 0 is 'abc', expected a list"),
    ({"history": [[1], [2, 3.0]]}, INT, TypeError,
     "'history' row 1, entry 1 is float 3.0, expected an integer"),
    ({"history": [np.array([1.0])]}, INT, TypeError, "'history' row 0, entry 0 is float64"),
    ({"history": [[1, None]]}, INT, TypeError, "'history' row 0, entry 1 is NoneType None"),
    ({"history": [["a"]]}, INT, TypeError, "'history' row 0, entry 0 is str 'a', expected an integer"),
    ({"history": [[1]]}, TEXT, TypeError, "'history' row 0, entry 0 is int 1, expected a string"),
    ({"history": [["a", 1]]}, TEXT, TypeError, "'history' row 0, entry 1 is int 1, expected a str"),
    ({"history": [[True]]}, INT, TypeError, "'history' row 0, entry 0 is bool True"),
    ({"history": [[[1]]]}, INT, TypeError, "'history' row 0 has 2 dimensions, expected a flat list"),
    ({"history": [[[1], [1, 2]]]}, INT, TypeError, "'history' row 0 is nested, expected a flat list"),
    ({"history": [[BIG]]}, INT, DataError, "'history' row 0 holds"),
    ({"history": [[BIG * 4]]}, INT, DataError, "'history' row 0 holds an integer past 64 bits"),
    ({"history": [[-BIG - 1]]}, INT, DataError, "'history' row 0 holds an integer past 64 bits"),
    ({"history": [{"a": 1}]}, INT, TypeError, "'history' row 0 has 0 dimensions"),
    (pa.table({"history": [1, 2]}), INT, TypeError, "'history' row 0 is 1, expected a list"),
    ({"history": [[1, float("nan")]]}, INT, TypeError, "'history' row 0, entry 1 is float nan, expected an "
     "integer; a column with missing ids turns to float in pandas: use dtype 'Int64', and leave missing ids out of"),
    (pl.DataFrame({"history": [[1.5]]}), INT, TypeError, "'history' row 0, entry 0 is float"),
    ({"user_id": [1.0]}, INT, TypeError, "'user_id' row 0 is float 1.0, expected an integer; a column "
     "with missing ids turns to float in pandas: use dtype 'Int64'"),
    ({"user_id": np.array([1.5])}, INT, TypeError, "'user_id' has dtype float64 (row 0 is 1.5)"),
    (pd.DataFrame({"user_id": [1, None]}), INT, TypeError, "'user_id' row 0 is float 1.0"),
    ({"user_id": ["a"]}, INT, TypeError, "'user_id' row 0 is str 'a', expected an integer"),
    ({"user_id": [1]}, TEXT, TypeError, "'user_id' row 0 is int 1, expected a string; convert with str"),
    ({"user_id": np.array([1])}, TEXT, TypeError, "'user_id' has dtype int64 (row 0 is 1), but this "
     "bundle's ids are strings; convert with str(…)"),
    ({"user_id": [True]}, INT, TypeError, "'user_id' row 0 is bool True, expected an integer"),
    ({"user_id": [BIG]}, INT, DataError, "'user_id' row 0 is 9223372036854775808, expected a 64-bit"),
    ({"user_id": np.array([1, BIG], np.uint64)}, INT, DataError, "'user_id' row 1 holds 92233720368"),
    ({"user_id": np.array([[1]])}, INT, TypeError, "'user_id' has 2 dimensions"),
    ({"city": [3]}, INT, TypeError, "'city' row 0 is int 3, expected a string"),
    ({"level": ["3"]}, INT, TypeError, "'level' row 0 is str '3', expected an integer"),
    ({"level": ["true"]}, INT, TypeError, "'level' row 0 is str 'true', expected an integer; if this is a "
     "truth value, give True, not text"),
    ({"level": [2.0]}, INT, TypeError, "'level' row 0 is float 2.0, expected an integer"),
    ({"tags": ["a"]}, INT, TypeError, "'tags' row 0 is 'a', expected a list"),
    ({"tags": [["a"], [4]]}, INT, TypeError, "'tags' row 1, entry 0 is int 4, expected a string"),
    ({"tags": [["a", True]]}, INT, TypeError, "'tags' row 0, entry 1 is bool True, expected a string; "
     "write it as the tables do: 'true' or 'false'"),
    ({"city": ["Rome", "\ud800"]}, INT, DataError, "'city' row 1 holds half a surrogate pair, expected"),
    ({"tags": [["a", "b"], [], ["c", "\ud800"]]}, INT, DataError, "'tags' row 2 holds half a surrogate"),
    ({"age": {20}}, INT, TypeError, "column 'age' is a set, which has no order; give a list"),
    (pa.table([[1], [2]], ["user_id", "user_id"]), INT, DataError, "the frame has two columns 'user_id'; drop"),
    (pd.DataFrame([[1, 2]], columns=["age", "age"]), INT, DataError, "the frame has two columns 'age'"),
    (pd.DataFrame({"user_id": [1], "age": [2]}).set_index("user_id"), INT, DataError, "'user_id' is the frame's "
     "index, expected a column; call frame.reset_index() first"),
    ({"age": ["old"]}, INT, TypeError, "'age' row 0 is str 'old', expected a number"),
    ({"age": [True]}, INT, TypeError, "'age' row 0 is bool True, expected a number"),
    ({"age": [1, float("inf")]}, INT, DataError, "'age' row 1 is inf, expected a finite number"),
    ({"age": [1e300]}, INT, DataError, "'age' row 0 is 1e+300, expected a finite number below 3.4e38"),
    ({"age": [10**400]}, INT, DataError, "'age' row 0 is too large for a float"),
    ([{"user_id": 1}, 7], INT, TypeError, "row 1 is int 7, expected a dict such as {'user_id': 196}"),
    ([[1, 2]], INT, TypeError, "row 0 is list [1, 2], expected a dict"),
    (196, INT, TypeError, "got int, expected a dict of columns, a list of dicts, a pandas or polars"),
    ("abc", INT, TypeError, "got str, expected a dict of columns"),
    (None, INT, TypeError, "got NoneType, expected a dict of columns"),
    (np.zeros((2, 2)), INT, TypeError, "got ndarray, expected a dict of columns"),
    (pd.Series([1]), INT, TypeError, "got Series, expected a dict of columns"),
    (pd.DataFrame({"user_id": [1, "a"]}), INT, DataError, "the pandas frame has a column of mixed"),
    ({"user_id": pd.Series([1, "a"])}, INT, DataError, "a pandas column has mixed types"),
]  # fmt: skip


@pytest.mark.parametrize(("requests", "schema", "error", "message"), WRONG)
def test_wrong_requests_are_told_the_column_the_row_and_the_fix(requests, schema, error, message):
    with pytest.raises(error) as caught:
        normalise(requests, schema)
    assert str(caught.value).startswith("requests: ")
    assert message in str(caught.value)
    assert issubclass(error, TypeError) or isinstance(caught.value, ValueError)


def test_categories_of_every_kind_of_frame_read_the_same():
    cities = ["Rome", None, "Köln", "Rome"]
    polars = pl.DataFrame({"city": pl.Series(cities, dtype=pl.Categorical)})
    shapes = [
        {"city": cities},
        polars,
        pl.concat([polars[:2], polars[2:]], rechunk=False),
        pa.table(polars),
        polars.select(pl.col("city").cast(pl.Enum(["Köln", "Rome"]))),
        {"city": polars["city"]},
        pd.DataFrame({"city": pd.Categorical(cities)}),
        pa.table({"city": pa.array(cities).dictionary_encode()}),
    ]
    for shape in shapes:
        assert normalise(shape, INT).features["city"].tolist() == ["Rome", "", "Köln", "Rome"]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_what_pandas_writes_for_nothing_is_missing_in_rows_too(missing):
    rows = [{"user_id": 3, "city": "Rome", "level": 2, "tags": ["a"], "age": 5.0, "history": [1]}]
    rows.append(dict.fromkeys(rows[0], missing))
    rows[0]["tags"] = ["a", missing]
    found = normalise(rows, INT)
    assert found.ids.tolist() == [3, MISSING_INT]
    assert found.features["city"].tolist() == ["Rome", ""]
    assert found.features["level"].tolist() == [2, MISSING_INT]
    assert found.features["tags"].tolist() == [["a"], [""]]
    np.testing.assert_array_equal(found.features["age"], np.array([5, np.nan], np.float32))
    assert [history.tolist() for history in found.histories.lists()] == [[1], []]


def test_masked_numbers_are_missing_and_decimals_are_numbers():
    masked = np.ma.array([20.0, 30.0], mask=[False, True])
    np.testing.assert_array_equal(normalise({"age": masked}, INT).features["age"], [20, np.nan])
    prices = [Decimal("20.5"), None]
    for column in (prices, pa.array(prices), pl.Series(prices)):
        found = normalise({"age": column}, INT).features["age"]
        np.testing.assert_array_equal(found, np.array([20.5, np.nan], np.float32))


def test_a_frame_without_columns_has_as_many_requests_as_rows():
    assert normalise(pd.DataFrame(index=range(3)), INT).n_requests == 3


def test_a_set_as_history_is_refused_as_it_has_no_order():
    schema = RequestSchema("user_id", "int64", [], "int64", ())
    with pytest.raises(TypeError, match="'history' row 0 is a set, which has no order of time"):
        normalise([{"history": {1, 2}}], schema)
