"""Schedule, weight decay and weight average, each against numbers worked out by hand."""

import keras
import numpy as np
import pytest

from shortlist.errors import DataError
from shortlist.training.config.sections import TrainConfig
from shortlist.training.config.settings import apply_overrides
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.fit import build_model
from shortlist.training.fit.loop import Loop
from shortlist.training.fit.step import build_optimizer
from shortlist.training.splits.split import leave_one_out


def rates(total_steps, at, **settings):
    optimizer = build_optimizer(TrainConfig(learning_rate=0.1, **settings), total_steps)
    found = []
    for step in at:
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine_to_a_hundredth():
    # Two steps of warm-up, then eight: the cosine is at 1, √½, 0, −√½ and −1.
    middle = 0.99 * 0.5
    falling = [0.01 + middle * (1 + c) for c in (1, 0.5**0.5, 0, -(0.5**0.5), -1)]
    found = rates(10, [0, 1, 2, 4, 6, 8, 10, 99], warmup_steps=2)
    wanted = [0.0, 0.05, *(0.1 * part for part in falling), 0.001]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_constant_rate_stays_where_the_warm_up_ends():
    found = rates(10, [0, 1, 4, 10], warmup_steps=4, schedule="constant")
    np.testing.assert_allclose(found, [0.0, 0.025, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(rates(10, [0, 10], warmup_steps=0, schedule="constant"), [0.1] * 2)


def test_the_warm_up_is_at_most_half_of_a_short_run():
    np.testing.assert_allclose(rates(8, [2, 4, 8], warmup_steps=100), [0.05, 0.1, 0.001], rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "gradient", "wanted"),
    [
        ("sgd", 0.0, 2 - 0.1 * 0.5 * 2),
        ("sgd", 3.0, 2 - 0.1 * 0.5 * 2 - 0.1 * 3),
        ("adam", 0.0, 2 - 0.1 * 0.5 * 2),  # decoupled: no part of what Adam divides
        ("adam", 3.0, 2 - 0.1 * 0.5 * 2 - 0.1),  # its first step is as long as the rate
    ],
)
def test_weight_decay_is_a_part_of_the_weight_times_the_rate(optimizer, gradient, wanted):
    settings = TrainConfig(
        learning_rate=0.1,
        weight_decay=0.5,
        optimizer=optimizer,
        schedule="constant",
        warmup_steps=0,
    )
    weight = keras.Variable(2.0)
    made = build_optimizer(settings, 10)
    made.build([weight])
    made.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    assert float(weight) == pytest.approx(wanted, rel=1e-5)


def test_the_average_moves_by_what_the_momentum_leaves_and_stands_in_for_the_weights(
    shop, small_config, tmp_path
):
    config = apply_overrides(small_config, {"train.ema": 0.75})
    split = leave_one_out(shop)
    model = build_model(config, FeatureSet.fit(shop, split, config), shop, split)
    loop = Loop(model, config, split, tmp_path)
    step = loop.step
    batches = loop.windows.batches(64, seed=1, epoch=0)
    states = [[weight.numpy() for weight in step.weights]]
    for _ in range(2):
        step(next(batches), epoch=0)
        states.append([weight.numpy() for weight in step.weights])
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(*states[1:], strict=True))
    # 0.75 · (0.75 · at first + 0.25 · after one step) + 0.25 · after two
    wanted = [0.5625 * a + 0.1875 * b + 0.25 * c for a, b, c in zip(*states, strict=True)]
    with step.averaged():
        for weight, average in zip(step.weights, wanted, strict=True):
            np.testing.assert_allclose(weight.numpy(), average, atol=1e-6)
    for weight, last in zip(step.weights, states[2], strict=True):
        np.testing.assert_array_equal(weight.numpy(), last)


def test_prefixes_of_an_embedding_are_trained_beside_it_at_length_one(shop, small_config, tmp_path):
    config = apply_overrides(small_config, {"train.matryoshka": [2, 4]})
    loop = loop_of(shop, config, tmp_path)
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    parts = loop.step._by_part(vectors, vectors)
    assert [own.shape[1] for own, _ in parts] == [8, 2, 4]
    for own, other in parts[1:]:
        first = vectors[:, : own.shape[1]]
        wanted = first / np.linalg.norm(first, axis=1, keepdims=True)
        np.testing.assert_allclose(own, wanted, atol=1e-6)
        np.testing.assert_allclose(other, wanted, atol=1e-6)
    batch = next(iter(loop.windows.batches(64, seed=1, epoch=0)))
    assert np.isfinite(float(loop.step(batch, epoch=0)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.matryoshka": [8]}, "lengths below model.dim = 8"),
        ({"train.matryoshka": [2], "model.n_members": 2}, "model.n_members = 2, expected 1"),
    ],
)
def test_prefixes_that_are_none_are_refused(overrides, message, shop, small_config, tmp_path):
    with pytest.raises(DataError, match=message):
        loop_of(shop, apply_overrides(small_config, overrides), tmp_path)


def loop_of(shop, config, folder):
    split = leave_one_out(shop)
    features = FeatureSet.fit(shop, split, config)
    return Loop(build_model(config, features, shop, split), config, split, folder)
