"""ONNX Runtime sessions of graphs in the making, to compare them with Keras and with an engine."""

import os
from pathlib import Path
from typing import Any

import onnxruntime

from shortlist.errors import BundleError
from shortlist.threads import get_num_threads


def open_session(
    graph: Path | bytes,
    *,
    name: str,
    n_threads: int = 1,
    plugin: Path | None = None,
    providers: tuple[str, ...] = ("CPUExecutionProvider",),
) -> Any:
    """Open a graph for inference.

    Parameters
    ----------
    graph : Path or bytes
        An ONNX file, or its content.
    name : str
        How messages name it.
    n_threads : int
        Threads inside one call; 0 = `shortlist.get_num_threads()`.
    plugin : Path, optional
        libshortlist.so, for a graph with `ai.shortlist.TopN`.
    providers : tuple of str
        Of ONNX Runtime, best first.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    BundleError
        The graph cannot be read.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or get_num_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    if plugin is not None:
        options.register_custom_ops_library(os.fspath(plugin))
    content = graph if isinstance(graph, bytes) else os.fspath(graph)
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(
            f"{name}: expected a graph ONNX Runtime can open, found {error}"
        ) from error
