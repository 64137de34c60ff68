"""What several subcommands share: parsers with an example, JSON output, the optional extras."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from shortlist.errors import ShortlistError

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def new_parser(
    subparsers: SubParsers, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a subcommand whose `--help` ends with an example."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add `--data`, `--format`, `--items`, `--users`: where events come from."""
    parser.add_argument(
        "--data",
        required=required,
        metavar="DATA",
        help="movielens-100k, movielens-1m, or a file or folder of your own events",
    )
    parser.add_argument(
        "--format",
        default="auto",
        choices=["auto", "events", "movielens", "recbole", "sasrec", "s3rec", "lightgcn"],
        help="how DATA is laid out (default: %(default)s)",
    )
    parser.add_argument("--items", type=Path, help="item table (CSV, Parquet or Arrow)")
    parser.add_argument("--users", type=Path, help="user table (CSV, Parquet or Arrow)")


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional extra, or say which extra to install."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not news
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("shortlist"):
            raise
        raise ShortlistError(
            f"this command needs the package {error.name!r}, which is not installed; "
            f"install it with: pip install 'shortlist[{extra}]'"
        ) from error


def print_json(value: Any) -> None:
    """Print one JSON document; NaN and infinity are refused, as JSON has neither."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
