"""From user embeddings to the exact nearest items: our operator, or standard ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from shortlist.export.nodes import Nodes
from shortlist.export.tensors import index_bytes, index_rows
from shortlist.index import Index

PLUGIN_DOMAIN = "ai.shortlist"
_STORED = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Found:
    """Names of what a head found: rows and scores (batch, k), best first, and counts (batch,)."""

    rows: str
    scores: str
    counts: str


class Head(Protocol):
    """Appends the search to a graph."""

    def __call__(self, nodes: Nodes, queries: str, k: str, codes: str, excluded: str) -> Found:
        """Append the nodes.

        Parameters
        ----------
        nodes : Nodes
        queries : str
            User embeddings (batch, dim).
        k : str
            How many items, int64 (1,).
        codes : str
            Codes of the items of each request's history (batch, length): row + 1, 0 = none.
        excluded : str
            Which of them must not come back, bool (batch, length).
        """

    def initializers(self) -> list[TensorProto]:
        """Return the constants the nodes need."""


class PluginHead:
    """ai.shortlist.TopN: bit for bit the engine's search."""

    def __init__(self, directory: Path, index: Index) -> None:
        self._directory = directory
        self._metric = index.metric

    def __call__(self, nodes: Nodes, queries: str, k: str, codes: str, excluded: str) -> Found:
        """Append the nodes."""
        rows = nodes.add("Sub", codes, nodes.constant(1, np.int64))
        seen = nodes.add("Where", excluded, rows, nodes.constant(-1, np.int64))
        inputs = (queries, k, "index", seen)
        return Found(*nodes.add_many("TopN", 3, *inputs, domain=PLUGIN_DOMAIN, metric=self._metric))

    def initializers(self) -> list[TensorProto]:
        """Return the index file as a constant."""
        return [index_bytes(self._directory, "index")]


class PortableHead:
    """MatMul and TopK: every item's score, float32, equal to the engine's within its rounding."""

    def __init__(self, directory: Path, index: Index) -> None:
        self._directory = directory
        self._index = index

    def __call__(self, nodes: Nodes, queries: str, k: str, codes: str, excluded: str) -> Found:
        """Append the nodes."""
        scores = self._scores(nodes, queries, self._items(nodes))
        # At least one more column: what is no item is scattered there, and places beyond the
        # catalogue come from there.
        n_items = len(self._index)
        missing = nodes.constant([-np.inf], np.float32)
        size = nodes.add("Sub", k, nodes.constant([n_items], np.int64))
        size = nodes.add("Max", size, nodes.constant([1], np.int64))
        zero, one = nodes.constant([0], np.int64), nodes.constant([1], np.int64)
        batch = nodes.add("Slice", nodes.add("Shape", queries), zero, one)
        filler = nodes.add("Expand", missing, nodes.add("Concat", batch, size, axis=0))
        padded = nodes.add("Concat", scores, filler, axis=1)
        rows = nodes.add("Sub", codes, nodes.constant(1, np.int64))
        is_row = nodes.add("Greater", codes, nodes.constant(0, np.int64))
        is_row = nodes.add("And", is_row, excluded)
        places = nodes.add("Where", is_row, rows, nodes.constant(n_items, np.int64))
        updates = nodes.add("Expand", missing, nodes.add("Shape", places))
        allowed = nodes.add("ScatterElements", padded, places, updates, axis=1)
        best, found = nodes.add_many("TopK", 2, allowed, k, axis=1)
        is_none = nodes.add("IsInf", best)
        result = nodes.add("Where", is_none, nodes.constant(-1, np.int64), found)
        is_there = nodes.add("Cast", nodes.add("Not", is_none), to=TensorProto.INT64)
        axis = nodes.constant([1], np.int64)
        return Found(result, best, nodes.add("ReduceSum", is_there, axis, keepdims=0))

    def initializers(self) -> list[TensorProto]:
        """Return the rows: those of the index file, or for int8, which keeps none, codes."""
        index, storage = self._index, self._index.storage
        shape = (len(index), index.dim)
        if storage != "int8":
            return [index_rows(self._directory, "items", _STORED[storage], shape)]
        codes, scales = byte_rows(index.vectors(np.arange(len(index))))
        return [numpy_helper.from_array(codes, "items"), numpy_helper.from_array(scales, "scales")]

    def _items(self, nodes: Nodes) -> str:
        storage = self._index.storage
        if storage == "float32":
            return "items"
        items = nodes.add("Cast", "items", to=TensorProto.FLOAT)
        return nodes.add("Mul", items, "scales") if storage == "int8" else items

    def _scores(self, nodes: Nodes, queries: str, items: str) -> str:
        metric, axis = self._index.metric, nodes.constant([1], np.int64)
        if metric == "dot":
            return nodes.add("Gemm", queries, items, transB=1)
        squares = nodes.add("ReduceSum", nodes.add("Mul", queries, queries), axis, keepdims=1)
        if metric == "cosine":  # stored rows have length 1
            least = nodes.constant(np.finfo(np.float32).tiny, np.float32)
            length = nodes.add("Sqrt", nodes.add("Max", squares, least))
            return nodes.add("Gemm", nodes.add("Div", queries, length), items, transB=1)
        # |u - x|^2 = |u|^2 - 2 u·x + |x|^2; the last term is a constant, folded at load.
        item_squares = nodes.add("ReduceSum", nodes.add("Mul", items, items), axis, keepdims=0)
        cross = nodes.add("Gemm", queries, items, item_squares, transB=1, alpha=-2.0)
        distance = nodes.add("Add", cross, squares)
        distance = nodes.add("Max", distance, nodes.constant(0, np.float32))
        return nodes.add("Neg", nodes.add("Sqrt", distance))


def byte_rows(vectors: npt.NDArray[np.float32]) -> tuple[Any, Any]:
    """Return int8 codes (n, dim) and scales (n, 1) whose product is exactly `vectors`.

    Only rows of an int8 index have such codes: each is a scale times whole numbers up to 127.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64)
    scales = (largest / 127).astype(np.float32)
    codes = np.rint(vectors / np.where(scales > 0, scales, 1)).astype(np.int8)
    if not np.array_equal(codes * scales, vectors):
        raise AssertionError("rows of an int8 index are scales times whole numbers")
    return codes, scales
