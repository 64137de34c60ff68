"""Put the lookups in front of a core graph: raw ids, text and numbers become its codes.

The nodes repeat `FeatureSet`'s numpy encoders one by one: LabelEncoder (ai.onnx.ml) for every
vocabulary, arithmetic for standardising. So a host passes what its database holds, and training
and serving cannot differ.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper

from shortlist.export.checks import check_interface, check_model, rename_value
from shortlist.export.errors import ExportError
from shortlist.requests import MISSING_INT

ML_DOMAIN = "ai.onnx.ml"
ML_VERSION = 2  # the first with LabelEncoder int64 → int64; every ONNX Runtime since 1.0 has it
CORE = "core/"
_FLOAT_MAX = float(np.finfo(np.float32).max)
_RAW_TYPES = {
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
    "float32": TensorProto.FLOAT,
}


class RawFeature(Protocol):
    """What lookups need of a feature; `shortlist.training.features.Feature` has it all."""

    @property
    def name(self) -> str:
        """Column name, also the name of the graph's input."""

    @property
    def kind(self) -> str:
        """One of id, history, categorical, multi_categorical, numeric."""

    @property
    def id_dtype(self) -> str:
        """Raw value type: int64, string, or float32 for numeric."""

    @property
    def vocabulary(self) -> Any:
        """Raw value of code 1, 2, …."""

    @property
    def mean(self) -> float:
        """Of a numeric feature."""

    @property
    def std(self) -> float:
        """Of a numeric feature; never 0."""


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
        `tensor(string)` (padding and missing: INT64_MIN or ""), numbers `tensor(float)`
        (missing: NaN). Unknown values get code 0, like missing ones.

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
        shape = _raw_shape(feature, dims[feature.name])
        inputs.append(
            helper.make_tensor_value_info(feature.name, _RAW_TYPES[feature.id_dtype], shape)
        )
        coded = TensorProto.FLOAT if feature.kind == "numeric" else TensorProto.INT64
        outputs.append(helper.make_tensor_value_info(f"coded/{feature.name}", coded, shape))
        nodes += _number_nodes(feature) if feature.kind == "numeric" else [_lookup_node(feature)]
    opset = next(entry.version for entry in core.opset_import if entry.domain == "")
    front = helper.make_model(
        helper.make_graph(nodes, "lookups", inputs, outputs),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(ML_DOMAIN, ML_VERSION)],
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
    rename_value(merged, f"{CORE}{output}", output)
    _restore_dims(merged)
    merged.graph.name = output
    merged.producer_name = "shortlist"
    check_interface(merged, names, output)
    check_model(merged, output)
    return merged


def _restore_dims(merged: onnx.ModelProto) -> None:
    """Take add_prefix's prefix off the names of dynamic dimensions, so that they are one again."""
    for value in (*merged.graph.input, *merged.graph.output, *merged.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith(CORE):
                dim.dim_param = dim.dim_param.removeprefix(CORE)


def _raw_shape(feature: RawFeature, dims: list[Any]) -> list[Any]:
    rank = 2 if feature.kind in ("history", "multi_categorical") else 1
    if len(dims) != rank:
        raise ExportError(
            f"feature {feature.name!r} ({feature.kind}): expected a core input of {rank} "
            f"dimensions, found {len(dims)}"
        )
    # Two features' lists have different lengths, so each gets a dimension name of its own.
    second = {"history": "length"}.get(feature.kind, f"n_{feature.name}")
    return ["batch", second][:rank]


def _lookup_node(feature: RawFeature) -> Any:
    vocabulary = list(feature.vocabulary)
    is_text = feature.id_dtype == "string"
    missing: Any = "" if is_text else MISSING_INT
    if missing in vocabulary:
        raise ExportError(f"feature {feature.name!r}: {missing!r} means missing, so it is no value")
    if len(set(vocabulary)) != len(vocabulary):
        raise ExportError(f"feature {feature.name!r}: expected each known value once")
    if not vocabulary:  # LabelEncoder wants at least one key: nothing known maps to 0 anyway
        vocabulary = [missing]
        codes = [0]
    else:
        codes = list(range(1, len(vocabulary) + 1))
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


def _number_nodes(feature: RawFeature) -> list[Any]:
    """Standardise in float32; NaN and infinity, of which |x| <= max is false, give 0."""
    name = feature.name

    def constant(label: str, value: float) -> Any:
        tensor = helper.make_tensor(f"{name}/{label}", TensorProto.FLOAT, [], [value])
        return helper.make_node("Constant", [], [f"{name}/{label}"], value=tensor)

    return [
        constant("mean", feature.mean),
        constant("std", feature.std),
        constant("largest", _FLOAT_MAX),
        constant("zero", 0.0),
        helper.make_node("Abs", [name], [f"{name}/size"]),
        helper.make_node("LessOrEqual", [f"{name}/size", f"{name}/largest"], [f"{name}/finite"]),
        helper.make_node("Sub", [name, f"{name}/mean"], [f"{name}/centred"]),
        helper.make_node("Div", [f"{name}/centred", f"{name}/std"], [f"{name}/scaled"]),
        helper.make_node(
            "Where", [f"{name}/finite", f"{name}/scaled", f"{name}/zero"], [f"coded/{name}"]
        ),
    ]
