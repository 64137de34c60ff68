"""An update that is refused says so, by what and why, and can be taken as it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import shortlist
from shortlist.cli import main
from shortlist.training.config.sections import EventsConfig, UpdateConfig
from shortlist.training.fit.fit import load_run
from shortlist.training.pipeline import update
from shortlist.training.splits.split import leave_one_out
from shortlist.training.updates.drift import (
    CoverageDrift,
    DriftReport,
    ScoreDrift,
    _alarms,
    _new_kinds,
    inspect_drift,
)
from shortlist.versions import history

SMALL = ["--set", "model.dim=8", "--set", "model.hidden=16", "--set", "train.epochs=3",
         "--set", "train.batch_size=64", "--set", "train.learning_rate=0.03",
         "--quiet"]  # fmt: skip


def walks(first, n_steps, start, kinds):
    """Give events of 40 users who walk through 30 items in order; kinds come in turn."""
    users = np.repeat(np.arange(40), n_steps)
    steps = np.tile(np.arange(n_steps), 40)
    events = {"user_id": users, "item_id": (7 * users + first + steps) % 30}
    return pl.DataFrame(events | {"timestamp": start + 60 * steps}).with_columns(
        kind=pl.Series(np.resize(np.array(kinds), len(users)))
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Trained on views and carts; in the log, as docs/feedback.md has it, there are skips too."""
    folder = tmp_path_factory.mktemp("refusals")
    walks(0, 12, 1_700_000_000, ["view", "view", "cart"]).write_csv(folder / "events.csv")
    argv = ["train", "--data", str(folder / "events.csv"), *SMALL]
    assert main([*argv, "--out", str(folder / "shop.shortlist")]) == 0
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        log.append_many(walks(12, 8, 1_700_100_000, ["view", "view", "cart", "skip"]))
    return folder


@pytest.fixture
def folder(world, tmp_path):
    return shutil.copytree(world, tmp_path / "world")


def updated(folder, capsys, *flags):
    """Return the exit status and what was printed on stdout and stderr."""
    capsys.readouterr()
    argv = ["update", str(folder / "shop.shortlist"), "--feedback", str(folder / "feedback.log")]
    status = main([*argv, "--quiet", *flags])
    return status, *capsys.readouterr()


def test_new_kinds_are_named_and_judged_apart(world, capsys):
    report = inspect_drift(world / "shop.shortlist", world / "feedback.log")
    assert report.new_kinds == {"skip": 0.25}
    assert report.undeclared_kinds == 0.0
    assert report.psi["event.kind"] < 0.25  # as many views for a cart as in training
    assert not any("kind" in alarm for alarm in report.alarms)
    argv = ["inspect", str(world / "shop.shortlist"), "--feedback", str(world / "feedback.log")]
    assert main(argv) == 0
    assert "new kind 'skip': 25% of events" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("known", "new", "settings", "undeclared"),
    [
        (["view", "cart"], ["view", "play", "play", "play"], {}, 0.75),
        (["view", "cart"], ["view", "skip", "play", "play"], {}, 0.5),
        (["view", "cart"], ["play", "play"], {"weights": {"play": 2.0}}, 0.0),
        (["view", "cart"], ["hide"], {"negative_kinds": ("hide",)}, 0.0),
        (["event"], ["click", "play"], {}, 0.0),  # the file just did not say which
    ],
)
def test_a_new_kind_that_nothing_is_said_of_counts_against_the_log(
    shop, known, new, settings, undeclared
):
    split = leave_one_out(shop, EventsConfig(**settings))
    frames = [pl.DataFrame({"kind": kinds}) for kinds in (known, new)]
    parts, found = _new_kinds(split, *frames)
    assert set(parts) == set(new) - set(known)
    assert found == undeclared
    report = DriftReport(4, 0.0, 0.0, {}, ScoreDrift(0, 0, 0), CoverageDrift(1.0, 1.0))
    report = replace(report, new_kinds=parts, undeclared_kinds=found)
    alarms = _alarms(report, UpdateConfig())
    assert bool(alarms) == (undeclared > 0.5)
    assert not alarms or "'play') that [events] says nothing of, above 50%" in alarms[0]


