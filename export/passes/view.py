"""What the passes ask about a graph: who makes a value, who reads it, its type and its shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SMALL = 1024  # bytes; larger constants are no part of what shape inference looks at


class GraphView:
    """A graph without subgraphs, to be changed: `nodes` and `constants`, then `refresh`.

    Attributes
    ----------
    nodes : list of NodeProto
        In topological order, no Constant among them.
    constants : dict of str to TensorProto
        Initializers that are no inputs, and what Constant nodes hold.
    makers : dict of str to NodeProto
    readers : dict of str to list of NodeProto
        A node that reads a value twice is there twice.
    outputs : set of str
        Of the graph.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        graph = proto.graph
        inputs = {value.name for value in graph.input}
        self.constants = {t.name: t for t in graph.initializer if t.name not in inputs}
        self.outputs = {value.name for value in graph.output}
        self.nodes: list[Any] = []
        for node in graph.node:
            tensor = constant_of(node)
            if tensor is None:
                self.nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
            else:
                self.constants[node.output[0]] = tensor
        self._arrays: dict[str, NDArray[Any]] = {}
        self._n_new = 0
        self.refresh()

    def refresh(self) -> None:
        """Look again at who makes and reads what, after a change."""
        self.makers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            self.makers |= dict.fromkeys(filter(None, node.output), node)
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
        used = self.readers.keys() | self.outputs
        self.constants = {k: tensor for k, tensor in self.constants.items() if k in used}
        self._types = _infer(self.proto, self.nodes, self.constants)

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return int(next(o.version for o in self.proto.opset_import if o.domain == ""))

    def array(self, name: str) -> NDArray[Any] | None:
        """Return a constant's values, or None for what is no constant."""
        if name not in self.constants:
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self.constants[name])
        return self._arrays[name]

    def n_bytes(self, name: str) -> int:
        """Return the size of a constant."""
        tensor = self.constants[name]
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        return int(math.prod(tensor.dims) * itemsize)

    def scalar(self, name: str) -> float | None:
        """Return the value of a constant that holds one number, else None."""
        array = self.array(name) if name in self.constants and self.n_bytes(name) <= SMALL else None
        return None if array is None or array.size != 1 else array.reshape(()).item()

    def dtype(self, name: str) -> int:
        """Return the element type of a value as in TensorProto; 0 where it is not known."""
        return self._types.get(name, (0, None))[0]

    def shape(self, name: str) -> list[int | str] | None:
        """Return a value's dimensions, names for dynamic ones ("" = unknown), or None."""
        return self._types.get(name, (0, None))[1]

    def rank(self, name: str) -> int | None:
        """Return the number of a value's dimensions, or None."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def maker(self, name: str, *ops: str) -> Any:
        """Return the node that makes a value if it is one of these operators, else None."""
        node = self.makers.get(name)
        return node if node is not None and node.domain == "" and node.op_type in ops else None

    def is_read_once(self, name: str) -> bool:
        """Say whether one node reads the value, once, and it is no output of the graph."""
        return len(self.readers.get(name, [])) == 1 and name not in self.outputs

    def add_constant(self, values: NDArray[Any], like: str) -> str:
        """Add a constant; its name begins with `like`."""
        name = self.new_name(like)
        self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def new_name(self, like: str) -> str:
        """Return a name that no value of the graph has."""
        while True:
            self._n_new += 1
            name = f"{like}~{self._n_new}"
            if name not in self.makers and name not in self.constants:
                return name

    def replace(self, old: str, new: str) -> None:
        """Let everyone who reads `old` read `new`; an output of the graph keeps its name."""
        if old in self.outputs:
            raise ValueError(f"{old} is an output")
        for node in self.nodes:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new

    def to_proto(self) -> onnx.ModelProto:
        """Return the graph as it is now, as a model of its own."""
        model, graph = onnx.ModelProto(), self.proto.graph
        for field in ("ir_version", "producer_name", "producer_version"):
            setattr(model, field, getattr(self.proto, field))
        model.opset_import.extend(self.proto.opset_import)
        model.graph.name = graph.name
        model.graph.input.extend(graph.input)
        model.graph.output.extend(graph.output)
        model.graph.node.extend(self.nodes)
        inputs = {value.name for value in graph.input}
        model.graph.initializer.extend(t for t in graph.initializer if t.name in inputs)
        for name, tensor in self.constants.items():
            model.graph.initializer.add().CopyFrom(tensor)
            model.graph.initializer[-1].name = name
        return model


def constant_of(node: Any) -> TensorProto | None:
    """Return what a Constant node holds, or None for other nodes."""
    if node.op_type != "Constant" or node.domain != "":
        return None
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return value
    dtype = np.float32 if "float" in attribute.name else np.int64
    is_text = "string" in attribute.name
    return numpy_helper.from_array(np.asarray(value, np.object_ if is_text else dtype))


def attributes_of(node: Any) -> dict[str, Any]:
    """Return a node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def become(node: Any, op: str, inputs: list[str], attributes: Any = ()) -> None:
    """Make a node another one with the same result."""
    new = helper.make_node(op, inputs, list(node.output), node.name)
    new.attribute.extend(attributes)
    node.CopyFrom(new)


def with_subgraphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from with_subgraphs(attribute.g)


def _infer(
    proto: onnx.ModelProto, nodes: Sequence[Any], constants: dict[str, TensorProto]
) -> dict[str, tuple[int, list[int | str] | None]]:
    """Infer types and shapes; large constants go in as inputs, without their values."""
    info = helper.make_tensor_value_info
    small, large = [], []
    for name, tensor in constants.items():
        if tensor.ByteSize() > SMALL:
            large.append(info(name, tensor.data_type, list(tensor.dims)))
            continue
        small.append(TensorProto())
        small[-1].CopyFrom(tensor)
        small[-1].name = name
    whole = proto.graph
    inputs = {value.name for value in whole.input}
    defaults = [t for t in whole.initializer if t.name in inputs]
    graph = helper.make_graph(
        nodes, "shapes", [*whole.input, *large], whole.output, [*small, *defaults]
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        shape = None
        if kind.HasField("shape"):
            shape = [
                d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim
            ]
        types[value.name] = (kind.elem_type, shape)
    for tensor in small:
        types[tensor.name] = (tensor.data_type, list(tensor.dims))
    return types
