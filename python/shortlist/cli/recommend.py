"""`shortlist recommend`: answers of a bundle, for people or for machines."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist._columns.files import decode, read_text
from shortlist.cli._common import new_parser, whole_number
from shortlist.cli._output import print_json, show
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "recommend",
        "Recommend items for users, histories, or a file of requests.",
        "shortlist recommend movies.shortlist --user 196 --top-n 5\n"
        "  shortlist recommend movies.shortlist --history 50 172 181\n"
        "  shortlist recommend movies.shortlist --requests requests.jsonl --json",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--user", nargs="+", metavar="USER_ID", help="known users")
    source.add_argument("--history", nargs="+", metavar="ITEM_ID", help="item ids, oldest first")
    source.add_argument(
        "--requests",
        metavar="FILE",
        help='JSON lines, one request each: {"user_id": …, "history": […]}; "-" reads stdin',
    )
    parser.add_argument(
        "--top-n", type=whole_number(1), default=10, help="items a request (default: 10)"
    )
    parser.add_argument("--include-seen", action="store_true", help="seen items may come back")
    parser.add_argument(
        "--stages", type=int, choices=[1, 2], help="default: 2 if the bundle has a second stage"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])
    parser.add_argument(
        "--threads", type=whole_number(0), default=1, help="threads (default: 1; 0 = all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list of answers")
    parser.set_defaults(run=run)


def _parse_ids(texts: list[str], id_dtype: str, flag: str) -> list[Any]:
    if id_dtype == "string":
        return list(texts)
    try:
        return [int(text) for text in texts]
    except ValueError as error:
        raise DataError(f"{flag}: got {texts}, expected integer ids, as in this bundle") from error


def _read_requests(path: str) -> list[dict[str, object]]:
    requests = []
    # JSON may hold U+2028 and other line ends of str.splitlines inside a string.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                f"--requests {path}, line {number}: got {line[:60]!r}, expected one JSON object "
                f"a line ({getattr(error, 'msg', 'nested too deeply')})"
            ) from error
        if not isinstance(request, dict):
            raise DataError(
                f"--requests {path}, line {number}: got {type(request).__name__}, expected an "
                'object such as {"history": [50, 172]}'
            )
        requests.append(request)
    return requests


def _read_text(path: str) -> str:
    try:
        if path != "-":
            return read_text(path)
        source = getattr(sys.stdin, "buffer", None)  # whatever the terminal's encoding is
        return sys.stdin.read() if source is None else decode(source.read(), "standard input")
    except DataError as error:
        raise DataError(f"--requests {path}: {error}; expected a file of JSON lines") from error


def run(args: argparse.Namespace) -> int:
    """Load the bundle, answer, print."""
    import shortlist

    with shortlist.load(args.bundle, device=args.device, n_threads=args.threads) as engine:
        requests: Any
        if args.user is not None:
            requests = {"user_id": _parse_ids(args.user, engine.user_id_dtype, "--user")}
        elif args.history is not None:
            history = _parse_ids(args.history, engine.item_id_dtype, "--history")
            requests = {"history": [history]}
        else:
            requests = _read_requests(args.requests)
        recommendations = engine.recommend(
            requests, top_n=args.top_n, exclude_seen=not args.include_seen, stages=args.stages
        )
        if args.json:
            print_json(recommendations.to_dicts())
        else:
            show(recommendations)
    return 0
