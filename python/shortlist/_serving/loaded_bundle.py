"""One loaded bundle: all that a call of the engine reads. A swap puts another in its place."""

from __future__ import annotations

import os
import weakref
from typing import Any, NamedTuple

import numpy as np

from shortlist import _arguments, _checks, _core
from shortlist._catalogue.filters import Filters, as_rows, rows_of
from shortlist._catalogue.followers import Followers
from shortlist._catalogue.items import ItemTable, popularity_of
from shortlist._catalogue.rows import read_items
from shortlist._catalogue.state import Catalogue, Upserted, first_catalogue, removed, upserted
from shortlist._catalogue.wishes import variety_of
from shortlist._columns.messages import said_of
from shortlist._columns.reading import Array, id_column
from shortlist._columns.requests import Columns, FeatureColumn, RequestSchema, normalise
from shortlist._serving.asked import Asked
from shortlist._serving.options import (
    RecommendOptions,
    check_stages,
    read_exclude_seen,
    unmet_of,
)
from shortlist._serving.reports import GraphReport
from shortlist.bundle import Bundle
from shortlist.bundle.fields import problem
from shortlist.bundle.tables import map_file
from shortlist.errors import BundleError, ShortlistError
from shortlist.feedback.acts import Dislikes, StoredUser
from shortlist.index import Index, simd_level
from shortlist.recommendations import Recommendations

_ONNX_TYPES = {"int64": "tensor(int64)", "string": "tensor(string)", "float32": "tensor(float)"}
_EVENT_TYPES = {"history_kinds": "tensor(string)", "history_ages": "tensor(float)"}


class Settings(NamedTuple):
    """How an engine runs every bundle that is put into it; see `shortlist.load`.

    `runtime` is the ONNX Runtime library of `find_runtime`: the first bundle's serves all others.
    """

    device: str
    n_threads: int
    runtime: str
    max_batch: int = 1
    max_wait_us: int = 200
    search: str = "auto"
    fixed_batches: tuple[int, ...] = ()
    mmap: bool = True


