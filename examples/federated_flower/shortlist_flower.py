"""A federation of shortlist as a Flower app: Flower carries what parties and coordinator write.

The server is the coordinator: its folder holds the plan that `shortlist federate plan` wrote. Each
SuperNode is a party, with its key and its events in its node config (paths of its own machine). A
run goes on where the last one stopped. docs/federated.md tells how to start it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from shortlist.errors import DataError
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import FolderExchange, read_all
from shortlist.training.federated.keys import load_key
from shortlist.training.federated.messages import message_name
from shortlist.training.federated.plan import GATE, SUMS, Plan, latest_plan
from shortlist.training.pipeline.federation import collect_federation, join_federation

SECONDS = 600.0  # until a party that does not answer is given up

client_app = ClientApp()
server_app = ServerApp()


class Received:
    """An exchange that came in a message: reads its files, and keeps what is written."""

    def __init__(self, content: RecordDict) -> None:
        self._names: list[str] = content["names"]["names"]
        self._files: dict[str, bytes] = content["files"]
        self.written: dict[str, bytes] = {}

    def names(self) -> list[str]:
        """See `Exchange.names`."""
        return sorted(self._names)

    def open(self, name: str) -> BinaryIO:
        """See `Exchange.open`."""
        if name not in self._files:
            raise DataError(f"exchange: the message has no {name}, expected it there")
        return io.BytesIO(self._files[name])

    def write(self, name: str, content: bytes) -> None:
        """See `Exchange.write`."""
        self.written[name] = content


@client_app.train()
def join(message: Message, context: Context) -> Message:
    """Do what is this party's turn, and send its answers back."""
    node, exchange = context.node_config, Received(message.content)
    path = Path(node["key"])
    join_federation(
        exchange,
        load_key(path),
        Answers(path.with_name(f"{path.name}.answers")),
        overrides={"data.path": node["data"]},
        out=Path(node["out"]) if "out" in node else None,
        progress=False,
    )
    return Message(RecordDict({"answers": ConfigRecord(exchange.written)}), reply_to=message)


@server_app.main()
def collect(grid: Grid, context: Context) -> None:
    """Take turns with the parties until the bundle is published, or a party is worse."""
    settings = context.run_config
    exchange, key = FolderExchange(Path(settings["exchange"])), load_key(Path(settings["key"]))
    while True:
        standing = collect_federation(exchange, key, Path(settings["out"]))
        print(standing, flush=True)
        plan = latest_plan(exchange, key.party)
        answers = list(_asked(grid, exchange, plan))
        for name, content in answers:
            exchange.write(name, content)
        if standing.is_published is not None:
            return
        if not answers:
            raise DataError(
                f"plan {plan.number}, round {standing.round}: got no answer of "
                f"{', '.join(standing.waiting_for)}, expected one. Fix: see the log of their "
                "SuperNodes, and run the app again: it goes on here"
            )


def _asked(grid: Grid, exchange: FolderExchange, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Send all parties what they need of the exchange, and give what they answer."""
    end = time.monotonic() + SECONDS
    while len(nodes := list(grid.get_node_ids())) < len(plan.parties):
        if time.monotonic() > end:
            raise DataError(
                f"flower: got {len(nodes)} SuperNodes, expected {len(plan.parties)}, one for each "
                "party. Fix: start the others, and run the app again"
            )
        time.sleep(1.0)
    names = exchange.names()
    own = {message_name(plan, turn, p.name) for turn in (SUMS, GATE) for p in plan.parties}
    needed = {plan.name, plan.items.name, plan.model.name if plan.model else ""}
    needed |= {name for name in names if name.startswith(f"{plan.number:04}.")} - own
    needed.discard(plan.state.name if plan.state else "")
    files = {name: read_all(exchange, name) for name in names if name in needed}
    content = {"names": ConfigRecord({"names": names}), "files": ConfigRecord(files)}
    messages = [Message(RecordDict(content), node, MessageType.TRAIN) for node in nodes]
    for reply in grid.send_and_receive(messages, timeout=SECONDS):
        if reply.has_error():
            print(f"a party failed: {reply.error.reason}", flush=True)
            continue
        answers = reply.content["answers"]
        yield from ((name, answers[name]) for name in answers if name in own)
