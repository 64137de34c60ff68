"""`shortlist compress`: what is written, what is refused, and that nothing else is touched."""

from __future__ import annotations

import errno
import json
import shutil

import numpy as np
import pytest

import shortlist
from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError, ShortlistError
from shortlist.export.compression import tables
from shortlist.training.fit.checkpoint import read_finished
from shortlist.training.pipeline import compress as pipeline
from shortlist.training.pipeline.compress import CompressRequest, compress_bundle
from shortlist.versions import find_run

SMALL = ["--set", "model.encoder=transformer", "--set", "model.dim=16",
         "--set", "model.hidden=32", "--set", "train.epochs=3", "--set", "train.batch_size=64",
         "--set", "train.learning_rate=0.03", "--set", "scorer.enabled=true",
         "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def world(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress")
    shop.events.write_csv(folder / "events.csv")
    shop.items.write_parquet(folder / "items.parquet")
    data = [f"--data={folder / 'events.csv'}", f"--items={folder / 'items.parquet'}"]
    assert main(["train", *data, *SMALL, "--out", str(folder / "shop.shortlist")]) == 0
    return folder


@pytest.fixture
def folder(world, tmp_path):
    """Give a copy that a test may change."""
    return shutil.copytree(world, tmp_path / "world")


def compressed(folder, capsys, *flags):
    """Run the command; gives its exit status, and what it printed as JSON or as an error."""
    capsys.readouterr()
    out = folder / "small.shortlist"
    status = main(["compress", str(folder / "shop.shortlist"), "--out", str(out), "--json", *flags])
    shown = capsys.readouterr()
    return status, json.loads(shown.out) if shown.out else shown.err


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_smaller_bundle_is_written_and_says_what_was_done_and_found(folder, capsys):
    whole, small = folder / "shop.shortlist", folder / "small.shortlist"
    before = content(whole)
    flags = ["--int8", "--storage", "int8", "--no-users", "--no-portable", "--no-followers"]
    status, report = compressed(folder, capsys, *flags, "--tolerance", "0.5")
    assert status == 0
    assert content(whole) == before
    left = "no users, no portable graph, no followers"
    steps = [left, f"int8, {left}", f"int8, storage int8, {left}"]
    assert [step["name"] for step in report["steps"]] == steps
    assert report["chosen"] == steps[-1]
    assert report["steps"][0]["difference"] == 0.0
    sizes = [report["before"]["size"], *(s["figures"]["size"] for s in report["steps"])]
    assert sizes == sorted(sizes, reverse=True)
    assert set(report["test"]) == {"before", "after"}
    with Bundle.open(whole) as one, Bundle.open(small) as other:
        manifest = other.manifest
        record = manifest.compression
        assert record.source == one.manifest.version == manifest.own.parent
        assert manifest.version == report["version"] != one.manifest.version
        assert record.steps == tuple(steps[-1].split(", "))
        assert (record.tolerance, manifest.storage, manifest.n_users) == (0.5, "int8", 0)
        after = report["steps"][-1]
        assert record.measured["after"] == after["figures"]
        assert record.measured["difference_interval"] == after["interval"]
        assert set(after["speedup"]) == {"1", "64"}
        assert manifest.to_dict()["metrics"]["validation"] == after["figures"]["metrics"]
        assert set(manifest.parity["graphs"]) == {"recommend.onnx"}
        assert not other.has("followers.arrow")
        assert "compression" in other.summary()
        assert "compression" in other.outline()
        assert "compression" not in one.summary()
    with shortlist.load(small) as engine:
        assert engine.recommend({"history": [["i3", "i4"]]}).counts.tolist() == [10]
        assert engine.upsert_items([{"item_id": "new", "price": 3.0}]).n_added == 1
    assert find_run(small, manifest).name == "shop.run"


