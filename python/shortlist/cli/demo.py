"""`shortlist demo`: the whole pipeline on MovieLens-100K, in minutes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import new_parser, require_extra
from shortlist.cli._output import show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "demo",
        "Train, export, evaluate and benchmark a bundle of MovieLens-100K (downloaded once).",
        "shortlist demo --out shortlist-demo\n"
        "  a ready bundle without training: shortlist.datasets.example_bundle() in Python",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("shortlist-demo"),
        metavar="FOLDER",
        help="where the bundle and the plots go (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        default="movielens-100k",
        metavar="FOLDER",
        help="a local copy of the data set, where nothing can be downloaded",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the training")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run all steps; an interrupted demo goes on when it is called again."""
    demo = require_extra("shortlist.training.pipeline.demo", "train")
    try:
        demo.run_demo(args.out, data=args.data, seed=args.seed)
    except KeyboardInterrupt:
        show("shortlist demo: interrupted; the same command goes on", file=sys.stderr)
        raise
    return 0
