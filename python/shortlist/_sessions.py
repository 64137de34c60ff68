"""ONNX Runtime sessions: which device really runs, how many threads, errors that say the fix."""

import functools
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from shortlist.errors import BundleError, ShortlistError
from shortlist.threads import get_num_threads

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
# The provider that a device asks for, and those that take what it cannot run, in this order.
_PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}
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


@functools.cache  # it looks through the folders of all packages
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
        This onnxruntime has no provider for the device.
    """
    if device == "auto":
        device = "cuda" if "CUDAExecutionProvider" in available else "cpu"
    wanted = _PROVIDERS[device]
    if wanted[0] not in available:
        raise ShortlistError(
            f"device: got {device!r}, but this onnxruntime offers only {', '.join(available)}; "
            "pip uninstall onnxruntime and install 'shortlist[gpu]', or use device='cpu'"
        )
    return [name for name in wanted if name in available]


def may_give_way(device: str, n_threads: int) -> bool:
    """Say whether sessions may be opened on a thread that gives way to others.

    Not if they start threads of their own, with `n_threads` or for a GPU: these would give way for
    good. Nor with ONNX Runtime before 1.31, which holds the interpreter meanwhile.
    """
    runtime = import_runtime()
    release = tuple(int(part) for part in runtime.__version__.split(".")[:2])
    providers = choose_providers(device, runtime.get_available_providers())
    has_no_threads = (n_threads or get_num_threads()) == 1 and providers == _PROVIDERS["cpu"]
    return has_no_threads and release >= (1, 31)


def nodes_by_provider(session: Any) -> dict[str, int]:
    """Say how many nodes of a session's graph each provider runs; {} where ORT cannot tell."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):  # before ONNX Runtime 1.24
        return {}
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts


def provider_of(session: Any) -> str:
    """Return the provider that runs most nodes of a session's graph."""
    providers = session.get_providers()
    counts = nodes_by_provider(session) if len(providers) > 1 else {}
    return max(counts, key=counts.__getitem__) if counts else str(providers[0])


def open_session(
    graph: Path | bytes,
    *,
    name: str,
    device: str = "cpu",
    n_threads: int = 1,
    plugin: Path | None = None,
    cuda_graph: bool = False,
) -> Any:
    """Open a graph for inference.

    Parameters
    ----------
    graph : Path or bytes
        An ONNX file, or its content.
    name : str
        How messages name it.
    device : {"auto", "cpu", "cuda", "tensorrt"}
        `auto` takes CUDA where it works, else the CPU. `cuda` and `tensorrt` are errors where they
        do not run, or run no node of the graph.
    n_threads : int
        Threads inside one call; 0 = `shortlist.get_num_threads()`. Threads never spin: on shared
        cores spinning costs more CPU than it saves time.
    plugin : Path, optional
        libshortlist.so, for a graph with `ai.shortlist.TopN`.
    cuda_graph : bool
        Capture runs as CUDA graphs; BundleError where the graph does not allow it.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    BundleError
        The graph cannot be read.
    ShortlistError
        `device` is cuda or tensorrt and that does not start.
    """
    runtime = import_runtime()
    providers: list[Any] = choose_providers(device, runtime.get_available_providers())
    options = runtime.SessionOptions()
    options.intra_op_num_threads = n_threads or get_num_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = 3  # errors only; a fallback is reported by our own check below
    if plugin is not None:
        options.register_custom_ops_library(os.fspath(plugin))
    if cuda_graph:
        providers[0] = (providers[0], {"enable_cuda_graph": "1"})
    content = graph if isinstance(graph, bytes) else os.fspath(graph)

    def open_on(chosen: list[Any]) -> Any:
        # ONNX Runtime's own fallback prints to stdout and is silent about what it fell back to.
        return runtime.InferenceSession(content, options, providers=chosen, enable_fallback=0)

    try:
        try:
            session = open_on(providers)
        except Exception:
            if device != "auto" or cuda_graph or len(providers) == 1:
                raise
            session = open_on(_PROVIDERS["cpu"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(
            f"{name}: expected a graph ONNX Runtime can open, found {error}"
        ) from error
    if device in ("cuda", "tensorrt"):
        _check_runs(session, device, name)
    return session


def _check_runs(session: Any, device: str, name: str) -> None:
    """Refuse a session that does not run on the device that was asked for."""
    wanted, running = _PROVIDERS[device][0], session.get_providers()
    counts = nodes_by_provider(session)
    gpu = set(_PROVIDERS[device]) - {"CPUExecutionProvider"}
    if wanted in running and (not counts or gpu.intersection(counts)):
        return
    raise ShortlistError(
        f"device: got {device!r}, but {name} runs on {provider_of(session)}: the libraries of "
        f"{wanted} or a GPU are missing, or it has no kernels for this graph; install "
        "'shortlist[gpu]' on a machine with an NVIDIA driver, or use 'cpu'"
    )
