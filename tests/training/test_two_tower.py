import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx

from shortlist.errors import DataError
from shortlist.training.config.sections import ENCODERS
from shortlist.training.config.settings import apply_overrides, load_config
from shortlist.training.evaluation.ranker import TwoTowerRanker
from shortlist.training.features.features import FeatureSet, align_items
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.splits.split import leave_one_out

N_ROWS = 7


@pytest.fixture(scope="module", params=ENCODERS)
def model(shop, small_config, request):
    config = apply_overrides(small_config, {"model.encoder": request.param})
    split = leave_one_out(shop)
    features = FeatureSet.fit(shop, split, config)
    table = features.encode_items(align_items(shop, split.catalogue))
    model = TwoTower(config, features, table)
    rng = np.random.default_rng(1)
    # Random instead of initial weights: nothing may work only because a bias is zero.
    shapes = {name: w.shape for name, w in model.get_weights().items()}
    model.set_weights(
        {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    )
    return model


@pytest.fixture(scope="module")
def users(shop, model):
    return model.features.encode_users(shop.users.head(N_ROWS))


@pytest.fixture(scope="module")
def history(model):
    codes = np.random.default_rng(2).integers(1, model.n_items + 1, (N_ROWS, 5))
    codes[0] = 0
    codes[1, :4] = 0
    return codes


def test_embeddings_have_length_one_and_the_right_shapes(model, users, history):
    items, embedded = model.item_vectors(), model.encode_users(history, users)
    assert items.shape == (model.n_items, 8)
    assert embedded.shape == (N_ROWS, 8)
    assert items.dtype == embedded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)


def test_padding_and_unknown_codes_anywhere_change_nothing(model, users, history):
    wanted = model.encode_users(history, users)
    for place in range(history.shape[1] + 1):
        padded = np.insert(history, [place, place], 0, axis=1)
        np.testing.assert_allclose(model.encode_users(padded, users), wanted, atol=1e-6)


def test_items_older_than_the_history_length_change_nothing(model, users):
    rng = np.random.default_rng(3)
    recent = rng.integers(1, model.n_items + 1, (N_ROWS, model.config.model.history_length))
    older = rng.integers(1, model.n_items + 1, (N_ROWS, 9))
    long = np.concatenate([older, np.zeros((N_ROWS, 2), np.int64), recent], axis=1)
    np.testing.assert_allclose(
        model.encode_users(long, users), model.encode_users(recent, users), atol=1e-6
    )


def test_order_matters(model, users, history):
    backwards = model.encode_users(history[:, ::-1], users)
    assert np.abs(backwards - model.encode_users(history, users))[2:].max() > 1e-3


def test_an_empty_history_leaves_the_user_features(model, users):
    empty = model.encode_users(np.zeros((N_ROWS, 3), np.int64), users)
    assert np.isfinite(empty).all()
    assert np.abs(empty[0] - empty[1]).max() > 1e-4  # other city, other embedding


def test_several_targets_in_one_row_equal_one_row_per_target(model, users):
    n_targets, length = 3, model.config.model.history_length
    if model.user_encoder.is_causal:
        length -= n_targets - 1  # a causal encoder looks at the whole row
    rng = np.random.default_rng(4)
    codes = rng.integers(0, model.n_items + 1, (N_ROWS, length + n_targets - 1))
    table = model.history_lookup.table.numpy()
    together = model.user_encoder(codes, table[codes], users, n_targets=n_targets).numpy()
    for s in range(n_targets):
        seen = codes[:, : length + s]
        apart = model.encode_users(seen, users)
        np.testing.assert_allclose(together[s::n_targets], apart, atol=1e-5)


def test_dropout_follows_its_seed_and_is_off_without_one(model, users, history):
    vectors = model.history_lookup.table.numpy()[history]

    def encode(seed):
        return model.user_encoder(history, vectors, users, seed=seed).numpy()

    np.testing.assert_array_equal(encode(tf.constant([1, 2])), encode(tf.constant([1, 2])))
    assert np.abs(encode(tf.constant([1, 2])) - encode(tf.constant([3, 2]))).max() > 1e-3
    np.testing.assert_allclose(encode(None), model.encode_users(history, users), atol=1e-6)


