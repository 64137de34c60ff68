"""The exact engines that a catalogue can be searched with, each as its authors would use it.

Each gets float32, C-contiguous rows and queries, copies the rows only if it must, and takes its
threads from its own setting; `limited_threads` holds BLAS and OpenMP to the same number. Where a
library can do the same exact search in several ways, the fastest one that was found is used.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

import shortlist

Rows = NDArray[np.float32]
# Larger score matrices are made in parts; they would crowd out everything else.
_MAX_SCORES_BYTES = 512 * 2**20


class Engine(ABC):
    """One way to search a catalogue by inner product."""

    n_threads = 1

    def __init__(self, items: Rows) -> None:
        self.items = items

    def use_threads(self, n_threads: int) -> None:
        """Set the threads of the searches that follow."""
        self.n_threads = n_threads

    @abstractmethod
    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        """Return item rows of shape (n_queries, top_n)."""


class Shortlist(Engine):
    metric: Any = "dot"

    def __init__(self, items: Rows) -> None:
        self.index = shortlist.Index(items, metric=self.metric)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        return self.index.search(queries, top_n, n_threads=self.n_threads).indices


class ShortlistCosine(Shortlist):
    metric = "cosine"


class FaissFlat(Engine):
    """`IndexFlatIP` as it comes.

    FAISS 1.15 goes through BLAS once n_queries × dim reaches 128,000; at dim 64 that is a batch of
    2,000. FaissFlatBlas lowers the bound.
    """

    def __init__(self, items: Rows) -> None:
        self.faiss = importlib.import_module("faiss")
        self.index = self.make(items)
        self.index.add(items)
        self.blas_threshold = self.faiss.cvar.distance_compute_blas_threshold

    def make(self, items: Rows) -> Any:
        return self.faiss.IndexFlatIP(items.shape[1])

    def use_threads(self, n_threads: int) -> None:
        self.faiss.omp_set_num_threads(n_threads)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        # A global setting that two engines here want to have differently.
        self.faiss.cvar.distance_compute_blas_threshold = self.blas_threshold
        rows: NDArray[Any] = self.index.search(queries, top_n)[1]
        return rows


class FaissFlatBlas(FaissFlat):
    """`IndexFlatIP`, through BLAS from 4 queries on: below that its own loop is faster."""

    def __init__(self, items: Rows) -> None:
        super().__init__(items)
        self.blas_threshold = 4 * items.shape[1]


class FaissPanorama(FaissFlat):
    """8 levels behind a rotation that puts the energy first, as in FAISS's own benchmark.

    The PCA there also moves the origin, which inner products do not survive: the rotation alone.
    """

    def make(self, items: Rows) -> Any:
        dim = items.shape[1]
        sample = items[:: max(1, len(items) // 100_000)].astype(np.float64)
        directions = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].T
        rotation = self.faiss.LinearTransform(dim, dim, False)
        self.faiss.copy_array_to_vector(directions.astype(np.float32).ravel(), rotation.A)
        rotation.is_trained = True
        levels = self.faiss.IndexFlatIPPanorama(dim, 8)
        self.parts = (rotation, levels)  # the index below does not own them
        return self.faiss.IndexPreTransform(rotation, levels)


class Scann(Engine):
    def __init__(self, items: Rows) -> None:
        with absent("tensorflow"):  # ScaNN's ops for it load with one exact TensorFlow only
            scann = importlib.import_module("scann")
        builder = scann.scann_ops_pybind.builder(items, 10, "dot_product")
        self.searcher = builder.score_brute_force().build()

    def use_threads(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.searcher.set_num_threads(n_threads)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        if len(queries) == 1:
            return np.asarray(self.searcher.search(queries[0], top_n)[0])[None]
        if self.n_threads == 1:
            return np.asarray(self.searcher.search_batched(queries, top_n)[0])
        part = -(-len(queries) // self.n_threads)
        found = self.searcher.search_batched_parallel(queries, top_n, batch_size=part)
        return np.asarray(found[0])


class Numpy(Engine):
    """Product, N-th best score, the items that reach it, sorted.

    64 queries at a time into one buffer: fresh memory for a larger matrix costs more than the
    product. `partition` of float32 scores takes less time than `argpartition`, which moves int64.
    """

    def __init__(self, items: Rows) -> None:
        self.items = items
        self.scores = np.empty((64, len(items)), np.float32)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        found = np.empty((len(queries), top_n), np.int64)
        for start in range(0, len(queries), len(self.scores)):
            part = queries[start : start + len(self.scores)]
            scores = np.matmul(part, self.items.T, out=self.scores[: len(part)])
            cut = scores.shape[1] - top_n
            least = np.partition(scores, cut, axis=1)[:, cut]
            for i, row in enumerate(scores):
                best = np.flatnonzero(row >= least[i])
                found[start + i] = best[np.argsort(-row[best], kind="stable")[:top_n]]
        return found


class Torch(Engine):
    def __init__(self, items: Rows) -> None:
        self.torch = importlib.import_module("torch")
        self.items = self.torch.from_numpy(items).T
        self.part = max(1, _MAX_SCORES_BYTES // (4 * len(items)))

    def use_threads(self, n_threads: int) -> None:
        self.torch.set_num_threads(n_threads)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        with self.torch.inference_mode():
            parts = self.torch.from_numpy(queries).split(self.part)
            found = [self.torch.topk(part @ self.items, top_n).indices for part in parts]
            rows: NDArray[Any] = (self.torch.cat(found) if len(found) > 1 else found[0]).numpy()
            return rows


class UsearchExact(Engine):
    def __init__(self, items: Rows) -> None:
        self.items = items
        self.exact = importlib.import_module("usearch.index").search

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        found = self.exact(self.items, queries, top_n, "ip", exact=True, threads=self.n_threads)
        return np.asarray(found.keys).reshape(len(queries), top_n)


class Implicit(Engine):
    """`topk`, which shares out more than 100 queries to threads and wants one BLAS thread then."""

    def __init__(self, items: Rows) -> None:
        self.items = items
        self.topk = importlib.import_module("implicit.cpu.topk").topk
        self.pools = importlib.import_module("threadpoolctl").ThreadpoolController()

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        is_shared = self.n_threads > 1 and len(queries) > 100
        limit = self.pools.limit(limits=1, user_api="blas") if is_shared else None
        with limit or contextlib.nullcontext():
            found = self.topk(self.items, queries, top_n, num_threads=self.n_threads)
        return np.asarray(found[0])


PEERS: dict[str, type[Engine]] = {
    "FAISS flat": FaissFlat,
    "FAISS flat, BLAS": FaissFlatBlas,
    "FAISS Panorama": FaissPanorama,
    "ScaNN brute force": Scann,
    "NumPy": Numpy,
    "torch topk": Torch,
    "usearch exact": UsearchExact,
    "implicit topk": Implicit,
}
PACKAGES = ("faiss-cpu", "scann", "numpy", "torch", "usearch", "implicit")


def build(items: Rows, metric: str, names: list[str]) -> tuple[dict[str, Engine], dict[str, str]]:
    """Return the engines that can be built, shortlist first, and why each of the others cannot."""
    engines: dict[str, Engine] = {
        "shortlist": (ShortlistCosine if metric == "cosine" else Shortlist)(items)
    }
    skipped: dict[str, str] = {}
    for name in names:
        try:
            engines[name] = PEERS[name](items)
        except (ImportError, AttributeError, ValueError, RuntimeError, OSError) as error:
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return engines, skipped


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of shortlist and of those packages that are installed."""
    found = {"shortlist": shortlist.__version__}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextlib.contextmanager
def limited_threads(engines: dict[str, Engine], n_threads: int) -> Iterator[None]:
    """Hold every engine, and BLAS and OpenMP whoever loaded them, to n_threads."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(n_threads):
        for engine in engines.values():
            engine.use_threads(n_threads)
        yield


@contextlib.contextmanager
def absent(name: str) -> Iterator[None]:
    """Make a module look absent while another one is imported."""
    kept = sys.modules.pop(name, None)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if kept is not None:
            sys.modules[name] = kept
