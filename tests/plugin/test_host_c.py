"""examples/host.c: built against the package, find_package and pkg-config; answers as in Python."""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import shortlist

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples" / "host.c"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
RANDOM = np.random.default_rng(11)
ITEMS = RANDOM.normal(size=(500, 20)).astype(np.float32)
QUERIES = RANDOM.normal(size=(7, 20)).astype(np.float32)

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packaged():
    """Header and library as the wheel carries them."""
    library = Path(shortlist.plugin_path())
    return [f"-I{library.parent / 'include'}", library, f"-Wl,-rpath,{library.parent}"]


def check_answers(host, folder, kind):
    ids = list(range(3000, 3500)) if kind == "numbers" else [f"ü{i}" for i in range(500)]
    index = shortlist.Index(ITEMS, ids, "dot")
    index.save(folder / "items.index")
    sold_out = [ids[3], ids[77], ids[499]]
    hits = index.search(QUERIES, top_n=10, exclude=[sold_out] * 7)
    expected = [
        (str(item_id), float(score))
        for row, scores in zip(hits.item_ids, hits.scores, strict=True)
        for item_id, score in zip(row, scores, strict=True)
    ]
    done = subprocess.run(
        [host, folder / "items.index", *map(str, sold_out)],
        input=QUERIES.tobytes(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(item_id, float.fromhex(score)) for item_id, score in lines] == expected


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_host_of_the_package_answers_as_python(tmp_path, kind):
    run("gcc", *STRICT, SOURCE, "-o", tmp_path / "host", *packaged())
    check_answers(tmp_path / "host", tmp_path, kind)


def test_host_says_what_is_wrong(tmp_path):
    run("gcc", *STRICT, SOURCE, "-o", tmp_path / "host", *packaged())
    (tmp_path / "bad.index").write_bytes(b"no index")
    done = subprocess.run(
        [tmp_path / "host", tmp_path / "bad.index"], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert re.search(rb"host: .*bad.index: size: expected at least \d+ bytes, found 8", done.stderr)
    assert done.stdout == b""


def test_header_is_plain_c_and_cplusplus(tmp_path):
    header = packaged()[0]
    for compiler, standard, suffix in (
        ("gcc", "c99", "c"), ("gcc", "c17", "c"), ("g++", "c++11", "cpp"), ("g++", "c++20", "cpp"),
    ):  # fmt: skip
        source = tmp_path / f"only.{suffix}"
        source.write_text("#include <shortlist.h>\n#include <shortlist.h>\n", encoding="utf-8")
        run(compiler, f"-std={standard}", *STRICT[1:], header, "-fsyntax-only", source)


def test_example_is_short_and_names_its_command():
    text = SOURCE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "gcc -std=c99" in text


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `cmake --install` leaves, moved elsewhere; the build folder is kept between runs."""
    build = ROOT / "build" / "host-sdk"
    build.mkdir(parents=True, exist_ok=True)
    prefix = tmp_path_factory.mktemp("sdk") / "prefix"
    cmake = shutil.which("cmake", path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
    with open(build / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Unoptimised: quick to build, and scores are the same bits by promise.
        run(cmake, "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Debug")
        run(cmake, "--build", build, "--target", "shortlist", "--parallel", "2")
        run(cmake, "--install", build, "--prefix", prefix)
    moved = prefix.with_name("moved")
    prefix.rename(moved)
    return moved, cmake


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.xdist_group("installed")
def test_cmake_finds_the_installed_package(installed, tmp_path):
    prefix, cmake = installed
    shutil.copy(SOURCE, tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\n"
        "project(host C)\n"
        "find_package(shortlist 0.2 REQUIRED)\n"
        "add_executable(host host.c)\n"
        "target_link_libraries(host PRIVATE shortlist::shortlist)\n",
        encoding="utf-8",
    )
    run(cmake, "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", tmp_path / "build")
    check_answers(tmp_path / "build" / "host", tmp_path, "texts")


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="needs pkg-config")
@pytest.mark.xdist_group("installed")
def test_pkg_config_finds_the_installed_package(installed, tmp_path):
    prefix, _ = installed
    pc = next(prefix.rglob("shortlist.pc"))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent)}
    flags = run("pkg-config", "--cflags", "--libs", "shortlist", env=environment).split()
    libdir = run("pkg-config", "--variable=libdir", "shortlist", env=environment).strip()
    assert run("pkg-config", "--modversion", "shortlist", env=environment).strip() == (
        shortlist.__version__
    )
    run("gcc", *STRICT, SOURCE, "-o", tmp_path / "host", *flags, f"-Wl,-rpath,{libdir}")
    check_answers(tmp_path / "host", tmp_path, "numbers")


@pytest.mark.xdist_group("installed")
def test_installed_tree_holds_library_header_and_package_files_only(installed):
    prefix, _ = installed
    names = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if not path.is_dir()}
    lib = next(name for name in names if name.endswith("/libshortlist.so")).rsplit("/", 1)[0]
    version = shortlist.__version__
    assert names == {
        "include/shortlist.h",
        "include/shortlist/engine.h",
        "include/shortlist/sessions.h",
        f"{lib}/libshortlist.so",
        f"{lib}/libshortlist.so.1",
        f"{lib}/libshortlist.so.{version}",
        f"{lib}/pkgconfig/shortlist.pc",
        f"{lib}/cmake/shortlist/shortlistConfig.cmake",
        f"{lib}/cmake/shortlist/shortlistConfig-debug.cmake",
        f"{lib}/cmake/shortlist/shortlistConfigVersion.cmake",
    }
