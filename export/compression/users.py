"""Stored users in fewer bytes: ids of items as short as they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from shortlist.export.compression.tables import smallest
from shortlist.export.tables import write_table

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_short"]

LISTS = ("history", "history_times")  # of whole numbers that an engine takes in any width


def write_short(source: Path, target: Path) -> None:
    """Write users.arrow again, its lists of int64 in the shortest type that holds the values."""
    with pa.memory_map(str(source)) as file:
        table = pa.ipc.open_file(file).read_all()
        for name in LISTS:
            place = table.schema.get_field_index(name)
            if place < 0 or table.schema.field(place).type != pa.list_(pa.int64()):
                continue
            column = table.column(place)
            values = column.combine_chunks().flatten().to_numpy()
            short = pa.list_(pa.from_numpy_dtype(smallest(values)))
            table = table.set_column(place, name, column.cast(short))
        write_table(target, table)
