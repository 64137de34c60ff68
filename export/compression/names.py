"""Short names in a graph: a converted graph tells of layers at length, in every graph again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shortlist.export.passes.view import with_subgraphs

if TYPE_CHECKING:
    import onnx

__all__ = ["shorten_names"]

LONGEST = 16  # a name that is no longer stays as it is


def shorten_names(proto: onnx.ModelProto) -> None:
    """Give long names of a graph's inner values short ones; inputs and outputs keep theirs."""
    graph = proto.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    short: dict[str, str] = {}

    def renamed(name: str) -> str:
        if len(name) <= LONGEST or name in kept:
            return name
        return short.setdefault(name, f"v{len(short)}")

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for part in with_subgraphs(graph):
        del part.value_info[:]
        for value in part.output:
            value.name = renamed(value.name)
        for node in part.node:
            node.name, node.doc_string = "", ""
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    names[place] = renamed(name)
