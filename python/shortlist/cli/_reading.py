"""How tables are read: the flags of every command that reads some, in one place."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from shortlist.errors import DataError

_RENAMED = {  # flag: where it is kept, whose columns it names, an example
    "--column": ("columns", "an event column's", "user_id=customer"),
    "--item-column": ("item_columns", "an item column's", "item_id=sku"),
    "--user-column": ("user_columns", "a user column's", "user_id=customer"),
}


def add_reading_arguments(parser: argparse.ArgumentParser, *, events: bool = True) -> None:
    """Add the flags that say how tables are read; those of events only where these are a table."""
    for flag, (name, whose, example) in _RENAMED.items():
        if events or flag != "--column":
            parser.add_argument(
                flag,
                dest=name,
                action="append",
                default=[],
                metavar="OURS=THEIRS",
                help=f"{whose} name in the table, e.g. {flag} {example} (repeatable)",
            )
    parser.add_argument(
        "--list",
        dest="lists",
        action="append",
        default=[],
        metavar="COLUMN=SEPARATOR",
        help="an item or user column of several values, e.g. --list 'genres=|' (repeatable)",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="TABLE.COLUMN",
        help="a column that is not read, e.g. --ignore item.size (item, user, event; repeatable)",
    )
    if not events:
        return
    parser.add_argument(
        "--time-unit",
        default="auto",
        choices=["auto", "s", "ms", "us", "ns"],
        help="unit of numeric times (default: by their size)",
    )
    parser.add_argument(
        "--time-format",
        default="",
        metavar="FORMAT",
        help="how times are written, as for strptime, e.g. --time-format '%%d.%%m.%%y %%H:%%M'",
    )
    parser.add_argument("--allow-future", action="store_true", help="accept events of the future")


def reading_options(args: argparse.Namespace) -> dict[str, object]:
    """Return what the flags of `add_reading_arguments` say, by setting; only what was given.

    Each column is a setting of its own, ``columns.user_id`` or ``ignore.item.size``: it goes with
    those that are named elsewhere, and does not replace them.
    """
    options: dict[str, object] = {}
    for flag, (name, _, example) in _RENAMED.items():
        pairs = _pairs(flag, getattr(args, name, []), f"OURS=THEIRS, e.g. {flag} {example}")
        options |= {f"{name}.{ours}": theirs for ours, theirs in pairs.items()}
    lists = _pairs("--list", args.lists, "COLUMN=SEPARATOR")
    options |= {f"lists.{column}": separator for column, separator in lists.items()}
    options |= {f"ignore.{column}": True for column in args.ignore}
    if getattr(args, "time_unit", "auto") != "auto":
        options["time_unit"] = args.time_unit
    if getattr(args, "time_format", ""):
        options["time_format"] = args.time_format
    if getattr(args, "allow_future", False):
        options["allow_future"] = True
    return options


def reading_flags(args: argparse.Namespace) -> list[str]:
    """Return the flags of `add_reading_arguments` that were given, for another command."""
    named = {flag: getattr(args, name, []) for flag, (name, _, _) in _RENAMED.items()}
    named |= {"--list": args.lists, "--ignore": args.ignore}
    flags = [word for flag, texts in named.items() for text in texts for word in (flag, text)]
    if getattr(args, "time_unit", "auto") != "auto":
        flags += ["--time-unit", args.time_unit]
    if getattr(args, "time_format", ""):
        flags += ["--time-format", args.time_format]
    return flags + (["--allow-future"] if getattr(args, "allow_future", False) else [])


def _pairs(flag: str, texts: Sequence[str], form: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        ours, separator, theirs = text.partition("=")
        if not (ours and separator and theirs):
            raise DataError(f"{flag}: got {text!r}, expected {form}")
        pairs[ours] = theirs
    return pairs
