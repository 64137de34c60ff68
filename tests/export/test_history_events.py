"""Histories with kinds and ages of their events, from declaration to answers."""

import dataclasses

import numpy as np
import polars as pl
import pytest

import shortlist
from shortlist.errors import DataError
from shortlist.export.host_graphs import check_host_graphs
from shortlist.export.writer import export_bundle
from shortlist.training.config.settings import from_toml
from shortlist.training.data.events import Dataset
from shortlist.training.features.features import FeatureSet
from shortlist.training.features.history import HistoryEvents
from shortlist.training.fit.fit import TrainedModel, build_model
from shortlist.training.fit.loop import build_sequences
from shortlist.training.splits.split import leave_one_out

CONFIG = """
[model]
dim = 8
hidden = 12
history_length = 4
[export]
parity_users = 30
parity_top_n = 5
[data.features]
history = { kind = "history" }
"""
N_USERS, N_ITEMS, N_EVENTS = 30, 20, 7
DAY = 86_400
KINDS = ["view", "purchase", "überspringen"]


def make_dataset(with_times=True):
    random = np.random.default_rng(2)
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(N_USERS), N_EVENTS),
            "item_id": [
                f"i{(u * 3 + k) % N_ITEMS}" for u in range(N_USERS) for k in range(N_EVENTS)
            ],
            "timestamp": random.integers(0, 90 * DAY, N_USERS * N_EVENTS),
            "kind": [KINDS[i] for i in random.integers(0, 3, N_USERS * N_EVENTS)],
            "value": pl.Series([None] * (N_USERS * N_EVENTS), dtype=pl.Float32),
        }
    )
    return Dataset("events", events, has_times=with_times)


def make_run(run_dir, config=CONFIG):
    dataset = make_dataset()
    split = leave_one_out(dataset)
    settings = from_toml(config)
    features = FeatureSet.fit(dataset, split, settings)
    model = build_model(settings, features, dataset, split)
    random = np.random.default_rng(5)
    weights = model.get_weights()
    model.set_weights(
        {k: v + random.normal(0, 0.3, v.shape).astype(np.float32) for k, v in weights.items()}
    )
    return TrainedModel(settings, features, split, model, None, [], run_dir)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def engine(run):
    path = run.run_dir / "events.shortlist"
    report = export_bundle(run, path)  # the parity gate compares kinds and ages too
    assert report.parity.n_users == N_USERS
    with shortlist.load(path) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def requests(run):
    lists = run.split.dataset.events.group_by("user_id", maintain_order=True).agg(
        "item_id", "kind", "timestamp"
    )
    return {
        "history": lists["item_id"].to_list(),
        "history_kinds": lists["kind"].to_list(),
        "history_ages": [[t[-1] - time for time in t] for t in lists["timestamp"].to_list()],
    }


def test_stored_and_given_events_answer_alike_in_any_shape(engine, requests):
    stored = engine.encode_users({"user_id": list(range(N_USERS))})
    frame = pl.DataFrame(requests)
    pandas = frame.to_pandas()
    for given in (requests, frame, frame.to_arrow(), pandas, frame.to_dicts()):
        np.testing.assert_allclose(engine.encode_users(given), stored, atol=1e-6)


def test_kinds_and_ages_change_the_answer(engine, requests):
    known = engine.encode_users(requests)
    for name, other in (
        ("history_kinds", [["purchase"] * N_EVENTS] * N_USERS),
        ("history_ages", [list(range(N_EVENTS, 0, -1))] * N_USERS),
    ):
        changed = engine.encode_users({**requests, name: other})
        assert np.abs(changed - known).max() > 1e-3


def test_only_differences_of_ages_count(engine, requests):
    later = [[age + 365 * DAY for age in row] for row in requests["history_ages"]]
    np.testing.assert_allclose(
        engine.encode_users({**requests, "history_ages": later}),
        engine.encode_users(requests),
        atol=1e-4,
    )


def test_unknown_items_take_their_events_with_them(engine, requests):
    wider = {
        "history": [["?", *row[:3], "??", *row[3:]] for row in requests["history"]],
        "history_kinds": [["view", *r[:3], "?", *r[3:]] for r in requests["history_kinds"]],
        "history_ages": [[1e9, *row[:3], 5.0, *row[3:]] for row in requests["history_ages"]],
    }
    np.testing.assert_array_equal(engine.encode_users(wider), engine.encode_users(requests))


