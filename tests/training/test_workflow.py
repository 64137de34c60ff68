"""Files in, bundle out, through the command line: what a user does first."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import polars as pl
import pytest

import shortlist
from shortlist.cli import main
from shortlist.training.evaluation.evaluation_report import EvaluationReport
from shortlist.training.evaluation.published import published_table
from shortlist.training.fit import fit
from shortlist.training.fit.fit import load_run
from shortlist.training.pipeline import evaluation
from shortlist.training.pipeline import train as train_pipeline

SMALL = ["--set", "model.dim=8", "--set", "model.hidden=16", "--set", "train.epochs=2",
         "--set", "train.batch_size=64", "--quiet"]  # fmt: skip

DATA = ["--data", "movielens-100k"]


@pytest.fixture(scope="module")
def files(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    shop.events.write_csv(folder / "events.csv")
    shop.items.write_parquet(folder / "items.parquet")
    shop.users.write_parquet(folder / "users.parquet")
    return ["--data", str(folder / "events.csv"), "--items", str(folder / "items.parquet"),
            "--users", str(folder / "users.parquet")]  # fmt: skip


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "shop.shortlist"
    plot = out.with_suffix(".png")
    assert (
        main(["train", *files, *SMALL, "--seed", "3", "--out", str(out), "--plot", str(plot)]) == 0
    )
    return out


def test_train_leaves_a_bundle_a_run_folder_and_a_plot(trained):
    with shortlist.load(trained) as engine:
        assert len(engine.index) > 0
    assert load_run(trained.with_suffix(".run")).config.train.seed == 3
    assert trained.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_bundle_gives_the_metrics_of_the_model_it_was_made_from(trained, files, capsys):
    run = load_run(trained.with_suffix(".run"))
    lists = evaluation.evaluate_rankers({"keras": run.ranker()}, run.split, baselines=False)
    own = lists["keras"].metrics()
    capsys.readouterr()
    assert main(["evaluate", str(trained), *files, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["protocol"] == "leave-one-out"
    assert result["warnings"] == []
    library = {"iALS"} if importlib.util.find_spec("implicit") else set()
    assert set(result["metrics"]) - library == {
        trained.name, "popularity", "ItemKNN", "ItemKNN with recency", "EASE"
    }  # fmt: skip
    for name, (low, high) in result["intervals"].items():
        assert low <= result["metrics"][trained.name][name] <= high
    for kind in ("history", "target events"):
        segments = [s for s in result["segments"] if s["name"].startswith(kind)]
        n_users = sum(segment["n_users"] for segment in segments)
        assert n_users == result["n_users"]
        mean = sum(s["n_users"] * s["metrics"]["NDCG@10"] for s in segments) / n_users
        assert mean == pytest.approx(result["metrics"][trained.name]["NDCG@10"])
    assert result["n_users"] + sum(result["left_out"].values()) == 40
    assert result["verdict"]["judgement"] in ("better", "no better", "worse")
    assert result["verdict"]["baseline"] in result["metrics"]
    for name, value in own.items():
        assert result["metrics"][trained.name][name] == pytest.approx(value, abs=1e-4)


def test_evaluate_writes_a_report_that_names_its_protocol(trained, files, tmp_path, capsys):
    report = tmp_path / "report.md"
    argv = ["evaluate", str(trained), *files, "--no-baselines", "--report", str(report)]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "HR@10" in shown
    assert "|" not in shown  # a table for a terminal
    assert not any(f" {name}@" in shown for name in ("Recall", "MAP"))  # HR and MRR once more
    assert max(map(len, shown.splitlines()[:-1])) < 100
    text = report.read_text(encoding="utf-8")
    assert "leave-one-out" in text
    assert trained.name in text
    assert "| 95 % from |" in text
    assert "| history " in text
    assert "![NDCG of each ranker](report.png)" in text
    assert report.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "Published" not in text  # nothing is known of this shop
    assert "Recall@10" not in text
    assert main([*argv, "--markdown"]) == 0
    page = capsys.readouterr().out
    assert page == text.replace("\n\n![NDCG of each ranker](report.png)", "")
    for report in (shown, text):
        assert report.rstrip().splitlines()[-1].startswith("Verdict: nothing to compare")


def test_published_numbers_stand_beside_those_of_the_same_set_and_protocol():
    report = EvaluationReport("beauty", "leave-one-out", "test", 22_363, 12_101, {}, {}, ())
    assert "| eSASRec | 0.093 | 0.052 | eSASRec, RecSys 2025 |" in published_table(report)
    for other in ({"protocol": "temporal"}, {"on": "valid"}, {"n_users": 22_362}):
        assert published_table(dataclasses.replace(report, **other)) == ""


def test_export_from_the_run_folder_gives_the_same_answers(trained, tmp_path, capsys):
    again = tmp_path / "again.shortlist"
    run = str(trained.with_suffix(".run"))
    assert main(["export", run, "--out", str(again), "--no-users", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["n_users"] > 0
    with shortlist.load(trained) as first, shortlist.load(again) as second:
        requests = {"history": [first.index.item_ids[:3], first.index.item_ids[5:9]]}
        one, two = first.recommend(requests), second.recommend(requests)
        assert one.item_ids.tolist() == two.item_ids.tolist()
        assert second.report()["n_users"] == 0


def test_export_leaves_out_the_users_that_the_training_was_told_to(files, tmp_path):
    out, again = tmp_path / "x.shortlist", tmp_path / "again.shortlist"
    argv = ["train", *files, "--preset", "popularity", "--no-users", "--quiet", "--out", str(out)]
    assert main(argv) == 0
    assert main(["export", str(out.with_suffix(".run")), "--out", str(again)]) == 0
    with shortlist.load(again) as engine:
        assert engine.report()["n_users"] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out", "x.bundle"], "out: expected a name ending in .shortlist, found 'x.bundle'"),
        ([], "--out: got nothing, expected the bundle to write"),
        (["--plot", "none/x.png"], "--plot: got none/x.png, but there is no folder"),
        (["--column", "user"], "--column: got 'user', expected OURS=THEIRS"),
        (["--list", "=|"], "--list: got '=|', expected COLUMN=SEPARATOR"),
        (["--data", "none.csv"], "data.path: no such file or folder: none.csv. Fix: check the"),
        (
            ["--data", "movielens-100k", "--items", "none.csv"],
            "data.items: no such file or folder: none.csv. Fix: check the",
        ),
        (
            ["--data", "movielens-100k", "--users", "none"],
            "data.users: no such file or folder: none. Fix: check the path\n",
        ),
        (
            ["--data", "movielens-100k", "--resume", "--overwrite"],
            "resume and overwrite: got both, expected one of them",
        ),
        (["--set", "train.epoch=5"], "did you mean 'epochs'?"),
        (["--preset", "balance"], "did you mean 'balanced'?"),
        (["--seed", "1"], "data.path: got nothing, expected a data set"),
    ],
)
def test_what_cannot_be_trained_fails_before_anything_is_written(
    argv, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    out = ["--out", "x.shortlist"] if argv and "--out" not in argv else []
    assert main(["train", *argv, *out, "--quiet"]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_evaluated_on_the_split_it_was_trained_on(files, tmp_path, capsys):
    out = tmp_path / "temporal.shortlist"
    parts = ["--set", "split.protocol=temporal", "--set", "split.test=0.3"]
    assert main(["train", *files, *SMALL, *parts, "--out", str(out)]) == 0
    test_users = len(load_run(out.with_suffix(".run")).split.targets("test"))
    capsys.readouterr()
    assert main(["evaluate", str(out), *files, "--no-baselines", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["protocol"] == "temporal"
    assert result["n_users"] == test_users


def test_a_protocol_that_tests_on_events_of_the_training_is_refused(trained, files, capsys):
    assert main(["evaluate", str(trained), *files, "--protocol", "temporal"]) == 1
    error = capsys.readouterr().err
    assert "protocol: got 'temporal', by which 40 of the 80 test events are among" in error
    assert "expected 'leave-one-out'" in error


def warnings_of(bundle, events, capsys, *flags):
    assert main(["evaluate", str(bundle), "--data", str(events), "--json", *flags]) == 0
    shown = capsys.readouterr()
    warnings = json.loads(shown.out)["warnings"]
    for warning in warnings:
        assert f"shortlist evaluate: warning: {warning}" in shown.err
    return warnings


def test_events_that_the_training_may_have_seen_are_named_a_doubt(
    trained, shop, files, tmp_path, capsys
):
    users = ["--no-baselines", *files[4:]]
    fewer, later = tmp_path / "fewer.csv", tmp_path / "later.csv"
    shop.events.filter(pl.col("timestamp") < 1_008).write_csv(fewer)
    (warning,) = warnings_of(trained, fewer, capsys, *users)
    assert "the bundle was trained on other events (events, 400 train events)" in warning
    report = tmp_path / "report.md"
    warnings_of(trained, fewer, capsys, *users, "--report", str(report))
    assert f"Warning: {warning}." in report.read_text(encoding="utf-8")
    shop.events.with_columns(pl.col("timestamp") + 5_000).write_csv(later)
    assert warnings_of(trained, later, capsys, *users) == []


def evaluated(bundle, capsys, *flags):
    assert main(["evaluate", str(bundle), *flags, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.filterwarnings("default")
def test_evaluate_says_what_it_read_and_warns_in_lines(trained, shop, tmp_path, capsys):
    twice = tmp_path / "events.csv"
    pl.concat([shop.events, shop.events.tail(1)]).write_csv(twice)
    assert main(["evaluate", str(trained), "--data", str(twice), "--no-baselines", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n_items"] == 30
    assert "shortlist evaluate: events.csv: 481 rows" in shown.err
    assert "shortlist evaluate: warning: events.csv: 1 of 481 events repeat" in shown.err
    assert ".py:" not in shown.err


def test_tables_that_are_not_given_are_those_of_the_bundle(trained, shop, files, tmp_path, capsys):
    """Users' features decide lists, and items without events are ranked."""
    whole = evaluated(trained, capsys, *files)
    assert whole["tables"] == {"items": "data", "users": "data"}
    alone = evaluated(trained, capsys, *files[:2])
    assert alone["tables"] == {"items": "none", "users": "bundle"}  # events have every item
    assert alone["metrics"] == whole["metrics"]
    fewer = tmp_path / "events.csv"
    shop.events.filter(pl.col("item_id") != "i29").write_csv(fewer)
    without = evaluated(trained, capsys, "--data", str(fewer))
    assert without["tables"] == {"items": "bundle", "users": "bundle"}
    assert without["n_items"] == 30
    assert main(["evaluate", str(trained), "--data", str(fewer), "--no-baselines"]) == 0
    assert "From the bundle, not from the data: items and users" in capsys.readouterr().out
    items = tmp_path / "items.parquet"
    shop.items.filter(pl.col("item_id") != "i29").write_parquet(items)
    short = evaluated(trained, capsys, "--data", str(fewer), "--items", str(items))
    assert short["n_items"] == 30
    assert any("lacks 1 item that the bundle has" in warning for warning in short["warnings"])


