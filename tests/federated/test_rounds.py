"""Encoders in rounds: what a round changes, and a federation from the counts to the bundle."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from parties import HEAD, KEYS, World, events_of, items_table, key_of

import shortlist
from shortlist.bundle import Bundle
from shortlist.errors import DataError
from shortlist.training import train
from shortlist.training.config.sections import FederatedConfig
from shortlist.training.config.settings import apply_overrides, from_toml, load_config
from shortlist.training.data.events import Dataset, read_events
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.federated.exchange import read_all
from shortlist.training.federated.plan import latest_plan
from shortlist.training.federated.settings import federated_config
from shortlist.training.federated.weights import (
    SHARE,
    STEPS,
    mean_change,
    next_weights,
    read_arrays,
    shared_change,
    write_arrays,
)
from shortlist.training.fit.teacher import count_followers
from shortlist.training.pipeline import rounds
from shortlist.training.pipeline.federation import repeat_round
from shortlist.training.pipeline.house import closed_form

THREE, CUTS = KEYS[:3], (0, 60, 120, 180)  # the events have users up to 220
SMALL = {
    "model.encoder": "pool", "model.dim": 8, "model.hidden": 8, "model.dropout": 0.0,
    "model.history_length": 12, "train.history_dropout": 0.0, "train.id_dropout": 0.0,
    "train.optimizer": "sgd", "train.learning_rate": 0.05, "train.batch_size": 100_000,
    "train.n_targets": 4, "federated.rounds": 2, "federated.max_share": 1.0,
    "export.parity_users": 20,
}  # fmt: skip


def even(events):
    """The same number of events of each user, so that parties of equal sizes have equal weights."""
    return events.group_by("user_id", maintain_order=True).head(3)


def house_of(events):
    return Dataset("house", read_events(events.drop("number", strict=False)), items=items_table())


def weights_of(*values):
    return {f"w{i}": np.asarray(value, np.float32) for i, value in enumerate(values)}


def test_arrays_are_the_same_bytes_every_time():
    arrays = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}
    assert write_arrays(arrays) == write_arrays(arrays)
    found = read_arrays(write_arrays(arrays))
    assert list(found) == ["b", "a"]
    np.testing.assert_array_equal(found["a"], arrays["a"])


def test_the_mean_counts_users_and_no_party_over_its_cap():
    before = weights_of([0.0, 1.0])
    settings = FederatedConfig(max_share=0.5)
    sizes, ends = (10, 20, 170), (weights_of([1.0, 1.0]), weights_of([0, 4]), weights_of([-1, 1]))
    sums = [
        shared_change(before, after, n, 200, settings, "x")
        for n, after in zip(sizes, ends, strict=True)
    ]
    total = {name: sum(part[name] for part in sums) for name in sums[0]}
    assert total[SHARE].tolist() == [10 + 20 + 100]
    expected = 10 * np.array([1.0, 0.0]) + 20 * np.array([0, 3.0]) + 100 * np.array([-1.0, 0])
    found = mean_change(total, 200)["w0"]
    np.testing.assert_allclose(found, expected / 130, atol=3 * 200 / (130 * STEPS))


def test_a_change_is_clipped_as_a_whole():
    before, after = weights_of([0.0, 0.0], [0.0]), weights_of([3.0, 0.0], [4.0])
    sums = shared_change(before, after, 5, 5, FederatedConfig(clip_norm=1.0, max_share=1.0), "x")
    np.testing.assert_allclose(sums["w0"] / STEPS, [0.6, 0.0], atol=1 / STEPS)
    np.testing.assert_allclose(sums["w1"] / STEPS, [0.8], atol=1 / STEPS)


def test_weights_that_are_no_numbers_stay_at_home():
    with pytest.raises(DataError, match=r"party east, round 3.*lower train\.learning_rate"):
        shared_change(
            weights_of([0.0]), weights_of([np.nan]), 5, 5, FederatedConfig(),
            "party east, round 3",
        )  # fmt: skip


def test_no_events_at_all_have_no_mean():
    with pytest.raises(DataError, match=r"got no train events of any"):
        mean_change({SHARE: np.array([0]), "w0": np.array([0])}, 1)


def test_fedadam_takes_the_steps_of_the_paper():
    settings = FederatedConfig(server_optimizer="fedadam", server_learning_rate=0.5)
    weights, change = weights_of([1.0, 2.0]), {"w0": np.array([0.1, -0.2])}
    first, second = 0.0, 1e-6
    value, moments = weights["w0"].astype(float), {}
    for _ in range(3):
        weights, moments = next_weights(weights, change, moments, settings)
        first = 0.9 * first + 0.1 * change["w0"]
        second = 0.99 * second + 0.01 * change["w0"] ** 2
        value = value + 0.5 * first / (np.sqrt(second) + 1e-3)
    np.testing.assert_allclose(weights["w0"], value, rtol=1e-6)


def test_the_pairs_of_round_0_are_the_counts_in_either_order():
    config = load_config(overrides={"model.encoder": "pool", "train.item_init": "cooccurrence"})
    house = house_of(events_of())
    sums = rounds.count_first(house, config, 3)
    n_items = house.items.height
    assert {name: array.shape for name, array in sums.items()} == rounds.first_shapes(
        config, n_items
    )
    split = rounds.leave_one_out(house, config.events)
    lengths = split.train.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    follows = count_followers(split.item_rows(split.train["item_id"]), lengths, n_items)
    half = rounds._matrix(rounds._unpacked(sums["pairs"]), n_items)
    both = (follows + follows.T).toarray()
    assert both.max() < 4095 / 3  # in full
    assert np.all(np.abs((half + half.T).toarray() - both) <= 0.126 * (1 + np.eye(n_items)))


def test_pairs_of_many_parties_have_room_in_half_a_number():
    """Those that have none are scaled as a whole; the sum keeps both halves apart."""
    large = np.array([40_000, 20_000, 4, 0, 10_000]) * rounds.STEPS
    small = np.array([2, 0, 1, 3, 7]) * rounds.STEPS
    total = rounds._packed(large, 3) + 2 * rounds._packed(small, 3)
    assert len(total) == 3
    assert total.max() < 1 << 30
    scaled = np.rint(np.array([40_000, 20_000, 4, 0, 10_000]) * 5461 / 40_000)
    expected = scaled + 2 * 4 * np.array([2, 0, 1, 3, 7])
    np.testing.assert_array_equal(rounds._unpacked(total)[:5], expected)


def test_settings_of_rounds_are_checked():
    def checked(**changed):
        given = {name.replace("__", "."): value for name, value in changed.items()}
        return federated_config(load_config(overrides=given), given)[0]

    assert checked(model__encoder="gru").train.item_init == "cooccurrence"
    assert checked(model__encoder="gru", train__item_init="random").train.item_init == "random"
    for given, message in (
        ({"model__encoder": "pool", "train__teacher": 0.1}, r"train\.teacher: got 0\.1 in a plan"),
        ({"model__encoder": "ials"}, r"model\.encoder: got 'ials'"),
        ({"model__encoder": "ease", "federated__rounds": 3}, r"federated\.rounds: got 3 for a tra"),
        ({"model__encoder": "pool", "privacy__epsilon": 8.0, "privacy__delta": 1e-6,
          "federated__clip_norm": 1.0}, r"federated\.clip_norm: got 1\.0 .*no \[privacy\]"),
        ({"model__encoder": "pool", "scorer__enabled": True}, r"scorer\.enabled: got True"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            checked(**given)


def test_a_party_compares_an_encoder_with_what_it_can_count_alone():
    """So too for the encoders of private plans, which have no rounds."""
    for encoder, expected in (("gru", "cooccurrence"), ("ease", "ease")):
        config = closed_form(load_config(overrides={"model.encoder": encoder}))
        assert config.model.encoder == expected


@pytest.fixture(scope="module", autouse=True)
def _eagerly():
    """A step of each party alone is not worth a graph."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three parties of equal weights, up to the bundle that they judge."""
    world = World(tmp_path_factory.mktemp("rounds"), THREE, CUTS, **SMALL)
    world.events = {name: even(events) for name, events in world.events.items()}
    world.stands = []
    for _ in range(3):
        for key in THREE:
            world.stands.append(world.join(key))
        world.stands.append(world.collect())
    return world


