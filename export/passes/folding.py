"""Constants computed from constants."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from shortlist.export.passes.view import GraphView

# A result may be larger than what it is made of, but not by more bytes than this.
MOST_ADDED = 1 << 16
# With subgraphs, or never twice the same.
SPECIAL = {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"}


def fold_constants(view: GraphView) -> bool:
    """Replace standard nodes whose inputs are all constants by their results."""
    nodes = []
    for node in view.nodes:
        results = _evaluate(view, node)
        if results is None:
            nodes.append(node)
            continue
        for name, values in zip(node.output, results, strict=True):
            if name:
                # The name stays, so that all who read it do.
                view.constants[name] = view.constants.pop(view.add_constant(values, name))
                view.constants[name].name = name
    changed = len(nodes) < len(view.nodes)
    view.nodes = nodes
    return changed


def _evaluate(view: GraphView, node: Any) -> list[Any] | None:
    inputs = [name for name in node.input if name]
    if node.domain or node.op_type in SPECIAL or view.outputs.intersection(node.output):
        return None
    if not inputs or any(name not in view.constants for name in inputs):
        return None
    feeds = {name: view.array(name) for name in inputs}
    info = [
        helper.make_tensor_value_info(name, view.constants[name].data_type, None)
        for name in dict.fromkeys(inputs)
    ]
    outputs = [helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
    graph = helper.make_graph([node], "fold", info, outputs)
    model = helper.make_model(graph, opset_imports=view.proto.opset_import)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            arrays = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # an operator that the reference lacks stays
        return None
    results = [np.asarray(value) for value in arrays]
    n_given = sum(array.nbytes for array in feeds.values() if array is not None)
    if sum(array.nbytes for array in results) > n_given + MOST_ADDED:
        return None
    named = iter(results)
    return [next(named) if name else None for name in node.output]
