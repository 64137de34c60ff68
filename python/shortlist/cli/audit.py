"""`shortlist audit`: test the mechanism of a private bundle on users that are made to be found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import check_bundle, new_parser, require_extra, whole_number
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "audit",
        "Run the mechanism of a private bundle anew, with its settings and with canary users, and "
        "print the least epsilon that guesses about them prove, beside the promise.",
        "shortlist audit movies.shortlist --canaries 1000",
    )
    parser.add_argument("bundle", type=Path, help="private bundle: a NAME.shortlist folder or zip")
    parser.add_argument(
        "--canaries",
        type=whole_number(100),
        default=1000,
        metavar="M",
        help="users of which a coin puts each in or not (default: %(default)s); more prove more",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Audit; 1 where the promise does not hold."""
    check_bundle(args.bundle)
    pipeline = require_extra("shortlist.training.pipeline.audit", "privacy")
    report = pipeline.audit_bundle(args.bundle, n_canaries=args.canaries)
    if args.json:
        print_json(report.to_dict())
    else:
        show(report)
    return int(report.is_convicted)
