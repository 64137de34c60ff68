"""The portable graph as retrieval, and fixed batches: what a GPU would run, run on the CPU.

Which providers a device means, and what is said where they do not run, is tested without ONNX
Runtime in tests/cpp/test_devices.cpp, how the faster way is chosen in test_faster_way.cpp there.
"""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
from onnx import TensorProto, helper, numpy_helper
from worlds import write_graphs_for_hosts

import shortlist
from shortlist import BundleError, FeedbackLog, ShortlistError
from shortlist._runtime import find_runtime
from shortlist._serving.loaded_bundle import Settings, open_bundle
from shortlist.bundle import BundleWriter
from shortlist.engine import Engine

CPU = "CPUExecutionProvider"
NAMES = ("item_ids", "counts", "source", "stages", "indices", "titles", "version")


@pytest.fixture(scope="module")
def bundle(make_host_bundle, tmp_path_factory):
    """Integer ids, user features, stored users, a scorer."""
    return make_host_bundle(tmp_path_factory.mktemp("devices") / "tiny.shortlist")


@pytest.fixture(scope="module")
def text_bundle(make_host_bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "text.shortlist"
    return make_host_bundle(path, "string", with_scorer=False)


@pytest.fixture(scope="module")
def plain_bundle(make_host_bundle, tmp_path_factory):
    """Integer ids and histories alone: no texts go into the encoder."""
    path = tmp_path_factory.mktemp("devices") / "plain.shortlist"
    return make_host_bundle(path, user_features=False)


def requests_of(world, n=30):
    rng = np.random.default_rng(3)
    cities, tags = ["Köln", None, "Paris"], [["a"], None, ["a", "b"]]
    requests = {"history": [rng.choice(world.item_ids, i % 9).tolist() for i in range(n)]}
    if world.features:
        requests["city"] = [cities[i // 2 % 3] for i in range(n)]
        requests["tags"] = [tags[i % 3] if i % 4 else None for i in range(n)]
    return requests


def check_close(found, expected):
    for name in NAMES:
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)


class GraphRuns:
    """Counts the runs of an engine's portable graph from now on."""

    def __init__(self, engine):
        self._core = engine._switch.loaded.core
        self._before = self._core.n_graph_runs

    def __call__(self):
        return self._core.n_graph_runs - self._before


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_not_there_is_an_error(device, bundle):
    """On a machine with `shortlist[cpu]`; tests/plugin/test_cuda.py has the others."""
    import onnxruntime

    if len(set(onnxruntime.get_available_providers()) & {"CUDAExecutionProvider"}):
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ShortlistError, match=rf"device: got '{device}', but this onnxruntime offe"):
        shortlist.load(bundle.path, device=device)
    with pytest.raises(ValueError, match="device: got 'gpu', expected one of auto, cpu, cuda, ten"):
        shortlist.load(bundle.path, device="gpu")


def test_the_report_counts_the_nodes_of_each_graph(bundle):
    with shortlist.load(bundle.path, device="cpu", search="graph") as engine:
        engine.encode_items([{"item_id": 5}])
        report = engine.report()
    graphs = {"recommend", "recommend_portable", "item_encoder"}
    assert report["providers"] == dict.fromkeys(graphs, CPU)
    assert set(report["nodes"]) == graphs
    assert all(counts[CPU] > 0 for counts in report["nodes"].values())
    with shortlist.load(bundle.path, device="cpu") as engine:
        report = engine.report()
    assert set(report["nodes"]) == {"recommend"}
    assert report["graph_search"] is None
    assert report["fixed_batches"] is None


@pytest.mark.parametrize("which", ["bundle", "text_bundle", "plain_bundle"])
def test_the_portable_graph_answers_like_the_index(which, request):
    world = request.getfixturevalue(which)
    requests = requests_of(world)
    with (
        shortlist.load(world.path) as engine,
        shortlist.load(world.path, search="graph") as on_graph,
    ):
        n_runs = GraphRuns(on_graph)
        for top_n in (1, 7, 55):
            for seen in (True, False):
                found = on_graph.recommend(requests, top_n, seen)
                check_close(found, engine.recommend(requests, top_n, seen))
        assert n_runs() == 6
        users = {"user_id": list(world.users)}
        check_close(on_graph.recommend(users), engine.recommend(users))
        assert n_runs() == 7  # stored histories are histories
        assert on_graph.report()["graph_search"] == {"from_batch": {1: "graph"}, "times_us": {}}
        assert on_graph.report()["providers"]["recommend_portable"] == CPU


def test_what_the_graph_cannot_answer_goes_to_the_index(bundle, tmp_path):
    user = next(iter(bundle.users))
    both = {"user_id": [user], "history": [bundle.item_ids[20:22].tolist()]}
    requests = requests_of(bundle)
    with (
        shortlist.load(bundle.path) as engine,
        shortlist.load(bundle.path, search="graph") as on_graph,
        FeedbackLog(tmp_path / "feedback.log") as log,
    ):
        log.append(user_id=77, item_id=bundle.item_ids[3].item(), kind="skip", timestamp=10)
        n_runs = GraphRuns(on_graph)
        for given, options in (
            (requests, {"where": pc.field("year") >= 2000}),
            (requests, {"where": [pc.field("year") >= 2000] * 30}),
            (requests, {"stages": 1}),
            (both, {}),  # must not get the stored items either
            ({"user_id": [77]}, {"feedback": log, "now": 20}),  # nor what is like a skipped one
            ({"history": []}, {}),
        ):
            check_close(on_graph.recommend(given, **options), engine.recommend(given, **options))
        ids = np.tile(bundle.item_ids[:3], (30, 1))
        np.testing.assert_array_equal(on_graph.score(requests, ids), engine.score(requests, ids))
        np.testing.assert_array_equal(
            on_graph.encode_users(requests), engine.encode_users(requests)
        )
        for each in (engine, on_graph):
            each.upsert_items([{"item_id": 5, "genres": ["war"]}])
        check_close(on_graph.recommend(requests, 60), engine.recommend(requests, 60))
        assert n_runs() == 0


def test_a_stored_history_that_is_longer_than_the_encoder_looks_at_goes_to_the_index(
    make_host_bundle, tmp_path
):
    second = {"is_kept": True, "n_candidates": 12, "history_length": 2}
    path = tmp_path / "short.shortlist"
    world = make_host_bundle(path, max_history=2, second_stage=second)
    users = {"user_id": list(world.users)}  # up to four items
    with (
        shortlist.load(world.path) as engine,
        shortlist.load(world.path, search="graph") as on_graph,
    ):
        n_runs = GraphRuns(on_graph)
        for top_n in (5, 40):
            check_close(on_graph.recommend(users, top_n), engine.recommend(users, top_n))
        assert n_runs() == 0


def copied(world, path, change):
    """A bundle of the same files, but for what `change` does in its folder."""
    manifest = json.loads((world.path / "manifest.json").read_text(encoding="utf-8"))
    fields = {name: value for name, value in manifest.items() if name != "files"}
    with BundleWriter(path) as writer:
        for file in world.path.iterdir():
            if file.name != "manifest.json":
                shutil.copy(file, writer.directory)
        change(writer.directory, fields)
        writer.write_manifest(fields)
        return writer.commit()


def test_without_a_portable_graph_asking_for_it_is_an_error(bundle, tmp_path):
    path = copied(
        bundle,
        tmp_path / "without.shortlist",
        lambda folder, _: (folder / "recommend_portable.onnx").unlink(),
    )
    message = (
        r"without\.shortlist/recommend_portable\.onnx: expected the graph that search='graph' "
        "runs, found no such file; export with it"
    )
    with pytest.raises(BundleError, match=message):
        shortlist.load(path, search="graph")
    shortlist.load(path).close()


def test_a_portable_graph_that_takes_other_columns_is_an_error(bundle, tmp_path):
    def rename_city(folder, _):
        path = folder / "recommend_portable.onnx"
        model = onnx.load(path, load_external_data=False)
        next(value for value in model.graph.input if value.name == "city").name = "town"
        for node in model.graph.node:
            node.input[:] = ["town" if name == "city" else name for name in node.input]
        path.write_bytes(model.SerializeToString())

    path = copied(bundle, tmp_path / "other.shortlist", rename_city)
    message = (
        r"other\.shortlist/recommend_portable\.onnx: expected the inputs of "
        r"other\.shortlist/recommend\.onnx, found others; export the run again"
    )
    with pytest.raises(BundleError, match=message):
        shortlist.load(path, search="graph")


def test_both_ways_are_measured_and_the_faster_one_answers(bundle):
    """As on a GPU at load: which of them is faster is the machine's to say."""
    settings = Settings("cpu", 1, os.fspath(find_runtime()), search="measured")
    with (
        shortlist.load(bundle.path) as engine,
        Engine(open_bundle(bundle.path, 1, settings, verify=True), settings) as measured,
    ):
        report = measured.report()["graph_search"]
        assert set(report["times_us"]) == set(report["from_batch"]) == {1, 32, 256}
        assert all(us > 0 for told in report["times_us"].values() for us in told.values())
        for size, way in report["from_batch"].items():
            times = report["times_us"][size]
            assert way == ("graph" if times["graph"] < times["index"] else "index")
        for n, size in ((1, 1), (31, 1), (32, 32), (100, 32), (256, 256), (300, 256)):
            n_runs = GraphRuns(measured)
            requests = requests_of(bundle, n)
            check_close(measured.recommend(requests), engine.recommend(requests))
            assert n_runs() == (1 if report["from_batch"][size] == "graph" else 0)


def test_the_index_answers_where_the_encoder_is_on_the_cpu(bundle):
    for search in ("auto", "index"):
        with shortlist.load(bundle.path, device="cpu", search=search) as engine:
            assert engine.report()["graph_search"] is None
            assert "recommend_portable" not in engine.report()["providers"]


@pytest.mark.parametrize("which", ["bundle", "text_bundle", "plain_bundle"])
def test_fixed_batches_answer_like_any_other(which, request):
    world = request.getfixturevalue(which)
    with (
        shortlist.load(world.path) as engine,
        shortlist.load(world.path, fixed_batches=[16, 4]) as fixed,
    ):
        for n in (1, 4, 5, 16, 17):  # filled up, exact, and larger than all
            requests = requests_of(world, n)
            for _ in range(2):
                check_close(fixed.recommend(requests), engine.recommend(requests))
                np.testing.assert_allclose(
                    fixed.encode_users(requests),
                    engine.encode_users(requests),
                    rtol=1e-5,
                    atol=1e-6,
                )
        assert len(fixed.recommend([])) == 0
        report = fixed.report()["fixed_batches"]
    assert report == {
        "batches": [4, 16],
        "io_binding": False,
        "cuda_graphs": "no: the graph is not on CUDA",
    }


def test_fixed_batches_keep_what_each_request_asks_for(bundle, tmp_path):
    """What is filled up has no filter, no stored user and no skips: they are the requests' own."""
    users = [*bundle.users, 77]
    everything = {"user_id": users, "history": [[], bundle.item_ids[:30].tolist(), [], []]}
    wheres = [pc.field("year") >= 2000, None, pc.field("year") < 1990, None]
    with (
        shortlist.load(bundle.path) as engine,
        shortlist.load(bundle.path, fixed_batches=(16,)) as fixed,
        FeedbackLog(tmp_path / "feedback.log") as log,
    ):
        log.append(user_id=77, item_id=bundle.item_ids[3].item(), kind="skip", timestamp=10)
        for options in (
            {"where": wheres},
            {"where": wheres, "stages": 1},
            {"where": wheres[0], "exclude_seen": False},
            {"feedback": log, "now": 20},
            {"top_n": 60},
            {"top_n": 1 << 20},  # such an answer is filled up with nothing already
        ):
            given = {"user_id": [5]} if options.get("top_n", 0) > 60 else everything
            check_close(fixed.recommend(given, **options), engine.recommend(given, **options))
        ids = np.tile(bundle.item_ids[:3], (4, 1))
        np.testing.assert_allclose(
            fixed.score(everything, ids), engine.score(everything, ids), rtol=1e-5
        )
        for each in (engine, fixed):
            each.upsert_items([{"item_id": 5, "genres": ["war"], "n_events": 99}])
            each.remove_items(bundle.item_ids[10:12])
        check_close(fixed.recommend(everything, 60), engine.recommend(everything, 60))
        long = {"history": [bundle.item_ids.tolist() * 8_000]}  # not sixteen times
        check_close(fixed.recommend(long), engine.recommend(long))


def say_shapes(folder, manifest):
    """Make the encoder of a folder say the shape of its packed history in place of an embedding."""
    path = folder / "user_encoder.onnx"
    model = onnx.load(path)
    graph, output = model.graph, model.graph.output[0].name
    history = "coded/history"
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = "unused/embedding"
    dim = manifest["dim"]
    constants = {
        "made/pads": np.array([0, dim - 2], np.int64),
        "made/row": np.array([1, dim], np.int64),
        "made/zero": np.zeros(1, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    graph.node.extend(
        [
            helper.make_node("Shape", [history], ["made/shape"]),
            helper.make_node("Cast", ["made/shape"], ["made/floats"], to=TensorProto.FLOAT),
            helper.make_node("Pad", ["made/floats", "made/pads"], ["made/padded"]),
            helper.make_node("Reshape", ["made/padded", "made/row"], ["made/one"]),
            helper.make_node("Mul", ["unused/embedding", "made/zero"], ["made/zeros"]),
            helper.make_node("Add", ["made/zeros", "made/one"], [output]),
        ]
    )
    onnx.save(model, path)
    write_graphs_for_hosts(folder, manifest)


def test_shapes_of_fixed_batches_do_not_change(plain_bundle, tmp_path):
    path = copied(plain_bundle, tmp_path / "shapes.shortlist", say_shapes)
    items = plain_bundle.item_ids.tolist()
    with (
        shortlist.load(path) as engine,
        shortlist.load(path, fixed_batches=(4, 16)) as fixed,
    ):
        for n, size in ((1, 4), (3, 4), (4, 4), (5, 16), (17, 17)):
            for length in (0, 1, 6, 9):
                requests = {"history": [[items[i]] * length for i in range(n)]}
                packed = min(max(1, length), 6)
                assert engine.encode_users(requests)[0, :2].tolist() == [n, packed]
                width = 6 if n <= 16 else packed
                assert fixed.encode_users(requests)[0, :2].tolist() == [size, width]


def test_fixed_batches_keep_the_answers_of_threads_apart(plain_bundle):
    histories = [requests_of(plain_bundle, n % 7 + 1)["history"] for n in range(60)]
    requests = [{"history": some} for some in histories]
    with (
        shortlist.load(plain_bundle.path) as engine,
        shortlist.load(plain_bundle.path, fixed_batches=(8,)) as fixed,
    ):
        expected = [engine.recommend(request) for request in requests]
        with ThreadPoolExecutor(8) as pool:
            for found, wanted in zip(pool.map(fixed.recommend, requests), expected, strict=True):
                check_close(found, wanted)


def test_all_of_it_at_once(bundle):
    """Requests that share runs are filled up, and answered by either graph."""
    requests = requests_of(bundle, 48)
    singles = [{name: values[i : i + 1] for name, values in requests.items()} for i in range(48)]
    with shortlist.load(bundle.path) as engine:
        expected = [engine.recommend(single) for single in singles]
    for search in ("index", "graph"):
        with (
            shortlist.load(bundle.path, max_batch=8, search=search, fixed_batches=(8,)) as together,
            ThreadPoolExecutor(8) as pool,
        ):
            for found, wanted in zip(pool.map(together.recommend, singles), expected, strict=True):
                check_close(found, wanted)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"search": "gpu"}, ValueError, "search: got 'gpu', expected one of auto, index, graph"),
        ({"search": "measured"}, ValueError, "search: got 'measured', expected one of auto, ind"),
        ({"fixed_batches": 8}, TypeError, r"fixed_batches: got 8, expected sizes such as"),
        ({"fixed_batches": (0,)}, ValueError, "fixed_batches: got 0; expected an int >= 1"),
        ({"fixed_batches": (1.0,)}, TypeError, "fixed_batches: got 1.0 of type float"),
    ],
)
def test_wrong_options_are_refused(options, error, message, bundle):
    with pytest.raises(error, match=message):
        shortlist.load(bundle.path, **options)
