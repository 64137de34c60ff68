"""`shortlist federate`: several parties train one bundle, and no events leave their houses."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist.cli._common import (
    add_data_arguments,
    add_settings_arguments,
    data_overrides,
    minutes,
    new_parser,
    parse_overrides,
    reading_said,
    require_extra,
)
from shortlist.cli._output import print_json, show
from shortlist.cli._reading import add_reading_arguments, reading_options
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers

WAITING, REFUSED = 3, 4  # exit statuses
EXTRA = "federated"
_SECONDS = 5.0  # between two looks with --wait
_STATUS = (
    f"\n\nexit status: 0 done and published, {WAITING} waiting for others, {REFUSED} a party is "
    "worse\nand nothing was published, 1 an error, 2 wrong usage"
)


def add_parser(subparsers: SubParsers) -> None:
    """Declare the verbs and their flags."""
    parser = new_parser(
        subparsers,
        "federate",
        "Several parties train one bundle, and no party's events leave its house: each makes a "
        "key, the coordinator plans, the parties join, the coordinator collects.",
        "shortlist federate join exchange --key north.key --data events.csv\n\n"
        "`shortlist federate VERB --help` shows an example of each verb.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_add_key, _add_plan, _add_join, _add_collect):
        add(verbs)


def _add_key(verbs: SubParsers) -> None:
    parser = new_parser(
        verbs,
        "key",
        "Make a key: FILE stays secret, FILE.pub goes to the coordinator.",
        "shortlist federate key north.key --name north",
    )
    parser.add_argument("file", type=Path, help="key file to write")
    parser.add_argument("--name", required=True, help="the party's name, e.g. north-shop")
    parser.set_defaults(run=_key)


def _add_plan(verbs: SubParsers) -> None:
    parser = new_parser(
        verbs,
        "plan",
        "Coordinator: sign who trains what, with which settings, on which catalogue.",
        "shortlist federate plan exchange --key head.key --party north.key.pub south.key.pub "
        "--items items.csv --preset ease",
    )
    _add_exchange(parser)
    parser.add_argument(
        "--party", type=Path, nargs="+", required=True, metavar="FILE", help="public keys"
    )
    parser.add_argument(
        "--items", type=Path, required=True, help="item table: the catalogue, which all see"
    )
    parser.add_argument(
        "--ids",
        default="own",
        choices=["own", "gtin", "isbn"],
        help="scheme of the item ids, by which all mean the same item (default: %(default)s)",
    )
    add_reading_arguments(parser, events=False)
    add_settings_arguments(parser)
    parser.set_defaults(run=_plan)


def _add_join(verbs: SubParsers) -> None:
    parser = new_parser(
        verbs,
        "join",
        "Party: do what is its turn. Answer with masked sums, judge the bundle, take the bundle.",
        "shortlist federate join exchange --key north.key --data events.csv --out shops.shortlist"
        + _STATUS,
    )
    _add_exchange(parser)
    add_data_arguments(parser, required=False)
    parser.add_argument(
        "--present",
        type=Path,
        metavar="BUNDLE",
        help="the bundle that serves now, which the new one is compared with (default: a model of "
        "this party's events alone)",
    )
    parser.add_argument("--out", type=Path, metavar="BUNDLE", help="bundle to write in the end")
    parser.add_argument(
        "--coordinator",
        type=Path,
        metavar="FILE",
        help="public key of the coordinator to trust (default: the first one met)",
    )
    parser.add_argument(
        "--accept-parties",
        action="store_true",
        help="answer although the parties are not those of an earlier plan",
    )
    _add_tls(parser)
    _add_waiting(parser)
    parser.set_defaults(run=_join)


def _add_collect(verbs: SubParsers) -> None:
    parser = new_parser(
        verbs,
        "collect",
        "Coordinator: add up what the parties sent, train, and publish if no party is worse.",
        "shortlist federate collect exchange --key head.key --out shops.shortlist" + _STATUS,
    )
    _add_exchange(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="bundle to write (NAME.shortlist)"
    )
    parser.add_argument(
        "--repeat", action="store_true", help="write the next plan: all parties answer again"
    )
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        help="with --repeat: parties that dropped out",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="serve the folder to parties over gRPC with mutual TLS, for the time of --wait",
    )
    _add_tls(parser)
    _add_waiting(parser)
    parser.set_defaults(run=_collect)


def _add_exchange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "exchange", help="folder that all read and write, or grpc://HOST:PORT that serves it"
    )
    parser.add_argument("--key", type=Path, required=True, help="own key file")


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=minutes,
        default=0.0,
        metavar="TIME",
        help="look again until it is done, at most so long: 90s, 30m, 2h (default: look once)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--json", action="store_true", help="print where it stands as JSON")


def _add_tls(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("cert", "own certificate"),
        ("key", "its key"),
        ("ca", "certificate of the authority that signed those of all"),
    ):
        parser.add_argument(f"--tls-{name}", type=Path, metavar="PEM", help=f"on the wire: {what}")


def _certificate(args: argparse.Namespace) -> Any:
    files = [args.tls_cert, args.tls_key, args.tls_ca]
    if None in files:
        raise DataError(
            "--tls-cert, --tls-key, --tls-ca: got not all of them, expected three PEM files: on "
            "the wire both sides show who they are"
        )
    return require_extra("shortlist.training.federated.wire", EXTRA).Certificate.load(*files)


def _exchange(args: argparse.Namespace, *, is_new: bool = False) -> Any:
    """Open the exchange: a folder, or one that is served."""
    if args.exchange.startswith("grpc://"):
        wire = require_extra("shortlist.training.federated.wire", EXTRA)
        return wire.WireExchange(args.exchange.removeprefix(wire.PREFIX), _certificate(args))
    folder = require_extra("shortlist.training.federated.exchange", EXTRA)
    return folder.FolderExchange(Path(args.exchange), is_new=is_new)


def _key(args: argparse.Namespace) -> int:
    keys = require_extra("shortlist.training.federated.keys", EXTRA)
    key = keys.make_key(args.file, args.name)
    show(
        f"{args.file}: keep it, and keep it secret\n{keys.public_of(args.file)}: give it away\n"
        f"{key.party.fingerprint}: what the others should read of your key when they join"
    )
    return 0


def _plan(args: argparse.Namespace) -> int:
    keys = require_extra("shortlist.training.federated.keys", EXTRA)
    jobs = require_extra("shortlist.training.pipeline.federation", EXTRA)
    overrides = parse_overrides(args.set)
    overrides |= {f"data.{name}": value for name, value in reading_options(args).items()}
    parties = [keys.load_party(path) for path in args.party]
    if args.exchange.startswith("grpc://"):
        raise DataError(
            f"exchange: got {args.exchange}, expected a folder of the coordinator, which "
            "`shortlist federate collect --listen` serves"
        )
    exchange = _exchange(args, is_new=True)
    with reading_said("federate"):
        plan = jobs.plan_federation(
            exchange,
            keys.load_key(args.key),
            parties,
            args.items,
            preset=args.preset,
            config_path=args.config,
            overrides=overrides,
            ids=args.ids,
        )
    names = ", ".join(party.name for party in plan.parties)
    show(f"{Path(args.exchange) / plan.name}: {plan.items.n_items:,} items, parties {names}")
    if len(plan.parties) == 2:
        show(
            "shortlist federate: warning: each of two parties can take its own sums off the "
            "total, and then has the other's",
            file=sys.stderr,
        )
    return 0


def _join(args: argparse.Namespace) -> int:
    keys = require_extra("shortlist.training.federated.keys", EXTRA)
    jobs = require_extra("shortlist.training.pipeline.federation", EXTRA)
    answers = require_extra("shortlist.training.federated.answers", EXTRA)
    key, exchange = keys.load_key(args.key), _exchange(args)
    trusted = None if args.coordinator is None else keys.load_party(args.coordinator)

    def turn() -> Any:
        return jobs.join_federation(
            exchange,
            key,
            answers.Answers(args.key.with_name(f"{args.key.name}.answers")),
            overrides=data_overrides(args),
            present=args.present,
            out=args.out,
            coordinator=trusted,
            accepts_parties=args.accept_parties,
            progress=not args.quiet,
        )

    return _until_done(turn, args)


def _collect(args: argparse.Namespace) -> int:
    keys = require_extra("shortlist.training.federated.keys", EXTRA)
    jobs = require_extra("shortlist.training.pipeline.federation", EXTRA)
    key, exchange = keys.load_key(args.key), _exchange(args)
    if args.without and not args.repeat:
        raise DataError("--without: got names without --repeat, expected both or none")
    if args.repeat:
        jobs.repeat_round(exchange, key, args.without)
    with _listening(exchange, args):
        return _until_done(lambda: jobs.collect_federation(exchange, key, args.out), args)


def _listening(exchange: Any, args: argparse.Namespace) -> AbstractContextManager[Any]:
    if args.listen is None:
        return nullcontext()
    if not args.wait:
        raise DataError("--listen: got no --wait, expected the time to serve, e.g. --wait 2h")
    wire = require_extra("shortlist.training.federated.wire", EXTRA)
    return wire.serving(exchange, _certificate(args), args.listen)  # type: ignore[no-any-return]


def _until_done(turn: Callable[[], Any], args: argparse.Namespace) -> int:
    """Take turns until it is done or the time is over, and say where it stands."""
    unreachable = require_extra("shortlist.training.federated.exchange", EXTRA).UnreachableError
    end = time.monotonic() + 60.0 * args.wait
    with reading_said("federate"):
        while True:
            is_last = time.monotonic() >= end
            try:
                standing = turn()
            except unreachable:
                if is_last:
                    raise
            else:
                if is_last or standing.is_published is not None:
                    break
            time.sleep(min(_SECONDS, max(0.0, end - time.monotonic())))
    if args.json:
        print_json(standing.to_dict())
    else:
        show(standing)
    if getattr(args, "listen", None) is not None:
        sys.stdout.flush()
        time.sleep(max(0.0, end - time.monotonic()))  # the parties take the bundle
    if standing.is_published is None:
        return WAITING
    return 0 if standing.is_published else REFUSED
