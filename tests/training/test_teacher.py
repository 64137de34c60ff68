import numpy as np
import polars as pl
import pytest

from shortlist.training.config.settings import load_config
from shortlist.training.data.events import Dataset, make_events
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.loop import Loop
from shortlist.training.fit.teacher import (
    GAP_DECAY,
    WINDOW,
    Teacher,
    count_followers,
    damp_popular,
    first_vectors,
    positive_weights,
    strongest,
)
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.splits.parts import Split


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


def test_pairs_count_by_their_weights_and_dislikes_not_at_all():
    rows, lengths = np.array([0, 1, 2, 0, 1]), np.array([3, 2])
    follows = count_followers(rows, lengths, 3, np.array([1.0, -1.0, 0.5, 2.0, 3.0])).toarray()
    expected = np.zeros((3, 3))
    expected[0, 2], expected[0, 1] = 0.8 * 0.5, 6.0  # over the disliked item 1, and of user 2
    np.testing.assert_allclose(follows, expected)
    alike = count_followers(rows, lengths, 3, np.ones(5)).toarray()
    np.testing.assert_array_equal(alike, count_followers(rows, lengths, 3).toarray())


def test_members_begin_with_the_same_factors_and_noise_of_their_own(follows):
    alone, both = first_vectors(follows, 4, 7), first_vectors(follows, 4, 7, n_members=2)
    np.testing.assert_array_equal(both[:, :4], alone)
    assert both.shape == (10, 8)
    assert 0 < np.abs(both[:, 4:] - alone).max() < 1


@pytest.mark.parametrize("n_targets", [0, 2])
def test_the_mean_item_is_that_of_the_faded_chances(follows, n_targets):
    items = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    history = np.array([[0, 0, 3, 1], [2, 0, 5, 9], [10, 10, 10, 10]])
    counts = follows.toarray()
    damped = counts * np.maximum(counts.sum(axis=0), 1.0) ** -0.25
    sums = damped.sum(axis=1, keepdims=True)
    chances = np.divide(damped, sums, out=np.zeros_like(damped), where=sums > 0)
    teacher = Teacher(damp_popular(follows), decay=0.5)
    means, knows = teacher.mean_items(history, items, n_targets)
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


def test_of_other_weights_the_largest_positive_ones_count(monkeypatch):
    monkeypatch.setattr("shortlist.training.fit.teacher.N_FOLLOWERS", 2)
    weights = np.array(
        [[0.0, 0.3, 0.1, 0.2], [0.5, 0.0, -0.1, 0.0], [-1.0, -1.0, 0.0, -1.0], [0] * 4]
    )
    found = positive_weights(weights).toarray()
    np.testing.assert_allclose(found, [[0, 0.3, 0, 0.2], [0.5, 0, 0, 0], [0] * 4, [0] * 4])
    np.testing.assert_allclose(
        strongest(positive_weights(weights)).toarray(),
        [[0, 0.6, 0, 0.4], [1, 0, 0, 0], [0] * 4, [0] * 4],
    )


@pytest.mark.parametrize("wanted", ["cooccurrence", "ease", "both"])
def test_the_teacher_is_the_model_that_the_settings_name(wanted, tmp_path):
    # Users a b | a b c | b a: what follows what is no matter of EASE.
    events = make_events(pl.Series([0, 0, 1, 1, 1, 2, 2]), pl.Series([0, 1, 0, 1, 2, 1, 0]))
    split = Split(Dataset("toy", events), events, events.head(0), events.head(0), "none")
    settings = {"train.teacher": 0.5, "train.teacher_model": wanted, "linear.ease_l2": 1.0}
    config = load_config(overrides=settings | {"model.dim": 4})
    features = FeatureSet.fit(split.dataset, split, config)
    model = TwoTower(config, features)
    follows = np.array([[0, 2, 0.8], [1, 0, 1], [0, 0, 0]])
    popularity = np.array([1.0, 2.0, 1.8])  # sums of the columns
    follows = follows / popularity**0.25
    seen = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    inverse = np.linalg.inv(seen.T @ seen + np.eye(3))
    ease = np.maximum(-inverse / np.diag(inverse) * (1 - np.eye(3)), 0)
    parts = {"cooccurrence": [follows], "ease": [ease], "both": [follows, ease]}[wanted]
    chances = sum(part[:2] / part[:2].sum(axis=1, keepdims=True) for part in parts) / len(parts)
    teacher = Loop(model, config, split, tmp_path).step.teacher
    means, _ = teacher.mean_items(np.array([[1], [2]]), np.eye(3, dtype=np.float32), 1)
    np.testing.assert_allclose(means, chances, atol=1e-6)
