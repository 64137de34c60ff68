"""`shortlist inspect`: what is inside a bundle and this installation, in words and numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import check_log, new_parser, require_extra
from shortlist.cli._output import print_json, show
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "inspect",
        "Say what is inside a bundle, after verifying every file's hash, and what would serve it.",
        "shortlist inspect movies.shortlist",
    )
    parser.add_argument(
        "bundle",
        type=Path,
        nargs="?",
        help="bundle: a NAME.shortlist folder or zip (default: only this installation)",
    )
    parser.add_argument(
        "--feedback",
        metavar="LOG",
        help="also measure the drift since the training of this feedback log (a file or a URL)",
    )
    parser.add_argument(
        "--run",
        dest="run_dir",
        type=Path,
        help="run folder, for --feedback (default: the one beside the bundle)",
    )
    parser.add_argument(
        "--all", action="store_true", help="print every setting, figure and hash, not one screen"
    )
    parser.add_argument("--json", action="store_true", help="print the description as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open (which verifies every hash) and describe."""
    from shortlist import build_info
    from shortlist.bundle import Bundle

    described: dict[str, object] = {}
    parts = []
    if args.bundle is not None:
        with Bundle.open(args.bundle) as bundle:
            text = bundle.summary() if args.all else bundle.outline()
            described, parts = bundle.describe(), [text]
    described["installation"] = build = build_info()
    if args.all or args.bundle is None:
        lines = ["this installation", *(f"  {k:16} {v}" for k, v in build.items())]
        parts.append("\n".join(lines))
    if args.feedback is not None:
        if args.bundle is None:
            raise DataError("--feedback: got a log, expected a bundle whose log it is")
        check_log(args.feedback, "--feedback")
        drift = require_extra("shortlist.training.updates.drift", "train")
        report = drift.inspect_drift(args.bundle, args.feedback, run_dir=args.run_dir)
        described["drift"] = report.to_dict()
        parts.append("\n".join(drift.drift_lines(report)))
    elif args.bundle is not None and not args.all:
        parts.append("every hash verified; every setting and figure: --all")
    if args.json:
        print_json(described)
    else:
        show("\n\n".join(parts))
    return 0
