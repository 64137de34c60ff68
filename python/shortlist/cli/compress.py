"""`shortlist compress`: a smaller bundle that ranks as well within a tolerance."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist.cli._common import (
    add_data_arguments,
    add_set_argument,
    check_bundle,
    check_output,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
    whole_number,
)
from shortlist.cli._output import print_json, show
from shortlist.cli._reading import reading_options

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers

REFUSED = 3  # exit status


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "compress",
        "Write a smaller form of a bundle, if its lists are as good within a tolerance.",
        "shortlist compress movies.shortlist --int8 --storage int8 --out small.shortlist\n"
        "  shortlist compress movies.shortlist --within 0.01 --out small.shortlist\n\n"
        f"exit status: 0 written, {REFUSED} refused, as a step loses too much, 1 an error, 2 wrong "
        "usage",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="bundle to write (NAME.shortlist)"
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="tables of the graphs, and products of the user encoder, in 8-bit numbers",
    )
    parser.add_argument(
        "--storage",
        metavar="MODE",
        help="storage of the item index, as export.storage names it: float16, int8, …",
    )
    parser.add_argument(
        "--dim",
        type=whole_number(1),
        metavar="N",
        help="keep the first N numbers of the embeddings, as train.matryoshka trains them",
    )
    parser.add_argument(
        "--prune",
        type=float,
        metavar="PART",
        help="do without so much of the user encoder's multiplications: hidden units, heads and "
        "blocks that are worth least go, and a short training follows; needs the run folder",
    )
    parser.add_argument(
        "--distil",
        metavar="PRESET",
        help="train a smaller model, taught by the bundle's: pool, gru, or a preset of one of "
        "them; needs the run folder",
    )
    add_set_argument(parser, "train.epochs=5")
    parser.add_argument("--no-users", action="store_true", help="leave out the stored users")
    parser.add_argument(
        "--no-portable", action="store_true", help="leave out recommend_portable.onnx"
    )
    parser.add_argument(
        "--no-followers",
        action="store_true",
        help="leave out followers.arrow, which `similar` by followers or mix needs",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.01,
        metavar="PART",
        help="part of NDCG@10 that may be lost (default: %(default)s)",
    )
    parser.add_argument(
        "--within",
        type=float,
        metavar="PART",
        help="search for the smallest bundle that loses at most this part of NDCG@10",
    )
    parser.add_argument(
        "--run", dest="run_dir", type=Path, help="run folder (default: the one beside the bundle)"
    )
    add_data_arguments(parser, required=False)
    parser.add_argument(
        "--report", type=Path, metavar="FILE.png", help="draw bytes against NDCG@10 and latency"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing before the end")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compress; the exit status says whether a bundle was written."""
    check_bundle(args.bundle)
    check_output(args.report, "--report")
    compression = require_extra("shortlist.training.pipeline.compress", "train")
    pages = require_extra("shortlist.training.evaluation.compression_report", "train")
    request = compression.CompressRequest(
        int8=args.int8,
        storage=args.storage,
        users=not args.no_users,
        portable=not args.no_portable,
        followers=not args.no_followers,
        dim=args.dim,
        prune=args.prune,
        distil=args.distil,
        overrides=parse_overrides(args.set),
        tolerance=args.tolerance,
        within=args.within,
    )

    def say(line: str) -> None:
        if not (args.quiet or args.json):
            show(f"shortlist compress: {line} …", file=sys.stderr)

    with reading_said("compress"):
        report = compression.compress_bundle(
            args.bundle,
            args.out,
            request,
            run_dir=args.run_dir,
            events=_events(compression, args),
            say=say,
        )
    if args.report:
        plots = require_extra("shortlist.training.evaluation.plots", "train")
        plots.plot_compression(report, args.report)
    if args.json:
        print_json(report.to_dict())
    else:
        show("\n".join(pages.compression_lines(report)))
    return REFUSED if report.is_refused else 0


def _events(compression: Any, args: argparse.Namespace) -> Any:
    """Return where events are to be held out from, if not from the run folder's."""
    if args.data is None:
        return None
    return compression.EventSource(
        path=args.data,
        format=args.format,
        items=args.items,
        users=args.users,
        reading=reading_options(args),
    )
