"""What each kind of feature makes of a column, by example and by an independent reference."""

import datetime
import re

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.config.feature_spec import FeatureSpec
from shortlist.training.features.feature import Feature
from shortlist.training.features.fitting import fit_feature

NAN = float("nan")


def fit(values, kind, dtype=None, reference=None, **parameters):
    column = pl.Series("x", values, dtype=dtype)
    return fit_feature(column, "item", FeatureSpec(kind, **parameters), reference=reference)


def encode(feature, values, dtype=None):
    return feature.encode(pl.Series("x", values, dtype=dtype))


def test_rare_categories_are_unknown_and_the_commonest_stay():
    values = ["a"] * 3 + ["b"] * 5 + ["c"] * 2 + ["d", "", None]
    assert fit(values, "categorical", min_count=2).vocabulary == ["a", "b", "c"]
    assert fit(values, "categorical", max_values=2).vocabulary == ["a", "b"]
    assert fit([2, 1, 1, 3, 3], "categorical", max_values=2).vocabulary == [1, 3]


def test_a_missing_category_can_have_a_code_of_its_own():
    feature = fit(["a", "b"], "categorical", missing="own")
    assert encode(feature, ["b", None, "", "new"]).tolist() == [2, 3, 3, 0]
    assert feature.n_codes == 4
    neutral = fit(["a", "b"], "categorical")
    assert encode(neutral, ["b", None, "", "new"]).tolist() == [2, 0, 0, 0]
    integers = fit([5, 7], "categorical", missing="own")
    assert encode(integers, [7, None, 9], pl.Int64).tolist() == [2, 3, 0]


def test_tags_can_come_as_one_text():
    feature = fit(["a|b", " b | c ", None, ""], "multi_categorical", separator="|")
    assert feature.vocabulary == ["a", "b", "c"]
    assert encode(feature, ["c|a", "", None, "|b|"]).tolist() == [[3, 1], [0, 0], [0, 0], [2, 0]]
    assert encode(feature, [["c", "a"], []]).tolist() == [[3, 1], [0, 0]]


def test_numbers_are_clipped_at_quantiles_then_logged_then_standardised():
    values = [0.0, 1.0, 2.0, 3.0, 1000.0]
    feature = fit(values, "numeric", clip=(0.0, 0.75), log1p=True)
    assert (feature.low, feature.high) == (0.0, 3.0)
    logs = np.log1p([0, 1, 2, 3, 3])
    expected = (np.log1p([0, 3, 3]) - logs.mean()) / logs.std()
    np.testing.assert_allclose(encode(feature, [-5.0, 3.0, 1e9]), expected, rtol=1e-5)
    signed = fit([1.0], "numeric", log1p=True, standardise=False)
    np.testing.assert_allclose(
        encode(signed, [-3.0, 0.0, 3.0]), [-np.log(4), 0, np.log(4)], rtol=1e-6
    )


def test_missing_numbers_are_neutral_or_marked():
    values = [1.0, 3.0]
    assert encode(fit(values, "numeric"), [None, NAN, float("inf"), 3.0]).tolist() == [0, 0, 0, 1]
    own = fit(values, "numeric", missing="own")
    assert encode(own, [None, NAN, 3.0]).tolist() == [[0, 1], [0, 1], [1, 0]]


def test_buckets_hold_equally_many_and_edges_belong_to_the_upper_one():
    feature = fit(list(map(float, range(8))), "numeric", buckets=4, missing="own")
    assert feature.bounds == [2.0, 4.0, 6.0]
    codes = encode(feature, [-1.0, 1.9, 2.0, 5.0, 6.0, 99.0, None, NAN])
    assert codes.tolist() == [1, 1, 2, 3, 4, 4, 5, 5]
    assert feature.n_codes == 6
    few = fit([1.0, 1.0, 1.0, 2.0], "numeric", buckets=4)
    assert encode(few, [1.0, 2.0, None]).tolist() == [1, 2, 0]
    assert encode(fit([3.0, 3.0], "numeric", buckets=9), [3.0, 4.0, None]).tolist() == [1, 1, 0]


def test_times_become_age_and_circles():
    newest = int(datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC).timestamp())
    feature = fit([newest, newest - 86_400 * 3], "timestamp", reference=newest)
    monday_six = datetime.datetime(2024, 4, 29, 6)
    (row,) = encode(feature, [monday_six])
    ages = np.log1p([0.0, 3.0])
    age = (np.log1p(1.75) - ages.mean()) / ages.std()
    np.testing.assert_allclose(row, [age, 1, 0, 0, 1], atol=1e-6)  # 6 h: a quarter; Monday: 0
    assert encode(feature, [None], pl.Int64).tolist() == [[0, 0, 0, 0, 0]]
    before_1970 = encode(feature, [-1])[0]
    assert np.isfinite(before_1970).all()
    future = encode(feature, [newest + 10**6])[0]
    assert future[0] == encode(feature, [newest])[0][0]  # the future has age 0