def test_drift_refuses_with_a_status_of_its_own(folder, capsys):
    flags = ["--set", "update.max_unknown=0", "--set", "update.max_score_psi=0"]
    status, out, err = updated(folder, capsys, "--json", *flags)
    assert status == 4
    assert "shortlist update: REFUSED by drift: PSI of the scores is" in err
    told = json.loads(out)
    assert told["refused_by"] == "drift"
    assert told["drift"]["new_kinds"] == {"skip": 0.25}
    assert updated(folder, capsys, *flags)[:2] == (4, "")


def test_drift_asks_as_the_bundle_was_trained_to_answer(folder, capsys):
    log = folder / "all.log"
    with shortlist.FeedbackLog(log) as everything:
        everything.append_many(walks(12, 30, 1_700_100_000, ["view", "view", "cart"]))
    argv = ["inspect", str(folder / "shop.shortlist"), "--feedback", str(log)]
    capsys.readouterr()
    assert main(argv) == 0
    assert " → none (nobody got an answer), 40 of 40 and 0 of 40 users" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    score = json.loads(capsys.readouterr().out)["drift"]["score"]
    assert (score["now"], score["psi"], score["n_now"]) == (None, None, 0)
    run = folder / "shop.run" / "config.toml"
    text = run.read_text()
    assert "include_seen = false" in text
    run.write_text(text.replace("include_seen = false", "include_seen = true"))
    report = inspect_drift(folder / "shop.shortlist", log)
    assert report.score.n_now == 40
    assert report.coverage.now > 0.0
    assert not any("coverage" in alarm for alarm in report.alarms)


