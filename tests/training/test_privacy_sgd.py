"""Noisy steps (DP-SGD): one bounded vector a user, Poisson batches, noise, the account of all."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.config.sections import PrivacyConfig
from shortlist.training.config.settings import load_config
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.private_steps import PrivateSteps
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.pipeline import private
from shortlist.training.privacy.accounting import Steps, noise_scale, steps_for, total_epsilon
from shortlist.training.privacy.noise import STEPS, unsafe_bytes
from shortlist.training.privacy.release import claim_of
from shortlist.training.privacy.settings import private_config
from shortlist.training.privacy.sgd import add_noise, drawn_below, drawn_users
from shortlist.training.privacy.walks import walks_dataset
from shortlist.training.splits.split import configured_split
from tests.training.test_private_bundle import decoded, every_file, make

N_ITEMS, DIM, DELTA = 12, 4, 1e-5


def model_of(encoder):
    settings = {
        **{"model.encoder": encoder, "model.dim": DIM, "model.hidden": 8, "train.epochs": 1},
        **{"model.history_length": 8, "model.n_blocks": 1},
    }
    config = load_config(overrides=settings)
    table = pl.DataFrame({"item_id": np.arange(N_ITEMS), "genre": list("abc") * (N_ITEMS // 3)})
    walks = np.stack([np.random.default_rng(i).permutation(N_ITEMS)[:6] for i in range(20)])
    dataset = walks_dataset(walks, table, pl.Int64())
    features = FeatureSet.fit(dataset, configured_split(dataset, config), config)
    return TwoTower(config, features, features.encode_items(table))


def histories(lengths=(1, 2, 5, 8)):
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(len(lengths)), lengths)
    return users, random.integers(0, N_ITEMS, len(users))


def norm_of(parts):
    return np.sqrt(sum(float((part**2).sum()) for part in parts)) / STEPS


@pytest.mark.parametrize("encoder", ["pool", "transformer"])
def test_a_user_changes_the_sum_by_norm_one_and_by_no_more(encoder):
    steps = PrivateSteps(model_of(encoder), *histories(), learning_rate=1e-3)
    assert steps.n_users == 4
    alone = [steps.sum_gradients(np.array([user])) for user in range(4)]
    for parts in alone:
        assert norm_of(parts) <= 1.0
        assert norm_of(parts) == pytest.approx(1.0, abs=3e-4)
    together = steps.sum_gradients(np.arange(4))
    for k, part in enumerate(together):  # exactly: nobody's vector depends on the others
        np.testing.assert_array_equal(part, sum(parts[k] for parts in alone))
        np.testing.assert_array_equal(part, np.rint(part))


def test_a_step_without_users_is_noise_alone():
    steps = PrivateSteps(model_of("pool"), *histories(), learning_rate=1e-3)
    assert all(not part.any() for part in steps.sum_gradients(np.array([], np.int64)))


def test_steps_move_every_weight_and_the_table_that_histories_are_looked_up_in():
    model = model_of("pool")
    before = {name: value.copy() for name, value in model.get_weights().items()}
    steps = PrivateSteps(model, *histories(), learning_rate=1e-2)
    steps.run(Steps(1.0, 0.5, 2), source=unsafe_bytes(0), progress=False)
    for name, value in model.get_weights().items():
        assert np.isfinite(value).all(), name
        assert not np.array_equal(value, before[name]), name
    table = model.history_lookup.table.numpy()[1:]
    np.testing.assert_allclose(table, model.item_vectors(), atol=1e-6)


def test_steps_learn_what_the_users_do():
    model = model_of("pool")
    users, items = np.repeat(np.arange(30), 6), np.tile([0, 1, 2, 0, 1, 2], 30)
    PrivateSteps(model, users, items, learning_rate=1e-1).run(
        Steps(0.05, 0.5, 10), source=unsafe_bytes(0), progress=False
    )
    own = model.encode_users(np.array([[1, 2, 3, 1]]), {})
    assert set(np.argsort(-(own @ model.item_vectors().T)[0])[:3]) == {0, 1, 2}


def test_every_user_is_drawn_by_itself_with_the_rate():
    draws = np.zeros((400, 500), bool)
    for row in draws:
        row[drawn_users(500, 0.2)] = True
    assert draws.mean() == pytest.approx(0.2, abs=0.01)
    sizes = draws.sum(axis=1)
    assert sizes.var() == pytest.approx(500 * 0.2 * 0.8, rel=0.4)  # no fixed size of a batch
    assert len(drawn_users(500, 1.0)) == 500


def test_stretches_end_anywhere_with_the_same_chance():
    drawn = drawn_below(np.full(6000, 5))
    assert set(drawn) == set(range(6))
    assert stats.chisquare(np.bincount(drawn)).pvalue > 1e-6


def test_the_noise_of_a_step_is_that_of_its_sigma():
    total = np.full((300, 400), 3.0 * STEPS)
    noisy = add_noise(total, 1.5, unsafe_bytes(0))
    assert noisy.mean() == pytest.approx(3.0 / 1.5, abs=0.02)
    assert noisy.std() == pytest.approx(1.0, rel=0.02)


def test_steps_that_see_all_users_cost_as_much_as_gaussians():
    together = total_epsilon([2.0], DELTA, [Steps(3.0, 1.0, 4)])
    assert together == pytest.approx(total_epsilon([2.0, 3.0, 3.0, 3.0, 3.0], DELTA), rel=2e-3)
    few = total_epsilon([2.0], DELTA, [Steps(3.0, 0.1, 4)])
    assert total_epsilon([2.0], DELTA) < few < together


def test_the_noise_of_steps_is_what_the_rest_of_epsilon_allows():
    first = noise_scale(1.0, DELTA)
    steps = steps_for(2.0, DELTA, first, 0.2, 3)
    cost = total_epsilon([first], DELTA, [steps])
    assert 1.99 < cost <= 2.0
    less = Steps(0.97 * steps.sigma, steps.rate, steps.n_steps)
    assert total_epsilon([first], DELTA, [less]) > 2.0


def test_a_budget_counts_the_steps_of_earlier_trainings():
    wanted = {"epsilon": 2.0, "delta": DELTA, "mechanism": "sgd", "rate": 0.2, "steps": 3}
    first = claim_of(PrivacyConfig(**wanted), 1000)
    assert first.total == 2.0
    assert first.own["steps"] == first.steps.to_dict()
    second = claim_of(PrivacyConfig(**wanted), 1000, (first.own,))
    assert 2.5 < second.total < 4.0
    with pytest.raises(DataError, match=r"privacy\.budget: got 2\.5, but this release"):
        claim_of(PrivacyConfig(**wanted, budget=2.5), 1000, (first.own,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"privacy.mechanism": "sgd", "model.encoder": "ease"}, r"model\.encoder: got 'ease'"),
        ({"privacy.rate": 0.2}, r"privacy\.rate: got 0\.2 with privacy\.mechanism 'statistics'"),
        ({"privacy.steps": 9}, r"privacy\.steps: got 9 with privacy\.mechanism 'statistics'"),
    ],
)
def test_settings_that_do_not_fit_the_mechanism_are_refused(settings, message):
    given = {"privacy.epsilon": 8.0, **settings}
    with pytest.raises(DataError, match=rf"{message}.*Fix:"):
        private_config(load_config(overrides=given), set(given))


def test_the_encoder_that_nobody_chose_is_one_that_is_trained():
    given = {"privacy.epsilon": 8.0, "privacy.mechanism": "sgd"}
    config, _ = private_config(load_config(overrides=given), set(given))
    assert config.model.encoder == "pool"


SETTINGS = {
    **{"privacy.mechanism": "sgd", "privacy.steps": 3, "privacy.rate": 0.5},
    **{"model.encoder": "pool", "model.dim": 8, "train.epochs": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private, "N_TRAINED", 200)
        return make(tmp_path_factory.mktemp("descended"), settings=SETTINGS)


def test_the_ledger_has_the_steps_and_inspect_says_them(made, capsys):
    with Bundle.open(made.bundle) as bundle:
        ledger, record = bundle.manifest["privacy"], bundle.manifest.privacy
    steps = Steps.read(ledger["steps"])
    assert (steps.rate, steps.n_steps) == (0.5, 3)
    assert ledger["releases"][0]["steps"] == ledger["steps"]
    cost = total_epsilon([ledger["sigma"]], ledger["delta"], [steps])
    assert 7.9 < cost <= ledger["epsilon"] == 8.0
    assert "gradients of users drawn by chance" in ledger["mechanism"]
    assert "in each of 3 steps, which see 0.5 of the users by chance" in record.sentence
    assert main(["inspect", str(made.bundle)]) == 0
    assert record.sentence in " ".join(capsys.readouterr().out.split())


def test_nothing_of_a_user_is_in_the_files(made):
    for path in every_file(made):
        if path.suffix != ".npz" or path.name == "release.npz":
            assert "secret-user" not in decoded(path), path
    manifest = json.loads((made.bundle / "manifest.json").read_text())
    assert manifest["metrics"] == {}


def test_it_serves_and_is_audited(made, capsys):
    with made.load() as engine:
        assert engine.recommend({"history": [["i0"]]}, top_n=3).counts.tolist() == [3]
    assert main(["audit", str(made.bundle), "--canaries", "500"]) == 0
    assert "promised 8 at delta 0.001" in capsys.readouterr().out


def test_a_killed_descent_is_no_finished_run_and_is_not_resumed(tmp_path, monkeypatch, capsys):
    def kill(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(private, "N_TRAINED", 200)
    monkeypatch.setattr(private.PrivateSteps, "run", kill)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, settings=SETTINGS)
    run = tmp_path / "a.run"
    assert json.loads((run / "privacy.json").read_text())["epsilon"] == 8.0
    assert main(["export", str(run), "--out", str(tmp_path / "b.shortlist")]) == 1
    assert "is unfinished (no weights.npz); train anew" in capsys.readouterr().err
    with pytest.raises(DataError, match="resume: got True with privacy"):
        make(tmp_path, settings=SETTINGS, resume=True)
    with pytest.raises(DataError, match="already holds a private run, which does not go on"):
        make(tmp_path, settings=SETTINGS)
