"""Rows of new item and user tables in the tables of a dataset."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from shortlist.training.data.events import Dataset

__all__ = ["check_names", "holds_tables", "with_tables"]


def check_names(overrides: Mapping[str, object], tables: Mapping[str, Path | None]) -> None:
    """Refuse names of columns for an "item" or "user" table that is not given."""
    for side, table in tables.items():
        named = [key for key in overrides if key.startswith(f"data.{side}_columns")]
        if named and table is None:
            raise DataError(
                f"{', '.join(named)}: got names of columns, but no {side} table. Fix: give it with "
                f"--{side}s, or leave --{side}-column out"
            )


def with_tables(
    dataset: Dataset, items: Path | None, users: Path | None, reading: Reading | None = None
) -> Dataset:
    """Put rows of new item and user tables into a dataset's; a known id's row is replaced.

    ``reading`` says how the tables are read.

    Raises
    ------
    DataError
        A table lacks a column that the dataset's has, or it is of another type.
    """
    reading = reading or Reading()
    if items is not None:
        merged = _merged(dataset.items, reading.entities("item", items)[0], "items")
        dataset = dataclasses.replace(dataset, items=merged)
    if users is not None:
        merged = _merged(dataset.users, reading.entities("user", users)[0], "users")
        dataset = dataclasses.replace(dataset, users=merged)
    return dataset


def holds_tables(run_dir: Path, dataset: Dataset, names: Iterable[str]) -> bool:
    """Say whether a run was trained with a dataset's tables of these names: "items", "users"."""
    try:
        return all(
            pl.read_parquet(run_dir / "data" / f"{name}.parquet").equals(getattr(dataset, name))
            for name in names
        )
    except (OSError, pl.exceptions.PolarsError):
        return False


def _merged(old: pl.DataFrame | None, new: pl.DataFrame, name: str) -> pl.DataFrame:
    if old is None:
        raise DataError(
            f"--{name}: got a table, but the bundle was trained without one; its features cannot "
            "be added in an update. Fix: leave it out, or train again"
        )
    for column, dtype in old.schema.items():
        if column not in new.columns:
            raise DataError(
                f"--{name}: no column {column!r}, expected those of the training: "
                f"{', '.join(old.columns)}; add it (empty cells are allowed), or train again"
            )
        if new[column].null_count() < new.height and not _fits(new.schema[column], dtype):
            raise DataError(
                f"--{name}: column {column!r} is {new.schema[column]}, expected {dtype} as in "
                "training; convert it, or train again with the new declaration"
            )
    key = old.columns[0] if old.columns[0].endswith("_id") else f"{name[:-1]}_id"
    rows = new.select(pl.col(column).cast(dtype) for column, dtype in old.schema.items())
    others = old.filter(~pl.col(key).is_in(rows[key].implode()))
    return pl.concat([others, rows])


def _fits(new: pl.DataType, old: pl.DataType) -> bool:
    return new == old or (new.is_numeric() and old.is_numeric())
