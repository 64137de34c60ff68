"""`shortlist evaluate`: a bundle's ranking metrics beside the baselines'."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import (
    add_data_arguments,
    check_bundle,
    check_output,
    new_parser,
    reading_said,
    require_extra,
    whole_number,
)
from shortlist.cli._off_policy import add_off_policy_arguments, run_off_policy
from shortlist.cli._output import print_json, show
from shortlist.cli._reading import reading_options
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "evaluate",
        "Rank the whole catalogue for the test users, report metrics, and judge by baselines.",
        "shortlist evaluate movies.shortlist --data movielens-100k --protocol leave-one-out\n"
        "  shortlist evaluate new.shortlist --data events.parquet --against old.shortlist "
        "--report new.html\n"
        "  shortlist evaluate new.shortlist --off-policy feedback.log --top-n 2",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    add_data_arguments(parser, required=False)
    parser.add_argument(
        "--protocol",
        default="auto",
        choices=["auto", "leave-one-out", "temporal", "random", "lightgcn-split"],
        help="how events are split (default: as the bundle was trained)",
    )
    parser.add_argument(
        "--on", default="test", choices=["valid", "test"], help="part to rank (default: test)"
    )
    parser.add_argument(
        "--k",
        type=whole_number(1),
        nargs="+",
        default=[10, 20],
        help="cut-offs (default: 10 20)",
    )
    parser.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="rank items of the history too, and count them as targets: for what is bought or "
        "played again (default: as the bundle was trained)",
    )
    parser.add_argument(
        "--no-baselines", action="store_true", help="only the bundle, no popularity, ItemKNN, EASE"
    )
    parser.add_argument(
        "--against",
        type=Path,
        action="append",
        default=[],
        metavar="BUNDLE",
        help="another bundle, measured on the same users and items and compared user by user "
        "(repeatable)",
    )
    parser.add_argument(
        "--by-column",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column of the item table, such as genres: its shares of the lists, and calibration "
        "(repeatable)",
    )
    parser.add_argument(
        "--seeds",
        type=whole_number(1),
        metavar="N",
        help="train the bundle's own settings anew with N other seeds, and measure each bundle",
    )
    parser.add_argument(
        "--seeds-out", type=Path, metavar="FOLDER", help="keep these bundles and their runs here"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write a page: FILE.html has the plots inside, FILE.md a plot beside it (.png)",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.add_argument(
        "--explain",
        type=whole_number(1),
        nargs="?",
        const=200,
        metavar="N",
        help="measure instead whether the reasons of `recommend --explain` hold, beside simpler "
        "ones, for N users with a history (default: 200)",
    )
    add_off_policy_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate the bundle through `Engine.recommend`, the path its users take."""
    if (args.data is None) == (args.off_policy is None):
        raise DataError(
            f"--data, --off-policy: got {'neither' if args.data is None else 'both'}, expected one "
            "of them: events to rank, or a feedback log to estimate from"
        )
    if args.off_policy is not None:
        _check_no_ranking(args, "--off-policy")
        return run_off_policy(args)
    check_output(args.report, "--report")
    for bundle in (args.bundle, *args.against):
        check_bundle(bundle)
    pages = require_extra("shortlist.training.evaluation.report", "train")
    if args.report:
        pages.check_report_path(args.report)
    _check_data(args)
    if args.explain is not None:
        _check_no_ranking(args, "--explain")
        return _explain(args)
    evaluation = require_extra("shortlist.training.pipeline.evaluation", "train")
    with reading_said("evaluate"):
        report = evaluation.evaluate(
            args.bundle,
            args.data,
            format=args.format,
            items=args.items,
            users=args.users,
            reading=reading_options(args),
            protocol=args.protocol,
            on=args.on,
            ks=tuple(args.k),
            include_seen=args.include_seen,
            baselines=not args.no_baselines,
            against=args.against,
            by_column=args.by_column,
            seeds=args.seeds,
            seeds_out=args.seeds_out,
            progress=not args.json,
        )
    for warning in report.warnings:
        show(f"shortlist evaluate: warning: {warning}", file=sys.stderr)
    if args.report:
        pages.write_report(report, args.report)
    if args.json:
        print_json(report.to_dict())
    else:
        show(pages.evaluation_markdown(report) if args.markdown else pages.evaluation_text(report))
    return 0


def _check_no_ranking(args: argparse.Namespace, beside: str) -> None:
    """Refuse flags that say something of ranked events, beside one for something else."""
    for flag in ("against", "by_column", "seeds", "seeds_out", "report"):
        if getattr(args, flag):
            name = f"--{flag.replace('_', '-')}"
            raise DataError(
                f"{name}: got it beside {beside}, expected it with --data alone; leave one "
                "of them out"
            )


def _explain(args: argparse.Namespace) -> int:
    """Measure the reasons and print."""
    pipeline = require_extra("shortlist.training.pipeline.reasons", "train")
    with reading_said("evaluate"):
        fidelity = pipeline.evaluate_reasons(
            args.bundle,
            args.data,
            items=args.items,
            users=args.users,
            format=args.format,
            reading=reading_options(args),
            protocol=args.protocol,
            on=args.on,
            n_users=args.explain,
            progress=not args.json,
        )
    if args.json:
        print_json(fidelity.to_dict())
    else:
        metrics = require_extra("shortlist.training.evaluation.fidelity", "train")
        show(metrics.fidelity_text(fidelity))
    return 0


def _check_data(args: argparse.Namespace) -> None:
    """Refuse data that is not there, before TensorFlow is imported."""
    settings = require_extra("shortlist.training.config.settings", "train")
    overrides = {f"data.{name}": str(value) for name, value in _paths(args).items()}
    config = settings.load_config(overrides=overrides)
    require_extra("shortlist.training.pipeline.train", "train").check_data(config)


def _paths(args: argparse.Namespace) -> dict[str, object]:
    paths = {"path": args.data, "items": args.items, "users": args.users}
    return {name: path for name, path in paths.items() if path is not None}
