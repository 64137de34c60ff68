"""Graphs of real exports, of every encoder and both rerankers: lean, clean and read by others."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.export import export_bundle
from shortlist.export.host_graphs import graph_inputs

TOOLS = Path(__file__).parents[1] / "graph_tools.py"
SPEC = importlib.util.spec_from_file_location("graph_tools", TOOLS)
tools = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = tools
SPEC.loader.exec_module(tools)

EVENTS = {"data.features": {"history": "history", "level": "categorical"}}
slow = pytest.mark.slow
# Encoder, reranker, settings, and how many nodes the user encoder may have as it is written: each
# costs a request about half a microsecond.
WORLDS = [
    pytest.param(("pool", "dnn", {}, 62), id="pool-dnn"),
    pytest.param(("pool", "followers", EVENTS, 75), id="pool-followers", marks=slow),
    pytest.param(("pool", None, {"model.n_members": 2}, 103), id="members", marks=slow),
    pytest.param(("transformer", None, EVENTS, 185), id="transformer", marks=slow),
    pytest.param(("hstu", "dnn", EVENTS, 205), id="hstu", marks=slow),
    pytest.param(("gru", None, EVENTS, 90), id="gru", marks=slow),
    pytest.param(("ials", None, {}, 60), id="ials", marks=slow),
    pytest.param(("cooccurrence", "dnn", {}, 30), id="cooccurrence", marks=slow),
    pytest.param(("popularity", None, {}, 12), id="popularity", marks=slow),
]


@pytest.fixture(scope="module", params=WORLDS)
def exported(request, make_any_run, tmp_path_factory):
    """A bundle of an untrained run, and a copy of its graphs for tools that write beside them."""
    encoder, reranker, settings, most_nodes = request.param
    run = make_any_run(encoder, reranker, {"scorer.n_candidates": 40, **settings})
    folder = tmp_path_factory.mktemp("exported")
    report = export_bundle(run, folder / "toy.shortlist")
    (folder / "copy").mkdir()
    return report, tools.copy_of(report.path, folder / "copy"), run, most_nodes


def graphs(folder):
    return tools.graphs_of(folder)


def feeds_of(path, run):
    histories = [run.split.catalogue[[4, 7, 4, 30]].tolist(), [], run.split.catalogue[:12].tolist()]
    requests = {"history": histories}
    if run.features.side("user"):
        requests |= {"city": ["Köln", "?", None], "likes": [["a"], [], None]}
        requests |= {"level": [1, None, 3], "age": [30.0, None, 25.0]}
    with shortlist.load(path) as engine:
        schema = request_schema(engine.bundle)
        return graph_inputs(normalise(requests, schema), schema) | {"top_n": np.array([7])}


def test_the_gate_has_passed_and_tools_read_every_graph(exported):
    report, folder, run, most_nodes = exported
    assert all(told["n_users"] > 100 for told in report.parity.graphs.values())
    for path in graphs(folder):
        tools.check_domains(path)
        tools.check_warnings(path)
        tools.check_quantizer(path)
    given = feeds_of(report.path, run)
    if run.config.model.encoder != "gru":
        tools.check_reference(folder / "recommend_portable.onnx", given)
    tools.check_slimmer(folder / "recommend_portable.onnx", given)
    nodes = onnx.load(folder / "user_encoder.onnx", load_external_data=False).graph.node
    assert len(nodes) <= most_nodes