def test_each_round_is_a_plan_and_the_last_one_makes_the_bundle(trained):
    assert [str(stand) for stand in trained.stands[:5]] == [
        "plan 1, round sums (0 of 2): waiting for north, south",
        "plan 1, round sums (0 of 2): waiting for south",
        "plan 1, round sums (0 of 2): waiting for head",
        "plan 2, round sums (1 of 2): waiting for east, north, south",
        "plan 2, round sums (1 of 2): waiting for north, south",
    ]
    assert trained.stands[-1].round == "gate"
    with Bundle.open(trained.announced()) as bundle:
        manifest = bundle.manifest
    assert manifest["federated"]["rounds"] == 2
    assert manifest["federated"]["number"] == 3
    assert manifest["training"]["data"] == {"is_federated": True, "protocol": "leave-one-out"}
    for path in trained.announced().iterdir():
        assert b"reader-" not in path.read_bytes(), path


def model_of(world, number):
    name = next(n for n in world.exchange.names() if n.startswith(f"{number:04}.model-"))
    return rounds.Model.from_bytes(read_all(world.exchange, name))


def test_one_local_step_of_equal_parties_is_the_central_step(trained):
    """FedAvg of a full-batch step each: what one house would do with all events."""
    first, second = model_of(trained, 2), model_of(trained, 3)
    config = from_toml(trained.plan.settings)
    house = house_of(even(events_of().filter(events_of()["number"] < 180)))
    split = rounds.leave_one_out(house, config.events)
    expected = rounds._trained(split, first, config, 1)
    moved = 0.0
    for name, values in second.weights.items():
        # Three parties, each rounded by half a step at most; and float32.
        np.testing.assert_allclose(values, expected[name], atol=2 / STEPS + 2e-6, err_msg=name)
        moved = max(moved, np.abs(values - first.weights[name]).max())
    assert moved > 1e-3


