"""What a benchmark figure depends on: CPU, SIMD level, threads, versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from shortlist import __version__, simd_level

__all__ = ["cpu_model", "describe_machine"]

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu")


def cpu_model() -> str:
    """Return the name of the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: fall through to what Python knows
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe_machine() -> dict[str, object]:
    """Describe the machine a figure was measured on.

    Returns
    -------
    dict
        `cpu`, `n_cpus` (usable by this process), `simd_level`, `load_average` (1 minute, before
        the run), `os`, and `versions` of everything that does arithmetic.
    """
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "cpu": cpu_model(),
        "n_cpus": len(os.sched_getaffinity(0)),
        "simd_level": simd_level(),
        "load_average": round(os.getloadavg()[0], 2),
        "os": platform.platform(),
        "versions": {"shortlist": __version__, "python": platform.python_version()}
        | {name: version for name, version in versions.items() if version},
    }
