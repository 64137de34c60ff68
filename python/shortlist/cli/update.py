"""`shortlist update`: a bundle goes on learning from a feedback log."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import (
    add_set_argument,
    check_bundle,
    check_log,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
)
from shortlist.cli._output import print_json, show
from shortlist.cli._reading import add_reading_arguments, reading_options
from shortlist.versions import KEPT

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers

REFUSED_BY_GATE, REFUSED_BY_DRIFT = 3, 4  # exit statuses


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "update",
        "Train a bundle on the new events of a feedback log; replace it if it is not worse.",
        "shortlist update movies.shortlist --feedback feedback.log\n\n"
        f"exit status: 0 the new version serves (or is at --out), {REFUSED_BY_GATE} refused by the "
        f"gate,\n{REFUSED_BY_DRIFT} refused by drift before training, 1 an error, 2 wrong usage, "
        "130 interrupted",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    parser.add_argument(
        "--feedback", required=True, metavar="LOG", help="feedback log (a file or a database URL)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="BUNDLE",
        help="write the new bundle there and leave the old one as it is",
    )
    parser.add_argument(
        "--run", dest="run_dir", type=Path, help="run folder (default: the one beside the bundle)"
    )
    parser.add_argument("--items", type=Path, help="table of new items")
    parser.add_argument("--users", type=Path, help="table of new users")
    add_reading_arguments(parser, events=False)
    add_set_argument(parser, "update.epochs=5")
    parser.add_argument("--ignore-drift", action="store_true", help="train in spite of alarms")
    parser.add_argument(
        "--ignore-gate",
        action="store_true",
        help="replace the bundle even if the new one is worse; a version that was refused before "
        "is taken as it is",
    )
    parser.add_argument(
        "--keep",
        type=int,
        default=KEPT,
        metavar="N",
        help=f"keep the N newest other versions, remove older ones (default {KEPT})",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Update; the exit status says whether the new version serves, or what refused it."""
    check_bundle(args.bundle)
    check_log(args.feedback, "--feedback")
    update = require_extra("shortlist.training.pipeline.update", "train")
    pages = require_extra("shortlist.training.updates.report", "train")
    try:
        with reading_said("update"):
            report = update.update_bundle(
                args.bundle,
                feedback=args.feedback,
                out=args.out,
                run_dir=args.run_dir,
                items=args.items,
                users=args.users,
                overrides=parse_overrides(args.set)
                | {f"data.{name}": value for name, value in reading_options(args).items()},
                ignore_drift=args.ignore_drift,
                ignore_gate=args.ignore_gate,
                keep=args.keep,
                progress=not args.quiet,
            )
    except update.DriftError as error:
        if args.json:
            print_json({"refused_by": "drift", "drift": error.report.to_dict()})
        show(f"shortlist update: REFUSED by {error}", file=sys.stderr)
        return REFUSED_BY_DRIFT
    except update.RefusedError as error:
        if args.json:
            print_json({"refused_by": "history", "reason": str(error)})
        show(f"shortlist update: REFUSED: {error}", file=sys.stderr)
        return REFUSED_BY_GATE
    if args.json:
        print_json(report.to_dict())
        if report.is_refused:
            show(f"shortlist update: {pages.refusal(report)}", file=sys.stderr)
    else:
        show("\n".join(pages.update_lines(report, args.bundle)))
    return REFUSED_BY_GATE if report.is_refused else 0
