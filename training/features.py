"""Features: which columns feed the encoders, and how raw values become codes and numbers.

Everything is fitted on the train part only. Codes are 0 for missing or unknown and 1.. in
vocabulary order; the code of an item is its catalogue row + 1. Numbers are standardised, with 0
for missing, NaN and infinite ones. These numpy encoders are the reference: the exported graph
does the same lookups on raw values and is tested against them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from shortlist.training.events import Dataset
    from shortlist.training.splits import Split

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


@dataclass(frozen=True)
class FeatureSet:
    """All features of a run: the item vocabulary, the history, and the declared columns."""

    item_id: Feature
    features: list[Feature]
    history_length: int = 50

    @classmethod
    def fit(cls, dataset: Dataset, split: Split, config: Any = None) -> FeatureSet:
        """Choose and fit the features on the train part.

        Parameters
        ----------
        dataset : Dataset
            Its item and user tables hold the columns.
        split : Split
            Only users and items with events in ``split.train`` are looked at; the item
            vocabulary is ``split.catalogue``.
        config : Config, optional
            ``[data.features]`` overrides the kinds inferred from the dtypes, ``[model]`` says
            whether features are used at all and how long a history is.
        """
        declared = dict(config.data.features) if config is not None else {}
        catalogue = np.asarray(split.catalogue)
        is_int = np.issubdtype(catalogue.dtype, np.integer)
        id_dtype = "int64" if is_int else "string"
        item_id = Feature("item_id", "item", "id", id_dtype, catalogue.tolist())
        features: list[Feature] = []
        tables = {"user": dataset.users, "item": dataset.items}
        _check_declared(declared, tables)
        for side, table in tables.items():
            if table is None or (config is not None and not _wanted(config, side)):
                continue
            key = f"{side}_id"
            known = table.filter(pl.col(key).is_in(split.train[key].unique().implode()))
            for name in table.columns:
                if name == key:
                    continue
                kind = declared.get(f"{side}.{name}", declared.get(name)) or infer_kind(known[name])
                if kind != "ignore":
                    features.append(_fit_feature(known[name], side, kind))
        length = config.model.history_length if config is not None else 50
        return cls(item_id, features, length)

    @property
    def history(self) -> Feature:
        """The history: a list of item ids with the item vocabulary."""
        return Feature("history", "user", "history", self.item_id.id_dtype, self.item_id.vocabulary)

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.item_id.vocabulary)

    def side(self, side: str) -> list[Feature]:
        """Give the declared features of ``"user"`` or ``"item"`` (no item id, no history)."""
        return [feature for feature in self.features if feature.side == side]

    def encode_items(self, table: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """Encode the rows of an item table, in their order: ``item_id`` codes and features.

        A column that the table lacks is missing in every row.
        """
        encoded = {"item_id": self.item_id.codes(_column(table, "item_id"))}
        return encoded | self._encode(table, "item")

    def encode_users(self, table: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """Encode the rows of a user table, in their order; ``user_id`` itself is no feature."""
        return self._encode(table, "user")

    def encode_history(
        self, histories: Sequence[Any], max_len: int | None = None
    ) -> NDArray[np.int64]:
        """Encode item-id histories, oldest first.

        Unknown items are dropped; of the rest the last ``max_len`` (default: the set's
        ``history_length``) stay, aligned to the right.

        Returns
        -------
        ndarray of shape (len(histories), max_len), int64
            Item codes, 0 = padding.
        """
        max_len = self.history_length if max_len is None else max_len
        lengths = np.fromiter((len(h) for h in histories), np.int64, len(histories))
        if lengths.sum() == 0:
            return np.zeros((len(histories), max_len), np.int64)
        flat = np.concatenate([np.asarray(h) for h in histories if len(h)])
        codes = self.item_id.codes(_id_series(flat))
        owner = np.repeat(np.arange(len(histories)), lengths)[codes > 0]
        known = np.bincount(owner, minlength=len(histories))
        return pad_lists(codes[codes > 0], known, max_len, align="right")

    def _encode(self, table: pl.DataFrame, side: str) -> dict[str, NDArray[Any]]:
        return {f.name: f.encode(_column(table, f.name)) for f in self.side(side)}

    def to_json(self) -> str:
        """Write everything that was fitted; `from_json` gives the same set back."""
        tree = {
            "history_length": self.history_length,
            "item_id": _to_dict(self.item_id),
            "features": [_to_dict(feature) for feature in self.features],
        }
        return json.dumps(tree, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> FeatureSet:
        """Read what `to_json` wrote."""
        try:
            tree = json.loads(text)
            features = [Feature(**feature) for feature in tree["features"]]
            return cls(Feature(**tree["item_id"]), features, tree["history_length"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"features: not a feature set written by shortlist: {error}") from error


def align_items(dataset: Dataset, catalogue: NDArray[Any]) -> pl.DataFrame:
    """Return the item table in catalogue order; items it lacks have nulls."""
    return _aligned(dataset.items, "item_id", catalogue)


def align_users(dataset: Dataset, user_ids: NDArray[Any]) -> pl.DataFrame:
    """Return the user table in the order of user_ids; users it lacks have nulls."""
    return _aligned(dataset.users, "user_id", user_ids)


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


def _fit_feature(values: pl.Series, side: str, kind: str) -> Feature:
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


def _check_declared(declared: Mapping[str, str], tables: Mapping[str, pl.DataFrame | None]) -> None:
    known = {
        side: [c for c in table.columns if c != f"{side}_id"] if table is not None else []
        for side, table in tables.items()
    }
    allowed = {name for names in known.values() for name in names}
    allowed |= {f"{side}.{name}" for side, names in known.items() for name in names}
    for name in declared:
        if name not in allowed:
            columns = ", ".join(f"{s}.{n}" for s, names in known.items() for n in names)
            raise DataError(
                f"data.features.{name}: no such column, allowed: {columns or '(no tables given)'}"
            )


def _wanted(config: Any, side: str) -> bool:
    return bool(config.model.item_features if side == "item" else config.model.user_features)


def _to_dict(feature: Feature) -> dict[str, Any]:
    return {item.name: getattr(feature, item.name) for item in fields(feature)}


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


def _column(table: pl.DataFrame, name: str) -> pl.Series:
    if name in table.columns:
        return table[name]
    return pl.Series(name, [None] * table.height, dtype=pl.Null)


def _id_series(ids: NDArray[Any]) -> pl.Series:
    if ids.dtype.kind in "OUS":
        return pl.Series("item_id", ids.tolist())
    return pl.Series("item_id", ids)


def _aligned(table: pl.DataFrame | None, key: str, ids: NDArray[Any]) -> pl.DataFrame:
    frame = _id_series(ids).alias(key).to_frame()
    if table is None:
        return frame
    table = table.unique(subset=key, keep="first", maintain_order=True)
    return frame.cast({key: table.schema[key]}).join(
        table, on=key, how="left", maintain_order="left"
    )
