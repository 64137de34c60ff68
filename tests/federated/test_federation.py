"""Three shops and more: plan, join, collect, over a folder; whoever is killed, and bad input."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from parties import HEAD, KEYS, World, events_of, items_table, key_of, parts

import shortlist
from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.export.released import FILES
from shortlist.training import train
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides, from_toml
from shortlist.training.data.events import Dataset, read_events
from shortlist.training.federated import plan as plans
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.keys import Key
from shortlist.training.federated.signing import sign_record
from shortlist.training.pipeline import federated, federation
from shortlist.training.pipeline.federation import (
    join_federation,
    plan_federation,
    repeat_round,
)
from shortlist.training.privacy.accounting import noise_scale
from shortlist.training.privacy.noise import STEPS, unsafe_bytes
from shortlist.training.updates.drift import run_of

FIVE = tuple(key_of(name) for name in ("a", "b", "c", "d", "e"))
SIZES = (3, 17, 30, 60, 110)  # users of each
HEIGHTS = (0, 3, 20, 50, 110, 220)  # where the users of each begin


WEIGHTED = {"events.weights.buy": 2.7, "events.weights.view": 0.3}


@pytest.mark.parametrize(
    "settings",
    [
        {"model.encoder": "cooccurrence", **WEIGHTED},
        {"model.encoder": "ease", "linear.ease_user_power": 0.4, "linear.ease_l2": 9.0},
    ],
    ids=["cooccurrence", "ease"],
)
def test_five_parties_make_the_bytes_of_a_central_training(tmp_path, settings):
    world = World(tmp_path, FIVE, HEIGHTS, **settings)
    for key in FIVE:
        assert world.join(key).round == "sums"
    assert world.collect().round == "gate"
    alone = tmp_path / "central.shortlist"
    train(
        events_of().drop("number"), items_table(), out=alone, progress=False,
        settings={**settings, "export.store_users": False},
    )  # fmt: skip
    found = world.announced()
    names = {path.name for path in alone.iterdir()}
    assert {path.name for path in found.iterdir()} == names
    assert names <= {*FILES}
    for name in names - {"manifest.json"}:
        assert (found / name).read_bytes() == (alone / name).read_bytes(), name
    with Bundle.open(found) as bundle:
        manifest = bundle.manifest
    assert manifest["federated"]["parties"] == ["a", "b", "c", "d", "e"]
    assert manifest["federated"]["plan"] == world.plan.sha256
    assert "data" not in manifest["lineage"]
    assert manifest["training"]["data"] == {"is_federated": True, "protocol": "leave-one-out"}
    for path in found.iterdir():
        assert b"reader-" not in path.read_bytes(), path


def commands_of_the_story():
    """The commands of the docs, in their order."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "federated.md").read_text("utf-8")
    story = page[page.index("## Three shops") : page.index("## What can be federated")]
    for block in re.findall(r"^```bash\n(.*?)^```", story, re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line)[1:]


