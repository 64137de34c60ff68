"""Bundles are compared user by user, on the items that all of them have."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

import shortlist
import shortlist.training
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.evaluation.comparison import compare
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.evaluation.ground import OnGround
from shortlist.training.models.baselines import Popularity
from shortlist.training.splits.split import leave_one_out

GONE = ["i3", "i7"]  # items that the bundle "fewer" lacks


def train(events, out, preset, **settings):
    settings = {name.replace("__", "."): value for name, value in settings.items()}
    with pytest.warns(UserWarning, match="fewer than 100"):
        shortlist.training.train(events, out=out, preset=preset, settings=settings, progress=False)
    return out


@pytest.fixture(scope="module")
def folder(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("against")
    shop.events.write_csv(folder / "events.csv")
    train(shop.events, folder / "walk.shortlist", "cooccurrence")
    train(shop.events, folder / "popular.shortlist", "popularity")
    fewer = shop.events.filter(~pl.col("item_id").is_in(GONE))
    train(fewer, folder / "fewer.shortlist", "popularity")
    return folder


def test_a_difference_is_said_with_its_error(folder, shop):
    report = shortlist.training.evaluate(
        folder / "walk.shortlist",
        shop.events,
        against=[folder / "popular.shortlist"],
        baselines=False,
    )
    assert list(report.metrics) == ["walk.shortlist", "popular.shortlist"]
    (one,) = report.against
    assert (one.judgement, one.n_users, one.metric) == ("better", 40, "NDCG@10")
    walk, popular = report.metrics["walk.shortlist"], report.metrics["popular.shortlist"]
    for name, value in one.differences.items():
        assert value == pytest.approx(walk[name] - popular[name])
    low, high = one.intervals["NDCG@10"]
    assert 0 < low < one.differences["NDCG@10"] < high
    by = f"{one.differences['NDCG@10']:.4f} ± {(high - low) / 2:.4f}"
    assert one.sentence == (
        f"walk.shortlist is better by {by} NDCG@10 (95 %, 40 users) than popular.shortlist"
    )
    back = shortlist.training.evaluate(
        folder / "popular.shortlist",
        shop.events,
        against=str(folder / "walk.shortlist"),
        baselines=False,
    )
    assert back.against[0].judgement == "worse"
    assert back.metrics["popular.shortlist"] == popular  # the same users and items


def test_the_command_prints_the_sentence_and_json(folder, capsys):
    argv = ["evaluate", str(folder / "walk.shortlist"), "--data", str(folder / "events.csv")]
    argv += ["--against", str(folder / "popular.shortlist")]
    argv += ["--against", str(folder / "fewer.shortlist")]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "walk.shortlist is better by 0." in text
    assert "Against popular.shortlist" in text
    assert main([*argv, "--markdown"]) == 0
    assert "## Against fewer.shortlist" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["other"] for one in report["against"]] == ["popular.shortlist", "fewer.shortlist"]
    assert report["against"][0]["judgement"] == "better"
    assert set(report["ranker_intervals"]) == set(report["metrics"])


def test_items_that_only_some_bundles_have_are_left_out(folder, shop):
    report = shortlist.training.evaluate(
        folder / "walk.shortlist", shop.events, against=folder / "fewer.shortlist"
    )
    assert report.n_items == 28
    said = next(text for text in report.warnings if "only some of the bundles" in text)
    assert said.startswith("2 items that only some of the bundles have are neither ranked")
    assert "(walk.shortlist lacks 0, fewer.shortlist lacks 2)" in said
    last = shop.events.group_by("user_id", maintain_order=True).last()
    n_gone = last.filter(pl.col("item_id").is_in(GONE)).height
    assert report.users.other_items == n_gone > 0
    assert report.users.measured == report.n_users == 40 - n_gone
    assert "whose targets are items that only some of the bundles have" in report.users.sentence(
        "test"
    )
    valid = shortlist.training.evaluate(
        folder / "walk.shortlist",
        shop.events,
        against=folder / "fewer.shortlist",
        on="valid",
        baselines=False,
    )
    doubt = "fewer.shortlist: the bundle was trained on other events"
    assert any(text.startswith(doubt) for text in valid.warnings)


def test_rankers_on_common_ground_skip_what_is_not_there(folder, shop):
    split = leave_one_out(shop)
    ground = ~np.isin(split.catalogue, GONE)
    histories = [np.array([0, 4]), np.array([9])]
    users = np.array(["u0", "u1"])
    full = Popularity().fit(split.train, split.catalogue)
    kept = OnGround(full, ground).rank(histories, users, 10)
    for list_, whole in zip(kept, full.rank(histories, users, 30), strict=True):
        assert list_.tolist() == [row for row in whole if row >= 0 and ground[row]][:10]
    long = OnGround(full, ground).rank(histories, users, 40)
    assert (long >= 0).sum(axis=1).tolist() == [26, 27]
    with shortlist.load(folder / "walk.shortlist") as engine:
        whole = EngineRanker(engine, split).rank(histories, users, 28)
        kept = EngineRanker(engine, split, ground=ground).rank(histories, users, 10)
    for list_, other in zip(kept, whole, strict=True):
        assert list_.tolist() == [row for row in other if ground[row]][:10]


def test_rows_on_common_ground_count_its_items_alone(shop):
    split = leave_one_out(shop)
    ground = ~np.isin(split.catalogue, GONE)
    ranker = OnGround(Popularity().fit(split.train, split.catalogue), ground)
    result = evaluate_users(ranker, split, ks=(20,), ground=ground)
    assert split.catalogue[result.item_rows].tolist() == split.catalogue[ground].tolist()
    assert result.ranked_rows.max() < len(result.train_popularity) == 28
    assert not np.isin(split.catalogue[result.item_rows[result.targets[0]]], GONE).any()


def test_what_cannot_be_compared_is_refused(folder, shop, tmp_path, capsys):
    walk = folder / "walk.shortlist"

    def refused(against, match):
        with pytest.raises(DataError, match=match):
            shortlist.training.evaluate(walk, shop.events, against=against, baselines=False)

    refused(folder / "." / "walk.shortlist", "against: got the bundle itself")
    refused([folder / "popular.shortlist"] * 2, "against: got a bundle twice")
    for against in (3, [3]):
        refused(against, "against: got int, expected the path of a bundle or an Engine")
    with shortlist.load(walk) as engine:
        refused(engine, "against: got the bundle itself")
    numbers = shop.events.with_columns(pl.col("item_id").str.strip_prefix("i").cast(pl.Int64))
    other = train(numbers, tmp_path / "numbers.shortlist", "popularity")
    refused(
        other,
        "against: numbers.shortlist: got item ids that are whole numbers, expected text as in walk",
    )
    renamed = shop.events.with_columns(item_id=pl.lit("x") + pl.col("item_id"))
    other = train(renamed, tmp_path / "renamed.shortlist", "popularity")
    refused(other, "renamed.shortlist: got 30 items, of which walk.shortlist has none")
    cut = {"split__protocol": "temporal", "split__valid": 0.2}
    temporal = train(shop.events, tmp_path / "cut.shortlist", "popularity", **cut)
    with pytest.raises(DataError, match=r"against: walk\.shortlist: protocol: got 'temporal', by"):
        shortlist.training.evaluate(temporal, shop.events, against=walk, baselines=False)
    argv = ["evaluate", str(walk), "--data", str(folder / "events.csv")]
    assert main([*argv, "--against", str(tmp_path / "none.shortlist")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("ks", [(), (0,), (10, 2.5), 10])
def test_cut_offs_that_are_none_are_refused(folder, shop, ks):
    walk = folder / "walk.shortlist"
    with pytest.raises(DataError, match=r"ks: got .*, expected whole numbers >= 1, such as"):
        shortlist.training.evaluate(walk, shop.events, ks=ks)


def test_bundles_of_one_name_are_told_apart(folder, shop, tmp_path):
    other = tmp_path / "walk.shortlist"
    shutil.copytree(folder / "popular.shortlist", other)
    report = shortlist.training.evaluate(
        folder / "walk.shortlist", shop.events, against=other, baselines=False
    )
    assert list(report.metrics) == [str(folder.resolve() / "walk.shortlist"), str(other.resolve())]
    copy = tmp_path / "copy.shortlist"
    shutil.copytree(other, copy)
    same = shortlist.training.evaluate(other, shop.events, against=copy, baselines=False)
    assert same.against[0].judgement == "no difference"
    assert same.against[0].sentence == (
        "walk.shortlist is as good as copy.shortlist for each of 40 users"
    )


def test_few_users_and_small_differences_decide_nothing():
    few = {"NDCG@10": np.ones(19)}
    none = {"NDCG@10": np.zeros(19)}
    one = compare("a", few, "b", none, k=10, n_items=100)
    assert (one.judgement, one.differences) == ("undecided", {})
    assert one.sentence.startswith("a and b: 19 users: too few to judge")
    many = {"NDCG@10": np.resize([0.0, 1.0], 400)}
    assert "a list of 10 holds all" in compare("a", many, "b", many, k=10, n_items=10).sentence
    shifted = {"NDCG@10": np.resize([1.0, 0.0], 400)}
    chance = compare("a", many, "b", shifted, k=10, n_items=100)
    assert chance.judgement == "no difference"
    assert chance.sentence.startswith("no difference within the error between a and b: +0.0000 ± ")


def test_comparisons_need_events(folder, tmp_path, capsys):
    argv = ["evaluate", str(folder / "walk.shortlist"), "--off-policy", str(tmp_path / "x.log")]
    for flags in (["--against", "x"], ["--by-column", "x"], ["--seeds", "2"], ["--report", "x.md"]):
        assert main([*argv, *flags]) == 1
        message = f"{flags[0]}: got it beside --off-policy, expected it with --data"
        assert message in capsys.readouterr().err
