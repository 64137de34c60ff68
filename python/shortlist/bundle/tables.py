"""The bundle's Arrow tables: memory-mapped, read at the first question and checked once."""

import mmap
from pathlib import Path
from typing import Any, NamedTuple

from shortlist.bundle.fields import problem


class MappedFile(NamedTuple):
    """A file in memory that stays readable when its bundle is closed, moved or deleted."""

    name: str
    data: mmap.mmap


def map_file(path: Path) -> MappedFile:
    """Map an Arrow file into memory.

    Raises
    ------
    BundleError
        It cannot be mapped: nothing there, or empty.
    """
    try:
        with path.open("rb") as file:
            return MappedFile(path.name, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise problem(path.name, "an Arrow IPC file", f"{error}") from error


def read_table(file: MappedFile, n_rows: int, columns: dict[str, str]) -> Any:
    """Read an Arrow IPC file and check every buffer, its row count and its columns' types.

    Raises
    ------
    BundleError
        Not an Arrow file, damaged, a column missing, of another type or with nulls, or another
        number of rows.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.py_buffer(file.data)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise problem(file.name, "an Arrow IPC file", f"{error}") from error
    if table.num_rows != n_rows:
        raise problem(file.name, f"{n_rows:,} rows", f"{table.num_rows:,}")
    for name, kind in columns.items():
        if name not in table.column_names:
            raise problem(file.name, f"a column {name!r}", ", ".join(table.column_names))
        column = table.column(name)
        if str(column.type) != kind or column.null_count:
            actual = f"{column.type} with {column.null_count} nulls"
            raise problem(file.name, f"column {name!r} to be {kind} without nulls", actual)
    return table
