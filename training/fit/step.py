"""One optimiser step of the two-tower model, compiled once by TensorFlow.

All randomness comes in with the step: numpy draws the batch and the negatives, TensorFlow draws
dropout from a seed tensor. Two paths: small catalogues encode every item in every step; large
ones encode only the items that occur in the batch or among the negatives. Items without a single
train event take no part: as eternal negatives they would teach that new items are bad.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from shortlist.errors import DataError
from shortlist.training.fit.example import Example, ModelTeacher
from shortlist.training.fit.lazy_adam import LazyAdam
from shortlist.training.fit.sequences import take_rows
from shortlist.training.fit.teacher import Teacher
from shortlist.training.models.layers import fold, keep_mask, l2_normalize, take_parts
from shortlist.training.models.losses import (
    NegativeSampler,
    bpr,
    chunked_softmax,
    full_softmax,
    gbce,
    sampled_softmax,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config, TrainConfig
    from shortlist.training.data.arrays import Tensor
    from shortlist.training.fit.sequences import Batch
    from shortlist.training.models.two_tower import TwoTower

UNIQUE_MULTIPLE = 4096  # sampled path: pad the items of a step to this, so shapes rarely change


class TrainStep:
    """Holds the optimiser and the compiled step.

    Parameters
    ----------
    model : TwoTower
    config : Config
    user_inputs : dict of ndarray
        Encoded user features; batches select rows of them.
    target_counts : ndarray of shape (n_items,), int64
        How often each item is a target, for the negative sampler.
    total_steps : int
        Length of the learning-rate schedule.
    taught : csr_matrix of shape (n_items, n_items), optional
        What the teacher says, see `teacher.Teacher`; needed for ``train.teacher``.
    example : Example, optional
        A trained model that teaches in its place, see `example.Example`.
    """

    def __init__(
        self,
        model: TwoTower,
        config: Config,
        user_inputs: dict[str, NDArray[Any]],
        target_counts: NDArray[np.int64],
        total_steps: int,
        taught: Any = None,
        example: Example | None = None,
    ) -> None:
        check_prefixes(config)
        self.model = model
        self.train = config.train
        self.user_inputs = user_inputs
        # Codes within a step count the items that have events; codes of the catalogue → those.
        self.rows = np.flatnonzero(target_counts)
        self._places = np.zeros(model.n_items + 1, np.int64)
        self._places[self.rows + 1] = np.arange(1, len(self.rows) + 1)
        self.item_inputs = take_rows(model.item_inputs, self.rows)
        self.is_causal = model.user_encoder.is_causal
        self.is_full = uses_full_softmax(config.train, len(self.rows))
        self.teacher, self.taught_share = self._find_teacher(taught, example)
        by_popularity = config.train.loss in ("auto", "full", "sampled")
        self.sampler = NegativeSampler(target_counts[self.rows], 0.75 if by_popularity else 0.0)
        self.weights = model.weights
        tables = model.item_encoder.tables if is_lazy(config.train, self.is_full) else []
        self.lazy = LazyAdam(tables, weight_decay=config.train.weight_decay)
        self.dense = [w for w in self.weights if not any(w is table for table in tables)]
        self.optimizer = build_optimizer(config.train, total_steps)
        self.optimizer.build(self.dense)
        self.averages = (
            [tf.Variable(weight.value, trainable=False) for weight in self.weights]
            if config.train.ema > 0.0
            else []
        )
        self._item_inputs = {k: tf.constant(v) for k, v in self.item_inputs.items()}
        log_q = np.zeros(model.n_items, np.float32)
        log_q[self.rows] = self.sampler.log_q
        self._log_q = tf.constant(log_q)
        self._sampled_loss = sampled_loss(config.train, len(self.rows), self._log_q)
        self._full = tf.function(self._full_step, reduce_retracing=True)
        self._sampled = tf.function(self._sampled_step, reduce_retracing=True)

    def _find_teacher(
        self, taught: Any, example: Example | None
    ) -> tuple[Teacher | ModelTeacher | None, float]:
        """Return who teaches, if anybody does, and which part of the target it says."""
        share = self.train.teacher if example is None else example.share
        if share == 0.0:
            return None, share
        if not self.is_full:
            raise DataError(
                f"train.teacher: got {share} with the sampled softmax, expected 0; a teacher needs "
                "train.loss = 'full'"
            )
        if example is not None:
            return ModelTeacher(example, self.rows, is_causal=self.is_causal), share
        known = taught[self.rows][:, self.rows]
        return Teacher(known, decay=self.train.teacher_decay), share

    @property
    def variables(self) -> list[Any]:
        """Everything that changes in a step, in a fixed order: what a checkpoint must hold."""
        return [*self.weights, *self.optimizer.variables, *self.lazy.variables, *self.averages]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights (EMA) into the model for the time of a with block."""
        present = [weight.numpy() for weight in self.weights] if self.averages else []
        for weight, average in zip(self.weights, self.averages, strict=False):
            weight.assign(average)
        yield
        for weight, value in zip(self.weights, present, strict=False):
            weight.assign(value)

    def __call__(self, batch: Batch, *, epoch: int) -> Tensor:
        """Update the weights with one batch; returns the loss, a scalar tensor."""
        seeds = np.random.default_rng([self.train.seed, epoch, batch.step, 1])
        seed = tf.constant(seeds.integers(0, 2**31 - 1, 2), tf.int32)
        batch = batch.trimmed()
        columns = take_rows(self.user_inputs, batch.users) | batch.events
        users = {k: tf.constant(v) for k, v in columns.items()}
        weight = tf.constant(batch.weight.ravel())
        codes, target = self._places[batch.history], self._places[batch.target.ravel()]
        if self.is_full:
            return self._full(tf.constant(codes), tf.constant(target), weight, users, seed)
        negatives = self.sampler.sample(self.train.n_negatives, seeds) + 1
        rows, (history, target, drawn) = compact(codes, target, negatives)
        items = {k: tf.constant(v) for k, v in take_rows(self.item_inputs, rows).items()}
        where = [tf.constant(part) for part in (history, target, drawn)]
        return self._sampled(items, *where, weight, users, seed)

    def _full_step(
        self,
        history: Tensor,
        target: Tensor,
        weight: Tensor,
        users: dict[str, Tensor],
        seed: Tensor,
    ) -> Tensor:
        with tf.GradientTape() as tape:
            items = self._encode_items(self._item_inputs, seed)
            embedding = self._encode_users(history, items, users, seed)
            losses = [
                self._catalogue_loss(own, of_items, history, target, weight, users)
                for own, of_items in self._by_part(embedding, items)
            ]
            loss = tf.add_n(losses) / len(losses) * self._part(weight)
        return self._apply(tape, loss)

    def _catalogue_loss(
        self,
        embedding: Tensor,
        items: Tensor,
        history: Tensor,
        target: Tensor,
        weight: Tensor,
        users: dict[str, Tensor],
    ) -> Tensor:
        temperature, smoothing = self.train.temperature, self.train.label_smoothing
        if self.teacher is None and not self.is_causal:
            return full_softmax(
                embedding,
                items,
                target - 1,
                weight,
                temperature=temperature,
                label_smoothing=smoothing,
            )
        taught: tuple[Tensor, ...] = ()
        if self.teacher is not None:
            n_targets = 0 if self.is_causal else self.train.n_targets
            taught = self.teacher.mean_items(history, items, n_targets, users)
        parts = only_weighted(weight, embedding, target, weight, *taught)
        embedding, target, weight = parts[:3]
        return chunked_softmax(
            embedding,
            items,
            target - 1,
            weight,
            temperature=temperature,
            label_smoothing=smoothing,
            taught=tuple(parts[3:]) or None,
            taught_share=self.taught_share,
        )

    def _sampled_step(
        self,
        item_inputs: dict[str, Tensor],
        history: Tensor,
        target: Tensor,
        negatives: Tensor,
        weight: Tensor,
        users: dict[str, Tensor],
        seed: Tensor,
    ) -> Tensor:
        # history, target and negatives count within item_inputs: 0 = padding, 1 = its first row
        codes = item_inputs["item_id"]
        with tf.GradientTape() as tape:
            items = self._encode_items(item_inputs, seed)
            embedding = self._encode_users(history, items, users, seed, weight)
            target, weight = only_weighted(weight, target, weight)
            aims, others = tf.gather(items, target - 1), tf.gather(items, negatives - 1)
            sampled = {
                "target_rows": tf.gather(codes, target - 1) - 1,
                "negative_rows": tf.gather(codes, negatives - 1) - 1,
                "weights": weight,
            }
            losses = [
                self._sampled_loss(own, targets=aim, negatives=other, **sampled)
                for own, aim, other in self._by_part(embedding, aims, others)
            ]
            loss = tf.add_n(losses) / len(losses) * self._part(weight)
        return self._apply(tape, loss)

    def _by_part(self, *vectors: Tensor) -> list[tuple[Tensor, ...]]:
        """Cut vectors (n, dim) into those that have a loss of their own: of members or prefixes."""
        lengths = self.train.matryoshka
        if lengths:
            cuts = [tuple(l2_normalize(each[:, :n]) for each in vectors) for n in lengths]
            return [vectors, *cuts]
        n_members = self.model.config.model.n_members
        return list(zip(*(take_parts(each, n_members) for each in vectors), strict=True))

    def _part(self, weight: Tensor) -> Tensor:
        """Say how much a batch counts: rows of a causal encoder hold few or many events."""
        if not self.is_causal:
            return 1.0
        return tf.reduce_sum(tf.abs(weight)) / self.train.batch_size

    def _encode_items(self, item_inputs: dict[str, Tensor], seed: Tensor) -> Tensor:
        rate = self.train.id_dropout
        if rate == 0.0 or not self.model.features.side("item"):
            return self.model.item_encoder(item_inputs, training=True)
        n_rows = tf.shape(item_inputs["item_id"])[0]
        keep = keep_mask((n_rows, 1), rate, fold(seed, 7))
        return self.model.item_encoder(item_inputs, keep, training=True)

    def _encode_users(
        self,
        history: Tensor,
        items: Tensor,
        users: dict[str, Tensor],
        seed: Tensor,
        weight: Tensor = None,
    ) -> Tensor:
        """Encode the places of a batch; with their weights only those that are not 0."""
        table = tf.concat([tf.zeros((1, self.model.dim)), items], axis=0)
        n_targets = 0 if self.is_causal else self.train.n_targets
        encode = partial(
            self.model.user_encoder,
            history,
            tf.gather(table, history),
            users,
            n_targets=n_targets,
            seed=seed,
        )
        if weight is None:
            return encode()
        if getattr(self.model.user_encoder, "takes_places", False):
            return encode(places=tf.where(tf.not_equal(weight, 0.0))[:, 0])
        return only_weighted(weight, encode())[0]

    def _apply(self, tape: Any, loss: Tensor) -> Tensor:
        dense = [weight.value for weight in self.dense]
        tables = [table.value for table in self.lazy.tables]
        of_dense, of_tables = tape.gradient(loss, [dense, tables])
        self.lazy.apply(
            of_tables,
            iteration=self.optimizer.iterations + 1,
            learning_rate=self.optimizer.learning_rate,
        )
        used = [(g, w) for g, w in zip(of_dense, self.dense, strict=True) if g is not None]
        self.optimizer.apply(*(list(part) for part in zip(*used, strict=True)))
        for average, weight in zip(self.averages, self.weights, strict=False):
            average.assign_sub((1.0 - self.train.ema) * (average - weight.value))
        return loss


