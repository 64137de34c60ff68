"""`shortlist evaluate --off-policy`: what a bundle would have earned, from a feedback log."""

from __future__ import annotations

import argparse

from shortlist.cli._common import check_log, whole_number
from shortlist.cli._output import print_json, show


def add_off_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group(
        "off-policy estimates", "from lists that were shown with exploration, instead of --data"
    )
    group.add_argument(
        "--off-policy",
        metavar="LOG",
        help="feedback log (a file or a database URL) with propensities",
    )
    group.add_argument(
        "--top-n", type=whole_number(1), default=3, help="places that count (default: 3)"
    )
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--epsilon", type=float, help="the bundle would explore so (default: it would not)"
    )
    how.add_argument("--temperature", type=float, help="the bundle would explore by softmax")
    group.add_argument(
        "--candidates", type=whole_number(1), default=100, help="it would draw from (default: 100)"
    )
    group.add_argument(
        "--reward",
        nargs="+",
        metavar="KIND",
        help="kinds of events that are a reward (default: all but dislikes)",
    )
    group.add_argument(
        "--within",
        type=whole_number(0),
        default=86_400,
        help="seconds after an impression in which events count (default: a day)",
    )
    group.add_argument(
        "--clock-tolerance",
        type=whole_number(0),
        default=10,
        metavar="SECONDS",
        help="how much older than its impression an event may be, where clocks differ "
        "(default: 10)",
    )


def run_off_policy(args: argparse.Namespace) -> int:
    """Estimate and print."""
    import shortlist
    from shortlist.off_policy import estimate

    explore: shortlist.Epsilon | shortlist.Softmax
    if args.temperature is not None:
        explore = shortlist.Softmax(args.temperature, n_candidates=args.candidates)
    else:
        explore = shortlist.Epsilon(args.epsilon or 0.0, n_candidates=args.candidates)
    check_log(args.off_policy, "--off-policy")
    with (
        shortlist.load(args.bundle) as engine,
        shortlist.FeedbackLog(args.off_policy) as log,
    ):
        estimates = estimate(
            engine,
            log,
            explore=explore,
            top_n=args.top_n,
            kinds=args.reward,
            within=args.within,
            clock_tolerance=args.clock_tolerance,
        )
    if args.json:
        print_json(estimates.to_dict())
    else:
        show(estimates)
    return 0
