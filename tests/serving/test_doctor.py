"""`shortlist doctor` says what this installation is, and what of it does not work."""

from __future__ import annotations

import json
import platform

import pytest

import shortlist
from shortlist.cli import doctor, main
from shortlist.errors import ShortlistError


def test_a_whole_installation_passes_every_check(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert [line.split()[:2] for line in lines[:8]] == [
        ["ok", name]
        for name in ("python", "cpu", "library", "pyarrow", "engine", "onnxruntime", "cache",
                     "temporary")
    ]  # fmt: skip
    assert "the example bundle answers winter-garden-2" in shown
    assert "providers: " in shown
    assert shortlist.simd_level() in lines[1]
    assert f"  version          {shortlist.__version__}" in lines


def test_the_report_as_json_has_all_of_it(capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_ok"] is True
    assert report["build"] == shortlist.build_info()
    assert report["versions"]["numpy"] == shortlist.build_info()["numpy"]
    assert report["extras"]["cpu"] == []
    assert {"train", "gpu", "postgres", "tune", "ials"} <= set(report["extras"])
    assert "dev" not in report["extras"]


def test_what_serving_lacks_fails_with_the_fix(monkeypatch, capsys):
    def none(*args, **kwargs):
        raise ShortlistError("onnxruntime cannot be imported")

    monkeypatch.setattr("shortlist.load", none)
    monkeypatch.setattr("shortlist._runtime.describe_runtime", lambda: "none: not installed")
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = {line.split()[1]: line for line in lines if line.startswith("FAIL")}
    assert set(failed) == {"engine", "onnxruntime"}
    assert failed["engine"].endswith("onnxruntime cannot be imported")
    assert sum("fix: pip install 'shortlist[cpu]'" in line for line in lines) == 2


def test_a_check_that_breaks_is_a_line_and_the_report_goes_on(monkeypatch):
    monkeypatch.setattr("shortlist.plugin_path", lambda: 1 / 0)
    (broken,) = [check for check in doctor.examine() if not check.is_ok]
    assert broken.name == "library"
    assert broken.found == "ZeroDivisionError: division by zero"


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHORTLIST_CACHE", str(tmp_path / "file" / "cache"))
    (broken,) = [check for check in doctor.examine() if not check.is_ok]
    assert (broken.name, broken.fix) == ("cache", "set SHORTLIST_CACHE to a folder of yours")
    assert broken.found == f"{tmp_path}/file/cache cannot be written"


def test_extras_name_the_packages_they_lack(monkeypatch):
    requirements = [
        "numpy>=2.0",
        "onnxruntime<2,>=1.22; extra == 'cpu'",
        "shortlist[cpu]; extra == 'train'",
        'polars<3,>=2.0; extra == "train"',
        "nonesuch[x,y]>=1; extra == 'train'",
        "implicit>=0.7.3; python_version < '3.14' and extra == 'train'",
        "ruff; extra == 'dev'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)
    there = {"polars": "2"}
    monkeypatch.setattr(doctor, "_version", there.get)
    assert doctor.describe_extras() == {
        "cpu": ["onnxruntime"],
        "train": ["onnxruntime", "nonesuch"],
    }


def test_version_is_the_short_form(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    start = f"shortlist {shortlist.__version__} (Python {platform.python_version()}, "
    assert shown.startswith(f"{start}{shortlist.simd_level()}, onnxruntime ")
    assert shown.count("\n") == 1
