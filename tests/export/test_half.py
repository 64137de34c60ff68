"""`export.precision = "float16"`: half the tables, embeddings within what float16 rounds."""

from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from shortlist.export import ExportError, export_bundle, half
from shortlist.export.graph import check_parity, keras_to_onnx, random_batches
from shortlist.loading import load
from shortlist.training.config.settings import load_config
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.fit import build_model


def with_precision(run, precision):
    settings = replace(run.config.export, precision=precision)
    return replace(run, config=replace(run.config, export=settings))


@pytest.mark.parametrize("encoder", ["pool", "gru", "transformer", "hstu"])
def test_every_encoder_keeps_its_embeddings(encoder, run):
    config = load_config(overrides={"model.encoder": encoder, "model.dim": 16, "model.hidden": 24})
    dataset, split = run.split.dataset, run.split
    features = FeatureSet.fit(dataset, split, config)
    two_tower = build_model(config, features, dataset, split)
    model = two_tower.serving_user_model(two_tower.item_vectors())
    proto = keras_to_onnx(model, "user_embedding")
    rounded = half.half_products(proto)
    onnx.checker.check_model(rounded, full_check=True)
    inputs = [*features.history_inputs, *features.side("user")]
    codes = {f.name: f.n_codes for f in inputs if f.form in ("code", "codes")}
    batches = random_batches(model, codes)
    worst = check_parity(rounded, model, batches, tolerance=half.ROUNDING)
    assert worst > 1e-6  # something was rounded
    products = {node.op_type for node in rounded.graph.node} & {"MatMul", "GRU"}
    assert products
    wide = [t for t in rounded.graph.initializer if t.data_type == TensorProto.FLOAT]
    narrow = [t for t in rounded.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert sum(np.prod(t.dims) for t in wide) < sum(np.prod(t.dims) for t in narrow)


def test_a_bundle_passes_the_gate_with_half_the_encoder(run, tmp_path):
    types, embeddings, requests = [], [], {"history": [[5, 9, 2], [], [1]], "age": [3.0, None, 40]}
    for precision in ("float32", "float16"):
        path = tmp_path / f"{precision}.shortlist"
        report = export_bundle(with_precision(run, precision), path)  # graphs for hosts among it
        assert report.parity.n_users == 50
        graph = onnx.load(path / "user_encoder.onnx").graph
        types.append(TensorProto.FLOAT16 in {tensor.data_type for tensor in graph.initializer})
        with load(path) as engine:
            embeddings.append(engine.encode_users(requests))
            assert engine.encode_users(requests).dtype == np.float32
    assert types == [False, True]
    np.testing.assert_allclose(*embeddings, atol=half.ROUNDING)
    assert report.parity.tolerance > half.ROUNDING


def test_what_float16_cannot_hold_is_refused():
    inputs = keras.Input((4,), name="x")
    layer = keras.layers.Dense(3, use_bias=False)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.full((4, 3), 1e6, np.float32)])
    with pytest.raises(ExportError, match=r"export\.precision: .* numbers up to 1e\+06"):
        half.half_products(keras_to_onnx(model, "y"))
