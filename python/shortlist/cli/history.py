"""`shortlist history`: the versions of a bundle."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist._checks import printable
from shortlist.cli._common import new_parser
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers

_HEADINGS = ("version", "state", "by", "from", "events", "until", "sha256 of events", "bundle")


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "history",
        "Show which versions a bundle came from, and which others are kept beside it.",
        "shortlist history movies.shortlist",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    parser.add_argument("--json", action="store_true", help="print the versions as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the versions as a table."""
    from shortlist.versions import history

    rows = history(args.bundle)
    if args.json:
        print_json(rows)
    else:
        show("\n".join(_table(rows)))
    return 0


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write a line a version under headings."""
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    data = row.get("data", {})
    until = data.get("until")
    cells = (
        row["version"],
        row["state"],
        str(row.get("kind", "unknown")),
        row["parent"] or "nothing",
        f"{data['n_events']:,}" if data else "unknown",
        "unknown" if until is None else _day(until),
        f"{data['sha256'][:12]}…" if data else "unknown",
        row["path"] or "not kept",
    )
    return tuple(map(printable, cells))


def _day(seconds: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%F}"
    except (ValueError, OverflowError, OSError):  # no year from 1 to 9999
        return f"{seconds:,} seconds since 1970"
