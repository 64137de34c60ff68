"""One step of a recurrent user encoder: a state and the next item in, embedding and state out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from shortlist.training.models.gru import GruEncoder
from shortlist.training.models.layers import HistoryLookup, l2_normalize
from shortlist.training.models.recurrence import last_states
from shortlist.training.models.two_tower import feature_inputs, named, with_padding_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Tensor
    from shortlist.training.models.two_tower import TwoTower

STATE = "session_state"


class GruStep(keras.layers.Layer):  # type: ignore[misc]
    """What `GruEncoder` does at one item, with its weights.

    A state has the number of items so far, then each layer's state; zeros are a session without
    items.
    """

    def __init__(self, encoder: GruEncoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.n_units = int(encoder.outer.shape[0])

    @property
    def width(self) -> int:
        """Numbers in a state."""
        return 1 + self.n_units * len(self.encoder.blocks)

    def call(self, vectors: Tensor, inputs: dict[str, Tensor], state: Tensor) -> Tensor:
        """Return embedding and next state (batch, dim + width) after the item in the last place.

        That item is known. Ages have a place more, that of the item before; at the first one both
        are the same.
        """
        encoder = self.encoder
        token = vectors[:, -1:] * encoder.scale
        if encoder.has_kinds:
            kinds = inputs["history_kinds"][:, -1:]
            is_known = ops.expand_dims(ops.cast(kinds > 0, "float32"), -1)
            token = token + tf.gather(encoder.kind_table, kinds) * is_known
        count = state[:, :1]
        if encoder.has_ages:
            ages = inputs["history_ages"]
            pause = ops.log(1.0 + ops.maximum(ages[:, :1] - ages[:, -1:], 0.0))
            token = token + ops.expand_dims(pause, -1) * encoder.pause
        values = tf.transpose(token, (1, 0, 2))
        one = ops.cast(ops.ones_like(count[:, 0]), "int32")
        after = []
        for i, block in enumerate(encoder.blocks):
            first, *weights = map(tf.convert_to_tensor, block.values())
            own = state[:, 1 + i * self.n_units : 1 + (i + 1) * self.n_units]
            before = tf.where(count > 0, own, first)
            values, last = last_states(values, one, before, *weights, run=encoder.run)
            after.append(last)
        result = ops.matmul(after[-1], encoder.outer)
        for part in encoder.profile(inputs):
            result = result + part
        return ops.concatenate([l2_normalize(result), count + 1.0, *after], axis=-1)


def session_model(model: TwoTower, item_vectors: NDArray[Any]) -> keras.Model | None:
    """Build the step of a model whose history table is the given vectors (n_items, dim).

    Returns
    -------
    keras.Model or None
        None where the user encoder has no state: it is no `gru`.
    """
    encoder, features = model.user_encoder, model.features
    taken = {feature.name for feature in [*features.side("user"), *features.event_features]}
    if not isinstance(encoder, GruEncoder) or STATE in taken:
        return None
    lookup = HistoryLookup(len(item_vectors), model.dim, name="session_vectors")
    lookup.table.assign(with_padding_row(item_vectors))
    step = GruStep(encoder, name="session_step")
    history = keras.Input((None,), dtype="int64", name="history")
    inputs = feature_inputs([*features.side("user"), *features.event_features])
    state = keras.Input((step.width,), dtype="float32", name=STATE)
    output = named(step(lookup(history), inputs, state), "session")
    return keras.Model({"history": history, **inputs, STATE: state}, output, name="session_model")
