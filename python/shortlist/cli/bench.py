"""`shortlist bench`: latency and throughput of a bundle on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import check_output, new_parser, require_extra, whole_number
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "bench",
        "Measure p50/p90/p99 and requests/s by batch size, encoder and search shown apart; single "
        "requests also with one every 10 ms.",
        "shortlist bench movies.shortlist --batch 1 64 --plot bench.png",
    )
    parser.add_argument("bundle", type=Path, help="bundle: a NAME.shortlist folder or zip")
    parser.add_argument(
        "--batch",
        type=whole_number(1),
        nargs="+",
        default=[1, 8, 64, 512],
        help="requests a call (default: 1 8 64 512)",
    )
    parser.add_argument(
        "--top-n", type=whole_number(1), default=10, help="items a request (default: 10)"
    )
    parser.add_argument(
        "--history-length",
        type=whole_number(1),
        default=50,
        help="items in a history (default: 50; fewer where top-n items would not be left)",
    )
    parser.add_argument(
        "--threads", type=whole_number(0), default=1, help="threads (default: 1; 0 = all)"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="time for each stage and batch (default: 1)"
    )
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    parser.add_argument("--plot", type=Path, help="write a PNG plot (extra: bench)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, measure, print."""
    for name in ("markdown", "plot"):
        check_output(getattr(args, name), f"--{name}")
    if args.plot:
        require_extra("matplotlib", "bench")  # say so before minutes of measuring
    from shortlist.bench import bench_bundle, format_markdown, plot

    report = bench_bundle(
        args.bundle,
        batches=args.batch,
        top_n=args.top_n,
        history_length=args.history_length,
        n_threads=args.threads,
        device=args.device,
        seconds=args.seconds,
        progress=lambda text: show(f"measuring {text} …", file=sys.stderr),
    )
    markdown = format_markdown(report)
    if args.markdown:
        args.markdown.write_text(markdown, encoding="utf-8")
    if args.plot:
        plot(report, args.plot)
    for warning in report["warnings"]:
        show(f"warning: {warning}", file=sys.stderr)
    if args.json:
        print_json(report)
    else:
        show(markdown)
    return 0
