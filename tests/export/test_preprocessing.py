"""The same raw rows through Keras and through ONNX Runtime, every kind of feature, by property."""

import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import shortlist
from shortlist._columns.requests import RequestSchema, normalise
from shortlist.export.graph import keras_to_onnx
from shortlist.export.lookup import add_lookups
from shortlist.export.writer import export_bundle
from shortlist.training.config.settings import from_toml
from shortlist.training.data.events import Dataset
from shortlist.training.features.features import FeatureSet, align_items
from shortlist.training.fit.fit import TrainedModel
from shortlist.training.graphs.sessions import open_session
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.splits.split import leave_one_out

CONFIG = """
[model]
dim = 8
hidden = 12
history_length = 5
[data.features]
city = { kind = "categorical", missing = "own", min_count = 2 }
plan = { kind = "categorical", max_values = 2 }
likes = { kind = "multi_categorical", separator = "|" }
age = { kind = "numeric", missing = "own", clip = [0.05, 0.95] }
spent = { kind = "numeric", log1p = true }
visits = { kind = "numeric", buckets = 4, missing = "own" }
ratio = { kind = "numeric", standardise = false }
about = { kind = "text", buckets = 512, max_words = 6, max_chars = 12 }
joined = { kind = "timestamp" }
seen = { kind = "timestamp", buckets = 3, unit = "ms", missing = "own" }
taste = { kind = "vector", missing = "own" }
raw = { kind = "vector", unit_length = false }
title = { kind = "text", char_ngrams = 0, lowercase = false, word_ngrams = 1 }
price = { kind = "numeric", log1p = true, clip = [0.1, 0.9], missing = "own" }
tags = "multi_categorical"
added = { kind = "timestamp", parts = ["hour", "weekday"], missing = "own" }
image = "vector"
"""
CITIES = ["Köln", "Köln", "北京", "北京", "rare ☕", None, ""]
TEXTS = [
    "Red SHOE 红色连衣裙 🙂",
    "",
    "Ünïcode e\u0301 I'm 2-in-1",
    None,
    "a",
    "x" * 50,
    "👩‍👩‍👧 ☕",
]
TIMES = [1_700_000_000 + 86_413 * i * i for i in range(40)]
N_USERS, N_ITEMS = 40, 30


def cycle(values, n):
    return [values[i % len(values)] for i in range(n)]


def tables():
    users = pl.DataFrame(
        {
            "user_id": list(range(N_USERS)),
            "city": cycle(CITIES, N_USERS),
            "plan": cycle([1, 2, 2, 3, 3, None], N_USERS),
            "likes": cycle(["a|b", "b | ü", "", None, "|c||"], N_USERS),
            "age": cycle([20.0, 35.5, None, float("nan"), 300.0], N_USERS),
            "spent": [float(i**3 - 50) for i in range(N_USERS)],
            "visits": cycle([0, 0, 1, 2, 5, 9, 40, None], N_USERS),
            "ratio": cycle([0.1, 0.9], N_USERS),
            "about": cycle(TEXTS, N_USERS),
            "joined": [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in TIMES],
            "seen": [t * 1000 + 7 for t in TIMES],
            "taste": cycle([[1.0, -2.0, 0.5], None, [0.0, 0.0, 0.0]], N_USERS),
            "raw": cycle([[1.0, 3.0]], N_USERS),
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(N_ITEMS)],
            "title": cycle(TEXTS, N_ITEMS),
            "price": cycle([1.0, 2.5, 1e6, None], N_ITEMS),
            "tags": cycle([["红", "b"], [], None, ["b"]], N_ITEMS),
            "added": [datetime.date(2024, 1, 1 + i) for i in range(N_ITEMS)],
            "image": cycle([[0.5] * 4, [1.0, 0.0, 0.0, -1.0]], N_ITEMS),
        }
    )
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(N_USERS), 6),
            "item_id": [f"i{(u + k) % N_ITEMS}" for u in range(N_USERS) for k in range(6)],
            "timestamp": [1_700_500_000 + k for _ in range(N_USERS) for k in range(6)],
            "kind": "event",
            "value": pl.Series([None] * (6 * N_USERS), dtype=pl.Float32),
        }
    )
    return Dataset("kinds", events, items, users)


