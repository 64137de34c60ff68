"""The preset `repeats` beats a user's own frequencies where people buy or play the same again."""

import importlib.util
import random
from pathlib import Path

import polars as pl
import pytest

import shortlist
import shortlist.training
from shortlist.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def baskets():
    path = ROOT / "benchmarks" / "synthetic_groceries.py"
    spec = importlib.util.spec_from_file_location("synthetic_groceries", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_baskets(n_users=250, n_items=300, n_days=90)


def trained(events, folder, *settings):
    events.write_parquet(folder / "events.parquet")
    out = folder / "again.shortlist"
    argv = ["train", "--data", str(folder / "events.parquet"), "--preset", "repeats", "--quiet"]
    assert main([*argv, *settings, "--out", str(out)]) == 0
    return out


def test_recency_and_counts_beat_counts_on_baskets(baskets, tmp_path):
    bundle = trained(baskets, tmp_path, "--set", "split.protocol=temporal")
    report = shortlist.training.evaluate(bundle, tmp_path / "events.parquet")
    assert report.include_seen
    assert report.verdict.baseline == "own frequency"
    assert report.verdict.judgement == "better"
    assert report.verdict.difference > 0.01


def test_own_songs_are_found_as_well_as_by_their_counts(tmp_path):
    pick, rows = random.Random(0), []
    for user in range(80):
        own = pick.sample(range(40), 4)
        for k in range(30):
            song = pick.choice(own) if pick.random() < 0.95 else pick.randrange(40)
            rows.append((f"u{user}", f"s{song}", 1_700_000_000 + 1000 * user + k))
    plays = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    bundle = trained(plays, tmp_path)
    report = shortlist.training.evaluate(bundle, tmp_path / "events.parquet")
    own, ours = (report.metrics[name] for name in ("own frequency", bundle.name))
    assert ours["HR@10"] >= own["HR@10"] > 0.9
    assert report.verdict.judgement != "worse"
    with shortlist.load(bundle) as engine:
        found = engine.recommend({"history": [["s1", "s2", "s1", "s3"]]}, exclude_seen=False)
        new = engine.recommend({"history": [["s1", "s2", "s1", "s3"]]})
    assert found.item_ids[0, :3].tolist() == ["s1", "s3", "s2"]
    assert not set(new.item_ids[0].tolist()) & {"s1", "s2", "s3"}


def test_baskets_are_in_order_mostly_repeats_and_some_items_are_popular(baskets):
    assert baskets.columns == ["user_id", "item_id", "timestamp"]
    pauses = baskets.select(pl.col("timestamp").diff().over("user_id"))["timestamp"]
    assert pauses.min() >= 0
    n_had = baskets.height - baskets.select("user_id", "item_id").unique().height
    assert n_had > 0.7 * baskets.height
    counts = baskets["item_id"].value_counts()["count"]
    assert counts.top_k(30).sum() > 0.2 * baskets.height
