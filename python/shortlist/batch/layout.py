"""Answers as Arrow: one row an item, or one row a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shortlist.recommendations import SOURCES, Recommendations

if TYPE_CHECKING:
    import pyarrow as pa


def output_schema(
    item_id_dtype: str, user_id_dtype: str, layout: Literal["long", "lists"], *, titles: bool
) -> pa.Schema:
    """Return the columns of an answer; types of ids are "int64" or "string"."""
    import pyarrow as pa

    item_id, user_id = (
        pa.string() if dtype == "string" else pa.int64() for dtype in (item_id_dtype, user_id_dtype)
    )
    if layout == "lists":
        fields = {"user_id": user_id, "item_ids": pa.list_(item_id)}
        fields |= {"titles": pa.list_(pa.string())} if titles else {}
        fields |= {"scores": pa.list_(pa.float32()), "source": pa.string()}
    else:
        fields = {"user_id": user_id, "rank": pa.int32(), "item_id": item_id}
        fields |= {"title": pa.string()} if titles else {}
        fields |= {"score": pa.float32(), "source": pa.string()}
    return pa.schema(list(fields.items()))


def rows_of(
    user_ids: pa.Array, answer: Recommendations, items: pa.Table, schema: pa.Schema
) -> pa.RecordBatch:
    """Lay an answer out in the columns of a schema.

    Parameters
    ----------
    user_ids : pyarrow.Array of shape (n_requests,)
    answer : Recommendations
    items : pyarrow.Table
        The item table, which the answer's `indices` count rows of.
    schema : pyarrow.Schema
        Of `output_schema`.

    Returns
    -------
    pyarrow.RecordBatch
        In the order of the requests, missing places left out.
    """
    import pyarrow as pa

    counts, top_n = answer.counts, answer.indices.shape[1]
    is_whole = bool((counts == top_n).all())
    is_real = None if is_whole else np.arange(top_n) < counts[:, None]
    rows = _flat(answer.indices, is_real)
    columns = {
        "user_id": user_ids,
        "source": pa.array(SOURCES).take(pa.array(answer._source_codes)),
        "score": pa.array(_flat(answer.scores, is_real)),
        "item_id": _of_items(items, "item_id", rows),
    }
    if "title" in schema.names or "titles" in schema.names:
        columns["title"] = _titles(items, rows)
    if "rank" in schema.names:
        requests = pa.array(np.repeat(np.arange(len(counts)), counts))
        columns |= {name: columns[name].take(requests) for name in ("user_id", "source")}
        ranks = np.broadcast_to(np.arange(1, top_n + 1, dtype=np.int32), (len(counts), top_n))
        columns["rank"] = pa.array(_flat(ranks, is_real))
    else:
        splits = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
        for name in ("item_id", "score", "title"):
            if name in columns:
                columns[f"{name}s"] = pa.ListArray.from_arrays(splits, columns.pop(name))
    return pa.RecordBatch.from_arrays(
        [columns[field.name].cast(field.type) for field in schema], schema=schema
    )


def _flat(places: Any, is_real: Any) -> Any:
    return places.ravel() if is_real is None else places[is_real]


def _of_items(items: pa.Table, name: str, rows: Any) -> pa.Array:
    import pyarrow as pa

    column = items.column(name).take(pa.array(rows))
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _titles(items: pa.Table, rows: Any) -> pa.Array:
    import pyarrow as pa

    if "title" in items.column_names:
        return _of_items(items, "title", rows)
    return pa.nulls(len(rows), pa.string())
