"""How an engine is put together from the files of a bundle."""

from collections.abc import Callable
from typing import Any, NamedTuple

from shortlist._batching import Batching
from shortlist._catalogue import Catalogue
from shortlist._columns import MISSING_INT
from shortlist._fixed_batches import FixedEncoder
from shortlist._graph_search import (
    CALIBRATED_BATCHES,
    PORTABLE_GRAPH,
    GraphSearch,
    random_histories,
)
from shortlist._graphs import Graphs
from shortlist._manifest import problem
from shortlist._recommend import Asked, Recommender
from shortlist._second_stage import SecondStage
from shortlist._sessions import provider_of
from shortlist._tables import UserTable, map_file
from shortlist.bundle import Bundle
from shortlist.errors import BundleError
from shortlist.index import Index
from shortlist.requests import Columns, FeatureColumn, RequestSchema


def load_index(bundle: Bundle) -> Index:
    """Read the index; it must be what the manifest says."""
    path = bundle.file("items.index")
    try:
        index = Index.load(path)
    except BundleError as error:  # it names the open folder by a number
        raise BundleError(str(error).replace(str(path), f"{bundle.name}/{path.name}")) from None
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
            where = f"{bundle.name}/items.index"
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


class Settings(NamedTuple):
    """How an engine runs every bundle that is put into it; see `shortlist.load`."""

    device: str
    n_threads: int
    batching: Batching
    search: str = "auto"
    fixed_batches: tuple[int, ...] = ()


def open_recommender(
    bundle: Bundle, graphs: Graphs, first: Catalogue, settings: Settings
) -> Recommender:
    """Open the user encoder, the users and the second stage, as far as the bundle has them."""
    manifest, users, second = bundle.manifest, None, None
    user_ids, item_ids = manifest["user_id_dtype"], manifest["item_id_dtype"]
    events = manifest.get("event_features", {})
    if bundle.has("users.arrow"):
        file, n_users = map_file(bundle.file("users.arrow")), manifest["n_users"]
        users = UserTable(file, n_users, user_ids, item_ids, tuple(events))
    schema = request_schema(bundle)
    if bundle.has("scorer.onnx"):
        where = f"{bundle.name}/scorer.onnx"
        if "second_stage" not in manifest:
            raise problem("manifest.json", "a field 'second_stage' beside scorer.onnx", "none")
        second = SecondStage(graphs, manifest["second_stage"], where)
    recommender = Recommender(
        _open_encoder(graphs, schema, manifest["max_history"], settings.fixed_batches),
        schema,
        first,
        users,
        second,
        event_features=events,
        max_history=manifest["max_history"],
        missing_id="" if item_ids == "string" else MISSING_INT,
        n_threads=settings.n_threads,
    )
    recommender.graph_search = _open_graph_search(bundle, graphs, first, recommender, settings)
    return recommender


def _open_encoder(
    graphs: Graphs, schema: RequestSchema, max_history: int, fixed_batches: tuple[int, ...]
) -> Any:
    encoder = graphs.encoder("user", "history", schema)
    if not fixed_batches:
        return encoder

    def open_session(cuda_graphs: bool) -> Any:
        return graphs.with_cuda_graphs("user_encoder") if cuda_graphs else encoder

    device = "cpu" if provider_of(encoder) == "CPUExecutionProvider" else "cuda"
    return FixedEncoder(open_session, fixed_batches, max_history, device)


def _open_graph_search(
    bundle: Bundle,
    graphs: Graphs,
    first: Catalogue,
    recommender: Recommender,
    settings: Settings,
) -> GraphSearch | None:
    """Open the portable graph where it was asked for, or may be faster than the index."""
    is_on_cpu = graphs.providers()["user_encoder"] == "CPUExecutionProvider"
    if settings.search == "index" or (settings.search == "auto" and is_on_cpu):
        return None
    if not bundle.has(PORTABLE_GRAPH):
        if settings.search == "auto":
            return None
        where = f"{bundle.name}/{PORTABLE_GRAPH}"
        raise problem(where, "the graph that search='graph' runs", "no such file; export with it")
    has_scorer = recommender.second is not None
    missing_id: Any = "" if bundle.manifest["item_id_dtype"] == "string" else MISSING_INT
    session = graphs.session(PORTABLE_GRAPH.removesuffix(".onnx"))
    search = GraphSearch(session, first, missing_id, has_scorer=has_scorer)
    if settings.search == "auto":
        recommender.graph_search = search
        search.calibrate(_calibration_calls(recommender, first, bundle.manifest["max_history"]))
    return search


def _calibration_calls(
    recommender: Recommender, first: Catalogue, max_history: int
) -> Callable[[int], Any]:
    histories = random_histories(max(CALIBRATED_BATCHES), first.view.n_rows, max_history)
    ids = [first.ids[rows] for rows in histories]
    asked = Asked(min(10, first.view.n_rows), True, 1 if recommender.second is None else 2)
    return lambda n: recommender.answer(Columns(n, None, ids[:n]), first, None, asked)