def test_what_a_party_sends_is_noise_and_its_length_is_known(trained):
    plan = latest_plan(trained.exchange)
    message = read_all(trained.exchange, "0003.sums.east")
    n_numbers = sum(int(np.prod(shape)) for shape in plan.tensors.values())
    body = message[-4 * n_numbers :]
    counts = np.bincount(np.frombuffer(body, np.uint8), minlength=256)
    expected = len(body) / 256
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 5 * np.sqrt(2 * 255)


def test_a_party_without_targets_counts_as_nobody(trained):
    weights = {"events.weights": {"view": 0.0, "buy": 0.0}}
    config = apply_overrides(from_toml(trained.plan.settings), weights)
    house = house_of(events_of(20))
    sums = rounds.train_locally(house, model_of(trained, 2), config, 1, "x")
    assert not any(np.any(steps) for steps in sums.values())
    assert rounds.count_first(house, config, 2)[rounds.USERS].tolist() == [0]


def test_a_round_is_repeated_without_a_party_and_goes_on(tmp_path):
    """FedAdam, touched rows alone, a cap and a clip; one drops out in round 1."""
    settings = SMALL | {
        "federated.server_optimizer": "fedadam", "federated.touched_rows": True,
        "federated.clip_norm": 0.5, "federated.max_share": 0.3, "update.min_users": 1000,
    }  # fmt: skip
    world = World(tmp_path, THREE, CUTS, **settings)
    unsold = [f"i{item}" for item in range(5)]
    for name, events in world.events.items():
        world.events[name] = events.filter(~events["item_id"].is_in(unsold))
    for key in THREE:
        world.join(key)
    assert world.collect().training_round == 1
    (_, table) = next(iter(model_of(world, 2).shapes(from_toml(world.plan.settings)).items()))
    plan = latest_plan(world.exchange)
    assert (24 - 5, 8) in plan.tensors.values()
    world.join(THREE[0])
    assert world.collect().waiting_for == ("north", "south")
    repeat_round(world.exchange, HEAD, ["south"])
    with pytest.raises(DataError, match=r"gone: south.*--accept-parties"):
        world.join(THREE[0])
    for key in THREE[:2]:
        assert world.join(key, accepts_parties=True).training_round == 1
    assert world.collect().training_round == 2
    for key in THREE[:2]:
        world.join(key)  # those of the last answer were agreed on
    assert world.collect().round == "gate"
    for key in THREE[:2]:
        world.join(key)
    done = world.collect()
    assert done.is_published
    next(world.exchange.folder.glob("*.bundle-*.shortlist")).unlink()  # read once, and kept
    assert world.join(THREE[0], out=tmp_path / "own.shortlist").bundle is not None
    with Bundle.open(done.bundle) as bundle:
        assert bundle.manifest["federated"]["parties"] == ["east", "north"]
    first, last = model_of(world, 2), model_of(world, 4)
    untouched = np.flatnonzero(first.counts == 0) + 1
    np.testing.assert_array_equal(last.weights[last.table][untouched], 0.0)
    assert table


