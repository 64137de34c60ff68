"""Tables of requests that are text: CSV with a header line, and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist._columns.files import UTF8_MARK, decode, read_bytes, wide_encoding
from shortlist._columns.kinds import (
    TEXT_SUFFIXES,
    check_is_text,
    head_of,
    is_gzip,
    opened,
    suffix_of,
)
from shortlist._columns.lines import Lines
from shortlist._columns.requests import RequestSchema
from shortlist.batch.formats import CUT_BYTES, Cut, Span
from shortlist.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LIST_SEPARATOR = "|"  # of histories in CSV, which has no lists
_LISTS = ("history", "history_kinds", "history_ages")
_HEAD = 1 << 16


class Csv:
    """CSV or TSV with a header line; entries of a history are separated by ``|``."""

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return a file's columns, with the types that its bundle takes them as, or null."""
        import pyarrow as pa

        names, _ = _header(path)
        known = _types(columns)
        return pa.schema([(name, known.get(name, pa.null())) for name in names])

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""
        return _cuts(path, n_rows, is_csv=True)

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the bytes of a cut."""
        return _spans(path, cut)

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut, all at once."""
        import pyarrow as pa
        import pyarrow.csv

        names, separator = _header(path)
        types = {
            name: pa.string() if name in _LISTS else kind for name, kind in _types(columns).items()
        }
        data = _bytes_of(path, cut)
        try:
            table = pyarrow.csv.read_csv(
                io.BytesIO(data),
                pyarrow.csv.ReadOptions(
                    use_threads=False, block_size=len(data) + 1, column_names=names
                ),
                pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(column_types=types, null_values=[""]),
            )
            for at, name in enumerate(names):
                if name in _LISTS:
                    lists = _split(table.column(name), _types(columns)[name].value_type)
                    table = table.set_column(at, name, lists)
        except pa.ArrowException as error:
            raise _wrong(path, cut, f"{error}", "values of the bundle's types") from error
        yield table

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""
        return _lines_of(path, cut)


class JsonLines:
    """One JSON object a line."""

    def schema(self, path: Path, columns: RequestSchema) -> pa.Schema:
        """Return the columns of a file, as far as its first rows name them."""
        import pyarrow as pa

        data = head_of(path, _HEAD)
        check_is_text(data, path, "JSON lines, one object a line")
        data = _utf8(data, path).removeprefix(UTF8_MARK)
        known = _types(columns)
        names: dict[str, None] = {}
        lines = data.split(b"\n")[: None if len(data) < _HEAD else -1]
        for number, line in enumerate(lines, 1):
            if line.strip():
                names |= dict.fromkeys(_object(line, path, number))
        return pa.schema([(name, known.get(name, pa.null())) for name in names])

    def cuts(self, path: Path, n_rows: int) -> list[Cut]:
        """Cut a file into runs of about `n_rows`."""
        return _cuts(path, n_rows, is_csv=False)

    def spans(self, path: Path, cut: Cut) -> list[Span]:
        """Return the bytes of a cut."""
        return _spans(path, cut)

    def read(self, path: Path, cut: Cut, columns: RequestSchema) -> Iterator[pa.Table]:
        """Read a cut, all at once."""
        import pyarrow as pa
        import pyarrow.json

        data = _bytes_of(path, cut).removeprefix(UTF8_MARK)
        if not data.strip():
            return
        try:
            table = pyarrow.json.read_json(
                io.BytesIO(data),
                pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
                pyarrow.json.ParseOptions(explicit_schema=pa.schema(list(_types(columns).items()))),
            )
        except pa.ArrowException as error:
            for number, line in enumerate(data.split(b"\n"), _first_line(path, cut)):
                if line.strip():
                    _object(line, path, number)
            raise _wrong(path, cut, f"{error}", "values of the bundle's types") from error
        yield table

    def place(self, path: Path, cut: Cut) -> str:
        """Say in words where a cut lies."""
        return _lines_of(path, cut)


def _types(columns: RequestSchema) -> dict[str, Any]:
    """Return the Arrow types of columns whose values a reader must not guess."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "int64": pa.int64()}
    types = {columns.id_name: kinds[columns.id_dtype]}
    types["history"] = pa.list_(kinds[columns.history_dtype or "int64"])
    entries = {"history_kinds": pa.string(), "history_ages": pa.float64()}
    types |= {name: pa.list_(entries[name]) for name in columns.event_columns}
    for name, feature in columns.features.items():
        if feature.kind in ("categorical", "text"):
            types[name] = kinds[feature.dtype]
    return types


def _split(column: Any, entry: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.combine_chunks()
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    lists = pc.split_pattern(texts, LIST_SEPARATOR)
    return lists if pa.types.is_string(entry) else lists.cast(pa.list_(entry))


def _header(path: Path) -> tuple[list[str], str]:
    """Return the names of a CSV's columns and its separator."""
    head = head_of(path, _HEAD)
    check_is_text(head, path, "text with a header line")
    text = _utf8(head, path).removeprefix(UTF8_MARK).decode("utf-8", "replace")
    first = text.split("\n", 1)[0]
    by_name = TEXT_SUFFIXES[suffix_of(path)]
    separator = by_name if by_name in first else max(",\t;|", key=first.count)
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    return [name.strip() for name in names], separator


def _utf8(head: bytes, path: Path) -> bytes:
    if wide_encoding(head) is None:
        return head
    return decode(read_bytes(path), path.name).encode()[:_HEAD]


def _source(path: Path) -> Any:
    """Return what opens a file's bytes in UTF-8; of other encodings all are in memory then."""
    if wide_encoding(head_of(path, 4)) is None:
        return opened(path)
    return opened(decode(read_bytes(path), path.name).encode())


def _cuts(path: Path, n_rows: int, *, is_csv: bool) -> list[Cut]:
    lines = Lines(_source(path), "", has_quotes=is_csv, n_header=int(is_csv))
    try:
        return [Cut(*cut) for cut in lines.cuts(n_rows, CUT_BYTES)]
    except (OSError, EOFError, zlib.error):
        read_bytes(path)  # has the words for it
        raise


def _spans(path: Path, cut: Cut) -> list[Span]:
    is_as_it_lies = wide_encoding(head_of(path, 4)) is None and not is_gzip(path)
    return [Span(cut.start, cut.stop) if is_as_it_lies else Span(0, path.stat().st_size)]


def _bytes_of(path: Path, cut: Cut) -> bytes:
    with _source(path)() as file:
        file.seek(cut.start)
        data: bytes = file.read(cut.stop - cut.start)
        return data


def _first_line(path: Path, cut: Cut) -> int:
    return 1 + _bytes_of(path, Cut(0, cut.start, 0)).count(b"\n")


def _lines_of(path: Path, cut: Cut) -> str:
    first = _first_line(path, cut)
    return f"lines {first:,} to {first + cut.n_rows - 1:,}"


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number:,}: got {line[:60]!r}, expected one JSON object a line ({error})"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}, line {number:,}: got {line[:60]!r}, expected an object such as "
            '{"user_id": 196}'
        )
    return found


def _wrong(path: Path, cut: Cut, got: str, expected: str) -> DataError:
    return DataError(f"{path}, {_lines_of(path, cut)}: {got}; expected {expected}")
