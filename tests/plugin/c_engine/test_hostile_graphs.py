"""Graphs that read files, loop or hide something are refused before ONNX Runtime sees them."""

import shutil
import time

import numpy as np
import onnx
import pytest
from c_engine import CEngine, open_engine
from c_library import FILE_ERROR, CError
from onnx import TensorProto, helper
from worlds import rewritten

import shortlist

OUTSIDE = "lie in a file that the manifest lists, found the location"
ONLY_BRANCHES = "expected no loops, and graphs inside of If alone, found a graph inside of operator"
KNOWN = "expected operators of ONNX, ai.onnx.ml, com.microsoft and ai.shortlist that open no files"
NOT_ONNX = "expected a graph ONNX Runtime can open, found bytes that are no ONNX graph"


@pytest.fixture
def copy(bundle, tmp_path):
    path = tmp_path / "tiny.shortlist"
    shutil.copytree(bundle.path, path)
    return path


def external(location, name="table"):
    """A tensor that says that its values lie elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("length", "8"), ("location", location)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def constant(tensor, name="hidden"):
    return helper.make_node("Constant", [], [name], name=name, value=tensor)


def body(nodes, initializers=(), sparse=()):
    """A graph to be put inside of an operator."""
    graph = helper.make_graph(nodes, "body", [], [], initializer=list(initializers))
    graph.sparse_initializer.extend(sparse)
    return graph


def branch(graph):
    return helper.make_node(
        "If", ["yes"], ["taken"], name="branch", then_branch=graph, else_branch=body([])
    )


def nested(depth):
    graph = body([constant(external("../inner"))])
    for _ in range(depth):
        graph = body([branch(graph)])
    return branch(graph)


def sparse(values, indices):
    made = onnx.SparseTensorProto(dims=[4])
    made.values.CopyFrom(values)
    made.indices.CopyFrom(indices)
    return made


def node(kind, domain="", **attributes):
    return helper.make_node(kind, ["x"], ["y"], name="evil", domain=domain, **attributes)


def with_nodes(*nodes):
    return lambda model: model.graph.node.extend(nodes)


def with_initializers(*tensors):
    return lambda model: model.graph.initializer.extend(tensors)


def with_sparse(tensor):
    return lambda model: model.graph.sparse_initializer.append(tensor)


def add_function(model):
    model.functions.add(name="again", domain="ai.onnx.ml")


def add_training(model):
    model.training_info.add()


small = helper.make_tensor("small", TensorProto.FLOAT, [2], [1, 2])
places = helper.make_tensor("places", TensorProto.INT64, [2], [0, 1])
HOSTILE = {
    "folder above": (with_initializers(external("../secret")), f"tensor 'table' to {OUTSIDE} '../"),
    "absolute path": (with_initializers(external("/etc/passwd")), f"{OUTSIDE} '/etc/passwd'"),
    "the folder itself": (with_initializers(external("./graphs.data")), f"{OUTSIDE} './graphs"),
    "a file that is not listed": (with_initializers(external("manifest.json")), f"{OUTSIDE} 'man"),
    "no name": (with_initializers(external("")), f"{OUTSIDE} ''"),
    "memory": (with_initializers(external("*/_ORT_MEM_ADDR_/*")), rf"{OUTSIDE} '\*/_ORT_MEM_ADDR"),
    "hidden letters": (with_initializers(external("a\x1b[2J\0é", "t\nü")),
                       r"'t\?ü' to .* 'a\?\[2J\?é'"),
    "constant": (with_nodes(constant(external("../x"))), f"{OUTSIDE} '../x'"),
    "list of tensors": (with_nodes(node("Any", tensors=[small, external("../x")])), OUTSIDE),
    "sparse values": (with_sparse(sparse(external("../x"), places)), OUTSIDE),
    "sparse indices": (with_sparse(sparse(small, external("../x"))), OUTSIDE),
    "sparse constant": (with_nodes(node("Constant", sparse_value=sparse(external("../x"), places))),
                        OUTSIDE),
    "branch": (with_nodes(branch(body([constant(external("../x"))]))), OUTSIDE),
    "initializer of a branch": (with_nodes(branch(body([], [external("../x")]))), OUTSIDE),
    "sparse in a branch": (with_nodes(branch(body([], [], [sparse(external("../x"), places)]))),
                           OUTSIDE),
    "branches of branches": (with_nodes(nested(9)), f"{OUTSIDE} '../inner'"),
    "too many branches": (with_nodes(nested(20)), "at most 16 graphs inside of one another"),
    "Loop": (with_nodes(node("Loop", body=body([]))),
             rf"{ONLY_BRANCHES} 'Loop' \(node 'evil'\); a bundle that shortlist has exported"),
    "Scan": (with_nodes(node("Scan", body=body([]), num_scan_inputs=1)), f"{ONLY_BRANCHES} 'Scan'"),
    "SequenceMap": (with_nodes(node("SequenceMap", body=body([]))), f"{ONLY_BRANCHES} 'SequenceM"),
    "search": (with_nodes(node("BeamSearch", "com.microsoft", decoder=body([]))),
               f"{ONLY_BRANCHES} 'BeamSearch' of 'com.microsoft'"),
    "another If": (with_nodes(node("If", "com.microsoft", body=body([]))), ONLY_BRANCHES),
    "list of graphs": (with_nodes(node("Any", graphs=[body([])])), ONLY_BRANCHES),
    "loop in a branch": (with_nodes(branch(body([node("Loop", body=body([]))]))), ONLY_BRANCHES),
    "foreign domain": (with_nodes(node("Run", "ai.evil")),
                       rf"{KNOWN}, found operator 'Run' of 'ai.evil' \(node 'evil'\)"),
    "compiled part": (with_nodes(node("EPContext", "com.microsoft")), f"{KNOWN}, .* 'EPContext'"),
    "function": (add_function, "expected no functions of its own"),
    "training": (add_training, "expected a graph to be run, found one to be trained"),
}  # fmt: skip


def check_refused(path, bundle, message):
    for call in (open_engine, lambda path: shortlist.load(path, device="cpu")):
        with pytest.raises((CError, shortlist.BundleError), match=message) as caught:
            call(path)
        assert getattr(caught.value, "status", FILE_ERROR) == FILE_ERROR
    with CEngine(bundle.path) as engine, pytest.raises(CError, match=message):
        engine.swap(path)
    with shortlist.load(bundle.path) as engine, pytest.raises(shortlist.BundleError, match=message):
        engine.swap(path)


def changed(copy, name, change):
    model = onnx.load(copy / name, load_external_data=False)
    change(model)
    return rewritten(copy, {name: model.SerializeToString()})


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_graph_is_refused_by_name(kind, copy, bundle):
    change, message = HOSTILE[kind]
    path = changed(copy, "recommend.onnx", change)
    check_refused(path, bundle, rf"again\.shortlist/recommend\.onnx: .*{message}")


GRAPHS = ["item_encoder", "recommend", "recommend_portable", "scorer", "user_encoder"]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_of_a_bundle_is_checked(name, copy, bundle):
    assert (copy / f"{name}.onnx").exists()
    path = changed(copy, f"{name}.onnx", with_initializers(external("../secret")))
    check_refused(path, bundle, rf"again\.shortlist/{name}\.onnx: expected tensor 'table' to")


def test_a_large_tensor_of_the_bundle_that_moves_outside_is_refused(copy, bundle):
    graph = (copy / "recommend.onnx").read_bytes()
    assert graph.count(b"graphs.data") > 0
    (copy.parent / "aphs.dat").write_bytes((copy / "graphs.data").read_bytes())
    path = rewritten(copy, {"recommend.onnx": graph.replace(b"graphs.data", b"../aphs.dat")})
    check_refused(path, bundle, f"{OUTSIDE} '../aphs.dat'")


def number(value, n_bytes=1):
    """A number as protocol buffers write it, with bytes that add nothing up to `n_bytes`."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * (n_bytes - len(groups))
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def part(field, content, n_bytes=1):
    return number(field << 3 | 2, n_bytes) + number(len(content), n_bytes) + content


