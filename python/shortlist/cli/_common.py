"""What several subcommands share: parsers with an example, JSON output, the optional extras."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from shortlist._quiet import quiet_start
from shortlist.cli._output import show
from shortlist.cli._reading import add_reading_arguments, reading_options
from shortlist.errors import DataError, ShortlistError

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def new_parser(
    subparsers: SubParsers, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a subcommand whose `--help` ends with an example."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_global_arguments(parser, default=argparse.SUPPRESS)  # or it would undo what came before
    return parser


def add_global_arguments(parser: argparse.ArgumentParser, *, default: object = False) -> None:
    """Add the flags that stand before or behind the command's name."""
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=default,
        help="show the full traceback of an error",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=default,
        help="show what TensorFlow prints when it starts",
    )


_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0, "": 1.0}  # in minutes
# Of the training companion, which serving does not import. First those for any data, and when.
BUDGETS = {
    "fast": "tries models for 5 minutes, for a first look",
    "balanced": "for up to 30 minutes (the default)",
    "best": "for up to 2 hours, for what ships",
}
PRESETS = (
    "beauty",
    "cooccurrence",
    "ease",
    "general",
    "ials",
    "item-knn",
    "movielens-100k",
    "movielens-1m",
    "movielens-1m-temporal",
    "pool",
    "popularity",
    "repeats",
)


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add `--data`, `--format`, `--items`, `--users`, and how these tables are read."""
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
    kinds = "CSV, JSON lines, Parquet or Arrow"
    parser.add_argument("--items", type=Path, help=f"item table ({kinds})")
    parser.add_argument("--users", type=Path, help=f"user table ({kinds})")
    add_reading_arguments(parser)


def add_set_argument(parser: argparse.ArgumentParser, example: str) -> None:
    """Add `--set`, which `parse_overrides` reads."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help=f"override one setting, e.g. --set {example} (repeatable)",
    )


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--preset` and `--set`: where settings come from."""
    parser.add_argument("--config", type=Path, help="TOML file with the settings")
    budgets = "; ".join(f"{name}: {when}" for name, when in BUDGETS.items())
    parser.add_argument("--preset", help=f"{budgets}. Others: {', '.join(PRESETS)}")
    add_set_argument(parser, "train.epochs=5")


def data_overrides(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings of ``[data]`` that the flags of `add_data_arguments` replace."""
    overrides: dict[str, object] = {}
    if args.data is not None:
        overrides["data.path"] = str(args.data)
        overrides["data.format"] = args.format
    for name in ("items", "users"):
        if getattr(args, name) is not None:
            overrides[f"data.{name}"] = str(getattr(args, name))
    return overrides | {f"data.{name}": value for name, value in reading_options(args).items()}


def whole_number(least: int) -> Callable[[str], int]:
    """Return an argparse type: a whole number not below `least`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number >= {least}")
        return number

    return parse


def minutes(text: str) -> float:
    """Read a time such as 90s, 30m or 2h as minutes."""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _MINUTES else (text, "")
    try:
        number_of = float(number) * _MINUTES[unit]
    except (KeyError, ValueError):
        number_of = -1.0
    if not 0.0 < number_of <= 1e6:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a time such as 90s, 30m or 2h")
    return number_of


def check_log(log: str, flag: str) -> None:
    """Refuse a feedback log that is not there, before anything is loaded; a URL is not tried."""
    if "://" not in log and not Path(log).is_file():
        raise DataError(f"{flag}: got {log}, which is no file, expected a feedback log")


def check_bundle(path: Path) -> None:
    """Refuse a bundle that is not there, before anything is loaded."""
    if not path.exists():
        raise DataError(f"bundle: no such file or folder: {path}. Fix: check the path")


def check_output(path: Path | None, flag: str) -> None:
    """Refuse a file that cannot be written, before the work that it is for."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir():
        reason = "which is a folder"
    elif not folder.is_dir():
        reason = f"but there is no folder {folder}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"but {folder} is read-only"
    else:
        return
    raise DataError(f"{flag}: got {path}, {reason}; expected the name of a file to write")


def parse_overrides(texts: Sequence[str]) -> dict[str, object]:
    """Read the values of `--set SECTION.KEY=VALUE`."""
    overrides: dict[str, object] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or "." not in key:
            raise DataError(f"--set: got {text!r}, expected SECTION.KEY=VALUE, e.g. train.epochs=5")
        overrides[key.strip()] = value.strip()
    return overrides


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional extra, or say which extra to install."""
    try:
        with quiet_start():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("shortlist"):
            raise
        raise ShortlistError(
            f"this command needs the package {error.name!r}, which is not installed; "
            f"install it with: pip install 'shortlist[{extra}]'"
        ) from error


class _ShownLines(logging.Handler):
    """Prints records to stderr as commands print, each once: names of columns are another's."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, unless an earlier training of the same command said so."""
        line = record.getMessage()
        if line not in self._shown:
            self._shown.add(line)
            show(self._prefix + line, file=sys.stderr)


@contextmanager
def reading_said(command: str) -> Iterator[None]:
    """Print what is said about reading tables to stderr: rows, columns, what was left out.

    Warnings of ours become lines too, without the place in our own code that they came from.
    """
    said = _ShownLines(f"shortlist {command}: ")
    logger = logging.getLogger("shortlist.reading")
    level, handlers, shows = logger.level, logger.handlers, warnings.showwarning

    def say(message: Any, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if category is UserWarning:
            show(f"shortlist {command}: warning: {message}", file=sys.stderr)
        else:
            shows(message, category, filename, *rest, **more)

    logger.setLevel(logging.INFO)
    logger.handlers = [said]
    warnings.showwarning = say
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers, warnings.showwarning = handlers, shows
