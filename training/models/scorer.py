"""The DNN scorer: user and item features through Dense layers to one preference score."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from shortlist.errors import DataError
from shortlist.training.models.layers import dropout, fold
from shortlist.training.models.losses import (
    binary_cross_entropy,
    candidate_softmax,
    mean_squared_error,
)
from shortlist.training.models.weights import assign_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from shortlist.training.config.sections import ScorerConfig
    from shortlist.training.data.arrays import Tensor

LOSSES = {
    "mse": mean_squared_error,
    "cross_entropy": binary_cross_entropy,
    "softmax": candidate_softmax,
}
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
# Exact gelu needs Erfc, which has no ONNX export; its tanh form does export.
ACTIVATIONS = {
    "sigmoid": keras.activations.sigmoid,
    "relu": keras.activations.relu,
    "tanh": keras.activations.tanh,
    "gelu": partial(keras.activations.gelu, approximate=True),
}
MIN_ROWS_TO_HOLD_OUT = 20
CHUNK = 65_536


class DNNScorer:
    """Dense layers from (user features, item features) to a score.

    Parameters
    ----------
    config : ScorerConfig
        Hidden sizes, activation, output and seed.
    n_user_features, n_item_features : int
        Widths of the two inputs.

    Attributes
    ----------
    model : keras.Model
        ``user_features`` (batch, n_user_features) and ``item_features`` (batch, n_item_features),
        float32 → ``score`` (batch,), float32.
    history : list of dict
        One dict an epoch of `fit_scorer`: ``epoch``, ``loss``, ``validation_loss`` or None.
    """

    def __init__(self, config: ScorerConfig, n_user_features: int, n_item_features: int) -> None:
        self.config = config
        self.n_user_features = n_user_features
        self.n_item_features = n_item_features
        self.history: list[dict[str, float | None]] = []
        self._layers = [
            keras.layers.Dense(
                n_units,
                kernel_initializer=keras.initializers.GlorotUniform(config.seed + i),
                name=f"dense_{i}",
            )
            for i, n_units in enumerate((*config.hidden, 1))
        ]
        user = keras.Input((n_user_features,), dtype="float32", name="user_features")
        item = keras.Input((n_item_features,), dtype="float32", name="item_features")
        score = keras.layers.Identity(name="score")(self.forward(user, item))
        self.model = keras.Model(
            {"user_features": user, "item_features": item}, score, name="scorer"
        )

    def forward(self, user_features: Tensor, item_features: Tensor, seed: Tensor = None) -> Tensor:
        """Compute scores (batch,); with a seed (2,) int32, dropout is active."""
        values = keras.ops.concatenate([user_features, item_features], axis=-1)
        return self.forward_after(self._layers[0](values), seed)

    @property
    def first_layer(self) -> Any:
        """The layer that takes the user's features, then the item's."""
        return self._layers[0]

    def forward_after(self, values: Tensor, seed: Tensor = None) -> Tensor:
        """Compute scores (…,) from what the first layer gives, (…, n_units)."""
        for i, layer in enumerate(self._layers[1:]):
            values = ACTIVATIONS[self.config.activation](values)
            values = layer(dropout(values, self.config.dropout, fold(seed, i)))
        score = keras.ops.squeeze(values, -1)
        return keras.ops.sigmoid(score) if self.config.output == "sigmoid" else score

    def predict(self, user_features: ArrayLike, item_features: ArrayLike) -> NDArray[np.float32]:
        """Score pairs of rows: (n, n_user_features), (n, n_item_features) → (n,) float32."""
        user = _matrix("user_features", user_features, self.n_user_features)
        item = _matrix("item_features", item_features, self.n_item_features)
        _check_rows(user, item_features=len(item))
        chunks = [
            self.forward(user[i : i + CHUNK], item[i : i + CHUNK]).numpy()
            for i in range(0, len(user), CHUNK)
        ]
        return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)

    def get_weights(self) -> dict[str, NDArray[np.float32]]:
        """Copy the weights out, by name."""
        return {name: weight.numpy() for name, weight in self._named_weights()}

    def set_weights(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Copy weights in; names and shapes must match."""
        assign_weights(self._named_weights(), weights, "scorer")

    def _named_weights(self) -> list[tuple[str, Any]]:
        return [(f"{i:02d}.{w.name}", w) for i, w in enumerate(self.model.trainable_weights)]


