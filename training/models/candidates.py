"""The second stage's graph: codes of history and candidates → features → the DNN scorer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from shortlist.training.models.scorer import DNNScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config import ScorerConfig

USER_FEATURES = ("history length",)
ITEM_FEATURES = ("similarity", "linear", "linear of the latest", "popularity")
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
    mean, std : ndarray of shape (5,), float32
        Of the features (user's, then item's) over the training candidates.
    """

    of_history: NDArray[np.float32]
    of_candidate: NDArray[np.float32]
    popularity: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


class CandidateFeatures(keras.layers.Layer):  # type: ignore[misc]
    """Standardised features of each (request, candidate).

    What is not known of an item that came after the training is 0: that of the average candidate.
    """

    def __init__(self, tables: Tables, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for field in fields(Tables):
            values = getattr(tables, field.name)
            weight = self.add_weight(
                name=field.name, shape=values.shape, initializer="zeros", trainable=False
            )
            weight.assign(values)
            setattr(self, field.name, weight)

    def call(self, history: Any, candidates: Any, similarity: Any) -> tuple[Any, Any]:
        """Return user features (batch, n, 1) and item features (batch, n, 4)."""
        vectors = ops.take(self.of_history, history, axis=0)
        both = ops.stack(
            [ops.sum(vectors, axis=1), ops.sum(vectors[:, -N_LATEST:], axis=1)], axis=1
        )
        linear = ops.matmul(
            ops.take(self.of_candidate, candidates, axis=0), ops.transpose(both, (0, 2, 1))
        )
        popularity = ops.take(self.popularity, candidates, axis=0)
        item = ops.concatenate(
            [ops.expand_dims(similarity, -1), linear, ops.expand_dims(popularity, -1)], axis=-1
        )
        item = (item - self.mean[1:]) / self.std[1:]
        known = ops.expand_dims(ops.cast(candidates > 0, "float32"), -1)
        item = ops.concatenate([item[..., :1], item[..., 1:] * known], axis=-1)
        length = ops.sum(ops.cast(history > 0, "float32"), axis=1, keepdims=True)
        user = (ops.log(1.0 + length) - self.mean[:1]) / self.std[:1]
        user = ops.expand_dims(user, 1) * ops.ones_like(item[..., :1])
        return user, item


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
        self.scorer = DNNScorer(config, len(USER_FEATURES), len(ITEM_FEATURES))
        self._features = CandidateFeatures(tables, name="candidate_features")
        history = keras.Input((None,), dtype="int64", name="history")
        candidates = keras.Input((None,), dtype="int64", name="candidates")
        similarity = keras.Input((None,), dtype="float32", name="similarity")
        user, item = self._features(history, candidates, similarity)
        score = keras.layers.Identity(name="score")(self.scorer.forward(user, item))
        inputs = {"history": history, "candidates": candidates, "similarity": similarity}
        self.model = keras.Model(inputs, score, name="second_stage")

    def features(self, inputs: dict[str, NDArray[Any]]) -> tuple[Any, Any]:
        """Compute the features of many requests: user (n, m, 1) and item (n, m, 4), float32."""
        parts = [
            self._features(*(inputs[name][i : i + CHUNK] for name in INPUTS))
            for i in range(0, len(inputs["history"]), CHUNK)
        ]
        return tuple(np.concatenate([np.asarray(p[k]) for p in parts]) for k in range(2))  # type: ignore[return-value]

    def get_weights(self) -> dict[str, NDArray[np.float32]]:
        """Copy the tables and the weights out, by name."""
        tables = {f"table.{f.name}": getattr(self.tables, f.name) for f in fields(Tables)}
        return tables | self.scorer.get_weights()


INPUTS = ("history", "candidates", "similarity")


def restore(config: ScorerConfig, weights: dict[str, NDArray[np.float32]]) -> CandidateScorer:
    """Rebuild a scorer from what `CandidateScorer.get_weights` gave."""
    tables = Tables(**{f.name: weights[f"table.{f.name}"] for f in dataclasses.fields(Tables)})
    scorer = CandidateScorer(config, tables)
    scorer.scorer.set_weights(weights)
    return scorer
