"""Raw values in, the same codes as FeatureSet's numpy encoders: by example and by property."""

from functools import lru_cache

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from shortlist._columns.requests import MISSING_INT
from shortlist.export.errors import ExportError
from shortlist.export.lookup import add_lookups
from shortlist.training.features.features import Feature
from shortlist.training.graphs.sessions import open_session

CITIES = ["北京", "Köln", "a", "A", "naïve ☕", " ", "\u00e9", "e\u0301"]
TEXT_TAGS = Feature("tags", "user", "multi_categorical", "string", CITIES)
INT_TAGS = Feature(
    "years", "user", "multi_categorical", "int64", [-(2**63) + 1, -1, 0, 7, 2**63 - 1]
)
CITY = Feature("city", "user", "categorical", "string", CITIES)
LEVEL = Feature("level", "user", "categorical", "int64", [3, -1, 2**62])
AGE = Feature("age", "user", "numeric", "float32", [], 33.25, 0.1)
TEXT_HISTORY = Feature("history", "user", "history", "string", CITIES)
INT_HISTORY = Feature("history", "user", "history", "int64", [50, 172, -4])
ALL = (TEXT_TAGS, INT_TAGS, CITY, LEVEL, AGE)


def echo(features):
    """A core graph that hands its codes on, all in one float64 (batch, …) output."""
    inputs, nodes, columns = [], [], []
    for feature in features:
        is_list = feature.kind in ("history", "multi_categorical")
        dtype = TensorProto.FLOAT if feature.kind == "numeric" else TensorProto.INT64
        shape = ["batch", "length"] if is_list else ["batch"]
        inputs.append(helper.make_tensor_value_info(feature.name, dtype, shape))
        nodes.append(
            helper.make_node("Cast", [feature.name], [f"{feature.name}_f"], to=TensorProto.DOUBLE)
        )
        if not is_list:
            nodes.append(
                helper.make_node("Unsqueeze", [f"{feature.name}_f", "one"], [f"{feature.name}_c"])
            )
        columns.append(f"{feature.name}_f" if is_list else f"{feature.name}_c")
    nodes.append(helper.make_node("Concat", columns, ["codes"], axis=1))
    output = helper.make_tensor_value_info("codes", TensorProto.DOUBLE, ["batch", "all"])
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "echo", inputs, [output], initializer=[one])
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@lru_cache
def session_of(*names):
    features = [f for f in (*ALL, TEXT_HISTORY, INT_HISTORY) if (f.name, f.id_dtype) in names]
    return open_session(add_lookups(echo(features), features).SerializeToString(), name="codes")


def run(features, raw):
    session = session_of(*((feature.name, feature.id_dtype) for feature in features))
    return session.run(["codes"], raw)[0]


def padded(rows, missing, dtype):
    width = max(map(len, rows), default=0) or 1
    return np.array([[*row, *[missing] * (width - len(row))] for row in rows], dtype=dtype)


text = st.one_of(st.sampled_from([*CITIES, "", "unknown", "köln"]), st.text(max_size=5)).filter(
    lambda value: "\x00" not in value and value.isprintable()
)
integer = st.one_of(
    st.sampled_from([3, -1, 0, 7, 2**62, MISSING_INT]), st.integers(-(2**63), 2**63 - 1)
)
number = st.one_of(
    st.none(), st.floats(width=32), st.sampled_from([float("nan"), float("inf"), 0.0])
)
row = st.tuples(
    st.lists(text, max_size=4),
    st.lists(integer, max_size=4),
    st.one_of(st.none(), text),
    st.one_of(st.none(), integer),
    number,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=8))
def test_raw_rows_through_onnx_equal_the_numpy_reference(rows):
    tags, years, cities, levels, ages = zip(*rows, strict=True)
    frame = pl.DataFrame(
        {"tags": tags, "years": years, "city": cities, "level": levels, "age": ages},
        schema={
            "tags": pl.List(pl.String),
            "years": pl.List(pl.Int64),
            "city": pl.String,
            "level": pl.Int64,
            "age": pl.Float32,
        },
    )
    reference = {feature.name: feature.encode(frame[feature.name]) for feature in ALL}
    raw = {
        "tags": padded(tags, "", object),
        "years": padded(years, MISSING_INT, np.int64),
        "city": np.array([value or "" for value in cities], dtype=object),
        "level": np.array([MISSING_INT if v is None else v for v in levels], dtype=np.int64),
        "age": np.array([np.nan if v is None else v for v in ages], dtype=np.float32),
    }
    found = run(ALL, raw)
    expected = np.concatenate(
        [np.asarray(reference[f.name], np.float64).reshape(len(rows), -1) for f in ALL], axis=1
    )
    np.testing.assert_array_equal(found, expected)


def test_unknown_padding_and_missing_all_become_code_0_and_equal_looking_text_stays_apart():
    history = np.array([["", "北京", "unknown", "\u00e9", "e\u0301", " "]], dtype=object)
    assert run([TEXT_HISTORY], {"history": history}).tolist() == [[0, 1, 0, 7, 8, 6]]
    integers = np.array([[MISSING_INT, 50, 51, -4]])
    assert run([INT_HISTORY], {"history": integers}).tolist() == [[0, 1, 0, 3]]


def test_fixed_width_unicode_arrays_work_like_objects():
    history = np.array([["", "Köln", "naïve ☕"]])
    assert history.dtype.kind == "U"
    assert run([TEXT_HISTORY], {"history": history}).tolist() == [[0, 2, 5]]


def test_dynamic_dims_of_history_and_tags_are_named_apart():
    features = [TEXT_HISTORY, TEXT_TAGS]
    graph = add_lookups(echo(features), features).graph
    dims = {v.name: [d.dim_param for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert dims == {
        "history": ["batch", "length"],
        "tags": ["batch", "n_tags"],
    }


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Feature("city", "user", "categorical", "string", ["a", ""]), "'' means missing"),
        (Feature("city", "user", "categorical", "int64", [MISSING_INT]), "means missing"),
        (Feature("city", "user", "categorical", "string", ["a", "a"]), "each known value once"),
        (Feature("town", "user", "categorical", "string", ["a"]), r"\['city'\] more"),
        (Feature("city", "user", "multi_categorical", "string", ["a"]), "input of 2 dimensions"),
    ],
)
def test_a_feature_that_does_not_fit_is_an_export_error(feature, message):
    with pytest.raises(ExportError, match=message):
        add_lookups(echo([CITY]), [feature])


def test_an_empty_vocabulary_knows_nothing():
    empty = Feature("city", "user", "categorical", "string", [])
    graph = add_lookups(echo([empty]), [empty])
    session = open_session(graph.SerializeToString(), name="codes")
    raw = np.array(["", "x"], dtype=object)
    assert session.run(["codes"], {"city": raw})[0].tolist() == [[0], [0]]


def test_the_core_is_not_changed():
    core = echo([CITY])
    before = core.SerializeToString()
    add_lookups(core, [CITY])
    assert onnx.ModelProto.FromString(before) == core
