"""JSON lines: one object a line. Values keep their types; columns are the union of all names."""

from __future__ import annotations

import glob
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from shortlist._columns.files import UTF8_MARK, decode, read_bytes, wide_encoding
from shortlist._columns.kinds import check_is_text, is_gzip, opened
from shortlist._columns.lines import Lines
from shortlist.errors import DataError
from shortlist.training.data.tables.part import Part, explained
from shortlist.training.data.tables.text import whole_head

EXPECTED = "JSON lines, one object a line"
_FIX = "write one object a line; `jq -c '.[]' FILE > FILE.jsonl` does it to an array"


class JsonLines(Lines):
    """Finds the lines of objects, and the first that is none."""

    def wrong(self) -> tuple[int, str, str] | None:
        """Find the first line that is no object, or whose value is of another type than before."""
        kinds: dict[str, str] = {}
        with self.open() as file:
            for number, data in enumerate(file, 1):
                line = data.decode("utf-8", "replace").strip()
                if not line:
                    continue
                try:
                    found = json.loads(line, parse_constant=_refuse)
                except ValueError as error:
                    return number, f"got {line!r:.60}, which is no JSON: {error}", _FIX
                if not isinstance(found, dict):
                    return number, f"got {line!r:.60}, expected a JSON object", _FIX
                for name, value in found.items():
                    kind = _kind(value)
                    before = kinds.setdefault(name, kind) if kind else kind
                    if kind != before and {kind, before} != {"a number", "text"}:
                        said = f"column {name!r}: got {json.dumps(value)!r:.60}, {kind}"
                        said += f", expected {before} as in the lines before"
                        return number, said, "give the column one type"
        return None

    def mixed(self, name: str) -> tuple[int, object] | None:
        """Find the first value of a column that is no text or number, where others are: its line.

        None if there is none, or no line has text or a number.
        """
        first, has_others = None, False
        with self.open() as file:
            for number, data in enumerate(file, 1):
                if not data.strip():
                    continue
                try:
                    record = json.loads(data.decode("utf-8", "replace"))
                except ValueError:
                    return None  # reading says so
                value = _value(record, name) if isinstance(record, dict) else None
                if _kind(value) in ("text", "a number"):
                    has_others = True
                elif value is not None and first is None:
                    first = number, value
                if has_others and first is not None:
                    return first
        return None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON; write null")


def _value(record: Mapping[str, object], name: str) -> object:
    """Return what a record has under a name, which may be that of a field of a record inside."""
    if name in record:
        return record[name]
    for head, inner in record.items():
        if isinstance(inner, dict) and name.startswith(f"{head}."):
            return _value(inner, name[len(head) + 1 :])
    return None


def _kind(value: object) -> str:
    """Name the type of a JSON value; "" of null."""
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "")


def open_json(path: Path) -> Part:
    """Open a file of JSON lines."""
    head = whole_head(path)
    check_is_text(head, path, EXPECTED)
    # polars takes a path for a pattern, and knows no marks.
    source: str | bytes = glob.escape(str(path))
    if wide_encoding(head) or head.startswith(UTF8_MARK):
        source = decode(read_bytes(path), path.name).encode()
    elif is_gzip(path):
        source = read_bytes(path)
    lines = JsonLines(opened(path if isinstance(source, str) else source), " ", False, 0)
    part = Part(path.name, pl.LazyFrame(), lines, EXPECTED, may_lack_columns=True)
    try:
        schema = pl.scan_ndjson(source, infer_schema_length=None).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise explained(path.name, (part,), error) from error
    return replace(part, frame=pl.scan_ndjson(source, schema=schema))


def check_not_mixed(part: Part, frame: pl.LazyFrame, names: Collection[str]) -> None:
    """Raise a DataError if some values of columns are text or numbers, and others are neither.

    polars turns the others into text, or the numbers into nothing. ``frame`` is the part's, with a
    column for each field of its records.
    """
    if not isinstance(part.lines, JsonLines):
        return
    schema = frame.collect_schema()
    others = r"^\s*[\[{]|^(true|false)$"
    texts = [name for name in names if schema.get(name) == pl.String]
    flags = [pl.col(name).str.contains(others).any().alias(name) for name in texts]
    found = frame.select(flags).collect(engine="streaming").row(0, named=True) if texts else {}
    records = [name for name in names if any(has.startswith(f"{name}.") for has in schema)]
    for name in [*records, *(name for name in texts if found[name])]:
        if (first := part.lines.mixed(name)) is not None:
            line, value = first
            raise DataError(
                f"{part.name}, line {line}: column {name!r}: got {json.dumps(value)!r:.60}, "
                f"{_kind(value)}, expected text or a number as in other lines. Fix: give the "
                "column one type, or leave the line out"
            )
