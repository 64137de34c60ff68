"""Devices, the portable graph as retrieval, fixed batches: what a GPU would run, run on the CPU."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import shortlist
from shortlist import BundleError, ShortlistError, _graphs, _sessions
from shortlist._sessions import choose_providers, nodes_by_provider, provider_of

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))


@pytest.fixture(scope="module")
def bundle(make_host_bundle, tmp_path_factory):
    """Integer ids, user features, stored users, a scorer."""
    return make_host_bundle(tmp_path_factory.mktemp("devices") / "tiny.shortlist")


@pytest.fixture(scope="module")
def text_bundle(make_host_bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "text.shortlist"
    return make_host_bundle(path, "string", with_scorer=False)


def requests_of(world, n=30):
    rng = np.random.default_rng(3)
    cities, tags = ["Köln", None, "Paris"], [["a"], None, ["a", "b"]]
    return {
        "history": [rng.choice(world.item_ids, i % 9).tolist() for i in range(n)],
        "city": [cities[i // 2 % 3] for i in range(n)],
        "tags": [tags[i % 3] if i % 4 else None for i in range(n)],
    }


def check_close(found, expected):
    for name in ("item_ids", "counts", "source", "stages", "indices", "titles", "version"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)


def graph_calls(engine, monkeypatch):
    """Count the runs of the portable graph."""
    session, calls = engine._switch.version.recommender.graph_search._session, []

    class Counting:
        def run(self, outputs, feeds):
            calls.append(len(feeds["history"]))
            return session.run(outputs, feeds)

    monkeypatch.setattr(engine._switch.version.recommender.graph_search, "_session", Counting())
    return calls


def test_the_providers_of_each_device():
    every = [TENSORRT, CUDA, CPU]
    assert choose_providers("auto", every) == [CUDA, CPU]
    assert choose_providers("auto", [CPU]) == choose_providers("cpu", every) == [CPU]
    assert choose_providers("cuda", every) == [CUDA, CPU]
    assert choose_providers("tensorrt", every) == every
    assert choose_providers("tensorrt", [TENSORRT, CPU]) == [TENSORRT, CPU]


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_not_there_is_an_error(device, bundle):
    with pytest.raises(ShortlistError, match=rf"device: got '{device}', but this onnxruntime offe"):
        choose_providers(device, [CPU])
    with pytest.raises(ValueError, match="device: got 'gpu', expected one of auto, cpu, cuda, ten"):
        shortlist.load(bundle.path, device="gpu")


class Session:
    """A session that says it has providers, and which of them runs the nodes."""

    def __init__(self, providers, runs):
        self._providers, self._runs = providers, runs

    def get_providers(self):
        return self._providers

    def get_provider_graph_assignment_info(self):
        class Part:
            ep_name = self._runs

            @staticmethod
            def get_nodes():
                return [None, None]

        return [Part()]


def test_a_provider_that_runs_no_node_is_not_the_one_that_runs():
    session = Session([CUDA, CPU], CPU)
    assert nodes_by_provider(session) == {CPU: 2}
    assert provider_of(session) == CPU
    with pytest.raises(
        ShortlistError, match=r"got 'cuda', but g\.onnx runs on CPUExecutionProvider"
    ):
        _sessions._check_runs(session, "cuda", "g.onnx")
    with pytest.raises(ShortlistError, match=r"got 'cuda', but g\.onnx runs on CPU"):
        _sessions._check_runs(Session([CPU], CPU), "cuda", "g.onnx")
    _sessions._check_runs(Session([CUDA, CPU], CUDA), "cuda", "g.onnx")
    _sessions._check_runs(Session([TENSORRT, CUDA, CPU], CUDA), "tensorrt", "g.onnx")


def test_auto_goes_to_the_cpu_where_cuda_does_not_start(bundle, monkeypatch, capfd):
    runtime = _sessions.import_runtime()
    real, tried = runtime.InferenceSession, []

    def start(content, options, providers, **rest):
        tried.append(providers)
        if providers[0] == CUDA:
            raise RuntimeError("no driver")
        return real(content, options, providers=providers, **rest)

    monkeypatch.setattr(runtime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(runtime, "InferenceSession", start)
    with shortlist.load(bundle.path) as engine:
        assert engine.report()["providers"]["user_encoder"] == CPU
    assert tried[:2] == [[CUDA, CPU], [CPU]]
    with pytest.raises(BundleError, match="no driver"):
        shortlist.load(bundle.path, device="cuda")
    assert capfd.readouterr().out == ""


def test_the_report_counts_the_nodes_of_each_graph(bundle):
    with shortlist.load(bundle.path, device="cpu") as engine:
        report = engine.report()
    assert report["providers"] == {"user_encoder": CPU, "scorer": CPU}
    assert set(report["nodes"]) == set(report["providers"])
    assert all(counts[CPU] > 0 for counts in report["nodes"].values())
    assert report["graph_search"] is None
    assert report["fixed_batches"] is None


@pytest.mark.parametrize("which", ["bundle", "text_bundle"])
def test_the_portable_graph_answers_like_the_index(which, request, monkeypatch):
    world = request.getfixturevalue(which)
    requests = requests_of(world)
    with (
        shortlist.load(world.path) as engine,
        shortlist.load(world.path, search="graph") as on_graph,
    ):
        calls = graph_calls(on_graph, monkeypatch)
        for top_n in (1, 7, 55):
            for seen in (True, False):
                found = on_graph.recommend(requests, top_n, seen)
                check_close(found, engine.recommend(requests, top_n, seen))
        assert calls == [30] * 6
        users = {"user_id": list(world.users)}
        check_close(on_graph.recommend(users), engine.recommend(users))
        assert len(calls) == 7  # stored histories are histories
        assert on_graph.report()["graph_search"]["from_batch"] == {1: "graph"}
        assert on_graph.report()["providers"]["recommend_portable"] == CPU


def test_what_the_graph_cannot_answer_goes_to_the_index(bundle, monkeypatch):
    import pyarrow.compute as pc

    user = next(iter(bundle.users))
    both = {"user_id": [user], "history": [bundle.item_ids[20:22].tolist()]}
    requests = requests_of(bundle)
    with (
        shortlist.load(bundle.path) as engine,
        shortlist.load(bundle.path, search="graph") as on_graph,
    ):
        calls = graph_calls(on_graph, monkeypatch)
        for given, options in (
            (requests, {"where": pc.field("year") >= 2000}),
            (requests, {"stages": 1}),
            (both, {}),  # must not get the stored items either
            ({"history": []}, {}),
        ):
            check_close(on_graph.recommend(given, **options), engine.recommend(given, **options))
        for each in (engine, on_graph):
            each.upsert_items([{"item_id": 5, "genres": ["war"]}])
        check_close(on_graph.recommend(requests, 60), engine.recommend(requests, 60))
        assert calls == []


def test_without_a_portable_graph_asking_for_it_is_an_error(bundle, tmp_path):
    import json
    import shutil

    from shortlist.bundle import BundleWriter

    manifest = json.loads((bundle.path / "manifest.json").read_text(encoding="utf-8"))
    with BundleWriter(tmp_path / "without.shortlist") as writer:
        for file in bundle.path.iterdir():
            if file.name not in ("recommend_portable.onnx", "manifest.json"):
                shutil.copy(file, writer.directory)
        writer.write_manifest({k: v for k, v in manifest.items() if k != "files"})
        path = writer.commit()
    with pytest.raises(BundleError, match=r"recommend_portable\.onnx: expected the graph that sea"):
        shortlist.load(path, search="graph")
    shortlist.load(path).close()


@pytest.mark.parametrize("faster", ["index", "graph"])
def test_calibration_takes_the_faster_way_for_each_batch_size(faster, bundle, monkeypatch):
    # As on a GPU: both ways are measured at load. One of them is made slow for small batches.
    monkeypatch.setattr(_graphs, "provider_of", lambda _: CUDA)
    from shortlist._graph_search import GraphSearch
    from shortlist._recommend import Recommender

    slow = {"index": (GraphSearch, "answer"), "graph": (Recommender, "encode")}[faster]
    real = getattr(*slow)

    def delayed(self, signals, *rest):
        found = real(self, signals, *rest)
        if len(signals.source) <= 32 and found is not None:
            time.sleep(0.02)
        elif len(signals.source) > 32:
            time.sleep(0.02 if slow[0] is Recommender else 0)
        return found

    monkeypatch.setattr(*slow, delayed)
    with shortlist.load(bundle.path) as engine:
        report = engine.report()["graph_search"]
        assert set(report["times_us"]) == set(report["from_batch"]) == {1, 32, 256}
        assert report["from_batch"][1] == report["from_batch"][32] == faster
        assert all(us > 0 for told in report["times_us"].values() for us in told.values())
        calls = graph_calls(engine, monkeypatch)
        engine.recommend(requests_of(bundle, 31))
        assert calls == ([31] if faster == "graph" else [])
    with shortlist.load(bundle.path, search="index") as engine:
        assert engine.report()["graph_search"] is None


@pytest.fixture(scope="module")
def plain_bundle(make_host_bundle, tmp_path_factory):
    """Integer ids and histories alone: no texts go into the encoder."""
    path = tmp_path_factory.mktemp("devices") / "plain.shortlist"
    return make_host_bundle(path, user_features=False)


@pytest.mark.parametrize("which", ["bundle", "text_bundle", "plain_bundle"])
def test_fixed_batches_answer_like_any_other(which, request):
    world = request.getfixturevalue(which)
    with (
        shortlist.load(world.path) as engine,
        shortlist.load(world.path, fixed_batches=[16, 4]) as fixed,
    ):
        for n in (1, 4, 5, 16, 17):  # filled up, exact, and larger than all
            for _ in range(2):
                requests = requests_of(world, n)
                if which == "plain_bundle":
                    requests = {"history": requests["history"]}
                check_close(fixed.recommend(requests), engine.recommend(requests))
                np.testing.assert_allclose(
                    fixed.encode_users(requests),
                    engine.encode_users(requests),
                    rtol=1e-5,
                    atol=1e-6,
                )
        assert len(fixed.recommend([])) == 0
        told = fixed.report()["fixed_batches"]
    assert told == {
        "batches": [4, 16],
        "io_binding": which == "plain_bundle",
        "cuda_graphs": "no: the encoder is not on CUDA",
    }


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


def test_cuda_graphs_that_are_refused_are_reported_and_not_used(bundle):
    from shortlist._fixed_batches import FixedEncoder

    with shortlist.load(bundle.path) as engine:
        session = engine._switch.version.graphs.session("user_encoder")

    def open_session(cuda_graphs):
        if cuda_graphs:
            raise BundleError("user_encoder.onnx: not all nodes are on CUDA\nand more")
        return session

    encoder = FixedEncoder(open_session, (2,), 6, "cuda")
    assert encoder.report()["cuda_graphs"] == "no: user_encoder.onnx: not all nodes are on CUDA"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"search": "gpu"}, ValueError, "search: got 'gpu', expected one of auto, index, graph"),
        ({"fixed_batches": 8}, TypeError, r"fixed_batches: got 8, expected sizes such as"),
        ({"fixed_batches": (0,)}, ValueError, "fixed_batches: got 0; expected an int >= 1"),
        ({"fixed_batches": (1.0,)}, TypeError, "fixed_batches: got 1.0 of type float"),
    ],
)
def test_wrong_options_are_refused(options, error, message, bundle):
    with pytest.raises(error, match=message):
        shortlist.load(bundle.path, **options)


def test_a_refused_capture_is_no_silent_fallback_to_the_cpu(bundle, monkeypatch):
    """With "auto" as with "cuda": the encoder stays on CUDA, the report says what was refused."""
    real = _sessions.import_runtime()

    class Runtime:
        __version__ = real.__version__
        SessionOptions, ExecutionMode = real.SessionOptions, real.ExecutionMode

        @staticmethod
        def get_available_providers():
            return [CUDA, CPU]

        @staticmethod
        def InferenceSession(content, options, providers, **_):
            if isinstance(providers[0], tuple):
                raise RuntimeError("this graph cannot be captured")
            return real.InferenceSession(content, options, providers=[CPU], enable_fallback=0)

    monkeypatch.setattr(_sessions, "import_runtime", lambda: Runtime)
    with pytest.raises(BundleError, match="cannot be captured"):
        _sessions.open_session(
            bundle.path / "user_encoder.onnx", name="encoder", device="auto", cuda_graph=True
        )
