import numpy as np
import pytest

from shortlist.training.teacher import (
    GAP_DECAY,
    WINDOW,
    Teacher,
    count_followers,
    first_vectors,
)


def brute_force(histories, n_items):
    counts = np.zeros((n_items, n_items))
    for history in histories:
        for a, i in enumerate(history):
            for gap, j in enumerate(history[a + 1 : a + 1 + WINDOW], 1):
                counts[i, j] += GAP_DECAY ** (gap - 1)
    return counts


@pytest.fixture(scope="module")
def histories():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 9, n) for n in (1, 3, 15, 8)]


@pytest.fixture(scope="module")
def follows(histories):
    lengths = np.array([len(h) for h in histories])
    return count_followers(np.concatenate(histories), lengths, 10)


def test_followers_are_counted_within_users_and_fade_with_the_gap(follows, histories):
    np.testing.assert_allclose(follows.toarray(), brute_force(histories, 10))


@pytest.mark.parametrize("n_targets", [0, 2])
def test_the_mean_item_is_that_of_the_faded_chances(follows, n_targets):
    items = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    history = np.array([[0, 0, 3, 1], [2, 0, 5, 9], [10, 10, 10, 10]])
    counts = follows.toarray()
    damped = counts * np.maximum(counts.sum(axis=0), 1.0) ** -0.25
    sums = damped.sum(axis=1, keepdims=True)
    chances = np.divide(damped, sums, out=np.zeros_like(damped), where=sums > 0)
    means, knows = Teacher(follows, decay=0.5).mean_items(history, items, n_targets)
    row = 0
    for codes in history:
        for end in range(len(codes))[-n_targets:]:
            scores = sum(
                0.5 ** (end - a) * chances[codes[a] - 1] for a in range(end + 1) if codes[a]
            )
            known = np.sum(scores) > 0
            assert knows[row, 0] == known
            wanted = scores @ items / np.sum(scores) if known else np.zeros(4)
            np.testing.assert_allclose(means[row], wanted, atol=1e-5)
            row += 1
    assert row == len(means)


def test_first_vectors_put_partners_side_by_side():
    # Two groups that never meet.
    rng = np.random.default_rng(2)
    histories = [rng.permutation(5) + 5 * (u % 2) for u in range(40)]
    follows = count_followers(np.concatenate(histories), np.full(40, 5), 12)
    vectors = first_vectors(follows, 4, seed=1)
    assert vectors.shape == (12, 4)
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    assert cosine[:5, :5].min() > np.abs(cosine[:5, 5:10]).max() + 0.1
    np.testing.assert_array_equal(vectors, first_vectors(follows, 4, seed=1))
    assert np.isfinite(vectors).all()


def test_without_any_pair_the_first_vectors_are_random():
    follows = count_followers(np.array([0, 1]), np.array([1, 1]), 3)
    vectors = first_vectors(follows, 4, seed=1)
    assert np.isfinite(vectors).all()
    assert np.abs(vectors).min(axis=1).max() > 0
