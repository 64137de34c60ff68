"""Event kinds and values: how much each event counts, and what dislikes are used for."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from shortlist.errors import DataError
from shortlist.export.tables import item_table
from shortlist.training.config.sections import EventsConfig
from shortlist.training.config.settings import apply_overrides, from_toml, to_toml
from shortlist.training.data.events import Dataset
from shortlist.training.fit.fit import load_run, train
from shortlist.training.fit.sequences import Sequences
from shortlist.training.models.baselines import Popularity
from shortlist.training.models.ease import EASE
from shortlist.training.models.item_item import ItemKNN, RecencyItemKNN
from shortlist.training.models.losses import full_softmax, sampled_softmax
from shortlist.training.splits.leakage import check_no_leakage
from shortlist.training.splits.split import leave_one_out, make_split
from shortlist.training.splits.weights import check_kinds, event_weights, is_target

DAY = 86_400
KINDS = ["view", "purchase", "rating", "rating", "skip", "browse"]
SETTINGS = EventsConfig(
    weights={"view": 0.2, "browse": 0.0}, negative_kinds=("skip",), negative_below=3.0,
    negative_weight=0.5,
)  # fmt: skip


def make(kinds=KINDS, values=(None, None, 2.0, 4.0, None, None), users=None):
    n = len(kinds)
    return pl.DataFrame(
        {
            "user_id": users or [1] * n,
            "item_id": [f"i{i}" for i in range(n)],
            "timestamp": [i * DAY for i in range(n)],
            "kind": list(kinds),
            "value": pl.Series(list(values), dtype=pl.Float32),
        }
    )


def test_without_settings_every_event_counts_one():
    assert event_weights(make(), EventsConfig(), 0).tolist() == [1.0] * 6
    assert make().select(is_target(EventsConfig())).to_series().all()


def test_the_sign_says_target_history_or_dislike():
    weights = event_weights(make(), SETTINGS, 0)
    np.testing.assert_allclose(weights, [0.2, 1.0, -0.5, 1.0, -0.5, 0.0])
    assert weights.dtype == np.float32
    targets = make().select(is_target(SETTINGS)).to_series().to_list()
    assert targets == [True, True, False, True, False, False]


def test_weights_halve_with_every_half_life_back_from_now():
    settings = dataclasses.replace(SETTINGS, half_life_days=2.0)
    weights = event_weights(make(), settings, 4 * DAY)
    np.testing.assert_allclose(weights, [0.2 / 4, 2**-1.5, -0.5 / 2, 2**-0.5, -0.5, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"veiw": 1.0}}, r"events\.weights\.veiw: got 'veiw', allowed: browse.*'view'"),
        ({"negative_kinds": ("hide",)}, r"events\.negative_kinds\[0\]: got 'hide', allowed: brow"),
        ({"half_life_days": 1.0}, r"half_life_days: got 1, but the events have no times"),
    ],
)
def test_settings_that_no_event_can_follow_are_named(change, message):
    with pytest.raises(DataError, match=message):
        check_kinds(make(), EventsConfig(**change), has_times=False)


def test_a_limit_on_values_needs_values():
    dataset = Dataset("x", make(values=[None] * 6))
    with pytest.raises(DataError, match="negative_below: got 3, but no event has a value"):
        make_split(dataset, weighting=EventsConfig(negative_below=3.0))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[events]\nweights = 1", r"events\.weights: got 1, expected a table of kind = number"),
        ("[events.weights]\nview = -1", r"events\.weights\.view: got -1, expected a number >= 0"),
        ('[events.weights]\nview = "a"', r"events\.weights\.view: got 'a', expected a number"),
        ('[events]\nnegative_kinds = "skip"', r'got .skip., expected a list of text such as \["s'),
        ("[events]\nnegative_kinds = [1]", r"events\.negative_kinds\[0\]: got 1, expected text"),
        ("[events]\nnegative_below = nan", r"events\.negative_below: got nan, expected a number"),
        ("[events]\nhalf_life_days = -1", r"events\.half_life_days: got -1, expected a number >"),
    ],
)
def test_bad_settings_name_key_got_and_expected(toml, message):
    with pytest.raises(DataError, match=message):
        from_toml(toml)


def test_settings_survive_a_round_trip_and_flags_set_one_weight():
    config = apply_overrides(
        from_toml('[events]\nnegative_kinds = ["skip", "hide"]\n'),
        {"events.weights.view": "0.2", "events.weights.buy now": 3, "cleaning.k_core": "true"},
    )
    assert config.events.weights == {"view": 0.2, "buy now": 3.0}
    assert from_toml(to_toml(config)) == config


def test_leave_one_out_holds_out_targets_and_keeps_dislikes_beside_them():
    kinds = ["view", "view", "skip", "view", "skip", "view", "skip"]
    dataset = Dataset("x", make(kinds, [None] * 7))
    split = leave_one_out(dataset, EventsConfig(negative_kinds=("skip",)))
    check_no_leakage(split)
    parts = [split.part(on)["item_id"].to_list() for on in ("train", "valid", "test")]
    assert parts == [["i0", "i1", "i2"], ["i3", "i4"], ["i5", "i6"]]
    assert [list(t) for t in split.targets("test")] == [["i5"]]
    assert [list(h) for h in split.histories("valid")] == [["i0", "i1", "i2", "i3", "i4"]]


def test_targets_and_histories_are_of_the_users_that_have_targets():
    users = [1, 1, 1, 2, 2, 2]
    split = make_split(
        Dataset("x", make(["view", "view", "view", "view", "view", "skip"], [None] * 6, users)),
        "temporal", valid=0.0, test=0.6, weighting=EventsConfig(negative_kinds=("skip",)),
    )  # fmt: skip
    assert split.user_ids("test").tolist() == [1, 2]
    assert [list(t) for t in split.targets("test")] == [["i2"], ["i3", "i4"]]
    only_skips = dataclasses.replace(
        split, weighting=EventsConfig(weights={"view": 0.0}, negative_kinds=("skip",))
    )
    assert len(only_skips.targets("test")) == len(only_skips.histories("valid")) == 0


def test_split_weights_decay_back_from_the_last_train_event():
    settings = EventsConfig(half_life_days=1.0)
    split = leave_one_out(Dataset("x", make()), settings)
    np.testing.assert_allclose(split.weights(split.train), [1 / 8, 1 / 4, 1 / 2, 1.0])
    assert split.weights(split.test).tolist() == [1.0]  # later than the train part


def test_sequences_carry_the_weight_of_each_target():
    weights = np.array([0.5, 0.0, -1.0, 2.0, 3.0], np.float32)
    sequences = Sequences(
        np.arange(1, 6), np.array([3, 2]), history_length=3, n_targets=2, weights=weights
    )
    seen, n_events = {}, 0
    for batch in sequences.batches(2, seed=0, epoch=0):
        n_events += batch.n_events
        for code, weight in zip(batch.target.ravel(), batch.weight.ravel(), strict=True):
            if weight:
                seen[int(code)] = float(weight)
    assert seen == {1: 0.5, 3: -1.0, 4: 2.0, 5: 3.0}
    assert n_events == 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_a_disliked_item_costs_what_its_chance_is(loss, smoothing):
    rng = np.random.default_rng(1)
    users, items = (rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 5))
    rows = tf.constant([0, 1, 2], tf.int64)

    def value(weights):
        options = {"weights": tf.constant(weights), "temperature": 0.7,
                   "label_smoothing": smoothing}  # fmt: skip
        if loss == "full":
            return float(full_softmax(users, items, rows, **options))
        even = tf.zeros(5)
        return float(
            sampled_softmax(users, items[:3], items, target_rows=rows,
                            negative_rows=tf.range(5, dtype=tf.int64), log_q=even, **options)
        )  # fmt: skip

    logits = users @ items.T / 0.7
    chance = np.exp(logits[2, 2]) / np.exp(logits[2]).sum()
    if loss == "sampled":  # the negatives stand for log-q-corrected draws: exp(log 5) fewer each
        others = np.exp(np.delete(logits[2], 2)).sum() / 5
        chance = np.exp(logits[2, 2]) / (np.exp(logits[2, 2]) + others)
    assert value([0.0, 0.0, -2.0]) == pytest.approx(-np.log(1 - chance), rel=1e-5)
    both = value([1.0, 0.0, -2.0])
    assert both == pytest.approx((value([1.0, 0.0, 0.0]) + 2 * value([0.0, 0.0, -1.0])) / 3)


def test_a_disliked_item_that_is_certain_gives_no_nan():
    users = tf.Variable([[100.0, 0.0]])
    items = tf.constant([[1.0, 0.0], [-1.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = full_softmax(users, items, tf.constant([0]), tf.constant([-1.0]), temperature=0.1)
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, users)).all()


@pytest.mark.parametrize("model", [Popularity, ItemKNN, RecencyItemKNN, EASE])
def test_baselines_count_weights(model):
    """Weight 0 and dislikes are as if not there; weights of one are as no weights."""
    rng = np.random.default_rng(0)
    n = 400
    events = pl.DataFrame({"user_id": np.sort(rng.integers(0, 30, n)),
                           "item_id": rng.integers(0, 12, n)})  # fmt: skip
    catalogue = np.arange(12)
    histories = [np.array([1, 2, 3]), np.array([7])]
    users = np.array([0, 1])

    def ranked(frame, weights=None):
        return model().fit(frame, catalogue, weights).rank(histories, users, 8).tolist()

    assert ranked(events, np.ones(n)) == ranked(events)
    weights = rng.choice([-1.0, 0.0, 1.0], n)
    assert ranked(events, weights) == ranked(events.filter(pl.Series(weights > 0)))
    heavy = np.where(events["item_id"].to_numpy() == 5, 9.0, 0.1)
    assert ranked(events, heavy) != ranked(events)


def test_popularity_sums_weights():
    events = pl.DataFrame({"user_id": [0, 1, 2], "item_id": [0, 0, 1]})
    popularity = Popularity().fit(events, np.arange(2), np.array([0.2, 0.2, 1.0]))
    assert popularity.rank([np.empty(0, np.int64)], np.array([9]), 2).tolist() == [[1, 0]]


def test_a_model_ranks_disliked_items_below_where_it_ranks_liked_ones(small_config, tmp_path):
    """Everyone sees all items in random order; kind alone says which half is liked."""
    rng = np.random.default_rng(2)
    n_users, n_items = 60, 16
    items = np.concatenate([rng.permutation(n_items) for _ in range(n_users)])
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users), n_items),
            "item_id": items,
            "timestamp": np.tile(np.arange(n_items) + 1000, n_users),
            "kind": np.where(items < 8, "like", "skip"),
            "value": pl.Series([None] * len(items), dtype=pl.Float32),
        }
    )
    config = apply_overrides(small_config, {"events.negative_kinds": ["skip"], "train.epochs": 4})
    run = train(Dataset("halves", events), config, tmp_path / "run", progress=False)
    ranked = run.ranker().rank([np.empty(0, np.int64)], np.array([0]), n_items)[0]
    liked = run.split.catalogue[ranked] < 8
    assert liked[:8].sum() == 8
    again = load_run(tmp_path / "run")
    assert again.config.events == config.events
    assert again.split.train.equals(run.split.train)
    other = apply_overrides(config, {"events.negative_kinds": []})
    with pytest.raises(DataError, match=r"resume: events\.negative_kinds: got \(\), expected"):
        train(Dataset("halves", events), other, tmp_path / "run", resume=True, progress=False)


def test_where_only_dislikes_are_held_out_the_last_epoch_counts(small_config, tmp_path):
    kinds = ["view"] * 6 + ["skip"] * 2
    settings = {"events.negative_kinds": ["skip"], "split.protocol": "temporal",
                "split.valid": 0.125, "split.test": 0.125, "train.epochs": 2}  # fmt: skip
    dataset = Dataset("x", make(kinds, [None] * 8, users=[1, 1, 1, 2, 2, 2, 1, 2]))
    run = train(dataset, apply_overrides(small_config, settings), tmp_path / "r", progress=False)
    assert run.split.valid["kind"].to_list() == ["skip"]
    assert (len(run.history), run.metrics) == (2, {})


def test_without_a_single_target_training_says_so(small_config, tmp_path):
    config = apply_overrides(small_config, {"events.weights.view": 0.0})
    dataset = Dataset("views", make(["view"] * 6, [None] * 6))
    with pytest.raises(DataError, match="views: got no train events that are targets"):
        train(dataset, config, tmp_path / "run", progress=False)


def test_dislikes_make_no_item_popular():
    everything = make(["view", "skip", "rating", "rating", "browse"], (None, None, 1.0, 5.0, None))
    split = dataclasses.replace(
        leave_one_out(Dataset("toy", everything), SETTINGS), train=everything
    )
    table = item_table(split)
    counts = dict(zip(*table.select(["item_id", "n_events"]).to_pydict().values(), strict=True))
    assert counts == {"i0": 1, "i1": 0, "i2": 0, "i3": 1, "i4": 0}
