"""Numbers, times and vectors → what the encoders take, as graph nodes: `Feature.encode` again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from onnx import TensorProto

from shortlist._columns.requests import MISSING_INT
from shortlist.training.features.feature import DAY, HOURS, SMALLEST_NORM, WEEKDAYS

if TYPE_CHECKING:
    from shortlist.training.graphs.nodes import Nodes


class RawFeature(Protocol):
    """What preprocessing needs of a feature: `Feature` of the training has it all."""

    @property
    def name(self) -> str:
        """Column name, also the name of the graph's input."""

    @property
    def kind(self) -> str:
        """One of id, history, or a declared kind."""

    @property
    def form(self) -> str:
        """What the core takes: code, codes, number or dense."""

    @property
    def id_dtype(self) -> str:
        """Raw value type: int64, string or float32."""

    @property
    def vocabulary(self) -> Any:
        """Raw value of code 1, 2, …."""

    @property
    def mean(self) -> float:
        """Of a number, or of a time's age."""

    @property
    def std(self) -> float:
        """Of a number, or of a time's age; never 0."""

    @property
    def low(self) -> float:
        """A number is cut to at least this."""

    @property
    def high(self) -> float:
        """A number is cut to at most this."""

    @property
    def bounds(self) -> Any:
        """Lower ends of the buckets 2, 3, …."""

    @property
    def reference(self) -> int:
        """Seconds since 1970 that a time's age is counted back from."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    @property
    def part_codes(self) -> Mapping[str, int]:
        """First code of each part of a bucketed time."""

    @property
    def n_values(self) -> int:
        """Largest code of a value that is there."""

    @property
    def has_own_missing(self) -> bool:
        """Whether a missing value is told apart from an unknown one."""

    @property
    def spec(self) -> Any:
        """The declaration, a FeatureSpec."""


def given_name(feature: RawFeature) -> str:
    """Name the value that says where a number or a time is given, bool (batch,)."""
    return f"given/{feature.name}"


_FLOAT_MAX = float(np.finfo(np.float32).max)


def number_nodes(nodes: "Nodes", feature: RawFeature) -> None:
    """Clip, take the logarithm, standardise or bucketise; NaN and infinity are missing."""
    zero = nodes.constant(0, np.float32)
    # |x| <= max is false for NaN and infinity
    size = nodes.add("Abs", feature.name)
    nodes.add("LessOrEqual", size, nodes.constant(_FLOAT_MAX, np.float32))
    is_given = nodes.rename_last(given_name(feature))
    if feature.spec.buckets:
        code = nodes.add(
            "Add",
            _n_reached(nodes, feature.name, np.asarray(feature.bounds, np.float32)),
            nodes.constant(1, np.int64),
        )
        nodes.add("Where", is_given, code, _missing_code(nodes, feature))
        return
    value = feature.name
    if feature.low > -_FLOAT_MAX or feature.high < _FLOAT_MAX:
        low, high = (nodes.constant(bound, np.float32) for bound in (feature.low, feature.high))
        value = nodes.add("Clip", value, low, high)
    if feature.spec.log1p:
        one = nodes.constant(1, np.float32)
        logarithm = nodes.add("Log", nodes.add("Add", nodes.add("Abs", value), one))
        value = nodes.add("Mul", nodes.add("Sign", value), logarithm)
    scaled = _standardised(nodes, value, feature)
    if not feature.has_own_missing:
        nodes.add("Where", is_given, scaled, zero)
        return
    columns = nodes.add("Unsqueeze", scaled, nodes.constant([1], np.int64))
    _mask_rows(nodes, columns, is_given, feature)


def time_nodes(nodes: "Nodes", feature: RawFeature) -> None:
    """Age, hour and weekday of int64 seconds, as columns or as codes."""

    def whole(value: Any) -> str:
        return nodes.constant(value, np.int64)

    nodes.add("Not", nodes.add("Equal", feature.name, whole(MISSING_INT)))
    is_given = nodes.rename_last(given_name(feature))
    reference = whole(feature.reference)
    seconds = nodes.add("Where", is_given, feature.name, reference)
    age = nodes.add("Max", nodes.add("Sub", reference, seconds), whole(0))
    hour = nodes.add("Mod", seconds, whole(DAY))  # Mod takes the sign of the divisor: never < 0
    shifted = nodes.add("Add", seconds, whole(3 * DAY))  # 1970 began on a Thursday
    week = nodes.add("Mod", shifted, whole(WEEKDAYS * DAY))
    weekday = nodes.add("Div", week, whole(DAY))
    parts = feature.spec.parts
    if feature.spec.buckets:
        within = {"hour": nodes.add("Div", hour, whole(DAY // HOURS)), "weekday": weekday}
        if "age" in parts:
            within["age"] = _n_reached(nodes, age, np.asarray(feature.bounds, np.int64))
        codes = [nodes.add("Add", within[part], whole(feature.part_codes[part])) for part in parts]
        joined = _columns(nodes, codes)
        missing = np.zeros(len(parts), np.int64)
        missing[0] = feature.n_values + 1 if feature.has_own_missing else 0
        nodes.add("Where", _as_column(nodes, is_given), joined, whole(missing))
        return
    columns = []
    if "age" in parts:
        days = nodes.add("Div", _as_float(nodes, age), nodes.constant(DAY, np.float32))
        one = nodes.constant(1, np.float32)
        columns.append(_standardised(nodes, nodes.add("Log", nodes.add("Add", one, days)), feature))
    for part, place, size in (("hour", hour, DAY), ("weekday", weekday, WEEKDAYS)):
        if part in parts:
            step = nodes.constant(2 * np.pi / size, np.float32)
            angle = nodes.add("Mul", _as_float(nodes, place), step)
            columns += [nodes.add("Sin", angle), nodes.add("Cos", angle)]
    _mask_rows(nodes, _columns(nodes, columns), is_given, feature)


def age_nodes(nodes: "Nodes", feature: RawFeature) -> None:
    """Ages of events from seconds to days; NaN, which is padding or unknown, counts as 0."""
    zero = nodes.constant(0, np.float32)
    known = nodes.add("Where", nodes.add("IsNaN", feature.name), zero, feature.name)
    nodes.add("Div", known, nodes.constant(DAY, np.float32))


def vector_nodes(nodes: "Nodes", feature: RawFeature) -> None:
    """Scale vectors to length 1 where declared; a row with NaN is missing."""
    axis = nodes.constant([1], np.int64)
    is_number = nodes.add("Not", nodes.add("IsNaN", feature.name))
    least = nodes.add("ReduceMin", nodes.add("Cast", is_number, to=TensorProto.INT32), axis)
    is_given = nodes.add("Cast", nodes.add("Squeeze", least, axis), to=TensorProto.BOOL)
    vectors = feature.name
    if feature.spec.unit_length:
        filled = nodes.add("Where", is_number, vectors, nodes.constant(0, np.float32))
        norm = nodes.add("ReduceL2", filled, axis)
        vectors = nodes.add(
            "Div", filled, nodes.add("Max", norm, nodes.constant(SMALLEST_NORM, np.float32))
        )
    _mask_rows(nodes, vectors, is_given, feature)


def _standardised(nodes: "Nodes", value: str, feature: RawFeature) -> str:
    centred = nodes.add("Sub", value, nodes.constant(feature.mean, np.float32))
    return nodes.add("Div", centred, nodes.constant(feature.std, np.float32))


def _n_reached(nodes: "Nodes", value: str, bounds: Any) -> str:
    """Count for each value (batch,) the bounds that it reaches: int64."""
    if not len(bounds):  # one that nothing reaches: an empty constant is no good input
        largest = np.inf if bounds.dtype == np.float32 else np.iinfo(np.int64).max
        bounds = np.array([largest], bounds.dtype)
    reached = nodes.add(
        "GreaterOrEqual", _as_column(nodes, value), nodes.constant(bounds, bounds.dtype)
    )
    counted = nodes.add("Cast", reached, to=TensorProto.INT64)
    return nodes.add("ReduceSum", counted, nodes.constant([1], np.int64), keepdims=0)


def _missing_code(nodes: "Nodes", feature: RawFeature) -> str:
    code = feature.n_values + 1 if feature.has_own_missing else 0
    return nodes.constant(code, np.int64)


def _mask_rows(nodes: "Nodes", columns: str, is_given: str, feature: RawFeature) -> None:
    """Zero the missing rows, and mark them in one more column where that is declared."""
    mask = _as_column(nodes, is_given)
    masked = nodes.add("Where", mask, columns, nodes.constant(0, np.float32))
    if feature.has_own_missing:
        mark = nodes.add("Cast", nodes.add("Not", mask), to=TensorProto.FLOAT)
        nodes.add("Concat", masked, mark, axis=1)


def _columns(nodes: "Nodes", parts: list[str]) -> str:
    return nodes.add("Concat", *(_as_column(nodes, part) for part in parts), axis=1)


def _as_column(nodes: "Nodes", value: str) -> str:
    return nodes.add("Unsqueeze", value, nodes.constant([1], np.int64))


def _as_float(nodes: "Nodes", value: str) -> str:
    return nodes.add("Cast", value, to=TensorProto.FLOAT)