def test_graphs_for_hosts_pack_events_as_the_engine_does(engine, requests):
    histories = [["?", *row[:3], "??", *row[3:]] for row in requests["history"]]
    some = [[None if i % 3 else age for i, age in enumerate(a)] for a in requests["history_ages"]]
    batches = [
        requests,
        {"history": requests["history"]},
        {**requests, "history_ages": some},
        {"history": histories, "history_ages": [[1e9, *a[:3], None, *a[3:]] for a in some]},
        {"history": [[], histories[0][:2], histories[1]], "history_kinds": [None, ["a"] * 2, None]},
    ]
    report = check_host_graphs(engine, batches, top_n=6)
    assert [told["n_users"] for told in report.values()] == [4 * N_USERS + 3] * 2


def test_without_kinds_and_ages_the_usual_pace_is_taken(engine, run, requests):
    history = requests["history"]
    codes = run.features.encode_history(history)
    expected = run.two_tower.encode_users(codes, {})
    np.testing.assert_allclose(engine.encode_users({"history": history}), expected, atol=1e-5)
    nothing = {
        "history": history,
        "history_kinds": [None, [None] * N_EVENTS] * (N_USERS // 2),
        "history_ages": [[None] * N_EVENTS] * N_USERS,
    }
    np.testing.assert_allclose(engine.encode_users(nothing), expected, atol=1e-5)


def test_requests_without_a_history_stand_among_others(engine, requests):
    rows = [
        {name: values[0] for name, values in requests.items()},
        {},
        {"user_id": 3},
        {"user_id": 99},
    ]
    answer = engine.recommend(rows, top_n=3)
    assert answer.source.tolist() == ["history", "popular", "stored history", "popular"]
    alone = engine.recommend([rows[2]], top_n=3)
    np.testing.assert_array_equal(answer.item_ids[2], alone.item_ids[0])


def test_more_requests_than_one_batch_are_cut(engine, requests):
    times = 60
    many = {name: values * times for name, values in requests.items()}
    np.testing.assert_allclose(
        engine.encode_users(many), np.tile(engine.encode_users(requests), (times, 1)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (
            "history_kinds",
            ["a"],
            DataError,
            "'history_kinds' row 1 has 1 entries but 'history' has 2",
        ),
        (
            "history_ages",
            [1.0] * 3,
            DataError,
            "'history_ages' row 1 has 3 entries but 'history' h",
        ),
        (
            "history_ages",
            [1.0, -1.0],
            DataError,
            "'history_ages' row 1, entry 1 is -1.0, expected s",
        ),
        ("history_ages", [1.0, float("inf")], DataError, "'history_ages' row 1, entry 1 is inf"),
        ("history_ages", [1, "x"], TypeError, "'history_ages' row 1, entry 1 is str 'x', expected"),
        (
            "history_ages",
            [True, 1],
            TypeError,
            "'history_ages' row 1, entry 0 is bool True, expect",
        ),
        ("history_ages", "ab", TypeError, "'history_ages' row 1 is 'ab', expected a list of sec"),
        ("history_ages", 3, TypeError, "'history_ages' row 1 is 3, expected a list of seconds"),
        ("history_kinds", [1, 2], TypeError, "'history_kinds' row 1, entry 0 is int 1, expected a"),
        ("history_kinds", "ab", TypeError, "'history_kinds' row 1 is 'ab', expected a list"),
    ],
)
def test_wrong_events_are_refused_by_column_and_row(engine, name, value, error, message):
    history = [["i1", "i2"], ["i3", "i4"]]
    good = ["view", "view"] if name == "history_kinds" else [2.0, 1.0]
    with pytest.raises(error, match=f"requests: {message}"):
        engine.recommend({"history": history, name: [good, value]})


def test_events_without_a_history_are_refused(engine):
    with pytest.raises(DataError, match="'history_ages' row 0 has 1 entries but 'history' has 0"):
        engine.recommend({"history_ages": [[1.0]]})


def test_a_bundle_that_declares_no_events_does_not_know_the_columns(tmp_path):
    plain = make_run(tmp_path, CONFIG.replace('history = { kind = "history" }', ""))
    export_bundle(plain, tmp_path / "plain.shortlist")
    with (
        shortlist.load(tmp_path / "plain.shortlist") as engine,
        pytest.raises(DataError, match="unknown column 'history_kinds'; did you mean 'history'"),
    ):
        engine.recommend({"history": [["i1"]], "history_kinds": [["view"]]})


def test_ages_need_times_and_one_of_the_two_can_be_left_out():
    dataset = make_dataset(with_times=False)
    split = leave_one_out(dataset)
    with pytest.raises(DataError, match=r"history\.ages: got true, but the events have no times"):
        FeatureSet.fit(dataset, split, from_toml(CONFIG))
    config = from_toml(CONFIG.replace('"history" }', '"history", ages = false }'))
    features = FeatureSet.fit(dataset, split, config)
    assert [feature.name for feature in features.event_features] == ["history_kinds"]
    assert features.event_features[0].vocabulary == sorted(KINDS)


def test_sequences_carry_kinds_and_days_beside_the_items(run):
    sequences, user_ids = build_sequences(run.split, run.config, run.features.event_features)
    events = run.split.train.partition_by("user_id", as_dict=True, maintain_order=True)
    kinds = {kind: code for code, kind in enumerate(sorted(KINDS), 1)}
    (batch,) = sequences.batches(10_000, seed=1, epoch=0)
    checked = 0
    for row, user in enumerate(batch.users[: sequences.n_rows]):
        known = batch.history[row] > 0
        frame = events[(user_ids[user],)].head(int(known.sum()))
        times = frame["timestamp"].to_numpy()
        assert batch.events["history_kinds"][row, known].tolist() == [
            kinds[k] for k in frame["kind"]
        ]
        np.testing.assert_allclose(
            batch.events["history_ages"][row, known], (times[-1] - times) / DAY, rtol=1e-6
        )
        assert not batch.events["history_kinds"][row, ~known].any()
        checked += len(frame)
    assert checked > N_USERS


def test_several_targets_in_one_row_equal_one_row_per_target(run):
    model, n_targets, length = run.two_tower, 3, 4
    random = np.random.default_rng(4)
    shape = (5, length + n_targets - 1)
    codes = random.integers(0, N_ITEMS + 1, shape)
    events = {
        "history_kinds": random.integers(0, 4, shape),
        "history_ages": np.sort(random.uniform(0, 90, shape).astype(np.float32))[:, ::-1],
    }
    table = model.history_lookup.table.numpy()
    together = model.user_encoder(codes, table[codes], events, n_targets=n_targets).numpy()
    for s in range(n_targets):
        seen = {name: values[:, : length + s] for name, values in events.items()}
        apart = model.encode_users(codes[:, : length + s], seen)
        np.testing.assert_allclose(together[s::n_targets], apart, atol=1e-5)


def test_histories_that_are_not_the_beginning_of_a_user_s_events_count_as_usual(run):
    found = HistoryEvents(run.features, run.split.dataset)
    codes = run.features.item_id.codes(run.split.dataset.events["item_id"])[:3]
    user_ids = np.array([0, 0, 77])
    raw = found.raw(user_ids, [codes, codes[::-1], codes])
    assert raw["history_kinds"] == [run.split.dataset.events["kind"][:3].to_list(), None, None]
    encoded = found.encoded(user_ids, [codes, codes[::-1], codes], 4)
    assert encoded["history_kinds"][0, 1:].all()
    assert not encoded["history_kinds"][1:].any()
    gap = np.float32(run.features.event_features[1].reference) / DAY
    np.testing.assert_allclose(encoded["history_ages"][1], [0, 2 * gap, gap, 0], rtol=1e-6)


def test_the_set_survives_json(run):
    assert FeatureSet.from_json(run.features.to_json()) == run.features
    assert dataclasses.replace(run.features, event_features=[]) != run.features


def test_ages_beyond_float16_are_taken_in_a_float16_encoder(run, engine, requests, tmp_path):
    settings = dataclasses.replace(run.config.export, precision="float16")
    half_run = dataclasses.replace(run, config=dataclasses.replace(run.config, export=settings))
    path = tmp_path / "half.shortlist"
    export_bundle(half_run, path)
    years = [[age + 20 * 365 * DAY for age in row] for row in requests["history_ages"]]
    with shortlist.load(path) as rounded:
        for given in (requests, {**requests, "history_ages": years}):
            found = rounded.encode_users(given)
            np.testing.assert_allclose(found, engine.encode_users(given), atol=2**-8)
