"""From tables to features: ids that meet, what a column is, and what is said about it."""

from __future__ import annotations

import logging
import re
import warnings

import numpy as np
import polars as pl
import pytest

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.cleaning import clean_events
from shortlist.training.cleaning.files import load_configured
from shortlist.training.config.settings import load_config
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.entities import read_items
from shortlist.training.data.events import Dataset, read_events
from shortlist.training.features.features import FeatureSet
from shortlist.training.splits.split import leave_one_out

HEAD = "user_id,item_id,timestamp\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def shop(folder, write_id):
    """Write 30 items and the events of 20 users, whose item ids are written as `write_id` says."""
    rows = "".join(f"{i},{1.5 * i},{'ab'[i % 2]}\n" for i in range(1, 31))
    write(folder / "items.csv", "item_id,price,genre\n" + rows)
    events = "".join(
        f"u{user},{write_id(1 + (7 * user + k) % 30)},{1_700_000_000 + 100 * user + k}\n"
        for user in range(20)
        for k in range(8)
    )
    write(folder / "events.csv", HEAD + events)
    return Dataset("shop", read_events(folder / "events.csv"), read_items(folder / "items.csv"))


@pytest.mark.parametrize("write_id", [str, "{}.0".format, " {} ".format], ids=["7", "7.0", " 7 "])
def test_the_same_number_written_otherwise_is_the_same_item(tmp_path, write_id):
    dataset = shop(tmp_path, write_id)
    split = leave_one_out(dataset)
    assert len(split.catalogue) == 30
    price, genre = FeatureSet.fit(dataset, split).features
    assert (price.mean, genre.vocabulary) == (23.25, ["a", "b"])
    report = clean_events(tmp_path / "events.csv", items=dataset.items["item_id"])[1]
    assert report.n_kept == 160


def test_tables_that_never_meet_stop_the_training_and_the_fix_works(tmp_path):
    dataset = shop(tmp_path, "{:05d}".format)
    split = leave_one_out(dataset)
    said = r"0.0% of 160 events have their item in the item table.*which differ by zeros in front"
    with pytest.raises(DataError, match=said):
        FeatureSet.fit(dataset, split)
    config = load_config(overrides={"data.min_coverage": 0})
    assert FeatureSet.fit(dataset, split, config).features == []
    argv = ["clean", "--data", str(tmp_path), "--out", str(tmp_path / "clean.csv")]
    assert main(argv) == 1
    assert main([*argv, "--set", "cleaning.unknown_items=false"]) == 0


# --- columns of features -----------------------------------------------------------------------


def test_words_for_nothing_are_missing_in_numbers_and_text_in_text(tmp_path):
    text = "item_id,price,new,country\n1,9.5,true,NA\n2,NA,N/A,FR\n3, 7 ,false,DE\n4,null,,IT\n"
    items = read_items(write(tmp_path / "i.csv", text))
    assert items["price"].to_list() == [9.5, None, 7.0, None]
    assert items["new"].to_list() == [True, None, False, None]
    assert items["country"].to_list() == ["NA", "FR", "DE", "IT"]


def fit(dataset, overrides=None):
    return FeatureSet.fit(dataset, leave_one_out(dataset), load_config(overrides=overrides or {}))


def fitted(folder, column, values, overrides=None):
    """Fit the features of a shop whose items.csv has one more column."""
    shop(folder, str)
    items = pl.read_csv(folder / "items.csv").with_columns(pl.Series(column, values))
    items.write_csv(folder / "items.csv")
    return fit(load_dataset(folder), overrides)


def fitted_typed(folder, column, values, overrides=None):
    """Fit the features of a shop whose typed item table has one more column."""
    dataset = shop(folder, str)
    items = dataset.items.with_columns(pl.Series(column, values))
    items.write_parquet(folder / "typed.parquet")
    return fit(load_dataset(dataset.events, items=folder / "typed.parquet"), overrides)


