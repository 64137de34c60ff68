"""Closed-form models of bundles: the fitted tables behind the interface of the two-tower model.

There is nothing to train: an item's embedding is a row of a table that `baselines` fitted, a
user's is computed from the history by a layer without weights, and their dot product is the score.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from shortlist.errors import DataError
from shortlist.training.config.sections import CLOSED_FORM, Config
from shortlist.training.models.als import ImplicitALS
from shortlist.training.models.baselines import Baseline, Popularity
from shortlist.training.models.ease import EASE
from shortlist.training.models.item_item import ItemItem, ItemKNN, RecencyItemKNN
from shortlist.training.models.layers import HistoryLookup, look_up, rows_by_age
from shortlist.training.models.two_tower import (
    TwoTower,
    default_item_inputs,
    named,
    with_padding_row,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.index import Metric
    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import FeatureSet

# Bytes of a table of n_items × n_items numbers: 8,191 items. On 12,101 items EASE was fitted in
# 4.5 GiB, and the export with its checks was not done after three minutes.
MAX_TABLE = 2**28
_ROUNDING = 1e-7  # relative error at which the fold-in stops: float32 has no more


def is_closed_form(config: Config) -> bool:
    """Say whether ``model.encoder`` names a model that is fitted and not trained."""
    return config.model.encoder in CLOSED_FORM


def build_baseline(config: Config) -> Baseline:
    """Create the unfitted model that ``model.encoder`` names, with the settings of ``[linear]``."""
    linear = config.linear
    model: ItemItem
    match config.model.encoder:
        case "popularity":
            return Popularity()
        case "ials":
            return ImplicitALS(
                config.model.dim,
                linear.als_l2,
                linear.als_alpha,
                linear.als_iterations,
                config.train.seed,
            )
        case "item-knn":
            model = ItemKNN(linear.neighbours, linear.shrink)
        case "cooccurrence":
            model = RecencyItemKNN(linear.window, linear.decay_gap, linear.decay_age, linear.power)
        case _:
            model = EASE(linear.ease_l2, linear.ease_user_power, linear.ease_item_power)
    if linear.repeat > 0.0:
        model = model.with_repeats(linear.repeat, linear.repeat_decay)
    return model.with_trend(linear.trend, linear.trend_days) if linear.trend > 0.0 else model


def check_settings(config: Config, n_items: int) -> None:
    """Refuse what the model cannot do, or not afford; before anything is fitted."""
    encoder = config.model.encoder
    if config.linear.refit and config.scorer.enabled:
        raise DataError(
            "linear.refit: got true with scorer.enabled, whose second stage learns from validation "
            "events that the first one must not know, expected one of them. Fix: leave one out"
        )
    for name in ("trend", "repeat"):
        value = getattr(config.linear, name)
        if value > 0.0 and encoder in ("popularity", "ials"):
            raise DataError(
                f"linear.{name}: got {value:g} with model.encoder {encoder!r}, which has no "
                f"{name}, expected 0. Fix: leave it out, or use 'item-knn', 'cooccurrence' or "
                "'ease'"
            )
    if is_affordable(encoder, n_items):
        return
    size = 4 * n_items * (n_items + 1)
    raise DataError(
        f"model.encoder: got {encoder!r} with {n_items:,} items, whose table takes "
        f"{size / 2**30:.1f} GiB, expected at most {MAX_TABLE / 2**30:.2f} GiB (8,191 items). "
        "Fix: use 'ials' (to begin with, model.dim=256 and linear.als_l2=2), 'popularity' or an "
        "encoder that is trained, such as 'pool'; or keep the items with most events ([cleaning] "
        "k_core)"
    )


def is_affordable(encoder: str, n_items: int) -> bool:
    """Say whether a closed-form model's table is small enough for a catalogue of this size."""
    return encoder in ("popularity", "ials") or 4 * n_items * (n_items + 1) <= MAX_TABLE


