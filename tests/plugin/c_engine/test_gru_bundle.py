"""A recurrent encoder through every way to run a bundle, and on through an update."""

import json
import shutil
import time

import numpy as np
import onnxruntime
import polars as pl
import pytest
from c_engine import CEngine, lists

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.cli import main
from shortlist.export.host_graphs import graph_inputs
from shortlist.export.recommend import OUTPUTS
from shortlist.plugin import plugin_path
from shortlist.recommendations import SOURCES

N_ITEMS, N_USERS = 40, 60
SETTINGS = {
    "model.encoder": "gru",
    "model.n_blocks": 2,
    "model.hidden": 12,
    "model.dim": 8,
    "model.history_length": 10,
    "train.epochs": 10,
    "train.batch_size": 64,
    "train.learning_rate": 0.03,
}


def walks(first, n_steps, start):
    """Each user steps from item to item: item n + 3 follows item n."""
    users = np.repeat(np.arange(N_USERS), n_steps)
    steps = np.tile(np.arange(n_steps), N_USERS)
    return {
        "user_id": users.tolist(),
        "item_id": ((first + users + 3 * steps) % N_ITEMS).tolist(),
        "timestamp": (start + steps).tolist(),
        "kind": ["event"] * len(users),
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gru")
    pl.DataFrame(walks(0, 12, 1000)).write_csv(folder / "events.csv")
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    out = folder / "walk.shortlist"
    data = ["--data", str(folder / "events.csv")]
    assert main(["train", *data, *settings, "--quiet", "--out", str(out)]) == 0
    return out


def histories(n=120):
    rng = np.random.default_rng(1)
    lengths = [0, 1, 10, 25, *rng.integers(0, 14, n - 4)]
    lists = [rng.integers(0, N_ITEMS, length).tolist() for length in lengths]
    return [
        [*history, 999] if i % 3 else history for i, history in enumerate(lists)
    ]  # 999: unknown


@pytest.mark.parametrize("n", [1, 120])
def test_engine_c_engine_and_both_graphs_answer_alike(bundle, n):
    given = histories()[-n:]
    graphs = {}
    with shortlist.load(bundle) as engine, CEngine(bundle) as c_engine:
        expected = engine.recommend({"history": given}, top_n=7)
        schema = request_schema(engine.bundle)
        feeds = graph_inputs(normalise({"history": given}, schema), schema)
        c_answer = c_engine.recommend([lists("history", given, np.int64)], n, 7)
    for name in ("recommend.onnx", "recommend_portable.onnx"):
        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(plugin_path())
        session = onnxruntime.InferenceSession(bundle / name, options)
        values = session.run(list(OUTPUTS), {**feeds, "top_n": np.array([7])})
        graphs[name] = dict(zip(OUTPUTS, values, strict=True))
    assert c_answer.scores.tobytes() == expected.scores.tobytes()
    assert np.array_equal(c_answer.item_ids, expected.item_ids)
    exact = graphs["recommend.onnx"]
    assert exact["scores"].tobytes() == expected.scores.tobytes()
    assert np.array_equal(exact["item_ids"], expected.item_ids)
    portable = graphs["recommend_portable.onnx"]
    np.testing.assert_allclose(portable["scores"], expected.scores, atol=1e-5)
    for found in graphs.values():
        assert [SOURCES[code] for code in found["source"]] == expected.source.tolist()


def test_it_has_learned_what_follows_what(bundle):
    with shortlist.load(bundle) as engine:
        firsts = np.arange(N_ITEMS)
        given = (firsts[:, None] + 3 * np.arange(5)) % N_ITEMS
        answer = engine.recommend({"history": given.tolist()}, top_n=3)
    wanted = (firsts + 15) % N_ITEMS
    assert (answer.item_ids == wanted[:, None]).any(axis=1).mean() > 0.8


def test_an_update_goes_on_from_its_weights(bundle, tmp_path, capsys):
    folder = shutil.copytree(bundle.parent, tmp_path / "world")
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        log.append_many(walks(36, 8, int(time.time()) - 1000))
    argv = ["update", str(folder / bundle.name), "--feedback", str(tmp_path / "feedback.log")]
    calm = ["--set=update.max_psi=5", "--set=update.max_score_psi=50"]
    capsys.readouterr()
    assert main([*argv, *calm, "--quiet", "--json"]) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    assert report["is_champion"], report["gate"]["reasons"]
    with shortlist.load(folder / bundle.name) as engine:
        found = engine.recommend({"history": [[36, 39, 2]]}, top_n=5)
    assert 5 in found.item_ids[0]
