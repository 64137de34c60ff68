"""A trained model as a teacher.

The student's target is what the data says, mixed with what the teacher says: how likely each item
is next, after each event of the training (Hinton et al., Distilling the Knowledge in a Neural
Network, 2015). Of that distribution the loss needs only the mean of the student's own item
embeddings, as `teacher` explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist.training.data.arrays import Rows, Tensor
    from shortlist.training.models.two_tower import TwoTower

__all__ = ["Example", "ModelTeacher"]


@dataclass(frozen=True)
class Example:
    """A model that teaches, and how much it says.

    Attributes
    ----------
    model : TwoTower
        Trained; of the same catalogue and features as the student.
    share : float
        Part of the student's target that it says; the rest is the event.
    temperature : float
        Its logit is cosine / temperature.
    """

    model: TwoTower
    share: float
    temperature: float


class ModelTeacher:
    """What a trained model says of the next item: a softmax over all items of the train part.

    Parameters
    ----------
    example : Example
    rows : ndarray of shape (n_known,), int64
        Catalogue rows of the items that a step knows, in its order.
    is_causal : bool
        The student has a target after each item of a row.
    """

    def __init__(self, example: Example, rows: Rows, *, is_causal: bool) -> None:
        model = example.model
        if is_causal and not model.user_encoder.is_causal:
            raise DataError(
                f"distil: got a teacher of the encoder {model.config.model.encoder!r}, which says "
                "nothing between the events of a row, and a student that asks for it; expected a "
                "student of the encoder 'pool'"
            )
        vectors = model.item_vectors()[rows]
        nothing = np.zeros((1, vectors.shape[1]), np.float32)
        self._encoder = model.user_encoder
        self._vectors = tf.constant(np.concatenate([nothing, vectors]))
        self._temperature = example.temperature

    def mean_items(
        self, history: Tensor, items: Tensor, n_targets: int, users: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Average the item embeddings by the teacher's probabilities; see `Teacher.mean_items`."""
        vectors = tf.gather(self._vectors, history)
        embedding = self._encoder(history, vectors, users, n_targets=n_targets)
        logits = tf.matmul(embedding, self._vectors[1:], transpose_b=True) / self._temperature
        chances = tf.stop_gradient(tf.nn.softmax(logits))
        means = tf.matmul(chances, items)
        return means, tf.ones_like(means[:, :1])
