"""The only reader of tables: whole or while they are worked on, by the same rules.

`docs/data.md` says what is accepted. Text files (CSV, TSV) are read as strings, so that a value
which cannot be parsed later is reported with its line. JSON lines, Parquet, Arrow and Feather files
and pandas, polars and pyarrow frames keep their types.
"""

from shortlist._columns.kinds import TABLE_SUFFIXES, check_is_text, read_lines
from shortlist.training.data.tables.parts import is_folder_of_parts
from shortlist.training.data.tables.table import (
    LazyTable,
    Table,
    TableSource,
    log,
    read_delimited,
    read_table,
    require_columns,
    scan_table,
)

__all__ = [
    "TABLE_SUFFIXES",
    "LazyTable",
    "Table",
    "TableSource",
    "check_is_text",
    "is_folder_of_parts",
    "log",
    "read_delimited",
    "read_lines",
    "read_table",
    "require_columns",
    "scan_table",
]
