"""The feedback log as Arrow tables, and in a Parquet or Arrow file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shortlist._temporary import replacing
from shortlist.errors import DataError
from shortlist.feedback.sqlite import Row

PAGE = 100_000  # rows in memory at once


def to_table(rows: list[Row], types: Mapping[str, str]) -> Any:
    """Return rows of the log as a pyarrow Table."""
    import pyarrow as pa

    schema = _schema(types)
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def check_suffix(path: Path) -> None:
    """Refuse a name that does not say which format is wanted."""
    if path.suffix not in (".parquet", ".arrow"):
        raise DataError(f"path: got {str(path)!r}, expected a name that ends in .parquet or .arrow")


def write_tables(path: Path, tables: Iterable[Any], types: Mapping[str, str]) -> int:
    """Write tables into one file, whole or not at all; return the number of rows."""
    try:
        with replacing(path) as file:
            return _write(file, path.suffix, tables, types)
    except OSError as error:
        found = error.strerror or error
        raise DataError(f"path: {path} cannot be written ({found})") from error


def _write(file: Any, suffix: str, tables: Iterable[Any], types: Mapping[str, str]) -> int:
    import pyarrow as pa

    schema, n = _schema(types), 0
    if suffix == ".arrow":
        writer = pa.ipc.new_file(file, schema)
    else:
        import pyarrow.parquet

        writer = pa.parquet.ParquetWriter(file, schema)
    with writer:
        for table in tables:
            writer.write_table(table)
            n += table.num_rows
    return n


def _schema(types: Mapping[str, str]) -> Any:
    import pyarrow as pa

    ids = {
        name: pa.string() if types.get(name) == "string" else pa.int64()
        for name in ("user_id", "item_id")
    }
    return pa.schema(
        [
            ("sequence", pa.int64()),
            *ids.items(),
            ("kind", pa.string()),
            ("timestamp", pa.int64()),
            ("value", pa.float64()),
            ("key", pa.string()),
            ("rank", pa.int64()),
            ("bundle", pa.string()),
            ("score", pa.float64()),
            ("propensity", pa.float64()),
        ]
    )
