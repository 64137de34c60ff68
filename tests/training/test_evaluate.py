"""Metrics equal hand-computed and naive ones; evaluation asks the ranker the right question."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.data.events import Dataset, make_events
from shortlist.training.evaluation.evaluate import (
    Segment,
    bootstrap_intervals,
    evaluate,
    evaluate_users,
    format_table,
    per_user_metrics,
    ranking_metrics,
    segment_table,
)
from shortlist.training.splits.split import leave_one_out, temporal


def test_hand_computed_example():
    ranked = np.array([[4, 1, 2, 0], [3, 0, -1, -1]])
    targets = [np.array([1, 0, 5]), np.array([2])]
    popularity = np.array([4, 2, 1, 1, 0, 0])
    got = ranking_metrics(ranked, targets, (1, 4), n_items=6, train_popularity=popularity)
    # User 0 hits at places 2 and 4 of 3 targets; user 1 never.
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert got["HR@1"] == 0
    assert got["HR@4"] == 0.5
    assert got["Recall@4"] == pytest.approx((2 / 3) / 2)
    assert got["NDCG@4"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal / 2)
    assert got["MRR@4"] == pytest.approx(0.5 / 2)
    assert got["MAP@4"] == pytest.approx((1 / 2 + 2 / 4) / 3 / 2)
    assert got["coverage@1"] == pytest.approx(2 / 6)
    assert got["coverage@4"] == pytest.approx(5 / 6)
    assert got["novelty@1"] == pytest.approx(3.0)  # both items: −log2(1 / 8)
    assert got["novelty@4"] == pytest.approx((3 + 2 + 3 + 1 + 3 + 1) / 6)
    assert list(got)[:7] == [
        "HR@1",
        "Recall@1",
        "NDCG@1",
        "MRR@1",
        "MAP@1",
        "coverage@1",
        "novelty@1",
    ]


def naive(ranked, target, k):
    hits = [row in target for row in ranked[:k] if row >= 0]
    found = [i for i, hit in enumerate(hits, 1) if hit]
    gain = sum(1 / math.log2(i + 1) for i in found)
    ideal = sum(1 / math.log2(i + 1) for i in range(1, min(k, len(target)) + 1))
    precision = [sum(1 for j in found if j <= i) / i for i in found]
    return {
        "HR": float(bool(found)),
        "Recall": len(found) / len(target),
        "NDCG": gain / ideal,
        "MRR": 1 / found[0] if found else 0.0,
        "MAP": sum(precision) / len(target),
    }


def test_random_lists_equal_the_naive_reference_user_by_user():
    rng = np.random.default_rng(11)
    ranked = np.stack([rng.permutation(40)[:12] for _ in range(300)])
    ranked[rng.random(300) < 0.2, 7:] = -1
    targets = [rng.permutation(40)[: rng.integers(1, 15)] for _ in range(300)]
    got = per_user_metrics(ranked, targets, (1, 5, 12))
    for k in (1, 5, 12):
        for user in range(300):
            for name, value in naive(ranked[user].tolist(), set(targets[user]), k).items():
                assert got[f"{name}@{k}"][user] == pytest.approx(value, abs=1e-12)


def test_lists_of_arrays_and_csr_targets_are_the_same():
    ranked = np.array([[0, 1], [2, 0]])
    lists = per_user_metrics(ranked, [np.array([1, 3]), np.array([2])], (2,))
    csr = per_user_metrics(ranked, (np.array([1, 3, 2]), np.array([0, 2, 3])), (2,))
    assert {k: v.tolist() for k, v in lists.items()} == {k: v.tolist() for k, v in csr.items()}


def test_missing_places_are_never_hits():
    assert per_user_metrics(np.array([[-1, -1]]), [np.array([0])], (2,))["HR@2"].tolist() == [0]


@pytest.mark.parametrize(
    ("ranked", "targets", "ks", "message"),
    [
        (np.zeros(3, int), [[0]], (1,), "ranked_rows: got shape (3,)"),
        (np.zeros((1, 3)), [[0]], (1,), "of float64, expected integers"),
        (np.zeros((1, 3), int), [[0]], (4,), "ks: got [4], expected cut-offs from 1 to the 3"),
        (np.zeros((1, 3), int), [[0]], (), "ks: got [], expected cut-offs"),
        (np.zeros((1, 3), int), [[0], [1]], (1,), "targets: got 2 users, expected 1"),
        (np.zeros((2, 3), int), [[0], []], (1,), "targets: got none for user 1"),
        (np.zeros((0, 3), int), [], (1,), "targets: got no users"),
        (np.full((1, 3), 9), [[0]], (1,), "ranked_rows: got row 9, expected rows below n_items=5"),
    ],
)
def test_bad_metric_input_is_named(ranked, targets, ks, message):
    arrays = [np.array(rows, dtype=np.int64) for rows in targets]
    with pytest.raises(DataError) as caught:
        ranking_metrics(ranked, arrays, ks, n_items=5)
    assert message in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_popularity_of_another_catalogue_is_refused():
    with pytest.raises(DataError, match=r"train_popularity: got shape \(3,\), expected \(5,\)"):
        ranking_metrics(
            np.array([[0]]), [np.array([0])], (1,), n_items=5, train_popularity=np.ones(3)
        )


def test_bootstrap_intervals_hold_the_mean_and_have_the_textbook_width():
    rng = np.random.default_rng(0)
    hit = (rng.random(2000) < 0.2).astype(float)
    low, high = bootstrap_intervals({"HR@10": hit}, seed=4)["HR@10"]
    error = math.sqrt(hit.var() / 2000)
    assert low < hit.mean() < high
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)
    assert bootstrap_intervals({"HR@10": hit}, seed=4)["HR@10"] == (low, high)
    with pytest.raises(DataError, match=r"bootstrap: got level=95, n_resamples=1000"):
        bootstrap_intervals({"HR@10": hit}, level=95)


def test_segments_split_users_at_the_upper_edges():
    table = segment_table(
        {"HR@10": np.array([1.0, 0.0, 1.0, 1.0])}, np.array([1, 5, 6, 99]), (5, 10, 50), "history"
    )
    assert [(s.name, s.n_users, s.metrics["HR@10"]) for s in table] == [
        ("history ≤ 5", 2, 0.5),
        ("history > 5 and ≤ 10", 1, 1.0),
        ("history > 50", 1, 1.0),
    ]
    assert isinstance(table[0], Segment)


def test_tables_leave_a_dash_where_a_metric_is_missing():
    table = format_table({"a|b": {"HR@10": 0.1234}, "c": {"NDCG@10": 1.0}}, digits=2)
    assert table.splitlines() == [
        "| | HR@10 | NDCG@10 |",
        "|---|---|---|",
        "| a\\|b | 0.12 | – |",
        "| c | – | 1.00 |",
    ]


class Fixed:
    """Ranks all rows in order, leaving out the history; remembers what it was asked."""

    def __init__(self, n_items, width=None, is_wrong=False):
        self.n_items, self.width, self.is_wrong = n_items, width, is_wrong
        self.asked = []

    def rank(self, histories, user_ids, top_n, *, exclude_seen=True):
        self.asked += [
            (user, rows.tolist()) for user, rows in zip(user_ids.tolist(), histories, strict=True)
        ]
        out = np.full((len(histories), self.width or top_n), -1)
        for i, seen in enumerate(histories):
            rows = np.arange(self.n_items)
            is_whole = self.is_wrong or not exclude_seen
            rows = rows if is_whole else np.setdiff1d(rows, seen)
            out[i, : len(rows[:top_n])] = rows[:top_n]
        return out


def toy():
    users = [1, 1, 1, 1, 2, 2, 2, 3]
    items = [10, 11, 12, 13, 10, 13, 11, 10]
    return leave_one_out(Dataset("toy", make_events(pl.Series(users), pl.Series(items))))


@pytest.mark.parametrize("users_at_once", [1, 1024])
def test_evaluation_on_test_knows_train_and_valid_events(users_at_once):
    ranker = Fixed(4)
    got = evaluate(ranker, toy(), "test", (1, 2), users_at_once=users_at_once)
    assert ranker.asked == [(1, [0, 1, 2]), (2, [0, 3])]
    assert got["HR@1"] == 1.0
    assert got["coverage@1"] == 0.5


def test_evaluation_on_valid_knows_train_events_only():
    ranker = Fixed(4)
    got = evaluate(ranker, toy(), "valid", (1,))
    assert ranker.asked == [(1, [0, 1]), (2, [0])]
    assert got["HR@1"] == 0.5


def test_users_without_a_past_are_left_out_unless_asked_for():
    users, items = [1, 1, 2, 1, 3], [5, 6, 6, 7, 5]
    events = make_events(pl.Series(users), pl.Series(items), pl.Series([1, 2, 3, 8, 9]))
    split = temporal(Dataset("toy", events), valid=0, test=0.4)
    warm = evaluate_users(Fixed(3), split, ks=(1,))
    assert warm.user_ids.tolist() == [1]
    assert warm.users.no_history == 1
    assert evaluate_users(Fixed(3), split, ks=(1,), cold_users=True).user_ids.tolist() == [1, 3]


def test_targets_already_in_the_history_are_no_targets():
    events = make_events(
        pl.Series([1] * 5), pl.Series([5, 6, 5, 7, 7]), pl.Series([1, 2, 8, 9, 10])
    )
    split = temporal(Dataset("toy", events), valid=0, test=0.6)
    result = evaluate_users(Fixed(3), split, ks=(1,))
    assert result.targets[0].tolist() == [2]
    assert result.users.n_seen_targets == 1
    assert result.users.sentence("test") == (
        "1 of 1 test user measured; also left out: 1 seen target of users with new ones"
    )
    assert result.metrics()["Recall@1"] == 1.0


def test_every_user_is_measured_or_left_out_for_one_reason():
    """Users: 1 measured; 2 comes back to what it had; 3 has no history; 4 has no late event."""
    users, items = [1, 2, 4, 1, 2, 3], [5, 6, 7, 6, 6, 5]
    events = make_events(pl.Series(users), pl.Series(items), pl.Series([1, 2, 3, 8, 8, 9]))
    split = temporal(Dataset("toy", events), valid=0, test=0.5)
    counts = evaluate_users(Fixed(3), split, ks=(1,)).users
    assert counts.measured == 1
    assert counts.left_out() == {
        "seen_targets": 1, "no_history": 1, "not_drawn": 0, "other_items": 0, "no_target": 1
    }  # fmt: skip
    assert counts.measured + sum(counts.left_out().values()) == 4
    assert counts.sentence("test") == (
        "1 of 3 test users measured; left out: 1 whose targets are all in their history, 1 without "
        "a history; 1 more user has no test target"
    )
    assert counts.sentence("valid").startswith("1 of 3 validation users measured")
    later = replace(counts, measured=20, seen_targets=0, no_history=0, no_target=40)
    said = "20 of 20 test users measured; 40 more users have no test target"
    assert later.sentence("test") == said
    repeats = evaluate_users(Fixed(3), split, ks=(1,), include_seen=True)
    assert repeats.users.left_out() == counts.left_out() | {"seen_targets": 0}
    assert repeats.user_ids.tolist() == [1, 2]
    assert repeats.targets[0].tolist() == [1, 1]  # the row of item 6: new to 1, known to 2


def test_a_sample_of_the_users_is_drawn_and_counted():
    n = 50
    events = make_events(pl.Series(np.repeat(np.arange(n), 4)), pl.Series([1, 2, 3, 4] * n))
    split = leave_one_out(Dataset("toy", events))
    some = evaluate_users(Fixed(4), split, ks=(1,), max_users=10)
    assert (len(some.user_ids), some.users.measured, some.users.not_drawn) == (10, 10, 40)
    assert some.users.n_targets == len(some.targets[0]) == 10
    again = evaluate_users(Fixed(4), split, ks=(1,), max_users=10)
    assert again.user_ids.tolist() == some.user_ids.tolist()
    whole = evaluate_users(Fixed(4), split, ks=(1,), max_users=50)
    assert whole.users.not_drawn == 0


def test_reports_by_history_length_and_popularity_count_every_user():
    result = evaluate_users(Fixed(4), toy(), ks=(1,))
    assert sum(s.n_users for s in result.by_history_length()) == 2
    assert sum(s.n_users for s in result.by_target_popularity()) == 2
    assert set(result.intervals(n_resamples=10)) == set(result.per_user())


@pytest.mark.parametrize(
    ("ranker", "on", "message"),
    [
        (Fixed(4, width=7), "test", "Fixed.rank: got shape (2, 7), expected (2, 2)"),
        (
            Fixed(4, is_wrong=True),
            "test",
            "Fixed.rank: got item row 0 for user 1, expected no item",
        ),
        (Fixed(4), "train", "on: got 'train', expected 'valid' or 'test'"),
    ],
)
def test_a_ranker_that_breaks_the_contract_is_named(ranker, on, message):
    with pytest.raises(DataError) as caught:
        evaluate(ranker, toy(), on, (1, 2))
    assert message in str(caught.value)


def test_a_part_without_users_is_an_error():
    split = leave_one_out(Dataset("small", make_events(pl.Series([1, 1]), pl.Series([1, 2]))))
    with pytest.raises(DataError, match="small: no user to evaluate on test: got 0 users"):
        evaluate(Fixed(2), split)
