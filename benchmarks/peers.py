"""The exact engines that a catalogue can be searched with, each as one function of the queries."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator

import numpy as np

import shortlist

Search = Callable[[np.ndarray, int], np.ndarray]  # (queries, top_n) -> rows (n_queries, top_n)
Builder = Callable[[np.ndarray, int], Search]  # (unit rows, n_threads)


def _best_of(scores: np.ndarray, top_n: int) -> np.ndarray:
    # From the top end: partitioning -scores from the low end costs a copy and up to 4x the time.
    best = np.argpartition(scores, scores.shape[1] - top_n, axis=1)[:, -top_n:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def _shortlist(items: np.ndarray, n_threads: int) -> Search:
    index = shortlist.Index(items)
    return lambda queries, top_n: index.search(queries, top_n, n_threads=n_threads).indices


def _numpy(items: np.ndarray, n_threads: int) -> Search:
    def search(queries: np.ndarray, top_n: int) -> np.ndarray:
        # In pieces: one huge score matrix spends several times as long on fresh memory pages.
        starts = range(0, len(queries), 64)
        pieces = [_best_of(queries[start : start + 64] @ items.T, top_n) for start in starts]
        return np.concatenate(pieces)

    return search


def _faiss(name: str, items: np.ndarray, *options: int) -> Search:
    faiss = importlib.import_module("faiss")
    index = getattr(faiss, name)(items.shape[1], *options)
    index.add(items)
    return lambda queries, top_n: index.search(queries, top_n)[1]


def _faiss_flat(items: np.ndarray, n_threads: int) -> Search:
    return _faiss("IndexFlatIP", items)


def _faiss_panorama(items: np.ndarray, n_threads: int) -> Search:
    return _faiss("IndexFlatIPPanorama", items, 8)  # 8 levels, as in its own benchmarks


def _scann(items: np.ndarray, n_threads: int) -> Search:
    ops = importlib.import_module("scann").scann_ops_pybind
    searcher = ops.builder(items, 10, "dot_product").score_brute_force().build()
    searcher.set_num_threads(n_threads)
    name = "search_batched" if n_threads == 1 else "search_batched_parallel"
    batched = getattr(searcher, name)
    return lambda queries, top_n: batched(queries, final_num_neighbors=top_n)[0]


def _torch(items: np.ndarray, n_threads: int) -> Search:
    torch = importlib.import_module("torch")
    torch.set_num_threads(n_threads)
    rows = torch.from_numpy(items)

    def search(queries: np.ndarray, top_n: int) -> np.ndarray:
        scores = torch.from_numpy(queries) @ rows.T
        return torch.topk(scores, top_n, dim=1).indices.numpy()

    return search


def _usearch(items: np.ndarray, n_threads: int) -> Search:
    exact = importlib.import_module("usearch.index").search

    def search(queries: np.ndarray, top_n: int) -> np.ndarray:
        found = exact(items, queries, top_n, "ip", exact=True, threads=n_threads).keys
        return np.asarray(found, dtype=np.int64).reshape(len(queries), top_n)

    return search


def _implicit(items: np.ndarray, n_threads: int) -> Search:
    topk = importlib.import_module("implicit.cpu.topk").topk
    return lambda queries, top_n: topk(items, queries, top_n, num_threads=n_threads)[0]


BUILDERS: dict[str, Builder] = {
    "shortlist": _shortlist,
    "FAISS flat": _faiss_flat,
    "FAISS Panorama": _faiss_panorama,
    "ScaNN brute force": _scann,
    "NumPy": _numpy,
    "torch": _torch,
    "usearch exact": _usearch,
    "implicit": _implicit,
}


def build(items: np.ndarray, n_threads: int, names: list[str]) -> tuple[dict[str, Search], dict]:
    """Return the engines that can be imported, and why each of the others cannot."""
    engines: dict[str, Search] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            engines[name] = BUILDERS[name](items, n_threads)
        except (ImportError, AttributeError) as error:
            missing[name] = str(error)
    return engines, missing


@contextlib.contextmanager
def limited_threads(n_threads: int) -> Iterator[None]:
    """Hold BLAS and OpenMP, whoever loaded them, to n_threads."""
    from threadpoolctl import threadpool_limits

    with contextlib.suppress(ImportError):
        importlib.import_module("faiss").omp_set_num_threads(n_threads)
    with threadpool_limits(n_threads):
        yield