@pytest.mark.parametrize(
    "odd",
    ["05201", "T8H1N", "98107-2117", "18-24", "many", "2.5.1", "3,7,8", "1,2", "1.2.3.4", "114 99"],
)
def test_a_column_of_codes_is_text_although_most_of_it_looks_like_numbers(tmp_path, odd):
    features = fitted(tmp_path, "code", [odd, *(f"{85_000 + i}" for i in range(29))])
    assert "code" not in [feature.name for feature in features.features]  # too many of them
    features = fitted(tmp_path, "code", [odd, *["85711", "85712"] * 14, "1,500.00"])
    (code,) = [feature for feature in features.features if feature.name == "code"]
    assert code.kind == "categorical"


@pytest.mark.parametrize("odd", ["1,500.00", "1.234,50", "9,90", "$12", "12 %", "7,5 €"])
def test_a_number_in_another_notation_is_named(tmp_path, odd):
    with pytest.raises(DataError, match=rf"row 3 .*got '{re.escape(odd)}', expected a number"):
        fitted(tmp_path, "cost", ["1.5", "2.5", odd, *(f"{i}.25" for i in range(27))])


def test_one_price_with_a_comma_is_named_and_the_fix_works(tmp_path):
    prices = [f"{i}.25" for i in range(30)]
    prices[16] = "1,500.00"
    said = r"item table: column 'cost', row 17 \(item_id 17\): got '1,500.00', expected a number"
    with pytest.raises(DataError, match=said):
        fitted(tmp_path, "cost", prices)
    features = fitted(tmp_path, "cost", prices, {"data.features.cost": "ignore"})
    assert "cost" not in [feature.name for feature in features.features]
    for corrected in ("1500.00", ""):
        prices[16] = corrected
        features = fitted(tmp_path, "cost", prices)
        assert [f.kind for f in features.features if f.name == "cost"] == ["numeric"]
    fitted(tmp_path, "cost", ["1,500.00", "9", *"abcdefghijklmnopqrstuvwxyzäö"])  # text it is


@pytest.mark.parametrize("empty", [None, float("nan"), "", []], ids=str)
def test_a_column_without_values_is_left_out_and_never_trained(tmp_path, caplog, empty):
    dtype = {float: pl.Float64, str: pl.String, list: pl.List(pl.String)}.get(type(empty), pl.Null)
    values = pl.Series([empty] * 30, dtype=dtype)
    with caplog.at_level(logging.INFO, "shortlist.reading"):
        features = fitted_typed(tmp_path, "void", values)
    assert [feature.name for feature in features.features] == ["price", "genre"]
    assert "void ignore (no value in the train part)" in caplog.text
    kind = "multi_categorical" if dtype == pl.List(pl.String) else "categorical"
    kind = "numeric" if dtype == pl.Float64 else kind
    with pytest.raises(DataError, match=f"'void' is declared {kind}: got no value in any row"):
        fitted_typed(tmp_path, "void", values, {"data.features.void": kind})
    fitted_typed(tmp_path, "void", values, {"data.features.void": "ignore"})


@pytest.mark.parametrize("word", ["NA", "null", ""])
def test_a_text_column_of_words_for_nothing_has_no_values(tmp_path, caplog, word):
    with caplog.at_level(logging.INFO, "shortlist.reading"):
        features = fitted(tmp_path, "void", [word] * 30)
    assert [feature.name for feature in features.features] == ["price", "genre"]
    assert "void ignore (no value in the train part)" in caplog.text


