"""`shortlist clean`: raw events in, events that can be right out, and a report of the rest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import (
    add_data_arguments,
    check_output,
    data_overrides,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
)
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "clean",
        "Drop events that cannot be right, and report which and why.",
        "shortlist clean --data events.csv --items items.csv --out clean.parquet\n"
        "  shortlist clean --data events.csv --out clean.parquet --set cleaning.k_core=true",
    )
    add_data_arguments(parser, required=False)
    parser.add_argument("--config", type=Path, help="TOML file; [data] and [cleaning] are used")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting, e.g. --set cleaning.max_value=5 (repeatable)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="NAME.parquet, .csv or .arrow"
    )
    parser.add_argument(
        "--report",
        type=Path,
        help="report as JSON, and as text beside it (default: OUT.report.json)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Clean, save the report, and print it."""
    check_output(args.out, "--out")
    check_output(args.report, "--report")
    overrides = parse_overrides(args.set) | data_overrides(args)
    cleaning = require_extra("shortlist.training.cleaning.files", "train")
    with reading_said("clean"):
        report = cleaning.clean_files(
            out=args.out,
            config_path=args.config,
            overrides=overrides,
            report_path=args.report,
            progress=not args.quiet,
        )
    if args.json:
        print_json(report.to_dict())
    else:
        show(report)
    return 0
