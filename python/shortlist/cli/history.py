"""`shortlist history`: the versions of a bundle."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist.bundle.text import printable
from shortlist.cli._common import new_parser
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


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
    """Print a line a version."""
    from shortlist.versions import history

    rows = history(args.bundle)
    if args.json:
        print_json(rows)
    else:
        show("\n".join(_line(row) for row in rows))
    return 0


def _line(row: Mapping[str, Any]) -> str:
    data = row.get("data", {})
    parts = [f"{row['version']:<24} {row['state']:<9} {row.get('kind', 'unknown'):<7}"]
    parts.append(f"from {row['parent']}" if row["parent"] else "from nothing")
    if data:
        parts.append(f"{data['n_events']:,} events, sha256 {data['sha256'][:12]}…")
    if data.get("until") is not None:
        parts.append(f"until {_day(data['until'])}")
    parts.append(row["path"] or "not kept")
    return printable("  ".join(parts))


def _day(seconds: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%F}"
    except (ValueError, OverflowError, OSError):  # no year from 1 to 9999
        return f"{seconds:,} seconds since 1970"
