"""The search finds the better settings, stops poor trials early, and goes on after a kill."""

import json

import pytest

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.config.settings import apply_overrides, read_config
from shortlist.training.fit import fit
from shortlist.training.fit.loop import DivergedError
from shortlist.training.pipeline import tune as tuning

pytest.importorskip("optuna", reason="the library optuna is not installed")
SPACE = {"train.learning_rate": [1e-6, 0.03]}


@pytest.fixture
def config(small_config):
    return apply_overrides(small_config, {"train.epochs": 2})


def fake_training(monkeypatch, value_of):
    """Replace training: `value_of(settings, epoch)` is NDCG@10; returns the folders trained."""
    folders = []

    def train(dataset, config, folder, *, resume, progress, on_epoch):
        folders.append(folder.name)
        for epoch in range(1, config.train.epochs + 1):
            value = value_of(config, epoch)
            on_epoch(epoch, {"NDCG@10": value})
        return type("Run", (), {"metrics": {"NDCG@10": value}})

    monkeypatch.setattr(fit, "train", train)
    return folders


def test_the_better_settings_win_and_are_written(shop, config, tmp_path):
    result = tuning.tune(shop, config, SPACE, tmp_path, n_trials=3, progress=False)
    assert result.best == {"train.learning_rate": 0.03}
    assert read_config(tmp_path / "best.toml").train.learning_rate == 0.03
    assert len((tmp_path / "trials.md").read_text().splitlines()) == 2 + 3
    assert (tmp_path / "trials.png").read_bytes().startswith(b"\x89PNG")
    again = tuning.tune(shop, config, SPACE, tmp_path, n_trials=3, progress=False)
    assert again == result  # nothing left to do


def test_a_killed_trial_goes_on_in_its_own_folder(shop, config, tmp_path, monkeypatch):
    def kill(settings, epoch):
        raise KeyboardInterrupt

    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    folders = fake_training(monkeypatch, kill)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(shop, config, space, tmp_path, n_trials=2, progress=False)
    tried = []
    folders = fake_training(monkeypatch, lambda c, epoch: tried.append(c.train.learning_rate) or 1)
    tuning.tune(shop, config, space, tmp_path, n_trials=2, progress=False)
    assert folders[0] == "trial_0000"
    assert len(set(folders)) == 2
    assert len(set(tried)) == 2


def test_poor_trials_stop_early_and_diverged_ones_do_not_end_the_search(
    shop, config, tmp_path, monkeypatch
):
    config = apply_overrides(config, {"train.epochs": 9})
    epochs = []

    def value_of(settings, epoch):
        if len(epochs) == 0:
            epochs.append(0)
            raise DivergedError("training diverged")
        epochs.append(epoch)
        return 1.0 if epochs.count(1) <= 5 else 0.0

    space = {"model.dropout": {"low": 0.0, "high": 0.9}}
    fake_training(monkeypatch, value_of)
    result = tuning.tune(shop, config, space, tmp_path, n_trials=9, progress=False)
    assert result.n_trials == 9
    assert epochs.count(9) == 5  # the later, poor trials were stopped before
    assert (tmp_path / "trials.md").read_text().count("stopped early") == 4


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[train]\nlearning_rat = [1]", r"learning_rat"),
        ("[train]\nlearning_rate = [99.0]", r"train\.learning_rate: got 99\.0, expected"),
        ("[train]\nlearning_rate = {low = 1, high = 1}", r"space: train\.learning_rate: got"),
        ("[train]\nlearning_rate = []", r"space: train\.learning_rate: got \[\], expected a list"),
        ("[model]\ndropout = {low = 0.0, high = 0.5, log = true}", r"log = true only above 0"),
        ("", r"space: got no settings"),
        ("[x", r"space: cannot read"),
    ],
)
def test_a_bad_space_is_refused_before_any_training(config, tmp_path, toml, message):
    (tmp_path / "space.toml").write_text(toml)
    with pytest.raises(DataError, match=message):
        tuning.read_space(tmp_path / "space.toml", config)


def test_another_space_needs_another_folder(shop, config, tmp_path, monkeypatch):
    fake_training(monkeypatch, lambda config, epoch: 0.5)
    tuning.tune(shop, config, SPACE, tmp_path, n_trials=1, progress=False)
    with pytest.raises(DataError, match="use another folder for another space"):
        tuning.tune(shop, config, {"model.dim": [8]}, tmp_path, n_trials=2, progress=False)


def test_the_command_prints_the_best_settings(shop, tmp_path, monkeypatch, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    (tmp_path / "space.toml").write_text("[model]\ndropout = [0.1]")
    fake_training(monkeypatch, lambda config, epoch: 0.25)
    argv = ["tune", "--data", str(tmp_path / "events.csv"), "--space", str(tmp_path / "space.toml"),
            "--study", str(tmp_path / "study"), "--trials", "1", "--quiet", "--json"]  # fmt: skip
    assert main(argv) == 0
    shown = capsys.readouterr()
    assert "shortlist tune: events.csv: 480 rows" in shown.err
    assert ".py:" not in shown.err
    result = json.loads(shown.out)
    assert result["best"] == {"model.dropout": 0.1}
    assert result["NDCG@10"] == 0.25