class LoadedBundle:
    """A bundle with its index, item table and graphs.

    Whoever has begun with a bundle finishes with it; its memory and the temporary files of a
    zipped bundle go when the last of them is done.

    Attributes
    ----------
    bundle : Bundle
    number : int
        1, and one more for every bundle that an engine opened after its first.
    state : Catalogue
        The items now; whoever changes them puts the next state in its place.
    first : Catalogue
        The items that the bundle came with: those that its encoder knows.
    schema, item_schema : RequestSchema
        Columns of requests, and of items.
    """

    def __init__(self, bundle: Bundle, number: int, settings: Settings, *, verify: bool) -> None:
        self.bundle = bundle
        self.number = number
        self._core: _core.LoadedBundle | None = _open_core(bundle, number, settings, verify)
        self.index = Index._of_core(self._core.index)
        items = ItemTable(map_file(bundle.file("items.arrow")), self.index.item_ids)
        self.state = first_catalogue(self._core.catalogue, items, self.index.item_ids)
        self.first = self.state
        self._followers: Followers | None = None
        self._files = _files_of(bundle)
        self.schema = request_schema(bundle)
        self.item_schema = RequestSchema("item_id", self.item_id_dtype, features_of(bundle, "item"))
        self.has_reranker = self._core.has_reranker
        _check_inputs(bundle, self.schema, self._core.inputs)
        weakref.finalize(self, bundle.close)

    @property
    def core(self) -> _core.LoadedBundle:
        """The compiled engine's part, which answers."""
        core = self._core
        if core is None:
            raise ShortlistError("engine: it was closed while this call was under way")
        return core

    @property
    def item_id_dtype(self) -> str:
        """Type of item ids: "int64" or "string"."""
        return self.bundle.manifest.item_id_dtype

    @property
    def user_id_dtype(self) -> str:
        """Type of user ids: "int64" or "string"."""
        return self.bundle.manifest.user_id_dtype

    @property
    def n_candidates(self) -> int:
        """How many items the second stage puts into order at least; 0 without one."""
        section = self.bundle.manifest.second_stage
        return 0 if section is None else section.n_candidates

    @property
    def dislikes(self) -> Dislikes:
        """What the bundle's training took for dislikes."""
        return Dislikes.of_settings(self.bundle.manifest.training_section("config", "events"))

    def options(self, top_n: int, exclude_seen: Any, stages: Any) -> RecommendOptions:
        """Return what a call wants; `stages` must fit this bundle."""
        section = self.bundle.manifest.second_stage
        n_stages = check_stages(stages, self.has_reranker, section)
        is_excluded, kinds = read_exclude_seen(exclude_seen)
        return RecommendOptions(top_n, is_excluded, n_stages, kinds)

    def asked(self, columns: Columns) -> Asked:
        """Return the ids of checked requests, for questions about them."""
        return Asked(columns, self.core, self.first)

    def answer(
        self,
        columns: Columns,
        filters: Filters,
        options: RecommendOptions,
        asked: Columns | None = None,
        state: Catalogue | None = None,
    ) -> Recommendations:
        """Answer checked requests from one state of the items (default: the one now).

        `asked`: the requests as they were given.
        """
        core, n = self.core, columns.n_requests  # whatever is closed meanwhile
        state = state or self.state
        _checks.check_answer_size(n, options.top_n, state.view.n_rows)
        rows_left = rows_of(filters, n, state)
        scores, rows, counts, sources, stages, missing = core.recommend(
            state.core,
            n,
            columns.for_core(self.schema),
            options.top_n,
            options.exclude_seen,
            options.stages,
            exclude=rows_left.exclude,
            allow=rows_left.allow,
            masks=rows_left.masks.masks,
            mask_of=rows_left.masks.numbers,
            skipped=as_rows(columns.skipped, state),
            is_joined=columns.is_joined,
            variety=variety_of(filters.wanted, state.items),
        )
        return Recommendations(
            state.ids[rows],
            scores,
            counts,
            rows,
            sources,
            stages,
            state.items,
            Asked(asked or columns, core, self.first),
            self.number,
            _unmet=unmet_of(filters.wanted, missing),
        )

    def encode_users(self, requests: Any) -> Array:
        """Return user embeddings (n_requests, dim) float32."""
        columns = normalise(requests, self.schema)
        core_columns = columns.for_core(self.schema)
        return self.core.encode_users(self.state.core, columns.n_requests, core_columns)

    def score(self, requests: Any, item_ids: Any, stages: Any) -> Array:
        """Score given items (n_requests, n); −inf for missing ones."""
        n_stages = self.options(1, True, stages).stages
        state, columns = self.state, normalise(requests, self.schema)
        rows = _candidate_rows(item_ids, columns.n_requests, state)
        return self.core.score(state.core, columns.for_core(self.schema), rows, n_stages)

    def encode_items(self, table: Any) -> Array:
        """Return embeddings (n_rows, dim) float32 of items from their raw columns."""
        with said_of("table"):
            columns = normalise(table, self.item_schema)
        return self.core.encode_items(columns.n_requests, columns.for_core(self.item_schema))

    def stored_user(self, user_id: Any) -> StoredUser | None:
        """Return item ids, kinds and times of a stored user's events, oldest first.

        None where the user is not known; kinds and times are empty where they are not stored.
        """
        return self.core.stored_user(user_id)

    def knows(self, item_ids: Array) -> Array:
        """Say which item ids (n,) the encoder knows: those that the bundle came with."""
        return self.first.rows_of(item_ids) >= 0

    def followers(self) -> Followers:
        """Return the table of what followed each item, which is read at the first question."""
        if self._followers is None:
            self._followers = Followers(self.bundle, self.first)
        return self._followers

    def upsert_items(self, items: Any) -> Upserted:
        """Add or change items; see `Engine.upsert_items`. One writer at a time."""
        state = self.state
        item_ids, table, names = read_items(items, state, self.item_schema)
        if len(item_ids) == 0:
            return Upserted(0, 0, 0)
        is_new = state.rows_of(item_ids) < 0
        features = [n for n in self.item_schema.features if n in table.column_names]
        changed = is_new | bool(names.intersection(features))
        vectors = np.empty((0, self.index.dim), dtype=np.float32)
        if changed.any():
            raw = table.select(["item_id", *features]).filter(changed)
            vectors = self.encode_items(raw)
        self.state = upserted(
            state,
            self.index,
            self.core,
            item_ids,
            table,
            changed,
            vectors,
            popularity_of(table),
        )
        n_unknown = int((~vectors.any(axis=1) & is_new[changed]).sum())
        return Upserted(int(is_new.sum()), int((~is_new).sum()), n_unknown)

    def remove_items(self, item_ids: Any) -> int:
        """Remove items and say how many were known. One writer at a time."""
        check_many(item_ids)
        ids = np.unique(id_column("item_id", item_ids, self.item_id_dtype))
        known = ids[self.state.rows_of(ids) >= 0]
        if len(known):
            self.state = removed(self.state, self.index, self.core, known)
        return len(known)

    def report(self) -> GraphReport:
        """Say where what runs: providers and nodes of each open graph, and how items are found."""
        core = self.core
        names = {_graph_name(where): (runs, nodes) for where, runs, nodes in core.sessions}
        return {
            "providers": {name: runs for name, (runs, _) in names.items()},
            "nodes": {name: nodes for name, (_, nodes) in names.items()},
            "search": f"cpu, {simd_level()}",
            "graph_search": core.graph_search,
            "fixed_batches": core.fixed_batches,
            "batching": core.batching,
            "onnxruntime": core.runtime_version,
        }

    def check_untouched(self, path: str | os.PathLike[str]) -> None:
        """Refuse a folder whose files this engine maps and somebody has written over.

        Raises
        ------
        BundleError
            Names the file.
        """
        for name, before in self._files.items():
            try:
                now = os.stat(os.path.join(path, name))
            except (OSError, TypeError, ValueError):  # a zip, or another wrong path
                continue
            if _is_same_file(now, before) and _content_of(now) != _content_of(before):
                raise BundleError(
                    f"{self.bundle.name}/{name}: expected the file that this engine is using, "
                    f"found it written over in place ({before.st_size:,} bytes when it was loaded, "
                    f"{now.st_size:,} now); answers may be wrong, and the process may end, until "
                    "the engine is loaded again in a new process; put every bundle into a folder "
                    "of its own and swap to that, or load with mmap=False"
                )

    def warm(self, old: LoadedBundle) -> None:
        """Read and open what the bundle before this one has read and opened."""
        if any(_graph_name(where) == "item_encoder" for where, _, _ in old.core.sessions):
            self.core.open_item_encoder()
        _ = self.state.items.stored

    def close(self) -> None:
        """Let go of the graphs and of a zipped bundle's files, once shared runs are done.

        Other calls under way keep what they need, and finish.
        """
        core = self._core
        if core is not None:
            core.drain()
        self._core = None
        self.bundle.close()


