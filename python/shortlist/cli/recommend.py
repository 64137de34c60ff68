"""`shortlist recommend`: answers of a bundle, for people or for machines."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist._columns.files import decode, read_text
from shortlist._temporary import replacing
from shortlist.cli._common import check_output, new_parser, whole_number
from shortlist.cli._lists import (
    add_list_arguments,
    list_options,
    parse_ids,
    variety_options,
)
from shortlist.cli._output import print_json, show
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist import Engine, Explanations, Recommendations
    from shortlist.cli._common import SubParsers

_FORMATS = (".parquet", ".arrow", ".csv", ".jsonl")


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "recommend",
        "Recommend items for users, histories, or a file of requests.",
        "shortlist recommend movies.shortlist --user 196 --top-n 5\n"
        "  shortlist recommend movies.shortlist --history 50 172 181 --where 'year >= 1990'\n"
        "  shortlist recommend movies.shortlist --user 196 --at-most genre=2 --diversity 0.3\n"
        "  shortlist recommend movies.shortlist --user 196 --explain\n"
        "  shortlist recommend movies.shortlist --like 50 --by mix\n"
        "  shortlist recommend movies.shortlist --requests requests.jsonl --out recs.parquet",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    _add_requests(parser)
    parser.add_argument(
        "--explain",
        type=whole_number(1),
        nargs="?",
        const=3,
        metavar="N",
        help="say why: up to N reasons for each item (default: 3), each with what would happen "
        "without it",
    )
    parser.add_argument(
        "--explain-by",
        metavar="COLUMN",
        help="with --explain: items of one value in this column, such as a series, are one reason",
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])
    parser.add_argument(
        "--threads", type=whole_number(0), default=1, help="threads (default: 1; 0 = all)"
    )
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print one JSON list of answers")
    printed.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the answers to FILE instead: .parquet, .arrow or .csv, one row an item, with "
        "--explain one row a reason; or .jsonl, one line a request",
    )
    parser.set_defaults(run=run)


def _add_requests(parser: argparse.ArgumentParser) -> None:
    """Add what is asked, and which items may come back."""
    source = parser.add_mutually_exclusive_group(required=True)
    ids: Any = {"nargs": "+", "action": "extend"}
    source.add_argument("--user", **ids, metavar="USER_ID", help="known users")
    source.add_argument("--history", **ids, metavar="ITEM_ID", help="item ids, oldest first")
    source.add_argument(
        "--like", **ids, metavar="ITEM_ID", help="items: recommend what is like each of them"
    )
    source.add_argument(
        "--requests",
        metavar="FILE",
        help='JSON lines, one request each: {"user_id": …, "history": […]}; "-" reads stdin',
    )
    parser.add_argument(
        "--by",
        choices=["vectors", "followers", "mix"],
        help="with --like: by item vectors, by what came next in histories, or by both "
        "(default: vectors)",
    )
    add_list_arguments(parser)
    parser.add_argument(
        "--unknown",
        choices=["ignore", "error"],
        default="ignore",
        help="what becomes of ids that the bundle does not know (default: ignore, and say so)",
    )


def _read_requests(path: str) -> list[dict[str, object]]:
    requests = []
    # JSON may hold U+2028 and other line ends of str.splitlines inside a string.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:  # also an integer of thousands of digits
            raise DataError(
                f"--requests {path}, line {number}: got {line[:60]!r}, expected one JSON object "
                f"a line ({_why(error)})"
            ) from error
        if not isinstance(request, dict):
            raise DataError(
                f"--requests {path}, line {number}: got {type(request).__name__}, expected an "
                'object such as {"history": [50, 172]}'
            )
        requests.append(request)
    return requests


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "msg", "a number with too many digits"))


def _read_text(path: str) -> str:
    try:
        if path != "-":
            return read_text(path)
        source = getattr(sys.stdin, "buffer", None)  # whatever the terminal's encoding is
        return sys.stdin.read() if source is None else decode(source.read(), "standard input")
    except DataError as error:
        raise DataError(f"--requests {path}: {error}; expected a file of JSON lines") from error


def _of_flags(args: argparse.Namespace, engine: Engine) -> Any:
    if args.user is not None:
        return {"user_id": parse_ids(args.user, engine.user_id_dtype, "--user")}
    return {"history": [parse_ids(args.history, engine.item_id_dtype, "--history")]}


def _say_unknown(answer: Recommendations) -> None:
    """Say on stderr how many ids were known, if not all were."""
    n_given, n_known = int(answer.n_given.sum()), int(answer.n_known.sum())
    if n_known == n_given:
        return
    said = f"{n_known:,} of {n_given:,} ids are known to this bundle"
    n_popular = int(((answer.source == "popular") & (answer.n_given > 0)).sum())
    if n_popular:
        said += f"; {n_popular:,} of {len(answer):,} answers are the most popular items"
    show(f"shortlist recommend: {said}", file=sys.stderr)


def _check_out(path: Path | None) -> None:
    check_output(path, "--out")
    if path is not None and path.suffix not in _FORMATS:
        raise DataError(f"--out: got {path}, expected a name that ends in {', '.join(_FORMATS)}")


def _write(answer: Recommendations | Explanations, path: Path) -> None:
    """Write answers into a file, whole or not at all."""
    with replacing(path) as file:
        if path.suffix == ".jsonl":
            for one in answer.to_dicts():
                file.write(json.dumps(one, ensure_ascii=False).encode() + b"\n")
            return
        table = answer.to_arrow()
        if path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, file)
        elif path.suffix == ".csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(table, file)
        else:
            import pyarrow

            with pyarrow.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)


def _like(args: argparse.Namespace, engine: Engine, exclude: Any) -> Recommendations:
    """Find items like those of --like."""
    if args.explain is not None or args.stages is not None:
        raise DataError("--like: got --explain or --stages beside it, expected --like without them")
    items = parse_ids(args.like, engine.item_id_dtype, "--like")
    return engine.similar(items, args.top_n, args.where, exclude, by=args.by or "vectors")


def _tell(
    said: Recommendations | Explanations, answer: Recommendations, args: argparse.Namespace
) -> int:
    """Print or write what was found."""
    _say_unknown(answer)
    if args.out is not None:
        _write(said, args.out)
        n = len(answer)
        show(f"{args.out}: {n:,} answer{'s' * (n != 1)}, {answer.counts.sum():,} items")
    elif args.json:
        print_json(said.to_dicts())
    else:
        show(said.to_text())
    return 0


def run(args: argparse.Namespace) -> int:
    """Load the bundle, answer, print."""
    import shortlist

    _check_out(args.out)
    if args.explain_by is not None and args.explain is None:
        raise DataError("--explain-by: got it without --explain, expected both")
    if args.by is not None and args.like is None:
        raise DataError("--by: got it without --like, expected both")
    if (args.explain or args.like) and any(variety_options(args).values()):
        raise DataError(
            "--at-most, --at-least, --diversity, --calibrate, --popularity-dampening: got one "
            "beside --explain or --like, expected it without them"
        )
    read = None if args.requests is None else _read_requests(args.requests)  # before the bundle
    with shortlist.load(args.bundle, device=args.device, n_threads=args.threads) as engine:
        exclude = args.exclude and parse_ids(args.exclude, engine.item_id_dtype, "--exclude")
        options: Any = {**list_options(args), "exclude": exclude, "unknown": args.unknown}
        if args.like is not None:
            answer = _like(args, engine, exclude)
            return _tell(answer, answer, args)
        requests = _of_flags(args, engine) if read is None else read
        said: Recommendations | Explanations
        if args.explain is None:
            said = answer = engine.recommend(requests, **options, **variety_options(args))
        else:
            reasons = {"n_reasons": args.explain, "explain_by": args.explain_by}
            said = engine.explain(requests, **options, **reasons)
            answer = said.answer
        return _tell(said, answer, args)
