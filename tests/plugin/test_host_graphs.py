"""recommend.onnx answers like the engine bit for bit, recommend_portable.onnx up to rounding."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.export.host_graphs import Check, check_host_graphs, graph_inputs
from shortlist.export.recommend import OUTPUTS
from shortlist.export.tensors import SharedTensors
from shortlist.plugin import plugin_path
from shortlist.recommendations import SOURCES
from shortlist.training.graphs.nodes import Nodes

GRAPHS = ["recommend.onnx", "recommend_portable.onnx"]


def open_graph(path, name, n_threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = n_threads, 4
    if name == "recommend.onnx":
        options.register_custom_ops_library(plugin_path())
    return onnxruntime.InferenceSession(path / name, options)


def answer(session, feeds):
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), feeds), strict=True))


def random_requests(world, rng, n=40):
    """Histories of every length with unknown items, features of every kind, and nothing at all."""
    is_text = world.item_ids.dtype.kind in "OU"
    histories = []
    for i in range(n):
        history = rng.choice(world.item_ids, rng.integers(0, 14)).tolist()
        unknown = "?" if is_text else 5
        histories.append([unknown, *history[:2], unknown, *history[2:]] if i % 3 else history)
    return {
        "history": [[] if i % 5 == 0 else history for i, history in enumerate(histories)],
        "city": [["Köln", "Paris", None][i % 3] for i in range(n)],
        "level": [[None, 2, 17, None][i % 4] for i in range(n)],
        "tags": [[["a", "b"], None, ["?"], [], ["?", "b"]][i // 5 % 5] for i in range(n)],
        "age": [None if i % 10 else 33.0 for i in range(n)],
    }


@pytest.fixture(scope="module", params=[("int64", True), ("string", True), ("string", False)])
def some_bundle(request, make_host_bundle, tmp_path_factory):
    """One or two stages, ids of both kinds."""
    path = tmp_path_factory.mktemp("hosts") / "tiny.shortlist"
    return make_host_bundle(path, request.param[0], with_scorer=request.param[1])


@pytest.mark.parametrize("name", GRAPHS)
def test_answers_are_the_engines(name, some_bundle, rng):
    session = open_graph(some_bundle.path, name)
    requests = random_requests(some_bundle, rng)
    with shortlist.load(some_bundle.path) as engine:
        schema = request_schema(engine.bundle)
        feeds = graph_inputs(normalise(requests, schema), schema)
        for top_n in (1, 7, 12, 30, 55):
            for exclude_seen in (True, False):
                expected = engine.recommend(requests, top_n, exclude_seen)
                options = {"top_n": np.array([top_n]), "exclude_seen": np.array([exclude_seen])}
                found = answer(session, feeds | options)
                assert [SOURCES[code] for code in found["source"]] == expected.source.tolist()
                assert set(expected.source) == {"history", "features", "popular"}
                assert found["item_ids"].tolist() == expected.item_ids.tolist()
                assert np.array_equal(found["rows"], expected.indices)
                assert np.array_equal(found["counts"], expected.counts)
                if name == "recommend.onnx":
                    assert found["scores"].tobytes() == expected.scores.tobytes()
                np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_stages_1_is_the_answer_of_the_first_stage(name, some_bundle, rng):
    session = open_graph(some_bundle.path, name)
    with shortlist.load(some_bundle.path) as engine:
        if engine.default_stages == 1:
            known = {v.name for v in session.get_overridable_initializers()}
            assert "stages" not in known
            return
        schema = request_schema(engine.bundle)
        requests = random_requests(some_bundle, rng)
        feeds = graph_inputs(normalise(requests, schema), schema)
        for top_n in (1, 12, 55):
            told = {}
            for stages in (1, 2):
                expected = engine.recommend(requests, top_n, stages=stages)
                options = {"top_n": np.array([top_n]), "stages": np.array([stages])}
                told[stages] = found = answer(session, feeds | options)
                assert np.array_equal(found["rows"], expected.indices)
                assert np.array_equal(found["counts"], expected.counts)
                np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-5, atol=1e-5)
            assert not np.array_equal(told[1]["rows"], told[2]["rows"])


@pytest.mark.parametrize("name", GRAPHS)
def test_seen_items_are_excluded_unless_asked_for(name, host_bundle):
    session = open_graph(host_bundle.path, name)
    history = host_bundle.item_ids[None, 3:9]
    feeds = {
        "history": history,
        "city": np.array([""], object),
        "level": np.array([np.iinfo(np.int64).min]),
        "tags": np.array([[""]], object),
        "age": np.array([np.nan], np.float32),
        "top_n": np.array([40]),
    }
    found = answer(session, feeds)
    assert found["counts"].tolist() == [34]
    assert not set(found["item_ids"][0]) & set(history[0])
    assert found["rows"][0, 34:].tolist() == [-1] * 6
    assert np.isneginf(found["scores"][0, 34:]).all()
    again = answer(session, feeds | {"exclude_seen": np.array([False])})
    assert again["counts"].tolist() == [40]


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8", "disk4", "int4"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_storage_answers_like_its_engine(name, storage, make_host_bundle, tmp_path, rng):
    world = make_host_bundle(tmp_path / "t.shortlist", with_scorer=False, storage=storage)
    session = open_graph(world.path, name)
    requests = random_requests(world, rng)
    with shortlist.load(world.path) as engine:
        schema = request_schema(engine.bundle)
        feeds = graph_inputs(normalise(requests, schema), schema) | {"top_n": np.array([9])}
        expected = engine.recommend(requests, 9)
        check = Check(name, 0.0 if name == "recommend.onnx" else 1e-6)
        check.compare(answer(session, feeds), expected, np.zeros(40, np.bool_))
    assert check.n_users == 40


def test_histories_alone_are_enough_where_no_user_features_are_declared(make_host_bundle, tmp_path):
    world = make_host_bundle(tmp_path / "t.shortlist", user_features=False)
    session = open_graph(world.path, "recommend_portable.onnx")
    feeds = {"history": world.item_ids[None, :3], "top_n": np.array([5])}
    with shortlist.load(world.path) as engine:
        expected = engine.recommend({"history": feeds["history"].tolist()}, 5)
    assert answer(session, feeds)["item_ids"].tolist() == expected.item_ids.tolist()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_session_answers_alike_from_many_threads(name, host_bundle, rng):
    from concurrent.futures import ThreadPoolExecutor

    session = open_graph(host_bundle.path, name, n_threads=2)
    with shortlist.load(host_bundle.path) as engine:
        schema = request_schema(engine.bundle)
        requests = random_requests(host_bundle, rng, 130)
        feeds = graph_inputs(normalise(requests, schema), schema) | {"top_n": np.array([5])}
    expected = answer(session, feeds)["item_ids"].tolist()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: answer(session, feeds)["item_ids"].tolist(), range(40))
        assert all(item_ids == expected for item_ids in found)


def test_large_tensors_lie_in_the_bundle_once(host_bundle):
    places = {}
    for name in ("user_encoder.onnx", *GRAPHS):
        proto = onnx.load(host_bundle.path / name, load_external_data=False)
        for tensor in proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                where = {entry.key: entry.value for entry in tensor.external_data}
                places.setdefault(name, set()).add((where["location"], where["offset"]))
    assert ("items.index", "0") in places["recommend.onnx"]
    assert any(file == "items.index" and at != "0" for file, at in places[GRAPHS[1]])
    rest = {name: {p for p in found if p[0] == "graphs.data"} for name, found in places.items()}
    assert rest["user_encoder.onnx"] <= rest["recommend.onnx"] & rest["recommend_portable.onnx"]


def test_large_constants_of_two_graphs_are_one_tensor_of_one_file(tmp_path):
    shared, values = SharedTensors(tmp_path), np.arange(1000, dtype=np.float32)
    for name in ("a.onnx", "b.onnx"):
        nodes = Nodes("n")
        nodes.add("Add", nodes.constant(values, np.float32), "x")
        nodes.rename_last("y")
        info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1000]) for n in "xy"]
        graph = helper.make_graph(nodes.nodes, "g", info[:1], info[1:])
        opsets = [helper.make_opsetid("", 18)]
        shared.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), name)
    assert (tmp_path / "graphs.data").stat().st_size == 4000
    for name in ("a.onnx", "b.onnx"):
        assert (tmp_path / name).stat().st_size < 400
        session = onnxruntime.InferenceSession(tmp_path / name)
        assert session.run(None, {"x": values})[0].tolist() == (2 * values).tolist()


def test_the_check_tells_ties_from_mistakes():
    class Expected:
        item_ids = np.array([[10, 11, 12]])
        indices = np.array([[0, 1, 2]])
        scores = np.array([[0.9, 0.5, 0.5 - 1e-7]], np.float32)
        counts = np.array([3])
        source = np.array(["history"])

    def found(rows, scores=Expected.scores, counts=3, source=3):
        rows = np.array([rows])
        return {
            "rows": rows,
            "item_ids": rows + 10,
            "scores": np.asarray(scores),
            "counts": np.array([counts]),
            "source": np.array([source]),
        }

    none = np.array([False])
    for tolerance in (0.0, 1e-5):
        check = Check("g.onnx", tolerance)
        check.compare(found([0, 1, 2]), Expected, none)
        assert (check.n_users, check.n_identical, check.n_tied) == (1, 1, 0)
        for wrong in (
            found([1, 0, 2]),
            found([0, 1, 2], counts=2),
            found([0, 1, 2], source=1),
            found([0, 1, 2], Expected.scores + np.float32(1e-3)),
        ):
            with pytest.raises(shortlist.ShortlistError, match="otherwise than the engine"):
                check.compare(wrong, Expected, none)
    check.compare(found([0, 2, 1]), Expected, none)
    assert check.n_tied == 1
    with pytest.raises(shortlist.ShortlistError, match="otherwise than the engine"):
        Check("g.onnx", 0.0).compare(found([0, 2, 1]), Expected, none)


def test_the_gate_compares_both_graphs(host_bundle):
    with shortlist.load(host_bundle.path) as engine:
        batches = [{"history": [host_bundle.item_ids[:4].tolist(), []]}, {"history": [[]]}]
        report = check_host_graphs(engine, batches, top_n=5)
    assert set(report) == set(GRAPHS)
    assert all(told["n_identical"] == told["n_users"] == 3 for told in report.values())
