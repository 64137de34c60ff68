"""Nothing twice and nothing unused: passes that hold for every graph, with subgraphs too."""

from __future__ import annotations

from typing import Any

import onnx

from shortlist.export.passes.folding import SPECIAL
from shortlist.export.passes.view import GraphView, with_subgraphs

MOST_COMPARED = 1 << 16  # bytes of a constant; large ones are shared when they are written


def tidy(proto: onnx.ModelProto) -> None:
    """Drop what nobody reads, and opsets that come twice or that no node is of.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed in place.
    """
    _drop_unread(proto.graph)
    merge_opsets(proto)


def merge_opsets(proto: onnx.ModelProto) -> None:
    """Name each domain of operators once, the newest version, and only those that are used."""
    used = {node.domain for graph in with_subgraphs(proto.graph) for node in graph.node} | {""}
    versions: dict[str, int] = {}
    for opset in proto.opset_import:
        versions[opset.domain] = max(opset.version, versions.get(opset.domain, 0))
    del proto.opset_import[:]
    proto.opset_import.extend(
        onnx.helper.make_opsetid(domain, version)
        for domain, version in versions.items()
        if domain in used
    )


def _drop_unread(graph: Any) -> None:
    """Drop nodes of the main graph whose results nobody reads, and initializers."""
    inputs = {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    while True:
        read = set(outputs)
        for part in with_subgraphs(graph):
            read |= {name for node in part.node for name in node.input}
            read |= {value.name for value in part.output}
        dead = [node for node in graph.node if not read.intersection(node.output)]
        unread = [t for t in graph.initializer if t.name not in read | inputs]
        for node in dead:
            graph.node.remove(node)
        for tensor in unread:
            graph.initializer.remove(tensor)
        if not dead:
            break
    infos = [value for value in graph.value_info if value.name in read]
    infos = [type(value).FromString(value.SerializeToString()) for value in infos]
    del graph.value_info[:]
    graph.value_info.extend(infos)


def drop_dead_nodes(view: GraphView) -> bool:
    """Drop nodes whose results nobody reads."""
    used = set(view.outputs)
    nodes = []
    for node in reversed(view.nodes):
        if used.intersection(node.output):
            nodes.append(node)
            used |= set(node.input)
    changed = len(nodes) < len(view.nodes)
    view.nodes = nodes[::-1]
    return changed


def merge_equal_constants(view: GraphView) -> bool:
    """Let small constants of equal type, shape and content be one."""
    first: dict[Any, str] = {}
    renamed = {}
    for name, tensor in view.constants.items():
        array = view.array(name) if view.n_bytes(name) <= MOST_COMPARED else None
        if array is None or array.dtype == object:
            continue
        key = (tensor.data_type, tuple(tensor.dims), array.tobytes())
        other = first.setdefault(key, name)
        if other != name:
            renamed[name] = other
    return _rename(view, renamed)


def merge_equal_nodes(view: GraphView) -> bool:
    """Let nodes that do the same with the same inputs be one."""
    first: dict[Any, Any] = {}
    renamed: dict[str, str] = {}
    for node in view.nodes:
        if node.op_type in SPECIAL:
            continue
        inputs = tuple(renamed.get(name, name) for name in node.input)
        attributes = sorted(a.SerializeToString() for a in node.attribute)
        key = (node.domain, node.op_type, inputs, tuple(attributes), len(node.output))
        other = first.setdefault(key, node)
        if other is not node and not view.outputs.intersection(node.output):
            renamed |= dict(zip(node.output, other.output, strict=True))
    return _rename(view, renamed)


def _rename(view: GraphView, renamed: dict[str, str]) -> bool:
    for node in view.nodes if renamed else ():
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    return bool(renamed)