class LinearModel(TwoTower):
    """A closed-form model as an item table and a user encoder without weights.

    Parameters
    ----------
    config : Config
        ``model.encoder`` is one of `CLOSED_FORM` of the settings.
    features : FeatureSet
        Its item vocabulary; content is not looked at.

    Notes
    -----
    Attributes as of `TwoTower`. ``dim`` is 1 (popularity), ``model.dim`` (ials) or n_items + 1.
    """

    metric: Metric = "dot"

    def __init__(self, config: Config, features: FeatureSet) -> None:
        self.config = config
        self.features = features
        self.n_items = features.n_items
        check_settings(config, self.n_items)
        self.item_inputs = default_item_inputs(features)
        encoder = config.model.encoder
        self._folds_in = encoder == "ials"
        if encoder == "popularity":
            self.dim = 1
            self.user_encoder = SameForAll(name="user_encoder")
        elif self._folds_in:
            self.dim = config.model.dim
            self.user_encoder = FoldIn(config.linear.als_alpha, name="user_encoder")
            self.history_lookup = HistoryLookup(self.n_items, self.dim, name="history_lookup")
        else:
            self.dim = self.n_items + 1
            self.user_encoder = _weighted_history(config, self.dim)
        self.item_encoder = ItemTable(self.n_items, self.dim, name="item_encoder")
        self.item_model = self._build_item_model()
        self.user_model = self._build_user_model()

    def fill(self, vectors: NDArray[np.float32]) -> None:
        """Take over the item vectors (n_items, dim) of a fitted baseline."""
        self.item_encoder.table.assign(with_padding_row(vectors))
        self.refresh()

    def popular_scores(self) -> NDArray[np.float32] | None:
        """Return the scores (n_items,) of a request without a history; None: events in training."""
        encoder, has_trend = self.config.model.encoder, self.config.linear.trend > 0.0
        return self.item_vectors()[:, 0] if encoder == "popularity" or has_trend else None

    def refresh(self) -> NDArray[np.float32]:
        """Return the item vectors; the fold-in looks histories up in them from now on."""
        return super().refresh() if self._folds_in else self.item_vectors()

    def serving_user_model(self, item_vectors: NDArray[np.float32]) -> keras.Model:
        """See `TwoTower.serving_user_model`; only the fold-in looks histories up."""
        return super().serving_user_model(item_vectors) if self._folds_in else self.user_model

    def _build_user_model(self, lookup: HistoryLookup | None = None) -> keras.Model:
        history = keras.Input((None,), dtype="int64", name="history")
        if self._folds_in:
            distinct = Distinct(self.config.model.history_length, name="distinct")
            vectors = (lookup or self.history_lookup)(distinct(history))
            embedding = self.user_encoder(vectors)
        else:
            embedding = self.user_encoder(history)
        outputs = named(embedding, "user_embedding")
        return keras.Model({"history": history}, outputs, name="user_model")


def _weighted_history(config: Config, dim: int) -> WeightedHistory:
    linear, length = config.linear, config.model.history_length
    decay = linear.decay_age if config.model.encoder == "cooccurrence" else 1.0
    has_repeats = linear.repeat > 0.0
    return WeightedHistory(
        dim,
        linear.repeat_decay if has_repeats else decay,
        length,
        all_events=has_repeats,
        name="user_encoder",
    )


