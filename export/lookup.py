"""Put the preprocessing in front of a core graph: raw columns become its codes and numbers.

The nodes repeat `Feature.encode` one by one: LabelEncoder (ai.onnx.ml) for every vocabulary,
arithmetic for numbers and times, hashing for text. So a host passes what its database holds, and
training and serving cannot differ.
"""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from shortlist._columns.requests import MISSING_INT
from shortlist.export.checks import check_interface, check_model, rename_value
from shortlist.export.columns import RawFeature, age_nodes, number_nodes, time_nodes, vector_nodes
from shortlist.export.errors import ExportError
from shortlist.export.passes import merge_opsets
from shortlist.training.features.text import RUNTIME_DOMAIN, text_nodes
from shortlist.training.graphs.nodes import Nodes

ML_DOMAIN = "ai.onnx.ml"
ML_VERSION = 2  # the first with LabelEncoder int64 → int64; every ONNX Runtime since 1.0 has it
CORE = "core/"
_RAW_TYPES = {
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
    "float32": TensorProto.FLOAT,
}
_RANKS = {"code": 1, "number": 1, "codes": 2, "dense": 2, "ages": 2}


def add_lookups(core: onnx.ModelProto, features: Sequence[RawFeature]) -> onnx.ModelProto:
    """Return a graph that takes raw values and looks codes up before it runs `core`.

    Parameters
    ----------
    core : onnx.ModelProto
        Takes codes (int64) and standardised numbers (float32), one input a feature. Not changed.
    features : sequence of RawFeature
        One for each of the core's inputs, by name.

    Returns
    -------
    onnx.ModelProto
        Same output. Inputs, by column name: ids, categories and tags `tensor(int64)` or
        `tensor(string)` (padding and missing: INT64_MIN or ""), text `tensor(string)`, times
        `tensor(int64)` in seconds, numbers and vectors `tensor(float)` (missing: NaN).

    Raises
    ------
    ExportError
        Features and inputs do not match, a vocabulary repeats a value or holds the value that
        means missing, or the merged graph is invalid.
    """
    output = core.graph.output[0].name
    check_interface(core, [feature.name for feature in features], output)
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in core.graph.input
    }
    nodes: list[Any] = []
    inputs, outputs = [], []
    for feature in features:
        core_shape = dims[feature.name]
        if len(core_shape) != _RANKS[feature.form]:
            raise ExportError(
                f"feature {feature.name!r} ({feature.kind}): expected a core input of "
                f"{_RANKS[feature.form]} dimensions, found {len(core_shape)}"
            )
        raw_type = _RAW_TYPES[feature.id_dtype]
        raw_shape = _raw_shape(feature)
        inputs.append(helper.make_tensor_value_info(feature.name, raw_type, raw_shape))
        is_float = feature.form in ("number", "dense", "ages")
        coded = TensorProto.FLOAT if is_float else TensorProto.INT64
        coded_shape = ["batch", *(core_shape[1:] if is_float else [f"coded_{feature.name}"])]
        coded_shape = coded_shape[: len(core_shape)]
        outputs.append(helper.make_tensor_value_info(f"coded/{feature.name}", coded, coded_shape))
        nodes += _nodes(feature)
    opset = next(entry.version for entry in core.opset_import if entry.domain == "")
    domains = {"": opset, ML_DOMAIN: ML_VERSION}
    if any(feature.kind == "text" for feature in features):
        domains[RUNTIME_DOMAIN] = 1
    front = helper.make_model(
        helper.make_graph(nodes, "lookups", inputs, outputs),
        opset_imports=[helper.make_opsetid(*entry) for entry in domains.items()],
        ir_version=core.ir_version,
    )
    return _merge(front, core, [feature.name for feature in features], output)


def _merge(
    front: onnx.ModelProto, core: onnx.ModelProto, names: list[str], output: str
) -> onnx.ModelProto:
    prefixed = onnx.compose.add_prefix(core, prefix=CORE)
    for entry in prefixed.opset_import:
        if entry.domain == ML_DOMAIN:
            entry.version = ML_VERSION
    merged = onnx.compose.merge_models(
        front,
        prefixed,
        io_map=[(f"coded/{name}", f"{CORE}{name}") for name in names],
        outputs=[f"{CORE}{output}"],
    )
    del prefixed  # its tables can be large, and the checks need room
    rename_value(merged, f"{CORE}{output}", output)
    _restore_dims(merged)
    merged.graph.name = output
    merged.producer_name = "shortlist"
    merge_opsets(merged)  # what the core does not read stays: a graph around this one may
    check_interface(merged, names, output)
    check_model(merged, output)
    return merged


def _restore_dims(merged: onnx.ModelProto) -> None:
    """Take add_prefix's prefix off the names of dynamic dimensions, so that they are one again."""
    for value in (*merged.graph.input, *merged.graph.output, *merged.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith(CORE):
                dim.dim_param = dim.dim_param.removeprefix(CORE)


def _raw_shape(feature: RawFeature) -> list[Any]:
    if feature.kind == "vector":
        return ["batch", feature.width]
    if feature.kind.startswith("history"):
        return ["batch", "length"]
    # Two features' lists have different lengths, so each gets a dimension name of its own.
    return ["batch", f"n_{feature.name}"] if feature.kind == "multi_categorical" else ["batch"]


def _nodes(feature: RawFeature) -> list[Any]:
    """Make the nodes from the raw input, named like the feature, to ``coded/NAME``."""
    output = f"coded/{feature.name}"
    if feature.kind == "text":
        return text_nodes(feature.spec, feature.name, output)
    nodes = Nodes(feature.name)
    if feature.kind == "numeric":
        number_nodes(nodes, feature)
    elif feature.kind == "timestamp":
        time_nodes(nodes, feature)
    elif feature.kind == "history_ages":
        age_nodes(nodes, feature)
    elif feature.kind == "vector":
        vector_nodes(nodes, feature)
    else:
        return [_lookup_node(feature)]
    nodes.rename_last(output)
    return nodes.nodes


def _lookup_node(feature: RawFeature) -> Any:
    vocabulary = list(feature.vocabulary)
    is_text = feature.id_dtype == "string"
    missing: Any = "" if is_text else MISSING_INT
    if missing in vocabulary:
        raise ExportError(f"feature {feature.name!r}: {missing!r} means missing, so it is no value")
    if len(set(vocabulary)) != len(vocabulary):
        raise ExportError(f"feature {feature.name!r}: expected each known value once")
    codes = list(range(1, len(vocabulary) + 1))
    # LabelEncoder wants at least one key, so without a vocabulary "missing" maps to 0, as it would.
    if feature.has_own_missing or not vocabulary:
        vocabulary.append(missing)
        codes.append(feature.n_values + 1 if feature.has_own_missing else 0)
    keys = {"keys_strings" if is_text else "keys_int64s": vocabulary}
    return helper.make_node(
        "LabelEncoder",
        [feature.name],
        [f"coded/{feature.name}"],
        name=f"lookup/{feature.name}",
        domain=ML_DOMAIN,
        values_int64s=codes,
        default_int64=0,
        **keys,
    )
