"""From user embeddings to the exact nearest items: our operator, or standard ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from shortlist.export.tensors import index_bytes
from shortlist.index import Index
from shortlist.training.graphs.nodes import Nodes

PLUGIN_DOMAIN = "ai.shortlist"
# What TopN takes beside the history: item rows and a byte a row. Empty = everything is allowed.
_FILTERS = {
    "exclude": TensorProto.INT64,
    "exclude_splits": TensorProto.INT64,
    "allow": TensorProto.INT64,
    "allow_splits": TensorProto.INT64,
    "allow_mask": TensorProto.UINT8,
}


@dataclass(frozen=True)
class Hits:
    """Names of what a head finds.

    Attributes
    ----------
    rows, scores : str
        (batch, k), best first.
    counts : str
        (batch,)
    codes : str
        Of the rows, for a second stage: row + 1, and 0 at missing places.
    """

    rows: str
    scores: str
    counts: str
    codes: str = ""


@dataclass(frozen=True)
class Packed:
    """Names of packed histories.

    Attributes
    ----------
    codes : str
        The last known codes (batch, width), 0 on the left; the longest list fills the width.
    places : str
        The columns they come from (batch, width).
    n_known : str
        Known items of each history (batch,), those that were left out included.
    """

    codes: str
    places: str
    n_known: str


@dataclass(frozen=True)
class Popular:
    """Constants: item rows and scores, most popular first."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class Head(Protocol):
    """Appends what differs between the two graphs.

    Attributes
    ----------
    has_operators : bool
        Whether the graph may have operators of ours.
    """

    has_operators: bool

    def pack(self, nodes: Nodes, codes: str, limit: int) -> Packed:
        """Drop unknown items of histories and keep the last ones.

        Parameters
        ----------
        nodes : Nodes
        codes : str
            Codes of the items of each request's history (batch, length): row + 1, 0 = none.
        limit : int
            Items to keep of each.

        Returns
        -------
        Packed
        """

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
        """Append the search.

        Parameters
        ----------
        nodes : Nodes
        queries : str
            User embeddings (batch, dim).
        k : str
            How many items, int64 (1,).
        codes : str
            As for `pack`.
        exclude_seen : str
            Whether these items must not come back, bool (1,).
        is_unknown : str
            Requests that get popular items, bool (batch,). They have no known items.
        popular : Popular
        """

    def initializers(self) -> list[TensorProto]:
        """Return the constants the nodes need, and what `inputs` are if they are left out."""

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Return optional inputs of the graph that the nodes take."""


class PluginHead:
    """ai.shortlist.TopN: bit for bit the engine's search."""

    has_operators = True

    def __init__(self, directory: Path, index: Index) -> None:
        self._directory = directory
        self._metric = index.metric

    def pack(self, nodes: Nodes, codes: str, limit: int) -> Packed:
        """Append one node."""
        return Packed(*nodes.add_many("PackHistory", 3, codes, domain=PLUGIN_DOMAIN, limit=limit))

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
        fallback = (
            nodes.constant(popular.rows, np.int64),
            nodes.constant(popular.scores, np.float32),
        )
        inputs = (queries, k, "index", "", "", *fallback, is_unknown, *_FILTERS)
        inputs = (*inputs, codes, exclude_seen)
        return Hits(*nodes.add_many("TopN", 4, *inputs, domain=PLUGIN_DOMAIN, metric=self._metric))

    def initializers(self) -> list[TensorProto]:
        """Return the index file as a constant, and filters that allow everything."""
        nothing = [helper.make_tensor(name, kind, [0], []) for name, kind in _FILTERS.items()]
        return [index_bytes(self._directory, "index"), *nothing]

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Return the filters of a run."""
        return [
            helper.make_tensor_value_info(name, kind, [f"n_{name}"])
            for name, kind in _FILTERS.items()
        ]


def choose(nodes: Nodes, condition: str, yes: Hits, no: Hits) -> Hits:
    """Take each request's answer from `yes` or from `no`, condition bool (batch,)."""
    column = nodes.add("Unsqueeze", condition, nodes.constant([1], np.int64))
    return Hits(
        nodes.add("Where", column, yes.rows, no.rows),
        nodes.add("Where", column, yes.scores, no.scores),
        nodes.add("Where", condition, yes.counts, no.counts),
    )
