"""Checks that every graph passes, whoever made it; no TensorFlow here."""

from collections.abc import Sequence

import onnx

from shortlist.export.errors import ExportError
from shortlist.export.passes.view import with_subgraphs
from shortlist.training.graphs.sessions import open_session

MAX_BYTES = 2**31 - 1  # of one protobuf message


def rename_value(proto: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a value everywhere in the main graph: outputs, nodes' inputs and outputs."""
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in (*proto.graph.output, *proto.graph.value_info):
        if value.name == old:
            value.name = new


def check_interface(proto: onnx.ModelProto, inputs: Sequence[str], output: str) -> None:
    """Refuse a graph whose inputs are not exactly `inputs`, or whose output is not `output`.

    A tensor that TensorFlow captured by value shows up as one more required input.
    """
    names = {value.name for value in proto.graph.input}
    if names != set(inputs):
        extra, missing = sorted(names - set(inputs)), sorted(set(inputs) - names)
        raise ExportError(
            f"{output}: expected the inputs {sorted(inputs)}, found {extra} more and {missing} "
            "missing; one more is a tensor the layers captured: make it a weight"
        )
    outputs = [value.name for value in proto.graph.output]
    if outputs != [output]:
        raise ExportError(f"{output}: expected this output alone, found {outputs}")


def check_model(proto: onnx.ModelProto, output: str) -> None:
    """Run onnx.checker with shape inference, and open the graph in ONNX Runtime; refuse loops."""
    if proto.ByteSize() > MAX_BYTES:
        raise ExportError(
            f"{output}: the graph has {proto.ByteSize():,} bytes, expected at most {MAX_BYTES:,}; "
            "use a smaller dim or fewer items"
        )
    for node in proto.graph.node:
        if node.domain == "" and not onnx.defs.has(node.op_type):
            raise ExportError(f"{output}: ONNX has no operator {node.op_type} (node {node.name})")
    _refuse_loops(proto.graph, output)
    try:
        onnx.checker.check_model(proto, full_check=True)
        open_session(proto.SerializeToString(), name=output)
    except Exception as error:
        raise ExportError(f"{output}: the converted graph is not valid: {error}") from error


def _refuse_loops(graph: onnx.GraphProto, output: str) -> None:
    """Refuse what an engine refuses: graphs inside of other operators than If."""
    for part in with_subgraphs(graph):
        for node in part.node:
            kinds = {attribute.type for attribute in node.attribute}
            if node.op_type != "If" and onnx.AttributeProto.GRAPH in kinds:
                raise ExportError(
                    f"{output}: expected layers without loops, found the operator {node.op_type} "
                    f"(node {node.name}), and an engine opens no graph with loops; use operations "
                    "on whole tensors in place of while_loop, scan and recurrent layers, or the "
                    "encoder 'gru'"
                )
