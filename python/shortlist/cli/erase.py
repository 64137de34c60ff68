"""`shortlist erase`: forget a user, in feedback logs and in the training data of run folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist.cli._common import new_parser, require_extra
from shortlist.cli._output import print_json, show
from shortlist.errors import DataError
from shortlist.versions import versions_folder

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "erase",
        "Erase a user from feedback logs and from the training data that run folders keep.",
        "shortlist erase 196 --feedback feedback.log --run movies.run\n"
        "  shortlist export movies.run --out movies-2.shortlist",
    )
    parser.add_argument("user", metavar="USER_ID", help="the user's id")
    parser.add_argument(
        "--feedback", nargs="+", default=[], metavar="LOG", help="feedback logs: files or URLs"
    )
    parser.add_argument(
        "--run",
        nargs="+",
        default=[],
        type=Path,
        dest="runs",
        metavar="RUN",
        help="run folders, and with each those of its updates; export them again to get bundles "
        "without the user",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Erase, one after the other; what cannot be erased stops it."""
    if not (args.feedback or args.runs):
        raise DataError("--feedback, --run: got neither, expected where to erase the user")
    erased = {source: _from_log(source, args.user) for source in args.feedback}
    if args.runs:
        erase = require_extra("shortlist.training.updates.erase", "train")
        for folder in _with_updates(args.runs):
            erased[str(folder)] = erase.erase_user(folder, erase.id_for(folder, args.user))
    if args.json:
        print_json({"erased": erased})
        return 0
    for source, n in erased.items():
        show(f"{source}: {n} rows erased")
    if args.runs:
        show("bundles still hold the user's history: write them anew with `shortlist export`")
    return 0


def _with_updates(runs: list[Path]) -> list[Path]:
    """Add to run folders those of updates that went on from them, or that they went on from."""
    folders: dict[Path, Path] = {}
    for run in runs:
        folders.setdefault(run.resolve(), run)
        updates = versions_folder(run)
        first = updates.with_suffix(".run")
        others = sorted(updates.glob("*.run"))
        if run.resolve().parent == updates and first.is_dir():
            others.append(first)
        for other in others:
            folders.setdefault(other.resolve(), other)
    return list(folders.values())


def _from_log(source: str, user: str) -> int:
    import shortlist

    if "://" not in source and not Path(source).is_file():
        raise DataError(f"--feedback: got {source}, which is no file")
    with shortlist.FeedbackLog(source) as log:
        user_id: Any = user
        if log.id_types.get("user_id") == "int64":
            try:
                user_id = int(user)
            except ValueError as error:
                message = f"USER_ID: got {user!r}, expected an integer, as in {source}"
                raise DataError(message) from error
        return log.erase_user(user_id)