class Both:
    """One untrained model as Keras and as graphs over raw columns."""

    def __init__(self):
        dataset = tables()
        self.split = leave_one_out(dataset)
        config = from_toml(CONFIG)
        self.features = FeatureSet.fit(dataset, self.split, config)
        table = align_items(dataset, self.split.catalogue)
        self.model = TwoTower(config, self.features, self.features.encode_items(table))
        random = np.random.default_rng(5)
        weights = self.model.get_weights()
        self.model.set_weights(
            {k: v + random.normal(0, 0.2, v.shape).astype(np.float32) for k, v in weights.items()}
        )
        self.schemas = {
            side: RequestSchema(
                f"{side}_id",
                "int64" if side == "user" else "string",
                [feature.column for feature in self.features.side(side)],
                "string" if side == "user" else None,
            )
            for side in ("user", "item")
        }
        sides = {
            "user": (
                self.model.serving_user_model(self.model.item_vectors()),
                [self.features.history, *self.features.side("user")],
            ),
            "item": (
                self.model.item_model,
                [self.features.item_id, *self.features.side("item")],
            ),
        }
        self.sessions = {}
        for side, (model, inputs) in sides.items():
            core = keras_to_onnx(model, "embedding")
            graph = add_lookups(core, inputs)
            self.sessions[side] = open_session(graph.SerializeToString(), name=side)

    def keras_users(self, frame, histories):
        codes = self.features.encode_history(histories)
        return self.model.encode_users(codes, self.features.encode_users(frame))

    def onnx(self, side, rows, first):
        columns = normalise(rows, self.schemas[side])
        return self.sessions[side].run(["embedding"], {**first, **columns.features})[0]


@pytest.fixture(scope="module")
def both():
    return Both()


text = st.one_of(
    st.none(),
    st.sampled_from([*[c for c in CITIES if c], *[t for t in TEXTS if t], "", "new", "REd shoe"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
)
number = st.one_of(
    st.none(), st.floats(width=32, allow_infinity=False), st.sampled_from([0.0, -0.0, 3e38])
)
seconds = st.one_of(st.none(), st.integers(-60_000_000_000, 250_000_000_000))


def vector(width):
    finite = st.floats(-1e6, 1e6, width=32)
    return st.one_of(st.none(), st.lists(finite, min_size=width, max_size=width))


user_row = st.fixed_dictionaries(
    {
        "city": text,
        "plan": st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 4)),
        "likes": text,
        "age": number,
        "spent": number,
        "visits": number,
        "ratio": st.one_of(st.none(), st.floats(-10, 10, width=32)),
        "about": text,
        "joined": seconds,
        "seen": seconds,
        "taste": vector(3),
        "raw": st.one_of(st.none(), st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=2)),
    }
)
item_row = st.fixed_dictionaries(
    {
        "title": text,
        "price": number,
        "tags": st.one_of(st.none(), st.lists(text.filter(lambda t: t is not None), max_size=4)),
        "added": seconds,
        "image": vector(4),
    }
)
USER_TYPES = {
    "city": pl.String, "plan": pl.Int64, "likes": pl.String, "age": pl.Float32,
    "spent": pl.Float32, "visits": pl.Float32, "ratio": pl.Float32, "about": pl.String,
    "joined": pl.Int64, "seen": pl.Int64, "taste": pl.List(pl.Float32),
    "raw": pl.List(pl.Float32),
}  # fmt: skip
ITEM_TYPES = {
    "item_id": pl.String, "title": pl.String, "price": pl.Float32, "tags": pl.List(pl.String),
    "added": pl.Int64, "image": pl.List(pl.Float32),
}  # fmt: skip