def test_times_become_buckets():
    feature = fit([0, 86_400, 2 * 86_400, 3 * 86_400], "timestamp", reference=3 * 86_400,
                  buckets=2, missing="own")  # fmt: skip
    assert feature.bounds == [2 * 86_400]
    # 1970-01-01 was a Thursday: day 3 of a week that starts on Monday
    assert encode(feature, [0, 3 * 86_400 + 7200]).tolist() == [[2, 3, 30], [1, 5, 33]]
    assert encode(feature, [None], pl.Int64).tolist() == [[feature.n_codes - 1, 0, 0]]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_714_500_000], "s"),
        ([1_714_500_000_123], "ms"),
        ([1_714_500_000_123_456], "us"),
        ([1_714_500_000.9], "s"),
        ([datetime.datetime(2024, 4, 30, 18)], "s"),
        (pl.Series("x", [datetime.datetime(2024, 4, 30, 18)]).dt.cast_time_unit("ns"), "ms"),
        (["2024-04-30T18:00:00Z"], "s"),
        (["2024-04-30 20:00:00+02:00"], "s"),
    ],
)
def test_times_may_come_in_any_usual_type(values, unit):
    ticks = {"s": 1, "ms": 1000, "us": 10**6}[unit]
    feature = fit([0, 2_000_000_000 * ticks], "timestamp", unit=unit)
    reference = fit([0, 2_000_000_000], "timestamp")
    np.testing.assert_array_equal(
        feature.encode(pl.Series("x", values)), encode(reference, [1_714_500_000])
    )


def test_vectors_get_length_1_and_zero_stays_zero():
    feature = fit([[3.0, 4.0], None], "vector", missing="own")
    got = encode(feature, [[3.0, 4.0], None, [0.0, 0.0]], pl.List(pl.Float64))
    np.testing.assert_allclose(got, [[0.6, 0.8, 0], [0, 0, 1], [0, 0, 0]], rtol=1e-6)
    plain = fit([[3, 4]], "vector", unit_length=False)
    assert encode(plain, [[3, 4]]).tolist() == [[3, 4]]
    fixed = fit([[1.0, 2.0]], "vector", dtype=pl.Array(pl.Float32, 2))
    assert fixed.width == 2


def murmur3(text, seed=0):
    """MurmurHash3 x86_32, written from its published description."""
    data, mask = text.encode(), 0xFFFFFFFF
    h = seed

    def mix(k):
        k = k * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) & mask
        return k * 0x1B873593 & mask

    n = len(data) // 4 * 4
    for i in range(0, n, 4):
        h ^= mix(int.from_bytes(data[i : i + 4], "little"))
        h = (h << 13 | h >> 19) & mask
        h = (h * 5 + 0xE6546B64) & mask
    if data[n:]:
        h ^= mix(int.from_bytes(data[n:], "little"))
    h ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor & mask
    return h ^ h >> 16


def expected_codes(text, spec):
    prime, factor = 2**31 - 1, 1_000_003
    small = "".join(c.lower() if c.isascii() else c for c in text)
    words = re.findall(r"[\u4e00-\u9fff]|[🙂☕]|(?:(?![\u4e00-\u9fff])\w)+", small)
    words = words[: spec.max_words]
    found = set()
    for tokens, lengths, offset in (
        (words, range(1, spec.word_ngrams + 1), 0),
        (list(small[: spec.max_chars]), [spec.char_ngrams], spec.buckets),
    ):
        for length in lengths:
            for i in range(len(tokens) - length + 1):
                value = (murmur3(tokens[i]) + length) % prime
                for token in tokens[i + 1 : i + length]:
                    value = (value * factor + murmur3(token)) % prime
                found.add(value * factor % prime % spec.buckets + 1 + offset)
    return found


@pytest.mark.parametrize(
    "text",
    ["Red SHOE", "红色连衣裙 Summer裙", "🙂 Ünï ☕☕", "a", "", "  ", "x y " * 30, "2-in-1 naïve"],
)
def test_text_is_hashed_as_documented(text):
    spec = FeatureSpec("text", buckets=4096, max_words=8, max_chars=20)
    feature = Feature("x", "item", "text", "string", spec=spec)
    (codes,) = encode(feature, [text])
    assert set(codes[codes > 0].tolist()) == expected_codes(text, spec)
    assert codes.max() < feature.n_codes


def test_empty_and_missing_text_have_no_codes():
    feature = Feature("x", "item", "text", "string", spec=FeatureSpec("text"))
    assert encode(feature, ["", None]).tolist() == [[0], [0]]
    assert encode(feature, [], pl.String).shape == (0, 1)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            [1, 2],
            "text",
            r"'x' is declared text: got Int64, as .* 'categorical' or 'numeric'",
        ),
        (
            [1, 2],
            "multi_categorical",
            "got Int64, as every cell is one number, expected text",
        ),
        (["yesterday"], "timestamp", r"item table: column 'x' row 0 is 'yesterday', expected ISO"),
        ([1e18], "timestamp", r"item table: column 'x' row 0 is 1e\+18, expected a time in 's'"),
        ([True], "timestamp", r"item table: column 'x' row 0 is bool True, expected a time"),
        ([1.5], "vector", r"'x' is declared vector: got Float64, expected a list of numbers"),
        ([[1.0], [1.0, 2.0]], "vector", r"item table: column 'x' row \d has \d numbers, expected"),
        ([[1.0, NAN]], "vector", r"item table: column 'x' row 0, entry 1 is nan, expected a fin"),
        ([[]], "vector", r"'x' row 0 has 0 numbers, expected from 1"),
        (["a"], "numeric", r"column 'x' is declared numeric: row 0 is 'a', expected"),
        (["a,b"], "multi_categorical", r"'x' is declared multi_categorical: got String, expected"),
    ],
)
def test_columns_that_do_not_fit_their_kind_name_table_column_and_row(values, kind, message):
    with pytest.raises(DataError, match=message):
        fit(values, kind)


def test_fitted_features_survive_json_ready_dicts():
    features = [
        fit([1.0, 2.0, 5.0], "numeric", clip=(0.1, 0.9), log1p=True),
        fit([1.0, 2.0, 5.0], "numeric", buckets=3),
        fit([[1.0, 2.0]], "vector"),
        fit([5, 8], "timestamp", reference=9),
        fit(["a"], "text", buckets=16),
    ]
    assert [Feature.from_dict(feature.to_dict()) for feature in features] == features
