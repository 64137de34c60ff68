"""Frames of polars, pandas and pyarrow as tables; pandas and pyarrow are optional."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.tables.text import unique


def frame_of(
    source: Any, what: str, ignore: Collection[str] = ()
) -> tuple[pl.DataFrame | pl.LazyFrame, str]:
    """Return any frame as one of polars, and how messages call it.

    Columns to ignore are empty: they need not be of a type that polars has.
    """
    module = type(source).__module__.partition(".")[0]
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return source, f"{what} (polars frame)"
    if module == "pandas" and hasattr(source, "columns"):
        name = f"{what} (pandas frame)"
        empty = {column: None for column in source.columns if column in ignore}
        return _of_pandas(source.assign(**empty) if empty else source, name), name
    if module == "pyarrow" and hasattr(source, "schema"):
        name = f"{what} (Arrow table)"
        if len(set(source.schema.names)) < len(source.schema.names):
            unique(list(source.schema.names), name)
        try:
            for unread in set(ignore).intersection(source.schema.names):
                place = source.schema.get_field_index(unread)
                source = source.set_column(place, unread, [[None] * source.num_rows])
            frame = pl.from_arrow(source)
        except Exception as error:  # polars and pyarrow have many
            raise DataError(f"{name} cannot be read: {error}. Fix: cast its columns") from error
        if isinstance(frame, pl.DataFrame):
            return frame, name
    raise DataError(
        f"{what}: got {type(source).__name__}, expected a path or a polars, pandas or pyarrow "
        "table. Fix: pass one of these"
    )


def _of_pandas(source: Any, name: str) -> pl.DataFrame:
    import pandas as pd

    if not all(isinstance(column, str) for column in source.columns):
        raise DataError(
            f"{name}: column names must be str, got "
            f"{list(source.columns)}. Fix: frame.columns = [...]"
        )
    unique(list(source.columns), name)
    index = [label for label in source.index.names if label and label not in source.columns]
    if index:
        raise DataError(
            f"{name}: {index[0]!r} is the frame's index, expected a column. "
            "Fix: frame.reset_index()"
        )
    frame = pd.DataFrame(source)
    try:
        return pl.from_pandas(frame)
    except ImportError as error:
        raise DataError(
            f"{name}: its columns need the package pyarrow ({error}). "
            "Fix: pip install 'shortlist[cpu]'"
        ) from error
    except Exception as error:  # pyarrow's and polars' own
        raise _unreadable(frame, name, error) from error


def _unreadable(frame: Any, name: str, error: Exception) -> DataError:
    """Find the column of a pandas frame that cannot be read."""
    for column in frame.columns:
        try:
            pl.from_pandas(frame[[column]])
        except Exception as narrower:
            return _mixed(frame[column], name, narrower)
    return DataError(f"{name} cannot be read: {error}. Fix: give every column one type")


def _mixed(column: Any, name: str, error: Exception) -> DataError:
    """Name the first row of a pandas column whose type is another one than before."""
    first: type | None = None
    for row, value in enumerate(column):
        is_missing = value is None or value != value
        if is_missing:
            continue
        if first is None:
            first = type(value)
        elif not isinstance(value, first):
            return DataError(
                f"{name}: column {column.name!r}, row {row + 1}: got {value!r:.60} of type "
                f"{type(value).__name__}, expected {first.__name__} as in the rows before. "
                f"Fix: give the column one type, frame[{column.name!r}].astype(str) or the like"
            )
    said = " ".join(str(error).split())
    return DataError(
        f"{name}: column {column.name!r} of type {column.dtype} cannot be read: {said:.200}. "
        "Fix: cast it to numbers, text, dates or lists"
    )
