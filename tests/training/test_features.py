import dataclasses

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides
from shortlist.training.data.events import Dataset
from shortlist.training.features.features import (
    Feature,
    FeatureSet,
    align_items,
    align_users,
    infer_kind,
    pad_lists,
)
from shortlist.training.splits.split import leave_one_out


@pytest.fixture(scope="module")
def fitted(shop):
    return FeatureSet.fit(shop, leave_one_out(shop), Config())


def by_name(features, name):
    return next(f for f in features.features if f.name == name)


def test_kinds_are_inferred_from_dtypes_and_titles_are_left_out(fitted):
    kinds = {f"{f.side}.{f.name}": f.kind for f in fitted.features}
    assert kinds == {
        "user.city": "categorical",
        "user.age": "numeric",
        "item.tags": "multi_categorical",
        "item.price": "numeric",
    }


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pl.Series("a", ["x", "y"] * 20), "categorical"),
        (pl.Series("a", [f"text {i}" for i in range(40)]), "ignore"),
        (pl.Series("title", ["x", "x"]), "ignore"),
        (pl.Series("a", [True, False]), "categorical"),
        (pl.Series("a", [1, 2]), "numeric"),
        (pl.Series("a", [1.5, None]), "numeric"),
        (pl.Series("a", [["x"], []]), "multi_categorical"),
        (pl.Series("a", [[1], [2, 3]]), "multi_categorical"),
        (pl.Series("a", [[1.5]]), "ignore"),
        (pl.Series("a", [None, None]), "ignore"),
        (pl.Series("a", ["2024-01-01"]).str.to_date(), "ignore"),
    ],
)
def test_infer_kind(values, kind):
    assert infer_kind(values) == kind


def test_a_set_survives_json(fitted):
    again = FeatureSet.from_json(fitted.to_json())
    assert again == fitted
    assert again.history_length == fitted.history_length


def test_damaged_json_is_a_data_error(fitted):
    for text in ("{", "{}", '{"item_id": 3}', fitted.to_json()[:-5]):
        with pytest.raises(DataError, match="not a feature set"):
            FeatureSet.from_json(text)


def test_the_code_of_an_item_is_its_catalogue_row_plus_one(shop, fitted):
    catalogue = leave_one_out(shop).catalogue
    codes = fitted.encode_items(pl.DataFrame({"item_id": catalogue}))["item_id"]
    np.testing.assert_array_equal(codes, np.arange(len(catalogue)) + 1)


