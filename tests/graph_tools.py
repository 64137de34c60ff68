"""What a bundle's graphs must stand besides ONNX Runtime's own eyes: other people's tools."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from shortlist.plugin import plugin_path

PLUGIN = "recommend.onnx"
# ONNX Runtime warns of every input with a default value, whatever the graph (Graph::Graph in its
# graph.cc, since IR version 4). ONNX has no other optional inputs.
DEFAULT = "appears in graph inputs and will not be treated as constant value/weight"
LOAD = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 2
if sys.argv[2]:
    options.register_custom_ops_library(sys.argv[2])
onnxruntime.InferenceSession(sys.argv[1], options)
"""


def graphs_of(bundle):
    """Give the paths of a bundle's graphs."""
    return sorted(Path(bundle).glob("*.onnx"))


def session(path):
    """Open a graph, with our operators if it has some."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if has_operators(path):
        options.register_custom_ops_library(plugin_path())
    return onnxruntime.InferenceSession(path, options)


def has_operators(path):
    """Say whether a graph needs our library."""
    opsets = onnx.load(path, load_external_data=False).opset_import
    return "ai.shortlist" in {entry.domain for entry in opsets}


def check_domains(path):
    """Each domain once, and only those of which there are nodes."""
    opsets = [o.domain for o in onnx.load(path, load_external_data=False).opset_import]
    assert len(opsets) == len(set(opsets))
    onnx.checker.check_model(str(path), full_check=True)


def check_warnings(path):
    """No warning at load but that inputs with default values are no constants."""
    library = plugin_path() if has_operators(path) else ""
    command = [sys.executable, "-c", LOAD, str(path), library]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    expected = {value.name for value in session(path).get_overridable_initializers()}
    lines = [line for line in told.splitlines() if line.strip("\x1b[m")]
    warned = {line.split("Initializer ")[1].split(" ")[0] for line in lines if DEFAULT in line}
    assert len(lines) == len(warned), told
    assert warned == expected


def check_without_defaults(path, feeds):
    """A graph whose defaults are taken out warns of nothing, and computes the same from all inputs.

    The snippet of docs/plugin.md.
    """
    bare = path.parent / "bare.onnx"
    proto = onnx.load(path, load_external_data=False)
    inputs = {value.name for value in proto.graph.input}
    usual = {}
    for tensor in [t for t in proto.graph.initializer if t.name in inputs]:
        usual[tensor.name] = onnx.numpy_helper.to_array(tensor)
        proto.graph.initializer.remove(tensor)
    try:
        onnx.save(proto, bare)
        check_warnings(bare)
        expected = session(path).run(None, feeds)
        for one, other in zip(session(bare).run(None, usual | feeds), expected, strict=True):
            assert one.tolist() == other.tolist()
    finally:
        bare.unlink(missing_ok=True)


def check_quantizer(path):
    """ONNX Runtime's dynamic quantiser reads it, and what it writes loads; returns that."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, quantized = path.parent / "prepared.onnx", path.parent / "quantized.onnx"
    try:
        # Its own optimisation writes to another folder, where the external data are not.
        quant_pre_process(path, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(prepared, quantized, weight_type=QuantType.QInt8)
        session(quantized)
        return quantized.read_bytes()
    finally:
        for file in (prepared, quantized):
            file.unlink(missing_ok=True)


def check_slimmer(path, feeds):
    """onnxslim reads it, and what it gives computes the same; returns that.

    It makes default values constants.
    """
    import onnxslim

    slim = path.parent / "slim.onnx"
    try:
        found = onnxslim.slim(str(path), skip_fusion_patterns=["FusionGemm"])
        onnx.save(found, slim)
        names = {value.name for value in session(slim).get_inputs()}
        given = {name: values for name, values in feeds.items() if name in names}
        expected = session(path).run(None, given)
        for one, other in zip(session(slim).run(None, given), expected, strict=True):
            check_close(one, other)
        return slim.read_bytes()
    finally:
        slim.unlink(missing_ok=True)


def check_reference(path, feeds):
    """The reference evaluator computes the same, in plain NumPy.

    It knows no com.microsoft (text features), its GRU ignores the lengths of the rows, and its
    GatherElements takes at most 64 places.
    """
    names = [value.name for value in session(path).get_outputs()]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = ReferenceEvaluator(onnx.load(path)).run(names, feeds)
    for one, other in zip(found, session(path).run(names, feeds), strict=True):
        check_close(np.asarray(one), other)


def check_close(one, other):
    """Equal numbers up to rounding, equal texts."""
    assert one.shape == other.shape
    if other.dtype.kind == "f":
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    else:
        assert one.tolist() == other.tolist()


def copy_of(bundle, folder):
    """Copy a bundle's graphs and what they refer to, so that tools may write beside them."""
    for file in Path(bundle).iterdir():
        if file.suffix in (".onnx", ".data", ".index"):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder
