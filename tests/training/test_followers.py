"""The second stage of counts: what follows the latest items, added to the first stage's score."""

import dataclasses

import numpy as np
import pytest
from scipy import sparse

import shortlist
from shortlist.export.writer import export_bundle
from shortlist.training.config.sections import ScorerConfig
from shortlist.training.config.settings import apply_overrides
from shortlist.training.fit import second_stage
from shortlist.training.fit.fit import load_run, train
from shortlist.training.fit.second_stage import load_reranker, train_reranker
from shortlist.training.fit.teacher import count_followers
from shortlist.training.models.candidates import CandidateScorer, Tables, restore
from shortlist.training.models.followers import (
    N_FOLLOWERS,
    N_LATEST,
    Followers,
    FollowerScorer,
    restore_followers,
)
from shortlist.training.pipeline import evaluation
from shortlist.training.pipeline.update import hold_out

WANTED = {"scorer.enabled": True, "scorer.kind": "followers", "scorer.n_candidates": 15}


@pytest.fixture(scope="module")
def run(shop, small_config, tmp_path_factory):
    config = apply_overrides(small_config, WANTED | {"scorer.follower_weight": 0.5})
    return train(shop, config, tmp_path_factory.mktemp("run") / "run", progress=False)


def follows_of(entries, n_items=6):
    rows, columns, counts = zip(*entries, strict=True)
    return sparse.csr_matrix((counts, (rows, columns)), shape=(n_items, n_items))


def scored(scorer, history, candidates, similarity=0.0):
    candidates = np.asarray(candidates)
    inputs = {
        "history": np.asarray(history),
        "candidates": candidates,
        "similarity": np.full(candidates.shape, similarity, np.float32),
    }
    return np.asarray(scorer.model(inputs))


def test_counts_stop_at_the_window_and_fade_with_the_gap():
    rows, lengths = np.array([0, 1, 2, 3, 1, 2]), np.array([4, 2])
    found = count_followers(rows, lengths, 4, window=2, gap_decay=0.5).toarray()
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[2, 3] = 1.0
    expected[1, 2] = 2.0  # by both users
    expected[0, 2] = expected[1, 3] = 0.5
    np.testing.assert_array_equal(found, expected)


def test_shares_are_parts_of_the_most_frequent_follower():
    found = Followers.of(follows_of([(0, 3, 4.0), (0, 1, 2.0), (0, 5, 4.0), (2, 2, 0.5)]))
    assert found.codes[1, :4].tolist() == [4, 6, 2, 0]  # equal counts by the lower row
    assert found.shares[1, :4].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert found.codes[3, :2].tolist() == [3, 0]
    assert found.shares[3, 0] == 1.0
    assert not found.shares[[0, 2, 4, 5, 6]].any()


def test_only_the_most_frequent_followers_are_kept():
    counts = [(0, j, float(j + 1)) for j in range(N_FOLLOWERS + 5)]
    found = Followers.of(follows_of(counts, N_FOLLOWERS + 5))
    assert found.codes[1].tolist() == list(range(N_FOLLOWERS + 5, 5, -1))


def test_a_score_is_the_similarity_and_the_weighted_sum_of_shares():
    config = ScorerConfig(kind="followers", follower_weight=0.5, follower_decay=0.25)
    follows = follows_of([(0, 3, 4.0), (0, 1, 2.0), (4, 3, 8.0), (4, 1, 2.0)])
    scorer = FollowerScorer(config, Followers.of(follows))
    # The latest item is row 0, the one before it row 4; row 1's share is 2/4 and 2/8.
    found = scored(scorer, [[0, 5, 1]], [[4, 2, 3, 0]], 0.125)
    wanted = [0.125 + 0.5 * (1 + 0.25), 0.125 + 0.5 * (0.5 + 0.25 * 0.25), 0.125, 0.125]
    np.testing.assert_allclose(found, [wanted], rtol=1e-6)


def test_items_before_the_latest_ones_and_unknown_ones_say_nothing():
    config = ScorerConfig(kind="followers")
    scorer = FollowerScorer(config, Followers.of(follows_of([(0, 3, 1.0)])))
    assert scored(scorer, [[1] + [2] * N_LATEST], [[4]]).tolist() == [[0.0]]
    assert scored(scorer, [[1] + [2] * (N_LATEST - 1)], [[4]])[0, 0] > 0
    assert scored(scorer, [[0, 0]], [[4, 0]]).tolist() == [[0.0, 0.0]]


def test_a_score_does_not_depend_on_the_batch_or_its_padding():
    rng = np.random.default_rng(2)
    follows = sparse.random(50, 50, 0.5, random_state=3, format="csr")
    scorer = FollowerScorer(ScorerConfig(kind="followers"), Followers.of(follows))
    history, candidates = rng.integers(0, 51, (9, 7)), rng.integers(0, 51, (9, 12))
    whole = scored(scorer, np.pad(history, [(0, 0), (3, 0)]), candidates, 0.3)
    for i in range(9):
        alone = scored(scorer, history[i : i + 1], candidates[i : i + 1], 0.3)
        assert alone.tobytes() == whole[i : i + 1].tobytes()