LOOP = node("Loop", body=body([])).SerializeToString()
WRITTEN = {
    # What protocol buffers read as one more part of the same graph.
    "graph in two parts": (part(7, part(1, LOOP)), ONLY_BRANCHES),
    "long numbers": (part(7, part(1, LOOP, 5), 5), ONLY_BRANCHES),
    "the last operator counts": (
        part(7, part(1, part(4, b"If") + LOOP)), f"{ONLY_BRANCHES} 'Loop'"),
    "the last domain counts": (
        part(7, part(1, part(7, b"") + part(4, b"Run") + part(7, b"evil"))), KNOWN),
    "the last location counts": (
        part(7, part(5, part(13, part(1, b"location") + part(2, b"graphs.data") + part(2, b"/x")))),
        f"{OUTSIDE} '/x'"),
    "the last key counts": (
        part(7, part(5, part(13, part(1, b"x") + part(2, b"/x") + part(1, b"location")))),
        f"{OUTSIDE} '/x'"),
    "attribute in two parts": (
        part(7, part(1, part(5, part(1, b"value") + part(5, external("/x").SerializeToString())))),
        f"{OUTSIDE} '/x'"),
    # What no other reader takes, or each in a way of its own.
    "group": (number(7 << 3 | 3) + part(1, LOOP) + number(7 << 3 | 4), NOT_ONNX),
    "field 0": (number(2) + number(0), NOT_ONNX),
    "field beyond 32 bits": (number(1 << 32 | 7 << 3 | 2) + number(0), NOT_ONNX),
    "long field": (part(7, b"", 6), NOT_ONNX),
    "long size": (number(7 << 3 | 2) + number(0, 6), NOT_ONNX),
    "beyond the end": (number(7 << 3 | 2) + number(1) , NOT_ONNX),
    "endless number": (number(1 << 3) + b"\xff" * 11, NOT_ONNX),
    "half a number": (number(1 << 3) + b"\xff", NOT_ONNX),
    "half a float": (number(1 << 3 | 5) + b"\0\0\0", NOT_ONNX),
    "half a double": (number(1 << 3 | 1) + b"\0" * 7, NOT_ONNX),
    "wire type 6": (number(1 << 3 | 6), NOT_ONNX),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITTEN)
