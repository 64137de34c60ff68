"""Items for `Engine.upsert_items`: rows of any shape → checked ids, and a table to append."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from shortlist._catalogue.state import Catalogue
from shortlist._columns.features import is_time_type
from shortlist._columns.messages import said_of
from shortlist._columns.reading import MISSING_INT, Array, id_column, to_arrow
from shortlist._columns.requests import RequestSchema
from shortlist._columns.tables import columns_of, common_length, near_name
from shortlist.errors import DataError


def read_items(
    rows: Any, state: Catalogue, schema: RequestSchema
) -> tuple[Array, Any, frozenset[str]]:
    """Read items and fill up what the call does not say.

    Parameters
    ----------
    rows : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
    state : Catalogue
        Known items keep their values in columns that are not given.
    schema : RequestSchema
        Type of the ids, and the features: their columns are checked as those of requests are.

    Returns
    -------
    item_ids : ndarray of shape (n,), int64 or object
    table : pyarrow.Table
        n rows, the columns of the item table.
    names : frozenset of str
        Columns the call holds.

    Raises
    ------
    TypeError, DataError
        Names the column and what was expected; nothing has changed then.
    """
    import pyarrow as pa

    fields = state.items.stored.schema
    with said_of("items"):
        values = columns_of(rows, ["item_id"], fields.names)
    _check_names(values, fields.names)
    with said_of("items"):
        common_length(values)
        item_ids = id_column("item_id", values["item_id"], schema.id_dtype)
        read = {n: f.read(values[n]) for n, f in schema.features.items() if n in values}
    _check_ids(item_ids)
    # Rows of unknown items are −1, and so null in what the table has of them.
    known = state.items.take(state.rows_of(item_ids))
    columns = []
    for field in fields:
        if field.name == "item_id":
            columns.append(pa.array(item_ids.tolist(), field.type))
        elif field.name in values:
            column = _column(field, values[field.name], read.get(field.name))
            columns.append(_where_given(rows, field.name, column, known))
        else:
            columns.append(known.column(field.name))
    table = pa.table(columns, schema=pa.schema([(f.name, f.type) for f in fields]))
    n_events = table.column("n_events").fill_null(0)
    table = table.set_column(fields.names.index("n_events"), "n_events", n_events)
    return item_ids, table.cast(fields), frozenset(values)


def _where_given(rows: Any, name: str, column: Any, known: Any) -> Any:
    """Keep what is known of an item where its dict does not have the column."""
    import pyarrow as pa

    if not isinstance(rows, (list, tuple)) or all(name in row for row in rows):
        return column
    both = pa.chunked_array([*known.column(name).chunks, *_chunks(column)], column.type)
    n = len(rows)
    return both.take(pa.array([n + i if name in row else i for i, row in enumerate(rows)]))


def _chunks(column: Any) -> list[Any]:
    return list(getattr(column, "chunks", [column]))


def _check_names(names: Mapping[str, Any], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise DataError(
                f"items: unknown column {name!r}; {near_name(name, known)}The item table has "
                f"{', '.join(known)}"
            )
    if "item_id" not in names:
        raise DataError(f"items: got columns {list(names)}, expected 'item_id' among them")


def _check_ids(item_ids: Array) -> None:
    missing = item_ids == ("" if item_ids.dtype.kind == "O" else MISSING_INT)
    if np.any(missing):
        raise DataError(
            f"items: 'item_id' row {int(np.argmax(missing))} is missing, expected an id"
        )
    seen: dict[Any, int] = {}
    for i, item_id in enumerate(item_ids.tolist()):
        if seen.setdefault(item_id, i) != i:
            raise DataError(
                f"items: item_id {item_id!r} is in row {seen[item_id]} and row {i}; give it once"
            )


def _column(field: Any, values: Any, read: Array | None) -> Any:
    """Convert one column to the type that the item table has; `read` is a feature's column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_time = is_time_type(field.type)
    try:
        arrow = to_arrow(values)
        if is_time and not (arrow is not None and is_time_type(arrow.type)):
            return _times(field, values if arrow is None else arrow.to_pylist(), read)
        if arrow is None:
            _check_lossless(field, values)
            column = _from_python(field, values)
        else:
            column = arrow.cast(field.type)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"items: column {field.name!r}: {error}; expected values of type {field.type}"
        ) from error
    if pa.types.is_floating(field.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
    return column


def _from_python(field: Any, values: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_floating(field.type):
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
    return pa.array(values, type=field.type, from_pandas=True)


def _times(field: Any, values: Any, read: Array | None) -> Any:
    """Take times that are no column of times: as the feature reads them, numbers in its unit."""
    import pyarrow as pa

    if read is None:
        for i, value in enumerate(values):
            if isinstance(value, (int, float, np.number)) and value == value:
                raise TypeError(f"row {i} is the number {value!r:.60}, whose unit is not known")
        return pa.array(values, type=field.type, from_pandas=True)
    seconds = pa.array(read.astype("int64"), mask=read == MISSING_INT)
    zone = getattr(field.type, "tz", None)
    return seconds.cast(pa.timestamp("s", zone)).cast(field.type, safe=False)


def _check_lossless(field: Any, values: Any) -> None:
    """Refuse what Arrow would convert without a word: text to its letters, 1.5 to 1."""
    import pyarrow.types as kinds

    is_list, is_whole = kinds.is_list(field.type), kinds.is_integer(field.type)
    for i, value in enumerate(values if is_list or is_whole else ()):
        if is_list and isinstance(value, (str, bytes)):
            raise TypeError(f"row {i} is {value!r:.60}, expected a list")
        if is_whole and isinstance(value, (float, np.floating)) and value % 1 > 0:
            raise TypeError(f"row {i} is {value!r:.60}, expected a whole number")
