"""The cosine two-tower model: an item encoder and a user encoder with unit-length embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from shortlist.training.models.encoders import build_user_encoder
from shortlist.training.models.layers import HistoryLookup, ItemEncoder
from shortlist.training.models.weights import assign_weights, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from shortlist.index import Metric
    from shortlist.training.config.sections import Config
    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import Feature, FeatureSet

CHUNK = 8192  # rows encoded at once: a few MB per activation
CHUNK_PLACES = 16_384  # … and places of histories, where each place has activations


class TwoTower:
    """User and item encoders that share one table of item vectors.

    Parameters
    ----------
    config : Config
        ``[model]`` gives the sizes, ``train.seed`` the initial weights.
    features : FeatureSet
        What the encoders read.
    item_inputs : dict of ndarray
        ``features.encode_items`` of the item table in catalogue order.

    Attributes
    ----------
    item_encoder, user_encoder : keras layers
        Trained together; ``weights`` lists their variables in a fixed order.
    item_model : keras.Model
        Encoded item inputs, ``item_id`` codes included → ``item_embedding`` (batch, dim).
    user_model : keras.Model
        ``history`` codes (batch, length) and user features → ``user_embedding`` (batch, dim);
        looks history up in the item table of the last `refresh`.
    metric : str
        By which items are near to users.
    """

    metric: Metric = "cosine"
    item_encoder: Any
    user_encoder: Any

    def __init__(
        self,
        config: Config,
        features: FeatureSet,
        item_inputs: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        model, seed = config.model, config.train.seed
        self.config = config
        self.features = features
        self.dim = model.dim
        self.n_items = features.n_items
        self.item_inputs = item_inputs or default_item_inputs(features)
        self.item_encoder = ItemEncoder(
            self.n_items,
            features.side("item"),
            model.dim,
            seed,
            model.n_members,
            name="item_encoder",
        )
        self.user_encoder = build_user_encoder(model, features, seed + 1000)
        self.history_lookup = HistoryLookup(self.n_items, model.dim, name="history_lookup")
        self.item_model = self._build_item_model()
        self.user_model = self._build_user_model(self.history_lookup)

    @property
    def weights(self) -> list[Any]:
        """Trainable variables of both encoders, in a fixed order."""
        return [*self.item_encoder.trainable_variables, *self.user_encoder.trainable_variables]

    def get_weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the present weights by name, read-only; later changes of the model leave them."""
        return {name: snapshot(weight.value) for name, weight in self._named_weights()}

    def set_weights(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Copy weights in and refresh the history table; names and shapes must match."""
        assign_weights(self._named_weights(), weights, "weights")
        self.refresh()

    def forget_ids(self, untrained: NDArray[np.bool_]) -> None:
        """Zero the id embeddings of items (n_items,) that training will never see as targets."""
        table = self.item_encoder.id_table.numpy()
        table[1:][untrained] = 0.0
        self.item_encoder.id_table.assign(table)

    def begin_with(self, vectors: NDArray[np.float32], where: NDArray[np.bool_]) -> None:
        """Set the id embeddings of the items (n_items,) marked to vectors (n_items, dim)."""
        table = self.item_encoder.id_table.numpy()
        table[1:][where] = vectors[where]
        self.item_encoder.id_table.assign(table)

    def _named_weights(self) -> list[tuple[str, Any]]:
        return [(f"{i:02d}.{weight.name}", weight) for i, weight in enumerate(self.weights)]

    def item_vectors(self) -> NDArray[np.float32]:
        """Encode the catalogue: (n_items, dim) float32, row = position in the catalogue."""
        vectors = np.empty((self.n_items, self.dim), np.float32)
        for start, part in self._encoded_chunks():
            vectors[start : start + len(part)] = part
        return vectors

    def refresh(self) -> NDArray[np.float32]:
        """Put the present item vectors into the table the user model reads.

        Returns
        -------
        ndarray of shape (n_items, dim), float32, read-only
            That table: a large catalogue is held once. The next `refresh` leaves it as it is.
        """
        table = self.history_lookup.table.value
        for start, part in self._encoded_chunks():
            table[start + 1 : start + 1 + len(part)].assign(part)
        return snapshot(table)[1:]

    def _encoded_chunks(self) -> Iterator[tuple[int, Tensor]]:
        for i in range(0, self.n_items, CHUNK):
            inputs = {k: v[i : i + CHUNK] for k, v in self.item_inputs.items()}
            yield i, self.item_model(inputs).numpy()

    def serving_user_model(self, item_vectors: NDArray[np.float32]) -> keras.Model:
        """Build a user model whose history table is the given (n_items, dim) vectors."""
        lookup = HistoryLookup(len(item_vectors), self.dim, name="history_vectors")
        lookup.table.assign(with_padding_row(item_vectors))
        return self._build_user_model(lookup)

    def encode_users(
        self, history: NDArray[np.int64], inputs: dict[str, NDArray[Any]]
    ) -> NDArray[np.float32]:
        """Encode users in chunks with the table of the last `refresh`.

        Parameters
        ----------
        history : ndarray of shape (n_users, length), int64
            Item codes.
        inputs : dict of ndarray
            The encoded user features, n_users rows each; what is known of the history's events
            (`HistoryEvents.encoded`), else they count as unknown kinds at the usual pace.

        Returns
        -------
        ndarray of shape (n_users, dim), float32
        """
        columns = {"history": history, **self.features.usual_events(history), **inputs}
        if len(history) == 0:
            return np.zeros((0, self.dim), np.float32)
        n_rows = CHUNK
        if self.user_encoder.is_causal:
            n_rows = max(1, CHUNK_PLACES // max(1, history.shape[1]))
        chunks = [
            self.user_model({k: v[i : i + n_rows] for k, v in columns.items()}).numpy()
            for i in range(0, len(history), n_rows)
        ]
        return np.concatenate(chunks)

    def _build_item_model(self) -> keras.Model:
        inputs = {"item_id": keras.Input((), dtype="int64", name="item_id")}
        inputs |= feature_inputs(self.features.side("item"))
        outputs = named(self.item_encoder(inputs), "item_embedding")
        return keras.Model(inputs, outputs, name="item_model")

    def _build_user_model(self, lookup: HistoryLookup) -> keras.Model:
        history = keras.Input((None,), dtype="int64", name="history")
        user_features = [*self.features.side("user"), *self.features.event_features]
        inputs = feature_inputs(user_features)
        embedding = self.user_encoder(history, lookup(history), inputs)
        return keras.Model(
            {"history": history, **inputs}, named(embedding, "user_embedding"), name="user_model"
        )


def feature_inputs(features: Sequence[Feature]) -> dict[str, Tensor]:
    """Create Keras inputs for encoded features: codes int64, numbers float32."""
    inputs = {}
    for feature in features:
        many = feature.form in ("codes", "ages")
        shape = (None,) if many else (feature.n_columns,) if feature.form == "dense" else ()
        dtype = "int64" if feature.form in ("code", "codes") else "float32"
        inputs[feature.name] = keras.Input(shape, dtype=dtype, name=feature.name)
    return inputs


def default_item_inputs(features: FeatureSet) -> dict[str, NDArray[Any]]:
    """Encode a catalogue of which nothing but the ids is known."""
    import polars as pl

    return features.encode_items(pl.DataFrame({"item_id": features.item_id.vocabulary}))


def with_padding_row(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put a zero row before vectors (n, dim), for the code 0."""
    return np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors])


def named(tensor: Tensor, name: str) -> Tensor:
    """Name an output of a Keras model."""
    return keras.layers.Identity(name=name)(tensor)
