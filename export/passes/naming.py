"""Names and order in a converted graph: by its content alone, not by what a process did before.

The converter numbers its names through a whole process, and the order in which it keeps constants
changes from run to run. With the names given here equal models give equal files.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

CONSTANT = "Constant"


def name_by_place(proto: onnx.ModelProto) -> None:
    """Order nodes and constants by first use, and name them after their operator and place.

    Parameters
    ----------
    proto : onnx.ModelProto
        Without subgraphs. Changed in place: inputs and outputs of the graph keep their names, and
        what no output needs is dropped.
    """
    graph = proto.graph
    _replace(graph.node, _in_order(graph))
    ends = [value.name for value in (*graph.input, *graph.output)]
    names = dict(zip(ends, ends, strict=True)) | {"": ""}
    counts: Counter[str] = Counter()

    def new_name(kind: str) -> str:
        while True:
            name = f"{kind}_{counts[kind]}"
            counts[kind] += 1
            if name not in ends:
                return name

    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = []
    for node in graph.node:
        node.name = new_name(node.op_type)
        for value in node.input:
            if value not in names:
                names[value] = new_name(CONSTANT)
            if value in constants:
                used.append(constants.pop(value))
        for place, value in enumerate(node.output):
            names.setdefault(value, f"{node.name}:{place}")
        node.input[:] = [names[value] for value in node.input]
        node.output[:] = [names[value] for value in node.output]
    used += [constants[name] for name in ends if name in constants]
    for tensor in used:
        tensor.name = names[tensor.name]
    infos = [value for value in graph.value_info if value.name in names]
    for value in infos:
        value.name = names[value.name]
    _replace(graph.initializer, used)
    _replace(graph.value_info, sorted(infos, key=lambda value: value.name))


def _in_order(graph: Any) -> list[Any]:
    """Return the nodes that the outputs need, each right before its first reader if it can be."""
    makers = {value: node for node in graph.node for value in node.output if value}
    ordered: list[Any] = []
    begun: set[str] = set()
    for output in graph.output:
        waiting = [(output.name, False)]
        while waiting:
            value, is_ready = waiting.pop()
            node = makers.get(value)
            if node is None:
                continue
            if is_ready:
                ordered.append(node)
            elif node.output[0] not in begun:
                begun.add(node.output[0])
                waiting.append((node.output[0], True))
                waiting += [(name, False) for name in reversed(node.input)]
    return ordered


def _replace(field: Any, values: list[Any]) -> None:
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)
