"""`shortlist score`: lists for all requests of a table, into a folder of Parquet files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist.batch.remote import local_bundle
from shortlist.bundle import Bundle
from shortlist.cli._common import check_bundle, new_parser, whole_number
from shortlist.cli._lists import add_list_arguments, list_options, parse_ids, variety_options
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist import ScoreReport
    from shortlist.batch import Progress
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "score",
        "Recommend for all requests of a table, into a folder of Parquet files. Killed at any "
        "moment, the same command goes on.",
        "shortlist score movies.shortlist --all-users --out recs\n"
        "  shortlist score movies.shortlist --requests users.parquet --out recs --top-n 20\n"
        "  shortlist score movies.shortlist --requests 'in/day=*/*.parquet' --out recs "
        "--where 'year >= 1990'\n"
        "  shortlist score movies.shortlist --all-users --out recs --engine ray "
        "--address head:6379",
    )
    parser.add_argument(
        "bundle",
        help="bundle: a NAME.shortlist folder or zip, also of an object store (s3://…, gs://…), "
        "which each machine copies to its cache once",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--requests",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="files, folders or patterns: Parquet, Arrow, CSV or JSON lines with a column user_id, "
        "and history and user features where they are not stored",
    )
    source.add_argument("--all-users", action="store_true", help="the users that the bundle stores")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder: new, or of the same job"
    )
    add_list_arguments(parser)
    parser.add_argument(
        "--layout",
        choices=["long", "lists"],
        default="long",
        help="long: user_id, rank, item_id, score, source, one row an item (the default); lists: "
        "one row a request",
    )
    parser.add_argument("--titles", action="store_true", help="write the items' titles too")
    parser.add_argument(
        "--partitions",
        type=whole_number(1),
        metavar="N",
        help="about so many files, at least one for each of --requests (default: one for 65,536 "
        "requests)",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="processes (default: 0, one for each core)",
    )
    parser.add_argument(
        "--engine",
        choices=["pool", "ray", "spark"],
        default="pool",
        help="what runs the workers: processes of this machine (the default), Ray or Spark; the "
        "files are the same",
    )
    parser.add_argument(
        "--address",
        help="the cluster: host:6379 or ray://host:10001 of Ray, spark://host:7077 or yarn of "
        "Spark; its machines see requests, bundle and --out at the same paths (default: this "
        "machine)",
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="where encoders run; with --engine ray each worker has a GPU (default: cpu)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the results of another job in --out"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, and say what was done."""
    import shortlist

    if "://" not in args.bundle:
        check_bundle(Path(args.bundle))
    exclude: Any = None
    if args.exclude:
        with Bundle.hold(local_bundle(args.bundle)) as bundle:
            exclude = parse_ids(args.exclude, bundle.manifest.item_id_dtype, "--exclude")
    line = _ProgressLine()
    try:
        report = shortlist.score(
            args.bundle,
            args.requests,
            out=args.out,
            **list_options(args),
            **variety_options(args),
            exclude=exclude,
            layout=args.layout,
            titles=args.titles,
            partitions=args.partitions,
            workers=args.workers,
            engine=args.engine,
            address=args.address,
            device=args.device,
            overwrite=args.overwrite,
            progress=None if args.quiet else line.tell,
        )
    finally:
        line.end()
    if args.json:
        print_json(report.to_dict())
    else:
        show(_summary(report))
    return 0


class _ProgressLine:
    """One line on stderr that a terminal overwrites; a log gets one every 10 seconds."""

    def __init__(self) -> None:
        self._is_live = sys.stderr is not None and sys.stderr.isatty()
        self._said_at = 0.0
        self._is_open = False

    def tell(self, progress: Progress) -> None:
        """Say how far the job is."""
        if not self._is_live and progress.seconds - self._said_at < 10.0:
            return
        self._said_at = progress.seconds
        n_new = progress.n_done - progress.n_kept
        rate = n_new / max(progress.seconds, 1e-9)
        left = (progress.n_requests - progress.n_done) / max(rate, 1e-9)
        said = (
            f"score: {progress.n_done / progress.n_requests:4.0%}  {progress.n_done:,} of "
            f"{progress.n_requests:,} lists  {rate:,.0f} lists/s  {_clock(left)} left"
        )
        print(f"\r\x1b[K{said}" if self._is_live else said, end="", file=sys.stderr, flush=True)
        self._is_open = self._is_live
        if not self._is_live:
            print(file=sys.stderr)

    def end(self) -> None:
        """Leave the line."""
        if self._is_open:
            print(file=sys.stderr)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _summary(report: ScoreReport) -> str:
    lines = [
        f"{report.out}: {report.n_requests:,} lists, {report.n_rows:,} items, {report.n_parts:,} "
        f"file{'s' * (report.n_parts != 1)}, in {report.seconds:.1f} s"
    ]
    if report.n_kept:
        lines.append(f"  {report.n_kept:,} files were there already")
    sources = ", ".join(f"{n:,} {name}" for name, n in report.sources.items())
    lines.append(f"  made from: {sources}")
    if report.n_short:
        lines.append(f"  {report.n_short:,} lists are shorter than asked for")
    if report.n_unmet:
        lines.append(f"  {report.n_unmet:,} lists lack something of --at-least")
    if report.n_kept < report.n_parts:
        spent = ", ".join(f"{stage} {n:.1f}" for stage, n in report.cpu_seconds.items())
        lines.append(f"  CPU seconds of {report.n_workers} workers: {spent}")
    return "\n".join(lines)
