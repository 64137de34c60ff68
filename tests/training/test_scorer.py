import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx

from shortlist.errors import DataError
from shortlist.training.config.sections import ScorerConfig
from shortlist.training.models.losses import candidate_softmax
from shortlist.training.models.scorer import (
    DNNScorer,
    constant_loss,
    fit_candidates,
    fit_scorer,
    scorer_loss,
)

SMALLEST = ScorerConfig(
    hidden=(1,),
    activation="sigmoid",
    output="sigmoid",
    loss="mse",
    optimizer="adam",
    learning_rate=0.05,
    epochs=300,
    batch_size=3,
)
USERS, ITEMS = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [3.0], [4.0]])
TARGETS = np.array([0.8, 0.9, 0.95])


def run_in_onnx(scorer, users, items):
    widths = {"user_features": scorer.n_user_features, "item_features": scorer.n_item_features}
    signature = [tf.TensorSpec((None, w), tf.float32, name=n) for n, w in widths.items()]
    function = tf.function(
        lambda user, item: scorer.model({"user_features": user, "item_features": item})
    )
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    onnx.checker.check_model(proto, full_check=True)
    assert [i.name for i in proto.graph.input] == list(widths)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    inputs = {
        "user_features": np.asarray(users, np.float32),
        "item_features": np.asarray(items, np.float32),
    }
    return session.run(None, inputs)[0]


def test_the_smallest_case_learns_its_three_rows_and_runs_in_onnx_runtime():
    scorer = fit_scorer(USERS, ITEMS, TARGETS, SMALLEST)
    answer = scorer.predict([[2.0]], [[3.0]])
    assert answer.shape == (1,)
    assert answer[0] == pytest.approx(0.9, abs=0.05)
    np.testing.assert_allclose(
        run_in_onnx(scorer, USERS, ITEMS), scorer.predict(USERS, ITEMS), atol=1e-5
    )


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh", "gelu"])
@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_every_activation_and_output_exports(activation, output):
    config = ScorerConfig(hidden=(5, 4), activation=activation, output=output, seed=3)
    scorer = DNNScorer(config, 3, 2)
    rng = np.random.default_rng(0)
    scorer.set_weights({k: rng.normal(size=w.shape) for k, w in scorer.get_weights().items()})
    users, items = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    scores = scorer.predict(users, items)
    np.testing.assert_allclose(run_in_onnx(scorer, users, items), scores, atol=1e-5)
    assert scores.shape == (6,)
    if output == "sigmoid":
        assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize(
    ("optimizer", "rate", "loss"),
    [("adam", 0.02, "mse"), ("rmsprop", 0.02, "cross_entropy"), ("sgd", 1.0, "mse")],
)
def test_every_optimiser_beats_the_mean_on_learnable_data(optimizer, rate, loss):
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(400, 3)), rng.normal(size=(400, 3))
    targets = 1 / (1 + np.exp(-3 * (users * items).sum(axis=1)))
    config = ScorerConfig(
        hidden=(16,),
        optimizer=optimizer,
        learning_rate=rate,
        output="sigmoid",
        loss=loss,
        epochs=40,
        batch_size=50,
        patience=40,
    )
    scorer = fit_scorer(users, items, targets, config)
    columns = tuple(np.asarray(c, np.float32) for c in (users, items, targets))
    mean = constant_loss(config, float(targets.mean()), columns[2])
    assert scorer_loss(scorer, columns) < mean - 0.01
    assert scorer.history[-1]["loss"] < scorer.history[0]["loss"]


def test_early_stopping_keeps_the_best_weights():
    rng = np.random.default_rng(2)
    noise = tuple(rng.random((60, n)) for n in (4, 4, 1))
    train, held = (tuple(np.float32(c[s]) for c in noise) for s in (slice(40), slice(40, 60)))
    held = (held[0], held[1], held[2][:, 0])
    config = ScorerConfig(
        hidden=(64,), output="sigmoid", loss="mse", learning_rate=0.05, epochs=200, patience=3,
        batch_size=1024, dropout=0.1
    )  # fmt: skip
    scorer = fit_scorer(train[0], train[1], train[2][:, 0], config, validation=held)
    losses = [row["validation_loss"] for row in scorer.history]
    assert len(losses) < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    assert scorer_loss(scorer, held) == pytest.approx(min(losses), rel=1e-6)