def hand_on(feature):
    """A graph over one raw column that hands on what the core would get."""
    is_float = feature.form in ("number", "dense")
    dtype = TensorProto.FLOAT if is_float else TensorProto.INT64
    shape = {"codes": ["batch", "length"], "dense": ["batch", feature.n_columns]}
    shape = shape.get(feature.form, ["batch"])
    core = helper.make_graph(
        [helper.make_node("Identity", [feature.name], ["out"])],
        "core",
        [helper.make_tensor_value_info(feature.name, dtype, shape)],
        [helper.make_tensor_value_info("out", dtype, shape)],
    )
    model = helper.make_model(core, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return open_session(add_lookups(model, [feature]).SerializeToString(), name=feature.name)


@pytest.fixture(scope="module")
def handed_on(both):
    return {feature.name: hand_on(feature) for feature in both.features.features}


@pytest.mark.parametrize("side", ["user", "item"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_each_column_gets_the_same_codes_and_numbers(both, handed_on, side, data):
    row, types = (user_row, USER_TYPES) if side == "user" else (item_row, ITEM_TYPES)
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    frame = pl.DataFrame(rows, schema={k: t for k, t in types.items() if k != "item_id"})
    columns = normalise(rows, both.schemas[side])
    for feature in both.features.side(side):
        expected = feature.encode(frame[feature.name])
        raw = {feature.name: columns.features[feature.name]}
        (found,) = handed_on[feature.name].run(["out"], raw)
        if feature.form in ("code", "codes"):
            width = min(expected.shape[-1], found.shape[-1])
            np.testing.assert_array_equal(found[..., :width], expected[..., :width], feature.name)
            assert not found[..., width:].any()
            assert not expected[..., width:].any()
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=feature.name)


@settings(max_examples=20, deadline=None)
@given(st.lists(user_row, min_size=1, max_size=6))
def test_raw_user_rows_give_the_same_embedding_in_keras_and_onnx_runtime(both, rows):
    frame = pl.DataFrame(rows, schema=USER_TYPES)
    history = [["i3", "i4", "?"]] * len(rows)
    expected = both.keras_users(frame, history)
    found = both.onnx("user", rows, {"history": np.array(history, dtype=object)})
    np.testing.assert_allclose(found, expected, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(item_row, min_size=1, max_size=6))
def test_raw_item_rows_give_the_same_embedding_in_keras_and_onnx_runtime(both, rows):
    ids = ["i1", "new", "", "i2", "i3", "i4"][: len(rows)]
    frame = pl.DataFrame([{"item_id": i, **r} for i, r in zip(ids, rows, strict=True)],
                         schema=ITEM_TYPES)  # fmt: skip
    expected = both.model.item_model(both.features.encode_items(frame)).numpy()
    found = both.onnx("item", rows, {"item_id": np.array(ids, dtype=object)})
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_bundle_with_every_kind_passes_the_gate_and_answers_raw_requests(both, tmp_path):
    config = from_toml(CONFIG + "[export]\nparity_users = 40\n")
    run = TrainedModel(config, both.features, both.split, both.model, None, [], tmp_path)
    report = export_bundle(run, tmp_path / "kinds.shortlist")
    assert report.parity.n_users == N_USERS
    users = both.split.dataset.users
    with shortlist.load(tmp_path / "kinds.shortlist") as engine:
        stored = engine.recommend({"user_id": users["user_id"]}, top_n=5)
        history = both.split.dataset.events.group_by("user_id", maintain_order=True).agg("item_id")
        given = users.drop("user_id").with_columns(history=history["item_id"])
        pandas = given.to_pandas().astype({"plan": "Int64"})
        for requests in (given, given.to_arrow(), pandas, given.to_dicts()):
            found = engine.recommend(requests, top_n=5)
            np.testing.assert_array_equal(found.item_ids, stored.item_ids)
        items = engine.encode_items(both.split.dataset.items)
        np.testing.assert_allclose(items, engine.index.vectors(np.arange(len(items))), atol=1e-5)
        many = engine.encode_users(given[[i % N_USERS for i in range(2500)]])
        np.testing.assert_allclose(many[:N_USERS], engine.encode_users(given), atol=1e-6)
        (only_text,) = engine.recommend([{"about": "红色 shoe"}], top_n=5).source
        assert only_text == "features"


def test_every_kind_and_form_is_among_the_tested_features(both):
    kinds = {feature.kind for feature in both.features.features}
    assert kinds == {"categorical", "multi_categorical", "numeric", "text", "timestamp", "vector"}
    assert {f.form for f in both.features.features} == {"code", "codes", "number", "dense"}


def test_the_training_form_of_a_text_sum_equals_the_exported_one(both):
    encoder = both.model.item_encoder.content
    inputs = {k: v for k, v in both.model.item_inputs.items() if k != "item_id"}
    for left, right in zip(encoder(inputs), encoder(inputs, training=True), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
