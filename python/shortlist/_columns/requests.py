"""Requests in any shape → columns: ids, histories and user features, checked and named.

Accepted: a dict of columns, a list of dicts, a pandas or polars frame, an Arrow table. Everything
the rest of the engine sees is a `Columns`; no other module looks at what the caller passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shortlist._columns.events import event_column
from shortlist._columns.features import vector_column
from shortlist._columns.ragged import Ragged
from shortlist._columns.reading import (
    MISSING_INT,
    Array,
    category_column,
    history_column,
    id_column,
    number_column,
    tag_column,
)
from shortlist._columns.tables import columns_of_frame, common_length, near_name
from shortlist._columns.times import time_column
from shortlist.errors import DataError

__all__ = ["MISSING_INT", "Columns", "FeatureColumn", "RequestSchema", "normalise"]


@dataclass(frozen=True)
class FeatureColumn:
    """One feature as requests carry it.

    Attributes
    ----------
    name, kind, dtype : str
        Column name, kind of feature, and the graph's value type: int64, string or float32.
    width : int
        Vectors: numbers in each.
    unit : str
        Times given as numbers: "s", "ms" or "us".
    separator : str
        Tags: splits one text into tags; "" where only lists are taken.
    """

    name: str
    kind: str
    dtype: str
    width: int = 0
    unit: str = "s"
    separator: str = ""

    def read(self, values: Any) -> Array:
        """Check a column and return it as the graph takes it."""
        match self.kind:
            case "numeric":
                return number_column(self.name, values)
            case "categorical" | "text":
                return category_column(self.name, values, self.dtype)
            case "timestamp":
                return time_column(self.name, values, self.unit)
            case "vector":
                return vector_column(self.name, values, self.width)
        return tag_column(self.name, values, self.dtype, self.separator)

    def missing(self, n_requests: int) -> Array:
        """Return the column of `n_requests` missing values."""
        return self.read([None] * n_requests)

    def is_given(self, column: Array) -> Array:
        """Say for each row of what `read` returned whether there is a value, (n,) bool."""
        if self.dtype == "float32":
            has_value = ~np.isnan(column)
        else:
            has_value = np.asarray(column != ("" if self.dtype == "string" else MISSING_INT))
        return has_value if has_value.ndim == 1 else np.any(has_value, axis=1)


class RequestSchema:
    """The columns that requests (or rows of an item table) may have.

    Parameters
    ----------
    id_name : str
        `user_id` or `item_id`.
    id_dtype : str
        `int64` or `string`.
    features : sequence of FeatureColumn
        Feature columns.
    history_dtype : str, optional
        Type of the item ids in `history`; None if there is no such column.
    event_columns : sequence of str
        Of `history_kinds` and `history_ages` those that the encoder takes.
    """

    def __init__(
        self,
        id_name: str,
        id_dtype: str,
        features: Sequence[FeatureColumn] = (),
        history_dtype: str | None = None,
        event_columns: Sequence[str] = (),
    ) -> None:
        self.id_name = id_name
        self.id_dtype = id_dtype
        self.history_dtype = history_dtype
        self.event_columns = tuple(event_columns)
        self.features = {feature.name: feature for feature in features}
        history = () if history_dtype is None else ("history",)
        self.column_names = (id_name, *history, *self.event_columns, *self.features)

    def with_kinds(self) -> "RequestSchema":
        """Return a schema that has `history_kinds`, whether the encoder takes them or not."""
        events = dict.fromkeys(["history_kinds", *self.event_columns])
        features = list(self.features.values())
        return RequestSchema(
            self.id_name, self.id_dtype, features, self.history_dtype, tuple(events)
        )


@dataclass
class Columns:
    """Requests as columns; a column the caller did not give is None or absent.

    Attributes
    ----------
    n_requests : int
        Number of requests.
    ids : ndarray of shape (n_requests,), int64 or object (str), or None
        Missing ids are INT64_MIN or "".
    histories : Ragged of int64 or object (str), or None
        Item ids, oldest first; one list a request, empty where there is no history.
    events : dict of str to Ragged
        `history_kinds` (object, str) and `history_ages` (float32 seconds), entry by entry as in
        `histories`; "" and NaN where not known.
    features : dict of str to ndarray
        Categorical (n_requests,) int64 or object (str); multi-categorical (n_requests, n) of the
        same; text (n_requests,) object; times (n_requests,) int64; numeric (n_requests,) and
        vectors (n_requests, width) float32. Missing: INT64_MIN, "" and NaN.
    is_joined : ndarray of shape (n_requests,), bool, or None
        Whether the stored history is in the request's own, put there with a feedback log.
    skipped : Ragged of int64 or object (str), or None
        Items that the request's user skipped according to the feedback log.
    """

    n_requests: int
    ids: Array | None = None
    histories: Ragged | None = None
    events: dict[str, Ragged] = field(default_factory=dict)
    features: dict[str, Array] = field(default_factory=dict)
    is_joined: Array | None = None
    skipped: Ragged | None = None

    def take(self, chosen: Array) -> "Columns":
        """Return some requests, (m,) int64."""
        return Columns(
            len(chosen),
            None if self.ids is None else self.ids[chosen],
            None if self.histories is None else self.histories.take(chosen),
            {name: lists.take(chosen) for name, lists in self.events.items()},
            {name: values[chosen] for name, values in self.features.items()},
            None if self.is_joined is None else self.is_joined[chosen],
            None if self.skipped is None else self.skipped.take(chosen),
        )

    def for_core(self, schema: RequestSchema) -> list[tuple[str, Array, Array | None]]:
        """Return the columns of a bundle's schema as `_core.LoadedBundle` takes them.

        Returns
        -------
        list of (name, values, splits or None)
        """
        columns: list[tuple[str, Array, Array | None]] = []
        if self.ids is not None:
            columns.append((schema.id_name, self.ids, None))
        if self.histories is not None and schema.history_dtype is not None:
            columns.append(("history", *self.histories))
        for name in schema.event_columns:
            if name in self.events:
                columns.append((name, *self.events[name]))
        for name, values in self.features.items():
            if name not in schema.features:  # it is another bundle's, of a trial
                continue
            if schema.features[name].kind == "multi_categorical" and len(values) > 1:
                columns.append((name, *_tag_lists(values)))
            else:
                columns.append((name, values, None))
        return columns


def _tag_lists(tags: Array) -> Ragged:
    """Return a tag column (n, width) as lists: one long row makes no other wide."""
    is_tag = tags != ("" if tags.dtype.kind == "O" else MISSING_INT)
    return Ragged.of_lengths(tags[is_tag], is_tag.sum(axis=1))


def normalise(requests: Any, schema: RequestSchema) -> Columns:
    """Turn requests of any accepted shape into checked columns.

    Parameters
    ----------
    requests : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
        Columns: `user_id`, `history` (one list of item ids a request, oldest first), and the
        bundle's user features. None (or an Arrow null) means "not given". One request is a list
        of one dict, or columns with one entry.
    schema : RequestSchema
        The columns and value types the bundle knows.

    Returns
    -------
    Columns
        Ready for lookups; `n_requests` may be 0.

    Raises
    ------
    TypeError
        A shape or a value of a type that is not accepted: a scalar where a column belongs, floats
        as ids, strings for integer ids. Names the column and the row.
    DataError
        An unknown column (with the nearest known name), columns of different lengths, an infinite
        number, an integer past 64 bits.
    """
    columns: Mapping[str, Any]
    if isinstance(requests, Mapping):
        columns, n_requests = requests, common_length(requests)
    elif isinstance(requests, (list, tuple)):
        columns, n_requests = _columns_of_rows(requests, schema), len(requests)
    else:
        columns, n_requests = columns_of_frame(requests, schema.column_names), len(requests)
    return _read_columns(columns, n_requests, schema)


def _read_columns(columns: Mapping[str, Any], n_requests: int, schema: RequestSchema) -> Columns:
    result = Columns(n_requests)
    for name, values in columns.items():
        if name == "history" and schema.history_dtype is not None:
            result.histories = history_column(name, values, schema.history_dtype)
        elif name in schema.event_columns:
            continue  # below: they are checked against the history
        elif name == schema.id_name:
            result.ids = id_column(name, values, schema.id_dtype)
        elif name in schema.features:
            result.features[name] = schema.features[name].read(values)
        else:
            raise _unknown_column(name, schema.column_names)
    for name in schema.event_columns:
        if name in columns:
            result.events[name] = event_column(name, columns[name], result.histories)
    return result


def _unknown_column(name: object, known: Sequence[str], row: int | None = None) -> DataError:
    where = "" if row is None else f"row {row}: "
    return DataError(
        f"requests: {where}unknown column {name!r}; {near_name(name, known)}This bundle knows "
        f"{', '.join(known)}"
    )


def _columns_of_rows(rows: Sequence[Any], schema: RequestSchema) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"requests: row {i} is {type(row).__name__} {row!r:.60}, expected a dict such as "
                "{'user_id': 196} or {'history': [50, 172]}"
            )
        for name, value in row.items():
            column = columns.get(name)
            if column is None:
                if name not in schema.column_names:
                    raise _unknown_column(name, schema.column_names, i)
                column = columns[name] = [None] * len(rows)
            column[i] = value
    return columns
