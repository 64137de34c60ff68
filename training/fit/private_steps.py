"""Noisy steps on a trained two-tower model (DP-SGD): of the events only `_sum` learns anything.

Each user of a step has one stretch of the history with some targets; the loss is their mean
cross-entropy over the whole public catalogue, which couples no two users. The gradients are taken
user by user, by the items' vectors and by the weights of the user encoder. All of a user's
gradient is scaled to norm 1 and rounded towards 0 to the grid. What follows from the noisy sum
costs nothing: the item encoder's own weights, and with them the content of the items, get their
gradients from that of the items' vectors, and any optimiser may be used.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from shortlist.training.fit.step import build_optimizer
from shortlist.training.models.losses import full_softmax
from shortlist.training.privacy.noise import STEPS, RandomBytes
from shortlist.training.privacy.sgd import add_noise, drawn_below, drawn_users

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Floats, Rows, Tensor
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.privacy.accounting import Steps

N_TARGETS = 16  # of a user and step, for an encoder that is not causal
_BELOW_ONE = 1.0 - 2.0**-12  # rounding of float32 never lifts a norm over 1
_AT_ONCE = 2**31 // STEPS - 1  # users whose sum surely fits int32


class PrivateSteps:
    """The users' histories, and noisy steps of a model on them.

    Parameters
    ----------
    model : TwoTower
        Changed by `run`.
    users, items : ndarray of shape (n_events,), int64
        User numbers from 0, ascending, and item rows; each user's events oldest first.
    learning_rate : float
    """

    def __init__(self, model: TwoTower, users: Rows, items: Rows, learning_rate: float) -> None:
        self.model = model
        self.train = replace(model.config.train, learning_rate=learning_rate)
        self.codes = items + 1
        self.starts = np.searchsorted(users, np.arange(int(users.max(initial=-1)) + 2))
        self.is_causal = model.user_encoder.is_causal
        length = model.config.model.history_length
        self.n_targets = length if self.is_causal else N_TARGETS
        self.n_before = 1 if self.is_causal else length
        self.dense = list(model.user_encoder.trainable_variables)
        self._item_inputs = {name: tf.constant(v) for name, v in model.item_inputs.items()}
        self._sum_of = tf.function(self._sum, reduce_retracing=True)

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return len(self.starts) - 1

    def run(self, steps: Steps, *, source: RandomBytes = os.urandom, progress: bool = True) -> None:
        """Make the steps."""
        weights = [*self.model.item_encoder.trainable_variables, *self.dense]
        optimizer = build_optimizer(self.train, steps.n_steps)
        optimizer.build(weights)
        for _ in tqdm(range(steps.n_steps), unit=" steps", desc="private", disable=not progress):
            users = drawn_users(self.n_users, steps.rate, source)
            total = self.sum_gradients(users, source)
            of_items, *of_dense = (add_noise(part, steps.sigma, source) for part in total)
            optimizer.apply([*self._through_items(of_items), *of_dense], weights)
        self.model.refresh()

    def sum_gradients(self, users: Rows, source: RandomBytes = os.urandom) -> list[Floats]:
        """Add up what users say: by the items' vectors, then by each weight of the user encoder.

        Returns
        -------
        list of ndarray, float64
            Whole steps of the grid. A user changes them together by norm 1 (`STEPS` steps) at most.
        """
        vectors = tf.constant(self.model.item_vectors())
        total = [np.zeros(part.shape) for part in (vectors, *self.dense)]
        codes = self._stretches(users, source)
        for start in range(0, len(users), _AT_ONCE):
            sums = self._sum_of(vectors, tf.constant(codes[start : start + _AT_ONCE]))
            for part, new in zip(total, sums, strict=True):
                part += new.numpy()
        return total

    def _stretches(self, users: Rows, source: RandomBytes) -> NDArray[np.int64]:
        """Cut one stretch of each user's history, anywhere: codes (n, width), 0 on the left."""
        first, stop = self.starts[users], self.starts[users + 1]
        ends = stop - drawn_below(np.maximum(stop - first - self.n_targets, 0), source)
        places = ends[:, None] + np.arange(-self.n_before - self.n_targets, 0)
        return np.where(places >= first[:, None], self.codes[np.maximum(places, 0)], 0)

    def _sum(self, vectors: Tensor, codes: Tensor) -> list[Tensor]:
        parts = [vectors, *(weight.value for weight in self.dense)]

        def add(i: Tensor, *total: Tensor) -> tuple[Tensor, ...]:
            own = self._gradient(vectors, codes[i])
            return (i + 1, *(sum_ + part for sum_, part in zip(total, own, strict=True)))

        zeros = [tf.zeros(part.shape, tf.int32) for part in parts]
        done = tf.while_loop(
            lambda i, *_: i < tf.shape(codes)[0], add, (0, *zeros), parallel_iterations=1
        )
        return list(done[1:])

    def _gradient(self, vectors: Tensor, codes: Tensor) -> list[Tensor]:
        """Return one user's gradient in steps of the grid, int32, of norm 1 at most."""
        history, target = codes[None, :-1], codes[-self.n_targets :]
        weights = [weight.value for weight in self.dense]
        rows = tf.maximum(history[0] - 1, 0)
        is_item = tf.cast(history > 0, tf.float32)
        looked_up = tf.gather(vectors, rows)
        with tf.GradientTape() as tape:
            tape.watch([vectors, looked_up])
            n_targets = 0 if self.is_causal else self.n_targets
            read = looked_up[None] * is_item[:, :, None]
            embedding = self.model.user_encoder(history, read, {}, n_targets=n_targets)
            loss = full_softmax(
                embedding,
                vectors,
                tf.maximum(target - 1, 0),
                tf.cast(target > 0, tf.float32),
                temperature=self.train.temperature,
            )
        of_vectors, of_history, *own = tape.gradient(
            loss, [vectors, looked_up, *weights], unconnected_gradients="zero"
        )
        of_vectors = tf.tensor_scatter_nd_add(of_vectors, rows[:, None], of_history)
        return _bounded([of_vectors, *map(tf.convert_to_tensor, own)])

    def _through_items(self, of_vectors: NDArray[np.float32]) -> list[Any]:
        """Carry a gradient by the items' vectors on to the weights of the item encoder."""
        weights = [weight.value for weight in self.model.item_encoder.trainable_variables]
        with tf.GradientTape() as tape:
            vectors = self.model.item_encoder(self._item_inputs, training=True)
        carried = tape.gradient(vectors, weights, output_gradients=tf.constant(of_vectors))
        return [tf.convert_to_tensor(part) for part in carried]


def _bounded(parts: list[Tensor]) -> list[Tensor]:
    """Scale a gradient to norm 1, in steps of the grid, and round it towards 0: int32."""
    # A row is added up in float32, whose error `_BELOW_ONE` covers; rows in float64.
    axes = [-1 if part.shape.rank else None for part in parts]
    rows = [tf.reduce_sum(part * part, axis) for part, axis in zip(parts, axes, strict=True)]
    square = tf.add_n([tf.reduce_sum(tf.cast(row, tf.float64)) for row in rows])
    scale = STEPS * _BELOW_ONE * tf.math.rsqrt(tf.maximum(square, 1e-20))
    scale = tf.cast(tf.where(tf.math.is_finite(square), scale, 0.0), tf.float32)
    return [tf.cast(tf.math.multiply_no_nan(part, scale), tf.int32) for part in parts]
