"""ONNX Runtime's library for the compiled engine: found without importing `onnxruntime`."""

import importlib.util
import os
import sys
from pathlib import Path

from shortlist.errors import ShortlistError
from shortlist.plugin import plugin_path

_INSTALL = "install one of them: pip install 'shortlist[cpu]' or 'shortlist[gpu]'"
# The compiled part of the package `onnxruntime`: it has an ONNX Runtime of its own linked in.
_MODULE = "onnxruntime.capi.onnxruntime_pybind11_state"
_SHARES_SINCE = (1, 23)  # before, its environment allows no second one beside it


def find_runtime() -> Path:
    """Return the library whose ONNX Runtime the engine is to run on.

    That is libonnxruntime.so of the package `onnxruntime`. Where the package has been imported
    already, it is the package's own compiled module, so that the process has one ONNX Runtime and
    not two; the engine knows it from this call on.

    Raises
    ------
    ShortlistError
        It is not installed, or its library is missing, or onnxruntime and onnxruntime-gpu are both
        installed: they share one folder, so which of them answers is chance.

    Notes
    -----
    Takes less than a millisecond. A package that is imported after this call is a second ONNX
    Runtime in the process. Both work on the CPU; on a GPU they share libraries that serve only the
    first.
    """
    folder = package_folder()
    library = _library_in(folder)
    if library is not None and (not _is_imported() or _release() < _SHARES_SINCE):
        return library
    return _share_module(folder)


def package_folder() -> Path:
    """Return the folder of the package `onnxruntime`; raises as `find_runtime`."""
    try:
        spec = importlib.util.find_spec("onnxruntime")
    except ValueError:  # a stand-in without a spec
        spec = None
    if spec is None or spec.origin is None:
        raise ShortlistError(
            f"onnxruntime cannot be imported (No module named 'onnxruntime'); {_INSTALL}"
        )
    folder = Path(spec.origin).parent
    if len(_wheels(folder)) > 1:
        raise ShortlistError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "pip uninstall onnxruntime onnxruntime-gpu, then install only one of them"
        )
    return folder


def describe_runtime() -> str:
    """Say in one line which ONNX Runtime is installed, or why none can be used."""
    try:
        folder = package_folder()
    except ShortlistError as error:
        return f"none: {error}"
    version = next(iter(_wheels(folder).values()), "of unknown version")
    return f"{version}, {_library_in(folder) or folder}"


def _library_in(folder: Path) -> Path | None:
    """Return libonnxruntime.so of a package folder; wheels before 1.19 have none."""
    return max(folder.glob("capi/libonnxruntime.so*"), default=None)


def _wheels(folder: Path) -> dict[str, str]:
    """Return which of the two wheels lie in a package folder, with their versions."""
    wheels = {}
    for entry in os.listdir(folder.parent):
        name, _, rest = entry.partition("-")
        version, ending = os.path.splitext(rest)
        if name in ("onnxruntime", "onnxruntime_gpu") and ending in (".dist-info", ".egg-info"):
            wheels[name] = version
    return wheels


def _is_imported() -> bool:
    """Say whether the package is whole in this process: a failed import may leave its module."""
    return _MODULE in sys.modules and "onnxruntime" in sys.modules


def _release() -> tuple[int, ...]:
    """Return the release of the imported package: (1, 32)."""
    version: str = sys.modules["onnxruntime"].__version__
    return tuple(int(part) for part in version.split(".")[:2])


def _share_module(folder: Path) -> Path:
    """Let the engine know the ONNX Runtime inside the package's module; returns the module."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ShortlistError(f"onnxruntime cannot be imported ({error}); {_INSTALL}") from error
    if _release() < _SHARES_SINCE:
        raise ShortlistError(
            f"onnxruntime {onnxruntime.__version__}: expected libonnxruntime.so in "
            f"{folder / 'capi'}, found none; pip install --upgrade 'shortlist[cpu]'"
        )
    onnxruntime.SessionOptions().register_custom_ops_library(plugin_path())
    return Path(str(sys.modules[_MODULE].__file__))