def check_prefixes(config: Config) -> None:
    """Refuse lengths of ``train.matryoshka`` that are none of an embedding's prefixes."""
    lengths, model = config.train.matryoshka, config.model
    if any(length >= model.dim for length in lengths):
        raise DataError(
            f"train.matryoshka: got {list(lengths)}, expected lengths below model.dim = "
            f"{model.dim}, which is trained in any case"
        )
    if lengths and model.n_members > 1:
        raise DataError(
            f"train.matryoshka: got {list(lengths)} with model.n_members = {model.n_members}, "
            "expected 1 member: the parts of a joined embedding are its members"
        )


def only_weighted(weight: Tensor, *parts: Tensor) -> list[Tensor]:
    """Keep the rows of weight: at most places of a short history there is no event."""
    places = tf.where(tf.not_equal(weight, 0.0))[:, 0]
    return [tf.gather(part, places) for part in parts]


def uses_full_softmax(train: TrainConfig, n_items: int) -> bool:
    """Say whether the loss runs over the whole catalogue."""
    if train.loss == "auto":
        return n_items <= train.full_softmax_limit
    return train.loss == "full"


def is_lazy(train: TrainConfig, is_full: bool) -> bool:
    """Say whether a step updates only the rows of the items' tables that it looked up."""
    if train.tables == "lazy" and (is_full or train.optimizer != "adam"):
        raise DataError(
            f"train.tables: got 'lazy' with {'the full softmax' if is_full else train.optimizer}, "
            "expected 'auto' or 'dense'; only adam on sampled items is lazy"
        )
    return train.tables != "dense" and not is_full and train.optimizer == "adam"