def test_unknown_missing_empty_and_non_ascii_values(fitted):
    table = pl.DataFrame({"city": ["東京", "Zürich", "zürich", "", None, "Nowhere 🙂"]})
    codes = fitted.encode_users(table)["city"]
    vocabulary = by_name(fitted, "city").vocabulary
    assert "" not in vocabulary
    expected = [vocabulary.index("東京") + 1, vocabulary.index("Zürich") + 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(codes, expected)


def test_numbers_are_standardised_and_missing_ones_are_zero(fitted):
    feature = by_name(fitted, "age")
    table = pl.DataFrame({"age": [25.0, None, float("nan"), float("inf"), -float("inf"), 1e30]})
    got = fitted.encode_users(table)["age"]
    assert got.dtype == np.float32
    wanted = (np.float32(25) - np.float32(feature.mean)) / np.float32(feature.std)
    assert got[0] == wanted
    np.testing.assert_array_equal(got[1:5], 0)
    assert np.isfinite(got[5])


def test_tags_are_padded_with_zero_and_unknown_ones_are_skipped(fitted):
    table = pl.DataFrame(
        {"item_id": ["i0", "new", "i1"], "tags": [["all", "?", "group0"], None, []]}
    )
    codes = fitted.encode_items(table)["tags"]
    vocabulary = by_name(fitted, "tags").vocabulary
    first = [vocabulary.index("all") + 1, 0, vocabulary.index("group0") + 1]
    np.testing.assert_array_equal(codes, [first, [0, 0, 0], [0, 0, 0]])


def test_columns_that_a_table_lacks_are_missing_in_every_row(fitted):
    encoded = fitted.encode_items(pl.DataFrame({"item_id": ["i3"]}))
    assert encoded["price"].tolist() == [0.0]
    assert encoded["tags"].tolist() == [[0]]
    assert fitted.encode_users(pl.DataFrame({"user_id": ["u1"]}))["city"].tolist() == [0]


def test_empty_tables_encode_to_no_rows(fitted, shop):
    encoded = fitted.encode_items(shop.items.head(0))
    assert {name: len(values) for name, values in encoded.items()} == dict.fromkeys(encoded, 0)


def test_histories_drop_unknown_items_and_keep_the_last_ones(fitted):
    histories = [["i0", "?", "i1", "i2"], [], ["?"], ["i5"]]
    np.testing.assert_array_equal(
        fitted.encode_history(histories, 2), [[2, 3], [0, 0], [0, 0], [0, 6]]
    )
    assert fitted.encode_history(histories).shape == (4, fitted.history_length)
    assert fitted.encode_history([], 3).shape == (0, 3)
    assert fitted.encode_history([[], []], 3).tolist() == [[0, 0, 0]] * 2


def test_only_the_train_part_is_looked_at():
    events = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1],
            "item_id": [10, 11, 12, 13],
            "timestamp": [1, 2, 3, 4],
            "kind": "event",
            "value": pl.Series([None] * 4, dtype=pl.Float32),
        }
    )
    items = pl.DataFrame(
        {"item_id": [10, 11, 12, 13], "colour": ["a", "b", "late", "later"], "size": [1, 3, 90, 91]}
    )
    dataset = Dataset("d", events, items)
    features = FeatureSet.fit(dataset, leave_one_out(dataset))
    assert by_name(features, "colour").vocabulary == ["a", "b"]
    assert by_name(features, "size").mean == 2.0
    assert by_name(features, "size").std == 1.0
    assert features.item_id.vocabulary == [10, 11, 12, 13]
    assert features.item_id.id_dtype == "int64"
    assert features.encode_history([[13, 99, 10]], 3).tolist() == [[0, 4, 1]]


def test_declared_kinds_override_the_inferred_ones(shop):
    config = apply_overrides(
        Config(), {"data.features.price": "ignore", "data.features.item.title": "categorical"}
    )
    features = FeatureSet.fit(shop, leave_one_out(shop), config)
    names = {f.name for f in features.features}
    assert "price" not in names
    assert by_name(features, "title").kind == "categorical"


def test_a_side_can_be_switched_off(shop):
    config = apply_overrides(Config(), {"model.user_features": False})
    features = FeatureSet.fit(shop, leave_one_out(shop), config)
    assert features.side("user") == []
    assert features.side("item") != []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("prise", "numeric", r"data\.features\.prise: no such column, allowed: .*item\.price"),
        (
            "city",
            "numeric",
            r"user table: column 'city' is declared numeric: row 0 is '.*', expected",
        ),
        ("city", "history", r"data\.features\.city: got kind 'history', expected it for the key"),
        ("history", "numeric", r"data\.features\.history: got kind 'numeric', expected 'history'"),
        ("price", "categorical", r"column 'price' is declared categorical: got Float64, expected"),
        ("city", "multi_categorical", r"'city' is declared multi_categorical: got String, exp"),
        ("tags", "categorical", r"'tags' is declared categorical: got List\(String\), expected"),
    ],
)
def test_declarations_that_do_not_fit_name_column_and_dtype(shop, name, kind, message):
    config = apply_overrides(Config(), {f"data.features.{name}": kind})
    with pytest.raises(DataError, match=message):
        FeatureSet.fit(shop, leave_one_out(shop), config)


