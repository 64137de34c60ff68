"""Tiny bundles made by hand: whole ones, graphs for hosts included, without TensorFlow."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from tiny_graphs import (
    DIM,
    KINDS,
    STATE,
    followers_graph,
    make_feature,
    scorer_graph,
    step_graph,
    sum_graph,
    table,
    thirds_graph,
)

from shortlist import Index
from shortlist.bundle import Bundle, BundleWriter
from shortlist.export.compression.variant import Recipe, write_variant
from shortlist.export.host_graphs import write_host_graphs
from shortlist.export.lookup import add_lookups
from shortlist.export.parts import Parts
from shortlist.export.passes import tidy
from shortlist.training.config.feature_spec import FeatureSpec

N_ITEMS = 40
GAP = 3600  # seconds between two events, where ages are not told
SCORERS = {
    "sums": scorer_graph,
    "followers": lambda: followers_graph(N_ITEMS),
    "thirds": thirds_graph,
}
USER_FEATURES = [
    make_feature("city", "categorical", "string", ["Köln", "北京"]),
    make_feature("level", "categorical", "int64", [1, 2, 3]),
    make_feature("tags", "multi_categorical", "string", ["a", "b"]),
    make_feature("age", "numeric", "float32", [], 30.0, 10.0),
]
ITEM_FEATURES = [
    make_feature("genres", "multi_categorical", "string", ["drama", "war"], side="item"),
    make_feature("year", "numeric", "float32", [], 1990.0, 5.0, side="item"),
]
STORED_ROWS = {5: [0, 1, 2], 9: [3, 4, 5, 6], 12: []}
STORED_FEATURES = {
    "city": ["Köln", None, "北京"],
    "level": [1, 2, None],
    "tags": [["a", "b"], [], None],
    "age": [40.0, None, 20.0],
}


@dataclass
class World:
    """What a tiny bundle was made from, for tests to compute their own answers.

    Attributes
    ----------
    path : Path
    item_ids, vectors, n_events : ndarray
        By row; vectors as they were given to the index.
    users : dict
        Item rows of the default users' stored histories.
    items, stored : pyarrow.Table
        items.arrow and users.arrow; `stored` is None without users.
    features, item_features : list of Feature
    manifest : dict
    scorer : str or None
        Of `SCORERS`, or no second stage.
    is_compressed : bool
        Its tables and rows are of 8 bits.
    """

    path: Path
    item_ids: np.ndarray
    vectors: np.ndarray
    n_events: np.ndarray
    users: dict
    items: Any
    stored: Any
    features: list
    item_features: list
    manifest: dict
    scorer: str | None
    is_compressed: bool = False


def ids_of(numbers, dtype):
    """Ids of a bundle as its requests hold them."""
    return [f"é{number}" for number in numbers] if dtype == "string" else [*map(int, numbers)]


def make_world(
    path,
    dtype="int64",
    with_users=True,
    user_features=True,
    sign=1,
    *,
    scorer="sums",
    metric="cosine",
    storage="float32",
    numbers=None,
    vectors=None,
    popular_scores=None,
    features=None,
    stored=None,
    has_events=False,
    compressed=False,
    has_state=False,
    **manifest,
):
    """Write a tiny bundle.

    Parameters
    ----------
    path : Path
    dtype : str
        Type of all ids.
    with_users, user_features : bool
        Whether there are stored users, and `USER_FEATURES`.
    sign : int
        −1 turns every item's vector around.
    scorer, metric, storage : str
        Of the second stage (None: there is none) and of the index.
    numbers : sequence of int, optional
        Of the items' ids, by row.
    vectors : ndarray of shape (N_ITEMS, DIM), optional
    popular_scores : sequence of float, optional
        The column `popular_score` of items.arrow.
    features : list of Feature, optional
        In place of `USER_FEATURES`.
    stored : pyarrow.Table, optional
        In place of the default users.
    has_events : bool
        Whether the encoder takes kinds and ages of events.
    compressed : bool
        Keep tables and rows in 8 bits, as `shortlist compress` does.
    has_state : bool
        Whether sessions keep a state: there is a step of the encoder, which takes no events.
    **manifest
        More fields, or others.

    Returns
    -------
    World
    """
    numbers = 100 + 7 * np.arange(N_ITEMS) if numbers is None else np.asarray(numbers)
    item_ids = ids_of(numbers, dtype)
    if features is None:
        features = USER_FEATURES if user_features else []
    if stored is None and with_users:
        stored = default_users(item_ids, dtype)
    if vectors is None:
        vectors = table("item_id", N_ITEMS + 1)[1:]
    world = World(
        Path(path), np.array(item_ids), sign * vectors,
        np.random.default_rng(3).integers(0, 30, N_ITEMS),
        dict(zip(ids_of(STORED_ROWS, dtype), STORED_ROWS.values(), strict=True)),
        None, stored, features, ITEM_FEATURES, {}, scorer,
    )  # fmt: skip
    world.items = item_table(world, dtype, popular_scores)
    world.manifest = manifest_of(world, dtype, metric, storage, has_events) | manifest
    history = make_feature("history", "history", dtype, item_ids)
    item_id = make_feature("item_id", "id", dtype, item_ids)
    with BundleWriter(path) as writer:
        folder = writer.directory
        events = event_features() if has_events else []
        write_encoder(folder / "user_encoder.onnx", [history, *events, *features])
        write_encoder(folder / "item_encoder.onnx", [item_id, *ITEM_FEATURES])
        if has_state:
            write_step(folder / "session_encoder.onnx", [history, *features])
        if scorer:
            onnx.save(SCORERS[scorer](), folder / "scorer.onnx")
        index = Index(world.vectors, world.item_ids, metric, storage=storage)
        index.save(folder / "items.index")
        write_arrow(folder / "items.arrow", world.items)
        if stored is not None:
            write_arrow(folder / "users.arrow", stored)
        write_graphs_for_hosts(folder, world.manifest)
        writer.write_manifest(world.manifest)
        world.path = writer.commit()
    if compressed:
        compress(world)
    return world


def compress(world):
    """Put a bundle of 8-bit tables and rows in a world's place."""
    with Bundle.open(world.path) as bundle, BundleWriter(world.path) as writer:
        recipe = Recipe(int8=True, storage="int8")
        world.manifest |= write_variant(bundle, recipe, writer.directory, [])
        writer.write_manifest(world.manifest)
        writer.commit()
    world.is_compressed = True


