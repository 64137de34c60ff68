"""Is a bundle evaluated on what it was trained on? Known, certainly not, or cannot be known."""

import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.data.events import Dataset
from shortlist.training.splits.held_out import check_held_out, describe_training_events, fingerprint
from shortlist.training.splits.split import leave_one_out, make_split, temporal


def training_of(split, **shares):
    data = {"name": "shop", "protocol": split.protocol, "n_train": split.train.height}
    config = {"split": {"protocol": split.protocol, **shares}}
    return {"data": data | describe_training_events(split), "config": config}


def test_the_split_of_the_training_is_certainly_new(shop):
    for split in (leave_one_out(shop), temporal(shop)):
        for on in ("test", "valid"):
            assert check_held_out(training_of(split), split, on) is None


def test_every_event_of_the_training_among_the_targets_is_counted(shop):
    split, trained = temporal(shop, 0.2, 0.1), leave_one_out(shop)
    keys = ["user_id", "item_id", "timestamp"]
    for on, seen in (("test", [trained.train, trained.valid]), ("valid", [trained.train])):
        n_seen = split.part(on).join(pl.concat(seen), on=keys, how="semi").height
        assert n_seen > 0
        with pytest.raises(DataError, match=rf"by which {n_seen} of the .* {on} events"):
            check_held_out(training_of(trained), split, on)


def test_other_shares_are_seen_as_what_they_are(shop):
    trained = training_of(temporal(shop, 0.05, 0.1), valid=0.05, test=0.1)
    assert check_held_out(trained, temporal(shop, 0.05, 0.05), "test") is None
    with pytest.raises(DataError, match="expected 'temporal' with the shares of its training"):
        check_held_out(trained, temporal(shop, 0.05, 0.4), "test")


def test_another_draw_is_seen_as_what_it_is(shop):
    split = make_split(shop, "random", valid=0.1, test=0.1, seed=1)
    trained = training_of(split, valid=0.1, test=0.1, seed=1)
    assert check_held_out(trained, split, "test") is None
    other = make_split(shop, "random", valid=0.1, test=0.1, seed=2)
    with pytest.raises(DataError, match="events are among those the bundle was trained on"):
        check_held_out(trained, other, "test")


def test_a_manifest_that_does_not_tell_leaves_a_doubt(shop):
    split = leave_one_out(shop)
    told = training_of(split)
    for training in ({}, {"data": {"protocol": "leave-one-out"}}, told | {"data": {}}):
        assert "may have seen these test events" in str(check_held_out(training, split, "test"))


def test_fingerprint_tells_any_change_and_order_but_not_the_values(shop):
    events = shop.events
    same = fingerprint(events.with_columns(value=pl.lit(1.0, dtype=pl.Float32)))
    assert fingerprint(events) == same
    when = pl.when(pl.int_range(pl.len()) == 7)
    changes = [
        events.reverse(),
        events.head(-1),
        *(
            events.with_columns(when.then(pl.lit(value)).otherwise(name).alias(name))
            for name, value in (("user_id", "x"), ("item_id", "x"), ("timestamp", 5), ("kind", "k"))
        ),
    ]
    assert len({same, *(fingerprint(changed) for changed in changes)}) == 7


def test_fingerprint_is_the_same_in_every_version():
    events = pl.DataFrame(
        {"user_id": [1, 2], "item_id": ["é", ""], "timestamp": [3, 4], "kind": ["a", "b"]}
    )
    assert fingerprint(events)[:16] == "83a14901db8cf3c7"


def test_integer_ids_and_events_without_times_work():
    columns = {"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "timestamp": [0, 1, 2, 3]}
    events = pl.DataFrame(columns).with_columns(
        kind=pl.lit("event"), value=pl.lit(None, dtype=pl.Float32)
    )
    dataset = Dataset("lists", events, has_times=False)
    split = make_split(dataset)
    told = training_of(split)
    assert told["data"]["known_until"] is None
    assert check_held_out(told, split, "test") is None
