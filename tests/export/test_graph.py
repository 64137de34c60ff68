"""Keras → ONNX: the same numbers, exact names, and no silent failure."""

import keras
import numpy as np
import onnx
import pytest
from keras import ops

from shortlist.export import graph as graph_module
from shortlist.export.checks import check_interface
from shortlist.export.errors import ExportError
from shortlist.export.graph import (
    check_parity,
    keras_to_onnx,
    random_batches,
)
from shortlist.training.models.layers import HistoryLookup


@pytest.fixture(scope="module")
def encoder():
    """A user encoder in small: history bag, one categorical, one number, exact gelu, unit rows."""
    keras.utils.set_random_seed(1)
    history = keras.Input((None,), dtype="int64", name="history")
    country = keras.Input((), dtype="int64", name="country")
    age = keras.Input((), name="age")
    known = ops.cast(history > 0, "float32")[..., None]
    bag = ops.sum(keras.layers.Embedding(12, 8)(history) * known, 1)
    bag = bag / ops.maximum(ops.sum(known, 1), 1.0)
    joined = ops.concatenate([bag, keras.layers.Embedding(4, 3)(country), age[:, None]], 1)
    hidden = keras.layers.Dense(8, "gelu", bias_initializer="random_normal")(joined)
    result = keras.layers.UnitNormalization()(hidden)
    return keras.Model({"history": history, "country": country, "age": age}, result)


@pytest.fixture(scope="module")
def graph(encoder):
    return keras_to_onnx(encoder, "user_embedding")


def test_inputs_and_output_keep_their_names_and_dynamic_dims_are_called_batch_and_length(graph):
    dims = {
        value.name: [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in graph.graph.input
    }
    assert dims == {"history": ["batch", "length"], "country": ["batch"], "age": ["batch"]}
    (output,) = graph.graph.output
    assert output.name == "user_embedding"
    shape = output.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("batch", 8)


def test_keras_and_onnx_agree_from_batch_1_to_long_histories_and_all_padding(encoder, graph):
    batches = random_batches(encoder, {"history": 12, "country": 4})
    assert [len(batch["age"]) for batch in batches] == [1, 33, 4, 5]
    assert not batches[2]["history"].any()
    assert check_parity(graph, encoder, batches) < 1e-6


def test_changed_weights_are_a_parity_error_that_says_both_numbers(encoder, graph):
    batches = random_batches(encoder, {"history": 12, "country": 4})
    weights = encoder.get_weights()
    encoder.set_weights([weight + 0.1 for weight in weights])
    try:
        with pytest.raises(ExportError, match=r"differ by 0\.\d+ on a batch of 1, expected at mo"):
            check_parity(graph, encoder, batches)
    finally:
        encoder.set_weights(weights)


def test_an_operation_tf2onnx_cannot_convert_is_an_error_that_names_it(capfd):
    numbers = keras.Input((3,), name="numbers")
    model = keras.Model(numbers, _Digamma()(numbers))
    with pytest.raises(ExportError, match=r"score: tf2onnx cannot convert Digamma \(at .*\); repl"):
        keras_to_onnx(model, "score")
    assert "not supported" not in capfd.readouterr().err


class _Doubled(keras.layers.Layer):
    """Doubles a number `n` times."""

    def call(self, inputs):
        n, number = inputs
        steps = (ops.zeros((), "int64"), number)
        most = ops.max(n)
        return ops.while_loop(lambda i, x: i < most, lambda i, x: (i + 1, 2 * x), steps)[1]


def test_a_loop_is_an_error_that_names_it():
    n = keras.Input((), dtype="int64", name="n")
    number = keras.Input((2,), name="number")
    model = keras.Model({"n": n, "number": number}, _Doubled()([n, number]))
    with pytest.raises(ExportError, match=r"^doubled: .* without loops, found .* Loop"):
        keras_to_onnx(model, "doubled")


class _Digamma(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.math.digamma(x)


def test_a_captured_tensor_shows_up_as_an_extra_input_and_is_refused(graph):
    broken = onnx.ModelProto()
    broken.CopyFrom(graph)
    broken.graph.input.append(
        onnx.helper.make_tensor_value_info("layer/Sub/y:0", onnx.TensorProto.FLOAT, [1])
    )
    with pytest.raises(ExportError, match=r"found \['layer/Sub/y:0'\] more"):
        check_interface(broken, ["history", "country", "age"], "user_embedding")


def test_the_smallest_network_answers_the_same_in_onnx_runtime():
    inputs = keras.Input((2,), name="features")
    hidden = keras.layers.Dense(1, "sigmoid", bias_initializer="ones")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid", bias_initializer="ones")(hidden))
    graph = keras_to_onnx(model, "score")
    rows = np.array([[1, 2], [2, 3], [3, 4]], dtype=np.float32)
    assert check_parity(graph, model, [{"features": rows}]) < 1e-6


def test_a_table_of_embeddings_is_put_in_only_after_the_conversion(monkeypatch):
    table = np.random.default_rng(1).normal(size=(5001, 8)).astype(np.float32)
    lookup = HistoryLookup(5000, 8)
    lookup.table.assign(table)
    history = keras.Input((None,), dtype="int64", name="history")
    model = keras.Model(
        {"history": history}, keras.ops.sum(lookup(history), axis=1) + lookup(history)[:, -1]
    )
    converted = []
    original = graph_module._convert

    def convert(*args):
        converted.append(original(*args))
        assert converted[0].ByteSize() < table.nbytes / 10
        return converted[0]

    monkeypatch.setattr(graph_module, "_convert", convert)
    proto = keras_to_onnx(model, "sum")
    assert converted
    large = [t for t in proto.graph.initializer if t.ByteSize() >= table.nbytes]
    assert large
    for tensor in large:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), table)
    assert check_parity(proto, model, random_batches(model, {"history": 5001})) < 2e-5


def test_a_table_that_the_graph_does_not_hold_any_more_fails_the_export(monkeypatch):
    lookup = HistoryLookup(10, 4)
    history = keras.Input((None,), dtype="int64", name="history")
    model = keras.Model({"history": history}, keras.ops.sum(lookup(history), axis=1))
    original = graph_module._convert

    def convert(*args):
        proto = original(*args)
        for tensor in proto.graph.initializer:
            if list(tensor.dims) == [2, 4]:
                values = onnx.numpy_helper.to_array(tensor) * 2
                tensor.raw_data = values.tobytes()
        return proto

    monkeypatch.setattr(graph_module, "_convert", convert)
    with pytest.raises(ExportError, match=r"sum: the graph lost the tables item_vectors"):
        keras_to_onnx(model, "sum")
