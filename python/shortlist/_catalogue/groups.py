"""Columns of the item table as numbers: what lists are capped by, or calibrated to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shortlist._columns.calibration import GroupColumn
from shortlist._columns.reading import to_array
from shortlist._columns.tables import near_name
from shortlist.errors import DataError

_MOST_NUMBERS = 1000  # different ones of a column of decimal numbers


class Groups(NamedTuple):
    """A column as numbers.

    Attributes
    ----------
    column : GroupColumn
    values : pyarrow.Array
        What each number stands for.
    """

    column: GroupColumn
    values: Any

    def codes_of(self, wanted: list[Any]) -> NDArray[np.int64]:
        """Return the numbers of some values, −1 where no item has one."""
        known = {value: code for code, value in enumerate(self.values.to_pylist())}
        return np.array([known.get(value, -1) for value in wanted], dtype=np.int64)


def read_groups(table: Any, name: str, argument: str = "at_most") -> Groups:
    """Return the values of a column as numbers: one a row, or all entries of a column of lists.

    Nulls are no values. What is equal has one number. Messages call it by its `argument`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column_of(table, name, argument)
    splits = None
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = to_array(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)
        splits = np.append(0, np.cumsum(lengths))
        column = pc.list_flatten(column)
    kind = column.type
    if pa.types.is_nested(kind):
        raise DataError(
            f"{argument}: column {name!r} is {kind}, expected text, whole numbers, true or false, "
            "or a list of these"
        )
    encoded = pc.dictionary_encode(pa.chunked_array([column]).combine_chunks())
    if pa.types.is_floating(kind) and len(encoded.dictionary) > _MOST_NUMBERS:
        raise DataError(
            f"{argument}: column {name!r} ({kind}) has {len(encoded.dictionary):,} different "
            f"numbers, expected {_MOST_NUMBERS:,} at most; add a column of classes to the item "
            "table, such as 'low' and 'high'"
        )
    codes = to_array(pc.fill_null(encoded.indices, -1)).astype(np.int32)
    return Groups((np.ascontiguousarray(codes), splits), encoded.dictionary)


def _column_of(table: Any, name: str, argument: str) -> Any:
    """Return a column of the item table."""
    names = table.column_names
    if name not in names:
        columns = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        raise DataError(
            f"{argument}: unknown column {name!r}; {near_name(name, names)}The item table has "
            f"{columns}"
        )
    return table.column(name).combine_chunks()
