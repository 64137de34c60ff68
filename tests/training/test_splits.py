"""Splits put every event where the protocol says, and planted leaks are caught."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.config.sections import EventsConfig
from shortlist.training.data.events import Dataset, make_events
from shortlist.training.splits.leakage import check_no_leakage
from shortlist.training.splits.split import given, leave_one_out, make_split, random, temporal


def dataset(events, **options):
    user, item, when = (pl.Series(column) for column in zip(*events, strict=True))
    return Dataset("toy", make_events(user, item, when), **options)


TOY = [
    ("a", 1, 10),
    ("b", 2, 5),
    ("a", 2, 30),
    ("a", 3, 20),
    ("b", 1, 6),
    ("a", 4, 30),
    ("c", 9, 1),
    ("c", 8, 2),
    ("c", 7, 3),
]


def rows(frame):
    return frame.select("user_id", "item_id").rows()


def test_leave_one_out_takes_the_last_by_time_then_by_file_order():
    split = leave_one_out(dataset(TOY))
    assert rows(split.test) == [("a", 4), ("c", 7)]
    assert rows(split.valid) == [("a", 2), ("c", 8)]
    assert rows(split.train) == [("a", 1), ("a", 3), ("b", 2), ("b", 1), ("c", 9)]
    check_no_leakage(split)


def test_users_with_two_events_only_train():
    split = leave_one_out(dataset([("a", 1, 1), ("a", 2, 2)]))
    assert (split.train.height, split.valid.height, split.test.height) == (2, 0, 0)
    assert len(split.targets()) == 0
    check_no_leakage(split)


def test_histories_and_targets_are_aligned_and_oldest_first():
    split = leave_one_out(dataset(TOY))
    valid, test = split.histories("train"), split.histories("valid")
    assert valid.user_ids.tolist() == split.targets("valid").user_ids.tolist() == ["a", "c"]
    assert [ids.tolist() for ids in valid] == [[1, 3], [9]]
    assert [ids.tolist() for ids in test] == [[1, 3, 2], [9, 8]]
    assert [ids.tolist() for ids in split.targets("test")] == [[4], [7]]
    assert test[-1].tolist() == [9, 8]
    assert split.catalogue[test.rows_of(0)].tolist() == [1, 3, 2]
    with pytest.raises(IndexError):
        test[2]


def test_catalogue_is_the_item_table_then_first_appearance():
    items = pl.DataFrame({"item_id": [3, 99]})
    split = leave_one_out(dataset(TOY, items=items))
    assert split.catalogue.tolist() == [3, 99, 1, 2, 4, 9, 8, 7]
    assert split.item_rows(pl.Series([99, 3, 1000])).tolist() == [1, 0, -1]


def test_string_ids_become_unicode_arrays():
    split = leave_one_out(dataset([("é", "x", 1), ("é", "yy", 2), ("é", "z", 3)]))
    assert split.catalogue.dtype.kind == "U"
    assert split.histories("valid")[0].tolist() == ["x", "yy"]
    assert split.user_ids().tolist() == ["é"]


def test_temporal_cuts_all_users_at_the_same_moments():
    rng = np.random.default_rng(3)
    when = rng.permutation(1000)
    data = dataset(
        list(zip(rng.integers(0, 30, 1000).tolist(), range(1000), when.tolist(), strict=True))
    )
    split = temporal(data, valid=0.05, test=0.1)
    assert (split.train.height, split.valid.height, split.test.height) == (850, 50, 100)
    assert split.train["timestamp"].max() < split.valid["timestamp"].min()
    assert split.valid["timestamp"].max() < split.test["timestamp"].min()
    check_no_leakage(split)


def test_temporal_never_cuts_within_one_time():
    times = [1] * 5 + [2] * 5
    split = temporal(dataset([(u, u, t) for u, t in enumerate(times)]), valid=0.0, test=0.2)
    assert (split.train.height, split.valid.height, split.test.height) == (5, 0, 5)


def test_a_test_user_without_a_past_has_an_empty_history():
    split = temporal(dataset([(u, u, u) for u in range(10)]), valid=0.1, test=0.1)
    assert split.histories("valid").lengths.tolist() == [0]


def test_given_keeps_the_test_file_and_holds_out_valid_repeatably():
    users = [u for u in range(50) for _ in range(10)]
    events = make_events(pl.Series(users), pl.Series(list(range(10)) * 50))
    test = make_events(pl.Series([0, 1]), pl.Series([77, 78]))
    data = Dataset("lgcn", events, test_events=test, has_times=False)
    split = given(data, valid=0.2, seed=1)
    assert split.test.equals(data.test_events)
    assert 60 < split.valid.height < 140
    assert split.train["user_id"].n_unique() == 50
    assert split.valid.equals(given(data, valid=0.2, seed=1).valid)
    assert not split.valid.equals(given(data, valid=0.2, seed=2).valid)
    assert split.catalogue.tolist() == [*range(10), 77, 78]
    check_no_leakage(split)


def test_random_draws_shares_of_each_users_targets_repeatably():
    lengths = {"a": 30, "b": 19, "c": 3, "d": 2}
    users = [u for u, n in lengths.items() for _ in range(n)]
    data = dataset([(u, i, 100 - i) for i, u in enumerate(users)])
    split = random(data, valid=0.1, test=0.2, seed=1)
    counts = {
        part: dict(split.part(part)["user_id"].value_counts().iter_rows())
        for part in ("train", "valid", "test")
    }
    assert counts["test"] == {"a": 6, "b": 3, "c": 1}
    assert counts["valid"] == {"a": 3, "b": 1, "c": 1}
    assert counts["train"] == {"a": 21, "b": 15, "c": 1, "d": 2}
    check_no_leakage(split)
    again, other = (random(data, valid=0.1, test=0.2, seed=seed) for seed in (1, 2))
    assert split.test.equals(again.test)
    assert split.valid.equals(again.valid)
    assert not split.test.equals(other.test)
    assert random(data, valid=0.0, test=0.1).valid.height == 0
    assert make_split(data, "random", valid=0.1, test=0.2, seed=1).test.equals(split.test)


def test_random_holds_out_targets_alone():
    data = dataset([("a", i, i) for i in range(12)])
    kinds = pl.Series("kind", ["buy", "view"] * 6)
    data = replace(data, events=data.events.with_columns(kinds))
    weighting = EventsConfig(weights={"view": 0.0})
    for seed in range(5):
        split = random(data, valid=0.2, test=0.4, seed=seed, weighting=weighting)
        assert split.test["kind"].to_list() == ["buy", "buy"]
        assert split.valid["kind"].to_list() == ["buy"]
        assert split.train.height == 9


def test_auto_uses_the_given_test_set_where_there_is_one():
    data = dataset(TOY)
    assert make_split(data).protocol == "leave-one-out"
    both = replace(data, test_events=data.events[:1])
    assert make_split(both).protocol == "lightgcn-split"
    assert make_split(data, "temporal", valid=0, test=0.3).protocol == "temporal"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda d: temporal(d, valid=0.5, test=0.5), "got valid=0.5, test=0.5, expected valid ≥ 0"),
        (lambda d: temporal(d, test=0), "expected valid ≥ 0, test > 0"),
        (lambda d: random(d, 0.5, 0.5), "random split: got valid=0.5, test=0.5, expected valid"),
        (lambda d: temporal(replace(d, has_times=False)), "toy has no times, only an order"),
        (lambda d: temporal(dataset([(1, 1, 5), (1, 2, 5)])), "got no event before the cut at 5"),
        (lambda d: given(d), "toy has no given test events. Fix: use format 'lightgcn'"),
        (lambda d: given(replace(d, test_events=d.events), valid=1.0), "expected 0 ≤ valid < 1"),
        (
            lambda d: leave_one_out(replace(d, test_events=d.events)),
            "comes with its own test events, got protocol 'leave-one-out', expected 'lightgcn",
        ),
        (lambda d: make_split(d, "loo"), "protocol: got 'loo', expected one of"),
        (
            lambda d: leave_one_out(d).histories("test"),
            "upto: got 'test', expected 'train' or 'valid'",
        ),
        (lambda d: leave_one_out(d).targets("dev"), "on: got 'dev', expected one of"),
    ],
)
def test_impossible_splits_are_explained(act, message):
    with pytest.raises(DataError) as caught:
        act(dataset(TOY))
    assert message in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_an_event_in_two_parts_is_caught():
    split = leave_one_out(dataset(TOY))
    leaky = replace(split, train=pl.concat([split.train, split.test[:1]]))
    with pytest.raises(
        DataError,
        match=r"leak: event \(user_id 'a', item_id 4\) is 2 times in "
        r"\['train', 'test'\], expected 1 times",
    ):
        check_no_leakage(leaky)


def test_a_train_event_after_the_users_test_event_is_caught():
    split = leave_one_out(dataset(TOY))
    late = split.test.with_columns(timestamp=pl.col("timestamp") - 29)
    data = replace(split.dataset, events=pl.concat([split.train, split.valid, late]))
    with pytest.raises(
        DataError,
        match=r"leak: .* event \(user_id 'a', item_id \d\) has timestamp"
        r".*expected one at or before the first",
    ):
        check_no_leakage(replace(split, dataset=data, test=late))


def test_a_train_event_after_the_cut_is_caught_even_of_another_user():
    split = temporal(dataset([(u, u, u) for u in range(20)]), valid=0.1, test=0.1)
    swapped = replace(
        split,
        train=pl.concat([split.train[1:], split.test[-1:]]),
        test=pl.concat([split.train[:1], split.test[:-1]]),
    )
    with pytest.raises(
        DataError,
        match=r"leak: train event \(user_id 19, item_id 19\) has timestamp "
        r"19, expected one before the first valid event at 16",
    ):
        check_no_leakage(swapped)


def test_events_that_the_data_repeats_are_no_leak():
    split = leave_one_out(dataset([("a", 1, 5)] * 4))
    assert (split.train.height, split.valid.height, split.test.height) == (2, 1, 1)
    check_no_leakage(split)
