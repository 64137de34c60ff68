"""One loaded bundle: all that a call of the engine reads. A swap puts another in its place."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist import _checks
from shortlist._batching import Batcher
from shortlist._catalogue import Catalogue, Upserted, first_catalogue, removed, upserted
from shortlist._columns import Array, id_column
from shortlist._fixed_batches import FixedEncoder
from shortlist._graphs import Graphs
from shortlist._item_rows import read_items, said_of
from shortlist._items import ItemTable
from shortlist._opening import Settings, features_of, load_index, open_recommender
from shortlist._recommend import Answer, Asked, cut
from shortlist._second_stage import check_stages
from shortlist._tables import map_file
from shortlist._where import check_length
from shortlist.bundle import Bundle
from shortlist.errors import BundleError
from shortlist.index import simd_level
from shortlist.recommendations import Recommendations
from shortlist.requests import Columns, RequestSchema, normalise
from shortlist.threads import get_num_threads

if TYPE_CHECKING:
    from shortlist._feedback_serving import Extras


class Version:
    """A bundle with its index, item table and graphs.

    Whoever has begun with a version finishes with it; its memory and the temporary files of a
    zipped bundle go when the last of them is done.

    Attributes
    ----------
    number : int
        1, and one more for every version that an engine opened after its first.
    state : Catalogue
        The items now; whoever changes them puts the next state in its place.
    """

    def __init__(self, bundle: Bundle, number: int, settings: Settings) -> None:
        self.bundle = bundle
        self.number = number
        self.index = load_index(bundle)
        items = ItemTable(map_file(bundle.file("items.arrow")), self.index.item_ids)
        self.state = first_catalogue(self.index, items)
        self.item_schema = RequestSchema("item_id", self.item_id_dtype, features_of(bundle, "item"))
        under_load = number > 1
        self.graphs = Graphs(bundle, settings.device, settings.n_threads, under_load=under_load)
        self.recommender = open_recommender(bundle, self.graphs, self.state, settings)
        self.batcher = self._make_batcher(settings) if settings.batching.max_batch > 1 else None
        weakref.finalize(self, bundle.close)

    @property
    def item_id_dtype(self) -> str:
        """Type of item ids: "int64" or "string"."""
        return str(self.bundle.manifest["item_id_dtype"])

    @property
    def user_id_dtype(self) -> str:
        """Type of user ids: "int64" or "string"."""
        return str(self.bundle.manifest["user_id_dtype"])

    def asked(
        self, top_n: int, exclude_seen: bool, stages: Any, extras: Extras | None = None
    ) -> Asked:
        """Return what a call wants; `stages` must fit this bundle."""
        told = self.bundle.manifest.get("second_stage", {})
        n_stages = check_stages(stages, self.recommender.second, told)
        return Asked(top_n, exclude_seen, n_stages, extras)

    def recommend(self, columns: Columns, where: Any, asked: Asked) -> Recommendations:
        """Answer checked requests, with all that the call wants."""
        if asked.extras is not None:
            return asked.extras.recommend(self, columns, where, asked)
        return self.answer(columns, where, asked)

    def answer(self, columns: Columns, where: Any, asked: Asked) -> Recommendations:
        """Answer checked requests from one state of the items."""
        state = self.state
        check_length(where, columns.n_requests)
        _checks.check_places(columns.n_requests, asked.top_n, state.view.n_rows)
        if self.batcher is not None and columns.n_requests == 1 and where is None:
            whole = self.batcher.answer(columns, state, asked)
        else:
            whole = self.recommender.answer(columns, state, where, asked)
        return Recommendations(
            state.ids[whole.rows],
            whole.scores,
            whole.counts,
            whole.rows,
            whole.source,
            whole.stages,
            state.items,
            self.number,
        )

    def _make_batcher(self, settings: Settings) -> Batcher:
        recommender = self.recommender  # not self: a version goes with its last call

        def answer(columns: Columns, state: Catalogue, asked: Asked) -> Answer:
            return recommender.answer(columns, state, None, asked)

        n_at_once = max(1, get_num_threads() // (settings.n_threads or get_num_threads()))
        return Batcher(answer, recommender.schema, settings.batching, n_at_once)

    def report(self) -> dict[str, Any]:
        """Say where what runs: providers and nodes of each open graph, and how items are found."""
        search, encoder = self.recommender.graph_search, self.recommender.encoder
        return {
            "providers": self.graphs.providers(),
            "nodes": self.graphs.nodes(),
            "search": f"cpu, {simd_level()}",
            "graph_search": None if search is None else search.report(),
            "fixed_batches": encoder.report() if isinstance(encoder, FixedEncoder) else None,
            "batching": None if self.batcher is None else self.batcher.report(),
        }

    def upsert_items(self, items: Any) -> Upserted:
        """Add or change items; see `Engine.upsert_items`. One writer at a time."""
        state = self.state
        item_ids, table, given = read_items(items, state, self.item_schema)
        if len(item_ids) == 0:
            return Upserted(0, 0, 0)
        is_new = state.rows_of(item_ids) < 0
        features = [n for n in self.item_schema.features if n in table.column_names]
        changed = is_new | bool(given.intersection(features))
        vectors = self.no_embeddings()
        if changed.any():
            raw = table.select(["item_id", *features]).filter(changed)
            vectors = self.encode_items(raw)
        self.state = upserted(state, self.index, item_ids, table, changed, vectors)
        n_unknown = int((~vectors.any(axis=1) & is_new[changed]).sum())
        return Upserted(int(is_new.sum()), int((~is_new).sum()), n_unknown)

    def remove_items(self, item_ids: Any) -> int:
        """Remove items and say how many were known. One writer at a time."""
        ids = np.unique(id_column("item_id", item_ids, self.item_id_dtype))
        known = ids[self.state.rows_of(ids) >= 0]
        if len(known):
            self.state = removed(self.state, self.index, known)
        return len(known)

    def encode_items(self, table: Any) -> Array:
        """Return embeddings (n_rows, dim) of items from their raw columns."""
        schema = self.item_schema
        with said_of("table"):
            columns = normalise(table, schema)
        session = self.graphs.encoder("item", "item_id", schema)
        parts = []
        for _, part in cut(columns):
            n = part.n_requests
            ids = (
                part.ids
                if part.ids is not None
                else id_column("item_id", [None] * n, self.item_id_dtype)
            )
            feeds = {"item_id": ids}
            for name, feature in schema.features.items():
                feeds[name] = part.features[name] if name in part.features else feature.missing(n)
            parts.append(session.run(["item_embedding"], feeds)[0])
        return np.concatenate(parts) if parts else self.no_embeddings()

    def no_embeddings(self) -> Array:
        """Return embeddings of nothing, (0, dim)."""
        return np.empty((0, self.index.dim), dtype=np.float32)

    def warm(self, graphs: Iterable[str]) -> None:
        """Open these graphs as far as the bundle has them, and answer once in every way.

        What else is opened is opened for a caller that waits, no longer in the background.
        """
        for name in graphs:
            if self.bundle.has(f"{name}.onnx"):
                self.graphs.session(name)
        requests = {"history": [[], [], self.state.ids[:-1][:1].tolist()]}
        columns = normalise(requests, self.recommender.schema)
        for stages in (1, 2):
            self.recommender.answer(columns, self.state, None, Asked(1, True, stages))
        self.graphs.begin_to_serve()

    def close(self) -> None:
        """Let go of the graphs and of a zipped bundle's files, once batches under way are done."""
        if self.batcher is not None:
            self.batcher.drain()
        self.graphs.close()
        self.bundle.close()


def open_version(
    path: str | os.PathLike[str], number: int, settings: Settings, *, verify: bool
) -> Version:
    """Open, verify and load a bundle; where others are being served, beside their requests."""
    bundle = Bundle.open(path, verify=verify, under_load=number > 1)
    try:
        return Version(bundle, number, settings)
    except BaseException:
        bundle.close()
        raise


def check_same_ids(new: Version, old: Version) -> None:
    """Refuse a bundle whose ids are of another type than those that callers send."""
    for side in ("item", "user"):
        got, expected = (getattr(version, f"{side}_id_dtype") for version in (new, old))
        if got != expected:
            raise BundleError(
                f"{new.bundle.name}: its {side} ids are {got}, those of the running bundle "
                f"{expected}: requests that fit one do not fit the other; load it as an engine of "
                "its own"
            )
