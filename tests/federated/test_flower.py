"""The Flower app of the examples: the same client and server, carried by Flower's messages."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from parties import HEAD, KEYS, World

from shortlist.bundle import Bundle
from shortlist.errors import DataError

pytest.importorskip(
    "flwr", reason="flwr has an environment of its own: examples/federated_flower/pyproject.toml"
)
APP = Path(__file__).resolve().parents[2] / "examples/federated_flower/shortlist_flower.py"


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("shortlist_flower", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Nodes:
    """A grid whose SuperNodes run here, one after another."""

    def __init__(self, app, configs):
        self.app, self.configs = app, configs

    def get_node_ids(self):
        return range(1, len(self.configs) + 1)

    def send_and_receive(self, messages, *, timeout):
        from flwr.app import Context, RecordDict

        for message in messages:
            node = message.metadata.dst_node_id
            context = Context(1, node, self.configs[node - 1], RecordDict(), {})
            yield self.app.client_app(message, context)


def run(app, world, configs):
    from flwr.app import Context, RecordDict
    from flwr.supercore.task_identity import TaskIdentity

    # What a SuperLink sets before it runs an app.
    TaskIdentity.run_id = TaskIdentity.task_id = 1
    TaskIdentity.node_id = 0
    settings = {
        "exchange": str(world.exchange.folder), "key": str(world.folder / "head.key"),
        "out": str(world.folder / "shops.shortlist"),
    }  # fmt: skip
    app.server_app(Nodes(app, configs), Context(1, 0, {}, RecordDict(), settings))


def test_a_federation_runs_as_a_flower_app(tmp_path, app, monkeypatch):
    keys = KEYS[:2]
    settings = {
        "model.encoder": "pool", "model.dim": 8, "model.hidden": 8, "federated.rounds": 1,
        "update.min_users": 1000, "export.parity_users": 20,
    }  # fmt: skip
    world = World(tmp_path, keys, (0, 100, 220), **settings)
    configs = []
    for key in (HEAD, *keys):
        path = tmp_path / f"{key.name}.key"
        path.write_text(json.dumps(asdict(key)))
        path.chmod(0o600)
    for key in keys:
        world.events[key.name].write_csv(tmp_path / f"{key.name}.csv")
        files = {"key": "key", "data": "csv", "out": "shortlist"}
        configs.append({n: str(tmp_path / f"{key.name}.{kind}") for n, kind in files.items()})
    with monkeypatch.context() as patch:
        patch.setattr(app, "SECONDS", 0.0)
        with pytest.raises(DataError, match="got 1 SuperNodes, expected 2, one for each"):
            run(app, world, configs[:1])
    run(app, world, configs)
    names = world.exchange.names()
    assert {"0002.sums.east", "0002.sums.north", "0002.result.json"} <= set(names)
    for path in (tmp_path / "shops.shortlist").iterdir():
        for own in ("east", "north"):
            assert path.read_bytes() == (tmp_path / f"{own}.shortlist" / path.name).read_bytes()
    with Bundle.open(tmp_path / "east.shortlist") as bundle:
        assert bundle.manifest["federated"]["rounds"] == 1
