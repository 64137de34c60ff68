"""The `shortlist` command: one module per subcommand, each with `add_parser` and `run`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence

from shortlist import __version__, build_info
from shortlist._quiet import INTERRUPTED, INTERRUPTED_STATUS, LOG_LEVEL, raise_at_interrupt
from shortlist.cli import (
    audit,
    bench,
    clean,
    completion,
    compress,
    demo,
    doctor,
    erase,
    evaluate,
    export,
    federate,
    history,
    inspect,
    recommend,
    replay,
    rollback,
    score,
    train,
    tune,
    update,
)
from shortlist.cli._common import add_global_arguments
from shortlist.cli._lists import with_dashes
from shortlist.cli._output import escaping, show
from shortlist.errors import ShortlistError

__all__ = ["main"]

_COMMANDS = (
    demo,
    clean,
    train,
    tune,
    export,
    compress,
    recommend,
    score,
    evaluate,
    erase,
    bench,
    inspect,
    audit,
    update,
    history,
    rollback,
    replay,
    federate,
    doctor,
    completion,
)


class _Version(argparse.Action):
    """Prints the short form of `shortlist doctor`."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and stop."""
        build = build_info()
        runtime = build["onnxruntime"].split(",")[0].split(":")[0]
        show(
            f"shortlist {__version__} (Python {platform.python_version()}, {build['simd_level']}, "
            f"onnxruntime {runtime})"
        )
        parser.exit()


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shortlist",
        description="Train a recommender, ship it as one bundle, get exact top-N from it.",
        epilog="`shortlist COMMAND --help` shows an example of each command.",
    )
    parser.add_argument(
        "--version", action=_Version, help="say what this installation is in one line, and stop"
    )
    add_global_arguments(parser)
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
        new version, 4 where drift did; `compress` returns 3 where a step loses too much.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    if command in ("recommend", "score"):
        words = with_dashes(words)
    with escaping():
        return _run(_build_parser().parse_args(words))


def _run(args: argparse.Namespace) -> int:
    if args.verbose:
        os.environ[LOG_LEVEL] = "0"
    try:
        raise_at_interrupt()
        code = int(args.run(args))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        show(INTERRUPTED, file=sys.stderr)
        return INTERRUPTED_STATUS
    except BrokenPipeError:  # `shortlist … | head` closed our output: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ShortlistError, ValueError, TypeError, OSError, MemoryError) as error:
        if args.traceback:
            raise
        text = f"not enough memory: {error}" if isinstance(error, MemoryError) else str(error)
        show(f"shortlist {args.command}: error: {text}", file=sys.stderr)
        return 1
