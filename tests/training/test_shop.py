"""The synthetic shop goes from raw, dirty tables to answers with one TOML file and no code."""

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

import shortlist
from shortlist.cli import main
from shortlist.training.fit.fit import load_run
from shortlist.training.pipeline.evaluation import evaluate_rankers

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--set", "train.batch_size=512", "--set", "train.epochs=2", "--set", "model.dim=16",
         "--set", "train.warmup_steps=20", "--quiet"]  # fmt: skip


def write_shop(folder, **sizes):
    spec = importlib.util.spec_from_file_location(
        "synthetic_shop", ROOT / "benchmarks" / "synthetic_shop.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_shop(folder, **sizes)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, n_users=2000, n_items=600, n_events=30_000)
    return folder


@pytest.fixture(scope="module")
def bundle(shop):
    out = shop / "shop.shortlist"
    config = str(ROOT / "examples" / "shop.toml")
    argv = ["train", "--config", config, "--data", str(shop), *SMALL, "--out", str(out)]
    assert main(argv) == 0
    return out


def test_the_same_seed_gives_the_same_shop(tmp_path):
    sizes = {"n_users": 50, "n_items": 60, "n_events": 500}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_shop(tmp_path / folder, **sizes, seed=seed)
    a, b, c = (pl.read_parquet(tmp_path / f / "events.parquet") for f in "abc")
    assert a.equals(b)
    assert not a.equals(c)
    items = pl.read_parquet(tmp_path / "a" / "items.parquet")
    assert items.width == 12
    assert items.null_count().select(pl.sum_horizontal(pl.all())).item() > 0
    assert items["title"].str.contains(r"\p{Han}").any()


def test_training_cleans_and_reports_every_kind_of_dirt(bundle):
    report = json.loads((bundle.with_suffix(".run") / "cleaning.json").read_text())
    dropped = {rule["rule"]: rule["n_dropped"] for rule in report["rules"] if rule["is_on"]}
    assert dropped.keys() == {
        "missing_ids", "timestamps", "values", "unknown_items", "duplicates", "conflicts", "bots"
    }  # fmt: skip
    assert min(dropped.values()) > 0
    assert report["n_kept"] == load_run(bundle.with_suffix(".run")).split.dataset.events.height


def test_the_model_beats_popularity_on_held_out_purchases_and_views(bundle):
    run = load_run(bundle.with_suffix(".run"))
    weights = run.split.weights(run.split.train)
    assert (weights < 0).any()
    lists = evaluate_rankers({"model": run.ranker()}, run.split, on="valid")
    recall = {name: evaluated.metrics()["Recall@20"] for name, evaluated in lists.items()}
    assert recall["model"] > 1.3 * recall["popularity"]


def test_evaluation_of_the_bundle_cleans_and_weights_as_in_training(bundle, shop, capsys):
    run = load_run(bundle.with_suffix(".run"))
    argv = ["evaluate", str(bundle), "--data", str(shop), "--no-baselines", "--json"]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["protocol"] == "temporal"
    left_out = result["left_out"]
    assert left_out["no_history"] > 0  # a temporal split has users who come later
    n_in_part = result["n_users"] + left_out["no_history"] + left_out["seen_targets"]
    assert n_in_part == len(run.split.targets("test"))
    every_user = result["n_users"] + sum(left_out.values())
    assert every_user == run.split.dataset.events["user_id"].n_unique()


def test_the_bundle_answers_users_histories_features_and_nobody(bundle):
    known = load_run(bundle.with_suffix(".run")).split.train["user_id"][0]
    requests = [
        {"user_id": known},
        {"history": ["sku-3", "sku-11"]},
        {"segment": "vintage", "age": 30.0, "country": "DE"},
        {"segment": None},
    ]
    with shortlist.load(bundle) as engine:
        recs = engine.recommend(requests, top_n=5)
    assert recs.counts.tolist() == [5] * 4
    assert all(str(item).startswith("sku-") for item in recs.item_ids.ravel())
    assert list(recs.source) == ["stored history", "history", "features", "popular"]