def test_the_story_of_three_shops_runs_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    items_table().write_csv("items.csv")
    for name, events in zip(("north", "south", "west"), parts((0, 50, 120, 220)), strict=True):
        events.write_csv(f"{name}.csv")
    codes, told = [], []
    for words in commands_of_the_story():
        codes.append(main(words))
        told.append(capsys.readouterr().out)
    #         keys        plan  sums     collect  gate     publish  take, inspect
    assert codes == [0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0], told
    assert "round sums: waiting for south, west" in told[5]
    assert "round gate: waiting for north, south, west" in told[8]
    assert "published\nbundle: shops.shortlist" in told[12]
    assert "federated" in told[14]
    for path in (tmp_path / "shops.shortlist").iterdir():
        assert path.read_bytes() == (tmp_path / "north.shortlist" / path.name).read_bytes()
    with shortlist.load("north.shortlist", device="cpu") as engine:
        assert engine.recommend({"history": [["i0", "i4"]]}, top_n=3).counts.tolist() == [3]
    join = ["federate", "join", "exchange", "--key", "west.key", "--json"]
    assert main(join) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["is_published"] is True
    assert set(told["changes"]) == {"north", "south", "west"}


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Four parties, all of which answered with sums."""
    world = World(
        tmp_path_factory.mktemp("four"), KEYS, (0, 40, 90, 150, 220),
        **{"model.encoder": "popularity"},
    )  # fmt: skip
    for key in KEYS:
        world.join(key)
    return world


@pytest.fixture(scope="module")
def trained(answered, tmp_path_factory):
    """The same, after the coordinator has trained."""
    world = copy_of(answered, tmp_path_factory.mktemp("trained"))
    assert world.collect().round == "gate"
    return world


def copy_of(world, folder):
    shutil.copytree(world.folder, folder, dirs_exist_ok=True)
    copy = object.__new__(World)
    copy.__dict__ |= vars(world)
    copy.folder, copy.exchange = folder, FolderExchange(folder / "exchange")
    return copy


@pytest.fixture
def world(answered, tmp_path):
    return copy_of(answered, tmp_path)


@pytest.fixture
def late(trained, tmp_path):
    return copy_of(trained, tmp_path)


def test_noise_is_added_in_shares_and_the_ledger_says_so(tmp_path):
    settings = {"privacy.epsilon": 8.0, "privacy.delta": 1e-4}
    world = World(tmp_path, KEYS[:3], (0, 60, 130, 220), **settings)
    for key in KEYS[:3]:
        world.join(key)
    assert world.collect().round == "gate"
    with Bundle.open(world.announced()) as bundle:
        ledger, manifest = bundle.manifest["privacy"], bundle.manifest
    assert ledger["sigma"] == pytest.approx(noise_scale(8.0, 1e-4))
    assert (ledger["epsilon"], ledger["delta"]) == (8.0, 1e-4)
    assert "shares of 3 parties" in ledger["mechanism"]
    assert "NOT PRIVATE" not in manifest.privacy.sentence
    assert manifest["federated"]["parties"] == ["east", "north", "south"]
    assert manifest["training"]["data"] == {"is_private": True, "protocol": "leave-one-out"}
    found = pa.ipc.open_file(tmp_path / "announced" / "items.arrow").read_all()
    assert "popular_score" in found.column_names
    exact = World(tmp_path / "exact", KEYS[:3], (0, 60, 130, 220))
    config = from_toml(exact.plan.settings)
    whole = Dataset("all", read_events(events_of().drop("number")), items=items_table())
    counts = federated.count_sums(whole, config, 2)["events"]
    assert found["n_events"].to_pylist() != counts.tolist()


def test_the_noise_of_all_parties_but_one_is_what_the_promise_needs():
    """With known bytes: the sum of shares, less any one of them, has at least sigma."""
    config = apply_overrides(Config(), {"privacy.epsilon": 1.0, "privacy.delta": 1e-6})
    events = read_events(events_of().drop("number"))
    house = Dataset("house", events, items=items_table())
    n_parties = 5
    shares = []
    for party in range(n_parties):
        noisy = federated.count_sums(house, config, n_parties, source=unsafe_bytes(party))
        other = federated.count_sums(house, config, n_parties, source=lambda n: b"\xff" * n)
        shares.append(np.concatenate([noisy[name] - other[name] for name in sorted(noisy)]))
    sigma = noise_scale(1.0, 1e-6) * STEPS
    left = np.sum(shares[1:], axis=0)
    assert np.std(left) == pytest.approx(sigma, rel=0.15)
    assert np.std(shares[0]) == pytest.approx(sigma / 2, rel=0.15)


def test_a_private_plan_says_its_delta_and_stays_in_its_budget(tmp_path):
    exchange = FolderExchange(tmp_path / "e", is_new=True)
    parties = [key.party for key in KEYS[:2]]
    for settings, message in (
        ({"privacy.epsilon": 8.0}, r"privacy\.delta: got 0 in a plan of several parties.*1e-6"),
        ({"privacy.budget": 8.0}, r"without privacy\.epsilon"),
        ({"privacy.epsilon": 8.0, "privacy.delta": 1e-5, "privacy.budget": 4.0},
         r"privacy\.budget: got 4, but this release"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            plan_federation(exchange, HEAD, parties, items_table(), overrides=settings)
    assert exchange.names() == []


def test_a_private_round_that_was_complete_is_counted_when_it_is_repeated(tmp_path):
    settings = {"privacy.epsilon": 8.0, "privacy.delta": 1e-4, "privacy.budget": 13.0}
    world = World(tmp_path, KEYS[:2], (0, 100, 220), **settings)
    world.join(KEYS[0])
    assert repeat_round(world.exchange, HEAD).releases == ()  # nobody could add it up
    for key in KEYS[:2]:
        world.join(key)
    (release,) = repeat_round(world.exchange, HEAD).releases
    assert release["epsilon"] == 8.0
    for key in KEYS[:2]:
        world.join(key)
    with pytest.raises(DataError, match=r"privacy\.budget: got 13, but .* the 2 before"):
        repeat_round(world.exchange, HEAD)


class Killed(BaseException):
    pass


def kill(*_, **__):
    raise Killed


def test_a_party_that_was_killed_sends_the_answer_that_it_kept(world, monkeypatch):
    path = world.exchange.folder / "0001.sums.east"
    sent = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(federated, "count_sums", kill)
    assert world.join(KEYS[0], events=events_of(30, seed=9).drop("number")).round == "sums"
    assert path.read_bytes() == sent


def test_a_coordinator_that_was_killed_goes_on(world, monkeypatch):
    before = world.exchange.names()
    for step in ("total_of", "sign_record"):
        with monkeypatch.context() as patch:
            patch.setattr(federation, step, kill)
            with pytest.raises(Killed):
                world.collect()
        left = [name for name in world.exchange.names() if name not in before]
        assert not [name for name in left if name.endswith(".json")]
        assert [path for path in world.folder.iterdir() if path.suffix == ".shortlist"] == []
    assert world.collect().round == "gate"


def test_one_that_is_killed_between_bundle_and_result_publishes_again(late, monkeypatch):
    for key in KEYS:
        late.join(key)
    with monkeypatch.context() as patch:
        patch.setattr(federation, "sign_record", kill)
        with pytest.raises(Killed):
            late.collect()
    done = late.collect()
    assert done.is_published
    assert done.bundle == late.folder / "out.shortlist"
    with Bundle.open(done.bundle) as bundle:
        assert bundle.manifest["federated"]["parties"] == ["east", "north", "south", "west"]


def test_a_party_that_is_worse_stops_it(late, monkeypatch):
    for key in KEYS[1:]:
        late.join(key)
    real = federation.write_message

    def worse(*arguments, **_):
        return real(*arguments, value={"change": -0.2, "is_worse": True})

    monkeypatch.setattr(federation, "write_message", worse)
    late.join(KEYS[0])
    done = late.collect()
    assert done.is_published is False
    assert done.changes["east"] == -0.2
    assert done.bundle is None
    assert not (late.folder / "out.shortlist").exists()
    assert "not published: a party is worse" in str(done)
    assert late.join(KEYS[1], out=late.folder / "mine.shortlist").bundle is None


def test_a_bundle_of_several_parties_has_no_events_to_update(late):
    federated_bundle = late.announced()
    with Bundle.open(federated_bundle) as bundle:
        manifest = bundle.manifest
    with pytest.raises(DataError, match=r"which is of several parties.*shortlist federate plan"):
        run_of(federated_bundle, manifest, None)


def test_a_party_is_compared_with_the_bundle_it_has(late):
    present = late.announced()
    (late.folder / "old.shortlist").mkdir()
    shutil.copytree(present, late.folder / "old.shortlist", dirs_exist_ok=True)
    for key in KEYS:
        late.join(key, present=late.folder / "old.shortlist")
    assert set(late.collect().changes.values()) == {0.0}


def test_a_round_is_repeated_without_a_party_that_dropped_out(world):
    (world.exchange.folder / "0001.sums.west").unlink()
    assert world.collect().waiting_for == ("west",)
    repeat_round(world.exchange, HEAD, ["west"])
    with pytest.raises(DataError, match=r"plan 2: its parties are not those of plan 1.*gone: west"):
        world.join(KEYS[0])
    for key in KEYS[:3]:
        world.join(key, accepts_parties=True)
    assert world.join(KEYS[0]).waiting_for == ("head",)
    with pytest.raises(DataError, match="got 'west', which is not in plan 2"):
        world.join(KEYS[3])


def test_a_plan_that_was_changed_after_signing_is_refused_by_all(world):
    path = world.exchange.folder / "plan-0001.json"
    path.write_text(path.read_text().replace("popularity", "ease"))
    for turn in (lambda: world.join(KEYS[0]), world.collect):
        with pytest.raises(DataError, match="signature of head does not fit"):
            turn()


def test_another_coordinator_is_not_followed(world):
    other = key_of("other")
    path = world.exchange.folder / "plan-0001.json"
    content = world.plan.to_dict() | {"coordinator": vars(other.party)}
    path.write_bytes(sign_record(content, other))
    with pytest.raises(DataError, match=r"signed by another key than that of head.*--coordinator"):
        world.join(KEYS[0])
    with pytest.raises(DataError, match="signed by another key than that of head"):
        world.collect()


def test_a_catalogue_or_a_bundle_that_was_changed_is_refused(late):
    bundle = next(late.exchange.folder.glob("*.bundle-*"))
    data = bytearray(bundle.read_bytes())
    data[-30] ^= 1
    bundle.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"bundle-.* not the bundle that head signed"):
        late.join(KEYS[0])
    items = late.exchange.folder / late.plan.items.name
    items.write_bytes(b"ARROW")
    with pytest.raises(DataError, match="not the file that plan 1 names"):
        late.join(KEYS[0])


def test_a_record_of_another_plan_is_refused(late):
    repeat_round(late.exchange, HEAD)
    folder = late.exchange.folder
    shutil.copy(folder / "0001.bundle.json", folder / "0002.bundle.json")
    with pytest.raises(DataError, match=r"0002\.bundle\.json: got a record of another plan"):
        late.join(KEYS[0])


def test_events_that_the_plan_does_not_know_are_refused_at_home(tmp_path):
    world = World(tmp_path, KEYS[:2], (0, 100, 220))
    own = world.events["east"]
    strange = own.with_columns(pl.col("item_id").str.replace("i", "sku"))
    with pytest.raises(DataError, match=r"party east: got events of items .*another scheme\?.*Fix"):
        world.join(KEYS[0], events=strange)
    some = own.with_columns(pl.col("item_id").str.replace("^i7$", "x7"))
    with pytest.raises(DataError, match=r"1 of 24 items, such as 'x7', expected all of them"):
        world.join(KEYS[0], events=some)
    table = items_table().with_columns(pl.col("price").cast(pl.String) + " EUR")
    table.write_csv(tmp_path / "own.csv")
    with pytest.raises(DataError, match=r"party east: item column 'price' is String, but Float64"):
        world.join(KEYS[0], overrides={"data.items": str(tmp_path / "own.csv")})
    with pytest.raises(DataError, match=r"party east: data\.users: got"):
        world.join(KEYS[0], overrides={"data.users": "users.csv"})
    with pytest.raises(DataError, match=r"train\.seed: got a setting of a party"):
        world.join(KEYS[0], overrides={"train.seed": 2})
    with pytest.raises(DataError, match="party east: got no events"):
        world.join(KEYS[0], events=None)
    stranger = Key("east", KEYS[1].signing, KEYS[1].agreement)
    with pytest.raises(DataError, match=r"plan 1 has another key of this name"):
        join_federation(world.exchange, stranger, Answers(tmp_path / "x"))
    assert world.exchange.names() == [world.plan.items.name, world.plan.name]


def test_events_of_unknown_items_are_left_out_where_the_plan_cleans(tmp_path):
    world = World(tmp_path, KEYS[:2], (0, 100, 220), **{"cleaning.enabled": True})
    some = world.events["east"].with_columns(pl.col("item_id").str.replace("^i7$", "x7"))
    world.join(KEYS[0], events=some)
    assert "0001.sums.east" in world.exchange.names()


def test_plans_that_cannot_be(tmp_path):
    exchange = FolderExchange(tmp_path / "e", is_new=True)
    parties = [key.party for key in KEYS[:2]]
    with pytest.raises(DataError, match="ids: got 'sku', expected one of own, gtin, isbn"):
        plan_federation(exchange, HEAD, parties, items_table(), ids="sku")
    with pytest.raises(DataError, match="which is no GTIN"):
        plan_federation(exchange, HEAD, parties, items_table(), ids="gtin")
    with pytest.raises(DataError, match="parties: got 1, expected at least 2"):
        plan_federation(exchange, HEAD, parties[:1], items_table())
    many = pl.DataFrame({"item_id": [f"i{i}" for i in range(8192)]})
    with pytest.raises(DataError, match="got 8,192 in the catalogue, expected at most 8,191"):
        plan_federation(exchange, HEAD, parties, many)
    assert [name for name in exchange.names() if name.startswith(plans.FORMAT[:4])] == []
    plan_federation(exchange, HEAD, parties, items_table())
    with pytest.raises(DataError, match="got one with a plan, expected an empty one"):
        plan_federation(exchange, HEAD, parties, items_table())
