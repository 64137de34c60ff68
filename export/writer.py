"""`export_bundle`: a trained run in, a verified bundle out, or an error and nothing written."""

import dataclasses
import datetime
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import onnx

import shortlist
from shortlist._catalogue.items import popularity_of
from shortlist.bundle import BundleWriter
from shortlist.bundle.storages import Storage
from shortlist.export.graph import check_parity, keras_to_onnx, random_batches
from shortlist.export.half import ROUNDING, half_products
from shortlist.export.host_graphs import BATCH, check_host_graphs, write_host_graphs
from shortlist.export.lineage import lineage_of
from shortlist.export.lookup import add_lookups
from shortlist.export.parity import MAX_SCORES, Parity, request_batches
from shortlist.export.parity import check_parity as check_bundle
from shortlist.export.parts import Parts
from shortlist.export.passes import tidy
from shortlist.export.released import (
    check_source,
    read_released,
    refuse_unreleased,
    released_fields,
)
from shortlist.export.second_stage import describe_reranker
from shortlist.export.tables import follower_table, item_table, user_table, write_table
from shortlist.index import Index
from shortlist.loading import load
from shortlist.shards.sharded import write_beside
from shortlist.training.features.features import Feature
from shortlist.training.fit.fit import TrainedModel
from shortlist.training.fit.second_stage import fit_followers
from shortlist.training.models.linear import LinearModel
from shortlist.training.models.session import STATE, session_model
from shortlist.training.splits.held_out import describe_training_events


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    path : Path
        The bundle.
    parity : Parity
        What the parity gate found.
    graph_differences : dict
        Largest difference of Keras and ONNX Runtime on random inputs, by graph.
    size : int
        Bytes of all files.
    privacy : str
        What a private bundle promises, as a sentence; empty of any other.
    """

    path: Path
    parity: Parity
    graph_differences: dict[str, float]
    size: int
    privacy: str = ""


def export_bundle(
    run: TrainedModel, out: str | os.PathLike[str], *, store_users: bool = True
) -> ExportReport:
    """Export a trained run to a bundle.

    Parameters
    ----------
    run : TrainedModel
        From `shortlist.training.fit.fit.train` or `load_run`.
    out : str or path
        NAME.shortlist; an existing bundle there is replaced in one step at the very end.
    store_users : bool
        Put users' features and histories into the bundle, so that `user_id` alone is a request.

    Returns
    -------
    ExportReport

    Raises
    ------
    ExportError
        A graph does not convert, or the parity gate fails. Nothing is written then.
    BundleError
        `out` is not a name for a bundle.
    """
    released = read_released(run.run_dir)
    if released is not None:
        check_source(run.split.dataset.name, released)
    store_users = store_users and released is None
    with BundleWriter(out) as writer:
        vectors = run.two_tower.refresh()
        differences = write_graphs(run, vectors, writer.directory)
        storage = cast(Storage, run.config.export.storage)  # the settings allow no other value
        index = Index(vectors, run.split.catalogue, run.two_tower.metric, storage=storage)
        index.save(writer.directory / "items.index")
        if run.config.export.shards > 1:
            write_beside(writer.directory, index, run.config.export.shards)
        model = run.two_tower
        popular = model.popular_scores() if isinstance(model, LinearModel) else None
        if released is None:
            items = item_table(run.split, popular)
        else:
            popular = released.popular if popular is None else popular
            items = item_table(run.split, popular, released.n_events)
        write_table(writer.directory / "items.arrow", items)
        followers = None if released is None else released.followers
        followers = followers or fit_followers(run.split, run.config.scorer)
        write_table(writer.directory / "followers.arrow", follower_table(followers))
        parts = _host_parts(run, items, writer.directory)
        write_host_graphs(parts, index, writer.directory, portable=run.config.export.portable)
        n_users = 0
        if store_users:
            users = user_table(run.split.dataset, run.features)
            n_users = users.num_rows
            write_table(writer.directory / "users.arrow", users)
        fields = _manifest_fields(run, index, n_users)
        if released is not None:
            fields = released_fields(fields, released, run.split.protocol)
            refuse_unreleased(writer.directory, fields)
        writer.write_manifest(fields | {"parity": {}})
        del vectors, index, parts  # as large as the bundle, which the gate loads
        parity = _gate(run, writer.directory)
        manifest = writer.write_manifest(fields | {"parity": parity.to_dict()})
        path = writer.commit()
    promise = "" if manifest.privacy is None else manifest.privacy.sentence
    return ExportReport(path, parity, differences, manifest.size, promise)


def write_graphs(run: TrainedModel, vectors: Any, directory: Path) -> dict[str, float]:
    """Convert the encoders and the scorer, check each against Keras, write them.

    The scorer is left out if the second stage did not help on validation.

    Returns
    -------
    dict of str to float
        Largest difference to Keras on random inputs, by graph.
    """
    features, two_tower = run.features, run.two_tower
    opset = run.config.export.opset
    encoders: dict[str, tuple[keras.Model, list[Feature]]] = {
        "user": (
            two_tower.serving_user_model(vectors),
            [*features.history_inputs, *features.side("user")],
        ),
        "item": (two_tower.item_model, [features.item_id, *features.side("item")]),
    }
    differences = {}
    for side, (model, inputs) in encoders.items():
        dims = {
            feature.name: ("batch", f"n_{feature.name}")
            for feature in inputs
            if feature.form == "codes" and not feature.kind.startswith("history")
        }
        codes = {f.name: f.n_codes for f in inputs if f.form in ("code", "codes")}
        core = keras_to_onnx(model, f"{side}_embedding", dims=dims, n_codes=codes, opset=opset)
        batches = random_batches(model, codes, seed=run.config.train.seed)
        differences[f"{side}_encoder"] = check_parity(core, model, batches)
        if side == "user" and run.config.export.precision == "float16":
            core = half_products(core)
            differences["user_encoder"] = check_parity(core, model, batches, tolerance=ROUNDING)
        onnx.save(add_lookups(core, inputs), directory / f"{side}_encoder.onnx")
    differences |= _write_session(run, vectors, directory)
    if run.scorer is not None and run.reranker_report is not None and run.reranker_report.is_kept:
        model, n_codes = run.scorer.model, features.item_id.n_codes
        pairs = ("batch", "n_candidates")
        dims = {"candidates": pairs, "similarity": pairs}
        codes = {"history": n_codes, "candidates": n_codes}
        graph = keras_to_onnx(model, "score", dims=dims, n_codes=codes, opset=opset)
        batches = random_batches(model, codes)
        differences["scorer"] = check_parity(graph, model, batches)
        onnx.save(graph, directory / "scorer.onnx")
    return differences


def _write_session(run: TrainedModel, vectors: Any, directory: Path) -> dict[str, float]:
    """Write one step of a recurrent encoder, where it has a state; see `write_graphs`."""
    features, settings = run.features, run.config
    session = session_model(run.two_tower, vectors)
    if session is None:
        return {}
    state = Feature(
        STATE, "user", "vector", "float32", [], width=int(session.input[STATE].shape[1])
    )
    inputs = [*features.history_inputs, *features.side("user"), state]
    dims = {f.name: ("batch", f"n_{f.name}") for f in features.side("user") if f.form == "codes"}
    codes = {f.name: f.n_codes for f in inputs if f.form in ("code", "codes")}
    core = keras_to_onnx(session, "session", dims=dims, n_codes=codes, opset=settings.export.opset)
    for node in core.graph.node:  # of one item each: lengths say nothing
        if node.op_type == "GRU":
            node.input[4] = ""
    batches = random_batches(session, codes, seed=settings.train.seed)
    graph = add_lookups(core, inputs)
    for node in graph.graph.node:  # a vector of requests is brought to unit length, a state is not
        for i, name in enumerate(node.input):
            node.input[i] = STATE if name == f"coded/{STATE}" else name
    tidy(graph)
    onnx.save(graph, directory / "session_encoder.onnx")
    return {"session_encoder": check_parity(core, session, batches)}


def _host_parts(run: TrainedModel, items: Any, directory: Path) -> Parts:
    """Collect what the graphs for hosts are made of; encoder and scorer as written before."""
    features, scorer = run.features, directory / "scorer.onnx"
    session = directory / "session_encoder.onnx"
    ages = [feature for feature in features.event_features if feature.form == "ages"]
    return Parts(
        encoder=onnx.load(directory / "user_encoder.onnx"),
        features=features.side("user"),
        gap=float(ages[0].reference) if ages else None,
        has_kinds=any(feature.form != "ages" for feature in features.event_features),
        max_history=features.history_length,
        item_ids=np.asarray(items.column("item_id").to_pylist()),
        popularity=popularity_of(items),
        scorer=onnx.load(scorer) if scorer.exists() else None,
        session=onnx.load(session) if session.exists() else None,
        reranker=None if run.scorer is None else describe_reranker(run.scorer),
        n_candidates=1 if run.reranker_report is None else run.reranker_report.n_candidates,
        history_length=1 if run.reranker_report is None else run.reranker_report.history_length,
    )


def _gate(run: TrainedModel, directory: Path) -> Parity:
    """Compare the bundle with Keras, and its graphs for hosts with its engine."""
    settings = run.config.export
    n_users, top_n = settings.parity_users, settings.parity_top_n
    with load(directory, device="cpu") as engine:
        parity = check_bundle(run, engine, n_users=n_users, top_n=top_n)
        at_once = max(1, min(BATCH, MAX_SCORES // len(engine.index)))
        batches = request_batches(run, n_users, at_once)
        graphs = check_host_graphs(engine, batches, top_n=top_n)
    return dataclasses.replace(parity, graphs=graphs)


def _manifest_fields(run: TrainedModel, index: Index, n_users: int) -> dict[str, Any]:
    features = run.features
    users = run.split.dataset.events["user_id"].dtype
    now = datetime.datetime.now(datetime.UTC)
    return {
        "created": now.isoformat(timespec="seconds"),
        "lineage": lineage_of(run, now),
        "versions": _versions(),
        "metric": index.metric,
        "storage": index.storage,
        **({} if index.recall is None else {"recall": index.recall}),
        "dim": index.dim,
        "n_items": features.n_items,
        "n_users": n_users,
        "max_history": features.history_length,
        "item_id_dtype": features.item_id.id_dtype,
        "user_id_dtype": "int64" if users.is_integer() else "string",
        "features": [_describe(feature) for feature in features.features],
        "event_features": {
            feature.name: {"gap": feature.reference} if feature.form == "ages" else {}
            for feature in features.event_features
        },
        **_second_stage(run),
        "metrics": _plain({"validation": run.metrics} if run.metrics else {}),
        "training": _plain(
            {
                "data": _data(run),
                "epochs": len(run.history),
                "config": dataclasses.asdict(run.config),
            }
        ),
    }


def _second_stage(run: TrainedModel) -> dict[str, Any]:
    """Say whether the second stage is there and what it changes; nothing without a scorer."""
    return {"second_stage": _plain(run.reranker_report.to_dict())} if run.reranker_report else {}


def _describe(feature: Feature) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": feature.name,
        "side": feature.side,
        "kind": feature.kind,
        "dtype": feature.id_dtype,
    }
    if (declared := feature.spec.to_value()) != feature.kind:
        told["declared"] = declared
    match feature.kind:
        case "numeric":
            return told | {"mean": feature.mean, "std": feature.std}
        case "vector":
            return told | {"width": feature.width}
        case "timestamp":
            return told | {"unit": feature.spec.unit, "reference": feature.reference}
        case "text":
            return told
    if feature.spec.separator:
        told["separator"] = feature.spec.separator
    told["n_vocabulary"] = len(feature.vocabulary)
    if feature.side == "user":  # the engine asks which values of a request are known
        told["vocabulary"] = list(feature.vocabulary)
    return told


def _data(run: TrainedModel) -> dict[str, Any]:
    split = run.split
    return {
        "name": split.dataset.name,
        "protocol": split.protocol,
        "n_events": split.dataset.events.height,
        "n_train": split.train.height,
        "n_valid": split.valid.height,
        "n_test": split.test.height,
        **describe_training_events(split),
    }


def _versions() -> dict[str, str]:
    import onnxruntime
    import tensorflow
    import tf2onnx

    return {
        "shortlist": shortlist.__version__,
        "python": platform.python_version(),
        "tensorflow": tensorflow.__version__,
        "keras": keras.__version__,
        "tf2onnx": tf2onnx.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _plain(value: Any) -> Any:
    """Make values JSON can hold: tuples to lists, NumPy numbers to Python's, NaN to None."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