def test_unknown_items_are_cleaned_as_in_training_without_the_item_table(shop, tmp_path, capsys):
    """An item that the table lacks is dropped from the events by the bundle's own table."""
    table = tmp_path / "items.parquet"
    shop.items.filter(pl.col("item_id") != "i29").write_parquet(table)
    shop.events.write_csv(tmp_path / "events.csv")
    data, out = ["--data", str(tmp_path / "events.csv")], tmp_path / "x.shortlist"
    rules = ["--set", "cleaning.enabled=true", "--set", "cleaning.earliest=1970-01-01"]
    argv = ["train", *data, "--items", str(table), *rules, *SMALL, "--out", str(out)]
    assert main(argv) == 0
    capsys.readouterr()
    result = evaluated(out, capsys, *data)
    assert result["n_items"] == 29
    assert result["warnings"] == []  # the very events that the bundle was trained beside


def test_user_features_that_nobody_stores_are_a_warning(trained, files, tmp_path, capsys):
    bundle = tmp_path / "x.shortlist"
    argv = ["export", str(trained.with_suffix(".run")), "--no-users", "--out", str(bundle)]
    assert main(argv) == 0
    capsys.readouterr()
    (warning,) = warnings_of(bundle, files[1], capsys, "--no-baselines")
    assert "user features ['city', 'age'], which the data lacks (no user table)" in warning
    assert "give --users" in warning


