"""On a machine with an NVIDIA GPU: `pytest -m gpu`. Elsewhere skipped, with the reason."""

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
        assert on_cuda.report()["nodes"]["user_encoder"][CUDA] > 0


def test_retrieval_is_calibrated_at_load(bundle):
    with shortlist.load(bundle.path, device="cuda") as engine:
        assert set(engine.report()["graph_search"]["times_us"]) == {1, 32, 256}


def test_a_swap_stays_on_the_gpu(bundle):
    with shortlist.load(bundle.path, device="cuda") as engine:
        engine.swap(bundle.path)
        assert engine.report()["nodes"]["user_encoder"][CUDA] > 0
