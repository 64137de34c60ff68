"""One feature: a column's kind, what was fitted for it, and how its raw values become codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("id", "history", "categorical", "multi_categorical", "numeric")
# Text that is (nearly) different in every row names the row and says nothing about its kin.
MAX_DISTINCT_RATIO = 0.5
NEVER_INFERRED = ("title",)


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
        ``"id"``, ``"history"``, ``"categorical"``, ``"multi_categorical"`` or ``"numeric"``.
    id_dtype : str
        Raw values are ``"int64"`` or ``"string"``; ``"float32"`` for numeric features.
    vocabulary : list of str or int
        Raw value of code 1, 2, …; empty for numeric features.
    mean, std : float
        Of a numeric feature, float32 precision; std is never 0.
    """

    name: str
    side: str
    kind: str
    id_dtype: str
    vocabulary: list[str] | list[int] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0

    @property
    def n_codes(self) -> int:
        """Rows an embedding table for this feature needs: the vocabulary and code 0."""
        return len(self.vocabulary) + 1

    @cached_property
    def _lookup(self) -> pl.DataFrame:
        values = pl.Series("value", self.vocabulary, dtype=_polars_dtype(self.id_dtype))
        codes = pl.int_range(1, self.n_codes, eager=True, dtype=pl.Int64).alias("code")
        return pl.DataFrame({"value": values, "code": codes})

    def codes(self, values: pl.Series) -> NDArray[np.int64]:
        """Look raw values up: int64 codes of shape (len(values),), 0 for missing or unknown."""
        dtype = _polars_dtype(self.id_dtype)
        if values.dtype != dtype:
            values = _cast(values, dtype, self)
        frame = values.alias("value").to_frame()
        joined = frame.join(self._lookup, on="value", how="left", maintain_order="left")
        return joined["code"].fill_null(0).to_numpy().astype(np.int64)

    def encode(self, values: pl.Series) -> NDArray[Any]:
        """Encode one column.

        Returns
        -------
        ndarray
            int64 (n,) for id and categorical, int64 (n, longest) padded with 0 for
            multi-categorical, float32 (n,) for numeric.
        """
        if self.kind == "numeric":
            return self._standardise(values)
        if self.kind == "multi_categorical":
            return self._encode_tags(values)
        return self.codes(values)

    def _standardise(self, values: pl.Series) -> NDArray[np.float32]:
        raw = _cast(values, pl.Float32, self).fill_null(float("nan")).to_numpy()
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (raw - np.float32(self.mean)) / np.float32(self.std)
        return np.where(np.isfinite(raw), scaled, np.float32(0)).astype(np.float32)

    def _encode_tags(self, values: pl.Series) -> NDArray[np.int64]:
        if not isinstance(values.dtype, pl.List):
            values = _as_lists(values, self)
        lengths = values.list.len().fill_null(0).to_numpy().astype(np.int64)
        # explode() gives one null for an empty or null list, so drop those rows first
        filled = values.filter(pl.Series(lengths > 0))
        codes = self.codes(filled.explode()) if len(filled) else np.empty(0, np.int64)
        return pad_lists(codes, lengths, int(lengths.max(initial=0)) or 1, align="left")


def infer_kind(values: pl.Series) -> str:
    """Choose a feature kind from a column's dtype; ``"ignore"`` for free text and dates."""
    dtype = values.dtype
    if isinstance(dtype, pl.List):
        return "multi_categorical" if _id_dtype(dtype.inner) else "ignore"
    if dtype.is_numeric():
        return "numeric"
    if _id_dtype(dtype) is None or values.name in NEVER_INFERRED:
        return "ignore"
    many_rows = len(values) >= 20
    distinct = values.n_unique() / max(len(values), 1)
    return "ignore" if many_rows and distinct > MAX_DISTINCT_RATIO else "categorical"


def pad_lists(
    values: NDArray[np.int64], lengths: NDArray[np.int64], width: int, *, align: str
) -> NDArray[np.int64]:
    """Lay flat lists out as rows (len(lengths), width) padded with 0; the last ``width`` stay."""
    kept = np.minimum(lengths, width)
    ends = np.cumsum(lengths)
    rows = np.repeat(np.arange(len(lengths)), kept)
    place = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
    source = np.repeat(ends - kept, kept) + place
    padded = np.zeros((len(lengths), width), np.int64)
    padded[rows, place + (np.repeat(width - kept, kept) if align == "right" else 0)] = values[
        source
    ]
    return padded


def fit_feature(values: pl.Series, side: str, kind: str) -> Feature:
    """Fit one column of the user or item table: its vocabulary, or its mean and spread."""
    name = values.name
    if name in ("user_id", "item_id", "history"):
        raise DataError(f"{side} table: column {name!r} is reserved; rename it")
    inner = values.dtype.inner if isinstance(values.dtype, pl.List) else values.dtype
    if kind == "numeric":
        feature = Feature(name, side, kind, "float32")
        numbers = _cast(values, pl.Float32, feature).drop_nulls().to_numpy()
        numbers = numbers[np.isfinite(numbers)].astype(np.float64)
        if not len(numbers):
            return feature
        std = float(np.float32(numbers.std()))
        return Feature(
            name, side, kind, "float32", [], float(np.float32(numbers.mean())), std or 1.0
        )
    is_list = isinstance(values.dtype, pl.List)
    id_dtype = _id_dtype(inner)
    if id_dtype is None or is_list != (kind == "multi_categorical"):
        wanted = "a list of strings or integers" if kind == "multi_categorical" else "text or int"
        raise DataError(
            f"{side} table: column {name!r} is declared {kind}: got {values.dtype}, "
            f"expected {wanted}; change the kind or set it to 'ignore'"
        )
    flat = _cast(values.explode() if is_list else values, _polars_dtype(id_dtype), None)
    vocabulary = flat.drop_nulls().unique().sort().to_list()
    return Feature(name, side, kind, id_dtype, [value for value in vocabulary if value != ""])


def _id_dtype(dtype: Any) -> str | None:
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    return "int64" if dtype.is_integer() or dtype == pl.Boolean else None


def _polars_dtype(id_dtype: str) -> Any:
    return pl.Int64 if id_dtype == "int64" else pl.String


def _cast(values: pl.Series, dtype: Any, feature: Feature | None) -> pl.Series:
    same_kind = (
        values.dtype.is_numeric() or values.dtype == pl.Boolean
        if dtype == pl.Float32
        else _id_dtype(values.dtype) == ("int64" if dtype == pl.Int64 else "string")
    )
    if not same_kind and values.dtype != pl.Null:
        name = feature.name if feature is not None else values.name
        raise DataError(f"column {name!r}: got {values.dtype}, expected {dtype} as in training")
    return values.cast(dtype)


def _as_lists(values: pl.Series, feature: Feature) -> pl.Series:
    if values.dtype == pl.Null:
        return values.cast(pl.List(_polars_dtype(feature.id_dtype)))
    raise DataError(
        f"column {feature.name!r}: got {values.dtype}, expected a list column as in training"
    )
