"""Lists are measured beyond accuracy as the formulas say."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

import shortlist.training
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.beyond import ItemColumn, beyond_accuracy
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.splits.split import leave_one_out

N_ITEMS = 12


class Random:
    """Ranks at random, not always as many as asked for."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def rank(self, histories, user_ids, top_n, *, exclude_seen=True):
        out = np.full((len(histories), top_n), -1)
        for i, seen in enumerate(histories):
            rows = self.rng.permutation(np.setdiff1d(np.arange(N_ITEMS), seen))
            rows = rows[: self.rng.integers(0, top_n + 1)]
            out[i, : len(rows)] = rows
        return out


class Vectors:
    """Random vectors; item 2 has none, that of item 5 is zero."""

    def __init__(self):
        self.table = np.random.default_rng(1).normal(size=(N_ITEMS, 5)).astype(np.float32)
        self.table[5] = 0

    def of(self, rows):
        return self.table[rows], (rows >= 0) & (rows != 2)


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    rows = [(u, int(i), t) for u in range(30) for t, i in enumerate(rng.permutation(N_ITEMS)[:6])]
    schema = ["user_id", "item_id", "timestamp"]
    events = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        kind=pl.lit("event"), value=pl.lit(None, pl.Float32)
    )
    items = pl.DataFrame({"item_id": range(N_ITEMS)})
    return leave_one_out(Dataset("toy", events, items))


TAGS = [
    ["a"],
    ["a", "b"],
    ["b"],
    [],
    ["c"],
    None,
    ["c", "a"],
    ["b", "b"],
    ["a"],
    ["c"],
    [None],
    ["b"],
]


def weights_of(item):
    tags = sorted({tag for tag in TAGS[item] or [] if tag is not None})
    return {tag: 1 / len(tags) for tag in tags}


def mixture(items):
    total = {}
    for item in items:
        for tag, weight in weights_of(item).items():
            total[tag] = total.get(tag, 0) + weight
    whole = sum(total.values())
    return {tag: weight / whole for tag, weight in total.items()}


def test_random_lists_equal_the_naive_reference(split):
    result = evaluate_users(Random(3), split, ks=(4, 6))
    vectors = Vectors()
    histories = split.histories("valid")
    column = ItemColumn("tags", pl.Series("tags", TAGS, pl.List(pl.String)))
    got = beyond_accuracy(
        {"x": result}, {"x": result.metrics()}, ["x"], histories, vectors, [column]
    )
    lists = [[row for row in ranked[:4].tolist() if row >= 0] for ranked in result.ranked_rows]

    def cosine(i, j):
        a, b = vectors.table[i].astype(float), vectors.table[j].astype(float)
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / size if size else 0.0

    distances, divergences = [], []
    for user, shown in enumerate(lists):
        has = [row for row in shown if row != 2]
        pairs = [1 - cosine(i, j) for i in has for j in has if i != j]
        distances += [np.mean(pairs)] if pairs else []
        p, q = mixture(histories.rows_of(user).tolist()), mixture(shown)
        terms = [v * math.log(v / (0.99 * q.get(g, 0) + 0.01 * v)) for g, v in p.items()]
        divergences += [sum(terms)] if p else []
    assert got.metrics["x"]["ILD@4"] == pytest.approx(np.mean(distances), abs=1e-6)
    assert got.metrics["x"]["KL tags@4"] == pytest.approx(np.mean(divergences))
    shown = np.sort(np.bincount(np.concatenate(lists).astype(int), minlength=N_ITEMS))
    between = np.abs(shown[:, None] - shown[None, :]).sum()  # mean difference, over twice the mean
    gini = between / (2 * N_ITEMS * shown.sum()) * N_ITEMS / (N_ITEMS - 1)
    assert got.metrics["x"]["Gini@4"] == pytest.approx(gini)
    assert got.metrics["x"]["coverage@4"] == (shown > 0).mean()
    (shares,) = got.columns
    rows = {row.value: row for row in shares.rows}
    places = [item for shown in lists for item in shown]
    known = histories.rows.tolist()
    for tag in "abc":
        for whole, part in ((range(N_ITEMS), rows[tag].catalogue), (known, rows[tag].histories),
                            (places, rows[tag].lists["x"])):  # fmt: skip
            mass = sum(weights_of(item).get(tag, 0) for item in whole)
            assert part == pytest.approx(mass / len(whole))
    assert (rows["b"].n_items, rows["(no value)"].n_items) == (4, 3)
    for part in ("catalogue", "histories"):
        assert sum(getattr(row, part) for row in shares.rows) == pytest.approx(1.0)
    assert sum(row.lists["x"] for row in shares.rows) == pytest.approx(1.0)


