"""The `shortlist` command: one module per subcommand, each with `add_parser` and `run`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from shortlist import __version__
from shortlist.cli import (
    bench,
    clean,
    erase,
    evaluate,
    export,
    history,
    inspect,
    recommend,
    replay,
    rollback,
    train,
    tune,
    update,
)
from shortlist.cli._output import escaping, show
from shortlist.errors import ShortlistError

__all__ = ["main"]

_COMMANDS = (
    clean,
    train,
    tune,
    export,
    recommend,
    evaluate,
    erase,
    bench,
    inspect,
    update,
    history,
    rollback,
    replay,
)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shortlist",
        description="Train a recommender, ship it as one bundle, get exact top-N from it.",
        epilog="`shortlist COMMAND --help` shows an example of each command.",
    )
    parser.add_argument("--version", action="version", version=f"shortlist {__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show the full traceback of an error"
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; the process's own when None.

    Returns
    -------
    int
        0 on success, 1 when the work failed (the reason is on stderr), 130 when interrupted.
        Wrong usage exits with 2, as argparse does. `update` returns 3 where the gate refused the
        new version, 4 where drift did.
    """
    with escaping():
        return _run(_build_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    try:
        code = int(args.run(args))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        show("shortlist: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `shortlist … | head` closed our output: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ShortlistError, ValueError, TypeError, OSError, MemoryError) as error:
        if args.traceback:
            raise
        text = f"not enough memory: {error}" if isinstance(error, MemoryError) else str(error)
        show(f"shortlist {args.command}: error: {text}", file=sys.stderr)
        return 1
