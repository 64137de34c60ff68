"""Baselines equal their formulas, exclude seen items, and reach known figures on MovieLens-100K."""

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.events import make_events
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.models.als import ImplicitALS
from shortlist.training.models.baselines import Popularity
from shortlist.training.models.ease import EASE
from shortlist.training.models.item_item import ItemKNN, RecencyItemKNN
from shortlist.training.splits.split import leave_one_out

# Four users over five items; item 4 never occurs.
USERS = [0, 0, 0, 1, 1, 2, 2, 2, 3]
ITEMS = [0, 1, 2, 0, 1, 1, 2, 3, 1]
TRAIN = make_events(pl.Series(USERS), pl.Series(ITEMS))
CATALOGUE = np.arange(5)
SEEN = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 0, 0]], float)
ALL = [Popularity, ItemKNN, RecencyItemKNN, EASE]


def rank(model, histories, top_n=5):
    lists = [np.array(rows, dtype=np.int64) for rows in histories]
    return model.fit(TRAIN, CATALOGUE).rank(lists, np.arange(len(lists)), top_n)


def best_first(scores, seen):
    """Order by score, of items with score 0 by popularity, and then by row."""
    popularity = np.where(scores == 0, SEEN.sum(axis=0), 0)
    order = [r for r in np.lexsort((np.arange(5), -popularity, -scores)) if r not in seen]
    return [*order, *[-1] * (5 - len(order))]


def test_popularity_ranks_by_count_and_ties_by_row():
    assert rank(Popularity(), [[], [1], [0, 1, 2, 3, 4]]).tolist() == [
        [1, 0, 2, 3, 4],
        [0, 2, 3, 4, -1],
        [-1] * 5,
    ]


@pytest.mark.parametrize(("n_neighbours", "shrink"), [(5, 0.0), (5, 10.0)])
def test_item_knn_equals_the_dense_formula(n_neighbours, shrink):
    both = SEEN.T @ SEEN
    norm = np.sqrt(np.outer(np.diag(both), np.diag(both))) + shrink
    similarity = np.divide(both, norm, out=np.zeros((5, 5)), where=norm > 0)
    np.fill_diagonal(similarity, 0)
    got = rank(ItemKNN(n_neighbours, shrink), [[0], [3, 0]])
    assert got[0].tolist() == best_first(similarity[0], [0])
    assert got[1].tolist() == best_first(similarity[3] + similarity[0], [3, 0])


def test_item_knn_keeps_the_best_neighbours_only():
    # Of item 0's neighbours item 1 (2 / √8) comes before item 2 (1 / 2); of item 3 it is item 2,
    # and the rest follows by popularity: item 1 (4 events), item 0 (2), item 4 (none).
    assert rank(ItemKNN(1, 0.0), [[0], [3]]).tolist() == [[1, 2, 3, 4, -1], [2, 1, 0, 4, -1]]


def test_recency_knn_equals_the_formula_pair_by_pair():
    model = RecencyItemKNN(window=2, decay_gap=0.5, decay_age=0.8, power=0.5)
    counts = np.maximum(SEEN.sum(axis=0), 1)
    follows = np.zeros((5, 5))
    for user in range(4):
        events = [i for u, i in zip(USERS, ITEMS, strict=True) if u == user]
        for at, i in enumerate(events):
            for gap, j in enumerate(events[at + 1 : at + 3], 1):
                follows[i, j] += 0.5 ** (gap - 1)
    follows /= counts[:, None] * counts[None, :] ** 0.5
    got = rank(model, [[1], [0, 1], [2, 0]])
    assert got[0].tolist() == best_first(follows[1], [1])
    assert got[1].tolist() == best_first(follows[1] + 0.8 * follows[0], [0, 1])
    assert got[2].tolist() == best_first(follows[0] + 0.8 * follows[2], [2, 0])


def test_recency_is_that_of_the_latest_event_with_an_item():
    once = rank(RecencyItemKNN(), [[0, 1]])
    assert rank(RecencyItemKNN(), [[1, 0, 1]]).tolist() == once.tolist()


def test_ease_equals_the_closed_form():
    inverse = np.linalg.inv(SEEN.T @ SEEN + 3 * np.eye(5))
    weights = np.eye(5) - inverse / np.diag(inverse)
    got = rank(EASE(l2=3), [[0], [2, 3]])
    assert got[0].tolist() == best_first(weights[0], [0])
    assert got[1].tolist() == best_first(weights[2] + weights[3], [2, 3])


def test_ease_damps_long_histories_and_popular_items():
    n_items, n_users = SEEN.sum(axis=1), np.maximum(SEEN.sum(axis=0), 1)
    damped = SEEN * (n_items / n_items.mean())[:, None] ** -0.4 * (n_users / n_users.mean()) ** -0.7
    inverse = np.linalg.inv(damped.T @ damped + 3 * np.eye(5))
    weights = np.eye(5) - inverse / np.diag(inverse)
    weights *= (n_users / n_users.mean())[:, None] ** -0.7
    model = EASE(3, user_power=0.4, item_power=0.7).fit(TRAIN, CATALOGUE)
    np.testing.assert_allclose(model.item_vectors()[:, 1:], weights.T, atol=1e-5)  # of 2^-16
    got = rank(model, [[0], [2, 3]])
    assert got[0].tolist() == best_first(weights[0], [0])
    assert got[1].tolist() == best_first(weights[2] + weights[3], [2, 3])


