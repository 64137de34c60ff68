"""Stored users come in the graph's own form, so that every engine reads them as Python does."""

import datetime
import importlib.util
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import shortlist
from shortlist._columns.requests import FeatureColumn
from shortlist.export import export_bundle
from shortlist.export.tables import stored_feature, to_plain_arrow, user_table
from shortlist.training.config.settings import apply_overrides, load_config
from shortlist.training.data.events import Dataset
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.fit import TrainedModel, build_model
from shortlist.training.splits.split import make_split

N_USERS, N_ITEMS = 40, 30
DAY = datetime.date(2021, 3, 1)
# Every kind, written in every way that a table may write it.
VALUES = {
    "age": lambda i: None if i % 5 == 0 else 20.0 + i,
    "visits": lambda i: None if i % 7 == 0 else i - 3,
    "city": lambda i: ["Köln", "北京", None, ""][i % 4],
    "level": lambda i: [3, 1, None][i % 3],
    "member": lambda i: [True, False, None][i % 3],
    "tags": lambda i: ["a|b", " b | c ", "", None, "||a"][i % 5],
    "topics": lambda i: [["x", "y"], [], None, ["y", None, ""]][i % 4],
    "shops": lambda i: [[3, 1], [], None, [1, None]][i % 4],
    "joined": lambda i: [f"2021-03-0{i % 9 + 1}T10:00:00+02:00", None, "1969-12-31", ""][i % 4],
    "seen": lambda i: None if i % 6 == 0 else 1_600_000_000_123 + 86_400_000 * i,
    "born": lambda i: None if i % 3 == 0 else DAY - datetime.timedelta(days=400 * i),
    "met": lambda i: None if i % 4 == 0 else datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000),
    "taste": lambda i: None if i % 5 == 0 else [float(i), -1.5, 0.25],
    "about": lambda i: ["Likes old films", None, ""][i % 3],
}
DECLARED = {
    "visits": "numeric",
    "city": "categorical",
    "level": "categorical",
    "member": "categorical",
    "tags": {"kind": "multi_categorical", "separator": "|"},
    "topics": "multi_categorical",
    "shops": "multi_categorical",
    "joined": "timestamp",
    "seen": {"kind": "timestamp", "unit": "ms", "missing": "own"},
    "born": "timestamp",
    "met": {"kind": "timestamp", "buckets": 4},
    "taste": "vector",
    "about": {"kind": "text", "buckets": 50},
}


@pytest.fixture(scope="module")
def world():
    random = np.random.default_rng(2)
    rows = [
        (user, int(item), 100 * place + user)
        for user in range(N_USERS)
        for place, item in enumerate(random.permutation(N_ITEMS)[: random.integers(2, 9)])
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    events = events.with_columns(
        pl.lit("event").alias("kind"), pl.lit(None, pl.Float32).alias("value")
    )
    users = pl.DataFrame(
        {"user_id": range(N_USERS)}
        | {name: [value(i) for i in range(N_USERS)] for name, value in VALUES.items()}
    )
    dataset = Dataset("toy", events, None, users)
    config = apply_overrides(
        load_config(),
        {
            "model.dim": 8,
            "model.hidden": 12,
            "model.history_length": 6,
            "export.parity_users": 30,
            "data.features": DECLARED,
        },
    )
    split = make_split(dataset, "leave-one-out")
    return dataset, config, split, FeatureSet.fit(dataset, split, config)


def columns_of(features):
    """The user features as the engine reads them from requests and from users.arrow."""
    return {
        f.name: FeatureColumn(
            f.name, f.kind, f.id_dtype, width=f.width, unit=f.spec.unit, separator=f.spec.separator
        )
        for f in features.side("user")
    }


def test_every_kind_is_there(world):
    kinds = {feature.kind for feature in world[3].side("user")}
    assert {f.name for f in world[3].side("user")} == set(VALUES)
    assert kinds == {
        "numeric", "categorical", "multi_categorical", "timestamp", "vector", "text"
    }  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_what_is_stored_reads_as_what_was_given(name, world):
    dataset, _, _, features = world
    feature = next(f for f in features.side("user") if f.name == name)
    column = columns_of(features)[name]
    given = to_plain_arrow(dataset.users.select(name)).column(name)
    stored = stored_feature(feature, given)
    expected, found = column.read(given), column.read(stored)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
    is_given = column.is_given(expected)
    if feature.kind != "multi_categorical":
        assert (~np.array(stored.is_null())).tolist() == is_given.tolist()


def test_the_types_are_plain_ones(world):
    dataset, _, _, features = world
    table = user_table(dataset, features)
    expected = {
        "age": pa.float32(),
        "visits": pa.float32(),
        "city": pa.string(),
        "level": pa.int64(),
        "member": pa.int64(),
        "tags": pa.list_(pa.field("item", pa.string())),
        "topics": pa.list_(pa.field("item", pa.string())),
        "shops": pa.list_(pa.field("item", pa.int64())),
        "joined": pa.timestamp("s"),
        "seen": pa.timestamp("s"),
        "born": pa.timestamp("s"),
        "met": pa.timestamp("s"),
        "taste": pa.list_(pa.field("item", pa.float32())),
        "about": pa.string(),
    }
    assert {name: table.schema.field(name).type for name in expected} == expected


@pytest.fixture(scope="module")
def bundle(world, tmp_path_factory):
    dataset, config, split, features = world
    model = build_model(config, features, dataset, split)
    run = TrainedModel(config, features, split, model, None, [], Path("toy.run"))
    return export_bundle(run, tmp_path_factory.mktemp("users") / "toy.shortlist").path


def test_stored_users_are_answered_as_requests_that_give_the_same(bundle, world):
    dataset = world[0]
    users = dataset.users
    histories = dataset.events.group_by("user_id", maintain_order=True).agg("item_id")
    by_user = dict(histories.iter_rows())
    given = {name: users[name] for name in VALUES}
    given["history"] = [by_user[user] for user in users["user_id"]]
    with shortlist.load(bundle) as engine:
        expected = engine.recommend(given, top_n=5)
        stored = engine.recommend({"user_id": users["user_id"].to_list()}, top_n=5)
        cold = engine.recommend({name: given[name] for name in VALUES}, top_n=5)
    assert stored.item_ids.tolist() == expected.item_ids.tolist()
    assert stored.scores.tobytes() == expected.scores.tobytes()
    assert set(cold.source) <= {"features", "popular"}


def test_the_c_engine_answers_every_stored_user_as_python_does(bundle):
    folder = Path(__file__).parents[1] / "plugin"
    sys.path += [str(folder / "c_engine"), str(folder / "c_abi")]
    c_engine = importlib.import_module("c_engine")
    users = np.arange(N_USERS)
    with shortlist.load(bundle) as engine, c_engine.CEngine(bundle) as other:
        expected = engine.recommend({"user_id": users}, top_n=5)
        found = other.recommend([c_engine.column("user_id", users)], N_USERS, 5)
        assert np.array_equal(found.rows, expected.indices)
        assert found.scores.tobytes() == expected.scores.tobytes()
