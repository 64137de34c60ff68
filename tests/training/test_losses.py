import numpy as np
import pytest
import tensorflow as tf

from shortlist.training.fit.step import UNIQUE_MULTIPLE, compact
from shortlist.training.models.losses import (
    NegativeSampler,
    binary_cross_entropy,
    bpr,
    chunked_softmax,
    full_softmax,
    gbce,
    mean_squared_error,
    sampled_softmax,
)

N_USERS, N_ITEMS, DIM = 6, 50, 8


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    users = rng.normal(size=(N_USERS, DIM)).astype(np.float32)
    items = rng.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    return (
        users / np.linalg.norm(users, axis=1, keepdims=True),
        items / np.linalg.norm(items, axis=1, keepdims=True),
        rng.integers(0, N_ITEMS, N_USERS),
    )


def reference(users, items, rows, weights, temperature, smoothing):
    logits = users.astype(np.float64) @ items.T.astype(np.float64) / temperature
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(N_ITEMS)[rows] + smoothing / N_ITEMS
    return (-(target * log_p).sum(axis=1) * weights).sum() / weights.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_full_softmax_equals_the_textbook(vectors, smoothing):
    users, items, rows = vectors
    weights = np.array([1, 1, 0, 2, 1, 1], np.float32)
    loss = full_softmax(users, items, rows, weights, temperature=0.1, label_smoothing=smoothing)
    wanted = reference(users, items, rows, weights, 0.1, smoothing)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sampled_softmax_over_every_item_equals_the_full_one(vectors, smoothing):
    users, items, rows = vectors
    weights = np.ones(N_USERS, np.float32)
    # Each item once: expected count 1 each, so the correction is log(1) = 0.
    got = sampled_softmax(
        users,
        items[rows],
        items,
        target_rows=rows,
        negative_rows=np.arange(N_ITEMS),
        log_q=np.full(N_ITEMS, -np.log(N_ITEMS), np.float32),
        weights=weights,
        temperature=0.1,
        label_smoothing=smoothing,
    )
    wanted = reference(users, items, rows, weights, 0.1, smoothing)
    assert float(got) == pytest.approx(wanted, rel=1e-5)


def test_log_q_correction_makes_the_sampled_loss_close_to_the_full_one(vectors):
    users, items, rows = vectors
    users, rows = users[:1], rows[:1]
    liked = np.argsort(np.argsort(items @ users[0]))  # popular items are the user's favourites
    sampler = NegativeSampler(liked**2, power=1.0)
    drawn = sampler.sample(200_000, np.random.default_rng(1))
    weights = np.ones(1, np.float32)
    common = {
        "target_rows": rows,
        "negative_rows": drawn,
        "weights": weights,
        "temperature": 0.5,
    }
    full = float(full_softmax(users, items, rows, weights, temperature=0.5))
    corrected = float(
        sampled_softmax(users, items[rows], items[drawn], log_q=sampler.log_q, **common)
    )
    even = np.full(N_ITEMS, -np.log(N_ITEMS), np.float32)
    biased = float(sampled_softmax(users, items[rows], items[drawn], log_q=even, **common))
    assert corrected == pytest.approx(full, abs=0.02)
    assert abs(biased - full) > 0.1


def test_a_negative_that_is_the_target_does_not_count_against_it(vectors):
    users, items, _ = vectors
    rows = np.zeros(N_USERS, np.int64)
    loss = sampled_softmax(
        users,
        items[rows],
        items[rows],
        target_rows=rows,
        negative_rows=rows,
        log_q=np.zeros(N_ITEMS, np.float32),
        weights=np.ones(N_USERS, np.float32),
        temperature=0.1,
    )
    assert float(loss) == 0.0


def test_losses_of_the_scorer():
    targets, scores = np.array([1, 0, 0.5], np.float32), np.array([0.9, 0.2, 0.5], np.float32)
    weights = np.array([1, 1, 0], np.float32)
    assert float(mean_squared_error(targets, scores, weights)) == pytest.approx(0.025)
    wanted = -(np.log(0.9) + np.log(0.8)) / 2
    assert float(binary_cross_entropy(targets, scores, weights)) == pytest.approx(wanted, rel=1e-5)
    certain = np.array([0, 1, 0.5], np.float32)
    assert np.isfinite(float(binary_cross_entropy(targets, certain, weights)))


def test_all_weights_zero_gives_zero_not_nan():
    zero = np.zeros(3, np.float32)
    assert float(mean_squared_error(zero, zero + 1, zero)) == 0.0


def test_the_sampler_draws_in_proportion_to_its_probabilities():
    sampler = NegativeSampler(np.array([0, 3, 15]), power=0.5)
    np.testing.assert_allclose(np.exp(sampler.log_q), np.array([1, 2, 4]) / 7, rtol=1e-6)
    counts = np.bincount(sampler.sample(70_000, np.random.default_rng(0)), minlength=3)
    np.testing.assert_allclose(counts / 70_000, np.array([1, 2, 4]) / 7, atol=0.01)


