"""How an engine is put together from the files of a bundle."""

from shortlist._catalogue import Catalogue
from shortlist._columns import MISSING_INT
from shortlist._graphs import Graphs
from shortlist._manifest import problem
from shortlist._recommend import Recommender
from shortlist._second_stage import SecondStage
from shortlist._tables import UserTable
from shortlist.bundle import Bundle
from shortlist.index import Index
from shortlist.requests import FeatureColumn, RequestSchema


def load_index(bundle: Bundle) -> Index:
    """Read the index; it must be what the manifest says."""
    index = Index.load(bundle.file("items.index"))
    manifest = bundle.manifest
    found = {
        "n_items": len(index),
        "dim": index.dim,
        "metric": index.metric,
        "storage": index.storage,
        "item_id_dtype": "string" if index._core.view().has_string_ids else "int64",
    }
    for key, value in found.items():
        if value != manifest[key]:
            where = f"{bundle.path.name}/items.index"
            raise problem(where, f"the manifest's {key} {manifest[key]}", f"{value}")
    return index


def features_of(bundle: Bundle, side: str) -> list[FeatureColumn]:
    """Return the features of "user" or "item" as requests carry them."""
    return [
        FeatureColumn.from_manifest(f) for f in bundle.manifest["features"] if f["side"] == side
    ]


def request_schema(bundle: Bundle) -> RequestSchema:
    """Return the columns that requests of a bundle may have."""
    manifest = bundle.manifest
    return RequestSchema(
        "user_id",
        manifest["user_id_dtype"],
        features_of(bundle, "user"),
        manifest["item_id_dtype"],
        tuple(manifest.get("event_features", {})),
    )


def open_recommender(
    bundle: Bundle, graphs: Graphs, first: Catalogue, n_threads: int
) -> Recommender:
    """Open the user encoder, the users and the second stage, as far as the bundle has them."""
    manifest, users, second = bundle.manifest, None, None
    user_ids, item_ids = manifest["user_id_dtype"], manifest["item_id_dtype"]
    events = manifest.get("event_features", {})
    if bundle.has("users.arrow"):
        path, n_users = bundle.file("users.arrow"), manifest["n_users"]
        users = UserTable(path, n_users, user_ids, item_ids, tuple(events))
    schema = request_schema(bundle)
    if bundle.has("scorer.onnx"):
        where = f"{bundle.path.name}/scorer.onnx"
        if "second_stage" not in manifest:
            raise problem("manifest.json", "a field 'second_stage' beside scorer.onnx", "none")
        second = SecondStage(graphs, manifest["second_stage"], where)
    return Recommender(
        graphs.encoder("user", "history", schema),
        schema,
        first,
        users,
        second,
        event_features=events,
        max_history=manifest["max_history"],
        missing_id="" if item_ids == "string" else MISSING_INT,
        n_threads=n_threads,
    )
