"""A tiny bundle with the graphs for hosts, made without TensorFlow."""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from shortlist.bundle import Bundle, BundleWriter
from shortlist.export.host_graphs import write_host_graphs
from shortlist.export.recommend import Parts
from shortlist.index import Index
from shortlist.plugin import has_onnx_operator

SERVING = Path(__file__).parents[1] / "serving" / "conftest.py"


def _serving():
    spec = importlib.util.spec_from_file_location("serving_worlds", SERVING)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _parts(worlds, manifest, world, folder, with_scorer):
    features = [
        worlds.make_feature(f["name"], f["kind"], f["dtype"], f["vocabulary"])
        for f in manifest["features"]
        if f["side"] == "user"
    ]
    second = manifest["second_stage"]
    return Parts(
        encoder=onnx.load(folder / "user_encoder.onnx"),
        features=features,
        gap=None,
        has_kinds=False,
        max_history=manifest["max_history"],
        item_ids=world.item_ids,
        popularity=world.n_events.astype(np.float32),
        scorer=onnx.load(folder / "scorer.onnx") if with_scorer else None,
        n_candidates=second["n_candidates"],
        history_length=second["history_length"],
    )


@pytest.fixture(scope="session")
def make_host_bundle():
    """Build a tiny bundle with recommend.onnx and recommend_portable.onnx; returns its world."""
    worlds = _serving()

    def make(
        path, dtype="int64", *, with_scorer=True, user_features=True, storage="float32", sign=1
    ):
        plain = path.with_name("plain.shortlist")
        world = worlds.make_world(plain, dtype, user_features=user_features, sign=sign)
        manifest = dict(Bundle.open(plain).manifest) | {"storage": storage}
        files = manifest.pop("files")
        with BundleWriter(path) as writer:
            folder = writer.directory
            for name in set(files) - (set() if with_scorer else {"scorer.onnx"}):
                shutil.copy(plain / name, folder / name)
            index = Index(world.vectors, world.item_ids, "cosine", storage=storage)
            index.save(folder / "items.index")
            parts = _parts(worlds, manifest, world, folder, with_scorer)
            write_host_graphs(parts, index, folder, portable=True)
            writer.write_manifest(manifest)
            world.path = writer.commit()
        return world

    return make


@pytest.fixture(scope="session")
def host_bundle(make_host_bundle, tmp_path_factory):
    """Integer ids, user features, no scorer."""
    path = tmp_path_factory.mktemp("hosts") / "tiny.shortlist"
    return make_host_bundle(path, with_scorer=False)


@pytest.fixture(scope="session")
def operator():
    """Skip where the library was built without ONNX Runtime's headers."""
    if not has_onnx_operator():
        pytest.skip("libshortlist.so has no ai.shortlist.TopN: no ONNX Runtime headers at build")


@pytest.fixture
def rng():
    return np.random.default_rng(7)
