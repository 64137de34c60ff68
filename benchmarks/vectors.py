"""What the benchmark searches: random catalogues, or the embeddings of a bundle or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kinds import KINDS
from numpy.typing import NDArray

import shortlist

Rows = NDArray[np.float32]


@dataclass
class Vectors:
    """Items and queries that every engine is given, float32 and C-contiguous.

    Attributes
    ----------
    metric : {"cosine", "dot"}
        For cosine the rows are of length 1, so that inner products are cosines for all engines.
    """

    name: str
    metric: str
    items: Rows
    queries: Rows


def made(kind: str, metric: str, n_items: int, dim: int, n_queries: int) -> Vectors:
    """Make a catalogue of random numbers, and queries of the same kind."""
    rows = KINDS[kind](np.random.default_rng(0), n_items + n_queries, dim).astype(np.float32)
    if metric == "cosine":
        _normalize(rows)
    return Vectors(kind, metric, rows[:n_items], np.ascontiguousarray(rows[n_items:]))


def read(path: Path, metric: str | None, n_queries: int) -> Vectors:
    """Read item embeddings: a bundle, an index file, or an .npy matrix.

    Queries of a bundle are its user encoder's output for random histories of 2 to 50 items;
    otherwise each is the mean of 5 random items.
    """
    random = np.random.default_rng(1)
    if path.suffix == ".npy":
        items = np.ascontiguousarray(np.load(path), dtype=np.float32)
        queries = None
    elif path.is_dir() or path.suffix in (".shortlist", ".zip"):
        with shortlist.load(path, device="cpu") as engine:
            items, metric = _items_of(engine.index, metric)
            ids = engine.index.item_ids
            sizes = np.minimum(random.integers(2, 51, size=n_queries), len(ids))
            histories = [random.choice(ids, size=size, replace=False) for size in sizes]
            queries = np.ascontiguousarray(engine.encode_users({"history": histories}))
    else:
        items, metric = _items_of(shortlist.Index.load(path), metric)
        queries = None
    if items.ndim != 2:
        raise SystemExit(f"--data: got shape {items.shape}; expected a matrix (n_items, dim)")
    metric = metric or "cosine"
    if queries is None:
        picked = random.integers(0, len(items), size=(n_queries, 5))
        queries = items[picked].mean(axis=1, dtype=np.float64).astype(np.float32)
    if metric == "cosine":
        items = items.copy() if not items.flags.writeable else items
        _normalize(items)
        _normalize(queries)
    return Vectors(path.name, metric, items, queries)


def _items_of(index: shortlist.Index, metric: str | None) -> tuple[Rows, str]:
    if index.metric == "euclidean":
        raise SystemExit("--data: the index is euclidean; this benchmark compares inner products")
    rows = index.rows_of(index.item_ids)
    return index.vectors(rows[rows >= 0]), metric or index.metric


def _normalize(rows: Rows) -> None:
    for at in range(0, len(rows), 100_000):  # in parts: never a float64 copy of a catalogue
        norms = np.linalg.norm(rows[at : at + 100_000].astype(np.float64), axis=1)
        rows[at : at + 100_000] /= np.where(norms > 0, norms, 1)[:, None].astype(np.float32)