def fit_scorer(
    user_features: ArrayLike,
    item_features: ArrayLike,
    targets: ArrayLike,
    config: ScorerConfig,
    *,
    validation: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    progress: bool = False,
) -> DNNScorer:
    """Train a scorer with early stopping on the validation loss; the best epoch's weights stay.

    Parameters
    ----------
    user_features : array-like of shape (n, n_user_features)
    item_features : array-like of shape (n, n_item_features)
    targets : array-like of shape (n,)
        Preferences, from 0 to 1 for the sigmoid output or the cross-entropy loss.
    config : ScorerConfig
    validation : tuple of three array-likes, optional
        Rows of the same kinds to stop early on. Without it a random part ``config.validation`` of
        the rows is held out, if there are at least 20 rows.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DNNScorer
        With its ``history``.

    Raises
    ------
    TypeError, DataError
        Wrong types; wrong shapes, NaN or infinite values, targets outside 0..1.
    """
    if config.loss == "softmax":
        raise DataError(
            "scorer.loss: got 'softmax', which compares the candidates of one request; expected "
            "'mse' or 'cross_entropy' for single rows"
        )
    columns = _columns(user_features, item_features, targets, config)
    rng = np.random.default_rng([config.seed, 2])
    if validation is not None:
        widths = columns[0].shape[1], columns[1].shape[1]
        held_out = _columns(*validation, config, widths=widths)
    else:
        order, n_rows = rng.permutation(len(columns[2])), len(columns[2])
        n_held = int(n_rows * config.validation) if n_rows >= MIN_ROWS_TO_HOLD_OUT else 0
        held_out = tuple(column[order[:n_held]] for column in columns)
        columns = tuple(column[np.sort(order[n_held:])] for column in columns)
    scorer = DNNScorer(config, columns[0].shape[1], columns[1].shape[1])
    _run_epochs(scorer, columns, held_out, progress)
    return scorer


def fit_candidates(
    features: NDArray[np.float32],
    is_target: NDArray[np.bool_],
    is_there: NDArray[np.bool_],
    config: ScorerConfig,
    *,
    n_user_features: int,
    progress: bool = False,
) -> DNNScorer:
    """Train a scorer to put each request's targets before its other candidates.

    Parameters
    ----------
    features : ndarray of shape (n, m, n_features), float32
        Of m candidates of n requests: the user's features first, then the item's.
    is_target, is_there : ndarray of shape (n, m), bool
        Which candidates are targets, and which places hold a candidate at all.
    config : ScorerConfig
        ``loss`` "softmax" compares the candidates of a request, the others judge each alone.
    n_user_features : int
        How many of the features are the user's.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DNNScorer
    """
    user, item = features[..., :n_user_features], features[..., n_user_features:]
    scorer = DNNScorer(config, user.shape[-1], item.shape[-1])
    columns = (user, item, is_target.astype(np.float32))
    there = is_there.astype(np.float32)
    if len(features):
        _run_epochs(scorer, columns, tuple(c[:0] for c in columns), progress, there)
    return scorer


def scorer_loss(scorer: DNNScorer, columns: tuple[NDArray[np.float32], ...]) -> float:
    """Mean loss of the scorer on (user features, item features, targets)."""
    scores = scorer.predict(columns[0], columns[1])
    return float(LOSSES[scorer.config.loss](columns[2], scores, np.ones_like(scores)))


def constant_loss(config: ScorerConfig, value: float, targets: NDArray[np.float32]) -> float:
    """Mean loss of always answering ``value``: what a scorer has to beat."""
    scores = np.full_like(targets, value)
    return float(LOSSES[config.loss](targets, scores, np.ones_like(targets)))


