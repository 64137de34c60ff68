"""Large tensors of a bundle's graphs: stored once, beside the graphs, as ONNX external data.

The user encoder is part of three graphs. Its tables, and the catalogue's rows, which lie in
items.index already, are referred to and not repeated. ONNX Runtime maps such files into memory.
"""

import hashlib
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from shortlist.bundle.storages import ROWS_TAG, index_sections
from shortlist.export.passes import tidy

DATA_FILE = "graphs.data"
INDEX_FILE = "items.index"
SMALLEST = 1024  # bytes; below that a reference costs more than it saves
_ALIGNMENT = 64


class SharedTensors:
    """Writes graphs whose large tensors go to one new file, each only once.

    Parameters
    ----------
    directory : Path
        Of the bundle; graphs.data is written there when the first large tensor comes.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._places: dict[bytes, tuple[int, int]] = {}
        self._size = 0

    def save(self, proto: onnx.ModelProto, name: str) -> None:
        """Write a graph to `name` without what nobody reads.

        `proto` is changed: its large tensors become references.
        """
        tidy(proto)
        _lift_constants(proto.graph)
        for tensor in proto.graph.initializer:
            # Text has no such form; the rest is little-endian in every ONNX file.
            if tensor.data_location == TensorProto.EXTERNAL:
                continue
            if tensor.data_type == TensorProto.STRING:
                continue
            content = numpy_helper.to_array(tensor).tobytes()
            if len(content) >= SMALLEST:
                refer(tensor, DATA_FILE, *self._place(content))
        onnx.save(proto, self.directory / name)

    def _place(self, content: bytes) -> tuple[int, int]:
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            padding = -self._size % _ALIGNMENT
            with (self.directory / DATA_FILE).open("ab") as file:
                file.write(bytes(padding))
                file.write(content)
            self._places[digest] = (self._size + padding, len(content))
            self._size += padding + len(content)
        return self._places[digest]


def _lift_constants(graph: Any) -> None:
    """Make initializers of large Constant nodes: only those may be references everywhere."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None and value.ByteSize() >= SMALLEST:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor a reference to bytes of a file beside the graph; its values are dropped."""
    for kind in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
        tensor.ClearField(kind)
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def index_bytes(directory: Path, name: str) -> TensorProto:
    """Return a uint8 tensor that is the whole index file."""
    size = (directory / INDEX_FILE).stat().st_size
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[size])
    refer(tensor, INDEX_FILE, 0, size)
    return tensor


def index_rows(directory: Path, name: str, data_type: int, shape: tuple[int, int]) -> TensorProto:
    """Return the tensor (n_items, dim) that lies in the index file as its rows."""
    offset, size = index_sections(directory / INDEX_FILE)[ROWS_TAG]
    tensor = TensorProto(name=name, data_type=data_type, dims=shape)
    refer(tensor, INDEX_FILE, offset, size)
    return tensor
