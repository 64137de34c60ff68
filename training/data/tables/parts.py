"""The files of a table, each opened without being read, and what names their rows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from shortlist._columns.files import read_bytes
from shortlist._columns.kinds import (
    SUFFIX_HELP,
    TABLE_SUFFIXES,
    check_no_table_format,
    is_gzip,
    kind_of,
)
from shortlist.errors import DataError
from shortlist.training.data.tables.json_lines import open_json
from shortlist.training.data.tables.part import Part, explained
from shortlist.training.data.tables.text import open_text

_EXPECTED = {
    "parquet": "a Parquet file",
    "arrow": "an Arrow IPC (Feather version 2) file",
    "stream": "an Arrow IPC stream",
}


def is_folder_of_parts(path: Path) -> bool:
    """Say whether a folder is one table in many files, as Spark and Dask write it."""
    return path.is_dir() and bool(_files_of(path))


def _files_of(folder: Path) -> list[Path]:
    """List the files of a table that is a folder; those that begin with _ or . are not of it."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part[0] in "._" for part in path.relative_to(folder).parts)
        and path.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)
        and path.is_file()
    ]
    # A folder with events.csv and items.csv is a data set, not a table.
    inside = {path.relative_to(folder).parts[:-1] for path in found}
    has_marker = (folder / "_SUCCESS").exists()
    is_named_so = folder.name.lower().endswith(TABLE_SUFFIXES)
    are_parts = all(re.match(r"part[-_.]", path.name) for path in found)
    is_hive = inside and all(parts and all("=" in p for p in parts) for parts in inside)
    return found if has_marker or is_named_so or are_parts or is_hive else []


def open_parts(path: Path) -> tuple[Part, ...]:
    """Open a file, or the files of a folder that is one table."""
    if not path.is_dir():
        return (_open_file(path),)
    check_no_table_format(path)
    files = _files_of(path)
    if not files:
        raise DataError(
            f"{path} is a folder, expected a file: {SUFFIX_HELP}, or a folder of parts as Spark "
            "writes it. Fix: name the file"
        )
    filled = [file for file in files if file.stat().st_size > 0] or files[:1]
    kinds = {kind_of(file) for file in filled}
    if len(kinds) > 1:
        raise DataError(
            f"{path} has files of {len(kinds)} kinds ({', '.join(sorted(kinds))}), expected parts "
            "of one kind. Fix: keep other files elsewhere"
        )
    return tuple(_with_folders(_open_file(file), file.relative_to(path)) for file in filled)


def _with_folders(part: Part, path: Path) -> Part:
    """Add the columns that the names of folders hold: kind=view/part-0.parquet."""
    pairs = dict(unquote(name).split("=", 1) for name in path.parts[:-1] if "=" in name)
    missing = "__HIVE_DEFAULT_PARTITION__"
    columns = [
        pl.lit(None if value == missing else value, pl.String).alias(name)
        for name, value in pairs.items()
    ]
    named = replace(part, name=str(path))
    return replace(named, frame=part.frame.with_columns(columns)) if columns else named


def _open_file(path: Path) -> Part:
    if not path.exists():
        raise DataError(f"no such file: {path}. Fix: check the path")
    kind = kind_of(path)
    if kind == "text":
        return open_text(path)
    if kind == "json":
        return open_json(path)
    source: Any = read_bytes(path) if is_gzip(path) else path
    if kind == "parquet":
        frame = pl.scan_parquet(source, glob=False, hive_partitioning=False)
    elif kind == "arrow":
        frame = pl.scan_ipc(source, glob=False, hive_partitioning=False)
    else:
        frame = pl.LazyFrame()
    part = Part(path.name, frame, expected=_EXPECTED[kind])
    if kind != "stream":
        return part
    try:
        return replace(part, frame=pl.read_ipc_stream(source).lazy())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise explained(path.name, (part,), error) from error
