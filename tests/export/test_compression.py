"""Graphs of 8 bits: what is rounded, what stays, and that all graphs of a bundle go on agreeing."""

import json
import shutil

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortlist.bundle import Bundle, BundleWriter
from shortlist.errors import DataError
from shortlist.export import export_bundle
from shortlist.export.compression.graphs import ENCODER, ITEM_ENCODER, PORTABLE, read_graphs
from shortlist.export.compression.products import byte_products
from shortlist.export.compression.tables import byte_tables, digests, rounded_rows
from shortlist.export.compression.variant import Recipe, write_variant
from shortlist.export.host_graphs import check_host_graphs, graph_inputs
from shortlist.export.parity import request_batches
from shortlist.index import Index
from shortlist.loading import load
from shortlist.shards import ShardedIndex
from shortlist.shards.sharded import write_beside
from shortlist.training.graphs.sessions import open_session

RANDOM = np.random.default_rng(3)
ROWS = (RANDOM.normal(size=(50, 16)) * np.geomspace(0.01, 100, 50)[:, None]).astype(np.float32)


def graph_of(nodes, constants, inputs, output):
    """A graph with inputs (name, type, shape) and one float output."""
    infos = [helper.make_tensor_value_info(*given) for given in inputs]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "tiny", infos, [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def lookup(table):
    nodes = [helper.make_node("Gather", ["table", "codes"], ["rows"], "look")]
    return graph_of(nodes, {"table": table}, [("codes", TensorProto.INT64, ["n", "m"])], "rows")


def run(proto, **inputs):
    (answer,) = open_session(proto.SerializeToString(), name="tiny").run(None, inputs)
    return answer


def bytes_of(proto):
    return sum(len(numpy_helper.to_array(t).tobytes()) for t in proto.graph.initializer)


def test_each_row_is_rounded_by_a_scale_of_its_own():
    codes, scales = rounded_rows(ROWS)
    assert np.abs(codes).max(axis=1).tolist() == [127] * 50
    assert (np.abs(codes * scales - ROWS) <= 0.51 * scales).all()
    codes, scales = rounded_rows(np.zeros((2, 3), np.float32))
    assert not codes.any()
    assert not scales.any()


def test_a_table_that_is_looked_up_takes_a_quarter_and_gives_the_rounded_rows():
    proto = lookup(ROWS)
    before, codes = bytes_of(proto), np.array([[3, 49], [0, 7]])
    byte_tables(proto, digests(proto))
    rounded = np.multiply(*rounded_rows(ROWS))
    assert np.array_equal(run(proto, codes=codes), rounded[codes])
    assert bytes_of(proto) == before / 4 + 4 * 50
    assert {node.domain for node in proto.graph.node} == {""}


@pytest.mark.parametrize("k", [1, 2])
def test_a_product_of_columns_and_rows_stays_as_exact_as_float32(k):
    columns = RANDOM.normal(size=(400, k)) * [1, 40][:k]
    table = (columns @ RANDOM.normal(size=(k, 32))).astype(np.float32)
    proto = lookup(table)
    byte_tables(proto, set())  # nothing is shared, so nothing may be rounded
    codes = np.arange(400)[None]
    assert np.abs(run(proto, codes=codes) - table[codes]).max() < 1e-6 * np.abs(table).max() * k
    assert bytes_of(proto) < table.nbytes * k / 20


def test_a_table_that_other_graphs_lack_keeps_its_numbers():
    proto = lookup(ROWS)
    byte_tables(proto, set())
    assert np.array_equal(run(proto, codes=np.arange(50)[None])[0], ROWS)


def test_codes_keep_their_values_in_as_few_bytes_as_they_need():
    codes = RANDOM.integers(0, 300, (60, 16)).astype(np.int32)
    nodes = [
        helper.make_node("Gather", ["table", "codes"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["numbers"], to=TensorProto.FLOAT),
    ]
    inputs = [("codes", TensorProto.INT64, ["n"])]
    proto = graph_of(nodes, {"table": codes}, inputs, "numbers")
    byte_tables(proto, digests(proto))
    assert np.array_equal(run(proto, codes=np.arange(60)), codes)
    assert bytes_of(proto) == codes.nbytes / 2


def test_products_are_rounded_by_fixed_scales_so_that_no_request_changes_another():
    weights = {f"m{i}": RANDOM.normal(size=(64, 64)).astype(np.float32) for i in range(2)}
    nodes = [
        helper.make_node("MatMul", ["x", "m0"], ["y"], "first"),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
        helper.make_node("MatMul", ["z", "m1"], ["out"], "second"),
    ]
    proto = graph_of(nodes, weights, [("x", TensorProto.FLOAT, ["n", 64])], "out")
    x = RANDOM.normal(size=(32, 64)).astype(np.float32)
    smaller = byte_products(proto, [{"x": x}])
    assert len(proto.graph.node) == 3  # it stays as it is
    operators = {node.op_type for node in smaller.graph.node}
    assert operators == {"MatMul", "Relu", "QuantizeLinear", "DequantizeLinear"}
    assert bytes_of(smaller) < bytes_of(proto) / 3
    expected, answer = run(proto, x=x), run(smaller, x=x)
    assert np.abs(answer - expected).max() < 0.05 * np.abs(expected).max()
    loud = np.concatenate([x, 100 * x[:1]])
    assert np.array_equal(run(smaller, x=loud)[:32], answer)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A bundle with users, both tables and a scorer."""
    path = tmp_path_factory.mktemp("exported") / "whole.shortlist"
    export_bundle(run, path)
    return path


@pytest.fixture
def whole(exported, tmp_path):
    """A copy of it, for a test of its own."""
    return shutil.copytree(exported, tmp_path / "whole.shortlist")


def variant_of(path, recipe, batches=()):
    out = path.with_name("small.shortlist")
    with Bundle.open(path) as bundle, BundleWriter(out) as writer:
        changed = write_variant(bundle, recipe, writer.directory, batches)
        writer.write_manifest(bundle.manifest.to_dict() | changed)
        writer.commit()
    return out


def encoder_inputs(run, path):
    """Requests as the user encoder of a bundle takes them."""
    from shortlist._columns.requests import normalise
    from shortlist._serving.loaded_bundle import request_schema

    with load(path) as engine:
        schema = request_schema(engine.bundle)
        return [graph_inputs(normalise(r, schema), schema) for r in request_batches(run, 50, 50)]


@pytest.mark.parametrize(
    ("encoder", "reranker", "overrides"),
    [
        ("pool", "followers", {}),
        ("transformer", "dnn", {"model.n_heads": 2, "model.dim": 64, "model.hidden": 64}),
        ("gru", None, {"model.n_blocks": 1}),
    ],
)
def test_graphs_and_engine_of_a_compressed_bundle_answer_alike(
    encoder, reranker, overrides, make_any_run, tmp_path
):
    run = make_any_run(encoder, reranker, overrides)
    whole = tmp_path / "whole.shortlist"
    export_bundle(run, whole)
    inputs = encoder_inputs(run, whole)
    small = variant_of(whole, Recipe(int8=True, storage="int8"), inputs)
    before, after = read_graphs(whole), read_graphs(small)
    has_products = any(n.op_type == "QuantizeLinear" for n in after[ENCODER].graph.node)
    assert has_products == (encoder == "transformer")
    assert not any(node.domain == "ai.shortlist" for node in after[PORTABLE].graph.node)
    assert before.keys() == after.keys()
    with load(whole) as engine, load(small) as smaller:
        checks = check_host_graphs(smaller, request_batches(run, 50, 50), top_n=10)
        assert all(check["n_users"] > 50 for check in checks.values())
        assert smaller.bundle.manifest.size < 0.85 * engine.bundle.manifest.size
        users = next(iter(request_batches(run, 50, 50)))
        one, other = engine.encode_users(users), smaller.encode_users(users)
        assert (one * other).sum(axis=1).min() > 0.99
        items = engine.items.slice(0, 5).to_pylist()
        assert smaller.upsert_items(items).n_updated == 5


def test_a_variant_keeps_what_is_not_asked_for(whole):
    small = variant_of(whole, Recipe())
    with load(whole) as engine, load(small) as smaller:
        requests = [{"user_id": 1000 - i} for i in range(40)]
        one, other = engine.recommend(requests), smaller.recommend(requests)
        assert one.scores.tobytes() == other.scores.tobytes()
        assert smaller.bundle.manifest.size < engine.bundle.manifest.size  # shorter names
    with pa.memory_map(str(small / "users.arrow")) as file:
        assert pa.ipc.open_file(file).schema.field("history").type == pa.list_(pa.int16())


def test_users_the_portable_graph_and_shards_follow_the_recipe(whole):
    index = Index.load(whole / "items.index")
    write_beside(whole, index, 2)
    fields = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    with BundleWriter(whole.with_name("sharded.shortlist")) as writer:
        shutil.copytree(whole, writer.directory, dirs_exist_ok=True)
        writer.write_manifest(fields)
        sharded = writer.commit()
    small = variant_of(sharded, Recipe(users=False, portable=False, storage="float16"))
    manifest = json.loads((small / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["n_users"] == 0
    assert manifest["storage"] == "float16"
    names = {path.name for path in small.iterdir()}
    assert not names & {"users.arrow", PORTABLE}
    assert ShardedIndex.load(small).storage == "float16"
    with load(small) as engine:
        assert engine.index.storage == "float16"
        assert engine.recommend({"history": [[1, 4]]}).counts.tolist() == [10]


@pytest.mark.parametrize("storage", ["disk8", "disk4", "int4", "bfloat16"])
def test_every_storage_is_read_by_all_graphs(storage, whole, run):
    small = variant_of(whole, Recipe(storage=storage))
    requests = next(iter(request_batches(run, 50, 50)))
    with load(whole) as engine, load(small) as smaller:
        assert smaller.index.storage == smaller.bundle.manifest.storage == storage
        assert (smaller.bundle.manifest.recall is None) == (storage != "int4")
        check_host_graphs(smaller, request_batches(run, 50, 50), top_n=10)
        if storage.startswith("disk"):
            one, other = engine.recommend(requests), smaller.recommend(requests)
            assert one.scores.tobytes() == other.scores.tobytes()


@pytest.mark.parametrize("int8", [False, True])
def test_a_cut_embedding_is_the_first_numbers_at_length_one_everywhere(int8, whole, run):
    inputs = encoder_inputs(run, whole)
    small = variant_of(whole, Recipe(dim=6, int8=int8), inputs)
    users = next(iter(request_batches(run, 50, 50)))
    with load(whole) as engine, load(small) as smaller:
        assert smaller.index.dim == smaller.bundle.manifest.dim == 6
        items = engine.items.select(["item_id", "genres", "year"]).slice(0, 9)
        for one, other in (
            (engine.encode_users(users), smaller.encode_users(users)),
            (engine.encode_items(items), smaller.encode_items(items)),
            (engine.index.vectors(np.arange(9)), smaller.index.vectors(np.arange(9))),
        ):
            first = one[:, :6] / np.linalg.norm(one[:, :6], axis=1, keepdims=True)
            assert other.shape == first.shape
            assert np.abs(other - first).max() < (0.05 if int8 else 1e-6)
        check_host_graphs(smaller, request_batches(run, 50, 50), top_n=10)


def test_an_embedding_is_cut_only_where_that_can_be(whole, make_any_run, tmp_path):
    with pytest.raises(DataError, match="--dim: got 16, expected a number below 16"):
        variant_of(whole, Recipe(dim=16))
    gru = tmp_path / "gru.shortlist"
    export_bundle(make_any_run("gru", overrides={"model.n_blocks": 1}), gru)
    with pytest.raises(DataError, match="--dim: got 8 for a bundle with a session encoder"):
        variant_of(gru, Recipe(dim=8))


def test_rows_that_are_rounded_cannot_be_stored_otherwise(whole):
    small = variant_of(whole, Recipe(storage="int8"))
    with pytest.raises(DataError, match=r"--storage: got 'float16' .* whose rows are int8"):
        variant_of(small, Recipe(storage="float16"))


def test_a_graph_read_and_written_again_is_complete_without_its_old_folder(whole):
    small = variant_of(whole, Recipe(int8=True))
    shutil.rmtree(whole)
    for name in (ENCODER, ITEM_ENCODER):
        onnx.checker.check_model(str(small / name))
    with load(small) as engine:
        assert engine.encode_items([{"item_id": 1}]).shape == (1, 16)
