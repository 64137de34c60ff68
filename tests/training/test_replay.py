import json

import numpy as np
import polars as pl
import pytest

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.config.sections import EventsConfig
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.next_events import NextEvents, OwnCatalogue
from shortlist.training.fit.sequences import Sequences
from shortlist.training.pipeline.replay import cut_cycles
from shortlist.training.splits.parts import Split


def make_log(n_users=60, n_items=20, n_events=600):
    """Users walk through the items in order, each at their own times."""
    rng = np.random.default_rng(2)
    start, done = rng.integers(0, n_items, n_users), np.zeros(n_users, np.int64)
    rows = []
    for time, user in enumerate(rng.integers(0, n_users, n_events)):
        rows.append((int(user), int((start[user] + done[user]) % n_items), 1_000 + 60 * time))
        done[user] += 1
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return events.with_columns(kind=pl.lit("event"), value=pl.lit(None, pl.Float32))


def test_cycles_cut_all_events_by_time_into_equal_parts():
    dataset = Dataset("log", make_log())
    known, parts = cut_cycles(dataset, 3, 0.7)
    assert known.events.height == 420
    assert [part.height for part in parts] == [60, 60, 60]
    ends = [known.events["timestamp"].max(), *(part["timestamp"].max() for part in parts)]
    starts = [part["timestamp"].min() for part in parts]
    assert all(end < start for end, start in zip(ends, starts, strict=False))
    with pytest.raises(DataError, match="ask for fewer cycles"):
        cut_cycles(Dataset("log", make_log(n_events=5)), 6, 0.7)


def test_each_event_is_ranked_from_the_events_before_it_those_of_the_cycle_included():
    events = pl.DataFrame(
        [("a", "x", 1), ("b", "y", 2), ("a", "y", 5), ("a", "x", 6), ("c", "x", 6), ("a", "z", 7)],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    ).with_columns(kind=pl.lit("event"), value=pl.lit(None, pl.Float32))
    dataset = Dataset("few", events)
    early, late = (dataset.events.filter(pl.col("timestamp") < 5),
                   dataset.events.filter(pl.col("timestamp") >= 5))  # fmt: skip
    split = Split(dataset, early, early.clear(), late, "temporal", EventsConfig())
    asked = NextEvents.of(split, early, late, split.weighting)
    assert asked.user_ids.tolist() == ["a", "a", "c"]  # a's second x is excluded from its lists
    assert asked.target_ids.tolist() == ["y", "z", "x"]
    assert asked.n_known.tolist() == [1, 3, 0]
    seen = []

    class Second:
        def rank(self, histories, user_ids, top_n, *, exclude_seen=True):
            seen.extend(split.catalogue[rows].tolist() for rows in histories)
            wrong = np.full((len(histories), top_n), -1)
            wrong[:, 1] = split.item_rows(pl.Series(["y"] * len(histories)))
            return wrong

    assert asked.ndcg(Second()).tolist() == [pytest.approx(1 / np.log2(3)), 0.0, 0.0]
    assert seen == [["x"], ["x", "y", "x"], []]


def test_a_ranker_of_a_smaller_catalogue_is_asked_in_its_own_rows(shop):
    split = Split(shop, shop.events, shop.events.clear(), shop.events, "temporal")
    small = split.catalogue[::-1][:7]

    class Rows:
        def rank(self, histories, user_ids, top_n, *, exclude_seen=True):
            assert [rows.tolist() for rows in histories] == [[0, 6]]
            return np.array([[6, 1, -1]])

    rows = split.item_rows(pl.Series([small[0], split.catalogue[0], small[6]]))
    found = OwnCatalogue(Rows(), small, split).rank([rows], np.array(["u0"]), 3)
    assert split.catalogue[found[0, :2]].tolist() == [small[6], small[1]]
    assert found[0, 2] == -1


@pytest.mark.parametrize("is_causal", [False, True])
def test_an_epoch_of_an_update_has_every_new_event_and_replays_old_rows_anew(is_causal):
    lengths = np.array([20, 3, 0, 30, 8, 40])
    codes = np.arange(1, lengths.sum() + 1)
    is_new = np.zeros(len(codes), np.bool_)
    is_new[[19, 22, 52]] = True  # the last events of users 0, 1 and 3
    sequences = Sequences(codes, lengths, history_length=4, n_targets=4, is_causal=is_causal,
                      is_new=is_new, replay=2.0)  # fmt: skip
    assert sequences.n_rows == 9
    epochs = []
    for epoch in range(2):
        batches = list(sequences.batches(16, seed=1, epoch=epoch))
        weighted = [batch.target[batch.weight != 0].tolist() for batch in batches]
        targets = [code for part in weighted for code in part]
        assert len(targets) == len(set(targets))
        assert {20, 23, 53} <= set(targets)
        assert sum(batch.n_events for batch in batches) == len(targets)
        epochs.append(sorted(targets))
    assert epochs[0] != epochs[1]


def test_replay_prints_a_table_and_writes_json_and_a_picture(tmp_path, capsys):
    make_log().write_csv(tmp_path / "events.csv")
    small = ["model.dim=8", "model.hidden=16", "model.history_length=6", "train.epochs=6",
             "train.batch_size=64", "train.learning_rate=0.03", "train.n_targets=4",
             "train.warmup_steps=2", "update.epochs=2"]  # fmt: skip
    argv = ["replay", "--data", str(tmp_path / "events.csv"), "--cycles", "2", "--quiet",
            "--work", str(tmp_path / "work"), "--plot", str(tmp_path / "replay.png")]  # fmt: skip
    argv += [part for setting in small for part in ("--set", setting)]
    assert main(argv) == 0
    table, said = capsys.readouterr()
    assert said.count("shortlist replay: events.csv: 600 rows") == 1
    assert ".py:" not in said
    result = json.loads((tmp_path / "work" / "replay.json").read_text())
    first, second = result["cycles"]
    assert len(set(first["ndcg"].values())) == 1  # one model still
    assert second["n_train"] == first["n_train"] + first["n_events"] == 420 + 90
    assert second["ndcg"]["updated"] > 0.3
    for row in result["cycles"]:
        for name, value in row["ndcg"].items():
            low, high = row["intervals"][name]
            assert low <= value <= high
        assert row["n_ranked"] + row["n_cold"] <= row["n_events"]
    assert result["mean"]["ndcg"] == second["ndcg"]
    assert f"{second['ndcg']['updated']:.4f}" in table
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")
    assert main(argv) == 1
    assert "exists, expected a new folder" in capsys.readouterr().err