def test_a_coordinator_that_was_killed_between_model_and_plan_goes_on(tmp_path, monkeypatch):
    world = World(tmp_path, THREE, CUTS, **SMALL)
    for key in THREE:
        world.join(key)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shortlist.training.federated.plan.sign_record", kill)
        with pytest.raises(Killed):
            world.collect()
    names = world.exchange.names()
    assert world.collect().training_round == 1
    assert [n for n in world.exchange.names() if n not in names] == ["plan-0002.json"]


def test_a_model_that_was_changed_is_refused(tmp_path):
    world = World(tmp_path, THREE, CUTS, **SMALL)
    for key in THREE:
        world.join(key)
    world.collect()
    path = next(world.exchange.folder.glob("*.model-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"model-.*: not the file that plan 2 names.*Fix: wait"):
        world.join(THREE[0])


@pytest.mark.slow
@pytest.mark.parametrize("server", ["fedavg", "fedadam"])
def test_unequal_parties_come_near_a_central_training(tmp_path, server):
    """Five parties of 3 to 110 users, six rounds with Adam at home, against all events at once."""
    tf.config.run_functions_eagerly(False)
    keys = tuple(key_of(name) for name in ("a", "b", "c", "d", "e"))
    settings = {
        "model.encoder": "pool", "model.dim": 16, "model.hidden": 16, "train.batch_size": 256,
        "train.learning_rate": 5e-3, "train.warmup_steps": 0, "train.item_init": "cooccurrence",
    }  # fmt: skip
    several = {
        "federated.rounds": 6, "federated.local_epochs": 2, "federated.server_optimizer": server,
        "update.min_users": 1000,
    }  # fmt: skip
    world = World(tmp_path, keys, (0, 3, 20, 50, 110, 220), **settings, **several)
    done = None
    while done is None or done.is_published is None:
        for key in keys:
            world.join(key)
        done = world.collect()
    out = tmp_path / "central.shortlist"
    train(
        events_of().drop("number"), items_table(), out=out, progress=False,
        settings={**settings, "train.epochs": 12, "export.store_users": False},
    )  # fmt: skip
    split = rounds.leave_one_out(house_of(events_of()))
    found = []
    for bundle in (done.bundle, out):
        with shortlist.load(bundle, device="cpu") as engine:
            values = evaluate_users(EngineRanker(engine, split), split).per_user()["NDCG@10"]
            found.append(values.mean())
    assert found[0] >= 0.9 * found[1], found
