"""What an answer is made from: the history, user features, or nothing that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from shortlist.export.columns import given_name
from shortlist.recommendations import FEATURES, HISTORY, POPULAR
from shortlist.training.graphs.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.export.columns import RawFeature


def add_source(nodes: Nodes, features: Sequence[RawFeature], n_known: str) -> tuple[str, str, str]:
    """Append the decision.

    Parameters
    ----------
    nodes : Nodes
    features : sequence of RawFeature
        The user's, without history and event features.
    n_known : str
        Known items of each history, int64 (batch,).

    Returns
    -------
    tuple of str
        Names of the source, int64 (batch,); of the requests that have a history, and of those of
        which nothing is known, bool (batch,).
    """
    has_history = nodes.add("Greater", n_known, nodes.constant(0, np.int64))
    history = nodes.constant(HISTORY, np.int64)
    numbers = [_number(nodes, feature) for feature in features]
    if not numbers:
        source = nodes.add("Where", has_history, history, nodes.constant(POPULAR, np.int64))
        return source, has_history, nodes.add("Not", has_history)
    most = nodes.add("Max", *numbers) if len(numbers) > 1 else numbers[0]
    # POPULAR is 0 and FEATURES 1: what `most` becomes.
    source = nodes.add("Min", most, nodes.constant(FEATURES, np.int64))
    source = nodes.add("Where", has_history, history, source)
    return source, has_history, nodes.add("Equal", source, nodes.constant(POPULAR, np.int64))


def _number(nodes: Nodes, feature: RawFeature) -> str:
    """Append a number int64 (batch,): above 0 where `FeatureColumn.is_known`, else 0."""
    match feature.kind:
        case "categorical" | "multi_categorical":
            codes = f"coded/{feature.name}"
            if feature.has_own_missing:
                is_value = np.ones(feature.n_values + 2)
                is_value[[0, -1]] = 0  # not known, missing
                codes = nodes.add("Gather", nodes.constant(is_value, np.int64), codes)
            return codes if feature.kind == "categorical" else _total(nodes, codes)
        case "text":
            return nodes.add(
                "LabelEncoder",
                feature.name,
                domain="ai.onnx.ml",
                keys_strings=[""],
                values_int64s=[0],
                default_int64=1,
            )
        case "vector":
            is_number = nodes.add("Not", nodes.add("IsNaN", feature.name))
            return _total(nodes, nodes.add("Cast", is_number, to=TensorProto.INT64))
        case _:
            return nodes.add("Cast", given_name(feature), to=TensorProto.INT64)


def _total(nodes: Nodes, numbers: str) -> str:
    return nodes.add("ReduceSum", numbers, nodes.constant([1], np.int64), keepdims=0)