@pytest.mark.parametrize("command", ["train", "export"])
def test_a_place_that_cannot_hold_a_bundle_is_found_before_the_work(
    command, trained, files, tmp_path, capsys, monkeypatch
):
    def work(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(train_pipeline, "load_configured", work)
    monkeypatch.setattr(fit, "load_run", work)
    (tmp_path / "folder.shortlist").mkdir()
    (tmp_path / "file").touch()
    argv = ["train", *files, "--quiet"] if command == "train" else ["export", str(trained)]
    for out, message in (
        ("folder.shortlist", "found something else at"),
        ("file/x.shortlist", "file, which is no folder; choose another place"),
    ):
        assert main([*argv, "--out", str(tmp_path / out)]) == 1
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.shortlist"]


def test_tables_with_other_names_units_and_times_are_read_by_flags(shop, tmp_path, capsys):
    year_3000 = 32_503_680_000_000
    renamed = shop.events.rename({"user_id": "customer"}).with_columns(
        pl.col("timestamp") * 1000 + year_3000
    )
    renamed.write_csv(tmp_path / "events.csv")
    items = shop.items.with_columns(pl.col("tags").list.join("|"))
    items.write_csv(tmp_path / "items.csv")
    argv = ["--data", str(tmp_path / "events.csv"), "--items", str(tmp_path / "items.csv")]
    train = ["train", *argv, *SMALL, "--out", str(tmp_path / "x.shortlist")]
    flags = []
    for flag, message in (
        (["--column", "user_id=customer"], "--column user_id=customer (in Python"),
        (["--time-unit", "ms", "--allow-future"], "(--allow-future)"),
    ):
        assert main([*train, *flags]) == 1
        assert message in capsys.readouterr().err
        flags += flag
    flags += ["--list", "tags=|"]
    assert main([*train, *flags]) == 0
    run = load_run(tmp_path / "x.run")
    assert run.config.data.columns == {"user_id": "customer"}
    assert run.split.dataset.items["tags"].to_list() == shop.items["tags"].to_list()
    capsys.readouterr()
    evaluate = ["evaluate", str(tmp_path / "x.shortlist"), *argv, "--no-baselines", "--json"]
    assert main([*evaluate, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_events_of_one_item_cannot_be_ranked(tmp_path, capsys):
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,x,1\nb,x,2\n")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--quiet"]
    assert main([*argv, "--out", str(tmp_path / "x.shortlist")]) == 1
    assert "got 2 event(s) of 1 item(s) in events, expected" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_an_item_with_the_id_of_missing_places_is_refused_before_the_training(tmp_path, capsys):
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,-1,1\nb,5,2\n")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--quiet"]
    assert main([*argv, "--out", str(tmp_path / "x.shortlist")]) == 1
    assert "item_id: got -1 in events, which marks missing places" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_a_training_without_validation_says_that_nothing_was_measured(tmp_path, capsys):
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,x,1\nb,y,2\n")
    argv = ["train", "--data", str(tmp_path / "events.csv"), *SMALL, "--json"]
    assert main([*argv, "--out", str(tmp_path / "x.shortlist")]) == 0
    shown = capsys.readouterr()
    (warning,) = json.loads(shown.out)["warnings"]
    assert "no user has 3 events; 2 train events" in warning
    assert f"shortlist train: warning: {warning}" in shown.err


def test_an_interrupted_training_says_how_to_go_on(files, tmp_path, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "train", stop)
    assert main(["train", *files, "--quiet", "--out", str(tmp_path / "x.shortlist")]) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err


def test_a_second_run_into_the_same_folder_names_all_ways_out(trained, files, capsys, monkeypatch):
    monkeypatch.setattr(train_pipeline, "load_configured", lambda *args, **kwargs: 1 / 0)
    assert main(["train", *files, *SMALL, "--seed", "3", "--out", str(trained)]) == 1
    error = capsys.readouterr().err
    assert "(--resume)" in error
    assert "(--overwrite)" in error
    assert "(--run FOLDER)" in error


def test_other_settings_are_refused_for_a_resume_before_tables_are_read(
    trained, files, capsys, monkeypatch
):
    monkeypatch.setattr(train_pipeline, "load_configured", lambda *args, **kwargs: 1 / 0)
    argv = ["train", *files, *SMALL, "--seed", "4", "--resume", "--out", str(trained)]
    assert main(argv) == 1
    assert "resume: train.seed: got 4, expected 3" in capsys.readouterr().err
