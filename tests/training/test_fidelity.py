"""Fidelity of reasons: the metrics on a bundle whose answers are known, and that ours are best."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from worlds import N_ITEMS, make_world

from shortlist import DataError
from shortlist.cli import main
from shortlist.loading import load
from shortlist.training.evaluation.fidelity import DEPTH, fidelity_text, measure_fidelity


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("fidelity") / "tiny.shortlist"
    world = make_world(path, scorer=None, with_users=False, user_features=False, max_history=12)
    with load(path) as engine:
        yield world, engine


def histories_of(world, n):
    rng = np.random.default_rng(1)
    return [rng.choice(world.item_ids, 10, replace=False).tolist() for _ in range(n)]


def test_metrics_are_what_they_say(made):
    world, engine = made
    histories = histories_of(world, 20)
    found = measure_fidelity(engine, [[5, *one] for one in histories])  # 5 is no item
    newest = found.metrics["newest"]
    first = engine.recommend({"history": histories}, 1).item_ids[:, 0]
    places, kept, alone = [], [], []
    for history, item in zip(histories, first.tolist(), strict=True):
        scores = engine.score(
            {"history": [history, history[:-2], history[-2:]]}, [world.item_ids.tolist()] * 3
        )
        row = world.item_ids.tolist().index(item)
        allowed = ~np.isin(world.item_ids, history)
        places.append(1 + int((scores[1][allowed] > scores[1][row]).sum()))
        kept.append(scores[1][row] / scores[0][row])
        alone.append(scores[2][row] / scores[0][row])
    places = np.array(places)
    assert found.n_users == 20
    assert newest["POS@5,2"] == pytest.approx((places <= 5).mean())
    assert newest["POS@10,2"] == pytest.approx((places <= 10).mean())
    assert newest["DEL,2"] == pytest.approx(np.mean(kept), abs=1e-5)
    assert newest["INS,2"] == pytest.approx(np.mean(alone), abs=1e-5)
    assert newest["CDCG,2"] == pytest.approx((1 / np.log2(1 + places)).mean())
    assert places.max() <= min(N_ITEMS, DEPTH)


def test_a_part_of_a_score_below_0_is_not_told(tmp_path):
    options = {"scorer": None, "with_users": False, "user_features": False, "max_history": 12}
    world = make_world(tmp_path / "tiny.shortlist", metric="euclidean", **options)
    with load(world.path) as engine:
        found = measure_fidelity(engine, histories_of(world, 5))
    assert not any(name.startswith(("DEL", "INS")) for name in found.metrics["reasons"])
    assert "POS@5,1" in found.metrics["reasons"]
    assert "DEL,4" in fidelity_text(found)  # with dashes


def test_reasons_leave_less_than_any_other_explanation(made):
    world, engine = made
    metrics = measure_fidelity(engine, histories_of(world, 60)).metrics
    assert set(metrics) == {"reasons", "most similar", "newest", "random"}
    for name in ("POS@5,1", "POS@5,2", "CDCG,1"):
        assert metrics["reasons"][name] < min(
            row[name] for other, row in metrics.items() if other != "reasons"
        )


def test_the_text_has_every_explanation_and_says_what_is_better(made):
    world, engine = made
    found = measure_fidelity(engine, histories_of(world, 5))
    text = fidelity_text(found)
    assert all(name in text for name in found.metrics)
    assert "POS@5,4" in text
    assert "lower is better" in text
    assert json.loads(json.dumps(found.to_dict()))["n_users"] == 5


def test_histories_of_which_nothing_is_known_are_refused(made):
    with pytest.raises(DataError, match="explain: got no history with more than 4 items that"):
        measure_fidelity(made[1], [[1, 2, 3, 4, 5, 6]])


def test_the_command_measures_users_of_the_data(made, tmp_path, capsys):
    world, _ = made
    rows = [
        f"{user},{item},{1_000 + step}"
        for user, history in enumerate(histories_of(world, 12))
        for step, item in enumerate(history)
    ]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]), encoding="utf-8")
    argv = ["evaluate", str(world.path), "--data", str(path), "--explain", "10"]
    assert main([*argv, "--protocol", "leave-one-out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_users"] == 10
    assert set(told["metrics"]) == {"reasons", "most similar", "newest", "random"}
    items = tmp_path / "items.csv"
    rows = [f"{item},a|b" for item in world.item_ids.tolist()]
    items.write_text("\n".join(["item_id,genres", *rows]), encoding="utf-8")
    read = ["--items", str(items), "--list", "genres=|"]
    assert main([*argv, *read, "--protocol", "leave-one-out"]) == 0
    assert "POS@5,4" in capsys.readouterr().out
