"""The engine: a loaded bundle that turns raw requests into exact top-N recommendations."""

import os
import threading
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from shortlist import _arguments, _checks
from shortlist._catalogue import Upserted, first_catalogue, removed, upserted
from shortlist._columns import Array, id_column
from shortlist._graphs import Graphs
from shortlist._item_rows import read_items
from shortlist._items import ItemTable
from shortlist._opening import features_of, load_index, open_recommender
from shortlist._recommend import Asked, Recommender, cut
from shortlist._second_stage import check_stages
from shortlist._sessions import check_device, import_runtime
from shortlist._where import check_length
from shortlist.bundle import Bundle
from shortlist.errors import ShortlistError
from shortlist.index import simd_level
from shortlist.recommendations import Recommendations
from shortlist.requests import RequestSchema, normalise

__all__ = ["Engine", "Recommendations", "Upserted", "load"]


def load(
    path: str | os.PathLike[str],
    device: Literal["auto", "cpu", "cuda"] = "auto",
    n_threads: int = 1,
    *,
    verify: bool = True,
) -> "Engine":
    """Load a bundle for serving.

    Parameters
    ----------
    path : str or path
        Bundle: a `NAME.shortlist` folder or one zip of it.
    device : {"auto", "cpu", "cuda"}
        Where the encoder runs. "auto" takes CUDA if this onnxruntime has it; "cuda" is an error
        where it does not run. `Engine.report` says what really runs. The search is on the CPU.
    n_threads : int
        Threads of one call, for encoder and search; 0 = all cores. Calls may also come from
        several threads at once.
    verify : bool
        Compare every file's sha256 with the manifest first (reads every byte once).

    Returns
    -------
    Engine

    Raises
    ------
    BundleError
        The bundle is missing, damaged, or its parts do not fit together.
    ShortlistError
        onnxruntime is missing, or installed twice; CUDA was asked for and does not run.
    """
    check_device(device)
    n_threads = _checks.thread_count(n_threads)
    import_runtime()
    bundle = Bundle.open(path, verify=verify)
    try:
        return Engine(bundle, device=device, n_threads=n_threads)
    except BaseException:
        bundle.close()
        raise


