"""The installed wheel in a clean environment with the [cpu] extra only (`make test-wheel`)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import shortlist

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "build" / "demo" / "movielens-100k.shortlist"


def _files() -> list[str]:
    return [str(path) for path in metadata.files("shortlist") or []]


def test_wheel_holds_the_packages_and_nothing_else() -> None:
    files = _files()
    for expected in (
        "shortlist/py.typed",
        "shortlist/_core.pyi",
        "shortlist/libshortlist.so",
        "shortlist/include/shortlist.h",
        "shortlist/include/shortlist/engine.h",
        "shortlist/include/shortlist/sessions.h",
        "shortlist/datasets/books.shortlist/manifest.json",
        "shortlist/training/fit/fit.py",
        "shortlist/training/config/presets/movielens-100k.toml",
        "shortlist/export/writer.py",
    ):
        assert expected in files
    assert any(name.startswith("shortlist/_core.") and name.endswith(".so") for name in files)
    top = {name.split("/")[0] for name in files}
    version = metadata.version("shortlist")
    assert top <= {"shortlist", f"shortlist-{version}.dist-info", "..", "bin"}
    assert not [name for name in files if name.endswith((".cpp", ".hpp"))]


def test_environment_has_no_training_packages() -> None:
    for name in ("tensorflow", "keras", "tf2onnx", "polars"):
        assert importlib.util.find_spec(name) is None


def test_index_answers() -> None:
    hits = shortlist.Index(np.eye(4, dtype=np.float32)).search(np.eye(4)[1:2], top_n=2)
    assert hits.item_ids.tolist() == [[1, 0]]


def test_plugin_is_the_library_the_package_runs_on() -> None:
    path = Path(shortlist.plugin_path())
    assert path == Path(str(metadata.distribution("shortlist").locate_file("shortlist"))) / (
        "libshortlist.so"
    )
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(path.resolve()) in mapped


def test_training_command_says_which_extra_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shortlist.cli", "train", "--data", "movielens-100k",
               "--out", str(tmp_path / "x.shortlist")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'shortlist[train]'" in done.stderr


def test_stub_matches_the_compiled_module(tmp_path: Path) -> None:
    # pybind11's own metaclass cannot be written in a stub; the members are still compared.
    allowed = tmp_path / "allowlist"
    classes = "Catalogue|Index|IndexBuilder|IndexView|LoadedBundle|Metric|Storage"
    allowed.write_text(rf"shortlist\._core\.({classes})", encoding="utf-8")
    command = [sys.executable, "-m", "mypy.stubtest", "shortlist._core", "--concise",
               "--allowlist", str(allowed)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not DEMO.exists(), reason=f"no demo bundle at {DEMO}: run `make demo` first")
def test_demo_bundle_answers_without_tensorflow() -> None:
    with shortlist.load(DEMO) as engine:
        recommendations = engine.recommend({"user_id": [196]}, top_n=10)
    assert recommendations.counts.tolist() == [10]
    assert recommendations.source[0] == "stored history"
    assert all(recommendations.titles[0])
    assert "tensorflow" not in sys.modules
