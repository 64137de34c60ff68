"""The second stage's graph: codes of history and candidates → features → the DNN scorer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from shortlist.training.models.followers import Followers, FollowerShares
from shortlist.training.models.scorer import DNNScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import ScorerConfig
    from shortlist.training.data.arrays import Tensor

USER_FEATURES = ("history length",)
ITEM_FEATURES = ("similarity", "linear", "linear of the latest", "popularity")
OF_FOLLOWERS = "followers"  # one item feature more; runs of before have none
N_LATEST = 10  # items of the history that the feature "linear of the latest" looks at
CHUNK = 256  # requests at once


@dataclass(frozen=True)
class Tables:
    """What the scorer knows about items; row 0 is an item that came after the training.

    Attributes
    ----------
    of_history, of_candidate : ndarray of shape (n_items + 1, n_factors), float32
        See `factors.linear_factors`.
    popularity : ndarray of shape (n_items + 1,), float32
        Log of 1 + train events.
    mean, std : ndarray of shape (5,) or (6,), float32
        Of the features (user's, then item's) over the training candidates.
    followers : Followers or None
        None, in runs of before: their feature is left out.
    """

    of_history: NDArray[np.float32]
    of_candidate: NDArray[np.float32]
    popularity: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    followers: Followers | None = None

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the features of a candidate."""
        return ITEM_FEATURES if self.followers is None else (*ITEM_FEATURES, OF_FOLLOWERS)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the tables by name, but for the followers."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "followers"}


