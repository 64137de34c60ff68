"""`shortlist train`: events in, bundle out."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import (
    add_data_arguments,
    add_settings_arguments,
    check_output,
    data_overrides,
    minutes,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
)
from shortlist.cli._output import print_json, show
from shortlist.cli._reading import data_flags
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "train",
        "Try models on events, train the best one, and export a bundle. Nothing is tried where a "
        "preset, a file or --set says what is trained.",
        "shortlist train --data movielens-100k --budget 10m --out movies.shortlist",
    )
    add_data_arguments(parser, required=False)
    add_settings_arguments(parser)
    parser.add_argument(
        "--budget",
        type=minutes,
        metavar="TIME",
        help="that trying encoders and training the best may take, as computed from the sizes of "
        "the data: 90s, 30m, 2h (default: 30m); the same as --set choice.minutes=30",
    )
    parser.add_argument("--seed", type=int, help="random seed (same seed, same metrics)")
    parser.add_argument(
        "--out", type=Path, metavar="BUNDLE", help="bundle to write (NAME.shortlist; required)"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print every setting with its meaning as TOML (of --preset, --config, --set) and stop",
    )
    parser.add_argument(
        "--run",
        dest="run_dir",
        type=Path,
        help="checkpoints and logs (default: OUT.run)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint of the run folder"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run that the run folder holds"
    )
    parser.add_argument(
        "--no-users", action="store_true", help="leave users and their histories out of the bundle"
    )
    parser.add_argument("--plot", type=Path, help="write a PNG of loss and NDCG@10 by epoch")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def _read_overrides(args: argparse.Namespace) -> dict[str, object]:
    overrides = parse_overrides(args.set)
    if args.no_users:
        overrides["export.store_users"] = False
    if args.seed is not None:
        overrides["train.seed"] = args.seed
    if args.budget is not None:
        overrides["choice.minutes"] = args.budget
    return overrides | data_overrides(args)


def run(args: argparse.Namespace) -> int:
    """Train, export, and say where the bundle is."""
    if args.preset and args.config:
        raise DataError("--preset and --config: got both, expected one; put the rest into --set")
    overrides = _read_overrides(args)
    settings = require_extra("shortlist.training.config.settings", "train")
    if args.print_config:
        page = require_extra("shortlist.training.config.help", "train")
        show(page.describe_config(settings.load_config(args.preset, args.config, overrides)))
        return 0
    if args.out is None:
        raise DataError("--out: got nothing, expected the bundle to write, e.g. movies.shortlist")
    if args.plot:
        require_extra("matplotlib", "bench")  # say so before minutes of training
        check_output(args.plot, "--plot")
    pipeline = require_extra("shortlist.training.pipeline.train", "train")
    try:
        with reading_said("train"):
            report = pipeline.train_and_export(
                preset=args.preset,
                config_path=args.config,
                overrides=overrides,
                out=args.out,
                run_dir=args.run_dir,
                resume=args.resume,
                overwrite=args.overwrite,
                plot=args.plot,
                progress=not args.quiet,
            )
    except KeyboardInterrupt:
        show(
            "shortlist train: the same command with --resume goes on from the last epoch",
            file=sys.stderr,
        )
        raise
    for warning in report.warnings:
        show(f"shortlist train: warning: {warning}", file=sys.stderr)
    if args.json:
        print_json(report.to_dict())
    else:
        show(report)
        data = settings.load_config(args.preset, args.config, overrides).data
        show("\n".join(["next:", *_next_commands(args.out, data_flags(data), report.user)]))
    return 0


def _next_commands(bundle: Path, flags: list[str], user: str | None) -> list[str]:
    """Give the commands that show what the bundle is worth and what it says."""
    out = shlex.quote(str(bundle))
    # Written as one word: ids may begin with a dash.
    request = "--history ITEM" if user is None else shlex.quote(f"--user={user}")
    return [
        f"  shortlist evaluate {out} {shlex.join(flags)}",
        f"  shortlist recommend {out} {request}",
    ]
