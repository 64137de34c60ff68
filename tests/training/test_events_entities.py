"""Item and user tables: ids once, numbers as numbers, tags as lists where declared."""

import re

import numpy as np
import polars as pl
import pytest

from shortlist._columns import category_column, id_column
from shortlist.errors import DataError
from shortlist.training.entities import read_items, read_users


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
    assert users.row(0) == ("u", ["a", "b"], "true", "Rome", None)


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
