"""Training says what it understood, how it ended and what that is worth, and is cheap to refuse."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import shortlist
import shortlist.training
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.config.settings import load_config
from shortlist.training.data.events import Dataset, make_events
from shortlist.training.data.summary import summarise_events
from shortlist.training.fit.checkpoint import remove_run
from shortlist.training.fit.loop import how_it_ended

TINY = {"model.dim": 8, "model.hidden": 16, "train.epochs": 2, "train.batch_size": 64}
FLAGS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


def events_of(kinds, times=None):
    n = len(kinds)
    users = pl.Series(["u1"] * (n - 1) + ["u2"])
    items = pl.Series(["a", "b"] + ["a"] * (n - 2))
    when = pl.Series([1_700_000_000 + 86_400 * i for i in range(n)] if times is None else times)
    return make_events(users, items, when).with_columns(pl.Series("kind", kinds))


def test_a_summary_counts_users_items_repeats_days_and_kinds():
    summary = summarise_events([events_of(["view", "buy", "view", "view"])])
    assert summary.lines()[0] == "4 events of 2 users and 2 items, 2023-11-14 to 2023-11-17"
    assert summary.lines()[1] == "1 event (25%) repeats an item that its user had before"
    assert summary.lines()[2] == "kinds: view 3, buy 1"


def test_one_is_counted_as_one():
    one = make_events(pl.Series(["u"]), pl.Series(["a"]))
    assert summarise_events([one], has_times=False).lines()[0] == "1 event of 1 user and 1 item"
    assert repr(Dataset("x", one)) == "Dataset('x', 1 event, 1 user, 1 item)"
    config = load_config(overrides={"train.epochs": 1})
    assert how_it_ended(rows(0.1), config).startswith("done: 1 epoch, best was 1")
    unmeasured = [{"epoch": 1, "is_best": False}]
    assert how_it_ended(unmeasured, config).startswith("done: 1 epoch, nothing held out")


def test_a_summary_of_parts_is_that_of_the_whole():
    events = events_of(["view", "buy", "view", "view"])
    parts = events.partition_by("user_id")
    assert summarise_events(parts) == summarise_events([events])


def test_places_in_a_file_are_no_days():
    summary = summarise_events([events_of(["view"] * 3, [0, 1, 2])], has_times=False)
    assert (summary.first, summary.last) == (None, None)
    assert summary.lines()[0] == "3 events of 2 users and 2 items"


def test_kinds_that_count_alike_are_asked_about():
    summary = summarise_events([events_of(["view", "buy", "view", "view"])])
    (question,) = summary.lines({}, ())[3:]
    assert "every kind counts 1: a buy counts as a view. Is that meant?" in question
    assert "--set events.weights.buy=5" in question
    (other,) = summarise_events([events_of(["buy", "view", "buy", "buy"])]).lines({}, ())[3:]
    assert "a buy counts as a view" in other
    said = summary.lines({"buy": 5.0}, ("view",))
    assert said[2:] == ["kinds: view 3 (dislike), buy 1 (weight 5)"]


def test_one_kind_is_not_asked_about():
    assert len(summarise_events([events_of(["view"] * 4)]).lines({}, ())) == 3


def rows(*ndcg):
    best = -1.0
    history = []
    for epoch, value in enumerate(ndcg, 1):
        history.append({"epoch": epoch, "NDCG@10": value, "is_best": value > best})
        best = max(best, value)
    return history


def test_how_a_training_ended_names_the_best_epoch():
    config = load_config(overrides={"train.epochs": 4, "train.patience": 2})
    stopped = how_it_ended(rows(0.2, 0.1, 0.1), config)
    assert stopped == "stopped after epoch 3: no better for 2 epochs, best was 1 (NDCG@10 0.2000)"
    assert how_it_ended(rows(0.1, 0.2, 0.3, 0.2), config).startswith(
        "done: all 4 epochs, best was 3"
    )
    assert "still rising" in how_it_ended(rows(0.1, 0.2, 0.3, 0.4), config)
    unmeasured = [{"epoch": 1, "is_best": False}]
    assert "nothing held out" in how_it_ended(unmeasured, config)


def modules_after(argv):
    code = (
        "import sys\nfrom shortlist.cli import main\n"
        f"code = main({argv!r})\nprint(code, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, *(["-S"] if sys.flags.no_site else []), "-c", code],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    return done.stdout.strip()


def test_what_cannot_be_trained_is_refused_without_tensorflow(tmp_path):
    out = ["--out", str(tmp_path / "x.shortlist")]
    assert modules_after(["train", "--data", str(tmp_path / "none.csv"), *out]) == "1 False False"
    assert modules_after(["export", str(tmp_path / "none.run"), *out]) == "1 False False"
    books, none = str(shortlist.datasets.example_bundle()), str(tmp_path / "none")
    assert modules_after(["evaluate", books, "--data", none]) == "1 False False"
    assert modules_after(["evaluate", none, "--data", "movielens-100k"]) == "1 False False"
    for command in ("update", "inspect"):
        assert modules_after([command, books, "--feedback", none]) == "1 False False"
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,x,never\n")
    assert modules_after(["train", "--data", str(tmp_path / "events.csv"), *out]) == "1 False False"


def test_a_search_without_its_data_is_refused_without_tensorflow(tmp_path):
    pytest.importorskip("optuna", reason="the library optuna is not installed")
    (tmp_path / "space.toml").write_text("[model]\ndropout = [0.1]")
    argv = ["tune", "--data", str(tmp_path / "none.csv"), "--study", str(tmp_path / "study")]
    argv += ["--space", str(tmp_path / "space.toml")]
    assert modules_after(argv) == "1 False False"
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("command", ["train", "export", "tune"])
def test_a_package_that_is_missing_is_named_before_anything_is_read(
    command, tmp_path, monkeypatch, capsys
):
    if command == "tune":
        pytest.importorskip("optuna", reason="the library optuna is not installed")
    find = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "tf2onnx", raising=False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tf2onnx" else find(name, *a)
    )
    argv = {
        "train": ["--data", "none.csv", "--out", "x.shortlist"],
        "export": ["none.run", "--out", "x.shortlist"],
        "tune": ["--data", "none.csv", "--space", "none.toml", "--study", str(tmp_path)],
    }[command]
    assert main([command, *argv]) == 1
    error = capsys.readouterr().err
    assert "training needs the package 'tf2onnx', which is not installed" in error
    assert "pip install 'shortlist[train]'" in error


def test_a_run_is_removed_and_what_else_lies_there_stays(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("weights.npz", "config.toml", "data/events.parquet", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "data/dataset.json").touch()
    remove_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_overwrite_deletes_no_file_that_training_did_not_write(shop, tmp_path, capsys):
    work, own = tmp_path / "work", ["cleaning.txt", "data/events.csv", "data/users.parquet"]
    (work / "data").mkdir(parents=True)
    shop.events.write_csv(work / "data/events.csv")
    (work / "data/users.parquet").write_text("mine")
    (work / "cleaning.txt").touch()
    argv = ["train", "--data", str(work / "data/events.csv"), "--preset", "popularity", "--run"]
    argv += [str(work), "--out", str(tmp_path / "x.shortlist"), "--quiet"]
    for flags in ([], ["--overwrite"], ["--resume"]):
        assert main([*argv, *flags]) == 1
        assert "give another run_dir (--run FOLDER)" in capsys.readouterr().err
    remove_run(work)
    assert sorted(str(p.relative_to(work)) for p in work.rglob("*") if p.is_file()) == own


def test_overwrite_leaves_what_was_put_beside_a_run_and_trains_there(shop, tmp_path):
    shop.events.write_csv(tmp_path / "events.csv")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--preset", "popularity", "--quiet"]
    argv += ["--out", str(tmp_path / "x.shortlist")]
    assert main(argv) == 0
    (tmp_path / "x.run/data/notes.txt").touch()
    assert main([*argv, "--overwrite"]) == 0
    assert (tmp_path / "x.run/data/notes.txt").exists()
    remove_run(tmp_path / "x.run")
    left = [p.name for p in (tmp_path / "x.run").rglob("*") if p.is_file()]
    assert sorted(left) == ["dataset.json", "notes.txt"]


def test_overwrite_trains_anew_and_keeps_the_old_run_until_the_data_is_read(shop, tmp_path, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    argv = ["train", "--data", str(tmp_path / "events.csv"), *FLAGS, "--quiet"]
    argv += ["--out", str(tmp_path / "x.shortlist")]
    assert main(argv) == 0
    weights = tmp_path / "x.run/weights.npz"
    first = weights.stat().st_mtime_ns
    broken = [*argv, "--overwrite", "--column", "user_id=who"]
    assert main(broken) == 1
    assert weights.stat().st_mtime_ns == first
    assert main([*argv, "--overwrite", "--set", "train.seed=5"]) == 0
    assert weights.stat().st_mtime_ns > first
    assert "seed = 5" in (tmp_path / "x.run/config.toml").read_text()
    assert "error" not in capsys.readouterr().err.splitlines()[-1]


def test_the_next_commands_read_what_the_settings_file_names(shop, tmp_path, capsys):
    shop.events.rename({"user_id": "who"}).write_csv(tmp_path / "events.csv")
    (tmp_path / "shop.toml").write_text(
        f'[data]\npath = "{tmp_path}/events.csv"\n[data.columns]\nuser_id = "who"\n'
        '[model]\nencoder = "cooccurrence"\n'
    )
    out = str(tmp_path / "x.shortlist")
    argv = ["train", "--config", str(tmp_path / "shop.toml"), "--quiet", "--out", out]
    assert main([*argv, "--set", "data.ignore=['event.value']"]) == 0
    command = next(x for x in capsys.readouterr().out.splitlines() if " evaluate " in x)
    given = ["--data", f"{tmp_path}/events.csv", "--column", "user_id=who"]
    assert shlex.split(command) == ["shortlist", "evaluate", out, *given, "--ignore", "event.value"]
    assert main([*shlex.split(command)[1:], "--no-baselines"]) == 0


def test_train_says_what_it_understood_and_ends_with_a_judgement(shop, tmp_path, capsys):
    items = shop.items.with_columns(in_stock=pl.lit(True), price=pl.col("price"))
    shop.events.write_csv(tmp_path / "events.csv")
    items.write_parquet(tmp_path / "items.parquet")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--items"]
    argv += [str(tmp_path / "items.parquet"), *FLAGS, "--out", str(tmp_path / "x.shortlist")]
    stops_early = ["train.epochs=9", "train.patience=1", "train.learning_rate=1e-8"]
    argv += [word for setting in stops_early for word in ("--set", setting)]
    assert main(argv) == 0
    shown = capsys.readouterr()
    said = shown.err
    assert "shortlist train: 480 events of 40 users and 30 items, 1970-01-01 to 1970-01-01" in said
    assert "shortlist train: kinds: event 480" in said
    assert "shortlist train: no events repeat an item" in said
    assert "does item column 'in_stock' change by the hour?" in said
    assert "'price' change" not in said
    assert "warning: measured on 40 users: the metrics of fewer than 100 say little" in said
    lines = shown.out.splitlines()
    assert lines[0].startswith("stopped after epoch 2: no better for an epoch, best was 1 (NDCG@10")
    assert "train: 100%" in said.splitlines()[-2]  # of what early stopping left to do
    assert lines[1] == "validation: each user's last item but one; all 30 items ranked"
    assert lines[2] == "40 of 40 validation users measured"
    assert [name.strip() for name in lines[3].split("  ")][-3:] == [
        "popularity",
        "ItemKNN with recency",
        "x.shortlist",
    ]
    metrics = [line.split()[0] for line in lines[4:9]]
    assert metrics == ["NDCG@10", "HR@10", "NDCG@20", "HR@20", "coverage@10"]
    assert all(len(line) == len(lines[3]) for line in lines[4:9])
    assert "than ItemKNN with recency" in lines[9]
    data = f"--data {tmp_path}/events.csv --items {tmp_path}/items.parquet"
    assert lines[-2] == f"  shortlist evaluate {tmp_path}/x.shortlist {data}"
    assert main(lines[-1].split()[1:]) == 0
    assert "from stored history" in capsys.readouterr().out


def test_training_takes_frames_and_gives_a_report_that_opens_the_bundle(shop, tmp_path, capsys):
    with pytest.warns(UserWarning, match="measured on 40 users"):
        report = shortlist.training.train(
            shop.events.to_pandas(),
            shop.items.to_arrow(),
            shop.users.select("user_id", "city"),
            out=tmp_path / "x.shortlist",
            settings=TINY,
            progress=False,
        )
    assert capsys.readouterr().err == ""
    assert report.features == {
        "user.city": "categorical",
        "item.tags": "multi_categorical",
        "item.price": "numeric",
    }
    assert report.events.n_events == 480
    assert set(report.validation.baselines) == {"ItemKNN with recency", "popularity"}
    assert "bundle: " in str(report)
    with report.load() as engine:
        assert engine.recommend({"user_id": ["u1"]}, top_n=3).counts.tolist() == [3]


def test_training_takes_paths_and_shows_what_it_understood(shop, tmp_path, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    settings = {"cleaning.enabled": True, "model.encoder": "popularity"}
    settings |= {"cleaning.earliest": "1970-01-01"}
    with pytest.warns(UserWarning, match="measured on"):
        report = shortlist.training.train(
            tmp_path / "events.csv", users=shop.users, out=tmp_path / "x.shortlist",
            settings=settings,
        )  # fmt: skip
    said = capsys.readouterr().err
    assert "shortlist: 480 events of 40 users and 30 items" in said
    assert "none, as 'popularity' learns from events" in said
    assert report.cleaning.n_kept == 480
    assert set(report.validation.baselines) == {"ItemKNN with recency"}
    assert report.ended == ""


def test_frames_that_cannot_be_trained_are_refused(shop, tmp_path):
    (tmp_path / "x.run").touch()
    with pytest.raises(DataError, match=r"run folder: got .*, which is a file"):
        shortlist.training.train(shop.events, out=tmp_path / "x.shortlist")
    with pytest.raises(DataError, match="user_id"):
        shortlist.training.train(shop.items, out=tmp_path / "y.shortlist", progress=False)


def test_the_training_package_has_train_without_importing_it():
    code = (
        "import sys, shortlist.training; print('polars' in sys.modules, shortlist.training.train)"
    )
    flags = ["-S"] if sys.flags.no_site else []
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False <function train")
    with pytest.raises(AttributeError, match="has no attribute 'fit_all'"):
        _ = shortlist.training.fit_all


def test_clean_ends_with_the_same_summary(shop, tmp_path, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    argv = ["clean", "--data", str(tmp_path / "events.csv"), "--out", str(tmp_path / "c.parquet")]
    assert main([*argv, "--set", "cleaning.earliest=1970-01-01"]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "kept:",
        *summarise_events([shop.events]).lines(),
    ]


def test_clean_shows_progress_on_many_rows_unless_quiet(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shortlist.training.cleaning.clean.MANY_ROWS", 100)
    shop.events.write_csv(tmp_path / "events.csv")
    argv = ["clean", "--data", str(tmp_path / "events.csv"), "--out", str(tmp_path / "c.parquet")]
    argv += ["--set", "cleaning.earliest=1970-01-01"]
    assert main(argv) == 0
    shown = capsys.readouterr().err
    assert "events.csv: reading 480 rows" in shown
    assert "480/480" in shown
    assert main([*argv, "--quiet"]) == 0
    assert "480/480" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_python_of_the_page_on_training_runs(tmp_path, monkeypatch, capsys):
    page = Path(__file__).resolve().parents[2] / "docs" / "training.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    shown = capsys.readouterr().out
    assert "walk.shortlist" in shown
    assert "from stored history: 3 items" in shown