def test_nothing_is_hidden_in_how_a_graph_is_written(kind, copy, bundle):
    more, message = WRITTEN[kind]
    content = (copy / "recommend.onnx").read_bytes() + more
    path = rewritten(copy, {"recommend.onnx": content})
    check_refused(path, bundle, rf"recommend\.onnx: .*{message}")


def message_of(path):
    """What the engine says of a bundle; "" if it opens."""
    try:
        with CEngine(path):
            return ""
    except CError as error:
        return str(error)


def test_a_cut_graph_is_refused_or_is_a_smaller_graph(copy):
    """A cut between two fields leaves a graph, and nobody runs this one."""
    content = (copy / "scorer.onnx").read_bytes()
    said = [
        message_of(rewritten(copy, {"scorer.onnx": content[:size]}))
        for size in np.linspace(1, len(content) - 1, 25).astype(int).tolist()
    ]
    assert all(one == "" or NOT_ONNX in one for one in said)
    assert sum(NOT_ONNX in one for one in said) > 20


def test_an_empty_graph_is_refused(copy, bundle):
    path = rewritten(copy, {"scorer.onnx": b""})
    check_refused(path, bundle, "scorer.onnx: expected a graph ONNX Runtime can open, found no by")


def test_the_check_takes_no_longer_than_a_graph_is_long(copy):
    """Many small parts, and what is refused comes last."""
    nodes = part(1, part(4, b"Add") + part(5, b"") * 3) * 200_000
    words = part(5, part(6, b"word") * 300_000)
    end = part(5, external("../end").SerializeToString())
    path = rewritten(copy, {"scorer.onnx": part(7, nodes + words + end)})
    start = time.process_time()
    with pytest.raises(CError, match=r"\.\./end"):
        open_engine(path)
    assert time.process_time() - start < 5  # a quadratic reader takes minutes


def test_files_of_the_bundle_may_be_read_whatever_they_are_called(copy):
    """An attacker's own file, listed with its hash, is as good as graphs.data."""
    model = onnx.load(copy / "recommend.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entry.value.replace("graphs.data", "more-1.bin")
    files = {"recommend.onnx": model.SerializeToString()}
    files["more-1.bin"] = (copy / "graphs.data").read_bytes()
    with CEngine(rewritten(copy, files)) as engine, CEngine(copy) as plain:
        found, expected = (one.recommend([], 1, 9) for one in (engine, plain))
    assert found.scores.tobytes() == expected.scores.tobytes()
