"""`shortlist export`: a finished training run in, bundle out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import new_parser, require_extra
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "export",
        "Export a training run to a bundle: ONNX graphs, index, item table, parity gate.",
        "shortlist export movies.run --out movies.shortlist",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run folder of `shortlist train`")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="bundle to write (NAME.shortlist)"
    )
    parser.add_argument(
        "--no-users", action="store_true", help="leave users and their histories out of the bundle"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export the run's best weights."""
    pipeline = require_extra("shortlist.training.pipeline.export", "train")
    report = pipeline.export_run(args.run_dir, args.out, store_users=not args.no_users)
    if args.json:
        print_json(report.to_dict())
    else:
        show(f"bundle: {report.bundle}")
        show(f"parity: {report.parity.to_dict()}")
    return 0
