"""A bundle goes on learning from a feedback log: through the command line, as a host does it."""

from __future__ import annotations

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

import shortlist
from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.config.settings import load_config
from shortlist.training.fit.fit import load_run
from shortlist.training.pipeline import update
from shortlist.training.splits.leakage import mark_new
from shortlist.training.updates.new_events import new_events
from shortlist.versions import history, promote, version_of

SMALL = ["--set", "model.dim=8", "--set", "model.hidden=16", "--set", "train.epochs=4",
         "--set", "train.batch_size=64", "--set", "train.learning_rate=0.03",
         "--quiet"]  # fmt: skip
NEW_USERS, NEW_ITEM = [f"n{u}" for u in range(30)], "i30"
CALM = ["--set", "update.max_psi=5"]


def later_events(shop):
    """Known users walk on, new users come, and after item 29 there is a new item."""
    last = shop.events.group_by("user_id", maintain_order=True).agg(pl.col("item_id").last())
    rows = [(user, int(item[1:])) for user, item in last.iter_rows()]
    rows += [(user, 3 * i % 30) for i, user in enumerate(NEW_USERS)]
    events = {"user_id": [], "item_id": [], "kind": [], "timestamp": []}
    for step in range(1, 8):
        for user, start in rows:
            events["user_id"].append(user)
            events["item_id"].append(f"i{(start + step) % 31}")
            events["kind"].append("event")
            events["timestamp"].append(2_000 + step)
    return events


