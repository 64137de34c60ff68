"""Approximate engines, each with the settings its authors recommend and one that trades recall.

Each is built once for a catalogue. Its `breadths` go from fast to thorough; the benchmark chooses
the first one with which queries set aside for that reach the recall that is asked for.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from peers import absent

Rows = NDArray[np.float32]

# Of graphs: neighbours of a node, and candidates while one is built. The values of the authors'
# own benchmarks for recall above 0.9.
_N_LINKS, _BUILD_BREADTH = 16, 200
_GRAPH_BREADTHS = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896, 1280, 2560]
# Of inverted lists and trees.
_CELL_BREADTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024]


class ApproximateEngine(ABC):
    """Largest inner products of rows of length 1, by one thread; building takes `n_threads`."""

    breadths: ClassVar[list[int]] = _GRAPH_BREADTHS

    @abstractmethod
    def __init__(self, items: Rows, n_threads: int) -> None: ...

    @abstractmethod
    def set_breadth(self, breadth: int) -> None:
        """Set the candidates, cells or leaves that a search looks at."""

    @abstractmethod
    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        """Return item rows of shape (n_queries, top_n)."""


class Hnswlib(ApproximateEngine):
    def __init__(self, items: Rows, n_threads: int) -> None:
        hnswlib = importlib.import_module("hnswlib")
        self.index = hnswlib.Index(space="ip", dim=items.shape[1])
        self.index.init_index(len(items), ef_construction=_BUILD_BREADTH, M=_N_LINKS)
        self.index.add_items(items, num_threads=n_threads)
        self.index.set_num_threads(1)

    def set_breadth(self, breadth: int) -> None:
        self.index.set_ef(breadth)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        return np.asarray(self.index.knn_query(queries, top_n, num_threads=1)[0])


class UsearchHnsw(ApproximateEngine):
    def __init__(self, items: Rows, n_threads: int) -> None:
        usearch = importlib.import_module("usearch.index")
        self.index = usearch.Index(
            ndim=items.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=_N_LINKS,
            expansion_add=_BUILD_BREADTH,
        )
        self.index.add(np.arange(len(items), dtype=np.uint64), items, threads=n_threads)

    def set_breadth(self, breadth: int) -> None:
        self.index.expansion_search = breadth

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        found = self.index.search(queries, top_n, threads=1)
        return np.asarray(found.keys, dtype=np.int64).reshape(len(queries), -1)


class Faiss(ApproximateEngine):
    def __init__(self, items: Rows, n_threads: int) -> None:
        self.faiss = importlib.import_module("faiss")
        self.faiss.omp_set_num_threads(n_threads)
        self.index = self.make(*items.shape)
        if not self.index.is_trained:
            self.index.train(items)
        self.index.add(items)
        self.faiss.omp_set_num_threads(1)

    @abstractmethod
    def make(self, n_items: int, dim: int) -> Any: ...

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        return np.asarray(self.index.search(queries, top_n)[1])


class FaissHnsw(Faiss):
    def make(self, n_items: int, dim: int) -> Any:
        index = self.faiss.IndexHNSWFlat(dim, _N_LINKS, self.faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_BREADTH
        return index

    def set_breadth(self, breadth: int) -> None:
        self.index.hnsw.efSearch = breadth


class FaissIvf(Faiss):
    """Inverted lists: 4 √n of them, as FAISS's guidelines say."""

    breadths = _CELL_BREADTHS

    def make(self, n_items: int, dim: int) -> Any:
        self.centroids = self.faiss.IndexFlatIP(dim)
        n_lists = max(1, min(int(4 * math.sqrt(n_items)), n_items // 39))
        metric = self.faiss.METRIC_INNER_PRODUCT
        return self.faiss.IndexIVFFlat(self.centroids, dim, n_lists, metric)

    def set_breadth(self, breadth: int) -> None:
        self.index.nprobe = min(breadth, self.index.nlist)


class FaissIvfPq(FaissIvf):
    """Lists of 4-bit product codes, scanned in registers, and exact scores of the best 100."""

    def make(self, n_items: int, dim: int) -> Any:
        n_lists = max(1, min(int(4 * math.sqrt(n_items)), n_items // 39))
        text = f"IVF{n_lists},PQ{dim // 2}x4fsr,RFlat"
        return self.faiss.index_factory(dim, text, self.faiss.METRIC_INNER_PRODUCT)

    def set_breadth(self, breadth: int) -> None:
        lists = self.faiss.downcast_index(self.index.base_index)
        lists.nprobe = min(breadth, lists.nlist)
        self.index.k_factor = 10


class ScannTree(ApproximateEngine):
    """Leaves of about √n items, anisotropic hashing, and exact scores of the best 100."""

    breadths = _CELL_BREADTHS

    def __init__(self, items: Rows, n_threads: int) -> None:
        with absent("tensorflow"):  # ScaNN's ops for it load with one exact TensorFlow only
            scann = importlib.import_module("scann")
        self.n_leaves = max(1, int(math.sqrt(len(items))))
        builder = scann.scann_ops_pybind.builder(items, 10, "dot_product")
        builder.set_n_training_threads(n_threads)
        tree = builder.tree(self.n_leaves, 1, training_sample_size=min(len(items), 250_000))
        self.searcher = (
            tree.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        )
        self.searcher.set_num_threads(1)

    def set_breadth(self, breadth: int) -> None:
        self.n_searched = min(breadth, self.n_leaves)

    def search(self, queries: Rows, top_n: int) -> NDArray[Any]:
        options = {"leaves_to_search": self.n_searched, "pre_reorder_num_neighbors": 10 * top_n}
        if len(queries) == 1:
            return np.asarray(self.searcher.search(queries[0], top_n, **options)[0])[None]
        return np.asarray(self.searcher.search_batched(queries, top_n, **options)[0])


ENGINES: dict[str, type[ApproximateEngine]] = {
    "hnswlib": Hnswlib,
    "usearch HNSW": UsearchHnsw,
    "FAISS HNSW": FaissHnsw,
    "FAISS IVF": FaissIvf,
    "FAISS IVF-PQ": FaissIvfPq,
    "ScaNN": ScannTree,
}
PACKAGES = ("hnswlib", "usearch", "faiss-cpu", "scann", "numpy")