def test_text_of_a_typed_table_is_text_and_no_misprint(tmp_path):
    prices = [*["1,500.00", "9.25"] * 2, *["7.5", "8.5"] * 13]
    with pytest.raises(DataError, match="expected a number"):
        fitted(tmp_path, "cost", prices)
    features = fitted_typed(tmp_path, "cost", prices)
    assert [f.kind for f in features.features if f.name == "cost"] == ["categorical"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__", "index"])
def test_row_numbers_that_came_along_are_no_feature(tmp_path, name):
    rows = "".join(f"{i},{i + 5},9.5\n" for i in range(3))
    path = write(tmp_path / "i.csv", f"{name},item_id,price\n{rows}")
    with pytest.warns(UserWarning, match=f"column {name!r} is not read: it looks like row numbers"):
        assert read_items(path).columns == ["item_id", "price"]
    named = read_items(path, columns={"shelf": name})  # "give it a name of its own"
    assert named["shelf"].to_list() == [0, 1, 2]
    assert read_items(path, declared=[name])[name].to_list() == [0, 1, 2]


@pytest.mark.parametrize("name", ["index", "level_0", "rownames", "row_number"])
@pytest.mark.parametrize("declared", ["{}", "item.{}"])
def test_a_declared_column_of_row_numbers_is_a_feature(tmp_path, name, declared):
    shop(tmp_path, str)
    pl.read_csv(tmp_path / "items.csv").with_row_index(name).write_csv(tmp_path / "items.csv")
    with pytest.warns(UserWarning, match=f"column {name!r} is not read"):
        features = fit(load_dataset(tmp_path))
    assert [feature.name for feature in features.features] == ["price", "genre"]
    overrides = {"data.path": str(tmp_path), f"data.features.{declared.format(name)}": "numeric"}
    dataset, _ = load_configured(load_config(overrides=overrides))
    assert [f.name for f in fit(dataset, overrides).features] == [name, "price", "genre"]


def test_columns_of_nothing_and_an_index_that_is_none_are_no_news(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write(tmp_path / "i.csv", "item_id,index,,\n1,7,,\n2,3,,\n")
        assert read_items(path).columns == ["item_id", "index"]


def test_a_name_that_no_graph_can_have_is_refused_before_training(tmp_path):
    with pytest.raises(DataError, match=r"a column named 'price/usd', expected one without '/'"):
        fitted(tmp_path, "price/usd", np.arange(30.0))


@pytest.mark.filterwarnings("default")
def test_clean_says_what_it_read_and_what_it_did_not(tmp_path, capsys):
    shop(tmp_path, str)
    text = (tmp_path / "events.csv").read_text().replace("\n", ",x\n")
    write(tmp_path / "events.csv", text.replace("timestamp,x", "timestamp,query"))
    items = (tmp_path / "items.csv").read_text().split("\n")
    rows = [f"{i - 1},{line}" for i, line in enumerate(items) if line]
    write(tmp_path / "items.csv", "\n".join(["," + items[0], *rows[1:]]))
    assert main(["clean", "--data", str(tmp_path), "--out", str(tmp_path / "clean.csv")]) == 0
    said = capsys.readouterr().err
    assert "shortlist clean: events.csv: 160 rows of events read; columns not used: 'query'" in said
    assert "shortlist clean: items.csv: 30 rows of items read; columns: item_id, price" in said
    assert "shortlist clean: warning: items.csv: column '' is not read" in said
    assert "100.0% of 160 events have their item in the item table" in said


@pytest.mark.parametrize(
    ("first", "late", "expected"),
    [
        ("7", "x", pl.String),
        ("7", "7.5", pl.Float64),
        ("true", "7", pl.String),
        ("true", "NA", pl.Boolean),
        ("x", "7", pl.String),
        ("NA", "7", pl.Int64),
        ("", "x", pl.String),
    ],
)
def test_a_value_after_many_of_another_form_counts(tmp_path, first, late, expected):
    rows = "".join(f"{i},{first},0\n" for i in range(1500))
    items = read_items(write(tmp_path / "i.csv", f"item_id,a,b\n{rows}9000,{late},0\n"))
    assert items["a"].dtype == expected
    assert items["a"].null_count() == (1500 if first in ("", "NA") else int(late == "NA"))


@pytest.mark.parametrize("late", ["x9", "007", "1.0"])
def test_an_id_after_many_integers_counts_for_training_and_cleaning(tmp_path, late):
    rows = "".join(f"{i % 50},{i},{1_700_000_000 + i}\n" for i in range(1500))
    path = write(tmp_path / "e.csv", f"{HEAD}{rows}1,{late},1700009999\n")
    read, cleaned = read_events(path), clean_events(path)[0]
    assert read.rows() == cleaned.rows()
    assert read["item_id"].dtype == (pl.Int64 if late == "1.0" else pl.String)
    assert read["user_id"].dtype == pl.Int64
