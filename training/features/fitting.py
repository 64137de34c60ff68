"""Fit one declared column on the train part: vocabulary, mean and spread, quantiles, sizes."""

from __future__ import annotations

import dataclasses
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist._columns.requests import MISSING_INT
from shortlist.errors import DataError
from shortlist.training.config.values import toml_value
from shortlist.training.data.columns import first_true
from shortlist.training.features.feature import (
    DAY,
    Feature,
    cast_column,
    id_dtype_of,
    log_days,
    polars_dtype,
    split_tags,
)
from shortlist.training.features.inferring import has_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.feature_spec import FeatureSpec

# The other columns of requests, and what a host's run of a graph takes beside them.
RESERVED = (
    *("user_id", "item_id", "history", "history_kinds", "history_ages", "top_n", "exclude_seen"),
    "stages",
    *("exclude", "exclude_splits", "allow", "allow_splits", "allow_mask"),
)
# Values and layers of the encoders' graphs, by side; of a user's also those of recommend.onnx.
RESERVED_IN_GRAPHS = {
    "item": ("item_embedding", "item_encoder", "item_model", "popular_score"),
    "user": (
        *("user_embedding", "user_encoder", "user_model", "history_lookup", "history_vectors"),
        *("item_ids", "item_ids_by_row", "scores", "counts", "rows", "source"),
    ),
}
RAW_DTYPES = {"numeric": "float32", "text": "string", "timestamp": "int64", "vector": "float32"}
MAX_WIDTH = 65_536


def fit_feature(
    values: pl.Series, side: str, spec: FeatureSpec, *, reference: int | None = None
) -> Feature:
    """Fit one column of the user or item table.

    Parameters
    ----------
    values : polars.Series
        The column, of the train part's users or items only.
    side : str
        ``"user"`` or ``"item"``.
    spec : FeatureSpec
        Its declaration.
    reference : int, optional
        Seconds since 1970 of the newest train event; the newest time of the column without it.

    Raises
    ------
    DataError
        The column's name cannot be one of a graph's inputs, its dtype does not fit the kind, or a
        value is wrong.
    """
    name, kind = values.name, spec.kind
    _check_name(side, name)
    if values.null_count() == len(values) or (kind != "vector" and not has_values(values)):
        raise DataError(
            f"{side} table: column {name!r} is declared {kind}: got no value in any row of the "
            f"train part, expected at least one. Fix: fill it, or set data.features.{name} = "
            f"'ignore' (--set 'data.features.{name}=\"ignore\"')"
        )
    if kind in RAW_DTYPES:
        feature = Feature(name, side, kind, RAW_DTYPES[kind], spec=spec)
        if kind == "numeric":
            return _fit_numbers(feature, values)
        if kind == "timestamp":
            return _fit_times(feature, feature.read(values), reference)
        if kind == "vector":
            return _fit_vectors(feature, values)
        if values.dtype.is_numeric():
            raise DataError(_only_numbers(side, values, kind, "'categorical' or 'numeric'"))
        feature.read(values)  # text has nothing to fit, but must be text
        return feature
    if kind == "multi_categorical" and spec.separator and values.dtype == pl.String:
        values = split_tags(values, spec.separator)
    is_list = isinstance(values.dtype, pl.List)
    inner = values.dtype.inner if isinstance(values.dtype, pl.List) else values.dtype
    id_dtype = id_dtype_of(inner)
    if kind == "multi_categorical" and values.dtype.is_integer():
        raise DataError(_only_numbers(side, values, kind, "'categorical'"))
    if id_dtype is None or is_list != (kind == "multi_categorical"):
        wanted = "a list of strings or integers" if kind == "multi_categorical" else "text or int"
        raise DataError(
            f"{side} table: column {name!r} is declared {kind}: got {values.dtype}, "
            f"expected {wanted}; change the kind or set it to 'ignore'"
        )
    flat = cast_column(values.explode() if is_list else values, polars_dtype(id_dtype), None)
    return Feature(name, side, kind, id_dtype, _vocabulary(flat.drop_nulls(), spec), spec=spec)


def _check_name(side: str, name: str) -> None:
    """Refuse what Keras and the graphs could not call a feature, before a model is made."""
    got = f"{side} table: got a column named {name!r}"
    ignore = f'leave it out: {toml_value(f"{side}.{name}")} = "ignore" under [data.features]'
    if name in RESERVED or name in RESERVED_IN_GRAPHS[side]:
        raise DataError(f"{side} table: column {name!r} is reserved; rename it, or {ignore}")
    if not name.strip():
        raise DataError(
            f"{got}, expected a name; drop it (pandas writes its index so: write with "
            f"index=False), rename it, or {ignore}"
        )
    wrong = next((c for c in name if c == "/" or unicodedata.category(c) in ("Cc", "Cs")), None)
    if wrong is not None:
        raise DataError(
            f"{got}, expected one without {wrong!r}, as parts of the model are named after their "
            f"features; rename it, or {ignore}"
        )


def _only_numbers(side: str, values: pl.Series, kind: str, better: str) -> str:
    """Say what to do with a text column of a CSV in which every cell happens to be a number."""
    return (
        f"{side} table: column {values.name!r} is declared {kind}: got {values.dtype}, as every "
        f"cell is one number, expected text; declare it {better}, or give the table as Parquet "
        "with the column as text"
    )


