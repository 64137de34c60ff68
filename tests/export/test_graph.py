"""Keras → ONNX: the same numbers, exact names, and no silent failure."""

import keras
import numpy as np
import onnx
import pytest
from keras import ops

from shortlist.export.checks import check_interface
from shortlist.export.errors import ExportError
from shortlist.export.graph import (
    check_parity,
    keras_to_onnx,
    random_batches,
)


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
