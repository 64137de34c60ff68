"""Other people's tools read every graph of a bundle, and ONNX Runtime has nothing to warn of."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from worlds import rewritten

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.export.host_graphs import graph_inputs

TOOLS = Path(__file__).parents[1] / "graph_tools.py"
SPEC = importlib.util.spec_from_file_location("graph_tools", TOOLS)
tools = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = tools
SPEC.loader.exec_module(tools)

NAMES = ["item_encoder", "recommend", "recommend_portable", "scorer", "user_encoder"]


@pytest.fixture(scope="module", params=["int64", "string"])
def bundle(request, make_host_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    world = make_host_bundle(folder / "tiny.shortlist", request.param)
    (folder / "copy").mkdir()
    world.copy = tools.copy_of(world.path, folder / "copy")
    return world


def feeds(world):
    requests = {
        "history": [world.item_ids[:5].tolist(), [], world.item_ids[3:20].tolist()],
        "city": ["Köln", "?", None],
        "level": [2, 17, None],
        "tags": [["a"], [], ["b", "?"]],
        "age": [33.0, None, 40.0],
    }
    with shortlist.load(world.path) as engine:
        schema = request_schema(engine.bundle)
        return graph_inputs(normalise(requests, schema), schema) | {"top_n": np.array([7])}


@pytest.mark.parametrize("name", NAMES)
def test_each_domain_of_operators_is_there_once_and_the_checker_is_content(name, bundle):
    tools.check_domains(bundle.copy / f"{name}.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_warns_of_nothing_but_default_values(name, bundle):
    tools.check_warnings(bundle.copy / f"{name}.onnx")


def check_engine_takes(bundle, graph):
    """The engine checks every graph of a bundle before it opens one; this one is one more."""
    with shortlist.load(rewritten(bundle.path, {"tool.onnx": graph}), device="cpu") as engine:
        assert engine.recommend([{}], top_n=3).counts.tolist() == [3]


@pytest.mark.parametrize("name", NAMES)
def test_the_quantiser_reads_every_graph_and_the_engine_takes_what_it_writes(name, bundle):
    check_engine_takes(bundle, tools.check_quantizer(bundle.copy / f"{name}.onnx"))


def test_onnxslim_and_the_reference_evaluator_compute_the_same(bundle):
    path = bundle.copy / "recommend_portable.onnx"
    for stages in (1, 2):
        given = feeds(bundle) | {"stages": np.array([stages]), "exclude_seen": np.array([True])}
        tools.check_reference(path, given)
        check_engine_takes(bundle, tools.check_slimmer(path, given))


@pytest.mark.parametrize("name", ["recommend", "recommend_portable"])
def test_without_defaults_there_is_no_warning_at_all(name, bundle):
    tools.check_without_defaults(bundle.copy / f"{name}.onnx", feeds(bundle))
