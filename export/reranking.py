"""The second stage inside a graph that recommends: one operator of ours, or standard ones.

With standard operators the whole stage is a branch of an `If`, so that a run with one stage does
not pay for it; our operator is told the number of stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from shortlist.export.heads import Head, Hits, choose
from shortlist.export.parts import Parts
from shortlist.training.graphs.nodes import Nodes

STAGES = "stages"
SCORER = "scorer/"
Branch = tuple[Nodes, Hits]


def add_first_k(nodes: Nodes, n_candidates: int) -> str:
    """Append how many items the first stage finds: the candidates, unless it is the only one."""
    by_stages = nodes.constant([1, 1, n_candidates], np.int64)
    return nodes.add("Max", "top_n", nodes.add("Gather", by_stages, STAGES))


def add_second_stage(
    nodes: Nodes,
    parts: Parts,
    head: Head,
    hits: Hits,
    known: Known,
    proto: onnx.ModelProto,
) -> Hits:
    """Append the second stage behind what the first one found.

    Parameters
    ----------
    nodes : Nodes
    parts : Parts
    head : Head
    hits : Hits
        `add_first_k` candidates.
    known : Known
    proto : onnx.ModelProto
        Gets the scorer's constants, where its graph is taken.

    Returns
    -------
    Hits
        `top_n` items each; of requests without a history, and with one stage, the first `top_n`.
    """
    if head.has_operators and parts.reranker is not None:
        inputs = [hits.rows, hits.scores, hits.codes, known.codes, known.n_known]
        inputs += ["top_n", STAGES]
        return Hits(*parts.reranker.add(nodes, inputs, parts.history_length))
    again, once = Nodes("again"), Nodes("once")
    history = head.pack(again, known.codes, parts.history_length).codes
    assert parts.scorer is not None
    best = _rerank(again, parts.scorer, hits, history, proto)
    best = choose(again, known.has_some, best, _first(again, hits))
    same = Hits(*(once.add("Identity", v) for v in (hits.rows, hits.scores, hits.counts)))
    are_two = nodes.add("Equal", STAGES, nodes.constant([2], np.int64))
    return _either(nodes, are_two, (again, best), (once, same))


@dataclass(frozen=True)
class Known:
    """Names of what is known of the requests.

    Attributes
    ----------
    codes : str
        Item codes of the histories (batch, length), 0 = not known.
    n_known : str
        Known items of each, int64 (batch,).
    has_some : str
        Where that is not 0, bool (batch,).
    """

    codes: str
    n_known: str
    has_some: str


def _either(nodes: Nodes, condition: str, yes: Branch, no: Branch) -> Hits:
    """Append the one node that runs one of two branches."""
    types = (TensorProto.INT64, TensorProto.FLOAT, TensorProto.INT64)
    shapes = (["batch", "found"], ["batch", "found"], ["batch"])
    graphs = []
    for branch, hits in (yes, no):
        outputs = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in zip(
                (hits.rows, hits.scores, hits.counts), types, shapes, strict=True
            )
        ]
        graphs.append(helper.make_graph(branch.nodes, branch.name, [], outputs))
    branches = {"then_branch": graphs[0], "else_branch": graphs[1]}
    return Hits(*nodes.add_many("If", 3, condition, **branches))


def _first(nodes: Nodes, hits: Hits) -> Hits:
    """Cut what the first stage found for the second one to `top_n`."""
    zero, axis = nodes.constant([0], np.int64), nodes.constant([1], np.int64)

    def cut(values: str) -> str:
        return nodes.add("Slice", values, zero, "top_n", axis)

    return Hits(cut(hits.rows), cut(hits.scores), nodes.add("Min", hits.counts, "top_n"))


def _rerank(
    nodes: Nodes, scorer: onnx.ModelProto, hits: Hits, history: str, proto: onnx.ModelProto
) -> Hits:
    """Score the candidates and put them in order: best first, ties by the lower row."""
    is_none = nodes.add("Less", hits.rows, nodes.constant(0, np.int64))
    codes = hits.codes or nodes.add("Add", hits.rows, nodes.constant(1, np.int64))
    similarity = nodes.add("Where", is_none, nodes.constant(0, np.float32), hits.scores)
    inputs = {"history": history, "candidates": codes, "similarity": similarity}
    score = _insert(nodes, scorer, inputs, proto)
    score = nodes.add("Where", is_none, nodes.constant(-np.inf, np.float32), score)
    # TopK takes the first of equals, so the candidates go into the order of their rows before.
    ends = (nodes.constant([1], np.int64), nodes.constant([2], np.int64))
    width = nodes.add("Slice", nodes.add("Shape", hits.rows), *ends)
    rows, order = nodes.add_many("TopK", 2, hits.rows, width, axis=1, largest=0)
    score = nodes.add("GatherElements", score, order, axis=1)
    best, places = nodes.add_many("TopK", 2, score, "top_n", axis=1)
    rows = nodes.add("GatherElements", rows, places, axis=1)
    return Hits(rows, best, nodes.add("Min", hits.counts, "top_n"))


def _insert(
    nodes: Nodes, graph: onnx.ModelProto, inputs: dict[str, str], proto: onnx.ModelProto
) -> str:
    """Append another graph's nodes and constants under a prefix; returns its output."""
    added = onnx.compose.add_prefix(graph, prefix=SCORER)
    renamed = {SCORER + name: value for name, value in inputs.items()}
    for node in added.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    nodes.nodes.extend(added.graph.node)
    proto.graph.initializer.extend(added.graph.initializer)
    return str(added.graph.output[0].name)