def test_the_same_seed_gives_the_same_scorer():
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(50, 2)), rng.normal(size=(50, 2)), rng.random(50)
    config = ScorerConfig(hidden=(4,), loss="mse", epochs=3, dropout=0.2, batch_size=16)
    first, again, other = (
        fit_scorer(*columns, dataclasses.replace(config, seed=s)).get_weights() for s in (1, 1, 2)
    )
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert any(not np.array_equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize(
    ("users", "items", "targets", "error", "message"),
    [
        ([["x"]], ITEMS, TARGETS, TypeError, "user_features: got dtype <U1, expected real"),
        (USERS[:, 0], ITEMS, TARGETS, DataError, r"user_features: got shape \(3,\), expected \(n"),
        (USERS, ITEMS[:2], TARGETS, DataError, "item_features: got 2 rows, expected 3 as in user"),
        (USERS, ITEMS, TARGETS[:2], DataError, "targets: got 2 rows, expected 3"),
        (USERS, ITEMS * np.nan, TARGETS, DataError, "item_features: got NaN or infinity in row 0"),
        (USERS, ITEMS, TARGETS + 0.1, DataError, r"targets: got 1\.0.* in row 2, expected 0 to"),
        (USERS[:0], ITEMS[:0], TARGETS[:0], DataError, "targets: got 0 rows, expected at least 1"),
    ],
)
def test_bad_rows_name_the_argument(users, items, targets, error, message):
    with pytest.raises(error, match=message):
        fit_scorer(users, items, targets, SMALLEST)


def test_candidates_are_put_in_order_by_what_their_targets_have_in_common():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 8, 3)).astype(np.float32)  # one of the user, two of the item
    best = (features[..., 1] - features[..., 2]).argmax(axis=1)
    is_target = np.arange(8) == best[:, None]
    there = np.ones((300, 8), bool)
    config = ScorerConfig(hidden=(16,), learning_rate=0.02, epochs=30)
    scorer = fit_candidates(features, is_target, there, config, n_user_features=1)
    flat = features.reshape(-1, 3)
    scores = scorer.predict(flat[:, :1], flat[:, 1:]).reshape(300, 8)
    assert (scores.argmax(axis=1) == best).mean() > 0.9


def test_the_candidate_loss_shares_the_mass_and_leaves_out_what_is_not_there():
    targets = np.float32([[1, 0, 1, 0], [0, 0, 0, 0]])
    scores = np.float32([[1, 2, 3, 50], [5, 1, 1, 1]])
    there = np.float32([[1, 1, 1, 0], [1, 1, 1, 1]])
    log_p = scores[0, :3] - np.log(np.exp(scores[0, :3]).sum())
    expected = -(log_p[0] + log_p[2]) / 2
    assert float(candidate_softmax(targets, scores, there)) == pytest.approx(expected, rel=1e-6)


def test_rows_alone_cannot_be_compared_by_the_candidate_loss():
    with pytest.raises(DataError, match=r"scorer\.loss: got 'softmax', which compares"):
        fit_scorer(USERS, ITEMS, TARGETS, ScorerConfig())


def test_predicting_with_another_width_is_refused():
    scorer = DNNScorer(SMALLEST, 1, 1)
    with pytest.raises(DataError, match=r"item_features: got shape \(1, 2\), expected \(n, 1\)"):
        scorer.predict([[1.0]], [[1.0, 2.0]])
    assert scorer.predict(np.zeros((0, 1)), np.zeros((0, 1))).shape == (0,)


def test_divergence_is_an_error_that_names_the_setting():
    config = dataclasses.replace(SMALLEST, output="linear", optimizer="sgd", learning_rate=100.0)
    with (
        np.errstate(all="ignore"),
        pytest.raises(DataError, match=r"lower scorer\.learning_rate \(100\.0\)"),
    ):
        fit_scorer(USERS * 1e6, ITEMS * 1e6, TARGETS, dataclasses.replace(config, hidden=()))