def test_a_bundle_is_not_compressed_twice(folder, capsys):
    assert compressed(folder, capsys, "--int8", "--tolerance", "1")[0] == 0
    again = folder / "again.shortlist"
    with pytest.raises(DataError, match=r"which is compressed already .*int8.*Fix: compress that"):
        compress_bundle(folder / "small.shortlist", again, CompressRequest(int8=True))
    assert not again.exists()


@pytest.fixture
def spoilt(monkeypatch):
    """Let tables be rounded to one value, so that lists lose all they had."""
    rounded = tables.rounded_rows

    def nothing(values):
        codes, scales = rounded(values)
        return np.ones_like(codes), scales

    monkeypatch.setattr(tables, "rounded_rows", nothing)


def test_a_step_that_loses_too_much_is_refused_and_nothing_is_written(spoilt, folder, capsys):
    before = content(folder / "shop.shortlist")
    status, report = compressed(folder, capsys, "--int8", "--storage", "float16")
    assert status == 3
    assert [step["name"] for step in report["steps"]] == ["int8"]
    assert report["steps"][0]["loss"] > 0.01
    assert report["reason"].startswith("refused: at most 1.00% of NDCG@10 may be lost")
    assert report["is_refused"]
    assert not (folder / "small.shortlist").exists()
    assert content(folder / "shop.shortlist") == before
    assert {path.suffix for path in folder.iterdir()} <= {".csv", ".parquet", ".run", ".shortlist"}
    capsys.readouterr()
    words = ["compress", str(folder / "shop.shortlist"), "--int8", "--quiet"]
    assert main([*words, "--out", str(folder / "small.shortlist")]) == 3
    shown = capsys.readouterr().out
    assert "refused" in shown
    assert "of the bytes" not in shown


