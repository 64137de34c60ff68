"""The search with standard operators, for hosts without our library and for GPUs."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from shortlist.export.heads import Hits, Packed, Popular, choose
from shortlist.export.tensors import index_rows
from shortlist.index import Index
from shortlist.training.graphs.nodes import Nodes

_STORED = {
    **dict.fromkeys(("float32", "disk8", "disk6", "disk4"), TensorProto.FLOAT),
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


# Largest code of the storages whose codes are the rows.
_MOST_CODE = {"int8": 127, "int4": 15}


class PortableHead:
    """MatMul and TopK: every item's score, float32, equal to the engine's within its rounding."""

    has_operators = False

    def __init__(self, directory: Path, index: Index) -> None:
        self._directory = directory
        self._index = index

    def pack(self, nodes: Nodes, codes: str, limit: int) -> Packed:
        """Append the nodes."""
        zero, one = nodes.constant(0, np.int64), nodes.constant(1, np.int64)
        known = nodes.add("Cast", nodes.add("Greater", codes, zero), to=TensorProto.INT64)
        number = nodes.add("CumSum", known, one)  # 1, 2, … of known items
        longest = nodes.add(
            "Reshape", nodes.add("ReduceMax", number), nodes.constant([1], np.int64)
        )
        width = nodes.add("Clip", longest, one, nodes.constant(limit, np.int64))
        # Numbers of known items are all different and others are 0, so no tie matters.
        _, last = nodes.add_many("TopK", 2, nodes.add("Mul", number, known), width, axis=1)
        back, axis = nodes.constant([-1], np.int64), nodes.constant([1], np.int64)
        end = nodes.constant([np.iinfo(np.int64).min + 1], np.int64)
        places = nodes.add("Slice", last, back, end, axis, back)
        packed = nodes.add("GatherElements", codes, places, axis=1)
        return Packed(packed, places, nodes.add("ReduceSum", known, axis, keepdims=0))

    def search(
        self,
        nodes: Nodes,
        queries: str,
        k: str,
        codes: str,
        exclude_seen: str,
        is_unknown: str,
        popular: Popular,
    ) -> Hits:
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
        is_row = nodes.add("And", is_row, exclude_seen)
        places = nodes.add("Where", is_row, rows, nodes.constant(n_items, np.int64))
        updates = nodes.add("Expand", missing, nodes.add("Shape", places))
        allowed = nodes.add("ScatterElements", padded, places, updates, axis=1)
        best, order = nodes.add_many("TopK", 2, allowed, k, axis=1)
        is_none = nodes.add("IsInf", best)
        result = nodes.add("Where", is_none, nodes.constant(-1, np.int64), order)
        is_there = nodes.add("Cast", nodes.add("Not", is_none), to=TensorProto.INT64)
        axis = nodes.constant([1], np.int64)
        counts = nodes.add("ReduceSum", is_there, axis, keepdims=0)
        personal = Hits(result, best, counts)
        return choose(nodes, is_unknown, _first(nodes, popular, k), personal)

    def initializers(self) -> list[TensorProto]:
        """Return the rows: those of the index file, or where it keeps none, codes."""
        index, storage = self._index, self._index.storage
        shape = (len(index), index.dim)
        if storage in _STORED:
            return [index_rows(self._directory, "items", _STORED[storage], shape)]
        codes, scales = code_rows(index.vectors(np.arange(len(index))), _MOST_CODE[storage])
        return [numpy_helper.from_array(codes, "items"), numpy_helper.from_array(scales, "scales")]

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Return nothing: standard operators would pay for filters that nobody gives."""
        return []

    def _items(self, nodes: Nodes) -> str:
        storage = self._index.storage
        if _STORED.get(storage) == TensorProto.FLOAT:
            return "items"
        items = nodes.add("Cast", "items", to=TensorProto.FLOAT)
        return items if storage in _STORED else nodes.add("Mul", items, "scales")

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


def _first(nodes: Nodes, popular: Popular, k: str) -> Hits:
    """Take the first k: rows and scores (k,), counts (1,)."""
    rows = nodes.constant(np.append(popular.rows, -1), np.int64)
    scores = nodes.constant(np.append(popular.scores, -np.inf), np.float32)
    number = nodes.add("Squeeze", k, nodes.constant([0], np.int64))
    zero, one = nodes.constant(0, np.int64), nodes.constant(1, np.int64)
    n_items = nodes.constant([len(popular.rows)], np.int64)
    places = nodes.add("Min", nodes.add("Range", zero, number, one), n_items)
    return Hits(
        nodes.add("Gather", rows, places),
        nodes.add("Gather", scores, places),
        nodes.add("Min", k, n_items),
    )


def code_rows(vectors: npt.NDArray[np.float32], most: int) -> tuple[Any, Any]:
    """Return int8 codes (n, dim) and scales (n, 1) whose product is exactly `vectors`.

    Only rows of an approximate index have such codes: each is a scale times whole numbers up to
    `most`, which the largest of them is.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64)
    scales = (largest / most).astype(np.float32)
    codes = np.rint(vectors / np.where(scales > 0, scales, 1)).astype(np.int8)
    if not np.array_equal(codes * scales, vectors):
        raise AssertionError("rows of an approximate index are scales times whole numbers")
    return codes, scales