def write_encoder(path, features):
    """Write an encoder that takes these features raw."""
    output = "item_embedding" if features[0].kind == "id" else "user_embedding"
    encoder = add_lookups(sum_graph(features, output), features)
    tidy(encoder)
    onnx.save(encoder, path)


def write_step(path, features):
    """Write one step of an encoder that takes these features raw."""
    features = [*features, make_feature(STATE, "vector", "float32", width=DIM)]
    step = add_lookups(step_graph(features), features)
    for node in step.graph.node:  # a state is not brought to unit length, as vectors of requests
        node.input[:] = [STATE if name == f"coded/{STATE}" else name for name in node.input]
    tidy(step)
    onnx.save(step, path)


def event_features():
    return [
        make_feature("history_kinds", "history_kinds", "string", KINDS),
        make_feature("history_ages", "history_ages", "float32", reference=GAP),
    ]


def write_graphs_for_hosts(folder, manifest=None):
    """Write recommend.onnx and recommend_portable.onnx from what lies in a folder.

    For tests that changed an encoder, a scorer, items or the manifest of a bundle: what the old
    graphs answer would be another bundle's answer.
    """
    if manifest is None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with pa.OSFile(str(folder / "items.arrow"), "rb") as file:
        items = pa.ipc.open_file(file).read_all()
    popular = "popular_score" if "popular_score" in items.column_names else "n_events"
    events, second = manifest.get("event_features", {}), manifest.get("second_stage", {})
    scorer = folder / "scorer.onnx"
    parts = Parts(
        encoder=onnx.load(folder / "user_encoder.onnx"),
        features=[
            dataclasses.replace(
                make_feature(f["name"], f["kind"], f["dtype"], f.get("vocabulary", ())),
                spec=FeatureSpec.parse(f["name"], f.get("declared", f["kind"])),
            )
            for f in manifest["features"] if f["side"] == "user"
        ],
        gap=float(events["history_ages"]["gap"]) if "history_ages" in events else None,
        has_kinds="history_kinds" in events,
        max_history=manifest["max_history"],
        item_ids=np.array(items.column("item_id").to_pylist()),
        popularity=np.array(items.column(popular).to_pylist(), np.float32),
        scorer=onnx.load(scorer) if scorer.exists() else None,
        n_candidates=second.get("n_candidates", 1),
        history_length=second.get("history_length", 1),
    )  # fmt: skip
    (folder / "graphs.data").unlink(missing_ok=True)  # all is in memory, and written again
    write_host_graphs(parts, Index.load(folder / "items.index"), folder, portable=True)


