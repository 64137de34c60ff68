"""`shortlist doctor`: what this installation is, and whether all of it works; for bug reports."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.cli._common import new_parser
from shortlist.cli._output import print_json, show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers

_PACKAGES = (
    *("numpy", "pyarrow", "onnxruntime", "onnxruntime-gpu", "onnx", "tensorflow-cpu"),
    *("tensorflow", "keras", "tf2onnx", "polars", "pandas", "scipy", "optuna", "implicit"),
    *("sqlalchemy", "psycopg"),
)
_DEVELOPMENT = ("dev", "bench", "peers")  # extras of this repository, not of users
_SERVE = "pip install 'shortlist[cpu]' (or 'shortlist[gpu]')"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes
    ----------
    name : str
    is_ok : bool
    found : str
        What is there, or what is wrong.
    fix : str
        What to do, where it is not ok.
    """

    name: str
    is_ok: bool
    found: str
    fix: str = ""


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "doctor",
        "Check this installation, and print what a bug report needs.",
        "shortlist doctor    # status 1 if something that serving needs does not work\n"
        "  shortlist doctor --json > report.json",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check everything; status 1 if something that serving needs does not work."""
    from shortlist import build_info

    checks = examine()
    extras, versions, build = describe_extras(), _versions(), build_info()
    is_ok = all(check.is_ok for check in checks)
    if args.json:
        listed = [asdict(check) for check in checks]
        print_json(
            {
                "is_ok": is_ok,
                "checks": listed,
                "extras": extras,
                "versions": versions,
                "build": build,
            }
        )
        return int(not is_ok)
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.is_ok else 'FAIL'} {check.name:12} {check.found}")
        lines += [f"{'':17} fix: {check.fix}"] if check.fix and not check.is_ok else []
    lines += ["", "extras"]
    for name, missing in extras.items():
        there = f"lacks {', '.join(missing)}" if missing else "installed"
        lines.append(f"  {name:16} {there}")
    for title, table in (("versions", versions), ("build", build)):
        lines += ["", title, *(f"  {name:16} {value}" for name, value in table.items())]
    show("\n".join(lines))
    return int(not is_ok)


def examine() -> list[Check]:
    """Run every check; one that fails in an unforeseen way says how."""
    checks: dict[str, Callable[[str], Check]] = {
        "python": _python,
        "cpu": _cpu,
        "library": _library,
        "pyarrow": _pyarrow,
        "engine": _engine,  # before anything imports onnxruntime, as in a host
        "onnxruntime": _onnxruntime,
        "cache": _cache,
        "temporary": _temporary,
    }
    results = []
    for name, check in checks.items():
        try:
            results.append(check(name))
        except Exception as error:  # whatever is broken, the report goes on
            results.append(Check(name, False, f"{type(error).__name__}: {error}", "report it"))
    return results


def describe_extras() -> dict[str, list[str]]:
    """Return the packages that each extra of users lacks; none: it is installed."""
    from importlib import metadata

    needs: dict[str, list[tuple[str, str]]] = {}
    for requirement in metadata.requires("shortlist") or []:
        # "onnxruntime<2,>=1.22; extra == 'cpu'"; those for some machines only are left out.
        match = re.fullmatch(
            r"""([\w.-]+)(?:\[([\w,-]+)\])?[^;]*;\s*extra == ["']([\w-]+)["']""", requirement
        )
        if match and match[3] not in _DEVELOPMENT:
            needs.setdefault(match[3], []).append((match[1], match[2] or ""))
    return {
        extra: [package for package in _packages_of(extra, needs) if _version(package) is None]
        for extra in needs
    }


def _packages_of(extra: str, needs: dict[str, list[tuple[str, str]]]) -> list[str]:
    """Return all packages of an extra, those of the extras that it names included."""
    packages: list[str] = []
    for package, inner in needs.get(extra, []):
        if package == "shortlist":
            packages += [p for name in inner.split(",") for p in _packages_of(name, needs)]
        else:
            packages.append(package)
    return packages


def _versions() -> dict[str, str]:
    found = {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in found.items() if version is not None}


def _version(package: str) -> str | None:
    from importlib import metadata  # 15 ms that other commands need not wait for

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _python(name: str) -> Check:
    return Check(name, True, f"{platform.python_version()}, {platform.platform()}")


def _cpu(name: str) -> Check:
    from shortlist import _core, get_num_threads
    from shortlist.bench.machine import cpu_model

    level = _core.simd_level()
    found = f"{cpu_model()}, {level}, {get_num_threads()} threads"
    if level == "scalar":
        return Check(name, True, f"{found} (portable code: searches take several times as long)")
    return Check(name, True, found)


def _library(name: str) -> Check:
    from shortlist import Index, plugin_path

    hits = Index([[1.0, 0.0], [0.0, 1.0]]).search([[0.0, 1.0]], top_n=1)
    if hits.item_ids.tolist() != [[1]]:
        return Check(name, False, f"{plugin_path()}: a search gives {hits}", "report it")
    return Check(name, True, f"index and operators in {plugin_path()}")


def _onnxruntime(name: str) -> Check:
    from shortlist._runtime import describe_runtime

    described = describe_runtime()
    if described.startswith("none: "):
        return Check(name, False, described.removeprefix("none: "), _SERVE)
    runtime = importlib.import_module("onnxruntime")
    providers = [provider.removesuffix("ExecutionProvider") for provider in _providers(runtime)]
    return Check(name, True, f"{described}; providers: {', '.join(providers)}")


def _providers(runtime: object) -> list[str]:
    return list(runtime.get_available_providers())  # type: ignore[attr-defined]


def _pyarrow(name: str) -> Check:
    version = _version("pyarrow")
    if version is None:
        return Check(name, False, "not installed; bundles' item tables need it", _SERVE)
    importlib.import_module("pyarrow")
    return Check(name, True, version)


def _engine(name: str) -> Check:
    from shortlist import load
    from shortlist.datasets import example_bundle
    from shortlist.errors import ShortlistError

    try:
        with load(example_bundle(), device="cpu") as engine:
            recs = engine.recommend({"history": [["winter-garden-1"]]}, top_n=3)
    except (ShortlistError, ImportError) as error:
        return Check(name, False, str(error), _SERVE)
    answer = ", ".join(map(str, recs.item_ids[0]))
    return Check(name, True, f"the example bundle answers {answer}")


def _cache(name: str) -> Check:
    from shortlist.bundle.cache import cache_root

    return _writable(name, cache_root(), "set SHORTLIST_CACHE to a folder of yours")


def _temporary(name: str) -> Check:
    return _writable(name, Path(tempfile.gettempdir()), "set TMPDIR to a folder of yours")


def _writable(name: str, folder: Path, fix: str) -> Check:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(name, False, f"{folder} cannot be written", fix)
    free = shutil.disk_usage(there).free / 2**30
    return Check(name, True, f"{folder}, {free:,.1f} GiB free")