@pytest.fixture(scope="module")
def world(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("update")
    shop.events.write_csv(folder / "events.csv")
    shop.items.write_parquet(folder / "items.parquet")
    shop.users.write_parquet(folder / "users.parquet")
    data = [f"--{n}={folder / f}" for n, f in (("data", "events.csv"), ("items", "items.parquet"),
                                               ("users", "users.parquet"))]  # fmt: skip
    assert (
        main(["train", *data, *SMALL, "--seed", "3", "--out", str(folder / "shop.shortlist")]) == 0
    )
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        log.append_many(later_events(shop))
        shown = {"user_id": ["u0"], "item_id": ["i1"], "kind": ["impression"], "timestamp": [2_000]}
        log.append_many(shown)
    new_items = shop.items.head(1).with_columns(item_id=pl.lit(NEW_ITEM), title=pl.lit("New"))
    new_items.write_parquet(folder / "new_items.parquet")
    return folder


@pytest.fixture
def folder(world, tmp_path):
    """Give a copy that a test may change."""
    return shutil.copytree(world, tmp_path / "world")


def updated(folder, capsys, *flags):
    argv = ["update", str(folder / "shop.shortlist"), "--feedback", str(folder / "feedback.log")]
    capsys.readouterr()
    status = main([*argv, "--quiet", "--json", *flags])
    shown = capsys.readouterr()
    return json.loads(shown.out) if status in (0, 3) and shown.out else shown.err


def test_an_update_replaces_the_bundle_and_a_rollback_brings_it_back(folder, capsys):
    champion = folder / "shop.shortlist"
    with Bundle.open(champion) as bundle:
        first = version_of(bundle.manifest)
    with shortlist.load(champion) as engine:
        flags = ["--items", str(folder / "new_items.parquet"), *CALM]
        report = updated(folder, capsys, *flags)
        assert report["is_champion"], report["gate"]["reasons"]
        assert report["parent"] == first
        assert (report["n_events"], report["n_new_users"], report["n_new_items"]) == (490, 30, 1)
        assert report["n_held_out"] == 140  # events of one second stay together: 2 of 7 steps
        assert report["n_trained"] == 350
        assert report["n_freed"] == 80  # what the first split had held out
        assert set(report["seconds"]) == {"reading", "drift", "training", "export", "gate", "total"}
        assert report["gate"]["segments"]["new users"]["n_users"] == 30

        before = engine.recommend({"user_id": ["n0"]})  # still by the files that it was loaded from
        assert before.source.tolist() == ["popular"]
        engine.swap(champion)
        after = engine.recommend({"user_id": ["n0"]})
        assert after.source.tolist() == ["stored history"]
        assert NEW_ITEM in engine.index.item_ids

    with Bundle.open(champion) as bundle:
        lineage = bundle.manifest.to_dict()["lineage"]
    assert lineage["version"] == report["version"]
    assert lineage["kind"] == "update"
    assert [entry["version"] for entry in lineage["ancestors"]] == [first]
    assert lineage["data"]["n_events"] == 480 + 490
    assert lineage["data"]["until"] == 2_007

    assert main(["history", str(champion)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split()[:4] == ["version", "state", "by", "from"]
    assert told[1].split()[:5] == [report["version"], "champion", "update", first, "970"]
    assert told[2].split()[:4] == [first, "ancestor", "train", "nothing"]
    assert "shop.versions" in told[2]
    assert main(["inspect", str(champion)]) == 0
    assert f"version {report['version']}, from {first}" in capsys.readouterr().out

    assert main(["rollback", str(champion)]) == 0
    assert f"is version {first} again" in capsys.readouterr().out
    assert [row["state"] for row in history(champion)] == ["champion", "rolled back"]
    with Bundle.open(champion) as bundle:
        assert version_of(bundle.manifest) == first
    assert main(["rollback", str(champion)]) == 1
    assert "an earlier version of a bundle without parent" in capsys.readouterr().err
    assert main(["rollback", str(champion), "--to", report["version"]]) == 0

    # The chain goes on from the run folder of the update.
    message = updated(folder, capsys)
    assert "none of which is an event that the training did not have" in message
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        more = later_events_again()
        log.append_many(more)
    second = updated(folder, capsys, *CALM, "--ignore-gate")
    assert second["parent"] == report["version"]
    assert second["n_events"] == len(more["user_id"])
    rows = history(champion)
    assert [row["version"] for row in rows] == [second["version"], report["version"], first]
    assert all(row["path"] for row in rows)


def later_events_again():
    users = [user for user in NEW_USERS for _ in range(2)]
    items = [f"i{(3 * i + 8 + step) % 31}" for i in range(len(NEW_USERS)) for step in range(2)]
    times = [3_000 + step for _ in NEW_USERS for step in range(2)]
    return {"user_id": users, "item_id": items, "kind": ["event"] * len(users), "timestamp": times}


def test_with_out_the_champion_stays_and_kept_rows_keep_their_weights(folder, capsys):
    champion, out = folder / "shop.shortlist", folder / "other.shortlist"
    files = sorted(path.name for path in folder.iterdir())
    tiny = ["--set", "update.learning_rate=1e-6", "--set", "update.epochs=1"]
    report = updated(folder, capsys, "--out", str(out), "--set", "update.max_psi=0.05",
                     "--ignore-drift", *tiny)  # fmt: skip
    assert any("PSI of user.city" in alarm for alarm in report["drift"]["alarms"])
    assert not report["is_champion"]
    assert report["bundle"] == str(out)
    new = sorted({path.name for path in folder.iterdir()} - set(files))
    assert new == ["other.run", "other.shortlist"]
    assert version_of(Bundle.open(champion).manifest) == report["parent"]
    old, run = load_run(folder / "shop.run"), load_run(folder / "other.run")
    tables = [r.two_tower.item_encoder.id_table.numpy() for r in (old, run)]
    assert tables[1].shape[0] == tables[0].shape[0] + 1
    assert run.split.catalogue[-1] == NEW_ITEM
    np.testing.assert_allclose(tables[1][:-1], tables[0], atol=1e-4)  # a step of a tiny rate
    assert np.linalg.norm(tables[1][-1]) > 0.1
    assert [f.vocabulary for f in run.features.features] == [
        f.vocabulary for f in old.features.features
    ]


def test_what_cannot_be_updated_says_why_and_leaves_everything(folder, capsys):
    def files():
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    before = files()
    bad_items, other_type = folder / "new_items.parquet", folder / "typed.csv"
    for flags, message in (
        (["--set", "model.dim=16"], "train.batch_size, data.item_columns, data.user_col"),
        (["--set", "data.features.price=ignore"], "data.features.price: cannot change in an"),
        (["--user-column", "user_id=who"], "user_id: got names of columns, but no"),
        (["--run", str(folder / "none.run")], "run folder: expected that of the training of"),
        (["--set", "update.max_psi=0.05"], "drift: PSI of user.city is"),
        (["--set", "update.max_score_psi=0.1"], "PSI of the scores is"),
        (["--set", "update.max_unknown=0"], "of the events are of unknown items, above 0%"),
        (["--set", "update.min_coverage=1", "--set", "update.max_unknown=0"], "--ignore-drift"),
        (["--out", str(folder / "x.bundle")], "expected a name ending in .shortlist"),
        (["--set", "update.holdout=0.6"], "update.holdout: got"),
    ):
        error = updated(folder, capsys, *flags)
        assert message in error
        assert files() == before, flags
    pl.read_parquet(bad_items).drop("price").write_parquet(bad_items)
    error = updated(folder, capsys, "--items", str(bad_items))
    assert "--items: no column 'price', expected those of the training: item_id, title" in error
    other_type.write_text("item_id,title,tags,price\ni30,New,all,cheap\n")
    error = updated(folder, capsys, "--items", str(other_type))
    assert "--items: column 'tags' is String, expected List(String) as in training" in error
    (folder / "shop.run").rename(folder / "away.run")
    assert "found none beside" in updated(folder, capsys)
    shutil.rmtree(folder / "away.run" / "data")
    with pytest.raises(SystemExit):
        main(["update", str(folder / "shop.shortlist")])
    missing = folder / "none.log"
    argv = ["update", str(folder / "shop.shortlist"), "--feedback", str(missing)]
    assert main([*argv, "--run", str(folder / "away.run")]) == 1
    assert "none.log, which is no file, expected a feedback log" in capsys.readouterr().err
    assert not missing.exists()


@pytest.mark.filterwarnings("default")
def test_an_update_reads_its_tables_once_and_says_so_in_lines(folder, capsys, shop):
    new = shop.items.head(2).with_columns(
        item_id=pl.Series([NEW_ITEM, "i31"]), index=pl.Series([0, 1])
    )
    new.write_parquet(folder / "new_items.parquet")
    flags = ["--items", str(folder / "new_items.parquet"), "--ignore", "item.size"]
    said = updated(folder, capsys, *flags, "--set", "update.max_psi=0")
    assert "REFUSED by drift" in said  # before any training
    assert said.count("shortlist update: new_items.parquet: 2 rows") == 1
    assert said.count("shortlist update: warning: new_items.parquet: column 'index' is not re") == 1
    assert said.count("ignore names 'size', which the table has not") == 1
    assert ".py:" not in said


def test_the_threads_are_set_before_tensorflow_is_used(folder, monkeypatch):
    """TensorFlow takes the number before its first operation only, and loading a run is one."""
    order = []

    def load(run_dir):
        order.append("load")
        raise DataError("enough")

    monkeypatch.setattr(update, "set_threads", order.append)
    monkeypatch.setattr(update, "load_run", load)
    with pytest.raises(DataError, match="enough"):
        update.update_bundle(
            folder / "shop.shortlist",
            feedback=folder / "feedback.log",
            overrides={"train.n_threads": 3},
        )
    assert order == [3, "load"]


def files_of(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def test_a_worse_challenger_changes_nothing_and_is_not_trained_again(
    folder, capsys, monkeypatch, spoilt
):
    champion = folder / "shop.shortlist"
    before = files_of(champion)
    with monkeypatch.context() as patch:
        patch.setattr(update, "go_on", spoilt)
        report = updated(folder, capsys, *CALM)
    assert not report["is_champion"]
    whole = report["gate"]["segments"]["all"]
    assert whole["challenger"] < whole["champion"]
    assert report["gate"]["segments"]["new items"]["n_users"] > 0
    assert any("NDCG@10 falls" in reason for reason in report["gate"]["reasons"])
    assert files_of(champion) == before
    told = updated(folder, capsys, "--ignore-drift")
    assert told["refused_by"] == "history"
    assert f"version {report['version']} was already trained on these events" in told["reason"]
    assert main(["rollback", str(champion), "--to", report["version"]]) == 0


def test_late_events_are_held_out_from_among_the_new_ones(folder, capsys, shop):
    (folder / "feedback.log").unlink()
    late = later_events(shop)
    late["timestamp"] = [int(time) - 2_000 for time in late["timestamp"]]
    last = int(shop.events["timestamp"].max())
    assert max(late["timestamp"]) < last  # the training knew newer ones
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        log.append_many(late)
    report = updated(folder, capsys, *CALM, "--ignore-drift")
    assert (report["n_trained"], report["n_held_out"]) == (350, 140)
    assert report["gate"]["segments"]["all"]["n_users"] <= 70


def test_new_events_of_a_single_moment_leave_nothing_to_train_on(folder, capsys, shop):
    (folder / "feedback.log").unlink()
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        log.append_many(later_events(shop) | {"timestamp": [2_000] * 490})
    assert "all 490 new events are of one time" in updated(folder, capsys, "--ignore-drift")


@pytest.mark.parametrize("init", ["random", "cooccurrence"])
def test_rows_are_taken_over_by_id_and_a_new_one_begins_among_its_neighbours(
    tmp_path, capsys, shop, init
):
    """Without an item table the catalogue is in the order of the events: a new item shifts it."""
    shop.events.write_csv(tmp_path / "events.csv")
    argv = ["train", "--data", str(tmp_path / "events.csv"), *SMALL, "--set", "train.ema=0"]
    argv += ["--set", f"train.item_init={init}", "--out", str(tmp_path / "shop.shortlist")]
    assert main(argv) == 0
    first = shop.events["user_id"][0]
    neighbour = shop.events["item_id"][0]
    moment = int(shop.events["timestamp"].max())
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        log.append(user_id=first, item_id=NEW_ITEM, kind="event", timestamp=1)
        log.append(user_id=first, item_id=neighbour, kind="skip", timestamp=moment + 1)
        log.append(user_id=first, item_id=neighbour, kind="event", timestamp=moment + 2)
    tiny = ["--set", "update.learning_rate=1e-6", "--set", "update.epochs=1", "--ignore-drift"]
    updated(tmp_path, capsys, "--out", str(tmp_path / "new.shortlist"), *tiny)
    old, new = load_run(tmp_path / "shop.run"), load_run(tmp_path / "new.run")
    assert new.config.events.negative_kinds == ("skip",)
    tables = [
        dict(zip(run.split.catalogue.tolist(), run.two_tower.item_encoder.id_table.numpy()[1:],
                 strict=True))
        for run in (old, new)
    ]  # fmt: skip
    assert list(tables[1]).index(NEW_ITEM) < len(tables[0])
    for item, row in tables[0].items():
        np.testing.assert_allclose(tables[1][item], row, atol=1e-4)
    if init == "cooccurrence":
        walk = new.split.train.filter(pl.col("user_id") == first)["item_id"].to_list()
        assert walk[0] == NEW_ITEM
        near = sum(0.8**gap * tables[0][item] for gap, item in enumerate(walk[1:11]))
        near *= np.linalg.norm(list(tables[0].values()), axis=1).mean() / np.linalg.norm(near)
        np.testing.assert_allclose(tables[1][NEW_ITEM], near, atol=1e-3)


def test_a_bundle_that_does_not_name_its_training_is_not_updated(folder):
    with Bundle.open(folder / "shop.shortlist") as bundle:
        manifest = dataclasses.replace(bundle.manifest, training={})
    with pytest.raises(DataError, match="does not say which events it was trained on"):
        update._check_same_run(load_run(folder / "shop.run"), manifest, folder / "shop.run")


def test_a_promotion_that_was_killed_halfway_is_finished_by_the_next(folder, capsys, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    champion = folder / "shop.shortlist"
    with Bundle.open(champion) as bundle:
        first = version_of(bundle.manifest)
    with monkeypatch.context() as patch:
        patch.setattr(shortlist.versions, "exchange", killed)
        with pytest.raises(KeyboardInterrupt):
            update.update_bundle(
                champion,
                feedback=folder / "feedback.log",
                overrides={"update.max_psi": 5.0},
                progress=False,
            )
    (challenger,) = (folder / "shop.versions").glob("*.shortlist")
    shortlist.versions.exchange(challenger, champion)  # and the rename behind it never came
    assert history(champion)[1]["version"] == first
    assert main(["rollback", str(champion)]) == 0
    with Bundle.open(champion) as bundle:
        assert version_of(bundle.manifest) == first
    assert [row["version"] for row in history(champion)] == [first, challenger.stem]


def test_events_below_the_core_are_not_new(shop, tmp_path):
    config = load_config(overrides={"cleaning.enabled": True, "cleaning.k_core": True,
                                    "cleaning.min_user_events": 3,
                                    "cleaning.min_item_events": 1,
                                    "cleaning.earliest": "1970-01-01"})  # fmt: skip
    known = shop.events["user_id"][0]
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        for user, n in (("once", 1), ("thrice", 3), (known, 1)):
            for i in range(n):
                log.append(user_id=user, item_id=f"i{i}", kind="event", timestamp=5_000 + i)
        found = new_events(log, shop, config)
    assert found["user_id"].value_counts(sort=True).rows() == [("thrice", 3), (known, 1)]


def test_a_run_of_other_events_is_refused(folder, shop, capsys):
    shop.events.filter(pl.col("timestamp") < 1_010).write_csv(folder / "fewer.csv")
    argv = ["train", "--data", str(folder / "fewer.csv"), *SMALL, "--set", "train.epochs=1"]
    assert main([*argv, "--out", str(folder / "fewer.shortlist")]) == 0
    error = updated(folder, capsys, "--run", str(folder / "fewer.run"))
    assert "was trained on other events than the bundle" in error


def test_a_failed_update_leaves_no_run_folder(folder, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise shortlist.errors.ShortlistError("no disk")

    monkeypatch.setattr(update, "export_bundle", fail)
    assert "no disk" in updated(folder, capsys, *CALM, "--set", "update.epochs=1")
    assert not (folder / "shop.versions").exists()


def test_a_second_update_waits_its_turn_and_clears_up_after_a_killed_one(folder, capsys):
    with shortlist.versions.updating(folder / "shop.shortlist") as name:
        versions = folder / "shop.versions"
        assert "another update" in updated(folder, capsys, *CALM)
        assert versions.is_dir()  # empty so far, and not the second one's to remove
        left = [versions / f"{name}.run", versions / f"new-{name}.shortlist", versions / "own.run"]
        for path in left:
            path.mkdir()
        error = updated(folder, capsys, *CALM)
        assert "another update of this bundle is at work, or a rollback" in error
        assert all(path.exists() for path in left)
    report = updated(folder, capsys, *CALM, "--set", "update.epochs=1")
    assert [path.exists() for path in left] == [False, False, True]
    assert report["run"] in map(str, versions.glob("*.run"))


KILLED = """
import os, signal, sys
from shortlist.bundle import BundleWriter
from shortlist.cli import main
BundleWriter.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_an_update_killed_before_its_bundle_is_in_place_leaves_nothing(folder):
    """Everything is written by then, users included."""
    champion, versions = folder / "shop.shortlist", folder / "shop.versions"
    call = ["update", str(champion), "--feedback", str(folder / "feedback.log"), "--quiet", *CALM]
    command = [sys.executable, "-c", KILLED, *call, "--set", "update.epochs=1"]
    status = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert status.returncode == -signal.SIGKILL
    assert any((path / "users.arrow").exists() for path in versions.iterdir())
    with shortlist.versions.updating(champion):
        pass
    assert not versions.exists()
    assert [path.name for path in folder.glob(".*")] == []


def test_old_versions_that_cannot_be_removed_undo_no_update(folder, capsys, monkeypatch):
    def fail(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(update, "prune", fail)
    report = updated(folder, capsys, *CALM, "--set", "update.epochs=1")
    assert report["removed"] == []
    assert report["not_removed"] == "not yours"


def test_a_bundle_that_was_replaced_meanwhile_is_not_replaced_again(folder, tmp_path):
    with pytest.raises(shortlist.errors.ShortlistError, match=r"another version .* came there"):
        update._replace(folder / "shop.shortlist", tmp_path / "new.shortlist", "another-parent")


def test_inspect_measures_the_drift_of_a_log(folder, capsys):
    argv = ["inspect", str(folder / "shop.shortlist"), "--feedback", str(folder / "feedback.log")]
    assert main([*argv, "--json"]) == 0
    drift = json.loads(capsys.readouterr().out)["drift"]
    assert drift["n_events"] == 490
    assert drift["unknown_users"] == pytest.approx(210 / 490)
    assert 0.0 < drift["unknown_items"] < 0.1
    assert "event.kind" not in drift["psi"]  # the training knew a single one
    assert drift["new_kinds"] == {}
    assert drift["score"] | {"n_users": 40, "n_before": 40, "n_now": 40} == drift["score"]
    assert drift["score"] | {"all_before": 40, "all_now": 70} == drift["score"]
    assert drift["psi"]["user.city"] > 0.05  # nothing is known of the new users
    assert drift["score"]["psi"] > 0.25
    assert drift["alarms"] == []
    assert 0.0 < drift["coverage"]["now"] <= 1.0
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "events of unknown users  42.9%" in shown
    assert "40 of 40 and 40 of 70 users; not drawn: 0 and 30" in shown


def test_the_log_of_an_update_may_be_in_a_database(folder, shop, capsys):
    pytest.importorskip("sqlalchemy", reason="needs the extra [postgres]")
    url = f"sqlite:///{folder}/tables.db"
    with shortlist.FeedbackLog(url) as log:
        log.append_many(later_events(shop))
    assert main(["inspect", str(folder / "shop.shortlist"), "--feedback", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["drift"]["n_events"] == 490
    argv = ["update", str(folder / "shop.shortlist"), "--feedback", url, *CALM, "--quiet", "--json"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["n_events"] == 490


def test_promote_refuses_a_damaged_challenger(folder, tmp_path):
    broken = shutil.copytree(folder / "shop.shortlist", tmp_path / "broken.shortlist")
    (broken / "items.index").write_bytes(b"half")
    with pytest.raises(shortlist.errors.BundleError, match=r"items\.index"):
        promote(broken, folder / "shop.shortlist")
    assert not (folder / "shop.versions").exists()


def test_events_are_new_by_user_item_time_and_kind(shop):
    again = shop.events.head(3).with_columns(pl.lit(9.0, pl.Float32).alias("value"))
    later = again.with_columns(pl.col("timestamp") + 1_000_000)
    assert mark_new(pl.concat([again, later]), shop.events).tolist() == [False] * 3 + [True] * 3
