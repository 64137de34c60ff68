"""`shortlist replay`: what updating would have brought on real events, in time order."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist._temporary import folder_for
from shortlist.cli._common import (
    add_data_arguments,
    add_settings_arguments,
    check_output,
    data_overrides,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
    whole_number,
)
from shortlist.cli._output import print_json, show
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "replay",
        "Feed events by time through serving, feedback and updates; compare a model never updated, "
        "one updated and one trained anew.",
        "shortlist replay --data movielens-100k --cycles 6 --plot replay.png",
    )
    add_data_arguments(parser, required=False)
    add_settings_arguments(parser)
    parser.add_argument(
        "--cycles", type=whole_number(2), default=6, help="cycles (default: %(default)s)"
    )
    parser.add_argument(
        "--first", type=float, default=0.7, help="part of the events before them (default: 0.7)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="new folder for run folders and the log (default: a temporary one)",
    )
    parser.add_argument("--plot", type=Path, help="write a PNG of NDCG@10 and time by cycle")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay and print the table."""
    if not 0.0 < args.first < 1.0:
        raise DataError(f"--first: got {args.first:g}, expected a part between 0 and 1")
    if args.plot:
        require_extra("matplotlib", "bench")
        check_output(args.plot, "--plot")
    config = require_extra("shortlist.training.config.settings", "train").load_config(
        args.preset, args.config, parse_overrides(args.set) | data_overrides(args)
    )
    if not config.data.path:
        raise DataError("--data: got nothing, expected a data set, such as movielens-100k")
    files = require_extra("shortlist.training.cleaning.files", "train")
    replay = require_extra("shortlist.training.pipeline.replay", "train")
    with (
        folder_for(Path(tempfile.gettempdir()) / "replay") as temporary,
        reading_said("replay"),
    ):
        dataset, _ = files.load_configured(config, progress=not args.quiet)
        report = replay.replay(
            dataset,
            config,
            args.work or temporary / "replay",
            cycles=args.cycles,
            first=args.first,
            progress=not args.quiet,
        )
    if args.plot:
        require_extra("shortlist.training.evaluation.plots", "train").plot_replay(report, args.plot)
    if args.json:
        print_json(report.to_dict())
    else:
        show(replay.replay_table(report))
    return 0
