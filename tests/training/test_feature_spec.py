import pytest

from shortlist.errors import DataError
from shortlist.training.config.feature_spec import KINDS, PARAMETERS, FeatureSpec
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides, from_toml, to_toml


def test_a_kind_alone_and_a_table_are_the_same_declaration():
    assert FeatureSpec.parse("x", "numeric") == FeatureSpec.parse("x", {"kind": "numeric"})
    assert FeatureSpec.parse("x", "numeric") == FeatureSpec("numeric")


def test_toml_and_python_declare_alike_and_survive_writing():
    config = from_toml(
        '[data.features]\nprice = { kind = "numeric", log1p = true, clip = [0.01, 0.99] }\n'
        '"item.added" = { kind = "timestamp", parts = ["weekday", "age"], buckets = 8 }\n'
        'title = "text"\n'
    )
    again = from_toml(to_toml(config))
    assert again == config
    parse = FeatureSpec.parse
    price = parse("price", again.data.features["price"])
    assert price == FeatureSpec("numeric", log1p=True, clip=(0.01, 0.99))
    assert parse("added", again.data.features["item.added"]).parts == ("age", "weekday")
    assert parse("title", again.data.features["title"]).buckets > 0


def test_a_flag_can_declare_a_table_and_python_a_spec():
    text = apply_overrides(Config(), {"data.features.x": '{kind = "numeric", buckets = 5}'})
    spec = apply_overrides(Config(), {"data.features.x": FeatureSpec("numeric", buckets=5)})
    assert text == spec
    assert text.data.features["x"] == {"kind": "numeric", "buckets": 5}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_its_parameters_and_no_others(kind):
    names = {name for names in PARAMETERS.values() for name in names}
    defaults = FeatureSpec(kind)
    for name in sorted(names - set(PARAMETERS[kind])):
        with pytest.raises(DataError, match=rf"x: parameter of {kind}: got '{name}', allowed"):
            FeatureSpec.parse("x", {"kind": kind, name: getattr(defaults, name)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"x: got 3, expected a kind or a table such as"),
        ({"buckets": 3}, r"x: got \{'buckets': 3\}, expected a kind or a table"),
        ("numbers", r"x: got 'numbers', allowed: categorical.*did you mean 'numeric'"),
        ({"kind": "text", "bucket": 3}, r"x: parameter of text: got 'bucket'.*did you mean 'buck"),
        ({"kind": "numeric", "buckets": 1}, r"x\.buckets: got 1, expected 0 or at least 2"),
        ({"kind": "numeric", "buckets": True}, r"x\.buckets: got True, expected a whole number"),
        ({"kind": "numeric", "buckets": -1}, r"x\.buckets: got -1, expected a whole number from 0"),
        ({"kind": "numeric", "log1p": 1}, r"x\.log1p: got 1, expected true or false"),
        ({"kind": "numeric", "missing": "drop"}, r"x\.missing: got 'drop', allowed: neutral, own"),
        ({"kind": "numeric", "clip": [0.9, 0.1]}, r"x\.clip: got \[0\.9, 0\.1\], expected two qua"),
        ({"kind": "numeric", "clip": 0.1}, r"x\.clip: got 0\.1, expected two quantiles"),
        ({"kind": "timestamp", "parts": []}, r"x\.parts: got \[\], expected some of"),
        ({"kind": "timestamp", "parts": ["month"]}, r"x\.parts: got \['month'\], expected some of"),
        ({"kind": "timestamp", "unit": "m"}, r"x\.unit: got 'm', allowed: s, ms, us"),
        ({"kind": "multi_categorical", "separator": 3}, r"x\.separator: got 3, expected text"),
        (
            {"kind": "history", "event_kinds": False, "ages": False},
            r"^x\.event_kinds: got false and ages false, expected one of them true",
        ),
        (
            {"kind": "text", "word_ngrams": 0, "char_ngrams": 0},
            r"x\.word_ngrams: got 0 and char_ngrams 0, expected at least one",
        ),
    ],
)
def test_a_wrong_declaration_names_key_value_and_what_is_allowed(value, message):
    with pytest.raises(DataError, match=message):
        FeatureSpec.parse("x", value)


def test_a_wrong_declaration_in_python_is_refused_too():
    with pytest.raises(DataError, match="categorical: got 'log1p', allowed: min_count"):
        FeatureSpec("categorical", log1p=True)
    with pytest.raises(DataError, match="kind: got 'id', allowed: categorical"):
        FeatureSpec("id")
