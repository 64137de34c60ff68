"""`shortlist.training.evaluate` takes files, frames and engines, and measures repeats."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import shortlist
import shortlist.training
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.models.repeats import OwnFrequency

SMALL = ["--set", "model.dim=8", "--set", "model.hidden=16", "--set", "train.epochs=2",
         "--set", "train.batch_size=64", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    shop.events.write_csv(folder / "events.csv")
    shop.items.write_parquet(folder / "items.parquet")
    shop.users.write_parquet(folder / "users.parquet")
    tables = [f"--{name}={folder / name}.parquet" for name in ("items", "users")]
    out = folder / "shop.shortlist"
    argv = ["train", "--data", str(folder / "events.csv"), *tables, *SMALL, "--out", str(out)]
    assert main(argv) == 0
    return out


def test_importing_the_package_imports_no_model():
    code = "import sys, shortlist.training; assert 'polars' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert callable(shortlist.training.evaluate)
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = shortlist.training.evaluat


def test_frames_and_files_and_engines_give_the_same_report(bundle, shop):
    files = bundle.parent / "events.csv"
    first = shortlist.training.evaluate(bundle, files)
    with shortlist.load(bundle) as engine:
        frames = shortlist.training.evaluate(
            engine, shop.events, items=shop.items, users=shop.users
        )
        engine.recommend({"history": [["i1"]]})  # it is the caller's, and still open
    arrow = shortlist.training.evaluate(str(bundle), shop.events.to_arrow(), baselines=False)
    assert first.metrics == frames.metrics
    assert arrow.metrics == {bundle.name: first.metrics[bundle.name]}
    assert (first.dataset, frames.dataset) == ("events", "frame")
    assert (first.n_users, first.verdict.n_users) == (40, 40)
    assert first.tables == {"items": "none", "users": "bundle"}
    assert frames.tables == {"items": "data", "users": "data"}
    assert first.warnings == frames.warnings == ()


def test_frames_are_cleaned_and_renamed_as_files_are(shop, tmp_path):
    shop.events.write_csv(tmp_path / "events.csv")
    rules = ["--set", "cleaning.enabled=true", "--set", "cleaning.earliest=1970-01-01"]
    out = tmp_path / "x.shortlist"
    argv = ["train", "--data", str(tmp_path / "events.csv"), *SMALL, *rules, "--out", str(out)]
    assert main(argv) == 0
    twice = pl.concat([shop.events, shop.events]).rename({"user_id": "customer"})
    reading = {"columns": {"user_id": "customer"}}
    report = shortlist.training.evaluate(out, twice, reading=reading, baselines=False)
    assert report.warnings == ()  # the events of the training: repeated rows are dropped again
    with pytest.raises(DataError, match="customer"):
        shortlist.training.evaluate(out, shop.events, reading=reading)


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    """Most users hear their own four songs again and again."""
    pick, rows = random.Random(0), []
    for user in range(60):
        own = pick.sample(range(40), 4)
        for k in range(30):
            song = pick.choice(own) if pick.random() < 0.95 else pick.randrange(40)
            rows.append((f"u{user}", f"s{song}", 1_700_000_000 + 1000 * user + k))
    path = tmp_path_factory.mktemp("music") / "plays.csv"
    schema = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def music(plays):
    """A bundle trained without a word on repeats, and one trained for them."""
    bundles = []
    for name, flags in (("plain", []), ("again", ["--set", "split.include_seen=true"])):
        out = plays.with_name(f"{name}.shortlist")
        argv = ["train", "--data", str(plays), "--preset", "item-knn", "--quiet", *flags]
        assert main([*argv, "--out", str(out)]) == 0
        bundles.append(out)
    return bundles


def evaluated(bundle, plays, capsys, *flags):
    capsys.readouterr()
    assert main(["evaluate", str(bundle), "--data", str(plays), "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_repeats_are_measured_where_they_are_asked_for(music, plays, capsys):
    plain, again = music
    new = evaluated(plain, plays, capsys)
    assert (new["include_seen"], "own frequency" in new["metrics"]) == (False, False)
    assert new["n_users"] < 10
    assert new["left_out"]["seen_targets"] == 60 - new["n_users"]
    assert any("came back to items they had before" in text for text in new["warnings"])
    repeats = evaluated(plain, plays, capsys, "--include-seen")
    assert (repeats["include_seen"], repeats["n_users"]) == (True, 60)
    assert repeats["warnings"] == []
    assert repeats["metrics"]["own frequency"]["HR@10"] > 0.9
    assert repeats["verdict"]["judgement"] == "worse"  # neighbours do not know of repeats
    assert evaluated(again, plays, capsys)["include_seen"] is True  # as it was trained
    assert evaluated(again, plays, capsys, "--no-include-seen")["n_users"] == new["n_users"]


def test_the_report_says_which_protocol_was_used(music, plays, capsys):
    for flag, text in (
        ("--include-seen", "seen items included (serve with exclude_seen=False)"),
        ("--no-include-seen", "seen items left out"),
    ):
        assert main(["evaluate", str(music[0]), "--data", str(plays), "--no-baselines", flag]) == 0
        assert text in capsys.readouterr().out


def test_training_for_repeats_validates_on_all_users(music):
    with shortlist.load(music[0]) as plain, shortlist.load(music[1]) as again:
        first, second = (
            engine.bundle.manifest.metrics["validation"]["HR@10"] for engine in (plain, again)
        )
    assert second != first  # of a handful of users, and of all


def test_the_baseline_of_repeats_counts_then_takes_the_latest_then_the_popular():
    events = pl.DataFrame({"user_id": [1, 1, 2, 3], "item_id": [10, 11, 11, 12]})
    model = OwnFrequency().fit(events, np.array([10, 11, 12, 13]))
    histories = [np.array([3, 0, 0, 2]), np.empty(0, np.int64)]
    ranked = model.rank(histories, np.array([8, 9]), 4, exclude_seen=False)
    assert ranked.tolist() == [[0, 2, 3, 1], [1, 0, 2, 3]]
    assert model.rank(histories, np.array([8, 9]), 4).tolist() == [[1, -1, -1, -1], [1, 0, 2, 3]]
    vectors = model.item_vectors()
    embedding = np.array([1, 2, 0, 1, 1])  # and each own item's weight
    assert vectors.shape == (4, 5)
    assert (vectors @ embedding).argsort()[::-1].tolist()[0] == 0