class Same:
    """Everybody gets the same list."""

    def __init__(self, rows):
        self.rows = np.array(rows)

    def rank(self, histories, user_ids, top_n, *, exclude_seen=True):
        return np.tile(self.rows[:top_n], (len(histories), 1))


def test_the_ends_of_the_scales(split):
    class Equal(Vectors):
        def of(self, rows):
            return np.ones((len(rows), 3), np.float32), rows >= 0

    rows = split.histories("valid")
    one = evaluate_users(Same([0]), split, ks=(1,), include_seen=True)
    got = beyond_accuracy({"x": one}, {"x": one.metrics()}, [], rows, Equal()).metrics["x"]
    assert got["Gini@1"] == pytest.approx(1.0)
    assert "ILD@1" not in got  # a list of one has no pair
    all_of_them = evaluate_users(Same(range(N_ITEMS)), split, ks=(N_ITEMS,), include_seen=True)
    metrics = {"x": all_of_them.metrics()}
    got = beyond_accuracy({"x": all_of_them}, metrics, [], rows, Equal()).metrics["x"]
    assert got[f"Gini@{N_ITEMS}"] == pytest.approx(0.0)
    assert got[f"ILD@{N_ITEMS}"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pl.Series("x", ["b", None, "a", ""]), ["", "a", "b"]),
        (pl.Series("x", [3, 1, 3, None]), ["1", "3"]),
        (pl.Series("x", [True, False]), ["false", "true"]),
        (pl.Series("x", ["2020-01-02", "2021-03-04"]).str.to_date(), ["2020", "2021"]),
        (pl.Series("x", [float(i) for i in range(99)] + [float("nan")]),
         ["> 24, ≤ 49", "> 49, ≤ 73", "> 73", "≤ 24"]),
    ],
)  # fmt: skip
def test_columns_of_every_kind_have_values(column, values):
    made = ItemColumn("x", column)
    assert made.values == values
    is_null = column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
    sums = np.asarray(made.weights.sum(axis=1)).ravel()
    assert sums.tolist() == (~is_null).cast(pl.Float64).to_list()


def test_columns_that_say_nothing_are_refused():
    with pytest.raises(DataError, match="by_column: 'x' has no value in any row"):
        ItemColumn("x", pl.Series("x", [None, None], pl.String))
    with pytest.raises(DataError, match="by_column: 'x' is a column of vectors"):
        ItemColumn("x", pl.Series("x", [[0.5], [0.25]]))


def test_shares_are_reported_of_a_column_of_the_data_or_of_the_bundle(shop, tmp_path, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    bundle = tmp_path / "shop.shortlist"
    with pytest.warns(UserWarning, match="fewer than 100"):
        shortlist.training.train(
            shop.events, shop.items, out=bundle, preset="cooccurrence", progress=False
        )
    argv = ["evaluate", str(bundle), "--data", str(tmp_path / "events.csv"), "--no-baselines"]
    assert main([*argv, "--by-column", "tags", "--by-column", "price", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    metrics = report["beyond"]["metrics"]["shop.shortlist"]
    assert list(metrics) == [
        *("ILD@10", "Gini@10", "coverage@10", "novelty@10", "KL tags@10", "KL price@10")
    ]
    assert metrics["coverage@10"] == report["metrics"]["shop.shortlist"]["coverage@10"]
    tags = {row["value"]: row for row in report["beyond"]["columns"][0]["rows"]}
    assert tags["all"]["catalogue"] == pytest.approx(0.5)  # each item: all, and a group
    assert tags["all"]["lists"] == {"shop.shortlist": pytest.approx(0.5)}
    from_data = shortlist.training.evaluate(
        bundle, shop.events, items=shop.items, by_column="tags", baselines=False
    )
    assert from_data.beyond.metrics["shop.shortlist"]["KL tags@10"] == metrics["KL tags@10"]
    assert main([*argv, "--by-column", "tags"]) == 0
    text = capsys.readouterr().out
    assert "Beyond accuracy" in text
    assert "Shares by tags" in text
    assert main([*argv, "--by-column", "tag"]) == 1
    assert "by_column: got 'tag', allowed: " in capsys.readouterr().err
