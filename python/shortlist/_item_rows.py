"""Items for `Engine.upsert_items`: rows of any shape → checked ids, and a table to append."""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from shortlist._catalogue import Catalogue
from shortlist._columns import MISSING_INT, Array, decoded, id_column
from shortlist.errors import DataError


def read_items(rows: Any, state: Catalogue, id_dtype: str) -> tuple[Array, Any, frozenset[str]]:
    """Read items and fill up what the call does not say.

    Parameters
    ----------
    rows : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
    state : Catalogue
        Known items keep their values in columns that are not given.
    id_dtype : str
        "int64" or "string".

    Returns
    -------
    item_ids : ndarray of shape (n,), int64 or object
    table : pyarrow.Table
        n rows, the columns of the item table.
    given : frozenset of str
        Columns the call holds.

    Raises
    ------
    TypeError, DataError
        Names the column and what was expected; nothing has changed then.
    """
    import pyarrow as pa

    given = _columns(rows)
    schema = state.items.stored.schema
    _check_names(given, schema.names)
    item_ids = id_column("item_id", given["item_id"], id_dtype)
    _check_ids(item_ids)
    # Rows of unknown items are −1, and so null in what the table has of them.
    known = state.items.take(state.rows_of(item_ids))
    columns = []
    for field in schema:
        if field.name == "item_id":
            columns.append(pa.array(item_ids.tolist(), field.type))
        elif field.name in given:
            columns.append(_column(field, given[field.name], len(item_ids)))
        else:
            columns.append(known.column(field.name))
    table = pa.table(columns, schema=pa.schema([(f.name, f.type) for f in schema]))
    n_events = table.column("n_events").fill_null(0)
    table = table.set_column(schema.names.index("n_events"), "n_events", n_events)
    return item_ids, table.cast(schema), frozenset(given)


def _columns(rows: Any) -> dict[str, Any]:
    """Take the columns apart, whatever the shape."""
    import pyarrow as pa

    if isinstance(rows, Mapping):
        return dict(rows)
    if isinstance(rows, (list, tuple)):
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise TypeError(f"items: row {i} is {type(row).__name__}, expected a dict")
        names = dict.fromkeys(name for row in rows for name in row)
        if not rows:
            return {"item_id": []}
        return {name: [row.get(name) for row in rows] for name in names}
    if type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns"):
        table = pa.Table.from_pandas(rows, preserve_index=False)
    elif isinstance(rows, pa.Table) or hasattr(rows, "__arrow_c_stream__"):
        table = pa.table(rows)
    else:
        raise TypeError(
            f"items: got {type(rows).__name__}, expected a dict of columns, a list of dicts, a "
            "pandas or polars DataFrame, or a pyarrow Table"
        )
    return dict(zip(table.column_names, table.columns, strict=True))


def _check_names(given: dict[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise DataError(
                f"items: unknown column {name!r}; {hint}The item table has {', '.join(known)}"
            )
    if "item_id" not in given:
        raise DataError(f"items: got columns {list(given)}, expected 'item_id' among them")


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


def _column(field: Any, values: Any, n_rows: int) -> Any:
    """Convert one column to the type that the item table has."""
    import pyarrow as pa

    try:
        if isinstance(values, (pa.ChunkedArray, pa.Array)):
            column = decoded(values).cast(field.type)
        elif hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):
            column = decoded(pa.chunked_array(values)).cast(field.type)
        else:
            column = pa.array(values, type=field.type, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"items: column {field.name!r}: {error}; expected values of type {field.type}"
        ) from error
    if len(column) != n_rows:
        raise DataError(
            f"items: column {field.name!r} has {len(column)} entries but 'item_id' has {n_rows}"
        )
    return column
