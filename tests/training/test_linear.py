"""Closed-form models are bundles like others: their lists are those of the fitted baselines."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import numpy as np
import onnx
import polars as pl
import pytest

import shortlist
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.export.writer import export_bundle
from shortlist.training.config.sections import CLOSED_FORM
from shortlist.training.config.settings import apply_overrides, load_config
from shortlist.training.data.events import Dataset, make_events
from shortlist.training.fit.fit import load_run, train
from shortlist.training.fit.second_stage import candidates_of, first_stage
from shortlist.training.models.ease import EASE
from shortlist.training.models.item_item import ItemKNN, RecencyItemKNN
from shortlist.training.models.linear import (
    Distinct,
    FoldIn,
    WeightedHistory,
    build_baseline,
    check_settings,
)
from shortlist.training.pipeline import evaluation
from shortlist.training.pipeline import tune as tuning

ROWS = {
    "popularity": "popularity",
    "item-knn": "ItemKNN",
    "cooccurrence": "ItemKNN with recency",
    "ease": "EASE",
    "ials": "iALS",
}
N_USERS, N_ITEMS = 60, 40


@pytest.fixture(scope="module")
def toy():
    """Give users with tastes; some take an item twice, and item 0 is nobody's."""
    rng = np.random.default_rng(0)
    tastes = 1.5 * rng.normal(size=(N_USERS, 3)) @ rng.normal(size=(3, N_ITEMS - 1))
    users, items = [], []
    for user, taste in enumerate(np.exp(tastes)):
        n = rng.integers(4, 14)
        users += [user] * n
        items += (1 + rng.choice(N_ITEMS - 1, n, p=taste / taste.sum())).tolist()
    catalogue = pl.DataFrame({"item_id": range(N_ITEMS), "genre": [0, 1] * (N_ITEMS // 2)})
    return Dataset("toy", make_events(pl.Series(users), pl.Series(items)), catalogue)


@pytest.fixture(scope="module", params=CLOSED_FORM)
def made(request, toy, tmp_path_factory):
    """Give a trained run and its bundle."""
    if request.param == "ials":
        pytest.importorskip("implicit", reason="the library implicit is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    run = train(toy, load_config(request.param), folder / "toy.run", progress=False)
    export_bundle(run, folder / "toy.shortlist")
    return run, folder / "toy.shortlist"


def test_the_bundle_gives_the_metrics_of_the_baseline_in_an_evaluation(made):
    run, path = made
    with shortlist.load(path) as engine:
        bundle = evaluation.bundle_rankers("bundle", engine, run.split)
        lists = evaluation.evaluate_rankers(bundle, run.split, on="valid")
    found = {name: evaluated.metrics() for name, evaluated in lists.items()}
    row = found[ROWS[run.config.model.encoder]]
    assert found["bundle"] == pytest.approx(row, abs=5e-5)
    assert found["bundle"] == pytest.approx(run.metrics | found["bundle"], abs=5e-5)
    assert run.metrics["HR@20"] > 0


def test_raw_histories_stored_users_and_unknown_items_are_answered_like_the_baseline(made):
    run, path = made
    model = build_baseline(run.config)
    model.fit(run.split.train, run.split.catalogue, run.split.weights(run.split.train))
    stored = run.split.dataset.events.filter(pl.col("user_id") == 3)["item_id"].to_list()
    histories = [[5, 7, 5], [9], stored, list(range(1, 35))]
    ids = run.split.catalogue
    lists = [run.split.item_rows(pl.Series("item_id", h)) for h in histories]
    wanted = ids[model.rank(lists, np.arange(4), 5)]
    with shortlist.load(path) as engine:
        raw = engine.recommend({"history": [[5, 999, 7, 5], [9], stored, histories[3]]}, top_n=5)
        known = engine.recommend({"user_id": [3]}, top_n=5)
        nobody = engine.recommend({"history": [[999]]}, top_n=2)
        engine.upsert_items({"item_id": [77]})
        late = engine.recommend({"history": [[5]]}, top_n=N_ITEMS + 1, exclude_seen=False)
    assert raw.item_ids.tolist() == wanted.tolist()
    assert known.source.tolist() == ["stored history"]
    assert known.item_ids[0].tolist() == wanted[2].tolist()
    assert nobody.source.tolist() == ["popular"]
    assert late.scores[0][late.item_ids[0] == 77].tolist() == [0.0]


def test_a_run_folder_gives_the_same_model_again_and_is_not_overwritten(made, toy):
    run, _ = made
    again = load_run(run.run_dir)
    np.testing.assert_array_equal(again.two_tower.item_vectors(), run.two_tower.item_vectors())
    assert again.metrics == run.metrics
    with pytest.raises(DataError, match="already holds a run"):
        train(toy, run.config, run.run_dir, progress=False)
    resumed = train(toy, run.config, run.run_dir, resume=True, progress=False)
    np.testing.assert_array_equal(resumed.two_tower.item_vectors(), run.two_tower.item_vectors())


def test_content_is_not_looked_at_but_may_be_asked_for(made):
    _, path = made
    with shortlist.load(path) as engine:
        assert engine.bundle.manifest.features == ()
        assert engine.bundle.manifest.metric == "dot"
        import pyarrow.compute as pc

        found = engine.recommend({"history": [[5]]}, where=pc.field("genre") == 1, top_n=50)
    ids = found.item_ids[0][: found.counts[0]]
    assert len(ids) == N_ITEMS // 2 - 1
    assert (ids % 2 == 1).all()


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_rounded_storages_pass_the_gate(toy, tmp_path, storage):
    config = load_config("ease", overrides={"export.storage": storage})
    run = train(toy, config, tmp_path / "toy.run", progress=False)
    report = export_bundle(run, tmp_path / "toy.shortlist")
    assert report.parity.n_identical + report.parity.n_tied == N_USERS
    assert 0 < report.parity.largest_item_difference < report.parity.tolerance


def test_candidates_of_wide_embeddings_are_scored_in_parts(made, monkeypatch):
    run, _ = made
    evaluation = first_stage(run.two_tower, run.split, 20)
    asked = (run.two_tower, run.split, evaluation, run.config.scorer)
    whole = candidates_of(*asked)
    monkeypatch.setattr("shortlist.training.fit.second_stage.MAX_NUMBERS", 1)  # one user at a time
    parts = candidates_of(*asked)
    np.testing.assert_array_equal(parts.inputs["similarity"], whole.inputs["similarity"])
    assert (np.diff(whole.inputs["similarity"], axis=1) <= 1e-6).all()  # best first
    assert whole.inputs["similarity"].max() > 0


def test_settings_default_to_those_of_the_baselines_in_an_evaluation():
    for name in CLOSED_FORM:
        model = build_baseline(load_config(name))
        assert vars(model) == vars(type(model)())


def test_a_users_embedding_is_the_weighted_history():
    codes = np.array([[0, 3, 1, 0, 3], [2, 2, 2, 2, 1], [0, 0, 0, 0, 0]])
    found = WeightedHistory(5, 0.5, 2)(codes)
    np.testing.assert_allclose(found, [[1, 0.5, 0, 1, 0], [1, 1, 0.5, 0, 0], [1, 0, 0, 0, 0]])
    found = WeightedHistory(5, 0.5, 3, all_events=True)(codes)
    np.testing.assert_allclose(found, [[1, 0.5, 0, 1.25, 0], [1, 1, 0.75, 0, 0], [1, 0, 0, 0, 0]])
    found = WeightedHistory(5, 1.0, 9)(codes)
    np.testing.assert_allclose(found, [[1, 1, 0, 1, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


def test_the_fold_in_takes_each_known_item_once_within_the_length():
    codes = np.array([[0, 3, 1, 0, 3], [4, 2, 2, 2, 1], [0, 0, 0, 0, 0]])
    found = np.sort(Distinct(4)(codes), axis=1)
    assert found.tolist() == [[0, 0, 0, 1, 3], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("alpha", [0.1, 10.0, 300.0])
def test_the_fold_in_solves_the_normal_equations(alpha):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(30, 6))
    vectors = np.linalg.qr(vectors)[0] * np.sqrt(rng.uniform(0.1, 1.0, 6))  # Σ v vᵀ ≤ I
    known = np.array([vectors[:4], vectors[10:14], np.zeros((4, 6))])
    found = FoldIn(alpha)(known.astype(np.float32))
    for user, mine in zip(found, known, strict=True):
        left = np.eye(6) + alpha * mine.T @ mine
        wanted = np.linalg.solve(left, (1 + alpha) * mine.sum(axis=0))
        np.testing.assert_allclose(user, wanted, atol=2e-6 * (1 + alpha))


def test_a_trend_adds_the_share_of_recent_events_to_every_score():
    day = 86_400
    times = pl.Series([0, 5 * day, 9 * day, 10 * day, 6 * day, 10 * day])
    events = make_events(pl.Series([0, 0, 0, 0, 1, 1]), pl.Series([3, 0, 1, 2, 0, 2]), times)
    catalogue, weights = np.arange(4), np.array([1, 1, 1, 0.5, 1, -1.0])
    plain = EASE(1.0).fit(events, catalogue, weights)
    model = EASE(1.0).with_trend(2.0, 4.5).fit(events, catalogue, weights)
    # Of the events after day 5.5: item 1 on day 9, half of item 2 on day 10, item 0 on day 6.
    added = model.item_vectors() - plain.item_vectors()
    np.testing.assert_allclose(added[:, 0], [2.0, 2.0, 1.0, 0.0])
    np.testing.assert_array_equal(added[:, 1:], 0.0)
    user = np.array([1.0, 0, 0, 0, 1])
    order = np.argsort(-(model.item_vectors() @ user), kind="stable")
    assert model.rank([np.array([3])], np.arange(1), 3).tolist() == [order[order != 3].tolist()]


def test_a_trend_survives_into_the_bundle_and_needs_times(toy, tmp_path):
    config = apply_overrides(load_config("ease"), {"linear.trend": 3.0, "linear.trend_days": 20})
    with pytest.raises(DataError, match=r"linear\.trend: got 3, but the events have no times"):
        train(
            dataclasses.replace(toy, has_times=False), config, tmp_path / "no.run", progress=False
        )
    later = toy.events.with_columns(timestamp=pl.col("timestamp") * 86_400)
    dated = dataclasses.replace(toy, events=later, has_times=True)
    run = train(dated, config, tmp_path / "toy.run", progress=False)
    export_bundle(run, tmp_path / "toy.shortlist")
    model = build_baseline(config).fit(run.split.train, run.split.catalogue)
    wanted = model.rank([np.array([5])], np.arange(1), 5)
    assert (
        wanted.tolist()
        != EASE()
        .fit(run.split.train, run.split.catalogue)
        .rank([np.array([5])], np.arange(1), 5)
        .tolist()
    )
    with shortlist.load(tmp_path / "toy.shortlist") as engine:
        found = engine.recommend({"history": [[int(run.split.catalogue[5])]]}, top_n=5)
        cold = engine.recommend([{}], top_n=N_ITEMS)
    assert found.item_ids.tolist() == run.split.catalogue[wanted].tolist()
    nothing = model.rank([np.array([], np.int64)], np.arange(1), N_ITEMS)
    assert cold.source.tolist() == ["popular"]
    assert cold.item_ids.tolist() == run.split.catalogue[nothing].tolist()  # what is popular now


def test_popularity_answers_alike_with_and_without_a_history(toy, tmp_path):
    weights = np.where(np.arange(toy.events.height) % 3 == 0, "view", "buy")
    events = toy.events.with_columns(pl.Series("kind", weights))
    config = load_config("popularity", overrides={"events.weights": {"view": 0.01}})
    run = train(
        dataclasses.replace(toy, events=events), config, tmp_path / "toy.run", progress=False
    )
    export_bundle(run, tmp_path / "toy.shortlist")
    with shortlist.load(tmp_path / "toy.shortlist") as engine:
        last = engine.recommend([{}], top_n=N_ITEMS).item_ids[0, -1]
        asked = [{}, {"history": [int(last)]}]
        both = engine.recommend(asked, top_n=N_ITEMS - 1)
    assert both.source.tolist() == ["popular", "history"]
    np.testing.assert_array_equal(*both.item_ids)
    np.testing.assert_allclose(*both.scores, rtol=1e-6)
    assert len(set(both.scores[0].tolist())) > 5


@pytest.mark.parametrize("name", ["popularity", "ials"])
@pytest.mark.parametrize("setting", ["trend", "repeat"])
def test_a_trend_or_repeats_are_refused_where_there_are_none(name, setting):
    config = load_config(name, overrides={f"linear.{setting}": 1.0})
    with pytest.raises(DataError, match=rf"linear\.{setting}: got 1 with model\.encoder"):
        check_settings(config, 10)


@pytest.mark.parametrize("model", [ItemKNN, RecencyItemKNN, EASE])
def test_with_repeats_every_event_counts_and_speaks_for_its_own_item(toy, model):
    catalogue = np.arange(N_ITEMS)
    plain = model().fit(toy.events, catalogue)
    again = model().with_repeats(2.0, 0.5).fit(toy.events, catalogue)
    added = again.item_vectors() - plain.item_vectors()
    np.testing.assert_allclose(added[:, 0], 0.0)
    np.testing.assert_allclose(added[:, 1:], 2.0 * np.eye(N_ITEMS), atol=1e-6)
    embedding = np.zeros(N_ITEMS + 1)
    embedding[0], embedding[[6, 4, 8]] = 1.0, [1.0 + 0.25, 0.5, 0.125]  # of rows 7, 5, 3, 5
    order = np.argsort(-(again.item_vectors() @ embedding), kind="stable")
    history = [np.array([7, 5, 3, 5])]
    assert order[0] == 5
    ranked = again.rank(history, np.arange(1), 10, exclude_seen=False)
    assert ranked[0].tolist() == order[:10].tolist()


def test_the_preset_of_tastes_without_order_is_evaluated_on_its_own_draw(toy, tmp_path):
    run = train(toy, load_config("general"), tmp_path / "toy.run", progress=False)
    assert run.split.protocol == "random"
    model = build_baseline(run.config)
    assert (model.l2, model.user_power, model.item_power) == (900, 0.375, 0.1)
    export_bundle(run, tmp_path / "toy.shortlist")
    model.fit(run.split.train, run.split.catalogue)
    with shortlist.load(tmp_path / "toy.shortlist") as engine:
        bundle = evaluation.bundle_rankers("bundle", engine, run.split)
        lists = evaluation.evaluate_rankers(
            bundle | {"baseline": model}, run.split, baselines=False
        )
        report = evaluation.evaluate(engine, toy.events, items=toy.items, baselines=False)
    found = {name: evaluated.metrics() for name, evaluated in lists.items()}
    assert found["bundle"] == pytest.approx(found["baseline"], abs=5e-5)
    assert not any("may have seen" in warning for warning in report.warnings)
    assert report.protocol == "random"
    assert report.metrics["toy.shortlist"] == pytest.approx(found["bundle"])


@pytest.mark.parametrize("encoder", ["item-knn", "cooccurrence", "ease"])
def test_repeats_survive_into_the_bundle(toy, tmp_path, encoder):
    config = load_config("repeats", overrides={"model.encoder": encoder})
    run = train(toy, config, tmp_path / "toy.run", progress=False)
    export_bundle(run, tmp_path / "toy.shortlist")
    model = build_baseline(config).fit(run.split.train, run.split.catalogue)
    histories = [[5, 7, 5, 9, 7, 7], [3] * 40 + [8], list(range(1, 30)) * 2]
    lists = [run.split.item_rows(pl.Series("item_id", h)) for h in histories]
    wanted = model.rank(lists, np.arange(3), 5, exclude_seen=False)
    with shortlist.load(tmp_path / "toy.shortlist") as engine:
        found = engine.recommend({"history": histories}, top_n=5, exclude_seen=False)
        bundle = evaluation.bundle_rankers("bundle", engine, run.split)
        lists = evaluation.evaluate_rankers(
            bundle, run.split, on="valid", baselines=False, include_seen=True
        )
    assert found.item_ids.tolist() == run.split.catalogue[wanted].tolist()
    assert found.item_ids[0, 0] == 7
    assert lists["bundle"].metrics() == pytest.approx(run.metrics | lists["bundle"].metrics())


def test_events_of_one_item_are_not_shared_out_among_threads(toy, tmp_path):
    run = train(toy, load_config("repeats"), tmp_path / "toy.run", progress=False)
    export_bundle(run, tmp_path / "toy.shortlist")
    for name in ("recommend", "recommend_portable", "user_encoder"):
        graph = onnx.load(tmp_path / "toy.shortlist" / f"{name}.onnx", load_external_data=False)
        scatters = [node for node in graph.graph.node if node.op_type.startswith("Scatter")]
        reductions = {
            attribute.s for node in scatters for attribute in node.attribute
            if attribute.name == "reduction"
        }  # fmt: skip
        assert b"add" in reductions
        assert {node.op_type for node in scatters} == {"ScatterElements"}


def test_a_catalogue_whose_table_would_not_fit_is_refused_by_name():
    config = load_config("ease")
    check_settings(config, 8_191)
    with pytest.raises(DataError, match=r"got 'ease' with 8,192 items.*0\.3 GiB, expected") as told:
        check_settings(config, 8_192)
    assert "use 'ials' (to begin with, model.dim=256 and linear.als_l2=2)" in str(told.value)
    check_settings(load_config("ials"), 10_000_000)


def test_without_the_library_ials_says_what_to_install(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(DataError, match=r"implicit ALS: .*pip install 'shortlist\[ials\]'"):
        train(toy, load_config("ials"), tmp_path / "toy.run", progress=False)


def test_tune_searches_settings_of_a_closed_form_model(toy, tmp_path):
    pytest.importorskip("optuna", reason="the library optuna is not installed")
    space = {"linear.ease_l2": [0.1, 5.0, 1e6]}
    result = tuning.tune(toy, load_config("ease"), space, tmp_path, n_trials=3, progress=False)
    tried = [
        train(toy, apply_overrides(load_config("ease"), {"linear.ease_l2": l2}),
              tmp_path / f"{l2}.run", progress=False).metrics["NDCG@10"]
        for l2 in space["linear.ease_l2"]
    ]  # fmt: skip
    assert result.ndcg_at_10 in tried
    assert (tmp_path / "best.toml").exists()


@pytest.fixture(scope="module")
def files(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    toy.events.with_columns(timestamp=pl.col("timestamp") + 1_000_000_000).write_csv(
        folder / "events.csv"
    )
    (folder / "ease.toml").write_text('[model]\nencoder = "ease"\n[linear]\nease_l2 = 5\n')
    argv = ["--data", str(folder / "events.csv"), "--config", str(folder / "ease.toml"), "--quiet"]
    assert main(["train", *argv, "--out", str(folder / "toy.shortlist")]) == 0
    return folder


def test_the_encoder_may_be_named_in_the_toml(files, capsys):
    bundle = str(files / "toy.shortlist")
    assert main(["inspect", bundle]) == 0
    assert "dot" in capsys.readouterr().out
    argv = ["evaluate", bundle, "--data", str(files / "events.csv"), "--include-seen", "--json"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    assert main(["recommend", bundle, "--history", "5", "7", "--json"]) == 0


def test_a_curve_is_refused_before_anything_is_fitted(files, tmp_path, capsys):
    argv = ["train", "--data", str(files / "events.csv"), "--preset", "popularity", "--quiet"]
    argv += ["--out", str(tmp_path / "toy.shortlist"), "--plot", str(tmp_path / "toy.png")]
    assert main(argv) == 1
    assert "is fitted in one step and has no curve" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_update_fits_anew_on_all_events(files, tmp_path, capsys):
    folder = shutil.copytree(files, tmp_path / "files")
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(30), 4)
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        log.append_many({
            "user_id": users.tolist(),
            "item_id": rng.integers(30, 50, len(users)).tolist(),  # 40 to 49 are new
            "kind": ["event"] * len(users),
            "timestamp": (1_100_000_000 + np.tile(np.arange(4), 30)).tolist(),
        })  # fmt: skip
    argv = ["update", str(folder / "toy.shortlist"), "--feedback", str(folder / "feedback.log")]
    capsys.readouterr()
    assert main([*argv, "--quiet", "--json", "--ignore-drift", "--ignore-gate"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_new_items"] > 0
    run = load_run(report["run"])
    model = build_baseline(run.config)
    model.fit(run.split.train, run.split.catalogue, run.split.weights(run.split.train))
    np.testing.assert_array_equal(run.two_tower.item_vectors(), model.item_vectors())
    with shortlist.load(folder / "toy.shortlist") as engine:
        assert 45 in engine.index.item_ids
