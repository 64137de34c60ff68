"""The hosts of examples/ are built, run on a bundle, and answer like the engine and the index."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.compute
import pytest

import shortlist

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, BUILD = ROOT / "examples", ROOT / "build"
RUNTIME = Path(onnxruntime.__file__).parent / "capi"
(C_RUNTIME,) = RUNTIME.glob("libonnxruntime.so.1.*")
LIBRARY = shortlist.plugin_path()
HEADERS = [
    folder
    for folder in (BUILD / "onnxruntime/usr/include/onnxruntime", Path("/usr/include/onnxruntime"))
    if (folder / "onnxruntime_cxx_api.h").exists()
]
TOP_N = 6


def run(*command, **options):
    parts = [str(part) for part in command]
    done = subprocess.run(parts, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module", params=["int64", "string"])
def bundle(request, make_host_bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "tiny.shortlist"
    return make_host_bundle(path, request.param, with_scorer=False)


def check_answers(bundle, host, *, read=float.fromhex, tolerance=0.0):
    """Run a host on three histories and compare with the engine."""
    ids = [str(item_id) for item_id in bundle.item_ids]
    unknown = "?" if bundle.item_ids.dtype.kind == "U" else "5"
    with shortlist.load(bundle.path) as engine:
        for history in (ids[3:4], [*ids[8:20], unknown], [unknown, unknown]):
            given = [*map(type(bundle.item_ids[0].item()), history)]
            expected = engine.recommend({"history": [given]}, top_n=TOP_N)
            lines = [line.split() for line in host(str(TOP_N), *history).splitlines()]
            n = int(expected.counts[0])
            assert [item_id for item_id, _ in lines] == [*map(str, expected.item_ids[0, :n])]
            scores = np.array([read(score) for _, score in lines], np.float32)
            np.testing.assert_allclose(scores, expected.scores[0, :n], rtol=tolerance, atol=0)


def test_python_host_needs_only_onnxruntime(bundle, tmp_path):
    site = tmp_path / "site"  # all that is installed, but this package
    site.mkdir()
    for entry in RUNTIME.parents[1].iterdir():
        if "shortlist" not in entry.name:
            (site / entry.name).symlink_to(entry)
    library = shutil.copy(LIBRARY, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    python = [sys.executable, "-S", EXAMPLES / "host.py"]
    check_answers(
        bundle,
        lambda *call: run(*python, bundle.path, library, *call, env=environment, cwd=tmp_path),
    )


@pytest.mark.skipif(not HEADERS or shutil.which("g++") is None, reason="needs g++ and make hosts")
def test_cpp_host(bundle, tmp_path):
    (real,) = RUNTIME.glob("libonnxruntime.so.1.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # the wheel has the long name only
        (tmp_path / name).symlink_to(real)
    run(
        *("g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-isystem", HEADERS[0]),
        *(EXAMPLES / "host.cpp", f"-L{tmp_path}", "-lonnxruntime", "-o", tmp_path / "host"),
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    host = [tmp_path / "host", bundle.path, LIBRARY]
    check_answers(bundle, lambda *call: run(*host, *call, env=environment))


def compile_c(name, folder):
    """Compile an example of at most 60 lines; returns the command."""
    source, library = EXAMPLES / name, Path(LIBRARY).parent
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 60
    run(
        *("gcc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", source),
        *("-o", folder / "host", f"-I{library / 'include'}", LIBRARY, f"-Wl,-rpath,{library}"),
    )
    return [folder / "host"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_host_of_whole_bundles(bundle, tmp_path):
    host = compile_c("engine.c", tmp_path)
    check_answers(bundle, lambda *call: run(*host, bundle.path, C_RUNTIME, *call))


@pytest.mark.parametrize("bundle", ["int64"], indirect=True)  # the example's ids are numbers
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_host_of_stored_users(bundle, tmp_path):
    host = compile_c("users.c", tmp_path)
    sold_out = bundle.item_ids[10:14].tolist()
    with shortlist.load(bundle.path) as engine:
        for user in (5, 12, 77):
            where = ~pyarrow.compute.field("item_id").isin(sold_out)
            expected = engine.recommend({"user_id": [user]}, TOP_N, where=where)
            out = run(*host, bundle.path, C_RUNTIME, str(TOP_N), str(user), *map(str, sold_out))
            lines = [line.split() for line in out.splitlines()]
            assert [int(item_id) for item_id, _ in lines] == expected.item_ids[0].tolist()
            assert [float.fromhex(score) for _, score in lines] == expected.scores[0].tolist()


@pytest.mark.parametrize("bundle", ["int64"], indirect=True)  # the example's ids are numbers
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_host_of_new_items(bundle, tmp_path):
    host = compile_c("items.c", tmp_path)
    history = bundle.item_ids[4:7].tolist()
    with shortlist.load(bundle.path) as engine:
        engine.upsert_items([{"item_id": 9001, "year": 1998, "genres": ["war"]}])
        expected = engine.recommend({"history": [history]}, top_n=40)
    item = ["9001", "1998", "war"]
    out = run(*host, bundle.path, C_RUNTIME, "40", *item, *map(str, history))
    lines = [line.split() for line in out.splitlines()]
    n = int(expected.counts[0])
    assert [int(item_id) for item_id, _ in lines] == expected.item_ids[0, :n].tolist()
    assert [float.fromhex(score) for _, score in lines] == expected.scores[0, :n].tolist()
    assert 9001 in expected.item_ids


NODE = BUILD / "node"


@pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules/onnxruntime-node").exists(),
    reason="needs node, and onnxruntime-node in build/node (make hosts)",
)
def test_node_host(bundle):
    host = ["node", EXAMPLES / "host.mjs", bundle.path]
    check_answers(bundle, lambda *call: run(*host, *call, cwd=NODE), read=float, tolerance=1e-6)


JNA = BUILD / "jna/usr/share/java/jna.jar"


@pytest.mark.skipif(
    shutil.which("javac") is None or not JNA.exists(),
    reason="needs a JDK, and JNA in build/jna (make hosts)",
)
def test_java_host_finds_similar_items_through_the_c_abi(bundle, tmp_path):
    path = f"{JNA}:{BUILD / 'jna'}"
    source = EXAMPLES / "Host.java"
    run("javac", "-encoding", "UTF-8", "-cp", path, "-d", tmp_path, source)
    index = shortlist.Index.load(bundle.path / "items.index")
    host = ["java", "-cp", f"{path}:{tmp_path}", "Host", LIBRARY]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # how Java reads and prints "é"
    for row in (0, 17):
        item_id = bundle.item_ids[row].item()
        out = run(*host, bundle.path / "items.index", TOP_N, item_id, env=environment)
        expected = index.search(index.vectors([row]), top_n=TOP_N, exclude=[[item_id]])
        lines = [line.split() for line in out.splitlines()]
        assert [item for item, _ in lines] == [*map(str, expected.item_ids[0])]
        scores = [float.fromhex(score) for _, score in lines]
        assert scores == expected.scores[0].tolist()
