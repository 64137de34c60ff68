import numpy as np
import pytest
import tensorflow as tf

from shortlist.export.graph import check_parity, keras_to_onnx
from shortlist.training.config.settings import apply_overrides
from shortlist.training.features.features import FeatureSet
from shortlist.training.graphs.sessions import open_session
from shortlist.training.models.recurrence import every_state, last_states
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.splits.split import leave_one_out


def weights(n_in, n_units, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(3 * n_units, n_in), (3 * n_units, n_units), (6 * n_units,)]
    return [tf.constant(rng.normal(0, 0.6, shape), tf.float32) for shape in shapes]


def by_the_book(values, first, kernel, recurrent, bias):
    """Give the states place by place, as the ONNX specification of GRU writes them."""
    n = recurrent.shape[1]
    states, state = [], first
    for x in values:
        given = x @ tf.transpose(kernel) + bias[: 3 * n]
        kept = state @ tf.transpose(recurrent) + bias[3 * n :]
        z = tf.sigmoid(given[:, :n] + kept[:, :n])
        r = tf.sigmoid(given[:, n : 2 * n] + kept[:, n : 2 * n])
        candidate = tf.tanh(given[:, 2 * n :] + r * kept[:, 2 * n :])
        state = (1 - z) * candidate + z * state
        states.append(state)
    return tf.stack(states)


def test_states_and_all_their_gradients_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    values = tf.constant(rng.normal(size=(7, 4, 5)), tf.float32)
    first = tf.constant(rng.normal(size=(4, 6)), tf.float32)
    slope = tf.constant(rng.normal(size=(7, 4, 6)), tf.float32)
    given = [values, first, *weights(5, 6)]
    found = {}
    for name, function in (("ours", every_state), ("book", by_the_book)):
        with tf.GradientTape() as tape:
            tape.watch(given)
            states = function(*given)
            loss = tf.reduce_sum(states * slope)
        found[name] = [states, *tape.gradient(loss, given)]
    for ours, book in zip(found["ours"], found["book"], strict=True):
        np.testing.assert_allclose(ours, book, atol=2e-5)


def test_the_last_state_is_that_after_the_last_place_that_counts():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(9, 3, 5)).astype(np.float32)
    first = np.zeros((3, 6), np.float32)
    states, last = last_states(
        tf.constant(values), tf.constant([1, 9, 4]), first, *weights(5, 6), run=every_state
    )
    np.testing.assert_array_equal(last, np.stack([states[0, 0], states[8, 1], states[3, 2]]))


@pytest.fixture(scope="module", params=[1, 3])
def served(shop, small_config, request):
    settings = {"model.encoder": "gru", "model.n_blocks": request.param, "model.hidden": 24}
    config = apply_overrides(small_config, settings)
    features = FeatureSet.fit(shop, leave_one_out(shop), config)
    model = TwoTower(config, features)
    rng = np.random.default_rng(3)
    model.set_weights({k: rng.normal(0, 0.4, w.shape) for k, w in model.get_weights().items()})
    served = model.serving_user_model(model.refresh())
    return model, served, keras_to_onnx(served, "user_embedding"), request.param


def test_the_graph_is_one_fused_gru_a_layer_and_no_loop(served):
    _, _, proto, n_blocks = served
    ops = [node.op_type for node in proto.graph.node]
    assert ops.count("GRU") == n_blocks
    assert not {"Loop", "Scan", "If", "PyFunc"} & set(ops)
    gru = next(node for node in proto.graph.node if node.op_type == "GRU")
    assert gru.input[4], "sequence lengths"


def batch(model, histories):
    length = max(map(len, histories))
    codes = np.zeros((len(histories), length), np.int64)
    for row, history in zip(codes, histories, strict=True):
        row[length - len(history) :] = history
    users = model.features.usual_events(codes)
    for feature in model.features.side("user"):
        shape = (len(codes),) if feature.form in ("code", "number") else (len(codes), 2)
        is_code = feature.form in ("code", "codes")
        users[feature.name] = np.ones(shape, np.int64 if is_code else np.float32)
    return {"history": codes, **users}


def test_onnx_equals_keras_for_empty_short_full_ragged_and_overlong_histories(served):
    model, keras_model, proto, _ = served
    limit = model.config.model.history_length
    rng = np.random.default_rng(4)

    def histories(*lengths):
        return [rng.integers(1, model.n_items + 1, n) for n in lengths]

    holes = histories(limit)[0] * (np.arange(limit) % 2)
    lists = [
        [np.zeros(1, np.int64)],
        histories(1),
        histories(limit),
        histories(0, 1, limit, 2, limit - 1),
        histories(3 * limit, 1, limit + 1),
        [np.zeros(limit, np.int64), holes, np.append(holes, 0)],
        histories(*rng.integers(0, limit + 1, 200)),
    ]
    batches = [batch(model, histories) for histories in lists]
    assert check_parity(proto, keras_model, batches) < 2e-5
    # Padding changes nothing: what counts is the last `limit` known items.
    session = open_session(proto.SerializeToString(), name="gru")
    for inputs in batches:
        (wanted,) = session.run(None, inputs)
        for i, row in enumerate(inputs["history"]):
            known = row[row > 0][-limit:]
            alone = batch(model, [known if len(known) else np.zeros(1, np.int64)])
            (found,) = session.run(None, alone)
            np.testing.assert_allclose(found[0], wanted[i], atol=2e-5)
