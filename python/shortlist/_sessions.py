"""ONNX Runtime sessions: which device really runs, how many threads, errors that say the fix."""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from shortlist.errors import BundleError, ShortlistError
from shortlist.threads import get_num_threads

DEVICES = ("auto", "cpu", "cuda")
_INSTALL = "install one of them: pip install 'shortlist[cpu]' or 'shortlist[gpu]'"


def import_runtime() -> Any:
    """Import onnxruntime, or say what to install.

    Raises
    ------
    ShortlistError
        It is not installed, or onnxruntime and onnxruntime-gpu both are: they share one folder,
        so which of them answers is chance.
    """
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(found) > 1:
        raise ShortlistError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "pip uninstall onnxruntime onnxruntime-gpu, then install only one of them"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise ShortlistError(f"onnxruntime cannot be imported ({error}); {_INSTALL}") from error
    return onnxruntime


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_device(device: str) -> None:
    """Refuse a device that is not one of auto, cpu, cuda."""
    if device not in DEVICES:
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(DEVICES)}")


def choose_providers(device: str, available: list[str]) -> list[str]:
    """Return ONNX Runtime providers for `device`, best first.

    Raises
    ------
    ShortlistError
        `device` is cuda and this onnxruntime has no CUDA provider.
    """
    if device == "cpu" or (device == "auto" and "CUDAExecutionProvider" not in available):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise ShortlistError(
            f"device: got 'cuda', but this onnxruntime offers only {', '.join(available)}; "
            "pip uninstall onnxruntime and install 'shortlist[gpu]', or use device='cpu'"
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def open_session(
    graph: Path | bytes,
    *,
    name: str,
    device: str = "cpu",
    n_threads: int = 1,
    plugin: Path | None = None,
) -> Any:
    """Open a graph for inference.

    Parameters
    ----------
    graph : Path or bytes
        An ONNX file, or its content.
    name : str
        How messages name it.
    device : {"auto", "cpu", "cuda"}
        `auto` takes CUDA where it works, else the CPU. `cuda` is an error where it does not.
    n_threads : int
        Threads inside one call; 0 = `shortlist.get_num_threads()`. Threads never spin: on shared
        cores spinning costs more CPU than it saves time.
    plugin : Path, optional
        libshortlist.so, for a graph with `ai.shortlist.TopN`.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    BundleError
        The graph cannot be read.
    ShortlistError
        `device` is cuda and CUDA does not start.
    """
    runtime = import_runtime()
    providers = choose_providers(device, runtime.get_available_providers())
    options = runtime.SessionOptions()
    options.intra_op_num_threads = n_threads or get_num_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; a fallback is reported by our own check below
    if plugin is not None:
        options.register_custom_ops_library(os.fspath(plugin))
    content = graph if isinstance(graph, bytes) else os.fspath(graph)
    try:
        session = runtime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(
            f"{name}: expected a graph ONNX Runtime can open, found {error}"
        ) from error
    running = session.get_providers()
    if device == "cuda" and running[0] != "CUDAExecutionProvider":
        raise ShortlistError(
            f"device: got 'cuda', but {name} runs on {running[0]}: the CUDA libraries or a GPU are "
            "missing; install 'shortlist[gpu]' on a machine with an NVIDIA driver, or use 'cpu'"
        )
    return session
