"""On a machine with an NVIDIA GPU: `pytest -m gpu`. Elsewhere skipped, with the reason."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

import shortlist

pytestmark = pytest.mark.gpu
CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module", params=["int64", "string"])
def bundle(request, make_host_bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("cuda") / "tiny.shortlist"
    world = make_host_bundle(path, request.param)
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip(f"onnxruntime has no {CUDA}: install 'shortlist[gpu]'")
    try:
        shortlist.load(path, device="cuda").close()
    except shortlist.ShortlistError as error:
        pytest.skip(f"CUDA does not start: {error}")
    return world


def requests_of(world, n):
    rng = np.random.default_rng(3)
    return {"history": [rng.choice(world.item_ids, 1 + i % 8).tolist() for i in range(n)]}


@pytest.mark.parametrize("options", [{}, {"search": "index"}, {"search": "graph"},
                                     {"fixed_batches": (1, 16)}])  # fmt: skip
def test_cuda_answers_like_the_cpu(bundle, options):
    with (
        shortlist.load(bundle.path, device="cpu") as engine,
        shortlist.load(bundle.path, device="cuda", **options) as on_cuda,
    ):
        for n in (1, 7, 40):
            requests = requests_of(bundle, n)
            found, expected = on_cuda.recommend(requests, 5), engine.recommend(requests, 5)
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-3)
            assert found.counts.tolist() == expected.counts.tolist()
        assert on_cuda.report()["nodes"]["recommend"][CUDA] > 0
        if options.get("search") == "graph":
            assert on_cuda.report()["nodes"]["recommend_portable"][CUDA] > 0
            assert on_cuda._switch.loaded.core.n_graph_runs > 0


def test_retrieval_is_calibrated_at_load(bundle):
    with shortlist.load(bundle.path, device="cuda") as engine:
        report = engine.report()["graph_search"]
    assert set(report["times_us"]) == set(report["from_batch"]) == {1, 32, 256}
    assert all(us > 0 for times in report["times_us"].values() for us in times.values())


def test_a_swap_stays_on_the_gpu(bundle):
    with shortlist.load(bundle.path, device="cuda") as engine:
        engine.swap(bundle.path)
        assert engine.report()["nodes"]["recommend"][CUDA] > 0


def test_single_requests_share_runs_on_the_gpu(bundle):
    requests = [{"history": history} for history in requests_of(bundle, 40)["history"]]
    with (
        shortlist.load(bundle.path, device="cuda", max_batch=8) as engine,
        ThreadPoolExecutor(8) as pool,
    ):
        expected = [engine.recommend([request], 5) for request in requests]
        for found, wanted in zip(
            pool.map(lambda one: engine.recommend([one], 5), requests), expected, strict=True
        ):
            np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-3, atol=1e-3)
        assert engine.report()["batching"]["n_requests"] == 80


def test_what_is_reported_of_fixed_batches_says_why_there_are_no_cuda_graphs(bundle):
    with shortlist.load(bundle.path, device="cuda", fixed_batches=(4,)) as engine:
        assert engine.report()["fixed_batches"] == {
            "batches": [4],
            "io_binding": False,
            "cuda_graphs": "no: look-ups and search run on the CPU",
        }
