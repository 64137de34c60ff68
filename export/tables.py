"""The bundle's Arrow tables from a run's polars frames, in types every Arrow reader knows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute

from shortlist._columns.requests import MISSING_INT
from shortlist.training.data.events import Dataset
from shortlist.training.features.feature import Feature
from shortlist.training.features.features import FeatureSet, align_items, align_users
from shortlist.training.models.followers import Followers
from shortlist.training.splits.parts import Split

# Ages change with the clock, so times are stored.
_STORED = {"history_kinds": "history_kinds", "history_ages": "history_times"}
RESERVED = ("item_id", "n_events", "popular_score")


def item_table(
    split: Split,
    popular: npt.NDArray[np.float32] | None = None,
    n_events: npt.NDArray[np.int64] | None = None,
) -> pa.Table:
    """Build items.arrow: `item_id`, `n_events` in train, and the item table's own columns.

    Where requests without a history are answered by other scores than `n_events`, `popular` holds
    them, (n_items,); they are the column `popular_score`.

    Of a run without events `n_events` holds what was released, (n_items,).

    Events that are no targets, such as dislikes, do not make an item popular: they do not count.

    Row r is item row r. Columns that are no features stay, for `where=`.
    """
    catalogue = split.catalogue
    if n_events is None:
        rows = split.item_rows(split.target_events("train")["item_id"])
        n_events = np.bincount(rows[rows >= 0], minlength=len(catalogue)).astype(np.int64)
    frame = align_items(split.dataset, catalogue)
    others = [name for name in frame.columns if name not in RESERVED]
    counts = [pl.Series("n_events", n_events)]
    if popular is not None:
        counts.append(pl.Series("popular_score", popular, pl.Float32))
    frame = frame.select("item_id", *counts, *others)
    return to_plain_arrow(frame)


def user_table(dataset: Dataset, features: FeatureSet) -> pa.Table:
    """Build users.arrow: `user_id`, `history` (all events, oldest first) and user features.

    Declared event features come as `history_kinds` and `history_times`, entry by entry. Features
    come as `stored_feature` says.

    One row for every user of the events or the user table, in ascending order of id.
    """
    events = dataset.events
    if dataset.test_events is not None:
        events = pl.concat([events, dataset.test_events])
    columns = {"history_kinds": pl.col("kind"), "history_ages": pl.col("timestamp")}
    stored = [columns[f.name].alias(_STORED[f.name]) for f in features.event_features]
    histories = events.group_by("user_id", maintain_order=True).agg(
        pl.col("item_id").alias("history"), *stored
    )
    ids = histories["user_id"]
    if dataset.users is not None:
        ids = pl.concat([ids, dataset.users["user_id"].cast(ids.dtype)])
    frame = ids.unique().sort().to_frame()
    frame = frame.join(histories, on="user_id", how="left", maintain_order="left")
    lists = [name for name in histories.columns if name != "user_id"]
    empty = [pl.col(n).fill_null(pl.lit([], dtype=histories.schema[n])) for n in lists]
    frame = frame.with_columns(empty)
    known = align_users(dataset, _id_array(frame["user_id"]))
    table = to_plain_arrow(frame)
    for feature in features.side("user"):
        if feature.name in known.columns:
            column = to_plain_arrow(known.select(feature.name)).column(feature.name)
            table = table.append_column(feature.name, stored_feature(feature, column))
    return table


def stored_feature(feature: Feature, values: Any) -> pa.Array:
    """Bring a column of values into the form in which a graph takes them, null where missing.

    Every reader then finds the same values without knowing how the training's table wrote them:
    numbers float32, categories and text as they are, times as timestamps in seconds, tags and
    vectors as lists.

    Parameters
    ----------
    feature : Feature
        A user's.
    values : pyarrow.ChunkedArray
        As the training's table has them.

    Returns
    -------
    pyarrow.Array
        What `FeatureColumn.read` gives for it is what it gives for `values`.
    """
    column = feature.column
    read = column.read(values)
    kind = {"int64": pa.int64(), "string": pa.string(), "float32": pa.float32()}[feature.id_dtype]
    if feature.kind == "timestamp":
        kind = pa.timestamp("s")
    if read.ndim == 1:
        return pa.array(read, kind, mask=~column.is_given(read))
    if feature.kind == "vector":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(read.ravel(), kind), feature.width)
        plain = lists.cast(pa.list_(pa.field("item", kind)))
        return pa.compute.if_else(column.is_given(read), plain, pa.scalar(None, plain.type))
    missing = "" if feature.id_dtype == "string" else MISSING_INT
    is_there = read != missing
    offsets = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))]).astype(np.int32)
    tags = pa.array(read[is_there], kind)
    return pa.ListArray.from_arrays(offsets, tags, type=pa.list_(pa.field("item", kind)))


def follower_table(followers: Followers) -> pa.Table:
    """Build followers.arrow: `followers` (item rows) and `shares`; row r is item row r.

    What followed an item most often comes first. A share is how often, as a part of the first.
    """
    codes, shares = followers.codes[1:], followers.shares[1:]
    is_item = codes > 0
    offsets = np.concatenate([[0], np.cumsum(is_item.sum(axis=1))]).astype(np.int32)
    columns = {"followers": codes[is_item] - 1, "shares": shares[is_item]}
    return pa.table(
        {name: pa.ListArray.from_arrays(offsets, pa.array(v)) for name, v in columns.items()}
    )


def _id_array(ids: pl.Series) -> npt.NDArray[Any]:
    return np.asarray(ids.to_list()) if ids.dtype == pl.String else ids.to_numpy()


def to_plain_arrow(frame: pl.DataFrame) -> pa.Table:
    """Convert a frame; text, categories and lists get Arrow's plainest types."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [pa.field(field.name, _plain(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields)).combine_chunks()


def _plain(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(pa.field("item", _plain(kind.value_type)))
    return kind


def write_table(path: Path, table: pa.Table) -> None:
    """Write an Arrow IPC file, uncompressed so that it can be memory-mapped."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
