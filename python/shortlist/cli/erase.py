"""`shortlist erase`: forget a user, in feedback logs and in the training data of run folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist._temporary import sweep
from shortlist.bundle import Bundle
from shortlist.cli._common import check_log, new_parser, require_extra
from shortlist.cli._output import print_json, show
from shortlist.errors import BundleError, DataError
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
    parser.add_argument(
        "user",
        metavar="USER_ID",
        help="the user's id; one that begins with a dash goes last, behind --",
    )
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
        help="run folders, and with each those of its updates; the bundles beside them that still "
        "hold the user are named: export again and delete those",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Erase, one after the other; what cannot be erased stops it."""
    if not (args.feedback or args.runs):
        raise DataError("--feedback, --run: got neither, expected where to erase the user")
    erased = {source: _from_log(source, args.user) for source in args.feedback}
    bundles: list[str] = []
    if args.runs:
        erase = require_extra("shortlist.training.updates.erase", "train")
        folders = _with_updates(args.runs)
        for folder in folders:
            erased[str(folder)] = erase.erase_user(folder, erase.id_for(folder, args.user))
        bundles = [str(path) for path in _bundles_beside(folders) if _holds(path, args.user)]
    if args.json:
        print_json({"erased": erased, "bundles": bundles})
        return 0
    for source, n in erased.items():
        show(f"{source}: {n} rows erased")
    for path in bundles:
        show(f"{path}: still holds the user's history; export its run again, or delete it")
    return 0


def _bundles_beside(runs: list[Path]) -> list[Path]:
    """Return the bundles in the run folders' own folders and among the versions beside them.

    What killed processes left there under temporary names is removed.
    """
    folders: dict[Path, Path] = {}
    for run in runs:
        for folder in (run.absolute().parent, versions_folder(run)):
            folders.setdefault(folder.resolve(), folder)
    for folder in folders.values():
        sweep(folder)
    return [path for folder in folders.values() for path in sorted(folder.glob("*.shortlist"))]


def _holds(bundle: Path, user: str) -> bool:
    """Say whether a bundle stores a user; one that cannot be read may."""
    import pyarrow as pa

    try:
        with Bundle.open(bundle, verify=False) as opened:
            if not opened.has("users.arrow"):
                return False
            with pa.OSFile(str(opened.file("users.arrow")), "rb") as file:
                ids = pa.ipc.open_file(file).read_all().column("user_id")
            return user in map(str, ids.to_pylist())
    except (BundleError, pa.ArrowException, KeyError, OSError):
        return True


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

    check_log(source, "--feedback")
    with shortlist.FeedbackLog(source) as log:
        user_id: Any = user
        if log.id_types.get("user_id") == "int64":
            try:
                user_id = int(user)
            except ValueError as error:
                message = f"USER_ID: got {user!r}, expected an integer, as in {source}"
                raise DataError(message) from error
        return log.erase_user(user_id)
