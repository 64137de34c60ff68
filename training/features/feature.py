"""One feature: a declared column, what was fitted for it, and how its values become codes.

Raw columns are read by the functions that read requests (`shortlist._columns`), and text is cut and
hashed by the graph's own nodes: training and serving cannot differ there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist._columns.requests import MISSING_INT, FeatureColumn
from shortlist.errors import DataError
from shortlist.training.config.feature_spec import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Text that is (nearly) different in every row names the row and says nothing about its kin.
MAX_DISTINCT_RATIO = 0.5
NEVER_INFERRED = ("title",)
DAY = 86_400
HOURS, WEEKDAYS = 24, 7
SMALLEST_NORM = 1e-12  # a vector shorter than this stays as it is: a zero vector stays zero


@dataclass(frozen=True)
class Feature:
    """One declared column and what was fitted for it.

    Attributes
    ----------
    name : str
        Column of the user or item table; ``item_id`` and ``history`` for those two kinds.
    side : str
        ``"user"`` or ``"item"``.
    kind : str
        ``"id"``, ``"history"``, ``"history_kinds"``, ``"history_ages"``, or a kind of
        `feature_spec.KINDS`.
    id_dtype : str
        Raw values in the graph are ``"int64"``, ``"string"`` or ``"float32"``.
    vocabulary : list of str or int
        Raw value of code 1, 2, … of ids, categories and tags.
    mean, std : float
        Of a number, or of log(1 + days of age) of a time; float32 precision, std is never 0.
    low, high : float
        A number is cut to them.
    bounds : list of float
        Lower ends of the buckets 2, 3, … of a number, or of a time's age in seconds.
    reference : int
        Seconds since 1970 that the age of a time is counted back from; of ``history_ages`` the
        usual seconds between two events of a user, for histories that come without.
    width : int
        Numbers in a vector.
    spec : FeatureSpec
        The declaration.
    """

    name: str
    side: str
    kind: str
    id_dtype: str
    vocabulary: list[str] | list[int] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0
    low: float = -float(np.finfo(np.float32).max)
    high: float = float(np.finfo(np.float32).max)
    bounds: list[float] = field(default_factory=list)
    reference: int = 0
    width: int = 0
    spec: FeatureSpec = field(default_factory=lambda: FeatureSpec("ignore"))

    @property
    def form(self) -> str:
        """What the encoders get.

        ``"code"`` int64 (n,), ``"codes"`` int64 (n, any) padded with 0, ``"number"`` float32
        (n,), ``"dense"`` float32 (n, ``n_columns``), or ``"ages"`` float32 (n, any) days.
        """
        if self.kind in ("history", "history_kinds", "multi_categorical", "text"):
            return "codes"
        if self.kind == "history_ages":
            return "ages"
        if self.kind == "timestamp":
            return "codes" if self.spec.buckets else "dense"
        if self.kind == "numeric" and not self.spec.buckets:
            return "dense" if self.has_own_missing else "number"
        return "dense" if self.kind == "vector" else "code"

    @property
    def has_own_missing(self) -> bool:
        """Whether a missing value has a learned vector of its own."""
        return self.spec.missing == "own"

    @property
    def n_columns(self) -> int:
        """Columns of a dense feature, the one that marks missing values included."""
        sizes = {"age": 1, "hour": 2, "weekday": 2}
        if self.kind == "timestamp":
            size = sum(sizes[part] for part in self.spec.parts)
        else:
            size = self.width if self.kind == "vector" else 1
        return size + self.has_own_missing

    @property
    def n_codes(self) -> int:
        """Rows an embedding table for this feature needs: code 0 (nothing) and the others."""
        return self.n_values + 1 + (self.has_own_missing and self.form in ("code", "codes"))

    @property
    def n_values(self) -> int:
        """The largest code of a value that is there; that of a missing one may follow."""
        if self.kind == "text":
            return 2 * self.spec.buckets
        if self.kind == "numeric":
            return len(self.bounds) + 1
        if self.kind == "timestamp":
            return self.part_codes["end"] - 1
        return len(self.vocabulary)

    @property
    def part_codes(self) -> dict[str, int]:
        """First code of each part of a bucketed time, and ``"end"``, the first that is free."""
        sizes = {"age": len(self.bounds) + 1, "hour": HOURS, "weekday": WEEKDAYS}
        codes, free = {}, 1
        for part in self.spec.parts:
            codes[part], free = free, free + sizes[part]
        return codes | {"end": free}

    @cached_property
    def column(self) -> FeatureColumn:
        """How requests carry the feature."""
        return FeatureColumn(
            self.name,
            self.kind,
            self.id_dtype,
            width=self.width,
            unit=self.spec.unit,
            separator=self.spec.separator,
        )

    @cached_property
    def _lookup(self) -> pl.DataFrame:
        values = pl.Series("value", self.vocabulary, dtype=polars_dtype(self.id_dtype))
        codes = pl.int_range(1, len(self.vocabulary) + 1, eager=True, dtype=pl.Int64).alias("code")
        return pl.DataFrame({"value": values, "code": codes})

    def codes(self, values: pl.Series) -> NDArray[np.int64]:
        """Look raw values up: int64 codes of shape (len(values),), 0 for missing or unknown."""
        dtype = polars_dtype(self.id_dtype)
        if values.dtype != dtype:
            values = cast_column(values, dtype, self)
        frame = values.alias("value").to_frame()
        joined = frame.join(self._lookup, on="value", how="left", maintain_order="left")
        return joined["code"].fill_null(0).to_numpy().astype(np.int64)

    def encode(self, values: pl.Series) -> NDArray[Any]:
        """Encode one column; `form` says what comes back."""
        match self.kind:
            case "numeric":
                return self._encode_numbers(values)
            case "multi_categorical":
                return self._encode_tags(values)
            case "text":
                return self._encode_text(values)
            case "timestamp":
                return self._encode_times(self.read(values))
            case "vector":
                return self._encode_vectors(self.read(values))
        codes = self.codes(values)
        if self.has_own_missing:
            is_missing = values.is_null()
            if self.id_dtype == "string":
                is_missing |= (cast_column(values, pl.String, self) == "").fill_null(False)
            codes[is_missing.to_numpy()] = self.n_values + 1
        return codes

    def read(self, values: pl.Series) -> NDArray[Any]:
        """Read a column as requests are read; messages then speak of the table's column."""
        try:
            return self.column.read(values)
        except (TypeError, DataError) as error:
            message = str(error).replace("requests: ", f"{self.side} table: column ", 1)
            raise DataError(message) from error

    def _encode_numbers(self, values: pl.Series) -> NDArray[Any]:
        raw = cast_column(values, pl.Float32, self).fill_null(float("nan")).to_numpy()
        is_missing = ~np.isfinite(raw)
        if self.spec.buckets:
            bounds = np.asarray(self.bounds, np.float32)
            codes = 1 + np.sum(raw[:, None] >= bounds, axis=1).astype(np.int64)
            return np.where(is_missing, self._missing_code, codes)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (self.transform(raw) - np.float32(self.mean)) / np.float32(self.std)
        scaled = np.where(is_missing, np.float32(0), scaled).astype(np.float32)
        return self._with_missing(scaled[:, None], is_missing) if self.has_own_missing else scaled

    def transform(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clip and take the logarithm, as declared, of float32 numbers (n,)."""
        clipped = np.clip(raw, np.float32(self.low), np.float32(self.high))
        if not self.spec.log1p:
            return clipped
        return np.sign(clipped) * np.log(np.float32(1) + np.abs(clipped))

    @property
    def _missing_code(self) -> int:
        return self.n_values + 1 if self.has_own_missing else 0

    def _with_missing(
        self, columns: NDArray[np.float32], is_missing: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Zero the missing rows, and mark them in one more column where that is declared."""
        columns = np.where(is_missing[:, None], np.float32(0), columns)
        if self.has_own_missing:
            columns = np.concatenate([columns, is_missing[:, None]], axis=1)
        return columns.astype(np.float32)

    def _encode_times(self, seconds: NDArray[np.int64]) -> NDArray[Any]:
        is_missing = seconds == MISSING_INT
        seconds = np.where(is_missing, self.reference, seconds)
        age = np.maximum(self.reference - seconds, 0)
        hour, day = seconds % DAY, (seconds + 3 * DAY) % (WEEKDAYS * DAY)  # 1970 began on Thursday
        if self.spec.buckets:
            bounds = np.asarray(self.bounds, np.int64)
            within = {
                "age": np.sum(age[:, None] >= bounds, axis=1),
                "hour": hour // 3600,
                "weekday": day // DAY,
            }
            codes = [within[part] + self.part_codes[part] for part in self.spec.parts]
            coded = np.where(is_missing[:, None], 0, np.stack(codes, axis=1)).astype(np.int64)
            coded[is_missing, 0] = self._missing_code
            return coded
        columns: list[NDArray[Any]] = []
        if "age" in self.spec.parts:
            columns.append((log_days(age) - np.float32(self.mean)) / np.float32(self.std))
        if "hour" in self.spec.parts:
            columns += circle(hour, DAY)
        if "weekday" in self.spec.parts:
            columns += circle(day // DAY, WEEKDAYS)
        return self._with_missing(np.stack(columns, axis=1), is_missing)

    def _encode_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        is_missing: NDArray[np.bool_] = np.any(np.isnan(vectors), axis=1)
        vectors = np.where(is_missing[:, None], np.float32(0), vectors)
        if self.spec.unit_length:
            norms = np.sqrt(np.sum(np.square(vectors), axis=1, keepdims=True))
            vectors = vectors / np.maximum(norms, np.float32(SMALLEST_NORM))
        return self._with_missing(vectors, is_missing)

    def _encode_text(self, values: pl.Series) -> NDArray[np.int64]:
        from shortlist.training.features.text import (
            hash_text,  # the graph's own nodes; onnx loads late
        )

        return hash_text(self.spec, self.read(values))

    def _encode_tags(self, values: pl.Series) -> NDArray[np.int64]:
        if self.spec.separator and values.dtype == pl.String:
            values = split_tags(values, self.spec.separator)
        if not isinstance(values.dtype, pl.List):
            values = _as_lists(values, self)
        lengths = values.list.len().fill_null(0).to_numpy().astype(np.int64)
        # explode() gives one null for an empty or null list, so drop those rows first
        filled = values.filter(pl.Series(lengths > 0))
        codes = self.codes(filled.explode()) if len(filled) else np.empty(0, np.int64)
        return pad_lists(codes, lengths, int(lengths.max(initial=0)) or 1, align="left")

    def to_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON; `from_dict` reads it."""
        tree = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "spec"}
        return tree | {"spec": self.spec.to_value()}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Feature:
        """Read what `to_dict` returned."""
        return cls(**{**tree, "spec": FeatureSpec.parse(tree["name"], tree["spec"])})


def log_days(seconds: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return log(1 + days), float32, of ages in seconds."""
    days = seconds.astype(np.float32) / np.float32(DAY)
    logarithms: NDArray[np.float32] = np.log(np.float32(1) + days)
    return logarithms


def circle(place: NDArray[np.int64], size: int) -> list[NDArray[np.float32]]:
    """Return sine and cosine of a place on a circle of `size` steps, float32."""
    angle = place.astype(np.float32) * np.float32(2 * np.pi / size)
    return [np.sin(angle), np.cos(angle)]


def split_tags(values: pl.Series, separator: str) -> pl.Series:
    """Split a text column into lists of tags, without blanks around them and empty ones."""
    parts = values.str.split(separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def infer_kind(values: pl.Series) -> str:
    """Choose a feature kind from a column's dtype; ``"ignore"`` for free text and dates."""
    dtype = values.dtype
    if isinstance(dtype, pl.List):
        return "multi_categorical" if id_dtype_of(dtype.inner) else "ignore"
    if dtype.is_numeric():
        return "numeric"
    if id_dtype_of(dtype) is None or values.name in NEVER_INFERRED:
        return "ignore"
    many_rows = len(values) >= 20
    distinct = values.n_unique() / max(len(values), 1)
    return "ignore" if many_rows and distinct > MAX_DISTINCT_RATIO else "categorical"


def pad_lists(
    values: NDArray[np.int64], lengths: NDArray[np.int64], width: int, *, align: str
) -> NDArray[np.int64]:
    """Lay flat lists out as rows (len(lengths), width) padded with 0; the last ``width`` stay."""
    n_kept = np.minimum(lengths, width)
    ends = np.cumsum(lengths)
    rows = np.repeat(np.arange(len(lengths)), n_kept)
    place = np.arange(n_kept.sum()) - np.repeat(np.cumsum(n_kept) - n_kept, n_kept)
    source = np.repeat(ends - n_kept, n_kept) + place
    padded = np.zeros((len(lengths), width), np.int64)
    padded[rows, place + (np.repeat(width - n_kept, n_kept) if align == "right" else 0)] = values[
        source
    ]
    return padded


def id_dtype_of(dtype: Any) -> str | None:
    """Return the type ids or categories of a polars dtype have in the graph, None for others."""
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    return "int64" if dtype.is_integer() or dtype == pl.Boolean else None


def polars_dtype(id_dtype: str) -> Any:
    """Return the polars type of a graph's value type."""
    return pl.Int64 if id_dtype == "int64" else pl.String


def cast_column(values: pl.Series, dtype: Any, feature: Feature | None) -> pl.Series:
    """Cast a column within its kind; DataError for text as numbers and the like."""
    same_kind = (
        values.dtype.is_numeric()
        if dtype == pl.Float32
        else id_dtype_of(values.dtype) == ("int64" if dtype == pl.Int64 else "string")
    )
    if not same_kind and values.dtype != pl.Null:
        name = feature.name if feature is not None else values.name
        raise DataError(f"column {name!r}: got {values.dtype}, expected {dtype} as in training")
    try:
        return values.cast(dtype)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"column {values.name!r}: got integers beyond 64 bits, expected {dtype}; cast them to "
            "text"
        ) from error


def _as_lists(values: pl.Series, feature: Feature) -> pl.Series:
    if values.dtype == pl.Null:
        return values.cast(pl.List(polars_dtype(feature.id_dtype)))
    raise DataError(
        f"column {feature.name!r}: got {values.dtype}, expected a list column as in training"
    )
