"""A tiny bundle made by hand with onnx.helper: serving is tested without TensorFlow."""

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortlist import Index
from shortlist.bundle import BundleWriter
from shortlist.export.lookup import add_lookups
from shortlist.training.feature import Feature

DIM = 8
N_ITEMS = 40


def make_feature(name, kind, dtype, vocabulary, mean=0.0, std=1.0, side="user"):
    """A fitted feature, as add_lookups wants it."""
    return Feature(name, side, kind, dtype, vocabulary, mean, std)


def table(name, n_codes):
    """A random embedding table (n_codes, DIM) float32 whose row 0 (missing) is zero."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    values = np.random.default_rng(seed).normal(size=(n_codes, DIM)).astype(np.float32)
    values[0] = 0
    return values


def sum_graph(features, output):
    """A core graph: the sum of every code's table row and of number × vector."""
    inputs, nodes, weights, terms = [], [], [], []
    for feature in features:
        name, is_list = feature.name, feature.kind in ("history", "multi_categorical")
        is_number = feature.kind == "numeric"
        inputs.append(
            helper.make_tensor_value_info(
                name,
                TensorProto.FLOAT if is_number else TensorProto.INT64,
                ["batch", "length"] if is_list else ["batch"],
            )
        )
        values = table(
            "item_id" if feature.kind == "history" else name, len(feature.vocabulary) + 1
        )
        if is_number:
            values = np.ones((1, DIM), np.float32)
            nodes.append(helper.make_node("Unsqueeze", [name, "last"], [f"{name}_c"]))
            nodes.append(helper.make_node("Mul", [f"{name}_c", f"{name}_w"], [f"{name}_e"]))
        else:
            nodes.append(helper.make_node("Gather", [f"{name}_w", name], [f"{name}_g"]))
            kind = "ReduceSum" if is_list else "Identity"
            sources = [f"{name}_g", "one"] if is_list else [f"{name}_g"]
            options = {"keepdims": 0} if is_list else {}
            nodes.append(helper.make_node(kind, sources, [f"{name}_e"], **options))
        weights.append(numpy_helper.from_array(values, f"{name}_w"))
        terms.append(f"{name}_e")
    nodes.append(helper.make_node("Sum", terms, [output]))
    weights.append(numpy_helper.from_array(np.array([1]), "one"))
    weights.append(numpy_helper.from_array(np.array([-1]), "last"))
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIM])
    graph = helper.make_graph(nodes, output, inputs, [result], initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def scorer_graph():
    """A scorer: candidate code + (sum of the history's codes) · similarity."""
    inputs = [
        helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("candidates", TensorProto.INT64, ["batch", "n"]),
        helper.make_tensor_value_info("similarity", TensorProto.FLOAT, ["batch", "n"]),
    ]
    nodes = [
        helper.make_node("Cast", ["candidates"], ["code"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["history"], ["codes"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["codes", "one"], ["total"], keepdims=1),
        helper.make_node("Mul", ["similarity", "total"], ["product"]),
        helper.make_node("Add", ["product", "code"], ["score"]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", "n"])
    one = [numpy_helper.from_array(np.array([1]), "one")]
    graph = helper.make_graph(nodes, "scorer", inputs, [output], initializer=one)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@dataclass
class World:
    """What the tiny bundle was made from, for tests to compute their own answers."""

    path: object
    item_ids: np.ndarray
    vectors: np.ndarray
    n_events: np.ndarray
    users: dict


def make_world(path, dtype="int64", with_users=True, user_features=True, sign=1):
    is_text = dtype == "string"
    id_dtype = pa.string() if is_text else pa.int64()

    def ids(numbers):
        return [f"é{number}" for number in numbers] if is_text else [int(n) for n in numbers]

    item_ids = np.array(ids(100 + 7 * np.arange(N_ITEMS)))
    vocabulary = item_ids.tolist()
    features = [
        make_feature("city", "categorical", "string", ["Köln", "北京"]),
        make_feature("level", "categorical", "int64", [1, 2, 3]),
        make_feature("tags", "multi_categorical", "string", ["a", "b"]),
        make_feature("age", "numeric", "float32", [], 30.0, 10.0),
    ]
    features = features if user_features else []
    item_features = [
        make_feature("genres", "multi_categorical", "string", ["drama", "war"], side="item"),
        make_feature("year", "numeric", "float32", [], 1990.0, 5.0, side="item"),
    ]
    history = make_feature("history", "history", dtype, vocabulary)
    item_id = make_feature("item_id", "id", dtype, vocabulary)
    vectors = sign * table("item_id", N_ITEMS + 1)[1:]
    n_events = np.random.default_rng(3).integers(0, 30, N_ITEMS)
    users = {5: [0, 1, 2], 9: [3, 4, 5, 6], 12: []}
    user_ids = ids(users)
    with BundleWriter(path) as writer:
        user_graph = add_lookups(
            sum_graph([history, *features], "user_embedding"), [history, *features]
        )
        item_graph = add_lookups(
            sum_graph([item_id, *item_features], "item_embedding"), [item_id, *item_features]
        )
        for name, graph in (
            ("user_encoder", user_graph),
            ("item_encoder", item_graph),
            ("scorer", scorer_graph()),
        ):
            onnx.save(graph, writer.directory / f"{name}.onnx")
        Index(vectors, item_ids, "cosine").save(writer.directory / "items.index")
        items = {
            "item_id": pa.array(vocabulary, id_dtype),
            "title": [f"Film {i} ☕" if i % 5 else None for i in range(N_ITEMS)],
            "n_events": pa.array(n_events, pa.int64()),
            "year": pa.array(1980 + np.arange(N_ITEMS), pa.int64()),
            "genres": [["drama"] if i % 2 else ["war", "drama"] for i in range(N_ITEMS)],
        }
        write_arrow(writer.directory / "items.arrow", pa.table(items))
        if with_users:
            stored = {
                "user_id": pa.array(user_ids, id_dtype),
                "history": pa.array(
                    [[vocabulary[row] for row in rows] for rows in users.values()],
                    pa.list_(id_dtype),
                ),
                "city": ["Köln", None, "北京"],
                "level": [1, 2, None],
                "tags": [["a", "b"], [], None],
                "age": [40.0, None, 20.0],
            }
            write_arrow(writer.directory / "users.arrow", pa.table(stored))
        writer.write_manifest(manifest_fields(dtype, features, item_features, len(users)))
        writer.commit()
    stored_rows = dict(zip(user_ids, users.values(), strict=True))
    return World(path, item_ids, vectors, n_events, stored_rows)


def manifest_fields(dtype, features, item_features, n_users):
    return {
        "created": "2026-01-01T00:00:00+00:00",
        "metric": "cosine",
        "storage": "float32",
        "dim": DIM,
        "n_items": N_ITEMS,
        "n_users": n_users,
        "max_history": 6,
        "item_id_dtype": dtype,
        "user_id_dtype": dtype,
        "features": [
            {
                "name": f.name,
                "side": f.side,
                "kind": f.kind,
                "dtype": f.id_dtype,
                "n_vocabulary": len(f.vocabulary),
                "vocabulary": f.vocabulary,
                "mean": f.mean,
                "std": f.std,
            }
            for f in (*features, *item_features)
        ],
        "versions": {"shortlist": "0.1.0"},
        "metrics": {"test": {"HR@10": 0.25}},
        "parity": {"n_users": 10, "top_n": 10},
        "second_stage": {"is_kept": True, "n_candidates": 12, "history_length": 4},
        "training": {"model": {"dim": DIM}},
    }


def write_arrow(path, content):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, content.schema) as writer:
        writer.write_table(content)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Integer ids, users, four kinds of user features, a scorer."""
    return make_world(tmp_path_factory.mktemp("int") / "tiny.shortlist")


@pytest.fixture(scope="session")
def text_world(tmp_path_factory):
    """String ids, otherwise the same."""
    return make_world(tmp_path_factory.mktemp("text") / "tiny.shortlist", "string")


@pytest.fixture(scope="session")
def plain_world(tmp_path_factory):
    """Histories only: no users, no user features."""
    path = tmp_path_factory.mktemp("plain") / "tiny.shortlist"
    return make_world(path, with_users=False, user_features=False)


@pytest.fixture(scope="session")
def make_tiny_bundle():
    """Build one more tiny bundle at a path."""
    return make_world


@pytest.fixture(scope="session")
def engine(world):
    import shortlist.engine

    with shortlist.engine.load(world.path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def text_engine(text_world):
    import shortlist.engine

    with shortlist.engine.load(text_world.path) as loaded:
        yield loaded
