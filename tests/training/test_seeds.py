"""`evaluate --seeds` trains a bundle's own settings anew, and says how far seeds lie apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

import shortlist
import shortlist.training
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.evaluation.seeds import SeedRun, seeds_report
from shortlist.training.pipeline.evaluation import evaluation_config
from shortlist.training.pipeline.seeds import other_events, plan_seeds
from shortlist.training.splits.split import configured_split, leave_one_out

SMALL = ["--set", "model.dim=8", "--set", "model.hidden=16", "--set", "train.epochs=1",
         "--set", "train.batch_size=64", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    shop.events.write_csv(folder / "events.csv")
    shop.items.write_parquet(folder / "items.parquet")
    shop.users.write_parquet(folder / "users.parquet")
    tables = [f"--{name}={folder / name}.parquet" for name in ("items", "users")]
    argv = ["train", "--data", str(folder / "events.csv"), *tables, *SMALL]
    argv += ["--ignore", "item.price", "--set", "train.seed=7"]
    assert main([*argv, "--out", str(folder / "shop.shortlist")]) == 0
    return folder / "shop.shortlist"


def planned(bundle, events, **options):
    """What `evaluate` would train, and how it would measure."""
    with shortlist.load(bundle) as engine:
        config = evaluation_config(engine.bundle.manifest.training, {}, "auto")
        dataset, _ = load_configured(config, frames=Frames(events), progress=False)
        options = {"n_seeds": 1, "out": None, **options}
        plan = plan_seeds(bundle.name, engine, dataset, config, **options)
    split = configured_split(plan.dataset, config)
    return plan, lambda engine: evaluate(EngineRanker(engine, split), split)


def test_the_bundle_s_own_seed_gives_the_bundle_s_own_metrics(bundle, shop):
    """So the settings, the columns and their kinds are those of the training."""
    plan, measure = planned(bundle, shop.events)
    assert plan.seeds == (8,)
    (run,) = replace(plan, seeds=(7,)).run(measure, "NDCG@10", progress=False)
    with shortlist.load(bundle) as engine:
        assert run.metrics == pytest.approx(measure(engine), abs=1e-9)
    assert run.bundle is None
    assert plan.config.data.features == {
        "item.title": "ignore",
        "item.tags": "multi_categorical",
        "user.city": "categorical",
        "user.age": "numeric",
    }


def test_seeds_are_printed_kept_and_found_again(bundle, tmp_path, capsys):
    data = ["--data", str(bundle.parent / "events.csv"), "--no-baselines"]
    out = tmp_path / "kept"
    argv = ["evaluate", str(bundle), *data, "--seeds", "2", "--seeds-out", str(out)]
    page = tmp_path / "page.html"
    assert main([*argv, "--report", str(page)]) == 0
    said = capsys.readouterr()
    for seed in (8, 9):
        assert f"\nseed {seed} " in said.out
        assert f"seed {seed}: training {seed - 7} of 2" in said.err
        assert f"seed {seed}: NDCG@10 0." in said.err
    assert "NDCG@10 of 2 seeds: median 0." in said.out
    assert "between users" in said.out
    assert "Other seeds" in page.read_text(encoding="utf-8")
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"shop-seed-{seed}.{end}" for seed in (8, 9) for end in ("run", "shortlist")]
    first = (out / "shop-seed-8.run" / "checkpoint.npz").stat()
    argv[argv.index("--seeds") + 1] = "1"
    assert main([*argv, "--json"]) == 0  # it was trained before
    runs = json.loads(capsys.readouterr().out)["seeds"]["runs"]
    assert [run["seed"] for run in runs] == [8]
    assert (out / "shop-seed-8.run" / "checkpoint.npz").stat().st_mtime_ns == first.st_mtime_ns
    assert runs[0]["bundle"] == str(out / "shop-seed-8.shortlist")
    with shortlist.load(out / "shop-seed-9.shortlist") as engine:
        config = engine.bundle.manifest.training["config"]
        assert (config["train"]["seed"], config["scorer"]["seed"]) == (9, 3)
        assert config["model"]["dim"] == 8
        assert engine.recommend(user_ids=["u1"], top_n=3).counts.tolist() == [3]


def test_models_that_draw_nothing_are_not_trained_anew(shop, tmp_path, monkeypatch):
    out = tmp_path / "x.shortlist"
    with pytest.warns(UserWarning, match="fewer than 100"):
        shortlist.training.train(shop.events, out=out, preset="item-knn", progress=False)
    from shortlist.training.fit import fit

    monkeypatch.setattr(fit, "train", None)
    report = shortlist.training.evaluate(out, shop.events, seeds=3, baselines=False)
    assert report.seeds.runs == ()
    assert report.seeds.sentence.startswith("seeds change nothing: item-knn is computed from")
    assert json.dumps(report.to_dict()["seeds"])


def test_a_sum_of_seeds_says_where_the_bundle_stands():
    def said(own, *values):
        runs = [SeedRun(i, {"NDCG@10": value}) for i, value in enumerate(values)]
        intervals = {"NDCG@10": (0.1, 0.4)}
        return seeds_report("b", {"NDCG@10": own}, intervals, runs, "NDCG@10").sentence

    assert said(0.2, 0.1, 0.3, 0.25) == (
        "NDCG@10 of 3 seeds: median 0.2500, from 0.1000 to 0.3000; 0.2000 between seeds, 0.3000 "
        "between users (width of the 95 % interval); b itself has 0.2000, among them"
    )
    assert said(0.4, 0.1).startswith("NDCG@10 of 1 seed: median 0.1000")
    assert said(0.4, 0.1).endswith("above them all")
    assert said(0.05, 0.1).endswith("below them all")
    runs = [SeedRun(i, {"HR@10": value, "NDCG@10": value / 2}) for i, value in enumerate((3, 1, 9))]
    spans = {"HR@10": (1.0, 5.0), "NDCG@10": (1.0, 2.0)}
    rows = seeds_report("b", runs[0].metrics, spans, runs, "NDCG@10").rows()
    assert {name: row["HR@10"] for name, row in rows.items()} == {
        **{"seed 0": 3, "seed 1": 1, "seed 2": 9, "median": 3, "lowest": 1, "highest": 9},
        **{"between seeds": 8, "between users": 4.0},
    }


@pytest.mark.parametrize("seeds", [0, -1, 2.0, True, "3"])
def test_numbers_of_seeds_that_are_none_are_refused(bundle, shop, seeds):
    with pytest.raises(DataError, match=r"seeds: got .*, expected a whole number >= 1"):
        shortlist.training.evaluate(bundle, shop.events, seeds=seeds)


def test_what_cannot_be_trained_anew_is_refused(bundle, shop, tmp_path, capsys):
    with pytest.raises(DataError, match="seeds_out: got a folder without seeds"):
        shortlist.training.evaluate(bundle, shop.events, seeds_out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"seeds_out: got .*file, which is a file"):
        planned(bundle, shop.events, out=tmp_path / "file")
    with pytest.raises(SystemExit):
        main(["evaluate", str(bundle), "--data", "x", "--seeds", "0"])
    assert "expected a whole number >= 1" in capsys.readouterr().err
    out = tmp_path / "secret.shortlist"
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"]["users.arrow"]
    manifest["n_users"] = 0
    (out / "users.arrow").unlink()
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    match = r"secret\.shortlist was trained with user features \['city', 'age'\], which neither"
    with pytest.raises(DataError, match=match):
        planned(out, shop.events)
    for config, match in (
        ({}, "does not say how it was trained; train it anew"),
        ({"model": {"encoder": "pool", "wings": 2}}, "trained by another version .*wings"),
    ):
        manifest["training"]["config"] = config
        (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        with pytest.raises(DataError, match=match):
            planned(out, shop.events)


def test_seeds_on_other_events_are_doubted(bundle, shop):
    with shortlist.load(bundle) as engine:
        manifest = engine.bundle.manifest
        assert other_events(manifest, leave_one_out(shop)) is None
        later = shop.events.with_columns(timestamp=shop.events["timestamp"] + 1)
        doubt = other_events(manifest, leave_one_out(Dataset("later", later)))
    assert "learn from other events than the bundle did" in doubt
