"""How tables are read: the flags of every command that reads some, in one place."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

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


def data_flags(data: Any) -> list[str]:
    """Return the flags by which another command reads what ``[data]`` of the settings says."""
    flags = [] if data.path == "" else ["--data", data.path]
    flags += [] if data.format == "auto" else ["--format", data.format]
    for name in ("items", "users"):
        flags += [f"--{name}", getattr(data, name)] if getattr(data, name) else []
    named = {flag: getattr(data, name) for flag, (name, _, _) in _RENAMED.items()}
    for flag, pairs in (named | {"--list": data.lists}).items():
        flags += [word for ours, theirs in pairs.items() for word in (flag, f"{ours}={theirs}")]
    flags += [word for name in data.ignore for word in ("--ignore", name)]
    flags += [] if data.time_unit == "auto" else ["--time-unit", data.time_unit]
    flags += ["--time-format", data.time_format] if data.time_format else []
    return flags + (["--allow-future"] if data.allow_future else [])


def _pairs(flag: str, texts: Sequence[str], form: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        ours, separator, theirs = text.partition("=")
        if not (ours and separator and theirs):
            raise DataError(f"{flag}: got {text!r}, expected {form}")
        pairs[ours] = theirs
    return pairs