def _run_epochs(
    scorer: DNNScorer,
    columns: tuple[NDArray[np.float32], ...],
    held_out: tuple[NDArray[np.float32], ...],
    progress: bool,
    there: NDArray[np.float32] | None = None,
) -> None:
    config = scorer.config
    step = _compile_step(scorer)
    n_rows, size = len(columns[2]), min(config.batch_size, len(columns[2]))
    best, best_loss, best_epoch = scorer.get_weights(), np.inf, 0
    for epoch in tqdm(range(1, config.epochs + 1), desc="scorer", disable=not progress):
        rng = np.random.default_rng([config.seed, 3, epoch])
        order, losses = rng.permutation(n_rows), []
        for start in range(0, n_rows, size):
            rows = np.resize(order[start : start + size], size)  # filled rows have weight 0
            weight = (np.arange(size) < n_rows - start).astype(np.float32)
            if there is not None:
                weight = weight[:, None] * there[rows]
            seed = rng.integers(0, 2**31 - 1, 2).astype(np.int32)
            losses.append(step(*(tf.constant(c[rows]) for c in columns), weight, seed))
        loss = float(np.mean([float(value) for value in losses]))
        held_loss = scorer_loss(scorer, held_out) if len(held_out[2]) else None
        if not np.isfinite(loss):
            raise DataError(
                f"scorer: loss is {loss} in epoch {epoch}; "
                f"lower scorer.learning_rate ({config.learning_rate})"
            )
        scorer.history.append({"epoch": epoch, "loss": loss, "validation_loss": held_loss})
        if held_loss is None or held_loss < best_loss:
            best, best_epoch = scorer.get_weights(), epoch
            best_loss = np.inf if held_loss is None else held_loss
        elif epoch - best_epoch >= config.patience:
            break
    scorer.set_weights(best)


def _compile_step(scorer: DNNScorer) -> Any:
    config, variables = scorer.config, scorer.model.trainable_weights
    optimizer = OPTIMIZERS[config.optimizer](learning_rate=config.learning_rate)
    optimizer.build(variables)

    def step(user: Tensor, item: Tensor, targets: Tensor, weight: Tensor, seed: Tensor) -> Any:
        with tf.GradientTape() as tape:
            scores = scorer.forward(user, item, seed if config.dropout else None)
            loss = LOSSES[config.loss](targets, scores, weight)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        return loss

    return tf.function(step, reduce_retracing=True)


def _columns(
    user_features: ArrayLike,
    item_features: ArrayLike,
    targets: ArrayLike,
    config: ScorerConfig,
    widths: tuple[int | None, int | None] = (None, None),
) -> tuple[NDArray[np.float32], ...]:
    user = _matrix("user_features", user_features, widths[0])
    item = _matrix("item_features", item_features, widths[1])
    target = _matrix("targets", np.asarray(targets)[..., None], 1)[:, 0]
    _check_rows(user, item_features=len(item), targets=len(target))
    if len(target) == 0:
        raise DataError("targets: got 0 rows, expected at least 1")
    if config.output == "sigmoid" or config.loss == "cross_entropy":
        outside = np.flatnonzero((target < 0) | (target > 1))
        if len(outside):
            raise DataError(
                f"targets: got {target[outside[0]]:.6g} in row {outside[0]}, expected 0 to 1 for "
                f"output {config.output!r} with loss {config.loss!r}; scale the targets"
            )
    return user, item, target


def _matrix(name: str, values: ArrayLike, width: int | None) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: got dtype {array.dtype}, expected real numbers")
    if array.ndim != 2 or array.shape[1] == 0 or (width is not None and array.shape[1] != width):
        wanted = f"(n, {'n_features' if width is None else width})"
        raise DataError(f"{name}: got shape {array.shape}, expected {wanted}")
    array = array.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DataError(f"{name}: got NaN or infinity in row {bad[0]}, expected finite numbers")
    return array


def _check_rows(user: NDArray[np.float32], **others: int) -> None:
    for name, n_rows in others.items():
        if n_rows != len(user):
            raise DataError(f"{name}: got {n_rows} rows, expected {len(user)} as in user_features")


def scorer_state(scorer: DNNScorer) -> dict[str, object]:
    """Everything but the weights that rebuilds a scorer, as JSON values."""
    return {
        "config": dataclasses.asdict(scorer.config),
        "n_user_features": scorer.n_user_features,
        "n_item_features": scorer.n_item_features,
        "history": scorer.history,
    }