def test_compact_renumbers_and_keeps_padding():
    history, target = np.array([[0, 7, 3], [9, 0, 7]]), np.array([3, 20])
    rows, (new_history, new_target) = compact(history, target)
    assert len(rows) == UNIQUE_MULTIPLE
    codes = np.concatenate([[0], rows + 1])
    np.testing.assert_array_equal(codes[new_history], history)
    np.testing.assert_array_equal(codes[new_target], target)
    rows, (only,) = compact(np.array([5, 2]))  # nothing is padding
    np.testing.assert_array_equal(np.concatenate([[0], rows + 1])[only], [5, 2])


def test_gradients_reach_users_and_items(vectors):
    users, items, rows = (tf.constant(part) for part in vectors)
    with tf.GradientTape() as tape:
        tape.watch([users, items])
        loss = full_softmax(users, items, rows, tf.ones(N_USERS), temperature=0.1)
    for gradient in tape.gradient(loss, [users, items]):
        assert float(tf.reduce_max(tf.abs(gradient))) > 0


@pytest.mark.parametrize("chunk_logits", [1, 120, 10**6])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_chunked_softmax_and_its_gradients_equal_the_full_one(vectors, smoothing, chunk_logits):
    users, items, rows = vectors
    weights = tf.constant([1, -0.5, 0, 2, -3, 1], tf.float32)
    results = []
    for loss_of, more in ((full_softmax, {}), (chunked_softmax, {"chunk_logits": chunk_logits})):
        u, i = tf.Variable(users), tf.Variable(items)
        with tf.GradientTape() as tape:
            tripled = 3.0 * loss_of(
                u, i, rows, weights, temperature=0.1, label_smoothing=smoothing, **more
            )
        results.append((tripled, *tape.gradient(tripled, [u, i])))
    for got, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(got), tf.convert_to_tensor(wanted), atol=2e-5
        )


def test_a_taught_share_is_cross_entropy_with_the_mixed_target(vectors):
    users, items, rows = vectors
    chances = np.random.default_rng(3).dirichlet(np.ones(N_ITEMS), N_USERS).astype(np.float32)
    knows = np.array([1, 1, 0, 1, 1, 0], np.float32)[:, None]
    logits = users @ items.T / 0.1
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    share = 0.3 * knows
    wanted = -(((1 - share) * np.eye(N_ITEMS)[rows] + share * chances) * log_p).sum(axis=1).mean()
    taught = (tf.constant(chances @ items), tf.constant(knows))
    got = chunked_softmax(
        users,
        items,
        rows,
        np.ones(N_USERS, np.float32),
        temperature=0.1,
        taught=taught,
        taught_share=0.3,
    )
    assert float(got) == pytest.approx(wanted, rel=1e-5)


def sampled_parts(vectors):
    users, items, rows = vectors
    negative_rows = np.array([*rows[:2], 7, 8, 9])  # some are targets
    weights = np.array([1, -2, 0, 2, 1, 1], np.float32)
    parts = {
        "target_rows": rows,
        "negative_rows": negative_rows,
        "weights": weights,
        "temperature": 0.5,
    }
    logits = users @ items.T / 0.5
    return (users, items[rows], items[negative_rows]), parts, logits


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_equals_the_formula_of_its_paper(vectors, calibration):
    arrays, parts, logits = sampled_parts(vectors)
    alpha = 5 / (N_ITEMS - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    total = 0.0
    for u, (target, weight) in enumerate(zip(parts["target_rows"], parts["weights"], strict=True)):
        others = [r for r in parts["negative_rows"] if r != target]
        loss = -beta * log_sigmoid(logits[u, target]) - log_sigmoid(-logits[u, others]).sum()
        total += abs(weight) * (loss if weight >= 0 else -log_sigmoid(-logits[u, target]))
    got = gbce(*arrays, **parts, n_items=N_ITEMS, calibration=calibration)
    assert float(got) == pytest.approx(total / np.abs(parts["weights"]).sum(), rel=1e-5)


def test_bpr_equals_the_formula_of_its_paper(vectors):
    arrays, parts, logits = sampled_parts(vectors)
    total = 0.0
    for u, (target, weight) in enumerate(zip(parts["target_rows"], parts["weights"], strict=True)):
        others = [r for r in parts["negative_rows"] if r != target]
        lead = (logits[u, target] - logits[u, others]) * np.sign(weight)
        total += abs(weight) * -log_sigmoid(lead).mean()
    got = bpr(*arrays, **parts)
    assert float(got) == pytest.approx(total / np.abs(parts["weights"]).sum(), rel=1e-5)