def open_bundle(
    path: str | os.PathLike[str], number: int, settings: Settings, *, verify: bool
) -> LoadedBundle:
    """Open, verify and load a bundle; where others are being served, beside their requests."""
    bundle = Bundle.hold(path, copied=not settings.mmap)
    try:
        return LoadedBundle(bundle, number, settings, verify=verify)
    except BaseException:
        bundle.close()
        raise


def _open_core(bundle: Bundle, number: int, settings: Settings, verify: bool) -> _core.LoadedBundle:
    return _core.LoadedBundle.open(
        path=os.fspath(bundle.directory),
        name=bundle.name,
        runtime=settings.runtime,
        check_hashes=verify,
        device=settings.device,
        n_threads=settings.n_threads,
        number=number,
        under_load=number > 1,
        max_batch=settings.max_batch,
        max_wait_us=settings.max_wait_us,
        search=settings.search,
        fixed_batches=settings.fixed_batches,
    )


def _files_of(bundle: Bundle) -> dict[str, os.stat_result]:
    """Return what the system says of the bundle's files now."""
    return {name: os.stat(bundle.file(name)) for name in bundle.manifest.files}


def _is_same_file(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _content_of(file: os.stat_result) -> tuple[int, int]:
    return file.st_size, file.st_mtime_ns


def _check_inputs(bundle: Bundle, schema: RequestSchema, inputs: dict[str, str]) -> None:
    """Refuse a graph that takes other columns than the manifest says."""
    if bundle.has("scorer.onnx") and bundle.manifest.second_stage is None:
        raise problem("manifest.json", "a field 'second_stage' beside scorer.onnx", "none")
    expected = {"history": _ONNX_TYPES[bundle.manifest.item_id_dtype]}
    expected |= {name: _EVENT_TYPES[name] for name in schema.event_columns}
    expected |= {name: _ONNX_TYPES[f.dtype] for name, f in schema.features.items()}
    if inputs != expected:
        where = f"{bundle.name}/recommend.onnx"
        raise problem(where, f"the manifest's inputs {expected}", f"{inputs}")


def _graph_name(where: str) -> str:
    return where.rpartition("/")[2].removesuffix(".onnx")


def features_of(bundle: Bundle, side: str) -> list[FeatureColumn]:
    """Return the features of "user" or "item" as requests carry them."""
    return [
        FeatureColumn(f.name, f.kind, f.dtype, f.width, f.unit, f.separator)
        for f in bundle.manifest.features_of(side)
    ]


def request_schema(bundle: Bundle) -> RequestSchema:
    """Return the columns that requests of a bundle may have."""
    manifest = bundle.manifest
    return RequestSchema(
        "user_id",
        manifest.user_id_dtype,
        features_of(bundle, "user"),
        manifest.item_id_dtype,
        tuple(manifest.event_features),
    )


def check_same_ids(new: LoadedBundle, old: LoadedBundle) -> None:
    """Refuse a bundle whose ids are of another type than those that callers send."""
    for side in ("item", "user"):
        got, expected = (getattr(bundle, f"{side}_id_dtype") for bundle in (new, old))
        if got != expected:
            raise BundleError(
                f"{new.bundle.name}: its {side} ids are {got}, those of the running bundle "
                f"{expected}: requests that fit one do not fit the other; load it as an engine of "
                "its own"
            )


def check_many(item_ids: Any) -> None:
    """Refuse one id where a list belongs; text would be read as a list of letters."""
    is_one = isinstance(item_ids, (str, bytes)) or not hasattr(item_ids, "__len__")
    if is_one or getattr(item_ids, "ndim", 1) == 0:
        one = item_ids.item() if isinstance(item_ids, (np.generic, np.ndarray)) else item_ids
        raise TypeError(
            f"item_ids: got {type(one).__name__} {one!r:.60}, expected a list of ids; for one "
            f"item: [{one!r:.60}]"
        )


def _candidate_rows(item_ids: Any, n_requests: int, state: Catalogue) -> Array:
    """Return the rows (n_requests, n) of items to score; −1 at missing places.

    Raises
    ------
    ValueError
        Not one row of ids a request, or an id is unknown.
    """
    candidates = np.asarray(item_ids)
    if candidates.ndim != 2 or len(candidates) != n_requests:
        raise ValueError(
            f"item_ids: got shape {candidates.shape}, expected ({n_requests}, n), one row a request"
        )
    rows = _arguments.rows_of(state.view, candidates.ravel(), "item_ids")
    rows = rows.reshape(candidates.shape)
    wrong = (rows < 0) & (candidates != state.ids[-1])
    if wrong.any():
        row, entry = divmod(int(wrong.argmax()), candidates.shape[1])
        raise ValueError(
            f"item_ids: row {row}, entry {entry} is {candidates[row, entry].item()!r}, which "
            "is no item of this bundle"
        )
    return rows
