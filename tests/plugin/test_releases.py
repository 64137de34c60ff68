"""The operator and the engine on every release of ONNX Runtime since the oldest that is supported.

Each release goes into a folder of its own under build/ and runs in processes of its own.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import onnx
import onnxruntime
import pytest
from worlds import rewritten

import shortlist
from shortlist.export.tensors import refer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RELEASES = ROOT / "build" / "releases"
OLDEST, NEWEST = 17, int(onnxruntime.__version__.split(".")[1])
# Wheels have no libonnxruntime.so before 1.19, and are compiled for NumPy 1.
FIRST_WITH_LIBRARY = 19
# Opens whatever file a graph names.
FOLLOWS_NAMES = 20
TOP_N = 7
# Both print [release, item ids, scores in full, counts] of the same requests.
OPERATOR = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "examples")!r})
import host, onnxruntime
bundle, requests = sys.argv[1:]
session = host.open_bundle(bundle, {shortlist.plugin_path()!r}, n_threads=2)
ids, scores, counts = host.recommend(session, json.loads(requests), {TOP_N})
scores = [score.hex() for score in scores.ravel().tolist()]
print(json.dumps([onnxruntime.__version__, ids.tolist(), scores, counts.tolist()]))
"""
ENGINE = f"""
import json, pathlib, sys
import shortlist
from shortlist import engine as engine_module
bundle, requests, *library = sys.argv[1:]
if library:
    engine_module.find_runtime = lambda: pathlib.Path(*library)
with shortlist.load(bundle, device="cpu", n_threads=2) as engine:
    answer = engine.recommend({{"history": json.loads(requests)}}, {TOP_N})
    scores = [score.hex() for score in answer.scores.ravel().tolist()]
    release, nodes = (engine.report()[key] for key in ("onnxruntime", "nodes"))
    assert bool(nodes["recommend"]) == (int(release.split(".")[1]) >= 24), nodes
    print(json.dumps([release, answer.item_ids.tolist(), scores, answer.counts.tolist()]))
assert library or "onnxruntime" not in sys.modules
"""

REFUSED = """
import pathlib, sys
from shortlist import BundleError, engine, load
hostile, _, *library = sys.argv[1:]
if library:
    engine.find_runtime = lambda: pathlib.Path(*library)
try:
    load(hostile, device="cpu")
except BundleError as error:
    import json
    print(json.dumps(str(error)))
"""


def fetched(folder, *command):
    """Run what fills a folder, once; where a release cannot be had, skip with a reason."""
    if not folder.exists():
        shutil.rmtree(partial := folder.with_name(folder.name + ".partial"), ignore_errors=True)
        partial.mkdir(parents=True)
        done = subprocess.run(
            [part.replace("FOLDER", str(partial)) for part in command],
            capture_output=True, text=True, check=False, cwd=partial,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"{folder.name} cannot be had: {done.stderr.strip().splitlines()[-1]}")
        partial.rename(folder)
    return folder


def wheel_of(minor):
    """Install a release, alone, but with the NumPy that the oldest ones need."""
    packages = [f"onnxruntime==1.{minor}.*"]
    if minor < FIRST_WITH_LIBRARY:
        packages.append("numpy==1.26.*")
    return fetched(
        RELEASES / f"wheel-1.{minor}",
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"),
        *("--no-deps", "--only-binary", ":all:", "--target", "FOLDER", *packages),
    )


def library_of(minor):
    """Fetch libonnxruntime.so of a release whose wheel has none: from its package for Node."""
    if shutil.which("npm") is None:
        pytest.skip(f"the wheel of 1.{minor} has no libonnxruntime.so: needs npm for another")
    package = f"onnxruntime-node@1.{minor}"
    folder = fetched(RELEASES / f"node-1.{minor}", "npm", "pack", "--silent", package)
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for archive in folder.glob("*.tgz"):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        archive.unlink()
    (library,) = folder.glob(f"package/bin/*/linux/{machine}/libonnxruntime.so*")
    return library


def run(code, bundle, requests, *more, path=None):
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), json.dumps(requests), *map(str, more)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["int64", "string"])
def bundle(request, make_host_bundle, tmp_path_factory):
    return make_host_bundle(tmp_path_factory.mktemp("releases") / "tiny.shortlist", request.param)


@pytest.fixture(scope="module")
def requests(bundle):
    """So many that the operator shares them out to ONNX Runtime's threads."""
    ids = bundle.item_ids.tolist()
    return [ids[i % 30 : i % 30 + i % 9] for i in range(150)]


@pytest.fixture(scope="module")
def expected(bundle, requests):
    with shortlist.load(bundle.path, device="cpu") as engine:
        answer = engine.recommend({"history": requests}, TOP_N)
    scores = [score.hex() for score in answer.scores.ravel().tolist()]
    return [answer.item_ids.tolist(), scores, answer.counts.tolist()]


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_the_operator_answers_alike_on_every_release(minor, bundle, requests, expected):
    release, *answer = run(OPERATOR, bundle.path, requests, path=wheel_of(minor))
    assert release.startswith(f"1.{minor}.")
    assert answer == expected


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_the_engine_answers_alike_on_every_release(minor, bundle, requests, expected):
    if minor < FIRST_WITH_LIBRARY:
        release, *answer = run(ENGINE, bundle.path, requests, library_of(minor))
    else:
        release, *answer = run(ENGINE, bundle.path, requests, path=wheel_of(minor))
    assert release.startswith(f"1.{minor}.")
    assert answer == expected


def test_a_release_newer_than_this_one_is_tried_where_there_is_one(bundle, requests, expected):
    newest = fetched(
        RELEASES / "wheel-newest",
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"),
        *("--no-deps", "--only-binary", ":all:", "--target", "FOLDER", "onnxruntime<2"),
    )
    for code in (OPERATOR, ENGINE):
        release, *answer = run(code, bundle.path, requests, path=newest)
        assert tuple(map(int, release.split(".")[:2])) >= (1, NEWEST)
        assert answer == expected


@pytest.mark.parametrize("place", ["../secret", "/proc/self/environ", "inside/../../secret"])
@pytest.mark.parametrize("minor", [OLDEST, FOLLOWS_NAMES, NEWEST])
def test_no_release_is_asked_to_open_a_graph_that_reads_other_files(minor, place, bundle, tmp_path):
    """Some releases would: 1.20 opens files outside of the bundle, by either kind of path."""
    copy = tmp_path / "tiny.shortlist"
    shutil.copytree(bundle.path, copy)
    (tmp_path / "secret").write_bytes(bytes(64))
    model = onnx.load(copy / "recommend.onnx", load_external_data=False)
    tensor = model.graph.initializer.add(name="read", data_type=onnx.TensorProto.FLOAT, dims=[2])
    refer(tensor, place, 0, 8)
    hostile = rewritten(copy, {"recommend.onnx": model.SerializeToString()})
    if minor < FIRST_WITH_LIBRARY:
        said = run(REFUSED, hostile, None, library_of(minor))
    else:
        said = run(REFUSED, hostile, None, path=wheel_of(minor))
    assert (
        f"tensor 'read' to lie in a file that the manifest lists, found the location '{place}'"
        in (said)
    )