def test_it_is_judged_on_validation_saved_and_restored(run, tmp_path):
    scorer, report = train_reranker(run.two_tower, run.split, run.config, tmp_path, progress=False)
    assert (report.kind, report.n_users) == ("followers", len(run.split.targets("valid")))
    assert report.ndcg_at_10_without == pytest.approx(run.metrics["NDCG@10"], abs=1e-6)
    gain = report.ndcg_at_10_with - report.ndcg_at_10_without
    assert report.is_kept == (gain > report.standard_error)
    loaded, loaded_report = load_reranker(tmp_path, run.config)
    assert (loaded.config, loaded_report) == (run.config.scorer, report)
    for name, table in scorer.get_weights().items():
        again = loaded.get_weights()[name]
        assert (again.dtype, again.tobytes()) == (table.dtype, table.tobytes())
    assert restore_followers(loaded.config, loaded.get_weights()).config == loaded.config


def test_validation_events_are_not_counted(run):
    alone = dataclasses.replace(run.split, valid=run.split.valid.clear(), test=run.split.test)
    counted = second_stage.fit_followers(alone, run.config.scorer)
    np.testing.assert_array_equal(counted.shares, run.scorer.followers.shares)


def test_without_validation_it_is_kept_as_the_settings_ask(run, tmp_path):
    none = dataclasses.replace(run.split, valid=run.split.valid.clear())
    scorer, report = train_reranker(run.two_tower, none, run.config, tmp_path, progress=False)
    assert (report.is_kept, report.n_users) == (True, 0)
    np.testing.assert_array_equal(scorer.followers.codes, run.scorer.followers.codes)


def test_an_update_withholds_validation_events_for_a_network_alone(run):
    events = run.split.dataset.events
    n_valid = [
        hold_out(apply_overrides(run.config, {"scorer.kind": kind}), events, run.split.dataset)
        for kind in ("dnn", "followers")
    ]
    assert n_valid[0].valid > 0.0
    assert n_valid[1].valid == 0.0


def test_a_bundle_answers_with_it_as_keras_does_in_every_graph(run, tmp_path):
    report = dataclasses.replace(run.reranker_report, is_kept=True)
    run = dataclasses.replace(run, reranker_report=report)
    report = export_bundle(run, tmp_path / "b.shortlist")  # both gates pass: lists and host graphs
    catalogue = run.split.catalogue
    with shortlist.load(report.path) as engine:
        assert engine.default_stages == 2
        assert engine.bundle.manifest.second_stage.measured["kind"] == "followers"
        request = {"history": [catalogue[[1, 2, 3]].tolist()]}
        rows = np.array([[4, 5, 20, 3]])
        found = engine.score(request, catalogue[rows])
        similarity = engine.encode_users(request) @ engine.index.vectors(rows[0]).T
    inputs = {"history": np.array([[2, 3, 4]]), "candidates": rows + 1, "similarity": similarity}
    np.testing.assert_allclose(found, run.scorer.model(inputs).numpy(), rtol=1e-5, atol=1e-6)
    assert found[0, 0] - similarity[0, 0] > 0.4  # i4 follows i3 in the shop


def test_evaluating_on_validation_does_not_warn_of_a_trained_second_stage(run, shop, tmp_path):
    report = dataclasses.replace(run.reranker_report, is_kept=True)
    run = dataclasses.replace(run, reranker_report=report)
    path = export_bundle(run, tmp_path / "b.shortlist").path
    with shortlist.load(path) as engine:
        assert evaluation._has_seen(engine, "valid") is None
    loaded = load_run(run.run_dir)
    assert isinstance(loaded.scorer, FollowerScorer)


def tables_of(n_items, followers):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, n_items + 1, 3)).astype(np.float32)
    popularity = rng.random(n_items + 1).astype(np.float32)
    vectors[:, 0] = popularity[0] = 0.0
    n_features = 5 if followers is None else 6
    mean = rng.random(n_features).astype(np.float32)
    return Tables(*vectors, popularity, mean, mean + 0.5, followers)


@pytest.mark.parametrize("has_followers", [True, False])
def test_the_network_mixes_followers_in_but_in_runs_of_before(has_followers):
    followers = Followers.of(follows_of([(0, 1, 4.0), (0, 2, 1.0), (2, 1, 1.0)]))
    scorer = CandidateScorer(ScorerConfig(), tables_of(6, followers if has_followers else None))
    inputs = {
        "history": np.array([[0, 0, 3, 1], [1, 3, 2, 6]]),
        "candidates": np.array([[2, 3, 5, 0], [4, 5, 0, 0]]),
        "similarity": np.array([[0.5, 0.25, 0.1, 0.0], [0.5, 0.25, 0.0, 0.0]], np.float32),
    }
    user, item = scorer.features(inputs)
    assert item.shape == (2, 4, 5 if has_followers else 4)
    # The graph, which joins the features with the first layer, says the same as the layers alone.
    n = item.shape[0] * item.shape[1]
    flat = scorer.scorer.predict(user.reshape(n, -1), item.reshape(n, -1)).reshape(2, 4)
    np.testing.assert_allclose(np.asarray(scorer.model(inputs)), flat, rtol=1e-5, atol=1e-5)
    again = restore(ScorerConfig(), scorer.get_weights())
    np.testing.assert_array_equal(again.model(inputs), scorer.model(inputs))
