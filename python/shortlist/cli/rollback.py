"""`shortlist rollback`: an earlier version back into a bundle's place."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import new_parser
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "rollback",
        "Put the version before it (or --to another) in the place of a bundle, in one step.",
        "shortlist rollback movies.shortlist",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    parser.add_argument("--to", metavar="VERSION", help="version, as `shortlist history` names it")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Go back; the version that was there is kept."""
    from shortlist.versions import rollback

    done = rollback(args.bundle, args.to)
    if args.json:
        print_json(done)
    else:
        show(f"{done['bundle']} is version {done['version']} again")
        show(f"kept: {done['replaced']} in {done['kept']}")
    return 0