def test_a_table_of_another_dtype_is_refused_by_name(fitted):
    with pytest.raises(DataError, match=r"column 'city': got Int64, expected String as in train"):
        fitted.encode_users(pl.DataFrame({"city": [1]}))
    with pytest.raises(DataError, match=r"column 'tags': got String, expected a list column"):
        fitted.encode_items(pl.DataFrame({"item_id": ["i0"], "tags": ["all"]}))
    with pytest.raises(DataError, match=r"column 'item_id': got Int64, expected String"):
        fitted.encode_history([[1, 2]])


def test_reserved_column_names_are_refused(shop):
    users = shop.users.with_columns(history=pl.lit("x"))
    dataset = dataclasses.replace(shop, users=users)
    with pytest.raises(DataError, match="column 'history' is reserved"):
        FeatureSet.fit(dataset, leave_one_out(dataset))


@pytest.mark.parametrize(
    ("side", "name", "message"),
    [
        ("items", "", r"got a column named '', expected a name; drop it .*index=False"),
        ("users", "  ", r"got a column named '  ', expected a name"),
        ("items", "price/usd", r"named 'price/usd', expected one without '/'.*; rename it"),
        ("users", "a\tb", r"without '\\t'.*\"user\.a\\tb\" = \"ignore\" under"),
        ("items", "a\nb", r"named 'a\\nb', expected one without '\\n'"),
        ("users", "source", r"column 'source' is reserved; rename it, or leave it out"),
        ("users", "user_encoder", "is reserved"),
        ("items", "item_embedding", "is reserved"),
        ("items", "popular_score", "is reserved"),
    ],
)
def test_names_that_no_feature_can_have_are_refused_before_training(shop, side, name, message):
    table = getattr(shop, side).with_columns(pl.lit(3).alias(name))
    dataset = dataclasses.replace(shop, **{side: table})
    with pytest.raises(DataError, match=f"^{side[:-1]} table: .*{message}"):
        FeatureSet.fit(dataset, leave_one_out(dataset))
    ignored = apply_overrides(Config(), {"data.features": {f"{side[:-1]}.{name}": "ignore"}})
    fitted = FeatureSet.fit(dataset, leave_one_out(dataset), ignored)
    assert name not in [feature.name for feature in fitted.features]


def test_a_name_with_nul_is_refused_even_where_it_is_no_feature(shop):
    dataset = dataclasses.replace(shop, items=shop.items.with_columns(pl.lit(3).alias("a\0b")))
    config = apply_overrides(Config(), {"data.features": {"item.a\0b": "ignore"}})
    with pytest.raises(DataError, match=r"item table: got a column named 'a\\x00b'.*; rename it"):
        FeatureSet.fit(dataset, leave_one_out(dataset), config)


def test_a_column_that_bundles_write_themselves_is_refused(shop):
    items = shop.items.with_columns(n_events=pl.lit(3))
    with pytest.raises(DataError, match=r"item table: column 'n_events' .* rename it"):
        FeatureSet.fit(dataclasses.replace(shop, items=items), leave_one_out(shop))


def test_aligned_tables_follow_the_ids_and_fill_with_nulls(shop):
    items = align_items(shop, np.array(["i2", "new", "i0"]))
    assert items["item_id"].to_list() == ["i2", "new", "i0"]
    assert items["price"].to_list() == [2.0, None, 0.0]
    users = align_users(dataclasses.replace(shop, users=None), np.array(["u1"]))
    assert users.columns == ["user_id"]


def test_pad_lists_on_both_sides():
    values, lengths = np.arange(1, 7), np.array([3, 0, 1, 2])
    left = pad_lists(values, lengths, 2, align="left")
    right = pad_lists(values, lengths, 4, align="right")
    assert left.tolist() == [[2, 3], [0, 0], [4, 0], [5, 6]]
    assert right.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 4], [0, 0, 5, 6]]


def test_a_constant_number_does_not_divide_by_zero():
    feature = Feature("x", "user", "numeric", "float32", [], 5.0, 1.0)
    assert feature.encode(pl.Series("x", [5])).tolist() == [0.0]
