"""A user that is erased from a run folder is in none of its files, nor in what is exported."""

import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pytest

import shortlist
from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.fit.checkpoint import load_dataset_copy
from shortlist.training.fit.fit import load_run, train
from shortlist.training.updates.erase import erase_user

KAFKA, ONLY = "Kafka-Franz-1883", "item-of-Kafka-alone"


@pytest.fixture(scope="module")
def folder(shop, small_config, tmp_path_factory):
    """A run in which one user has an item that no one else has, and the item table lacks."""
    folder = tmp_path_factory.mktemp("erase")
    is_seven = pl.col("user_id") == "u7"
    name = pl.when(is_seven).then(pl.lit(KAFKA)).otherwise("user_id").alias("user_id")
    second = is_seven & (pl.col("timestamp") == 1_001)
    item = pl.when(second).then(pl.lit(ONLY)).otherwise("item_id").alias("item_id")
    dataset = dataclasses.replace(
        shop, events=shop.events.with_columns(item, name), users=shop.users.with_columns(name)
    )
    train(dataset, small_config, folder / "shop.run", progress=False)
    assert main(["export", str(folder / "shop.run"), "--out", str(folder / "a.shortlist")]) == 0
    return folder


def holds(path, text):
    """Whether a file has a text: in its bytes, or in the columns of a table."""
    if text.encode() in path.read_bytes():
        return True
    if path.suffix == ".parquet":
        return text in str(pl.read_parquet(path).to_dicts())
    return path.suffix == ".arrow" and text in str(pl.read_ipc(path).to_dicts())


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_nothing_of_the_user_is_left_and_the_rest_answers_as_before(folder, capsys):
    run, old, new = folder / "shop.run", folder / "a.shortlist", folder / "b.shortlist"
    assert any(holds(path, KAFKA) for path in files_of(run))
    assert any(holds(path, KAFKA) for path in files_of(old))
    log = folder / "feedback.log"
    with shortlist.FeedbackLog(log) as opened:
        click = {"item_id": "i1", "kind": "click", "timestamp": 2_000}
        opened.append_many([{**click, "user_id": user} for user in (KAFKA, "u1", KAFKA)])
    call = ["erase", KAFKA, "--feedback", str(log), "--run", str(run)]
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"erased": {str(log): 2, str(run): 12}}
    assert main(call) == 0
    assert f"{run}: 0 rows erased" in capsys.readouterr().out
    assert not [path for path in files_of(run) if holds(path, KAFKA)]
    assert not holds(log, KAFKA)
    data = load_dataset_copy(run / "data")
    assert data.events["user_id"].n_unique() == data.users.height == 39
    assert main(["export", str(run), "--out", str(new)]) == 0
    assert not [path for path in files_of(new) if holds(path, KAFKA)]
    users = [f"u{i}" for i in range(40) if i != 7]
    with shortlist.load(old) as before, shortlist.load(new) as after:
        assert before.index.item_ids.tolist() == after.index.item_ids.tolist()
        assert before.recommend(user_ids=[KAFKA]).source[0] == "stored history"
        assert after.recommend(user_ids=[KAFKA]).source[0] == "popular"
        known = [i for i in after.index.item_ids.tolist() if i != ONLY]
        for engine in (before, after):
            engine.remove_items([ONLY])  # without its only event it has no vector of its own
        ours, theirs = (e.recommend(user_ids=users, top_n=5, stages=1) for e in (before, after))
        assert ours.item_ids.tolist() == theirs.item_ids.tolist()
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
        assert len(known) == 30
    assert Bundle.open(new).manifest.n_users == 39


def test_the_runs_of_updates_forget_the_user_too(folder, tmp_path, capsys):
    shutil.copytree(folder / "shop.run", tmp_path / "shop.run")
    run, log, first = (tmp_path / name for name in ("shop.run", "feedback.log", "shop.shortlist"))
    assert main(["export", str(run), "--out", str(first)]) == 0
    users = [f"u{i}" for i in range(8, 40)]
    with shortlist.FeedbackLog(log) as opened:
        for step in range(4):
            click = {"kind": "event", "timestamp": 3_000 + step}
            opened.append_many(
                [{**click, "user_id": u, "item_id": f"i{(i + step) % 30}"}
                 for i, u in enumerate(users)]
            )  # fmt: skip
    call = ["update", str(first), "--feedback", str(log), "--quiet"]
    assert main([*call, "--ignore-drift", "--ignore-gate"]) == 0
    capsys.readouterr()
    (update,) = (tmp_path / "shop.versions").glob("*.run")
    assert main(["erase", "u9", "--feedback", str(log), "--run", str(run), "--json"]) == 0
    erased = json.loads(capsys.readouterr().out)["erased"]
    assert erased == {str(log): 4, str(run): 12, str(update): 16}
    for place in (run, update):
        data = load_dataset_copy(place / "data")
        assert "u9" not in {*data.events["user_id"], *data.users["user_id"]}
    assert main(["erase", "u10", "--run", str(update), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"erased": {str(update): 16, str(run): 12}}
    new = tmp_path / "new.shortlist"
    assert main(["export", str(update), "--out", str(new)]) == 0
    with Bundle.open(first) as with_them, Bundle.open(new) as without:
        assert without.manifest.n_users == with_them.manifest.n_users - 2


def test_a_run_without_the_user_loads_as_it_was(folder):
    """Runs after the test above or before it: the catalogue is the same."""
    erase_user(folder / "shop.run", KAFKA)
    assert load_run(folder / "shop.run").split.catalogue.tolist()[-1] == ONLY


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: erase_user(f / "none", "u1"), "run folder: .*none has no config.toml"),
        (lambda f: erase_user(f / "shop.run", 7), "user_id: got 7, expected a text, as in the"),
    ],
)
def test_what_cannot_be_erased_is_refused(folder, call, message):
    with pytest.raises(DataError, match=message):
        call(folder)


def test_the_last_user_is_not_erased(shop, small_config, tmp_path):
    alone = shop.events.filter(pl.col("user_id") == "u1")
    from shortlist.training.config.settings import to_toml
    from shortlist.training.fit.checkpoint import save_dataset, write_atomic

    dataset = dataclasses.replace(shop, events=alone)
    save_dataset(dataset, tmp_path / "data")
    write_atomic(tmp_path / "config.toml", to_toml(small_config).encode())
    with pytest.raises(DataError, match=r"'u1' has all 12 events of .*; expected others too"):
        erase_user(tmp_path, "u1")
    assert load_dataset_copy(tmp_path / "data").events.height == 12
    assert erase_user(tmp_path, "u2") == 0


def test_the_command_says_what_is_missing(folder, tmp_path, capsys):
    assert main(["erase", "x"]) == 1
    assert "--feedback, --run: got neither" in capsys.readouterr().err
    assert main(["erase", "x", "--feedback", str(tmp_path / "none")]) == 1
    assert "none, which is no file" in capsys.readouterr().err
    with shortlist.FeedbackLog(tmp_path / "log") as log:
        log.append(user_id=1, item_id=2, kind="click", timestamp=3)
    assert main(["erase", "x", "--feedback", str(tmp_path / "log")]) == 1
    assert "USER_ID: got 'x', expected an integer" in capsys.readouterr().err
