"""RecBole atomic files: tab-separated, each header field typed as in ``user_id:token``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.columns import first_true
from shortlist.training.data.entities import entities_from_table, numbers_if_all, split_tags
from shortlist.training.data.events import DEFAULT_KIND, Dataset, events_from_table
from shortlist.training.data.tables import Table, read_delimited, read_lines

TYPES = ("token", "float", "token_seq", "float_seq")
_RATINGS = ("value", "rating", "label")  # the first that exists becomes ``value``


def find_inter(path: Path) -> list[Path]:
    """Return the .inter file, or the split files (train, valid, test in this order) of a path."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.inter"))
    for part in ("train", "test"):
        if not any(f.name.endswith(f".{part}.inter") for f in files):
            break
    else:
        order = [f".{part}.inter" for part in ("train", "valid", "test")]
        return [f for end in order for f in files if f.name.endswith(end)]
    if len(files) != 1:
        raise DataError(
            f"{path}: got {len(files)} .inter files {[f.name for f in files][:5]}, "
            "expected one (or NAME.train.inter and NAME.test.inter). Fix: give the file"
        )
    return files


def read_recbole(path: Path) -> Dataset:
    """Read the .inter file with the .item and .user files of the same name beside it.

    ``rating`` (or ``label``) becomes ``value``; without a ``timestamp`` field the file order is the
    time order. Of given split files (NAME.train.inter, NAME.valid.inter, NAME.test.inter) the
    first two are the events and the last one the given test events.
    """
    files = find_inter(path)
    has_parts = len(files) > 1
    frames = [_event_frame(file) for file in files]
    if any(f.frame.columns != frames[0].frame.columns for f in frames):
        raise DataError(
            f"{path}: the split files have different fields: "
            f"{[f.frame.columns for f in frames]}. Fix: give them the same fields"
        )
    has_times = "timestamp" in frames[0].frame.columns
    whole = pl.concat([f.frame for f in frames])
    if not has_times:
        whole = whole.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("timestamp"))
    kind = "rating" if "rating" in frames[0].frame.columns else DEFAULT_KIND
    whole = whole.rename({"rating": "value", "label": "value"}, strict=False)
    places = None if has_parts else frames[0].places
    n_test = frames[-1].frame.height if has_parts else 0
    parts = [whole[: whole.height - n_test], whole[whole.height - n_test :]]
    events, *test = [
        events_from_table(
            Table(part, files[0].name, is_text=True, places=places),
            duplicates="keep",
            kind=kind,
        )
        for part in parts
        if part.height
    ]
    base = files[0].name.removesuffix(".inter").removesuffix(".train")
    items = _entities(files[0].parent / f"{base}.item", "item_id")
    users = _entities(files[0].parent / f"{base}.user", "user_id")
    return Dataset(base, events, items, users, test[0] if test else None, has_times=has_times)


def read_atomic(path: Path) -> tuple[Table, dict[str, str]]:
    """Read one atomic file as text; also return the type of each field."""
    expected = "a RecBole atomic file with a typed header (user_id:token …)"
    text = read_lines(path, expected)
    header = text.lstrip("\n").split("\n", 1)[0].split("\t")
    types = {}
    for field in header:
        name, _, kind = field.partition(":")
        if kind not in TYPES:
            raise DataError(
                f"{path.name}, line 1: header field {field!r}, expected NAME:TYPE with "
                f"TYPE one of {list(TYPES)}, separated by tabs. Fix: type the header"
            )
        types[name] = kind
    table = read_delimited(path, "\t", None, expected, text=text)
    frame = table.frame
    if frame.height == 0:
        raise DataError(
            f"{path.name} has a header and no rows, expected at least one row. "
            "Fix: give the whole file"
        )
    frame.columns = list(types)
    return replace(table, frame=frame), types


def _event_frame(path: Path) -> Table:
    if path.suffix != ".inter":
        raise DataError(
            f"{path.name}: got a {path.suffix or 'file without ending'}, expected a "
            ".inter file or its folder. Fix: give the .inter file"
        )
    table, types = read_atomic(path)
    for name in ("user_id", "item_id"):
        if types.get(name) != "token":
            raise DataError(
                f"{path.name}: got fields {types}, expected {name}:token among them. "
                "Fix: rename the field in the header"
            )
    value = [name for name in _RATINGS if name in types][:1]
    wanted = ["user_id", "item_id", *(n for n in ("timestamp", "kind") if n in types), *value]
    return replace(table, frame=table.frame.select(wanted))


def _entities(path: Path, id_column: str) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    table, types = read_atomic(path)
    title = next((n for n in types if n == "title" or n.endswith("_title")), None)
    ids = replace(table, frame=table.frame.select(id_column)) if id_column in types else table
    out = entities_from_table(ids, id_column, lists={})
    for name, kind in types.items():
        if name == id_column:
            continue
        column = table.frame[name]
        if name == title:
            out = out.with_columns(column.alias("title"))
        elif kind == "token":
            out = out.with_columns(column)
        elif kind == "token_seq":
            out = out.with_columns(split_tags(column, " "))
        elif kind == "float":
            out = out.with_columns(_floats(table, name))
        else:
            out = out.with_columns(_float_columns(table, name))
    return out


def _floats(table: Table, name: str) -> pl.Series:
    numbers = numbers_if_all(table.frame[name])
    if numbers.dtype == pl.String and numbers.null_count() < len(numbers):
        real = numbers.cast(pl.Float64, strict=False)
        bad = numbers.is_not_null() & ~real.is_finite().fill_null(False)
        row = first_true(bad)
        if row is not None:
            raise table.error(name, row, "a finite number (the header says float)", "correct it")
        return real
    return numbers.cast(pl.Float64)


def _float_columns(table: Table, name: str) -> list[pl.Series]:
    """Spread a float_seq over columns NAME_0, NAME_1, …; every row must have the same length."""
    lists = split_tags(table.frame[name], " ")
    width = int(lists.list.len()[0])
    row = first_true(lists.list.len() != width)
    if row is not None:
        raise table.error(
            name, row, f"{width} numbers as in the first row", "give all rows as many"
        )
    return [
        _floats(
            replace(table, frame=lists.list.get(i).alias(f"{name}_{i}").to_frame()),
            f"{name}_{i}",
        )
        for i in range(width)
    ]