def test_a_new_item_gets_its_vector_from_its_content(model):
    known = {name: values[:1] for name, values in model.item_inputs.items()}
    new = known | {"item_id": np.zeros(1, np.int64)}
    other = new | {"price": np.array([9.0], np.float32)}
    vectors = [model.item_model(inputs).numpy() for inputs in (new, other)]
    assert all(np.isfinite(v).all() for v in vectors)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_the_serving_model_uses_the_vectors_it_is_given(model, users, history):
    vectors = model.refresh()
    served = model.serving_user_model(vectors)({"history": history, **users}).numpy()
    np.testing.assert_allclose(served, model.encode_users(history, users), atol=1e-6)
    other = model.serving_user_model(-vectors)({"history": history, **users}).numpy()
    assert np.abs(other - served).max() > 1e-2


def test_what_was_read_stays_while_the_model_changes(shop):
    config = load_config(overrides={"model.dim": 4, "model.hidden": 4})
    split = leave_one_out(shop)
    features = FeatureSet.fit(shop, split, config)
    model = TwoTower(config, features, features.encode_items(align_items(shop, split.catalogue)))
    vectors, weights = model.refresh(), model.get_weights()
    kept = vectors.copy(), {name: value.copy() for name, value in weights.items()}
    other = TwoTower(config, features, model.item_inputs)
    other.set_weights(weights)
    for changed in (model, other):  # in place, by steps of every kind
        for weight in changed.weights:
            weight.value.assign_add(tf.ones_like(weight.value))
            rows = tf.IndexedSlices(tf.zeros((1, *weight.shape[1:])), [0])
            weight.value.scatter_update(rows)
        changed.refresh()
    np.testing.assert_array_equal(vectors, kept[0])
    assert all(np.array_equal(weights[name], value) for name, value in kept[1].items())
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 0.0


def to_onnx(model):
    names = list(model.input)
    signature = [tf.TensorSpec(model.input[n].shape, model.input[n].dtype, name=n) for n in names]
    function = tf.function(lambda *columns: model(dict(zip(names, columns, strict=True))))
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    onnx.checker.check_model(proto, full_check=True)
    assert {i.name for i in proto.graph.input} <= set(names)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    used = {i.name for i in proto.graph.input}
    return lambda inputs: session.run(None, {k: v for k, v in inputs.items() if k in used})[0]


def test_the_user_model_exports_with_any_batch_and_length(model, users, history):
    run = to_onnx(model.serving_user_model(model.refresh()))
    longer = np.pad(history, ((0, 0), (2, 9)))
    for n_rows, codes in ((N_ROWS, history), (N_ROWS, longer), (1, history), (N_ROWS, longer * 0)):
        inputs = {"history": codes[:n_rows], **{k: v[:n_rows] for k, v in users.items()}}
        wanted = model.user_model(inputs).numpy()
        np.testing.assert_allclose(run(inputs), wanted, atol=1e-5)


def test_the_item_model_exports(model):
    np.testing.assert_allclose(
        to_onnx(model.item_model)(model.item_inputs), model.item_vectors(), atol=1e-5
    )


def test_weights_of_another_model_are_refused_by_name(model):
    weights = model.get_weights()
    name = next(iter(weights))
    with pytest.raises(DataError, match=rf"weights: '{name}': got nothing, expected"):
        model.set_weights({k: v for k, v in weights.items() if k != name})
    with pytest.raises(DataError, match=rf"weights: '{name}': got \(1, 1\), expected"):
        model.set_weights(weights | {name: np.zeros((1, 1), np.float32)})


def test_the_same_seed_gives_the_same_initial_weights(model):
    first, again, other = (
        TwoTower(apply_overrides(model.config, {"train.seed": s}), model.features).get_weights()
        for s in (1, 1, 2)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_the_ranker_agrees_with_numpy_and_leaves_out_seen_items(shop, model):
    split = leave_one_out(shop)
    histories = split.histories("train")
    rows = [histories.rows_of(i) for i in range(5)]
    ranked = TwoTowerRanker(model, shop).rank(rows, histories.user_ids[:5], model.n_items)
    inputs = model.features.encode_users(
        shop.users.filter(shop.users["user_id"].is_in(histories.user_ids[:5].tolist())).sort(
            "user_id"
        )
    )
    codes = model.features.encode_history([split.catalogue[r] for r in rows])
    scores = model.encode_users(codes, inputs) @ model.item_vectors().T
    for user, seen in enumerate(rows):
        scores[user, seen] = -np.inf
        n_left = model.n_items - len(set(seen.tolist()))
        np.testing.assert_array_equal(ranked[user, n_left:], -1)
        chosen = scores[user, ranked[user, :n_left]]
        assert np.isfinite(chosen).all()
        assert (np.diff(chosen) <= 1e-6).all()


def test_no_users_rank_to_no_rows(shop, model):
    assert TwoTowerRanker(model, shop).rank([], np.array([], dtype=str), 5).shape == (0, 5)
