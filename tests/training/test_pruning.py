"""Units, heads and blocks that go, and a model that teaches another: against doing it by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from shortlist.errors import DataError
from shortlist.training.config.settings import apply_overrides
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit.example import Example, ModelTeacher
from shortlist.training.fit.fit import build_model
from shortlist.training.models.pruning import (
    Importance,
    check_prunable,
    importance,
    shapes,
    take_part,
)
from shortlist.training.pipeline.students import student_config
from shortlist.training.splits.split import make_split

SIZES = {"model.dim": 16, "model.hidden": 32, "model.n_heads": 4, "model.n_blocks": 2}


def model_of(shop, config, **overrides):
    config = apply_overrides(config, {**SIZES, **overrides})
    split = make_split(shop, "leave-one-out")
    features = FeatureSet.fit(shop, split, config)
    model = build_model(config, features, shop, split)
    random = np.random.default_rng(1)
    weights = {k: v + random.normal(0, 0.1, v.shape) for k, v in model.get_weights().items()}
    model.set_weights({name: value.astype(np.float32) for name, value in weights.items()})
    return model


def embeddings(model, n=20):
    random = np.random.default_rng(2)
    codes = random.integers(0, model.n_items + 1, (n, 6))
    inputs = {}
    for feature in model.features.side("user"):
        shape = (n,) if feature.form in ("number", "code") else (n, 2)
        kind = np.float32 if feature.form in ("number", "dense") else np.int64
        inputs[feature.name] = np.ones(shape, kind)
    return model.encode_users(codes, inputs)


@pytest.mark.parametrize("encoder", ["pool", "transformer"])
def test_a_smaller_encoder_is_the_whole_one_without_the_parts_that_are_worth_least(
    encoder, shop, small_config
):
    old = model_of(shop, small_config, **{"model.encoder": encoder})
    random = np.random.default_rng(3)
    is_pool = encoder == "pool"
    worth = Importance(
        [random.random(32) for _ in range(1 if is_pool else 2)],
        np.zeros(0) if is_pool else np.array([0.9, 0.1, 0.7, 0.2]),
    )
    shape = next(s for s in shapes(old, 0.3) if len(s.blocks) == len(worth.units))
    shape = replace(shape, n_heads=1 if is_pool else 2, hidden=8, length=6)
    sizes = {"model.encoder": encoder, "model.hidden": 8}
    if not is_pool:
        sizes |= {"model.n_heads": 2, "model.head_width": 4}
    new = model_of(shop, small_config, **sizes)
    take_part(new, old, shape, worth)
    new.refresh()
    # Without: what a part writes is nothing.
    for layer, units in zip([old.user_encoder] if is_pool else old.user_encoder.blocks, worth.units,
                            strict=True):  # fmt: skip
        outer = layer.outer.numpy()
        outer[np.argsort(-units)[8:]] = 0
        layer.outer.assign(outer)
        if not is_pool:
            mix = layer.mix.numpy().reshape(4, 4, 16)
            mix[[1, 3]] = 0
            layer.mix.assign(mix.reshape(16, 16))
    assert np.abs(embeddings(new) - embeddings(old)).max() < 1e-5


def test_blocks_go_as_a_whole(shop, small_config):
    old = model_of(shop, small_config, **{"model.encoder": "transformer"})
    found = {shape.blocks for shape in shapes(old, 0.6)}
    assert found == {(0,), (1,), (0, 1)}
    worth = Importance([np.ones(32)] * 2, np.ones(4))
    shape = next(s for s in shapes(old, 0.6) if (s.blocks, s.n_heads, s.length) == ((1,), 4, 3))
    sizes = {"model.n_blocks": 1, "model.hidden": shape.hidden, "model.head_width": 4}
    sizes["model.history_length"] = 3
    new = model_of(shop, small_config, **{"model.encoder": "transformer", **sizes})
    take_part(new, old, shape, worth)
    positions = old.user_encoder.positions.numpy()
    assert np.array_equal(new.user_encoder.positions.numpy(), positions[3:])
    kept = old.user_encoder.blocks[1].attention.numpy()
    assert np.array_equal(new.user_encoder.blocks[0].attention.numpy(), kept)


def test_every_shape_saves_what_is_asked_for(shop, small_config):
    old = model_of(shop, small_config, **{"model.encoder": "transformer"})
    for part in (0.25, 0.5, 0.9):
        found = shapes(old, part)
        assert found
        assert all(shape.cost <= 1 - part for shape in found)
        assert all(shape.hidden % 8 == 0 for shape in found)
    with pytest.raises(DataError, match=r"--prune: got 0.999, of which nothing is left"):
        shapes(old, 0.999)


def test_what_writes_nothing_is_worth_nothing(shop, small_config):
    model = model_of(shop, small_config, **{"model.encoder": "transformer"})
    block = model.user_encoder.blocks[0]
    outer = block.outer.numpy()
    outer[[4, 9]] = 0
    block.outer.assign(outer)
    for each in model.user_encoder.blocks:
        mix = each.mix.numpy()
        mix[:4] = 0
        each.mix.assign(mix)
    codes = np.random.default_rng(2).integers(1, model.n_items + 1, (8, 6))
    inputs = {"city": np.ones(8, np.int64), "age": np.ones(8, np.float32)}
    worth = importance(model, [(codes, codes[:, 0], inputs)])
    assert worth.units[0][[4, 9]].tolist() == [0, 0]
    assert np.count_nonzero(worth.units[0]) == 30
    assert worth.heads[0] == 0
    assert (worth.heads[1:] > 0).all()


@pytest.mark.parametrize(("encoder", "members"), [("gru", 1), ("transformer", 2)])
def test_what_cannot_be_pruned_is_refused_with_a_way_out(encoder, members):
    with pytest.raises(DataError, match=r"--prune: got a bundle of .*--distil pool"):
        check_prunable(encoder, members)


def test_a_model_teaches_what_it_would_rank(shop, small_config):
    model = model_of(shop, small_config, **{"model.encoder": "transformer"})
    rows = np.array([0, 2, 3, 7, 11, 20])
    teacher = ModelTeacher(Example(model, 0.9, 0.1), rows, is_causal=False)
    history = np.array([[0, 1, 4], [2, 5, 6]])  # codes that count the rows
    inputs = {"city": np.array([1, 2]), "age": np.array([0.5, -0.5], np.float32)}
    items = np.random.default_rng(4).normal(size=(6, 3)).astype(np.float32)
    means, knows = teacher.mean_items(tf.constant(history), tf.constant(items), 1, inputs)
    codes = np.append(0, rows + 1)[history]
    model.refresh()
    users = model.encode_users(codes, inputs)
    logits = users @ model.item_vectors()[rows].T / 0.1
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(means.numpy() - chances @ items).max() < 1e-5
    assert knows.numpy().tolist() == [[1.0], [1.0]]


def test_a_student_that_asks_for_more_than_its_teacher_says_is_refused(shop, small_config):
    model = model_of(shop, small_config, **{"model.encoder": "pool"})
    with pytest.raises(DataError, match="distil: got a teacher of the encoder 'pool'"):
        ModelTeacher(Example(model, 0.9, 0.1), np.arange(5), is_causal=True)


def test_a_students_settings_are_its_presets_and_its_data_the_teachers(small_config):
    teacher = apply_overrides(small_config, {"model.encoder": "transformer", "split.seed": 4})
    student = student_config(teacher, "gru", {"train.epochs": 2})
    assert (student.model.encoder, student.model.dim, student.train.epochs) == ("gru", 8, 2)
    assert student.split == teacher.split
    assert student_config(teacher, "pool", {"model.dim": 4}).model.dim == 4
