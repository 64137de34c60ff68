"""What lists look like: the flags of every command that recommends, in one place."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from shortlist._columns.calibration import STRENGTH
from shortlist.cli._common import whole_number
from shortlist.errors import DataError

_ID_FLAGS = ("--user", "--history", "--like", "--exclude")


def add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many items come back, and which."""
    parser.add_argument(
        "--top-n", type=whole_number(1), default=10, help="items a request (default: 10)"
    )
    parser.add_argument(
        "--stages", type=int, choices=[1, 2], help="default: 2 if the bundle has a second stage"
    )
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help="only items whose columns satisfy it: \"year >= 1990 and genre = 'Drama'\"; also or, "
        "not, in (…), is null, parentheses",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        action="extend",
        metavar="ITEM_ID",
        help="items that stay out",
    )
    parser.add_argument(
        "--at-most",
        type=_count("COLUMN=N, such as brand=2"),
        action="append",
        metavar="COLUMN=N",
        help="so many items with the same value of a column; may be repeated",
    )
    parser.add_argument(
        "--at-least",
        type=_count("CONDITION=N, such as is_new=2 or 'year >= 1990'=3"),
        action="append",
        metavar="CONDITION=N",
        help="so many items for which a column, or a condition as of --where, is true; what a list "
        "lacks is said; may be repeated",
    )
    parser.add_argument(
        "--diversity",
        type=float,
        metavar="WEIGHT",
        help="from 0 to 1: how much being unlike the items above counts",
    )
    parser.add_argument(
        "--calibrate",
        type=_calibrated,
        metavar="COLUMN[=STRENGTH]",
        help="come near to what the history has of a column's values, such as genres or genres=0.8",
    )
    parser.add_argument(
        "--popularity-dampening",
        type=float,
        metavar="WEIGHT",
        help="what is taken off scores times ln(1 + number of events)",
    )
    parser.add_argument("--include-seen", action="store_true", help="seen items may come back")


def list_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags say that every question takes, but for `exclude`: it needs a bundle."""
    return {
        "top_n": args.top_n,
        "exclude_seen": not args.include_seen,
        "where": args.where,
        "stages": args.stages,
    }


def variety_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags say a list has to look like as a whole."""
    return {
        "at_most": _counts(args.at_most, "--at-most"),
        "at_least": _counts(args.at_least, "--at-least"),
        "diversity": args.diversity,
        "calibrate": args.calibrate,
        "popularity_dampening": args.popularity_dampening,
    }


def parse_ids(texts: Sequence[str], id_dtype: str, flag: str) -> list[Any]:
    """Return ids of the command line as those of a bundle, "int64" or "string"."""
    if id_dtype == "string":
        return list(texts)
    try:
        return [int(text) for text in texts]
    except ValueError as error:
        raise DataError(f"{flag}: got {texts}, expected integer ids, as in this bundle") from error


def _count(expected: str) -> Any:
    def read(text: str) -> tuple[str, int]:
        name, _, number = text.rpartition("=")
        if not name or not number.strip().isdecimal():
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
        return name.strip(), int(number)

    return read


def _calibrated(text: str) -> dict[str, tuple[str, float]]:
    name, _, strength = text.partition("=")
    try:
        return {name.strip(): ("history", float(strength) if strength else STRENGTH)}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected COLUMN, or COLUMN=STRENGTH such as genres=0.8"
        ) from None


def _counts(pairs: list[tuple[str, int]] | None, flag: str) -> dict[str, int] | None:
    """Return numbers by name, each of which may be there once."""
    if pairs is None:
        return None
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{flag}: got {twice[0]!r} twice, expected each once")
    return dict(pairs)


def with_dashes(argv: Sequence[str]) -> list[str]:
    """Mark every id as the value of its flag, so that ids may begin with a dash.

    What follows a flag of ids up to the next ``--flag`` is ids.

    Examples
    --------
    >>> with_dashes(["--history", "-5", "a", "--json"])
    ['--history=-5', '--history=a', '--json']
    """
    marked: list[str] = []
    flag = None
    for word in argv:
        if word.startswith("--") or word == "-h":
            flag = word if word in _ID_FLAGS else None
            marked.append(word)
        elif flag is None:
            marked.append(word)
        else:
            if marked[-1] == flag:  # its first id
                marked.pop()
            marked.append(f"{flag}={word}")
    return marked
