"""Leaner graphs compute the same: each pass on the idiom it is for, and on its near misses."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortlist.export.passes import name_by_place, simplify, tables, tidy
from shortlist.training.graphs.nodes import Nodes

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RANDOM = np.random.default_rng(3)
N_CODES = 30


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def model(nodes, inputs, *, opset=18, kind=FLOAT):
    """A graph whose output is the last node's."""
    info = helper.make_tensor_value_info
    output = nodes.nodes[-1].output[0]
    graph = helper.make_graph(
        nodes.nodes,
        "g",
        [info(name, *told) for name, told in inputs.items()],
        [info(output, kind, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def run(proto, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return session.run(None, feeds)[0]


def check(nodes, inputs, feeds, expected, *, n_codes=None, **options):
    """Simplify, compare on the feeds, and count the operators."""
    proto = model(nodes, inputs, **options)
    before = proto.SerializeToString()
    lean = simplify(proto, n_codes or {})
    assert proto.SerializeToString() == before
    onnx.checker.check_model(lean, full_check=True)
    np.testing.assert_allclose(run(lean, feeds), run(proto, feeds), rtol=1e-5, atol=1e-5)
    assert [v.name for v in lean.graph.input] == list(inputs)
    assert lean.graph.output[0].name == proto.graph.output[0].name
    assert Counter(node.op_type for node in lean.graph.node) == Counter(expected)
    return lean


X = {"x": (FLOAT, ["n", "m"])}
ROWS = {"x": (FLOAT, ["n", 6])}


def test_constants_are_folded_merged_and_dropped_and_dead_nodes_too():
    nodes = Nodes("a")
    two = nodes.add("Add", nodes.constant(1, np.float32), nodes.constant(1, np.float32))
    nodes.add("Exp", "x")  # nobody reads it
    first = nodes.add("Mul", "x", two)
    second = nodes.add("Mul", "x", nodes.constant(2, np.float32))
    nodes.add("Sub", nodes.add("Exp", first), nodes.add("Neg", nodes.add("Exp", second)))
    lean = check(nodes, X, {"x": normal(3, 4)}, ["Mul", "Exp", "Neg", "Sub"])
    assert len(lean.graph.initializer) == 1


def test_a_constant_that_would_grow_is_not_folded():
    nodes = Nodes("a")
    shape = nodes.constant([300, 300], np.int64)
    nodes.add("Add", "x", nodes.add("Expand", nodes.constant(1, np.float32), shape))
    check(nodes, X, {"x": normal(300, 300)}, ["Expand", "Add"])


def test_what_is_random_is_not_folded_and_not_merged():
    nodes = Nodes("a")
    draws = [nodes.add("RandomNormal", shape=[4]) for _ in range(2)]
    nodes.add("Add", "x", nodes.add("Sub", *draws))
    lean = simplify(model(nodes, X), {})
    assert sum(node.op_type == "RandomNormal" for node in lean.graph.node) == 2


def test_casts_and_comparisons_of_integers_stay_integers():
    nodes = Nodes("a")
    same = nodes.add("Cast", "x", to=FLOAT)
    mask = nodes.add("Greater", nodes.add("Cast", "i", to=FLOAT), nodes.constant(0, np.float32))
    nodes.add("Where", mask, same, nodes.constant(-1, np.float32))
    inputs = X | {"i": (INT64, ["n", 1])}
    feeds = {"x": normal(4, 3), "i": np.array([[0], [5], [-2], [1]])}
    check(nodes, inputs, feeds, ["Greater", "Where"])


def test_a_comparison_with_a_part_of_a_number_stays():
    nodes = Nodes("a")
    nodes.add("Greater", nodes.add("Cast", "i", to=FLOAT), nodes.constant(0.5, np.float32))
    check(nodes, {"i": (INT64, ["n"])}, {"i": np.arange(3)}, ["Cast", "Greater"], kind=BOOL)


def test_selections_by_products_with_masks_become_where():
    nodes = Nodes("a")
    mask = nodes.add("Greater", "x", nodes.constant(0, np.float32))
    yes = nodes.add("Mul", nodes.add("Cast", mask, to=FLOAT), "x")
    inverse = nodes.add("Cast", nodes.add("Not", mask), to=FLOAT)
    nodes.add("Add", yes, nodes.add("Mul", nodes.constant(-9, np.float32), inverse))
    check(nodes, X, {"x": normal(4, 3)}, ["Greater", "Where"])


def test_round_trips_identities_and_slices_of_everything_go():
    nodes = Nodes("a")
    axes = nodes.constant([1], np.int64)
    back = nodes.add("Squeeze", nodes.add("Unsqueeze", "x", axes), axes)
    zero, end = nodes.constant([0], np.int64), nodes.constant([2**31 - 1], np.int64)
    whole = nodes.add("Slice", nodes.add("Identity", back), zero, end)
    nodes.add("Exp", nodes.add("Slice", whole, zero, nodes.constant([2], np.int64)))
    check(nodes, X, {"x": normal(4, 3)}, ["Slice", "Exp"])


def test_softmax_is_over_the_last_axis():
    nodes = Nodes("a")
    nodes.add("Transpose", nodes.add("Softmax", "x", axis=1), perm=[0, 2, 1])
    inputs = {"x": (FLOAT, ["n", "length", 6])}
    lean = check(nodes, inputs, {"x": normal(2, 3, 6)}, ["Transpose", "Softmax"])
    assert [node.op_type for node in lean.graph.node] == ["Transpose", "Softmax"]
    nodes = Nodes("a")
    nodes.add("Transpose", nodes.add("Softmax", "x", axis=2), perm=[0, 2, 1])
    lean = check(nodes, inputs, {"x": normal(2, 3, 6)}, ["Softmax", "Transpose"])
    assert lean.graph.node[0].op_type == "Softmax"


def test_kerass_products_of_three_dimensions_are_one_node():
    nodes, matrix = Nodes("a"), normal(6, 5)
    flat = nodes.add("Reshape", "x", nodes.constant([-1, 6], np.int64))
    product = nodes.add("MatMul", flat, nodes.constant(matrix, np.float32))
    whole = nodes.add("Cast", nodes.add("Shape", "x"), to=TensorProto.INT32)
    front = nodes.add("Gather", whole, nodes.constant([0, 1], np.int64))
    shape = nodes.add("Concat", front, nodes.constant([5], np.int32), axis=0)
    nodes.add("Reshape", product, nodes.add("Cast", shape, to=INT64))
    inputs = {"x": (FLOAT, ["n", "length", 6])}
    lean = check(nodes, inputs, {"x": normal(2, 3, 6)}, ["MatMul"])
    assert lean.graph.node[0].input[0] == "x"


def test_a_product_that_is_brought_into_another_shape_stays():
    nodes = Nodes("a")
    flat = nodes.add("Reshape", "x", nodes.constant([-1, 6], np.int64))
    product = nodes.add("MatMul", flat, nodes.constant(normal(6, 5), np.float32))
    nodes.add("Reshape", product, nodes.constant([-1, 2, 5], np.int64))
    inputs = {"x": (FLOAT, ["n", "length", 6])}
    check(nodes, inputs, {"x": normal(2, 3, 6)}, ["Reshape", "MatMul", "Reshape"])


def test_rows_are_divided_by_their_norm():
    nodes = Nodes("a")
    total = nodes.add(
        "ReduceSum", nodes.add("Mul", "x", "x"), nodes.constant([-1], np.int64), keepdims=1
    )
    least = nodes.add("Max", total, nodes.constant(1e-12, np.float32))
    nodes.add("Mul", "x", nodes.add("Reciprocal", nodes.add("Sqrt", least)))
    values = normal(4, 6)
    values[1] = 0
    check(nodes, ROWS, {"x": values}, ["ReduceL2", "Max", "Div"])


def test_products_sums_and_factors_go_into_one_product():
    nodes, bias = Nodes("a"), normal(5)
    product = nodes.add("MatMul", "x", nodes.constant(normal(6, 5), np.float32))
    added = nodes.add("Add", nodes.constant(bias, np.float32), product)
    again = nodes.add("Add", added, nodes.constant(bias, np.float32))
    nodes.add("Mul", nodes.constant(0.25, np.float32), again)
    check(nodes, ROWS, {"x": normal(4, 6)}, ["Gemm"])


def test_a_product_that_others_read_keeps_its_matrix():
    nodes = Nodes("a")
    product = nodes.add("MatMul", "x", nodes.constant(normal(6, 5), np.float32))
    scaled = nodes.add("Mul", product, nodes.constant(2.5, np.float32))
    nodes.add("Concat", product, scaled, axis=1)
    check(nodes, ROWS, {"x": normal(4, 6)}, ["MatMul", "Mul", "Concat"])


def test_numbers_times_vectors_times_a_matrix_are_one_product():
    nodes = Nodes("a")
    column = nodes.add("Unsqueeze", "number", nodes.constant([-1], np.int64))
    vectors = nodes.add("Mul", column, nodes.constant(normal(1, 6), np.float32))
    product = nodes.add("MatMul", vectors, nodes.constant(normal(6, 5), np.float32))
    nodes.add("Add", product, nodes.constant(normal(5), np.float32))
    check(nodes, {"number": (FLOAT, ["n"])}, {"number": normal(7)}, ["Unsqueeze", "Gemm"])


def test_many_terms_are_one_sum():
    nodes = Nodes("a")
    terms = [nodes.add(op, "x") for op in ("Exp", "Neg", "Abs", "Sin")]
    total = nodes.add("Add", nodes.add("Add", terms[0], terms[1]), terms[2])
    nodes.add("Add", terms[3], total)
    check(nodes, ROWS, {"x": normal(4, 6)}, ["Exp", "Neg", "Abs", "Sin", "Sum"])


TABLE = normal(N_CODES, 6)


@pytest.mark.parametrize("shape", [["n"], ["n", "length"]])
@pytest.mark.parametrize("fed_bytes", [64, 1 << 20])
def test_what_depends_on_a_code_alone_is_looked_up(shape, fed_bytes, monkeypatch):
    monkeypatch.setattr(tables, "FED_BYTES", fed_bytes)
    monkeypatch.setattr(tables, "BLOCK", fed_bytes // 8)  # 8: the last block is a part of one
    nodes = Nodes("a")
    known = nodes.add("Greater", "code", nodes.constant(0, np.int64))
    mask = nodes.add("Cast", known, to=FLOAT)
    mask = nodes.add("Unsqueeze", mask, nodes.constant([-1], np.int64))
    rows = nodes.add("Gather", nodes.constant(TABLE, np.float32), "code", axis=0)
    rows = nodes.add("Mul", rows, mask)
    product = nodes.add("MatMul", rows, nodes.constant(normal(6, 4), np.float32))
    product = nodes.add("Add", product, nodes.constant(normal(4), np.float32))
    other = nodes.add("ReduceSum", rows, nodes.constant([-1], np.int64), keepdims=1)
    nodes.add("Mul", nodes.add("Exp", product), nodes.add("Add", other, "x"))
    inputs = {"code": (INT64, shape), "x": (FLOAT, [1])}
    feeds = {"code": RANDOM.integers(0, N_CODES, (5, 3)[: len(shape)]), "x": normal(1)}
    expected = ["Gather", "Gather", "Add", "Mul"]
    check(nodes, inputs, feeds, expected, n_codes={"code": N_CODES})


def test_a_sum_over_codes_is_no_function_of_one():
    nodes = Nodes("a")
    rows = nodes.add("Gather", nodes.constant(TABLE, np.float32), "code", axis=0)
    scaled = nodes.add("Mul", rows, nodes.constant(2, np.float32))
    nodes.add("ReduceSum", scaled, nodes.constant([1], np.int64), keepdims=0)
    inputs = {"code": (INT64, ["n", "length"])}
    feeds = {"code": RANDOM.integers(0, N_CODES, (5, 3))}
    check(nodes, inputs, feeds, ["Gather", "ReduceSum"], n_codes={"code": N_CODES})


def test_codes_that_are_masked_by_others_are_codes():
    nodes = Nodes("a")
    mask = nodes.add("Min", "item", nodes.constant(1, np.int64))
    masked = nodes.add("Mul", "kind", mask)
    rows = nodes.add("Gather", nodes.constant(TABLE[:4], np.float32), masked, axis=0)
    nodes.add("Exp", nodes.add("Mul", rows, nodes.constant(normal(6), np.float32)))
    inputs = {"item": (INT64, ["n", "length"]), "kind": (INT64, ["n", "length"])}
    feeds = {"item": RANDOM.integers(0, 3, (5, 3)), "kind": RANDOM.integers(0, 4, (5, 3))}
    codes = {"item": N_CODES, "kind": 4}
    check(nodes, inputs, feeds, ["Min", "Mul", "Gather"], n_codes=codes)


def test_a_table_that_would_be_too_large_is_not_made(monkeypatch):
    def build():
        nodes = Nodes("a")
        rows = nodes.add("Gather", nodes.constant(TABLE, np.float32), "code", axis=0)
        nodes.add("MatMul", rows, nodes.constant(normal(6, 40), np.float32))
        return nodes

    inputs, feeds = {"code": (INT64, ["n"])}, {"code": RANDOM.integers(0, N_CODES, 5)}
    codes = {"code": N_CODES}
    check(build(), inputs, feeds, ["Gather"], n_codes=codes)
    monkeypatch.setattr(tables, "FREE_BYTES", 0)
    check(build(), inputs, feeds, ["Gather", "MatMul"], n_codes=codes)


def test_masks_alone_are_no_tables():
    nodes = Nodes("a")
    known = nodes.add("Greater", "code", nodes.constant(0, np.int64))
    nodes.add("Add", nodes.add("Cast", known, to=FLOAT), "x")
    inputs = {"code": (INT64, ["n"]), "x": (FLOAT, [1])}
    feeds = {"code": np.arange(3), "x": normal(1)}
    check(nodes, inputs, feeds, ["Greater", "Cast", "Add"], n_codes={"code": N_CODES})


def test_tidy_keeps_what_subgraphs_read_and_names_each_domain_once():
    nodes, inner = Nodes("a"), Nodes("inner")
    kept = nodes.add("Exp", "x")
    nodes.add("Neg", "x")
    inner.add("Mul", kept, "weight")
    info = helper.make_tensor_value_info(inner.nodes[-1].output[0], FLOAT, None)
    branch = helper.make_graph(inner.nodes, "branch", [], [info])
    condition = nodes.constant(True, np.bool_)
    nodes.add("If", condition, then_branch=branch, else_branch=branch)
    proto = model(nodes, X)
    for name in ("weight", "unread"):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(3), name))
    opsets = [("", 18), ("ai.onnx.ml", 2), ("", 18), ("ai.onnx.ml", 3)]
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(*entry) for entry in opsets)
    expected = run(proto, {"x": normal(2, 2) * 0})
    tidy(proto)
    assert [node.op_type for node in proto.graph.node] == ["Exp", "Constant", "If"]
    assert [tensor.name for tensor in proto.graph.initializer] == ["weight"]
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    assert np.array_equal(run(proto, {"x": normal(2, 2) * 0}), expected)


def twin(names, step):
    """max(0.5 x, x + 1), with names, and nodes and constants in an order, of its own."""
    first, second, half, one = names
    made = helper.make_node
    nodes = [made("Mul", ["x", half], [first], first), made("Add", ["x", one], [second], second)]
    ends = [made("Abs", ["x"], ["unread"]), made("Max", [first, second], ["y"], "end")]
    info = [helper.make_tensor_value_info(name, FLOAT, ["n"]) for name in "xy"]
    numbers = {half: 0.5, one: 1.0}
    tensors = [numpy_helper.from_array(np.float32(v), name) for name, v in numbers.items()]
    graph = helper.make_graph(
        nodes[::step] + ends, "g", info[:1], info[1:], initializer=tensors[::step]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_names_and_order_come_from_the_content_alone():
    one, other = twin(("a", "b", "c", "d"), 1), twin(("f__9", "e__8", "q", "p"), -1)
    for proto in (one, other):
        name_by_place(proto)
    assert one.SerializeToString() == other.SerializeToString()
    assert [node.output[0] for node in one.graph.node] == ["Mul_0:0", "Add_0:0", "y"]
    assert run(one, {"x": np.float32([-1.0, 3.0])}).tolist() == [0.0, 4.0]