def test_a_search_takes_the_smallest_that_is_good_enough_and_draws_it(folder, capsys):
    picture = folder / "small.png"
    flags = ["--within", "0.9", "--report", str(picture)]
    status, report = compressed(folder, capsys, *flags)
    assert status == 0
    names = [step["name"] for step in report["steps"]]
    assert {"as it is", "int8", "int8, storage int8"} <= set(names)
    passed = [step for step in report["steps"] if step["is_passed"]]
    smallest = min(passed, key=lambda step: step["figures"]["size"])
    assert report["chosen"] == smallest["name"]
    with Bundle.open(folder / "small.shortlist") as bundle:
        assert bundle.manifest.size < 1.1 * smallest["figures"]["size"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_search_of_what_does_not_exist_prints_the_best_found(folder, capsys, monkeypatch):
    monkeypatch.setattr(pipeline.RankingGate, "judge", _worse(pipeline.RankingGate.judge))
    status, report = compressed(folder, capsys, "--within", "0.01")
    assert status == 3
    assert "the least that was found is" in report["reason"]
    assert not (folder / "small.shortlist").exists()


def _worse(judge):
    import dataclasses

    def judged(self, name, bundle):
        step = judge(self, name, bundle)
        return dataclasses.replace(step, loss=step.loss + 0.5, is_passed=False)

    return judged


def test_without_the_run_folder_it_says_so_and_given_events_judge(folder, capsys):
    shutil.rmtree(folder / "shop.run")
    status, message = compressed(folder, capsys, "--int8")
    assert status == 1
    assert "run folder: expected that of the training of shop.shortlist" in message
    assert "--data" in message
    assert "--prune and --distil do" in message
    events = ["--data", str(folder / "events.csv")]
    status, message = compressed(folder, capsys, "--prune", "0.5", *events)
    assert status == 1
    assert "--prune: got it with --data, expected the run folder" in message
    status, report = compressed(folder, capsys, "--int8", "--tolerance", "0.9", *events)
    assert status == 0
    assert report["n_users"] == 40


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (CompressRequest(), "steps: got none, expected --int8"),
        (CompressRequest(storage="int7"), "--storage: .*int7"),
        (CompressRequest(int8=True, tolerance=2.0), "--tolerance: got 2.0, expected a part"),
        (CompressRequest(within=-1.0), "--within: got -1.0"),
        (CompressRequest(prune=1.5), "--prune: got 1.5"),
        (CompressRequest(prune=0.5, distil="pool"), "--prune, --distil: got both"),
        (CompressRequest(int8=True, overrides={"train.epochs": 1}), "--set: got train.epochs"),
        (CompressRequest(distil="ease"), "--distil: got 'ease', whose encoder 'ease' is fitted"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_way_out(request_, message, world, tmp_path):
    with pytest.raises(DataError, match=message):
        compress_bundle(world / "shop.shortlist", tmp_path / "small.shortlist", request_)
    assert not list(tmp_path.iterdir())


def test_the_bundle_itself_and_a_foreign_run_are_no_targets(folder, shop, capsys):
    whole = folder / "shop.shortlist"
    with pytest.raises(DataError, match=r"--out: got .*, the bundle itself"):
        compress_bundle(whole, whole, CompressRequest(int8=True))
    events = shop.events.slice(0, 460)
    (folder / "other").mkdir()
    shutil.copytree(folder / "shop.run", folder / "other" / "shop.run")
    events.write_parquet(folder / "other" / "shop.run" / "data" / "events.parquet")
    with pytest.raises(DataError, match=r"was trained on other events than shop.shortlist"):
        compress_bundle(
            whole,
            folder / "small.shortlist",
            CompressRequest(int8=True),
            run_dir=folder / "other" / "shop.run",
        )


def test_a_full_disk_leaves_nothing_and_the_bundle_as_it_was(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = content(folder / "shop.shortlist")
    monkeypatch.setattr(pipeline, "write_variant", full)
    with pytest.raises(ShortlistError, match=r"--out: the disk of .* is full; nothing of the new"):
        compress_bundle(
            folder / "shop.shortlist", folder / "small.shortlist", CompressRequest(int8=True)
        )
    assert content(folder / "shop.shortlist") == before
    assert not [path for path in folder.iterdir() if path.name.startswith(("small", ".small"))]


@pytest.mark.slow
@pytest.mark.parametrize("step", [["--prune", "0.4"], ["--distil", "pool"], ["--distil", "gru"]])
def test_a_smaller_model_has_a_run_of_its_own_that_goes_on(step, folder, capsys):
    flags = [*step, "--int8", "--tolerance", "1", "--set", "train.epochs=2"]
    status, report = compressed(folder, capsys, *flags, "--set", "train.batch_size=64")
    assert status == 0
    name = " ".join(step).removeprefix("--")
    assert [entry["name"] for entry in report["steps"]] == [name, f"{name}, int8"]
    with Bundle.open(folder / "small.shortlist") as bundle:
        manifest = bundle.manifest
    own = find_run(folder / "small.shortlist", manifest)
    assert own.name == "small.run"
    model = read_finished(own).model
    if step[0] == "--prune":
        assert (model.encoder, model.head_width) == ("transformer", 8)
        assert model.hidden < 32 or model.n_heads < 2 or model.n_blocks < 2
    else:
        assert model.encoder == step[1]
    events = {"user_id": [], "item_id": [], "kind": [], "timestamp": []}
    for step_ in range(1, 8):
        for user in range(40):
            events["user_id"].append(f"u{user}")
            events["item_id"].append(f"i{(user + step_) % 30}")
            events["kind"].append("event")
            events["timestamp"].append(2_000 + step_)
    with shortlist.FeedbackLog(folder / "feedback.log") as log:
        log.append_many(events)
    words = ["update", str(folder / "small.shortlist"), "--feedback", str(folder / "feedback.log")]
    words += ["--quiet", "--ignore-drift", "--ignore-gate", "--set", "update.epochs=1"]
    assert main(words) == 0
    with shortlist.load(folder / "small.shortlist") as engine:
        assert engine.bundle.manifest.compression is None
        assert engine.recommend({"history": [["i3", "i4"]]}).counts.tolist() == [10]