def item_table(world, dtype, popular_scores=None):
    rows = np.arange(N_ITEMS)
    columns = {
        "item_id": pa.array(world.item_ids.tolist(), arrow_type(dtype)),
        "title": [f"Film {i} ☕" if i % 5 else None for i in rows],
        "n_events": pa.array(world.n_events, pa.int64()),
        "year": pa.array(1980 + rows, pa.int64()),
        "genres": [["drama"] if i % 2 else ["war", "drama"] for i in rows],
    }
    if popular_scores is not None:
        columns["popular_score"] = pa.array(popular_scores, pa.float32())
    return pa.table(columns)


def default_users(item_ids, dtype):
    histories = [[item_ids[row] for row in rows] for rows in STORED_ROWS.values()]
    return pa.table(
        {
            "user_id": pa.array(ids_of(STORED_ROWS, dtype), arrow_type(dtype)),
            "history": pa.array(histories, pa.list_(arrow_type(dtype))),
            **STORED_FEATURES,
        }
    )


def arrow_type(dtype):
    return pa.string() if dtype == "string" else pa.int64()


def manifest_of(world, dtype, metric, storage, has_events):
    return {
        "created": "2026-01-01T00:00:00+00:00",
        "metric": metric,
        "storage": storage,
        "dim": DIM,
        "n_items": N_ITEMS,
        "n_users": 0 if world.stored is None else world.stored.num_rows,
        "max_history": 6,
        "item_id_dtype": dtype,
        "user_id_dtype": dtype,
        "features": [describe(feature) for feature in (*world.features, *world.item_features)],
        "event_features": {f.name: {"gap": GAP} if f.form == "ages" else {}
                           for f in event_features() if has_events},
        "versions": {"shortlist": "0.1.0"},
        "metrics": {"test": {"HR@10": 0.25}},
        "parity": {"n_users": 10, "top_n": 10},
        "second_stage": {"is_kept": True, "n_candidates": 12, "history_length": 4},
        "training": {"model": {"dim": DIM}},
    }  # fmt: skip


def describe(feature):
    told = {"name": feature.name, "side": feature.side, "kind": feature.kind,
            "dtype": feature.id_dtype}  # fmt: skip
    if (declared := feature.spec.to_value()) != feature.kind:
        told["declared"] = declared
    if feature.kind in ("categorical", "multi_categorical"):
        return told | {"n_vocabulary": len(feature.vocabulary), "vocabulary": feature.vocabulary}
    if feature.kind == "vector":
        return told | {"width": feature.width}
    if feature.kind == "timestamp":
        return told | {"unit": "s", "reference": feature.reference}
    if feature.kind == "numeric":
        return told | {"mean": feature.mean, "std": feature.std}
    return told


def write_arrow(path, content):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, content.schema) as writer:
        writer.write_table(content)


# Of a tiny bundle with users and a scorer, beside its manifest.
BUNDLE_FILES = (
    "user_encoder.onnx",
    "item_encoder.onnx",
    "scorer.onnx",
    "items.index",
    "items.arrow",
    "users.arrow",
    "recommend.onnx",
    "recommend_portable.onnx",
    "graphs.data",
)


def edit_manifest(path, change):
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def rewritten(copy, files):
    """Write a bundle again as an attacker would: other files, and a manifest that fits them.

    Parameters
    ----------
    copy : Path
        Of a bundle; the result lies beside it.
    files : dict of str to bytes or None
        What becomes of files, old and new ones; None leaves one out.

    Returns
    -------
    Path
    """
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    with BundleWriter(copy.parent / "again.shortlist") as writer:
        for file in copy.iterdir():
            if file.name not in (*files, "manifest.json"):
                shutil.copy(file, writer.directory)
        for name, content in files.items():
            if content is not None:
                (writer.directory / name).write_bytes(content)
        writer.write_manifest({key: v for key, v in manifest.items() if key != "files"})
        return writer.commit()
