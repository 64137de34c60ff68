"""All passes over one graph, again and again until none finds anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shortlist.export.passes.folding import fold_constants
from shortlist.export.passes.rules import RULES
from shortlist.export.passes.tables import tabulate
from shortlist.export.passes.tidy import (
    drop_dead_nodes,
    merge_equal_constants,
    merge_equal_nodes,
    tidy,
)
from shortlist.export.passes.view import GraphView

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


def simplify(proto: onnx.ModelProto, n_codes: Mapping[str, int]) -> onnx.ModelProto:
    """Return a graph that computes the same with fewer nodes.

    Parameters
    ----------
    proto : onnx.ModelProto
        Without subgraphs. Not changed.
    n_codes : mapping of str to int
        Number of codes of integer inputs that are looked up: their values are 0 … n − 1.

    Returns
    -------
    onnx.ModelProto
        Same inputs, outputs and opset.
    """
    view = GraphView(proto)
    while _find(view, n_codes):
        view.refresh()
    lean = view.to_proto()
    tidy(lean)
    return lean


def _find(view: GraphView, n_codes: Mapping[str, int]) -> bool:
    """Let the first pass that finds something change the graph.

    It ends: each makes the graph smaller, or moves a node one way only.
    """
    for find in (drop_dead_nodes, fold_constants, merge_equal_constants, merge_equal_nodes):
        if find(view):
            return True
    for rule in RULES:
        if any(rule(view, node) for node in list(view.nodes)):
            return True
    return tabulate(view, n_codes)