@pytest.mark.parametrize("model", ALL)
def test_seen_items_never_come_back_and_more_places_than_items_are_missing(model):
    got = rank(model(), [[1, 2, 1], []], top_n=9)
    assert got.shape == (2, 9)
    assert got.dtype == np.int64
    assert not np.isin(got[0], [1, 2]).any()
    assert (got[:, 5:] == -1).all()


@pytest.mark.parametrize("model", ALL)
def test_results_do_not_depend_on_how_users_are_grouped(model, monkeypatch):
    histories = [[0], [1, 2], [3], [2, 0]]
    whole = rank(model(), histories)
    monkeypatch.setattr("shortlist.training.models.baselines._SCORES_AT_ONCE", 5)
    assert rank(model(), histories).tolist() == whole.tolist()
    assert rank(model(), []).shape == (0, 5)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: ItemKNN(n_neighbours=0),
            "got n_neighbours=0, shrink=10.0, expected n_neighbours ≥ 1",
        ),
        (
            lambda: RecencyItemKNN(decay_age=1.5),
            "decay_age=1.5, expected window ≥ 1 and decays in (0",
        ),
        (lambda: EASE(l2=0), "got l2=0, expected l2 > 0"),
        (
            lambda: EASE(max_items=4).fit(TRAIN, CATALOGUE),
            "EASE: got 5 items, expected at most max_item",
        ),
        (lambda: Popularity().rank([], np.arange(0), 5), "Popularity: got rank before fit"),
        (
            lambda: Popularity().fit(TRAIN, np.arange(3)),
            "train: got item_id 3, expected ids of the cat",
        ),
    ],
)
def test_bad_use_is_named(act, message):
    with pytest.raises(DataError) as caught:
        act()
    assert message in str(caught.value)


def test_movielens_100k_figures_are_reached():
    split = leave_one_out(load_dataset("movielens-100k", progress=False))
    models = {"popularity": Popularity(), "recency": RecencyItemKNN(), "ease": EASE()}
    got = {
        name: evaluate(model.fit(split.train, split.catalogue), split, ks=(10,))
        for name, model in models.items()
    }
    assert got["popularity"]["HR@10"] == pytest.approx(0.0859, abs=5e-4)
    assert got["popularity"]["NDCG@10"] == pytest.approx(0.0448, abs=5e-4)
    assert got["ease"]["NDCG@10"] > 0.070
    assert got["recency"]["HR@10"] > 0.199
    assert got["recency"]["NDCG@10"] > 0.109


def test_implicit_als_finds_groups_and_solves_a_history_exactly():
    pytest.importorskip("implicit", reason="the library implicit is not installed")
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 4)
    items = np.concatenate([rng.permutation(6)[:4] + 6 * (u % 2) for u in range(40)])
    train = make_events(pl.Series(users), pl.Series(items))
    model = ImplicitALS(dim=2, alpha=5.0).fit(train, np.arange(12))
    ranked = model.rank([np.array([0, 1, 2]), np.array([9])], np.arange(2), 3)
    assert set(ranked[0]) == {3, 4, 5}
    assert (ranked[1] >= 6).all()
    vectors = model._vectors
    # The normal equations, written out over all items: confidence 6 in those of the history.
    confidence = np.where(np.arange(12) == 9, 6.0, 1.0)
    left = (vectors.T * confidence) @ vectors + model.l2 * np.eye(2)
    user = np.linalg.solve(left, vectors.T @ (confidence * (np.arange(12) == 9)))
    scores = np.where(np.arange(12) == 9, -np.inf, vectors @ user)
    assert ranked[1].tolist() == np.argsort(-scores)[:3].tolist()


@pytest.mark.parametrize("model", [Popularity(), ItemKNN(), RecencyItemKNN(), EASE(9, 0.4, 0.2)])
def test_sums_over_parts_of_the_users_add_up_to_the_bits_of_the_whole(model):
    random = np.random.default_rng(0)
    users, items = np.sort(random.integers(0, 90, 2000)), random.integers(0, 30, 2000)
    weights = random.choice([0.3, 1.0, 2.7], 2000)
    whole = model.count(users, items, weights, 30)
    parts = []
    for chosen in (users < 7, (users >= 7) & (users < 50), users >= 50):
        numbers = np.unique(users[chosen], return_inverse=True)[1]
        parts.append(model.count(numbers, items[chosen], weights[chosen], 30))
    added = {name: parts[2][name] + parts[0][name] + parts[1][name] for name in whole}
    vectors = [model.solve(sums).item_vectors().tobytes() for sums in (whole, added)]
    assert vectors[0] == vectors[1]
    dense = {name: v.toarray() if name == "pairs" else v for name, v in added.items()}
    assert model.solve(dense).item_vectors().tobytes() == vectors[0]


def test_weights_that_leave_the_range_of_exact_sums_are_refused():
    with pytest.raises(DataError, match=r"events\.weights: got weights that add up to .*Fix: sma"):
        RecencyItemKNN().count(np.zeros(3, int), np.zeros(3, int), np.full(3, 1e5), 1)