class ItemTable(keras.layers.Layer):  # type: ignore[misc]
    """Item embeddings by item code; that of an unknown item (code 0) is zero."""

    def __init__(self, n_items: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = self.add_weight(name="table", shape=(n_items + 1, dim), initializer="zeros")

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Look up ``item_id`` codes (batch,): (batch, dim)."""
        return look_up(self.table, inputs["item_id"])


class SameForAll(keras.layers.Layer):  # type: ignore[misc]
    """User encoder of popularity: 1, whatever the history."""

    is_causal = False

    def call(self, codes: Tensor) -> Tensor:
        """Encode histories (batch, length): (batch, 1)."""
        return tf.ones((tf.shape(codes)[0], 1))


class WeightedHistory(keras.layers.Layer):  # type: ignore[misc]
    """User encoder of item-item models: 1, then ``decay^age`` of each item, 0 of one not seen.

    Age is the number of known items after its latest event; with ``all_events`` the weights of all
    events of an item are summed. See `item_item.ItemItem`.
    """

    is_causal = False

    def __init__(
        self,
        dim: int,
        decay: float,
        history_length: int,
        *,
        all_events: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim, self.decay, self.history_length = dim, decay, history_length
        self.all_events = all_events

    def call(self, codes: Tensor) -> Tensor:
        """Encode histories of item codes (batch, length): (batch, dim), dim = n_items + 1."""
        _, _, row = rows_by_age(codes, self.history_length)
        by_age = np.append(self.decay ** np.arange(self.history_length), 0).astype(np.float32)
        weights = tf.gather(by_age, row)
        n_rows = tf.shape(codes)[0]
        empty = tf.broadcast_to(tf.one_hot([0], self.dim), [n_rows, self.dim])
        rows = tf.broadcast_to(tf.range(n_rows, dtype=codes.dtype)[:, None], tf.shape(codes))
        places = tf.stack([rows, codes], axis=-1)
        # Padding weighs 0 and keeps the 1 of code 0. The latest event of an item weighs most.
        if self.all_events:
            return tf.tensor_scatter_nd_add(empty, places, weights)
        return tf.tensor_scatter_nd_max(empty, places, weights)


class Distinct(keras.layers.Layer):  # type: ignore[misc]
    """The known items of a history once each, in no order; 0 in the places that become free."""

    def __init__(self, history_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.history_length = history_length

    def call(self, codes: Tensor) -> Tensor:
        """Drop repeats of item codes (batch, length)."""
        _, _, row = rows_by_age(codes, self.history_length)
        codes = tf.where(row < self.history_length, codes, 0)
        ordered = tf.math.top_k(codes, k=tf.shape(codes)[1]).values
        before = ops.concatenate([-ops.ones_like(ordered[:, :1]), ordered[:, :-1]], axis=1)
        return tf.where(ordered == before, tf.zeros((), ordered.dtype), ordered)


class FoldIn(keras.layers.Layer):  # type: ignore[misc]
    """User encoder of implicit ALS: solve for the user from the history's item vectors v.

    ``(I + α Σ v vᵀ) u = (1 + α) Σ v``. As the vectors of all items have ``Σ v vᵀ ≤ I`` (see
    `als.ImplicitALS.item_vectors`), the matrix has eigenvalues from 1 to 1 + α, and with
    ``E = I − 2 / (2 + α) · (…)``, whose norm is at most α / (2 + α), the inverse is
    ``2 / (2 + α) · Π_k (I + E^(2^k))``: a handful of products, whose relative
    error in float32 is about α · 1e-8.
    """

    is_causal = False

    def __init__(self, alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        n_terms = math.log(_ROUNDING) / math.log(alpha / (2.0 + alpha))
        self.n_doublings = max(1, math.ceil(math.log2(n_terms)))

    def call(self, vectors: Tensor) -> Tensor:
        """Encode users by vectors of distinct items (batch, length, dim), zero where none."""
        scale = 2.0 / (2.0 + self.alpha)
        gram = ops.matmul(ops.transpose(vectors, (0, 2, 1)), vectors)
        error = (1.0 - scale) * ops.eye(vectors.shape[-1]) - scale * self.alpha * gram
        user = scale * (1.0 + self.alpha) * ops.sum(vectors, axis=1)[:, :, None]
        for k in range(self.n_doublings):
            error = ops.matmul(error, error) if k else error
            user = user + ops.matmul(error, user)
        return user[:, :, 0]