class CandidateFeatures(keras.layers.Layer):  # type: ignore[misc]
    """Standardised features of each (request, candidate).

    What is not known of an item that came after the training is 0: that of the average candidate.
    """

    def __init__(self, tables: Tables, follower_decay: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, values in tables.arrays().items():
            weight = self.add_weight(
                name=name, shape=values.shape, initializer="zeros", trainable=False
            )
            weight.assign(values)
            setattr(self, name, weight)
        self.shares = None
        if tables.followers is not None:
            self.shares = FollowerShares(tables.followers, follower_decay, name="follower_shares")
        self.built = True

    def call(
        self, history: Tensor, candidates: Tensor, similarity: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return user features (batch, n, 1) and item features (batch, n, 4 or 5)."""
        popularity = ops.expand_dims(tf.gather(self.popularity, candidates), -1)
        linear = self._linear(history, candidates)
        parts = [ops.expand_dims(similarity, -1), linear, popularity]
        if self.shares is not None:
            parts.append(ops.expand_dims(self.shares(history, candidates), -1))
        item = ops.concatenate(parts, axis=-1)
        item = (item - self.mean[1:]) / self.std[1:]
        known = ops.expand_dims(ops.cast(candidates > 0, "float32"), -1)
        item = ops.concatenate([item[..., :1], item[..., 1:] * known], axis=-1)
        user = ops.expand_dims(self._user(history), 1) * ops.ones_like(item[..., :1])
        return user, item

    def first_layer(
        self, history: Tensor, candidates: Tensor, similarity: Tensor, matrix: Tensor, bias: Tensor
    ) -> Tensor:
        """Compute what a first dense layer makes of the features, in few operations.

        Parts that depend on the request alone, or on the candidate alone, are multiplied by
        themselves: the latter are looked up once the export has put them into a table.

        Parameters
        ----------
        history, candidates, similarity : tensors
            As for `call`.
        matrix, bias : tensors of shape (n_features, n_units) and (n_units,), float32

        Returns
        -------
        tensor of shape (batch, n, n_units), float32
        """
        mean, std = self.mean[1:], self.std[1:]
        scaled = matrix[1:] / std[:, None]
        linear = self._linear(history, candidates)
        values = ops.concatenate([ops.expand_dims(similarity, -1), linear], axis=-1)
        popularity = ops.expand_dims(tf.gather(self.popularity, candidates), -1)
        known = ops.expand_dims(ops.cast(candidates > 0, "float32"), -1)
        own = (popularity * scaled[3] - ops.matmul(mean[None, 1:], scaled[1:])) * known
        of_user = ops.matmul(self._user(history), matrix[:1]) + (bias - mean[0] * scaled[0])
        layer = ops.matmul(values, scaled[:3]) + own + ops.expand_dims(of_user, 1)
        if self.shares is None:
            return layer
        return layer + ops.expand_dims(self.shares(history, candidates), -1) * scaled[4]

    def _linear(self, history: Tensor, candidates: Tensor) -> Tensor:
        """Score candidates by the whole history and by its latest items: (batch, n, 2)."""
        vectors = tf.gather(self.of_history, history)
        sums = [tf.reduce_sum(part, axis=1) for part in (vectors, vectors[:, -N_LATEST:])]
        return ops.matmul(tf.gather(self.of_candidate, candidates), tf.stack(sums, axis=2))

    def _user(self, history: Tensor) -> Tensor:
        """Standardise the history's length: (batch, 1)."""
        length = ops.cast(tf.reduce_sum(tf.minimum(history, 1), axis=1, keepdims=True), "float32")
        return (ops.log(1.0 + length) - self.mean[:1]) / self.std[:1]


class _Score(keras.layers.Layer):  # type: ignore[misc]
    """The features and the scorer, joined at the first dense layer."""

    def __init__(self, features: CandidateFeatures, scorer: DNNScorer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.scorer = scorer

    def call(self, history: Tensor, candidates: Tensor, similarity: Tensor) -> Tensor:
        """Score candidates (batch, n)."""
        layer = self.scorer.first_layer
        matrix, bias = ops.convert_to_tensor(layer.kernel), ops.convert_to_tensor(layer.bias)
        values = self.features.first_layer(history, candidates, similarity, matrix, bias)
        return self.scorer.forward_after(values)


class CandidateScorer:
    """The DNN scorer over the features of (user, candidate).

    Parameters
    ----------
    config : ScorerConfig
    tables : Tables

    Attributes
    ----------
    scorer : DNNScorer
        The Dense layers.
    model : keras.Model
        ``history`` (batch, length) and ``candidates`` (batch, n), item codes int64, and
        ``similarity`` (batch, n), float32 → ``score`` (batch, n), float32.
    """

    def __init__(self, config: ScorerConfig, tables: Tables) -> None:
        self.config = config
        self.tables = tables
        self.scorer = DNNScorer(config, len(USER_FEATURES), len(tables.item_features))
        self._features = CandidateFeatures(tables, config.follower_decay, name="candidate_features")
        history = keras.Input((None,), dtype="int64", name="history")
        candidates = keras.Input((None,), dtype="int64", name="candidates")
        similarity = keras.Input((None,), dtype="float32", name="similarity")
        scored = _Score(self._features, self.scorer, name="given")
        score = keras.layers.Identity(name="score")(scored(history, candidates, similarity))
        inputs = {"history": history, "candidates": candidates, "similarity": similarity}
        self.model = keras.Model(inputs, score, name="second_stage")

    def features(self, inputs: dict[str, NDArray[Any]]) -> tuple[Any, Any]:
        """Compute the features of many requests: user (n, m, 1), item (n, m, 4 or 5), float32."""
        parts = [
            self._features(*(inputs[name][i : i + CHUNK] for name in INPUTS))
            for i in range(0, len(inputs["history"]), CHUNK)
        ]
        return tuple(np.concatenate([np.asarray(p[k]) for p in parts]) for k in range(2))  # type: ignore[return-value]

    def get_weights(self) -> dict[str, NDArray[Any]]:
        """Copy the tables and the weights out, by name."""
        tables = {f"table.{name}": values for name, values in self.tables.arrays().items()}
        followers = self.tables.followers
        named = {} if followers is None else followers.named()
        return tables | named | self.scorer.get_weights()


INPUTS = ("history", "candidates", "similarity")


def restore(config: ScorerConfig, weights: dict[str, NDArray[Any]]) -> CandidateScorer:
    """Rebuild a scorer from what `CandidateScorer.get_weights` gave."""
    named = {
        name.removeprefix("table."): values
        for name, values in weights.items()
        if name.startswith("table.")
    }
    tables = Tables(**named, followers=Followers.from_named(weights))
    scorer = CandidateScorer(config, tables)
    scorer.scorer.set_weights(weights)
    return scorer