class Engine:
    """Answers requests from a loaded bundle; `shortlist.load` makes one.

    All methods may be called from several threads at once. Items are changed by `upsert_items`
    and `remove_items` alone, in memory: the bundle on disk stays as it is.

    Attributes
    ----------
    bundle : Bundle
        What was loaded.
    index : Index
        The item embeddings; not to be changed directly.
    """

    def __init__(self, bundle: Bundle, *, device: str, n_threads: int) -> None:
        self.bundle = bundle
        self.index = load_index(bundle)
        self._device = device
        self._n_threads = n_threads
        self._writing = threading.Lock()
        items = ItemTable(bundle.file("items.arrow"), self.index.item_ids)
        self._state = first_catalogue(self.index, items)
        self._item_schema = RequestSchema(
            "item_id", self.item_id_dtype, features_of(bundle, "item")
        )
        self._graphs = Graphs(bundle, device, n_threads)
        self._recommender: Recommender | None = open_recommender(
            bundle, self._graphs, self._state, n_threads
        )

    @property
    def item_id_dtype(self) -> str:
        """Type of item ids: "int64" or "string"."""
        return str(self.bundle.manifest["item_id_dtype"])

    @property
    def user_id_dtype(self) -> str:
        """Type of user ids: "int64" or "string"."""
        return str(self.bundle.manifest["user_id_dtype"])

    @property
    def items(self) -> Any:
        """The item table as a pyarrow Table; row r is the index's row r."""
        return self._state.items.table

    @property
    def default_stages(self) -> int:
        """Stages that `recommend` runs by default: 2 if the second one helped on validation."""
        return 1 if self._open().second is None else 2

    def recommend(
        self,
        requests: Any,
        top_n: int = 10,
        exclude_seen: bool = True,
        where: Any = None,
        stages: Literal[1, 2] | None = None,
    ) -> Recommendations:
        """Recommend the top-N items for every request.

        Parameters
        ----------
        requests : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            Columns: `history` (item ids, oldest first; unknown ones are skipped), `user_id`, and
            the bundle's user features; with declared event features `history_kinds` and
            `history_ages` (seconds before now), entry by entry. Every one is optional, and None
            where there is nothing.
            Any number of requests: long calls are cut into batches, so memory beside requests and
            answers stays the same.
        top_n : int
            Items a request; rows are shorter (`counts`) where fewer are allowed.
        exclude_seen : bool
            Leave out the items of the request's history and of the user's stored history.
        where : pyarrow or polars expression, or a list of them, optional
            Only items whose row of the item table satisfies it may come back, for example
            ``pyarrow.compute.field("year") >= 1990``; null counts as false. A list has one
            expression (or None) a request. Each is evaluated once, then cached.
        stages : {1, 2}, optional
            1: the exact nearest items of the embedding. 2: the nearest `n_candidates` (or `top_n`)
            items, put into a new order by the DNN scorer. Default: `default_stages`. Requests
            without a history have one stage.

        Returns
        -------
        Recommendations
            Score descending, ties by the lower item row. A request is answered from its own
            history, else from the stored history of a known user, else from user features, else
            with the items of most events; `source` says which, `stages` how many stages it had.

        Raises
        ------
        TypeError, DataError
            A request is not as described, the message names column and row; or `where` does not
            fit the item table.
        ValueError
            `top_n` is below 1, or far beyond the number of items; or `stages` is no stage.
        ShortlistError
            `stages` is 2 and the bundle has no second stage.
        """
        recommender = self._open()
        top_n = _checks.positive_int(top_n, "top_n")
        if not isinstance(exclude_seen, (bool, np.bool_)):
            raise TypeError(f"exclude_seen: got {exclude_seen!r}, expected True or False")
        told = self.bundle.manifest.get("second_stage", {})
        asked = Asked(top_n, bool(exclude_seen), check_stages(stages, recommender.second, told))
        columns = normalise(requests, recommender.schema)
        check_length(where, columns.n_requests)
        state = self._state  # one state for the whole call, whatever is upserted meanwhile
        _checks.check_places(columns.n_requests, top_n, state.view.n_rows)
        whole = recommender.answer(columns, state, where, asked)
        return Recommendations(
            state.ids[whole.rows],
            whole.scores,
            whole.counts,
            whole.rows,
            whole.source,
            whole.stages,
            state.items,
        )

    def upsert_items(self, items: Any) -> Upserted:
        """Add items, or change known ones, without retraining; later calls see all of it.

        Parameters
        ----------
        items : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            `item_id` and any columns of the item table: features, title, attributes for `where`.
            A column that is not given (in a list of dicts: by an item's dict) is null for a new
            item and stays as it is for a known one; None makes it null.

        Returns
        -------
        Upserted
            How many were added, updated, and added without any known content.

        Raises
        ------
        TypeError, DataError
            Names the column and what was expected; nothing has changed then.

        Notes
        -----
        A new item gets its vector from its content, by the item encoder. It may be recommended at
        once; in a history it is excluded, but the user encoder learns nothing from it until the
        next training. Calls under way finish on the items they began with. An update copies a few
        bytes for each item of the catalogue.
        """
        self._open()
        with self._writing:
            state = self._state
            item_ids, table, given = read_items(items, state, self._item_schema)
            if len(item_ids) == 0:
                return Upserted(0, 0, 0)
            is_new = state.rows_of(item_ids) < 0
            features = [name for name in self._item_schema.features if name in table.column_names]
            changed = is_new | bool(given.intersection(features))
            vectors = self._no_embeddings()
            if changed.any():
                vectors = self.encode_items(table.select(["item_id", *features]).filter(changed))
            self._state = upserted(state, self.index, item_ids, table, changed, vectors)
        n_unknown = int((~vectors.any(axis=1) & is_new[changed]).sum())
        return Upserted(int(is_new.sum()), int((~is_new).sum()), n_unknown)

    def remove_items(self, item_ids: Any) -> int:
        """Remove items; unknown ids are ignored, and later calls see all of it.

        Parameters
        ----------
        item_ids : array-like of shape (n,), ids

        Returns
        -------
        int
            How many items were removed.

        Raises
        ------
        TypeError, DataError
            The ids are not of the bundle's type.

        Notes
        -----
        A removed item still counts in histories: the encoder knows it.
        """
        self._open()
        ids = np.unique(id_column("item_id", item_ids, self.item_id_dtype))
        with self._writing:
            state = self._state
            known = ids[state.rows_of(ids) >= 0]
            if len(known):
                self._state = removed(state, self.index, known)
        return len(known)

    def encode_users(self, requests: Any) -> Array:
        """Return the user embedding of every request.

        Parameters
        ----------
        requests : as for `recommend`

        Returns
        -------
        ndarray of shape (n_requests, dim), float32
            A request with nothing known gets the encoder's answer to an empty history.
        """
        recommender, state = self._open(), self._state
        return recommender.encode_all(normalise(requests, recommender.schema), state)

    def encode_items(self, table: Any) -> Array:
        """Return embeddings of items from their raw columns; new items get theirs from content.

        Parameters
        ----------
        table : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            `item_id` and the bundle's item features; a column that is absent is missing in every
            row, and an id the encoder does not know is no error.

        Returns
        -------
        ndarray of shape (n_rows, dim), float32
        """
        self._open()
        schema = self._item_schema
        columns = normalise(table, schema)
        session = self._graphs.encoder("item", "item_id", schema)
        parts = []
        for part in cut(columns):
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
        return np.concatenate(parts) if parts else self._no_embeddings()

    def score(self, requests: Any, item_ids: Any) -> Array:
        """Score given items for every request with the bundle's DNN scorer.

        Parameters
        ----------
        requests : as for `recommend`
        item_ids : array-like of shape (n_requests, n), ids
            Candidates of each request, such as `Recommendations.item_ids`; missing places (−1 or
            "") score −inf.

        Returns
        -------
        ndarray of shape (n_requests, n), float32

        Raises
        ------
        ShortlistError
            The bundle has no scorer.
        ValueError
            Shapes differ, or an item id is unknown.
        """
        recommender, state = self._open(), self._state
        check_stages(2, recommender.second, self.bundle.manifest.get("second_stage", {}))
        assert recommender.second is not None
        columns = normalise(requests, recommender.schema)
        candidates = np.asarray(item_ids)
        if candidates.ndim != 2 or len(candidates) != columns.n_requests:
            raise ValueError(
                f"item_ids: got shape {candidates.shape}, expected ({columns.n_requests}, n), one "
                "row a request"
            )
        rows = _arguments.rows_of(state.view, candidates.ravel(), "item_ids")
        rows = rows.reshape(candidates.shape)
        self._check_candidates(candidates, rows)
        return recommender.score(columns, state, rows)

    def report(self) -> dict[str, Any]:
        """Say what really runs: provider of each opened graph, threads, SIMD level, sizes."""
        self._open()
        manifest = self.bundle.manifest
        return {
            "bundle": str(self.bundle.path),
            "device_asked": self._device,
            "providers": self._graphs.providers(),
            "search": f"cpu, {simd_level()}",
            "n_threads": self._n_threads,
            "n_items": len(self.index),
            "n_users": manifest["n_users"],
            "dim": self.index.dim,
            "metric": self.index.metric,
            "storage": self.index.storage,
            "recall": self.index.recall,
            "onnxruntime": import_runtime().__version__,
        }

    def close(self) -> None:
        """Let go of graphs and tables; a closed engine answers nothing any more."""
        self._graphs.close()
        self._recommender = None
        self.bundle.close()

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the engine."""
        self.close()

    def __repr__(self) -> str:
        """Name the bundle, its size and where it runs."""
        m = self.bundle.manifest
        state = "closed" if self._recommender is None else f"{self._n_threads} thread(s)"
        return f"Engine({self.bundle.path.name}: {m['n_items']:,} items, dim {m['dim']}, {state})"

    def _open(self) -> Recommender:
        if self._recommender is None:
            raise ShortlistError("engine: it is closed; load the bundle again")
        return self._recommender

    def _no_embeddings(self) -> Array:
        return np.empty((0, self.index.dim), dtype=np.float32)

    def _check_candidates(self, candidates: Array, rows: Array) -> None:
        missing = "" if self.item_id_dtype == "string" else -1
        wrong = (rows < 0) & (candidates != missing)
        if wrong.any():
            row, place = divmod(int(wrong.argmax()), candidates.shape[1])
            raise ValueError(
                f"item_ids: row {row}, entry {place} is {candidates[row, place].item()!r}, which "
                "is no item of this bundle"
            )
