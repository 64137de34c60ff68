"""The user encoder at fixed batch sizes: shapes never change, and buffers are bound once.

A batch is filled up to the next size, histories to their full width, and the inputs are copied into
buffers that stay on the device (IO binding), unless some of them are texts, which cannot be bound.
With CUDA the runs are captured as CUDA graphs where ONNX Runtime can: where every node of the
encoder runs on the GPU.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shortlist._columns import Array
from shortlist.errors import BundleError

OUTPUT = "user_embedding"
# What padding on the left of a history is, by input; `history` is one place that says nothing.
_PADDING = {"history_rows": -1, "history_kinds": "", "history_ages": np.float32(np.nan)}


class FixedEncoder:
    """Runs like a session of the user encoder.

    Parameters
    ----------
    open_session : callable
        Opens the encoder; with True for CUDA graphs, which may be refused with BundleError.
    sizes : tuple of int
        Batch sizes. Larger batches run as they are.
    width : int
        Items of a history.
    device : {"cpu", "cuda"}
        Where the buffers lie.
    """

    def __init__(
        self,
        open_session: Callable[[bool], Any],
        sizes: tuple[int, ...],
        width: int,
        device: str,
    ) -> None:
        self._sizes = sorted(sizes)
        self._width = width
        self._device = device
        self._free: dict[int, list[_Buffers]] = {size: [] for size in sizes}
        self._n_buffers = 0
        self._lock = threading.Lock()
        self.cuda_graphs = "no: the encoder is not on CUDA"
        if device == "cuda":
            try:
                self._session = open_session(True)
                self.cuda_graphs = "yes"
            except BundleError as error:
                self.cuda_graphs = f"no: {str(error).splitlines()[0]:.300}"
        if self.cuda_graphs != "yes":
            self._session = open_session(False)
        # ONNX Runtime's Python binds no texts.
        self._is_bound = all(v.type != "tensor(string)" for v in self._session.get_inputs())

    def run(self, outputs: list[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Return the embeddings (n, dim) of a batch."""
        n = len(feeds["history_rows"])
        size = next((size for size in self._sizes if size >= n), 0)
        if size == 0 or n == 0:
            found: list[Array] = self._session.run(outputs, feeds)
            return found
        filled = {name: self._fill(name, values, size) for name, values in feeds.items()}
        if not self._is_bound:
            return [self._session.run(outputs, filled)[0][:n]]
        try:
            buffers = self._free[size].pop()
        except IndexError:
            buffers = self._make_buffers(size)
        try:
            # CUDA graphs of one session are not to be replayed from two threads at once.
            if self.cuda_graphs == "yes":
                with self._lock:
                    return [buffers.run(filled)[:n]]
            return [buffers.run(filled)[:n]]
        finally:
            self._free[size].append(buffers)

    def report(self) -> dict[str, Any]:
        """Say which sizes there are, whether buffers are bound and CUDA graphs run."""
        return {
            "batches": self._sizes,
            "io_binding": self._is_bound,
            "cuda_graphs": self.cuda_graphs,
        }

    def _make_buffers(self, size: int) -> "_Buffers":
        with self._lock:
            self._n_buffers += 1
            number = self._n_buffers
        return _Buffers(self._session, size, self._device, number)

    def _fill(self, name: str, values: Array, size: int) -> Array:
        """Fill up to `size` rows with copies of the first, and histories on the left."""
        if name == "history":
            return values
        n = len(values)
        if name not in _PADDING:
            rest = np.repeat(values[:1], size - n, axis=0)
            return np.concatenate([values, rest])
        whole = np.full((size, self._width), _PADDING[name], dtype=values.dtype)
        start = self._width - values.shape[1]
        whole[:n, start:] = values
        whole[n:, start:] = values[:1]
        return whole


class _Buffers:
    """Inputs and output of one run at a time, bound to a session."""

    def __init__(self, session: Any, size: int, device: str, number: int) -> None:
        import onnxruntime

        self._runtime = onnxruntime
        self._session = session
        self._device = device
        self._binding = session.io_binding()
        self._inputs: dict[str, Any] = {}
        dim = next(v.shape[1] for v in session.get_outputs() if v.name == OUTPUT)
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [size, dim], np.float32, device
        )
        self._binding.bind_ortvalue_output(OUTPUT, self._output)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))

    def run(self, feeds: Mapping[str, Array]) -> Array:
        """Copy the inputs in, run, and return a copy of the output."""
        for name, values in feeds.items():
            bound = self._inputs.get(name)
            if bound is not None and bound.shape() == list(values.shape):
                bound.update_inplace(np.ascontiguousarray(values))
                continue
            # A copy: on the CPU the buffer would be the caller's array.
            value = self._runtime.OrtValue.ortvalue_from_numpy(values.copy(), self._device)
            self._inputs[name] = value
            self._binding.bind_ortvalue_input(name, value)
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._output.numpy())
