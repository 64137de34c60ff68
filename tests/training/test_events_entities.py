"""Item and user tables: ids once, numbers as numbers, tags as lists where declared."""

import datetime
import re

import numpy as np
import polars as pl
import pytest

from shortlist._columns.reading import category_column, id_column
from shortlist._columns.requests import MISSING_INT
from shortlist.errors import DataError
from shortlist.training.config.feature_spec import FeatureSpec
from shortlist.training.data.entities import read_items, read_users
from shortlist.training.features.feature import infer_kind
from shortlist.training.features.fitting import fit_feature


def write(tmp_path, text):
    path = tmp_path / "items.csv"
    path.write_text(text)
    return path


def test_columns_become_numbers_text_and_declared_lists(tmp_path):
    path = write(
        tmp_path,
        "item_id,title,year,price,zip,genres\n1,1984,1984,9.5,02138,Action|Drama\n2,Up,,,94043,\n",
    )
    items = read_items(path, lists={"genres": "|"})
    assert items.schema == {
        "item_id": pl.Int64,
        "title": pl.String,
        "year": pl.Int64,
        "price": pl.Float64,
        "zip": pl.String,
        "genres": pl.List(pl.String),
    }
    assert items.row(0) == (1, "1984", 1984, 9.5, "02138", ["Action", "Drama"])
    assert items.row(1) == (2, "Up", None, None, "94043", [])


def test_text_with_bars_is_one_value_unless_declared(tmp_path):
    path = write(tmp_path, "item_id,genres\n1,Action|Drama\n")
    assert read_items(path)["genres"].to_list() == ["Action|Drama"]


def test_typed_lists_booleans_and_categories_are_features():
    table = pl.DataFrame(
        {
            "user_id": ["u"],
            "tags": [["a", "b"]],
            "member": [True],
            "city": pl.Series(["Rome"], dtype=pl.Categorical),
            "age": [float("nan")],
        }
    )
    users = read_users(table)
    assert users.row(0) == ("u", ["a", "b"], True, "Rome", None)


def test_dates_vectors_and_whole_numbers_in_lists_keep_their_types():
    noon = datetime.datetime(2024, 5, 1, 12)
    columns = {
        "added": pl.Series([noon]),
        "zoned": pl.Series([noon]).dt.replace_time_zone("Asia/Tokyo"),
        "day": pl.Series([noon.date()]),
        "image": pl.Series([[0.5, 1.5]]),
        "fixed": pl.Series([[0.5, 1.5]], dtype=pl.Array(pl.Float32, 2)),
        "sizes": pl.Series([[38, 40]], dtype=pl.List(pl.Int32)),
        "flags": pl.Series([[True]]),
        "in_stock": pl.Series([False]),
    }
    items = read_items(pl.DataFrame({"item_id": [1], **columns}))
    assert dict(items.schema) == {
        "item_id": pl.Int64,
        "added": pl.Datetime("us"),
        "zoned": pl.Datetime("us", "Asia/Tokyo"),
        "day": pl.Date,
        "image": pl.List(pl.Float64),
        "fixed": pl.List(pl.Float32),
        "sizes": pl.List(pl.Int64),
        "flags": pl.List(pl.String),
        "in_stock": pl.Boolean,
    }
    assert items["sizes"].to_list() == [[38, 40]]
    assert items["flags"].to_list() == [["true"]]


def test_times_and_vectors_of_a_parquet_table_are_features(tmp_path):
    path = tmp_path / "items.parquet"
    day = datetime.date(2024, 5, 1)
    pl.DataFrame(
        {"item_id": [1, 2], "day": [day, None], "image": [[3.0, 4.0], None]}
    ).write_parquet(path)
    items = read_items(path)
    dated = fit_feature(items["day"], "item", FeatureSpec("timestamp", parts=("weekday",)))
    angle = 2 * np.pi * 2 / 7  # a Wednesday
    np.testing.assert_allclose(
        dated.encode(items["day"]), [[np.sin(angle), np.cos(angle)], [0, 0]], atol=1e-6
    )
    image = fit_feature(items["image"], "item", FeatureSpec("vector"))
    np.testing.assert_allclose(image.encode(items["image"]), [[0.6, 0.8], [0, 0]], atol=1e-6)


