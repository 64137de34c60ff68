"""Where nothing is set, `train` tries models on validation and trains the best."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import shortlist
import shortlist.training
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.export.writer import export_bundle
from shortlist.training.config.settings import (
    apply_overrides,
    leaves_open,
    load_config,
    read_config,
)
from shortlist.training.fit import fit
from shortlist.training.pipeline import choose as choosing
from shortlist.training.pipeline import evaluation
from shortlist.training.pipeline.candidates import (
    Candidate,
    base_models,
    encoders,
    epoch_seconds,
    fitting,
    model_name,
    variants,
)
from shortlist.training.pipeline.choice import Attempt, Choice, load_choice, save_choice
from shortlist.training.pipeline.validation import validate
from shortlist.training.splits.split import make_split
from shortlist.training.updates.erase import erase_user
from tests.training.conftest import make_shop

TINY = {
    "model.encoder": "pool",
    "model.dim": 8,
    "model.hidden": 16,
    "model.history_length": 6,
    "train.batch_size": 64,
    "train.learning_rate": 0.03,
    "train.epochs": 8,
}


def tiny(name="tiny", **settings):
    settings = TINY | {key.replace("_", ".", 1): value for key, value in settings.items()}
    return Candidate(name, settings, int(settings["train.epochs"]), 0.01)


@pytest.fixture(scope="module")
def walk():
    return make_shop(120)


@pytest.fixture
def rivals(monkeypatch):
    """Try two tiny encoders in place of the real ones, and one closed-form model."""
    two = [tiny(), tiny("sleepy", train_learning_rate=1e-8)]
    monkeypatch.setattr(choosing, "encoders", lambda config, n_examples, n_items: two)
    popularity = {"model.encoder": "popularity"}
    monkeypatch.setattr(choosing, "base_models", lambda split: [popularity])
    return two


# What leaves the choice open


@pytest.mark.parametrize(
    ("preset", "overrides", "is_open"),
    [
        (None, {}, True),
        ("balanced", {"train.seed": 3, "split.valid": 0.1, "events.weights.buy": 5}, True),
        ("fast", {"choice.minutes": 1.0}, True),
        (None, {"model.dim": 64}, False),
        (None, {"train.evaluate_every": 2}, False),
        (None, {"scorer.enabled": True}, False),
        ("balanced", {"train.epochs": 2}, False),
        ("pool", {}, False),
        ("ease", {}, False),
    ],
)
def test_a_setting_of_what_is_trained_closes_the_choice(preset, overrides, is_open):
    assert leaves_open(preset, None, overrides) is is_open


def test_a_file_closes_the_choice_by_what_it_sets(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text('[data]\npath = "events.csv"\n[train]\nseed = 2\n')
    assert leaves_open(None, path)
    path.write_text('[data]\npath = "events.csv"\n[train]\nepochs = 2\n')
    assert not leaves_open(None, path)


# What is tried


def test_what_is_tried_is_what_the_data_allow(walk):
    split = make_split(walk, "leave-one-out")
    names = [model_name(settings) for settings in base_models(split)]
    assert names[:3] == ["popularity", "co-occurrence", "item-knn"]
    assert "damped EASE, l2 900" in names
    ease = {"model.encoder": "ease"}
    names = [model_name(found) for found in variants(ease, split, include_seen=False)]
    assert names[0] == "EASE, trend 0.1 of 15 days"
    timeless = make_split(dataclasses.replace(walk, has_times=False), "leave-one-out")
    assert not list(variants(ease, timeless, include_seen=False))
    (found,) = variants(ease, timeless, include_seen=True)
    assert model_name(found) == "EASE, repeats 10"


def test_the_best_closed_form_model_is_changed_while_that_helps(walk, tmp_path, monkeypatch):
    """Up as long as it helps, then the other settings; nothing is tried twice."""
    best = {"linear.ease_l2": 1600.0, "linear.trend": 0.1, "linear.trend_days": 30.0}
    ease = {"model.encoder": "ease"} | best
    ease |= {"linear.ease_l2": 400.0, "linear.trend_days": 15.0}
    trials = choosing._Trials(walk, make_split(walk), load_config(), tmp_path, False, str)
    tried = []

    def fit(settings):
        tried.append(tuple(settings[key] for key in best))
        distance = sum(abs(math.log2(settings[key] / target)) for key, target in best.items())
        score = 1 / (1 + distance)
        return trials._add(Attempt(model_name(settings), settings, score, None, "", 0.0))

    monkeypatch.setattr(trials, "fit", fit)
    fit(ease)
    assert trials.climb().score == 1.0
    assert tried[:4] == [(400, 0.1, 15), (800, 0.1, 15), (1600, 0.1, 15), (3200, 0.1, 15)]
    assert len(set(tried)) == len(tried) < 14
    monkeypatch.setattr(choosing, "CLIMB_SHARE", 0.0)
    n_tried = len(tried)
    trials.climb()
    assert len(tried) == n_tried


@pytest.mark.parametrize("encoder", ["ease", "popularity"])
def test_a_model_that_is_fitted_again_knows_what_was_held_out(walk, tmp_path, encoder):
    split = make_split(walk, "leave-one-out")
    config = apply_overrides(load_config("ease"), {"model.encoder": encoder})
    again = apply_overrides(config, {"linear.refit": True})
    once = fit.train(walk, config, tmp_path / "once", split=split, progress=False)
    run = fit.train(walk, again, tmp_path / "again", split=split, progress=False)
    assert run.metrics == once.metrics
    known = dataclasses.replace(split, train=split.known_events("valid"), valid=split.valid[:0])
    whole = fit.train(walk, config, tmp_path / "whole", split=known, progress=False)
    vectors = [r.two_tower.get_weights() for r in (run, whole, once)]
    for name, table in vectors[0].items():
        assert np.array_equal(table, vectors[1][name])
    assert any(not np.array_equal(vectors[0][name], vectors[2][name]) for name in vectors[0])
    assert validate(run) == validate(once)
    for trained, is_told in ((run, True), (once, False)):
        path = export_bundle(trained, tmp_path / f"{is_told}.shortlist").path
        with shortlist.load(path) as engine:
            warning = evaluation._has_seen(engine, "valid")
            assert ("fitted on the validation events too" in str(warning)) is is_told
            assert evaluation._has_seen(engine, "test") is None


def test_a_large_catalogue_gets_no_model_whose_table_is_too_large():
    split = make_split(make_shop(100, 8_192), "leave-one-out")
    encoders_of = {settings["model.encoder"] for settings in base_models(split)}
    assert encoders_of <= {"popularity", "ials"}


def test_the_dearest_candidates_are_left_out_until_the_rest_fit():
    cheap, dear = tiny("cheap"), Candidate("dear", {"train.epochs": 8}, 8, 100.0)
    assert fitting([dear, cheap], 1e6) == [cheap, dear]
    assert fitting([dear, cheap], 60.0) == [cheap]


def test_the_last_candidate_gets_the_epochs_that_fit():
    dear = Candidate("dear", {"train.epochs": 8}, 8, 100.0)
    (kept,) = fitting([dear], 450.0)
    assert (kept.epochs, kept.settings["train.epochs"]) == (4, 4)
    assert fitting([dear], 250.0) == []


def test_what_an_epoch_costs_grows_with_the_sizes():
    config = load_config()
    one = epoch_seconds(config, 1_000_000, 10_000)
    assert epoch_seconds(config, 2_000_000, 10_000) == pytest.approx(2 * one)
    assert epoch_seconds(config, 1_000_000, 20_000) > 1.5 * one
    sampled = epoch_seconds(config, 1_000_000, 30_000)  # above the limit of the full softmax
    assert sampled < one
    assert len(encoders(config, 100_000, 1_000)) == 3


# What is chosen


def test_the_best_encoder_is_chosen_and_its_run_goes_on(walk, rivals, tmp_path):
    said = []
    split = make_split(walk, "leave-one-out")
    run, choice = choosing.train_chosen(walk, split, load_config(), tmp_path, say=said.append)
    assert choice.chosen.name == "tiny"
    assert choice.fallback.name == "popularity"
    notes = {attempt.name: attempt.note for attempt in choice.attempts}
    assert notes["sleepy"] == "2 of 8 epochs"
    assert notes["tiny"] == f"{len(run.history)} epochs"
    assert said[1].startswith("tried tiny, 2 of 8 epochs: NDCG@10 0.")
    assert "leads" in said[2]
    assert not (tmp_path / "candidates").exists()
    assert load_choice(tmp_path) == choice
    # The same as a training with the chosen settings alone.
    config = read_config(tmp_path / "config.toml")
    assert config == apply_overrides(load_config(), TINY | {"choice.minutes": 0.0})
    assert fit.train(walk, config, tmp_path / "again", progress=False).metrics == run.metrics


def test_a_choice_that_was_interrupted_goes_on(walk, rivals, tmp_path):
    split = make_split(walk, "leave-one-out")
    whole = choosing.choose(walk, split, load_config(), tmp_path / "whole")

    def interrupt(line):
        if "sleepy" in line:
            raise KeyboardInterrupt

    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        choosing.choose(walk, split, load_config(), folder, say=interrupt)
    with pytest.raises(DataError, match="interrupted while `train` chose"):
        erase_user(folder, "u1")
    with pytest.raises(DataError, match="already holds a run"):
        shortlist.training.train(walk.events, out=tmp_path / "x.shortlist", run_dir=folder)
    parts = choosing.choose(walk, split, load_config(), folder)
    assert [(a.name, a.ndcg_at_10, a.note) for a in parts.attempts] == [
        (a.name, a.ndcg_at_10, a.note) for a in whole.attempts
    ]


def test_a_choice_whose_move_was_interrupted_goes_on(walk, rivals, tmp_path, monkeypatch):
    split, taken = make_split(walk, "leave-one-out"), choosing.take_over
    monkeypatch.setattr(choosing, "take_over", lambda choice, run_dir: None)
    choice = choosing.choose(walk, split, load_config(), tmp_path)
    assert (tmp_path / "candidates/tiny/checkpoint.npz").exists()
    taken(load_choice(tmp_path), tmp_path)
    assert (tmp_path / "checkpoint.npz").exists()
    taken(choice, tmp_path)  # once more changes nothing
    assert (tmp_path / "checkpoint.npz").exists()


def test_an_encoder_that_ends_below_the_closed_form_gives_way(walk, rivals, tmp_path, monkeypatch):
    follows = {"model.encoder": "cooccurrence"}
    monkeypatch.setattr(choosing, "base_models", lambda split: [follows])
    monkeypatch.setattr(choosing, "variants", lambda *best, **options: [])
    monkeypatch.setattr(choosing, "encoders", lambda config, n_examples, n_items: rivals[1:])
    monkeypatch.setattr(choosing, "PROMISING", 0.0)
    split = make_split(walk, "leave-one-out")
    run, choice = choosing.train_chosen(walk, split, load_config(), tmp_path)
    assert choice.chosen.name == "co-occurrence"
    assert run.config.model.encoder == "cooccurrence"
    assert load_choice(tmp_path) == choice
    assert {attempt.name for attempt in choice.attempts} == {"co-occurrence", "sleepy"}


def test_few_users_to_measure_on_get_a_closed_form_model(shop, tmp_path):
    split = make_split(shop, "leave-one-out")
    run, choice = choosing.train_chosen(shop, split, load_config(), tmp_path)
    assert choice.chosen.settings["model.encoder"] != "pool"
    assert choice.fallback is None
    assert "encoders: left out: 40 users to measure on, expected 100 or more" in str(choice)
    assert run.metrics["NDCG@10"] == pytest.approx(choice.chosen.ndcg_at_10)


def test_where_nothing_is_held_out_nothing_is_chosen(walk, rivals, tmp_path, monkeypatch):
    said = []
    split = make_split(walk, "temporal", valid=0.0, test=0.1)
    monkeypatch.setattr(fit, "train", lambda *args, **options: args[1])
    config, choice = choosing.train_chosen(walk, split, load_config(), tmp_path, say=said.append)
    assert (config.choice.minutes, choice) == (0.0, None)
    assert said == [
        "nothing is chosen: no event is held out to measure on; the default model is trained"
    ]


# In the report, in the run folder and on the command line


def test_a_choice_is_a_table_best_first():
    best = Attempt("b", {"model.dim": 8}, 0.25, (0.2, 0.3), "2 of 8 epochs", 1.0)
    other = Attempt("long name", {}, 0.125, None, "", 12.0)
    left_out = Attempt("c", {}, None, None, "left out: too dear", 0.0)
    choice = Choice(best, other, (other, best, left_out))
    assert str(choice).splitlines() == [
        "tried      validation NDCG@10     95 % interval  seconds",
        "b                      0.2500  0.2000 to 0.3000        1  2 of 8 epochs, chosen",
        "long name              0.1250                         12",
        "c: left out: too dear",
    ]


def test_a_damaged_choice_is_named(tmp_path):
    save_choice(Choice(Attempt("a", {}, 0.5, None, "", 0.0), None, ()), tmp_path)
    assert load_choice(tmp_path).chosen.ndcg_at_10 == 0.5
    (tmp_path / "choice.json").write_text("{}")
    with pytest.raises(DataError, match=r"choice.json: damaged \('chosen'\); delete the run"):
        load_choice(tmp_path)


def test_train_chooses_and_says_so(walk, rivals, tmp_path, capsys):
    walk.events.write_parquet(tmp_path / "events.parquet")
    out = tmp_path / "x.shortlist"
    argv = ["train", "--data", str(tmp_path / "events.parquet"), "--quiet", "--out", str(out)]
    assert main([*argv, "--budget", "5m", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["choice"]["chosen"]["name"] == "tiny"
    settings = read_config(out.with_suffix(".run") / "config.toml")
    assert settings.choice.minutes == 0.0
    assert settings.model.dim == 8
    # A finished run is exported anew with what was chosen.
    assert main([*argv, "--resume", "--overwrite"]) == 1
    out.rename(tmp_path / "old.shortlist")
    assert main([*argv, "--resume"]) == 0
    assert "tiny" in capsys.readouterr().out


def test_a_run_without_a_choice_goes_on_as_it_is(walk, rivals, tmp_path, capsys):
    walk.events.write_parquet(tmp_path / "events.parquet")
    out = tmp_path / "x.shortlist"
    argv = ["train", "--data", str(tmp_path / "events.parquet"), "--quiet", "--out", str(out)]
    assert main([*argv, "--set", "train.epochs=40"]) == 0  # the default, so a run of before
    out.rename(tmp_path / "old.shortlist")
    capsys.readouterr()
    assert main([*argv, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choice"] == {}


@pytest.mark.parametrize("text", ["", "m", "0", "-3m", "5x", "nan", "2h30m"])
def test_a_budget_is_a_time(text, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--data", "x.csv", f"--budget={text}", "--out", "x.shortlist"])
    assert f"got {text!r}, expected a time such as 90s, 30m or 2h" in capsys.readouterr().err


def test_budgets_are_minutes():
    from shortlist.cli._common import minutes

    assert [minutes(text) for text in ("90s", "30m", "2h", "7")] == [1.5, 30.0, 120.0, 7.0]