def sampled_loss(train: TrainConfig, n_items: int, log_q: Tensor) -> Callable[..., Any]:
    """Choose the loss over sampled negatives that ``train.loss`` names."""
    temperature = train.temperature
    if train.loss == "gbce":
        return partial(
            gbce,
            temperature=temperature,
            n_items=n_items,
            calibration=train.gbce_calibration,
        )
    if train.loss == "bpr":
        return partial(bpr, temperature=temperature)
    smoothing = train.label_smoothing
    return partial(sampled_softmax, log_q=log_q, temperature=temperature, label_smoothing=smoothing)


def build_optimizer(train: TrainConfig, total_steps: int) -> Any:
    """Create the Keras optimiser with its learning-rate schedule."""
    kinds = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    rate: Any = train.learning_rate
    if train.schedule == "cosine" or train.warmup_steps:
        warmup = min(train.warmup_steps, total_steps // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            train.learning_rate if warmup == 0 else 0.0,
            max(1, total_steps - warmup),
            alpha=0.01 if train.schedule == "cosine" else 1.0,
            warmup_target=train.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    return kinds[train.optimizer](learning_rate=rate, weight_decay=train.weight_decay or None)


def compact(*parts: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Renumber codes so that only the items that occur have to be encoded.

    Returns
    -------
    rows : ndarray of shape (multiple of UNIQUE_MULTIPLE,), int64
        Catalogue rows to encode; filled up with row 0.
    parts : list of ndarray, int64
        The given codes, now counting within ``rows``; 0 stays 0.
    """
    # By marks and not by sorting: this runs in every step.
    is_used = np.zeros(max((int(part.max(initial=0)) for part in parts), default=0) + 1, np.bool_)
    for part in parts:
        is_used[part] = True
    codes = np.flatnonzero(is_used[1:]) + 1
    places = np.empty(len(is_used), np.int64)
    places[0], places[codes] = 0, np.arange(1, len(codes) + 1)
    rows = np.zeros(-(-max(1, len(codes)) // UNIQUE_MULTIPLE) * UNIQUE_MULTIPLE, np.int64)
    rows[: len(codes)] = codes - 1
    return rows, [places[part] for part in parts]