def test_true_and_false_are_categories_and_no_numbers():
    items = read_items(pl.DataFrame({"item_id": [1, 2, 3], "new": [True, False, None]}))
    feature = fit_feature(items["new"], "item", FeatureSpec(infer_kind(items["new"])))
    assert feature.encode(items["new"]).tolist() == [2, 1, 0]
    assert feature.column.read([True, False, None]).tolist() == [1, 0, MISSING_INT]
    with pytest.raises(DataError, match="column 'new' is declared numeric: got Boolean, expected"):
        fit_feature(items["new"], "item", FeatureSpec("numeric"))


@pytest.mark.parametrize("inner", [pl.Duration, pl.List(pl.Int64), pl.Date])
def test_lists_that_are_no_feature_are_refused(inner):
    table = pl.DataFrame({"item_id": [1], "x": pl.Series([None], dtype=pl.List(inner))})
    with pytest.raises(DataError, match=r"column 'x' has type List.*lists of text or numbers"):
        read_items(table)


def test_integers_beyond_64_bits_in_lists_are_refused():
    table = pl.DataFrame({"item_id": [1], "x": pl.Series([[2**63]], dtype=pl.List(pl.UInt64))})
    with pytest.raises(DataError, match=r"column 'x' has integers beyond 64 bits\."):
        read_items(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,a\n1,x\n2,y\n1,z\n", "column 'item_id', line 4: got '1', expected each id once"),
        ("item_id,a\n1,x\n,y\n", "column 'item_id', line 3: got nothing"),
        ("id,a\n1,x\n", "items have no column 'item_id': got columns ['id', 'a']"),
        ("item_id,a\n", "the items table has 0 rows"),
    ],
)
def test_bad_item_tables_are_named_by_column_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_items(write(tmp_path, text))


def test_an_undeclared_list_column_and_odd_types_are_refused(tmp_path):
    with pytest.raises(DataError, match="items have no column 'tags'"):
        read_items(write(tmp_path, "item_id,a\n1,x\n"), lists={"tags": "|"})
    with pytest.raises(DataError, match=r"column 'when' has type Duration.*expected text, numbers"):
        read_items(pl.DataFrame({"item_id": [1]}).with_columns(when=pl.duration(days=1)))
    with pytest.raises(DataError, match="column 'price', row 2: got inf, expected a finite number"):
        read_items(pl.DataFrame({"item_id": [1, 2], "price": [1.0, float("inf")]}))


def test_requests_spell_true_and_false_as_tables_do():
    members = [True, False, None]
    frame = pl.DataFrame({"user_id": [1, 2, 3], "member": members})
    trained = read_users(frame)["member"].fill_null("").to_list()
    assert trained == ["true", "false", ""]
    columns = [members, frame["member"], frame["member"].to_arrow(), frame["member"].to_pandas()]
    for column in columns:
        assert category_column("member", column, "string").tolist() == trained
    assert category_column("member", np.array([True, False]), "string").tolist() == trained[:2]
    for ids in (members, np.array([True, False])):
        with pytest.raises(TypeError):
            id_column("user_id", ids, "string")


@pytest.mark.parametrize("big", [float("inf"), 1e300])
def test_numbers_that_float32_cannot_hold_are_refused(tmp_path, big):
    message = f"column 'x', row 2: got {big!r}, expected a finite number below 3.4e38"
    with pytest.raises(DataError, match=re.escape(message)):
        read_items(pl.DataFrame({"item_id": [1, 2, 3], "x": [float("nan"), big, None]}))
    if big == 1e300:
        with pytest.raises(DataError, match=re.escape("column 'x', line 3: got '1e300', expected")):
            read_items(write(tmp_path, "item_id,x\n1,2.5\n2,1e300\n"))


def test_true_and_false_of_a_csv_are_what_they_are_in_a_typed_table(tmp_path):
    text = "item_id,a,b,c\n1,True,true,true\n2,,FALSE,maybe\n3,False,true,\n"
    items = read_items(write(tmp_path, text))
    assert items["a"].to_list() == [True, None, False]
    assert items["b"].to_list() == [True, False, True]
    assert items["c"].dtype == pl.String
