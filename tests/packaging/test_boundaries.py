"""The direction of dependencies: each line of the house's rule is a test."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import shortlist

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "polars", "pandas", "pyarrow",
         "scipy", "matplotlib", "shortlist.training", "shortlist.export")  # fmt: skip


def _modules_after(statement: str, tmp_path: Path) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import shortlist", "import shortlist.cli"])
def test_importing_loads_numpy_and_nothing_heavier(statement: str, tmp_path: Path) -> None:
    modules = _modules_after(statement, tmp_path)
    assert "numpy" in modules
    assert modules.isdisjoint(HEAVY)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import at line {node.lineno}"
            found.add(node.module or "")
    return found


def test_serving_never_imports_training_or_export() -> None:
    forbidden = ("shortlist.training", "shortlist.export", "tensorflow", "keras", "tf2onnx",
                 "polars", "scipy")  # fmt: skip
    files = list((ROOT / "python" / "shortlist").rglob("*.py"))
    assert files
    for path in files:
        for name in _imports(path):
            assert not name.startswith(forbidden), f"{path} imports {name}"


def test_training_and_export_import_shortlist_absolutely() -> None:
    for folder in ("training", "export"):
        files = list((ROOT / folder).rglob("*.py"))
        assert files
        for path in files:
            for name in _imports(path):
                assert name.split(".")[0] not in ("training", "export"), f"{path} imports {name}"


# Each room of cpp_ext, and the rooms it may include from beside its own and the public headers.
ROOMS = {
    "include": (),
    "src": (),
    "ort_op": ("src",),
    "engine": ("ort_op", "src"),
    "c_api": ("engine", "src"),
    "bindings": ("engine", "ort_op"),
}
# The drawers of cpp_ext/src: each includes from itself and from those before it.
DRAWERS = ("system", "kernels", "rows", "segments", "search", "index", "file")


def _sources(folder: str) -> list[Path]:
    suffixes = {".cpp", ".hpp", ".h"}
    files = [path for path in (ROOT / "cpp_ext" / folder).rglob("*") if path.suffix in suffixes]
    assert files, folder
    return files


def _includes(path: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)


def test_core_sources_never_mention_python() -> None:
    pattern = re.compile(r"Python\.h|pybind11|numpy", re.IGNORECASE)
    for folder in set(ROOMS) - {"bindings"}:
        for path in _sources(folder):
            assert not pattern.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_core_include_only_from_rooms_below(room: str) -> None:
    allowed = {"shortlist", room, *ROOMS[room]}
    for path in _sources(room):
        for name in _includes(path):
            assert name.split("/")[0] in allowed, f"{path} includes {name}"


@pytest.mark.parametrize("drawer", DRAWERS)
def test_drawers_of_the_core_include_only_from_drawers_before(drawer: str) -> None:
    allowed = DRAWERS[: DRAWERS.index(drawer) + 1]
    for path in _sources(f"src/{drawer}"):
        for name in _includes(path):
            if name.startswith("src/"):
                assert name.split("/")[1] in allowed, f"{path} includes {name}"


def test_every_source_of_the_core_is_in_a_room_and_a_drawer() -> None:
    places = {tuple(path.relative_to(ROOT / "cpp_ext").parts[:-1]) for path in _sources("")}
    rooms = {(room,) for room in set(ROOMS) - {"include", "src"}}
    assert places == rooms | {("include", "shortlist")} | {("src", name) for name in DRAWERS}


def test_every_include_of_the_core_starts_at_one_root() -> None:
    roots = [ROOT / "cpp_ext", ROOT / "cpp_ext" / "include"]
    for path in _sources(""):
        for name in _includes(path):
            assert any((root / name).is_file() for root in roots), f"{path} includes {name}"


def test_versions_of_python_core_metadata_and_cmake_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    match = re.search(r"project\(shortlist\s+VERSION\s+([\d.]+)", cmake)
    assert match is not None
    assert (
        shortlist.__version__
        == shortlist._core.__version__
        == metadata.version("shortlist")
        == project["version"]
        == match.group(1)
    )


def test_changelog_names_the_current_version_and_each_section_once() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *releases = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    assert unreleased.startswith("[Unreleased]\n")
    assert re.match(rf"\[{re.escape(shortlist.__version__)}\] - \d{{4}}-\d\d-\d\d\n", releases[0])
    for release in (unreleased, *releases):
        sections = re.findall(r"^### (.*)$", release, flags=re.MULTILINE)
        assert len(set(sections)) == len(sections), sections
        assert set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_no_source_file_grows_beyond_a_screenful_of_screens() -> None:
    folders = ("python", "training", "export", "cpp_ext", "tests", "benchmarks")
    files = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".cpp", ".hpp", ".h"}
    ]
    assert len(files) > 300
    long = {str(path): n for path in files if (n := path.read_text("utf-8").count("\n")) > 500}
    assert not long, f"over 500 lines, which is a room too few: {long}"
