import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.config.settings import apply_overrides, to_toml
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.fit import checkpoint, loop, second_stage
from shortlist.training.fit.fit import build_model, load_run, train
from shortlist.training.fit.second_stage import load_reranker, train_reranker
from shortlist.training.fit.sequences import Sequences
from shortlist.training.fit.step import TrainStep
from shortlist.training.models.factors import linear_factors
from shortlist.training.splits.parts import Split

CLOCK = ("seconds", "examples_per_second")


def without_clock(history):
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in history]


def same_weights(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def config(small_config):
    return apply_overrides(small_config, {"train.ema": 0.5, "train.id_dropout": 0.02})


@pytest.fixture(scope="module")
def run(shop, config, tmp_path_factory):
    return train(shop, config, tmp_path_factory.mktemp("run"), progress=False)


def test_loss_falls_and_the_pattern_is_learned(run):
    losses = [row["loss"] for row in run.history]
    assert losses[-1] < losses[0] * 0.6
    assert run.metrics["HR@10"] > 0.8  # by chance: 10 of about 20 unseen items
    assert evaluate(run.ranker(), run.split, on="test")["NDCG@10"] > 0.5


def test_the_same_seed_gives_the_same_metrics_and_weights_twice(run, shop, config, tmp_path):
    again = train(shop, config, tmp_path / "again", progress=False)
    assert without_clock(again.history) == without_clock(run.history)
    assert same_weights(again.two_tower.get_weights(), run.two_tower.get_weights())


def test_an_interrupted_run_resumes_to_exactly_the_same_end(run, shop, config, tmp_path):
    def stop(epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shop, config, tmp_path / "run", progress=False, on_epoch=stop)
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2
    seen = []
    resumed = train(
        shop,
        config,
        tmp_path / "run",
        resume=True,
        progress=False,
        on_epoch=lambda epoch, row: seen.append(epoch),
    )
    assert seen == list(range(3, config.train.epochs + 1))
    assert without_clock(resumed.history) == without_clock(run.history)
    assert same_weights(resumed.two_tower.get_weights(), run.two_tower.get_weights())


def test_a_run_interrupted_before_its_first_measured_epoch_resumes_too(shop, config, tmp_path):
    rare = apply_overrides(config, {"train.evaluate_every": 3})
    whole = train(shop, rare, tmp_path / "whole", progress=False)
    assert ["NDCG@10" in row for row in whole.history[:3]] == [False, False, True]

    def stop(epoch, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shop, rare, tmp_path / "run", progress=False, on_epoch=stop)
    resumed = train(shop, rare, tmp_path / "run", resume=True, progress=False)
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert same_weights(resumed.two_tower.get_weights(), whole.two_tower.get_weights())


KILLED = """
import sys, pathlib
from shortlist.training.fit import checkpoint
from shortlist.training.fit import loop
from shortlist.training.fit import second_stage
from shortlist.training.config.settings import read_config
from shortlist.training.fit.fit import train
folder = pathlib.Path(sys.argv[1])
data = checkpoint.load_dataset_copy(folder / "shop")
slow = lambda epoch, row: (print(epoch, flush=True), epoch == 2 and __import__("time").sleep(60))
train(data, read_config(folder / "c.toml"), folder / "run", progress=False, on_epoch=slow)
"""


def test_a_killed_process_resumes_to_exactly_the_same_end(run, shop, config, tmp_path):
    checkpoint.save_dataset(shop, tmp_path / "shop")
    (tmp_path / "c.toml").write_text(to_toml(config))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == ["1", "2"]
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    resumed = train(shop, config, tmp_path / "run", resume=True, progress=False)
    assert without_clock(resumed.history) == without_clock(run.history)
    assert same_weights(resumed.two_tower.get_weights(), run.two_tower.get_weights())


def test_load_run_rebuilds_everything_from_the_folder(run, config):
    loaded = load_run(run.run_dir)
    assert loaded.config == config
    assert loaded.features == run.features
    assert loaded.history == run.history
    assert loaded.metrics == run.metrics
    assert same_weights(loaded.two_tower.get_weights(), run.two_tower.get_weights())
    again = evaluate(loaded.ranker(), loaded.split, on="valid")
    assert again == {k: run.metrics[k] for k in again}
    np.testing.assert_array_equal(loaded.two_tower.item_vectors(), run.two_tower.item_vectors())


def test_the_log_has_one_line_an_epoch_and_tensorboard_has_events(run):
    lines = (run.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.history
    assert [row["epoch"] for row in run.history] == list(range(1, len(lines) + 1))
    assert list((run.run_dir / "tensorboard").glob("events*"))
    assert not list(run.run_dir.glob(".*tmp"))


def test_early_stopping_keeps_the_best_epoch(shop, config, tmp_path, monkeypatch):
    values = iter([0.1, 0.3, 0.2, 0.3, 0.25])
    kept = []

    def step(self, batch, *, epoch):
        self.weights[0].assign(self.weights[0] + 1)
        return 1.0

    def scripted(ranker, split, **options):
        kept.append(ranker.model.get_weights())
        return {"NDCG@10": next(values)}

    monkeypatch.setattr(loop.TrainStep, "__call__", step)
    monkeypatch.setattr(loop, "evaluate", scripted)
    wanted = {"train.epochs": 50, "train.patience": 3, "train.ema": 0.0}
    run = train(shop, apply_overrides(config, wanted), tmp_path / "run", progress=False)
    assert [row["is_best"] for row in run.history] == [True, True, False, False, False]
    assert run.metrics == {"NDCG@10": 0.3}
    assert same_weights(run.two_tower.get_weights(), kept[1])


@pytest.mark.parametrize("loss", ["sampled", "gbce", "bpr"])
def test_losses_over_sampled_items_train(shop, config, tmp_path, loss):
    wanted = {"train.loss": loss, "train.n_negatives": 20, "train.label_smoothing": 0.05}
    if loss == "gbce":  # first it pushes everything away from everything
        wanted |= {"train.epochs": 20, "train.n_negatives": 5}
    run = train(shop, apply_overrides(config, wanted), tmp_path / "run", progress=False)
    assert run.history[-1]["loss"] < run.history[0]["loss"] * 0.8
    assert run.metrics["HR@10"] > 0.8


def test_without_features_and_validation_events_it_still_trains(config, tmp_path):
    events = pl.DataFrame(
        {
            "user_id": [1, 1, 2],
            "item_id": [7, 8, 8],
            "timestamp": [1, 2, 3],
            "kind": "event",
            "value": pl.Series([None] * 3, dtype=pl.Float32),
        }
    )
    run = train(Dataset("tiny", events), config, tmp_path / "run", progress=False)
    assert len(run.history) == config.train.epochs
    assert run.metrics == {}
    assert load_run(tmp_path / "run").two_tower.item_vectors().shape == (2, 8)


def test_items_without_train_events_get_their_vector_from_content_alone(run):
    split, model = run.split, run.two_tower
    rows = split.item_rows(split.train["item_id"])
    untrained = np.bincount(rows, minlength=len(split.catalogue)) == 0
    table = model.item_encoder.id_table.numpy()[1:]
    assert (table[~untrained] != 0).any(axis=1).all()
    hidden = Split(
        split.dataset,
        split.train.filter(pl.col("item_id") != "i3"),
        split.valid,
        split.test,
        split.protocol,
    )
    fresh = build_model(run.config, run.features, split.dataset, hidden)
    row = int(split.item_rows(pl.Series(["i3"]))[0])
    assert (fresh.item_encoder.id_table.numpy()[row + 1] == 0).all()
    inputs = {name: values[[row]] for name, values in fresh.item_inputs.items()}
    unknown = {**inputs, "item_id": np.zeros(1, np.int64)}
    np.testing.assert_array_equal(fresh.item_model(inputs), fresh.item_model(unknown))
    counts = np.bincount(hidden.item_rows(hidden.train["item_id"]), minlength=model.n_items)
    step = TrainStep(fresh, run.config, {}, counts, 10)
    assert row not in step.rows
    np.testing.assert_array_equal(step.item_inputs["item_id"], step.rows + 1)


def test_the_scorer_is_trained_on_validation_users_saved_and_judged(run, config, tmp_path):
    wanted = {"scorer.enabled": True, "scorer.hidden": [4], "scorer.epochs": 2}
    config = apply_overrides(config, {**wanted, "scorer.n_candidates": 15})
    scorer, report = train_reranker(run.two_tower, run.split, config, tmp_path, progress=False)
    users = run.split.valid["user_id"].n_unique()
    assert (report.n_users, report.n_candidates) == (users, 15)
    assert report.ndcg_at_10_without == pytest.approx(run.metrics["NDCG@10"], abs=1e-6)
    gain = report.ndcg_at_10_with - report.ndcg_at_10_without
    assert report.is_kept == (gain > report.standard_error)
    loaded, loaded_report = load_reranker(tmp_path, config)
    rng = np.random.default_rng(0)
    inputs = {
        "history": rng.integers(0, 31, (3, 7)),
        "candidates": rng.integers(0, 31, (3, 5)),
        "similarity": rng.random((3, 5)).astype(np.float32),
    }
    np.testing.assert_array_equal(loaded.model(inputs), scorer.model(inputs))
    assert (loaded.config, loaded_report) == (config.scorer, report)


def test_without_enough_validation_users_there_is_no_second_stage(run, config, tmp_path):
    config = apply_overrides(config, {"scorer.enabled": True})
    few = dataclasses.replace(run.split, valid=run.split.valid.head(5))
    scorer, report = train_reranker(run.two_tower, few, config, tmp_path, progress=False)
    assert scorer is None
    assert (report.is_kept, report.n_users) == (False, 0)
    assert load_reranker(tmp_path, config) == (None, report)


def test_candidates_are_those_of_the_first_stage_and_know_their_targets(run, config):
    settings = dataclasses.replace(config.scorer, n_candidates=12)
    ranked = second_stage.first_stage(run.two_tower, run.split, 12)
    found = second_stage.candidates_of(run.two_tower, run.split, ranked, settings)
    targets = run.split.targets("valid")
    for user in range(3):
        wanted = set(targets.rows_of(user).tolist())
        assert found.is_target[user].tolist() == [row in wanted for row in found.rows[user]]
    assert (np.diff(found.inputs["similarity"], axis=1) <= 1e-6).all()
    histories = run.split.histories("train")
    history = found.inputs["history"][0]
    np.testing.assert_array_equal(history[history > 0] - 1, histories.rows_of(0))


def test_linear_factors_give_the_weights_of_ease_when_nothing_is_truncated():
    rng = np.random.default_rng(0)
    seen = (rng.random((200, 12)) < 0.3).astype(float)
    users, items = np.nonzero(seen)
    before, after = linear_factors(users, items, 12, n_factors=11, l2=5.0)
    vectors, values, _ = np.linalg.svd(seen.T @ seen)
    kept = (vectors[:, :11] * values[:11]) @ vectors[:, :11].T  # of rank 11, as the factors
    inverse = np.linalg.inv(kept + 5.0 * np.eye(12))
    expected = -inverse / np.diag(inverse)
    off = ~np.eye(12, dtype=bool)
    np.testing.assert_allclose((before @ after.T)[off], expected[off], rtol=1e-3, atol=1e-5)


def test_a_folder_with_a_run_is_not_overwritten(run, shop, config):
    with pytest.raises(DataError, match=r"already holds a run; pass resume=True"):
        train(shop, config, run.run_dir, progress=False)


def test_resuming_with_other_settings_or_data_is_refused(run, shop, config):
    other = apply_overrides(config, {"model.dim": 16})
    with pytest.raises(DataError, match=r"resume: model\.dim: got 16, expected 8 as in"):
        train(shop, other, run.run_dir, resume=True, progress=False)
    fewer = Dataset("shop", shop.events.head(100), shop.items, shop.users)
    with pytest.raises(DataError, match="resume: the data differs"):
        train(fewer, config, run.run_dir, resume=True, progress=False)


def test_resuming_a_finished_run_changes_nothing(run, shop, config):
    again = train(shop, config, run.run_dir, resume=True, progress=False)
    assert again.history == run.history


def test_resuming_with_another_scorer_or_export_keeps_the_change(run, shop, config, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.run_dir, folder)
    wanted = {"scorer.enabled": True, "scorer.hidden": [4], "scorer.epochs": 1}
    with_scorer = apply_overrides(config, {**wanted, "export.parity_users": 7})
    train(shop, with_scorer, folder, resume=True, progress=False)
    loaded = load_run(folder)
    assert loaded.config == with_scorer
    assert loaded.scorer is not None
    # Killed after the settings were kept and before the next scorer was: not a finished run.
    other = apply_overrides(with_scorer, {"scorer.hidden": [5]})
    checkpoint.open_run_folder(folder, shop, other, run.features, resume=True)
    with pytest.raises(DataError, match=r"is unfinished \(no scorer\.npz\); resume it first"):
        load_run(folder)


def test_damaged_and_unfinished_folders_are_data_errors(run, shop, config, tmp_path):
    with pytest.raises(DataError, match=r"has no config\.toml"):
        load_run(tmp_path)
    (tmp_path / "config.toml").write_text(to_toml(config))
    with pytest.raises(DataError, match="is unfinished"):
        load_run(tmp_path)
    content = (run.run_dir / "checkpoint.npz").read_bytes()
    flipped = bytearray(content)
    flipped[content.index(b"\x93NUMPY") + 200] ^= 1  # one bit of the first array's numbers
    for damaged in (content[: len(content) // 2], b"", bytes(flipped)):
        (tmp_path / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"checkpoint\.npz: damaged"):
            checkpoint.load_arrays(tmp_path / "checkpoint.npz")


def test_divergence_is_an_error_that_names_the_setting(shop, config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.TrainStep, "__call__", lambda self, batch, epoch: float("nan"))
    with pytest.raises(DataError, match=r"epoch 1: loss is nan; lower train\.learning_rate"):
        train(shop, config, tmp_path / "run", progress=False)


@pytest.mark.parametrize("n_targets", [1, 3, 8])
def test_every_event_is_a_target_once_with_the_events_before_it(n_targets):
    lengths = np.array([5, 1, 12, 3])
    codes = np.arange(1, 22)
    sequences = Sequences(codes, lengths, history_length=4, n_targets=n_targets)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    seen = []
    for batch in sequences.batches(6, seed=1, epoch=0):
        for row, user in enumerate(batch.users):
            for s in np.flatnonzero(batch.weight[row]):
                target = batch.target[row, s]
                history = batch.history[row, : batch.history.shape[1] - (n_targets - 1 - s)]
                history = history[history > 0][-4:]
                wanted = codes[max(starts[target - 1], target - 5) : target - 1]
                np.testing.assert_array_equal(history, wanted)
                assert np.repeat(np.arange(4), lengths)[target - 1] == user
                seen.append(target)
    assert sorted(seen) == codes.tolist()
    assert sequences.n_examples == 21


def test_sequences_repeat_by_epoch_and_differ_between_epochs():
    sequences = Sequences(np.arange(1, 101), np.array([60, 40]), history_length=5, n_targets=2)

    def targets(epoch):
        options = {"seed": 3, "epoch": epoch, "history_dropout": 0.5}
        return [(b.target.tolist(), b.history.tolist()) for b in sequences.batches(8, **options)]

    assert targets(1) == targets(1)
    assert targets(1) != targets(2)


def test_windows_per_user_limits_long_histories():
    sequences = Sequences(
        np.arange(1, 101), np.array([90, 10]), history_length=5, n_targets=2, windows_per_user=8
    )
    batches = list(sequences.batches(4, seed=0, epoch=0))
    assert len(batches) == sequences.n_steps(4)
    per_user = sum(np.bincount(b.users, b.weight.sum(axis=1), minlength=2) for b in batches)
    assert per_user.tolist() == [8.0, 8.0]


def test_a_dataset_copy_keeps_no_table_of_an_earlier_one(shop, tmp_path):
    checkpoint.save_dataset(shop, tmp_path)
    events_only = Dataset("shop", shop.events)
    checkpoint.save_dataset(events_only, tmp_path)
    copy = checkpoint.load_dataset_copy(tmp_path)
    assert checkpoint.same_dataset(copy, events_only)
    assert (copy.items, copy.users) == (None, None)


def test_a_half_written_dataset_copy_is_not_taken_for_a_whole_one(shop, tmp_path, monkeypatch):
    checkpoint.save_dataset(shop, tmp_path)

    def stop(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_atomic", stop)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_dataset(shop, tmp_path)
    with pytest.raises(DataError, match="not a dataset copy of a training run"):
        checkpoint.load_dataset_copy(tmp_path)


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    checkpoint.save_arrays(path, {"x": np.arange(3)}, {"n": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save_arrays(path, {"x": np.arange(9)}, {"n": 2})
    arrays, state = checkpoint.load_arrays(path)
    assert (arrays["x"].tolist(), state) == ([0, 1, 2], {"n": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