def test_what_the_gate_refused_is_taken_as_it_is(folder, capsys, monkeypatch, spoilt):
    def trained_again(*_, **__):
        raise AssertionError("a training has begun")

    champion = folder / "shop.shortlist"
    calm = ["--ignore-drift", "--set", "update.max_psi=9"]
    with monkeypatch.context() as patch:
        patch.setattr(update, "go_on", spoilt)
        status, out, _ = updated(folder, capsys, *calm)
    assert status == 3
    lines = out.splitlines()
    assert lines[-1].startswith("REFUSED by the gate: NDCG@10 falls from")
    assert lines[-1].endswith("To take it as it is all the same: --ignore-gate")
    # Two of eight steps are held out, and the last one is skips, which are no targets.
    ranked = "40 of 80 held-out events ranked; left out: 40 that are no targets"
    assert f"NDCG@10 on the newest events: {ranked}" in lines
    first, refused = history(champion)
    assert [first["state"], refused["state"]] == ["champion", "refused"]
    assert refused["reasons"][0].startswith("NDCG@10 falls from")
    assert main(["history", str(champion)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split()[:4] == ["version", "state", "by", "from"]
    assert told[2].split()[:4] == [refused["version"], "refused", "update", first["version"]]

    monkeypatch.setattr(update, "go_on", trained_again)
    status, out, err = updated(folder, capsys, "--ignore-drift")
    assert (status, out) == (3, "")
    version = refused["version"]
    assert f"REFUSED: version {version} was already trained on these events and refused. W" in err
    assert f"Wait for new events, or take {version} with --ignore-gate." in err
    status, out, err = updated(folder, capsys, "--ignore-drift", "--json")
    assert (status, json.loads(out)["refused_by"]) == (3, "history")
    assert json.loads(out)["reason"] in err
    status, out, err = updated(folder, capsys, *calm, "--json")  # judged once more, not trained
    assert status == 3
    assert json.loads(out)["refused_by"] == "gate"
    assert json.loads(out)["gate"]["left_out"] == {"seen": 0, "no_target": 40}
    assert "shortlist update: REFUSED by the gate: NDCG@10 falls" in err
    kept = sorted(path.name for path in (folder / "shop.versions").iterdir())

    status, out, _ = updated(folder, capsys, "--ignore-drift", "--ignore-gate", "--json")
    report = json.loads(out)
    assert (status, report["refused_by"], report["is_champion"]) == (0, None, True)
    assert report["version"] == refused["version"]
    assert report["run"] == str(folder / "shop.versions" / refused["run"])
    assert "training" not in report["seconds"]
    states = [(row["version"], row["state"]) for row in history(champion)]
    assert states == [(refused["version"], "champion"), (first["version"], "ancestor")]
    names = {path.name for path in (folder / "shop.versions").iterdir()}
    assert names == {*kept, f"{first['version']}.shortlist"} - {f"{refused['version']}.shortlist"}

    assert main(["rollback", str(champion)]) == 0
    assert [row["state"] for row in history(champion)] == ["champion", "rolled back"]
    status, _, err = updated(folder, capsys, *calm)  # other thresholds do not undo a rollback
    assert status == 3
    assert "was already trained on these events and rolled back. Wait for new events" in err


def test_another_table_is_trained_on_after_a_refusal(tmp_path, capsys, monkeypatch, spoilt):
    """What is put right in a table is no version that was refused with the table as it was."""
    walks(0, 12, 1_700_000_000, ["view"]).write_csv(tmp_path / "events.csv")
    items = pl.DataFrame({"item_id": range(30), "price": [1.0 + i for i in range(30)]})
    items.with_columns(size=pl.lit(1)).write_parquet(tmp_path / "items.parquet")
    argv = ["train", "--data", str(tmp_path / "events.csv"), *SMALL]
    argv += ["--items", str(tmp_path / "items.parquet"), "--ignore", "item.size"]
    assert main([*argv, "--out", str(tmp_path / "shop.shortlist")]) == 0
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        log.append_many(walks(12, 8, 1_700_100_000, ["view"]))
    for name, price in (("wrong", 900.0), ("right", 9.0)):
        table = items.head(1).with_columns(price=pl.lit(price))
        table.write_parquet(tmp_path / f"{name}.parquet")
    wrong, right = (["--items", str(tmp_path / f"{n}.parquet")] for n in ("wrong", "right"))
    with monkeypatch.context() as patch:
        patch.setattr(update, "go_on", spoilt)
        status, _, err = updated(tmp_path, capsys, "--ignore-drift", *wrong)
    assert status == 3
    assert "ignore names" not in err  # the new table need not have what is left out
    refused = history(tmp_path / "shop.shortlist")[1]
    assert "was already trained" in updated(tmp_path, capsys, "--ignore-drift", *wrong)[2]
    assert "was already trained" in updated(tmp_path, capsys, "--ignore-drift")[2]
    status, out, _ = updated(tmp_path, capsys, "--ignore-drift", "--ignore-gate", "--json", *right)
    report = json.loads(out)
    assert (status, report["is_taken_as_it_was"], report["is_champion"]) == (0, False, True)
    assert report["version"] != refused["version"]
    kept = load_run(tmp_path / "shop.versions" / Path(report["run"]).name).split.dataset.items
    assert kept.filter(pl.col("item_id") == 0)["price"].item() == 9.0


def test_states_of_versions_that_cannot_be_read_say_nothing(folder, capsys, monkeypatch, spoilt):
    monkeypatch.setattr(update, "go_on", spoilt)
    assert updated(folder, capsys, "--ignore-drift")[0] == 3
    for text in ("{", "[]", '{"x": 1}'):
        (folder / "shop.versions" / "states.json").write_text(text)
        assert history(folder / "shop.shortlist")[1]["state"] == "other"


def test_beside_another_place_a_refusal_leaves_both_bundles(folder, capsys, monkeypatch, spoilt):
    monkeypatch.setattr(update, "go_on", spoilt)
    out = folder / "new.shortlist"
    status, shown, _ = updated(folder, capsys, "--ignore-drift", "--out", str(out))
    assert status == 3
    assert "REFUSED by the gate" in shown
    assert out.is_dir()
    assert not (folder / "shop.versions").exists()


def test_cleaning_keeps_the_events_of_items_that_come_with_the_update(tmp_path, capsys):
    walks(0, 12, 1_700_000_000, ["view"]).write_csv(tmp_path / "events.csv")
    pl.DataFrame({"item_id": range(30), "price": range(30)}).write_csv(tmp_path / "items.csv")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--items", str(tmp_path / "items.csv")]
    argv += [*SMALL, "--set", "cleaning.enabled=true", "--out", str(tmp_path / "shop.shortlist")]
    assert main(argv) == 0
    new = walks(12, 8, 1_700_100_000, ["view"]).with_columns(
        item_id=pl.when(pl.col("item_id") == 3).then(30).otherwise("item_id")
    )
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        log.append_many(new)
    pl.DataFrame({"item_id": [30], "price": [7]}).write_csv(tmp_path / "new.csv")
    flags = ["--items", str(tmp_path / "new.csv"), "--ignore-drift", "--ignore-gate", "--json"]
    status, out, _ = updated(tmp_path, capsys, *flags)
    report = json.loads(out)
    assert (status, report["n_events"], report["n_new_items"]) == (0, new.height, 1)
