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


def test_core_sources_never_mention_python() -> None:
    pattern = re.compile(r"Python\.h|pybind11|numpy", re.IGNORECASE)
    files = [
        path
        for folder in ("include", "src", "c_api")
        for path in (ROOT / "cpp_ext" / folder).rglob("*")
        if path.suffix in {".cpp", ".hpp", ".h"}
    ]
    assert files
    for path in files:
        assert not pattern.search(path.read_text(encoding="utf-8")), path


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
