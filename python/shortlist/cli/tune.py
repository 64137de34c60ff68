"""`shortlist tune`: events and a search space in, the best settings out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import (
    add_data_arguments,
    add_settings_arguments,
    data_overrides,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
    whole_number,
)
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "tune",
        "Search settings with Optuna on validation NDCG@10; a killed search goes on.",
        "shortlist tune --data events.parquet --preset balanced --space space.toml --study tuned\n"
        "  (space.toml: [train] learning_rate = {low = 1e-4, high = 1e-2, log = true}\n"
        "               [model] dropout = [0.1, 0.2, 0.4])",
    )
    add_data_arguments(parser, required=False)
    add_settings_arguments(parser)
    parser.add_argument("--space", type=Path, required=True, help="TOML file of what to search")
    parser.add_argument(
        "--study",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where trials, trials.md, trials.png and best.toml go",
    )
    parser.add_argument(
        "--trials", type=whole_number(1), default=20, help="trials in all (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the search")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search, and print the best settings."""
    require_extra("optuna", "tune")
    tuning = require_extra("shortlist.training.pipeline.tune", "train")
    with reading_said("tune"):
        report = tuning.tune_files(
            preset=args.preset,
            config_path=args.config,
            overrides=parse_overrides(args.set) | data_overrides(args),
            space_path=args.space,
            folder=args.study,
            n_trials=args.trials,
            seed=args.seed,
            progress=not args.quiet,
        )
    if args.json:
        print_json(report.to_dict())
    else:
        for key, value in report.best.items():
            show(f"{key} = {value}")
        show(f"NDCG@10 {report.ndcg_at_10:.4f} of {report.n_trials} trials")
        show(f"settings: {report.folder}/best.toml")
    return 0
