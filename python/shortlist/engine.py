"""The engine: a loaded bundle that turns raw requests into exact top-N recommendations."""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from shortlist import _checks
from shortlist._columns import MISSING_INT, Array
from shortlist._graphs import Graphs
from shortlist._manifest import problem
from shortlist._sessions import check_device, import_runtime
from shortlist._signals import POPULAR, Signals, gather, pad_last, take
from shortlist._tables import ItemTable, UserTable
from shortlist.bundle import Bundle
from shortlist.errors import ShortlistError
from shortlist.index import Index, simd_level
from shortlist.recommendations import Recommendations
from shortlist.requests import Columns, FeatureColumn, RequestSchema, normalise

__all__ = ["Engine", "Recommendations", "load"]

# Larger calls are cut: past this a batch gains nothing and its activations leave the cache.
MAX_BATCH = 1024
_Answer = tuple[Array, Array, Array, Array]  # scores, item rows, counts, source codes


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

    All methods may be called from several threads at once.

    Attributes
    ----------
    bundle : Bundle
        What was loaded.
    index : Index
        The item embeddings.
    """

    def __init__(self, bundle: Bundle, *, device: str, n_threads: int) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.index = _load_index(bundle)
        self._device = device
        self._n_threads = n_threads
        self._max_history: int = manifest["max_history"]
        self._items = ItemTable(bundle.file("items.arrow"), self.index.item_ids)
        self._users = None
        if bundle.has("users.arrow"):
            self._users = UserTable(
                bundle.file("users.arrow"),
                manifest["n_users"],
                self.user_id_dtype,
                self.item_id_dtype,
            )
        self._user_schema = RequestSchema(
            "user_id", self.user_id_dtype, _features(bundle, "user"), self.item_id_dtype
        )
        self._item_schema = RequestSchema("item_id", self.item_id_dtype, _features(bundle, "item"))
        self._graphs = Graphs(bundle, device, n_threads)
        self._user_encoder = self._graphs.encoder("user", "history", self._user_schema)
        # One place more than items, so that row −1 reads the padding; graphs and answers differ.
        ids = self.index.item_ids
        if self.item_id_dtype == "string":
            self._raw_ids = self._answer_ids = np.append(ids.astype(object), "")
        else:
            self._raw_ids = np.append(ids, MISSING_INT)
            self._answer_ids = np.append(ids, -1)

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
        return self._items.table

    def recommend(
        self, requests: Any, top_n: int = 10, exclude_seen: bool = True, where: Any = None
    ) -> Recommendations:
        """Recommend the exact top-N items for every request.

        Parameters
        ----------
        requests : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            Columns: `history` (item ids, oldest first; unknown ones are skipped), `user_id`, and
            the bundle's user features. Every one is optional, and None where there is nothing.
        top_n : int
            Items a request; rows are shorter (`counts`) where fewer are allowed.
        exclude_seen : bool
            Leave out the items of the request's history and of the user's stored history.
        where : pyarrow.compute.Expression, optional
            Only items whose row of the item table satisfies it may come back, for example
            ``pyarrow.compute.field("year") >= 1990``. Evaluated once, then cached.

        Returns
        -------
        Recommendations
            Score descending, ties by the lower item row. A request is answered from its own
            history, else from the stored history of a known user, else from user features, else
            with the items of most events; `source` says which.

        Raises
        ------
        TypeError, DataError
            A request is not as described; the message names column and row.
        ValueError
            `top_n` is below 1, or `where` does not fit the item table.
        """
        self._check_open()
        top_n = _checks.positive_int(top_n, "top_n")
        if not isinstance(exclude_seen, (bool, np.bool_)):
            raise TypeError(f"exclude_seen: got {exclude_seen!r}, expected True or False")
        columns = normalise(requests, self._user_schema)
        mask = None if where is None else self._items.mask(where)
        if columns.n_requests <= MAX_BATCH:
            parts = self._answer(columns, top_n, bool(exclude_seen), mask)
        else:
            answers = [self._answer(c, top_n, bool(exclude_seen), mask) for c in _cut(columns)]
            scores, rows, counts, source = (
                np.concatenate(part) for part in zip(*answers, strict=True)
            )
            parts = (scores, rows, counts, source)
        scores, rows, counts, source = parts
        return Recommendations(self._answer_ids[rows], scores, counts, rows, source, self._items)

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
        self._check_open()
        columns = normalise(requests, self._user_schema)
        parts = [self._encode(self._gather(part)) for part in _cut(columns)]
        return np.concatenate(parts) if parts else self._no_embeddings()

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
        self._check_open()
        schema = self._item_schema
        columns = normalise(table, schema)
        session = self._graphs.encoder("item", "item_id", schema)
        parts = []
        for part in _cut(columns):
            n = part.n_requests
            ids = part.ids if part.ids is not None else np.repeat(self._raw_ids[-1:], n)
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
        self._check_open()
        if not self.bundle.has("scorer.onnx"):
            raise ShortlistError(
                f"score: {self.bundle.path.name} has no scorer; train with [scorer] enabled = true"
            )
        session = self._graphs.session("scorer")
        users = self.encode_users(requests)
        candidates = np.asarray(item_ids)
        if candidates.ndim != 2 or len(candidates) != len(users):
            raise ValueError(
                f"item_ids: got shape {candidates.shape}, expected ({len(users)}, n), one row a "
                "request"
            )
        rows = self.index.rows_of(candidates.ravel())
        self._check_candidates(candidates, rows)
        known = np.flatnonzero(rows >= 0)
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        owner = np.repeat(np.arange(len(users)), candidates.shape[1])
        for start in range(0, len(known), MAX_BATCH):
            part = known[start : start + MAX_BATCH]
            feeds = {
                "user_features": users[owner[part]],
                "item_features": self.index.vectors(rows[part]),
            }
            scores[part] = session.run(["score"], feeds)[0].reshape(-1)
        return scores.reshape(candidates.shape)

    def report(self) -> dict[str, Any]:
        """Say what really runs: provider of each opened graph, threads, SIMD level, sizes."""
        self._check_open()
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
            "onnxruntime": import_runtime().__version__,
        }

    def close(self) -> None:
        """Let go of graphs and tables; a closed engine answers nothing any more."""
        self._graphs.close()
        self._user_encoder = None
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
        state = "closed" if self._user_encoder is None else f"{self._n_threads} thread(s)"
        return f"Engine({self.bundle.path.name}: {m['n_items']:,} items, dim {m['dim']}, {state})"

    def _answer(
        self, columns: Columns, top_n: int, exclude_seen: bool, mask: Array | None
    ) -> _Answer:
        signals = self._gather(columns)
        source = signals.source
        n = len(source)
        if n and source.all():  # the common case: no request needs the popular list
            scores, rows, counts = self._search(signals, top_n, exclude_seen, mask)
            return scores, rows, counts, source
        scores = np.full((n, top_n), -np.inf, dtype=np.float32)
        rows = np.full((n, top_n), -1, dtype=np.int64)
        counts = np.zeros(n, dtype=np.int64)
        personal = np.flatnonzero(source != POPULAR)
        if len(personal):
            chosen = Signals(
                source[personal],
                take(signals.histories, personal),
                take(signals.seen, personal),
                {name: values[personal] for name, values in signals.features.items()},
            )
            found = self._search(chosen, top_n, exclude_seen, mask)
            scores[personal], rows[personal], counts[personal] = found
        # No history is known of the rest, so nothing is to be excluded: one list serves them all.
        rest = np.flatnonzero(source == POPULAR)
        if len(rest):
            order, n_events = self._items.popular()
            best = (order if mask is None else order[mask[order]])[:top_n]
            counts[rest] = len(best)
            rows[rest, : len(best)] = best
            scores[rest, : len(best)] = n_events[best]
        return scores, rows, counts, source

    def _search(
        self, signals: Signals, top_n: int, exclude_seen: bool, mask: Array | None
    ) -> tuple[Array, Array, Array]:
        # Item rows are known already, so this goes past Index.search and its lookup of ids.
        found: tuple[Array, Array, Array] = self.index._core.search(
            self._encode(signals),
            top_n,
            (signals.seen.values, signals.seen.splits) if exclude_seen else None,
            None,
            None,
            mask,
            self._n_threads,
        )
        return found

    def _gather(self, columns: Columns) -> Signals:
        return gather(columns, self.index, self._users, self._user_schema.features)

    def _encode(self, signals: Signals) -> Array:
        history = self._raw_ids[pad_last(signals.histories, self._max_history)]
        feeds = {"history": history, **signals.features}
        embeddings: Array = self._user_encoder.run(["user_embedding"], feeds)[0]
        return embeddings

    def _no_embeddings(self) -> Array:
        return np.empty((0, self.index.dim), dtype=np.float32)

    def _check_open(self) -> None:
        if self._user_encoder is None:
            raise ShortlistError("engine: it is closed; load the bundle again")

    def _check_candidates(self, candidates: Array, rows: Array) -> None:
        missing = "" if self.item_id_dtype == "string" else -1
        wrong = (rows < 0) & (candidates.ravel() != missing)
        if wrong.any():
            row, place = divmod(int(wrong.argmax()), candidates.shape[1])
            raise ValueError(
                f"item_ids: row {row}, entry {place} is {candidates[row, place].item()!r}, which "
                "is no item of this bundle"
            )


def _load_index(bundle: Bundle) -> Index:
    index = Index.load(bundle.file("items.index"))
    manifest = bundle.manifest
    is_text = index.item_ids.dtype.kind == "U"
    found = {
        "n_items": len(index),
        "dim": index.dim,
        "metric": index.metric,
        "item_id_dtype": "string" if is_text else "int64",
    }
    for key, value in found.items():
        if value != manifest[key]:
            where = f"{bundle.path.name}/items.index"
            raise problem(where, f"the manifest's {key} {manifest[key]}", f"{value}")
    return index


def _features(bundle: Bundle, side: str) -> list[FeatureColumn]:
    return [
        FeatureColumn.from_manifest(f) for f in bundle.manifest["features"] if f["side"] == side
    ]


def _cut(columns: Columns) -> Iterator[Columns]:
    for start in range(0, columns.n_requests, MAX_BATCH):
        yield columns.part(start, start + MAX_BATCH)
