"""Statistics under differential privacy: bounded contributions, noise, accounting, settings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from shortlist.errors import DataError
from shortlist.training.config.sections import PrivacyConfig
from shortlist.training.config.settings import load_config
from shortlist.training.privacy.accounting import (
    accountant,
    chosen_delta,
    noise_scale,
    total_epsilon,
)
from shortlist.training.privacy.contributions import Bounds, sum_contributions
from shortlist.training.privacy.denoise import Noisy, hides_pairs, item_weights, popularity
from shortlist.training.privacy.noise import STEPS, gaussian_steps, unsafe_bytes
from shortlist.training.privacy.release import UNSAFE, add_noise, claim_of, release
from shortlist.training.privacy.settings import private_config

BOUNDS = Bounds(window=3, decay_gap=0.5, max_events=1000)
N_ITEMS = 12


def contribution(items, bounds=BOUNDS):
    users = np.zeros(len(items), np.int64)
    sums = sum_contributions(users, np.asarray(items), N_ITEMS, bounds)
    return np.concatenate([sums.pairs.ravel(), sums.counts])


@pytest.mark.parametrize(
    "items", [[0], [1, 2], [3, 3, 3, 3], [0, 1] * 50, list(range(12)), [5, 5, 5, 6, 5, 5]]
)
def test_a_user_changes_the_sums_by_a_vector_of_norm_at_most_one(items):
    norm = np.linalg.norm(contribution(items)) / STEPS
    assert norm <= 1.0
    wanted = 1.0 if len(items) > 1 else math.sqrt(BOUNDS.count_share)
    assert norm == pytest.approx(wanted, abs=1e-5)


def test_a_user_whose_events_lie_apart_is_refused_and_not_counted_as_two():
    users, items = np.array([0, 0, 1, 0, 0]), np.array([0, 1, 2, 0, 1])
    with pytest.raises(ValueError, match="users: got numbers that are not ascending"):
        sum_contributions(users, items, N_ITEMS, BOUNDS)


def test_equal_pairs_are_added_up_before_the_norm_is_taken():
    bounds = Bounds(window=1, decay_gap=1.0, max_events=1000, count_share=0.2)
    sums = sum_contributions(np.zeros(5, np.int64), np.array([0, 1, 0, 1, 2]), N_ITEMS, bounds)
    pairs = sums.pairs / STEPS / math.sqrt(0.8)
    expected = np.zeros((N_ITEMS, N_ITEMS))
    expected[0, 1], expected[1, 2] = 3, 1
    np.testing.assert_allclose(pairs, expected / math.sqrt(10), atol=1e-6)
    np.testing.assert_allclose(
        sums.counts[:3] / STEPS / math.sqrt(0.2), np.array([2, 2, 1]) / 3, atol=1e-6
    )


def test_the_sum_over_users_is_the_sum_of_their_contributions_exactly(monkeypatch):
    random = np.random.default_rng(0)
    lists = [random.integers(0, N_ITEMS, random.integers(1, 30)) for _ in range(40)]
    users = np.repeat(np.arange(40), [len(items) for items in lists])
    monkeypatch.setattr("shortlist.training.privacy.contributions._PAIRS_AT_ONCE", 90)
    sums = sum_contributions(users, np.concatenate(lists), N_ITEMS, BOUNDS)
    together = np.concatenate([sums.pairs.ravel(), sums.counts])
    np.testing.assert_array_equal(together, sum(contribution(items) for items in lists))
    np.testing.assert_array_equal(together, np.rint(together))


def test_only_the_latest_events_count():
    few = Bounds(window=3, decay_gap=0.5, max_events=3)
    np.testing.assert_array_equal(
        contribution([9, 8, 7, 0, 1, 2], few), contribution([0, 1, 2], few)
    )


def test_noise_lies_on_the_grid_and_is_gaussian():
    noise = gaussian_steps(200_001, 2.0)
    np.testing.assert_array_equal(noise, np.rint(noise))
    values = noise / STEPS
    assert values.std() == pytest.approx(2.0, rel=0.02)
    assert abs(values.mean()) < 0.03
    assert (np.abs(values) > 4.0).mean() == pytest.approx(0.0455, rel=0.1)
    assert np.mean(values**4) / np.mean(values**2) ** 2 == pytest.approx(3.0, rel=0.1)


def test_noise_comes_from_the_operating_system_anew_each_time():
    assert not np.array_equal(gaussian_steps(8, 1.0), gaussian_steps(8, 1.0))
    repeated = [gaussian_steps(8, 1.0, unsafe_bytes(3)) for _ in range(2)]
    np.testing.assert_array_equal(*repeated)


def test_the_accountants_noise_is_that_of_the_exact_gaussian():
    def delta(sigma, epsilon):
        def below(x):
            return 0.5 * math.erfc(-x / math.sqrt(2))

        a, b = 1 / (2 * sigma), epsilon * sigma
        return below(a - b) - math.exp(epsilon) * below(-a - b)

    for epsilon in (0.5, 1.0, 4.0):
        assert delta(noise_scale(epsilon, 1e-5), epsilon) == pytest.approx(1e-5, rel=1e-4)
    assert noise_scale(8.0, 1e-5) == pytest.approx(0.60023, abs=1e-5)


def test_two_releases_cost_as_much_as_one_with_less_noise():
    sigma = noise_scale(2.0, 1e-5)
    assert total_epsilon([sigma], 1e-5) == pytest.approx(2.0, rel=1e-6)
    both = total_epsilon([sigma, sigma], 1e-5)
    assert both == pytest.approx(total_epsilon([sigma / math.sqrt(2)], 1e-5))
    assert 2.0 < both < 4.0


def test_delta_is_a_power_of_ten_below_what_users_allow():
    assert chosen_delta(0.0, 6040) == 1e-5
    assert chosen_delta(0.0, 943) == 1e-4
    assert chosen_delta(1e-7, 943) == 1e-7


def test_delta_of_one_user_or_more_is_refused():
    with pytest.raises(DataError, match=r"privacy\.delta: got 0\.01 with 100 users, expected less"):
        chosen_delta(0.01, 100)


def test_a_release_says_what_it_costs_and_by_whose_reckoning():
    claim = claim_of(PrivacyConfig(epsilon=2.0), 1000)
    made = release(np.array([0, 0]), np.array([1, 2]), N_ITEMS, claim, BOUNDS)
    ledger = made.ledger
    assert ledger["epsilon"] == 2.0
    assert ledger["sigma"] == noise_scale(2.0, ledger["delta"])
    assert ledger["accountant"] == accountant()
    assert ledger["unit"] == "user"
    assert ledger["bounds"]["window"] == 3
    assert ledger["releases"] == [{"epsilon": 2.0, "delta": 1e-4, "sigma": ledger["sigma"]}]
    assert "NOT PRIVATE" not in ledger["generator"]


def test_a_fixed_seed_is_marked_as_not_private():
    claim = claim_of(PrivacyConfig(epsilon=2.0), 1000)
    made = release(
        np.array([0, 0]), np.array([1, 2]), N_ITEMS, claim, BOUNDS, source=unsafe_bytes(0)
    )
    assert made.ledger["generator"] == UNSAFE


def test_a_budget_counts_earlier_releases():
    first = {"epsilon": 2.0, "delta": 1e-5, "sigma": noise_scale(2.0, 1e-5)}
    settings = PrivacyConfig(epsilon=2.0, delta=1e-5, budget=3.5)
    claim = claim_of(settings, 1000, (first,))
    assert claim.total == pytest.approx(total_epsilon([first["sigma"]] * 2, 1e-5))
    with pytest.raises(DataError, match=r"privacy\.budget: got 2\.5, but this release"):
        claim_of(PrivacyConfig(epsilon=2.0, delta=1e-5, budget=2.5), 1000, (first,))


def test_what_is_released_is_the_sums_with_noise_of_the_claimed_size():
    sums = sum_contributions(np.zeros(3, np.int64), np.array([0, 1, 2]), N_ITEMS, BOUNDS)
    exact = sums.pairs / STEPS / math.sqrt(0.95)
    exact += np.triu(exact, 1).T
    noisy = add_noise(sums, 0.5, BOUNDS, unsafe_bytes(1))
    np.testing.assert_array_equal(noisy.pairs, noisy.pairs.T)
    rest = (noisy.pairs - exact)[np.triu_indices(N_ITEMS)]
    assert rest.std() == pytest.approx(noisy.pair_sigma, rel=0.3)
    assert noisy.pair_sigma == pytest.approx(0.5 / math.sqrt(0.95))
    assert noisy.count_sigma == pytest.approx(0.5 / math.sqrt(0.05))


def made_of_groups(n_users, sigma, seed):
    """Users take items of one group of three after another."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, N_ITEMS // 3, n_users)
    items = np.concatenate([3 * g + random.permutation(3) for g in groups])
    sums = sum_contributions(np.repeat(np.arange(n_users), 3), items, N_ITEMS, BOUNDS)
    return item_weights(add_noise(sums, sigma, BOUNDS, unsafe_bytes(seed)))


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0])
def test_weights_find_what_goes_together_through_the_noise(sigma):
    weights = made_of_groups(600, sigma, 2)
    for item in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), item)
        best = others[np.argsort(-weights[item, others])[:2]]
        assert (best // 3 == item // 3).all()


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_finite_where_all_is_noise(seed):
    assert np.isfinite(made_of_groups(5, 50.0, seed)).all()


def test_where_noise_hides_the_pairs_the_lists_are_those_of_popularity():
    random = np.random.default_rng(0)
    pairs = random.normal(0.0, 3.0, (N_ITEMS, N_ITEMS)).astype(np.float32)
    noisy = Noisy(pairs + pairs.T, random.permutation(N_ITEMS) + 1.0, 5.0, 1.0)
    assert hides_pairs(noisy)
    assert not hides_pairs(replace(noisy, pair_sigma=3.0))
    popular = np.argsort(-popularity(noisy))
    for row in item_weights(noisy):
        np.testing.assert_array_equal(np.argsort(-row), popular)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cleaning.k_core", True),
        ("events.weights.buy", 2.0),
        ("events.half_life_days", 30.0),
        ("linear.trend", 0.5),
        ("linear.repeat", 0.5),
        ("scorer.enabled", True),
        ("data.users", "users.csv"),
        ("export.store_users", True),
        ("choice.minutes", 10.0),
        ("split.protocol", "temporal"),
    ],
)
def test_settings_that_cannot_be_private_are_refused_with_the_reason(name, value):
    given = {"privacy.epsilon": 8.0, name: value, "cleaning.enabled": True}
    config = load_config(overrides=given)
    shown = name.removesuffix(".buy")
    with pytest.raises(DataError, match=rf"{shown}: got .* with privacy\.epsilon, expected .*Fix:"):
        private_config(config, set(given))


def test_settings_that_nobody_gave_are_replaced_and_it_is_said():
    config, notes = private_config(load_config(overrides={"privacy.epsilon": 8.0}), set())
    assert not config.export.store_users
    assert config.choice.minutes == 0.0
    assert config.split.protocol == "leave-one-out"
    assert config.model.encoder == "cooccurrence"
    assert sum("export.store_users" in note for note in notes) == 1


def test_an_encoder_that_was_asked_for_stays():
    given = {"privacy.epsilon": 8.0, "model.encoder": "popularity"}
    config, _ = private_config(load_config(overrides=given), set(given))
    assert config.model.encoder == "popularity"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("privacy.epsilon", 0),
        ("privacy.epsilon", -1.0),
        ("privacy.epsilon", math.nan),
        ("privacy.delta", -1e-5),
        ("privacy.unit", "event"),
        ("privacy.mechanism", "laplace"),
        ("privacy.contribution", 1),
        ("privacy.budget", 0.0),
    ],
)
def test_values_that_promise_nothing_are_refused(name, value):
    with pytest.raises(DataError, match=rf"{name}: got .*(expected|allowed)"):
        load_config(overrides={name: value})
