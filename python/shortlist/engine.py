"""The engine: a loaded bundle that turns raw requests into exact top-N recommendations."""

import os
import threading
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from shortlist import _arguments, _checks
from shortlist._catalogue import Upserted, removed, upserted
from shortlist._columns import Array, id_column
from shortlist._item_rows import read_items
from shortlist._recommend import Asked
from shortlist._second_stage import check_stages
from shortlist._sessions import check_device, import_runtime
from shortlist._version import Version, check_same_ids, open_version
from shortlist._where import check_length
from shortlist.bundle import Bundle
from shortlist.errors import ShortlistError
from shortlist.index import Index, simd_level
from shortlist.recommendations import Recommendations
from shortlist.requests import normalise

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
    version = open_version(path, device=device, n_threads=n_threads, verify=verify)
    return Engine(version, device=device, n_threads=n_threads)


class Engine:
    """Answers requests from a loaded bundle; `shortlist.load` makes one.

    All methods may be called from several threads at once. Items are changed by `upsert_items`
    and `remove_items` alone, in memory: the bundle on disk stays as it is. `swap` puts another
    bundle in the place of this one.
    """

    def __init__(self, version: Version, *, device: str, n_threads: int) -> None:
        self._version = version
        self._is_closed = False
        self._device = device
        self._n_threads = n_threads
        self._writing = threading.Lock()  # of items, and of the version
        self._swapping = threading.Lock()

    @property
    def bundle(self) -> Bundle:
        """The bundle that answers now."""
        return self._version.bundle

    @property
    def index(self) -> Index:
        """The item embeddings; not to be changed directly."""
        return self._version.index

    @property
    def item_id_dtype(self) -> str:
        """Type of item ids: "int64" or "string"."""
        return self._version.item_id_dtype

    @property
    def user_id_dtype(self) -> str:
        """Type of user ids: "int64" or "string"."""
        return self._version.user_id_dtype

    @property
    def items(self) -> Any:
        """The item table as a pyarrow Table; row r is the index's row r."""
        return self._version.state.items.table

    @property
    def default_stages(self) -> int:
        """Stages that `recommend` runs by default: 2 if the second one helped on validation."""
        return 1 if self._open().recommender.second is None else 2

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
        version = self._open()  # one version and one state for the whole call
        recommender, state = version.recommender, version.state
        top_n = _checks.positive_int(top_n, "top_n")
        if not isinstance(exclude_seen, (bool, np.bool_)):
            raise TypeError(f"exclude_seen: got {exclude_seen!r}, expected True or False")
        told = version.bundle.manifest.get("second_stage", {})
        asked = Asked(top_n, bool(exclude_seen), check_stages(stages, recommender.second, told))
        columns = normalise(requests, recommender.schema)
        check_length(where, columns.n_requests)
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
        with self._writing:
            version = self._open()
            state = version.state
            item_ids, table, given = read_items(items, state, version.item_schema)
            if len(item_ids) == 0:
                return Upserted(0, 0, 0)
            is_new = state.rows_of(item_ids) < 0
            features = [n for n in version.item_schema.features if n in table.column_names]
            changed = is_new | bool(given.intersection(features))
            vectors = version.no_embeddings()
            if changed.any():
                raw = table.select(["item_id", *features]).filter(changed)
                vectors = version.encode_items(raw)
            version.state = upserted(state, version.index, item_ids, table, changed, vectors)
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
        with self._writing:
            version = self._open()
            ids = np.unique(id_column("item_id", item_ids, version.item_id_dtype))
            known = ids[version.state.rows_of(ids) >= 0]
            if len(known):
                version.state = removed(version.state, version.index, known)
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
        version = self._open()
        columns = normalise(requests, version.recommender.schema)
        return version.recommender.encode_all(columns, version.state)

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
        return self._open().encode_items(table)

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
        version = self._open()
        recommender, state = version.recommender, version.state
        check_stages(2, recommender.second, version.bundle.manifest.get("second_stage", {}))
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
        _check_candidates(candidates, rows, state.ids[-1])
        return recommender.score(columns, state, rows)

    def swap(self, path: str | os.PathLike[str], *, verify: bool = True) -> None:
        """Put another bundle in the place of this one, under load.

        The new bundle is loaded, verified and warmed while the present one goes on answering.
        Then calls that begin get the new one, those under way finish on the old one, and every
        call is answered by one of them as a whole. The old one's memory goes when its last call
        is done. To go back, swap to the old path.

        Parameters
        ----------
        path : str or path
            Bundle: a folder or a zip. Its ids must be of the types of the present one's.
        verify : bool
            Compare every file's sha256 with the manifest first.

        Raises
        ------
        BundleError
            The new bundle cannot be loaded, or its ids are of another type. The present one goes
            on as if nothing had been asked.
        ShortlistError
            The engine is closed, or was closed meanwhile.

        Notes
        -----
        Items that `upsert_items` and `remove_items` changed are those of the old bundle: change
        them again where the new one does not have them yet.
        """
        with self._swapping:
            old = self._open()
            new = open_version(path, device=self._device, n_threads=self._n_threads, verify=verify)
            try:
                check_same_ids(new, old)
                new.warm(old.graphs.providers())
                with self._writing:
                    self._open()
                    self._version = new
            except BaseException:
                new.close()
                raise

    def report(self) -> dict[str, Any]:
        """Say what really runs: provider of each opened graph, threads, SIMD level, sizes."""
        version = self._open()
        manifest, index = version.bundle.manifest, version.index
        return {
            "bundle": str(version.bundle.path),
            "device_asked": self._device,
            "providers": version.graphs.providers(),
            "search": f"cpu, {simd_level()}",
            "n_threads": self._n_threads,
            "n_items": len(index),
            "n_users": manifest["n_users"],
            "dim": index.dim,
            "metric": index.metric,
            "storage": index.storage,
            "recall": index.recall,
            "onnxruntime": import_runtime().__version__,
        }

    def close(self) -> None:
        """Let go of graphs and tables; a closed engine answers nothing any more."""
        with self._writing:
            self._is_closed = True
            self._version.close()

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
        state = "closed" if self._is_closed else f"{self._n_threads} thread(s)"
        return f"Engine({self.bundle.path.name}: {m['n_items']:,} items, dim {m['dim']}, {state})"

    def _open(self) -> Version:
        if self._is_closed:
            raise ShortlistError("engine: it is closed; load the bundle again")
        return self._version


def _check_candidates(candidates: Array, rows: Array, missing: object) -> None:
    wrong = (rows < 0) & (candidates != missing)
    if wrong.any():
        row, place = divmod(int(wrong.argmax()), candidates.shape[1])
        raise ValueError(
            f"item_ids: row {row}, entry {place} is {candidates[row, place].item()!r}, which "
            "is no item of this bundle"
        )