def fit_events(train: pl.DataFrame, spec: FeatureSpec, has_times: bool) -> list[Feature]:
    """Fit what the history tells of each event: its kinds, and the usual gap between two.

    Raises
    ------
    DataError
        Ages are declared, but the events have no times.
    """
    features = []
    if spec.event_kinds:
        kinds = train["kind"].unique().sort().to_list()
        features.append(
            Feature("history_kinds", "user", "history_kinds", "string", kinds, spec=spec)
        )
    if spec.ages:
        if not has_times:
            raise DataError(
                "data.features.history.ages: got true, but the events have no times; set it to "
                "false, or give the events a timestamp"
            )
        gaps = train.select(pl.col("timestamp").diff().over("user_id")).to_series().drop_nulls()
        usual = gaps.filter(gaps > 0).median()
        gap = round(usual) if isinstance(usual, int | float) else DAY
        features.append(
            Feature("history_ages", "user", "history_ages", "float32", reference=gap, spec=spec)
        )
    return features


def _vocabulary(values: pl.Series, spec: FeatureSpec) -> list[Any]:
    """Choose the values that get a code, in ascending order."""
    counts = values.alias("value").to_frame().group_by("value").len().sort("value")
    if values.dtype == pl.String:
        counts = counts.filter(pl.col("value") != "")
    else:
        counts = counts.filter(pl.col("value") != MISSING_INT)
    counts = counts.filter(pl.col("len") >= spec.min_count)
    if spec.max_values:
        order = ["len", "value"]
        counts = counts.sort(order, descending=[True, False]).head(spec.max_values).sort("value")
    return counts["value"].to_list()


def _check_numbers(feature: Feature, values: pl.Series) -> None:
    """Name the cell that keeps a column from being one of numbers."""
    if values.dtype.is_numeric() or values.dtype == pl.Null:
        return
    problem = f"got {values.dtype}"
    if values.dtype == pl.String:
        numbers = values.cast(pl.Float64, strict=False)
        wrong = ~numbers.is_finite().fill_null(values.is_null() | (values == ""))
        problem = (
            "got text" if (row := first_true(wrong)) is None else f"row {row} is {values[row]!r}"
        )
    raise DataError(
        f"{feature.side} table: column {feature.name!r} is declared numeric: {problem}, expected "
        "numbers; correct or cast them, leave cells without a number empty, or change the kind"
    )


def _fit_numbers(feature: Feature, values: pl.Series) -> Feature:
    _check_numbers(feature, values)
    numbers = cast_column(values, pl.Float32, feature).drop_nulls().to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return feature
    spec = feature.spec
    if spec.buckets:
        return dataclasses.replace(feature, bounds=_quantiles(numbers, spec.buckets))
    if spec.clip != (0.0, 1.0):
        low, high = np.quantile(numbers, spec.clip, method="nearest").astype(np.float32)
        feature = dataclasses.replace(feature, low=float(low), high=float(high))
    if not spec.standardise:
        return feature
    return _with_spread(feature, feature.transform(numbers))


def _fit_times(feature: Feature, seconds: NDArray[np.int64], reference: int | None) -> Feature:
    times = seconds[seconds != MISSING_INT]
    if reference is None:
        reference = int(times.max(initial=0))
    feature = dataclasses.replace(feature, reference=reference)
    age = np.maximum(reference - times, 0)
    if not len(age) or "age" not in feature.spec.parts:
        return feature
    if feature.spec.buckets:
        return dataclasses.replace(feature, bounds=_quantiles(age, feature.spec.buckets))
    return _with_spread(feature, log_days(age))


def _fit_vectors(feature: Feature, values: pl.Series) -> Feature:
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if not isinstance(values.dtype, pl.List):
        raise DataError(
            f"{feature.side} table: column {feature.name!r} is declared vector: got "
            f"{values.dtype}, expected a list of numbers; change the kind or set it to 'ignore'"
        )
    widths = values.drop_nulls().list.len()
    width = int(widths[0]) if len(widths) else 1
    if not 1 <= width <= MAX_WIDTH:
        raise DataError(
            f"{feature.side} table: column {feature.name!r} row 0 has {width} numbers, expected "
            f"from 1 to {MAX_WIDTH}"
        )
    feature = dataclasses.replace(feature, width=width)
    feature.read(values)  # every vector must be as wide, and finite
    return feature


def _with_spread(feature: Feature, numbers: NDArray[np.float32]) -> Feature:
    wide = numbers.astype(np.float64)
    std = float(np.float32(wide.std()))
    return dataclasses.replace(feature, mean=float(np.float32(wide.mean())), std=std or 1.0)


def _quantiles(numbers: NDArray[Any], n_buckets: int) -> list[float]:
    """Lower ends of buckets 2, 3, …; fewer than asked for where many values are equal."""
    places = np.arange(1, n_buckets) / n_buckets
    bounds = np.unique(np.quantile(numbers, places, method="higher"))
    return [value.item() for value in bounds if value > numbers.min()]
