"""What a step on sampled items leaves out or draws more cheaply: the numbers must stay the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from shortlist.training.config.settings import apply_overrides
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.fit import build_model
from shortlist.training.fit.loop import Loop
from shortlist.training.models.layers import byte_dropout, quick_gelu, take_places
from shortlist.training.models.losses import sampled_softmax, signed_mean
from shortlist.training.splits.split import leave_one_out


def gradients(function, *values):
    values = [tf.constant(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    return [result, *tape.gradient(result, values)]


@pytest.mark.parametrize("n_members", [1, 2])
def test_places_alone_are_encoded_as_all_of_them(shop, small_config, n_members):
    config = apply_overrides(small_config, {"model.n_members": n_members})
    split = leave_one_out(shop)
    features = FeatureSet.fit(shop, split, config)
    model = build_model(config, features, shop, split)
    rng = np.random.default_rng(0)
    history = rng.integers(0, 30, (5, 9))
    vectors = rng.normal(size=(5, 9, 8)).astype(np.float32)
    users = features.encode_users(shop.users[:5])
    places = np.array([0, 3, 7, 8, 19])

    def encode(vectors, **which):
        found = model.user_encoder(history, vectors, users, n_targets=4, **which)
        return found if which else tf.gather(found, places)

    got = gradients(lambda v: tf.reduce_sum(encode(v, places=places) ** 3), vectors)
    wanted = gradients(lambda v: tf.reduce_sum(encode(v) ** 3), vectors)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(encode(vectors, places=places), encode(vectors), atol=1e-6)


@pytest.mark.parametrize("places", [[0, 2, 5], [4], []])
def test_places_that_are_not_taken_have_no_gradient(places):
    values = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    rows = tf.constant(places, tf.int64)
    total, slope = gradients(lambda v: tf.reduce_sum(take_places(v, rows) ** 2), values)
    assert float(total) == (values[places] ** 2).sum()
    is_taken = np.isin(np.arange(6), places)[:, None]
    np.testing.assert_array_equal(slope, np.where(is_taken, 2 * values, 0))


def test_byte_dropout_keeps_the_mean_and_repeats_by_seed():
    values, seed = tf.ones((1001, 101)), tf.constant([1, 2])
    found = byte_dropout(values, 0.2, seed).numpy()
    part = 51 / 256
    assert set(np.unique(found)) == {np.float32(0), np.float32(1 / (1 - part))}
    assert abs((found == 0).mean() - part) < 0.005
    rows, columns = (found == 0).mean(axis=1), (found == 0).mean(axis=0)
    assert rows.std() < 0.06  # 0.040 and 0.013 of independent draws
    assert columns.std() < 0.03
    np.testing.assert_array_equal(found, byte_dropout(values, 0.2, seed))
    assert (found != byte_dropout(values, 0.2, tf.constant([1, 3])).numpy()).any()
    assert byte_dropout(values, 0.2, None) is values


def test_quick_gelu_is_gelu_with_its_slope():
    values = np.linspace(-6, 6, 101, dtype=np.float32)
    got = gradients(lambda v: tf.reduce_sum(quick_gelu(v) ** 2), values)
    gelu = keras.activations.gelu
    wanted = gradients(lambda v: tf.reduce_sum(gelu(v, approximate=True) ** 2), values)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_of_the_sampled_softmax_are_those_of_its_formula(smoothing):
    rng = np.random.default_rng(3)
    users, items = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 4), (20, 4)))
    rows, drawn = rng.integers(0, 20, 6), np.array([3, 3, 7, 11, 19, 0])
    rows[:2] = 3, 7  # targets that are drawn too
    log_q = np.log(rng.dirichlet(np.ones(20))).astype(np.float32)
    weights = np.array([1, 2, 0.5, -1, 0, -2], np.float32)

    def plain(users, items):
        lower = tf.gather(log_q, drawn) + np.log(len(drawn)).astype(np.float32)
        own = tf.reduce_sum(users * tf.gather(items, rows), axis=1, keepdims=True) / 0.5
        others = tf.matmul(users, tf.gather(items, drawn), transpose_b=True) / 0.5 - lower
        is_target = rows[:, None] == drawn
        logits = tf.concat([own, tf.where(is_target, -np.inf, others)], axis=1)
        losses = tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
        shown = np.concatenate([np.ones((6, 1), bool), ~is_target], axis=1)
        total = tf.reduce_sum(tf.where(shown, logits, 0.0), axis=1) / shown.sum(axis=1)
        even = tf.reduce_logsumexp(logits, axis=1) - total
        return signed_mean(losses, (1 - smoothing) * losses + smoothing * even, weights)

    def ours(users, items):
        return sampled_softmax(
            users,
            tf.gather(items, rows),
            tf.gather(items, drawn),
            target_rows=rows,
            negative_rows=drawn,
            log_q=log_q,
            weights=weights,
            temperature=0.5,
            label_smoothing=smoothing,
        )

    for got, wanted in zip(
        gradients(ours, users, items), gradients(plain, users, items), strict=True
    ):
        got, wanted = (tf.convert_to_tensor(part).numpy() for part in (got, wanted))
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_sampled_steps_learn_and_repeat_by_seed(shop, small_config, tmp_path):
    settings = {"train.loss": "sampled", "train.n_negatives": 20}
    config = apply_overrides(small_config, settings)
    split = leave_one_out(shop)
    found = []
    for _ in range(2):
        features = FeatureSet.fit(shop, split, config)
        loop = Loop(build_model(config, features, shop, split), config, split, tmp_path)
        for epoch in range(5):
            losses = [float(loop.step(batch, epoch=epoch)) for batch in loop.batches(epoch)]
        found.append((losses, loop.model.get_weights()))
    assert found[0][0] == found[1][0]
    for name, weight in found[0][1].items():
        np.testing.assert_array_equal(weight, found[1][1][name])
    loop.run(False, None)
    assert max(row["NDCG@10"] for row in loop.history) > 0.5
