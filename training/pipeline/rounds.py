"""Encoders of several parties, in rounds: what a party counts and trains, and what is made of it.

Round 0 counts, as of a closed-form model: users, events of each item, and which items lie near each
other in histories. The item vectors begin with that. In each later round a party trains on its own
events from the weights of all, and sends how they changed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import sparse

from shortlist.export.released import save_federated
from shortlist.training.features.features import FeatureSet, align_users
from shortlist.training.federated import weights as shared
from shortlist.training.fit import checkpoint, fit
from shortlist.training.fit.loop import build_sequences
from shortlist.training.fit.step import TrainStep
from shortlist.training.fit.teacher import GAP_DECAY, WINDOW, first_vectors
from shortlist.training.fit.warm_start import ID_TABLE
from shortlist.training.models.followers import Followers
from shortlist.training.models.sums import STEPS, sum_followers
from shortlist.training.pipeline.federated import EVENTS, walked
from shortlist.training.privacy.walks import walks_dataset
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import configured_split, leave_one_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config, TrainConfig
    from shortlist.training.data.arrays import Rows
    from shortlist.training.data.events import Dataset
    from shortlist.training.federated.weights import Arrays
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.models.two_tower import TwoTower

USERS, COUNTS, PAIRS = "users", "counts", "pairs"  # sums of round 0, beside `EVENTS`
_QUARTERS = 4  # steps of a pair, in 1
_HALF = 16  # bits of a pair: two of them travel in one number of 32
_LARGEST = (1 << _HALF - 2) - 1  # of a pair in the total, so that `sums.largest_of` is kept
_WEIGHT = "weights/"


@dataclass(frozen=True)
class Model:
    """What all parties begin a round with.

    Attributes
    ----------
    weights : dict of ndarray, float32
        By the names of `TwoTower.get_weights`.
    counts : ndarray of shape (n_items,), int64
        Train events of each item, of all parties.
    n_users : int
        Users with something to learn from, of all parties.
    """

    weights: dict[str, NDArray[np.float32]]
    counts: Rows
    n_users: int

    def to_bytes(self) -> bytes:
        """Write it as a file of the exchange."""
        weights = {_WEIGHT + name: values for name, values in self.weights.items()}
        users = np.array([self.n_users], np.int64)
        return shared.write_arrays({COUNTS: self.counts, USERS: users, **weights})

    @classmethod
    def from_bytes(cls, content: bytes) -> Model:
        """Read what `to_bytes` wrote."""
        arrays = shared.read_arrays(content)
        counts, users = arrays.pop(COUNTS), arrays.pop(USERS)
        weights = {name.removeprefix(_WEIGHT): values for name, values in arrays.items()}
        return cls(weights, counts, int(users[0]))

    @cached_property
    def table(self) -> str:
        """The name of the table of item vectors, whose row 0 is no item."""
        (name,) = (name for name in self.weights if name.endswith(ID_TABLE))
        return name

    def rows(self, config: Config) -> Rows | None:
        """Return the rows of the table that travel; None for all."""
        return np.flatnonzero(self.counts) + 1 if config.federated.touched_rows else None

    def shapes(self, config: Config) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a party's message."""
        return shared.shapes_of(self.weights, self.table, self.rows(config))


def first_shapes(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the sums of round 0."""
    shapes: dict[str, tuple[int, ...]] = {USERS: (1,), EVENTS: (n_items,), COUNTS: (n_items,)}
    if begins_with_pairs(config):
        shapes[PAIRS] = (-(-n_items * (n_items + 1) // 4),)
    return shapes


def begins_with_pairs(config: Config) -> bool:
    """Say whether pairs of items are counted for the first item vectors."""
    return config.train.item_init == "cooccurrence"


def count_first(house: Dataset, config: Config, n_parties: int) -> dict[str, Rows]:
    """Add up what round 0 asks for over the users of one party.

    Parameters
    ----------
    house : Dataset
        Of the party; its item table is the catalogue.
    config : Config
        Of the plan.
    n_parties : int
        Of the plan.

    Returns
    -------
    dict of str to ndarray, int64
        As `first_shapes` says. ``pairs`` is an upper triangle, row by row, in quarters, and two
        pairs to a number: how often two items lie near each other in a history, in either order.
        A party whose largest pair has no room counts all its pairs less, in proportion.
    """
    split = leave_one_out(house, config.events)
    n_items = len(split.catalogue)
    rows = split.item_rows(split.train["item_id"])
    aims = split.target_events("train")
    targets = split.item_rows(aims["item_id"])
    sums = {
        USERS: np.array([aims["user_id"].n_unique()], np.int64),
        EVENTS: np.bincount(targets, minlength=n_items).astype(np.int64),
        COUNTS: np.bincount(rows, minlength=n_items).astype(np.int64),
    }
    if begins_with_pairs(config):
        users = split.train["user_id"].rle_id().to_numpy().astype(np.int64)
        weights = np.maximum(split.weights(split.train), 0.0).astype(np.float64)
        follows = sum_followers(users, rows, weights, n_items, window=WINDOW, gap_decay=GAP_DECAY)
        sums[PAIRS] = _packed(_triangle(follows), n_parties)
    return sums


def first_model(
    total: dict[str, Rows], items: pl.DataFrame, config: Config
) -> tuple[Model, Arrays]:
    """Make the weights that round 1 begins with.

    Returns
    -------
    model : Model
    state : dict of ndarray
        What the coordinator keeps: what the bundle says of items.
    """
    model, _ = untrained(items, config)
    counts, n_items = total[COUNTS], items.height
    model.forget_ids(counts == 0)
    follows = sparse.csr_matrix((n_items, n_items))
    if begins_with_pairs(config):
        follows = _matrix(_unpacked(total[PAIRS]), n_items)
        n_members = config.model.n_members
        vectors = first_vectors(follows, model.dim // n_members, config.train.seed, n_members)
        model.begin_with(vectors, counts > 0)
    near = Followers.of(sparse.csr_matrix(follows + follows.T))
    made = Model(model.get_weights(), counts, max(1, int(total[USERS][0])))
    return made, {EVENTS: total[EVENTS], **near.named()}


def next_model(
    total: dict[str, Rows], model: Model, state: Arrays, config: Config
) -> tuple[Model, Arrays]:
    """Make the weights of the next round of what the parties sent."""
    change = shared.mean_change(total, model.n_users)
    rows = model.rows(config)
    if rows is not None:
        whole = np.zeros(model.weights[model.table].shape)
        whole[rows] = change[model.table]
        change[model.table] = whole
    weights, moments = shared.next_weights(model.weights, change, state, config.federated)
    return replace(model, weights=weights), state | moments


def train_locally(
    house: Dataset, model: Model, config: Config, number: int, where: str
) -> dict[str, Rows]:
    """Train on the events of one party from the weights of all.

    Parameters
    ----------
    house : Dataset
        Of the party; its item table is the catalogue.
    model : Model
    config : Config
        Of the plan.
    number : int
        Of the round, from 1.
    where : str
        Whose round it is, for messages.

    Returns
    -------
    dict of str to ndarray, int64
        The change of the weights in steps, as `Model.shapes` says.
    """
    split = leave_one_out(house, config.events)
    n_users = split.target_events("train")["user_id"].n_unique()
    after = _trained(split, model, config, number) if n_users else model.weights
    sums = shared.shared_change(
        model.weights, after, n_users, model.n_users, config.federated, where
    )
    rows = model.rows(config)
    if rows is not None:
        sums[model.table] = sums[model.table][rows]
    return sums


def finish_rounds(
    model: Model,
    state: Arrays,
    items: pl.DataFrame,
    config: Config,
    run_dir: Path,
    record: dict[str, Any],
) -> TrainedModel:
    """Make the run of which the bundle is exported.

    Parameters
    ----------
    model, state
        After the last round.
    items : polars.DataFrame
        The catalogue.
    config : Config
        Of the plan.
    run_dir : Path
        New or empty.
    record : dict
        What the manifest says of the federation.
    """
    started = time.perf_counter()
    encoders, features = untrained(items, config)
    encoders.set_weights(model.weights)
    dataset = walked(None, np.maximum(state[EVENTS].astype(np.float64), 0.5), items, config)
    split = configured_split(dataset, config)
    checkpoint.open_run_folder(run_dir, dataset, config, features, False)
    seconds = round(time.perf_counter() - started, 3)  # those of the parties are theirs
    row = {"epoch": config.federated.rounds, "seconds": seconds, "is_best": False}
    checkpoint.write_lines(run_dir / "metrics.jsonl", [row])
    near = Followers.from_named(state)
    assert near is not None
    save_federated(run_dir, record, state[EVENTS], near)
    return fit.finish(encoders, [row], split, run_dir, progress=False)


def untrained(items: pl.DataFrame, config: Config) -> tuple[TwoTower, FeatureSet]:
    """Create the encoders over a catalogue: the same for all, as no event has a say in it."""
    everything = walks_dataset(np.arange(items.height)[None, :], items, pl.String())
    nothing = everything.events.clear()
    split = Split(everything, everything.events, nothing, nothing, "leave-one-out")
    features = FeatureSet.fit(everything, split, config)
    return fit.build_model(config, features, everything, split), features


def _trained(
    split: Split, model: Model, config: Config, number: int
) -> dict[str, NDArray[np.float32]]:
    items = split.dataset.items
    assert items is not None
    encoders, features = untrained(items, config)
    encoders.set_weights(model.weights)
    windows, user_ids = build_sequences(
        split, config, features.event_features, is_causal=encoders.user_encoder.is_causal
    )
    train, n_epochs = _settings_of(config, number), config.federated.local_epochs
    inputs = features.encode_users(align_users(split.dataset, user_ids))
    n_steps = n_epochs * windows.n_steps(train.batch_size)
    step = TrainStep(encoders, replace(config, train=train), inputs, model.counts, n_steps)
    for epoch in range((number - 1) * n_epochs, number * n_epochs):
        for batch in windows.batches(
            train.batch_size, seed=train.seed, epoch=epoch, history_dropout=train.history_dropout
        ):
            step(batch, epoch=epoch)
    return encoders.get_weights()


def _settings_of(config: Config, number: int) -> TrainConfig:
    """Return ``[train]`` of one round: the learning rate falls from round to round, not within."""
    train, part = config.train, (number - 1) / config.federated.rounds
    rate = train.learning_rate
    if train.schedule == "cosine":
        rate *= 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * part))
    return replace(train, learning_rate=rate, schedule="constant", warmup_steps=0)


def _triangle(follows: Any) -> Rows:
    """Return the pairs of a square matrix in either order, as an upper triangle.

    The diagonal is counted once.
    """
    n = follows.shape[0]
    entries = follows.tocoo()
    low, high = np.minimum(entries.row, entries.col), np.maximum(entries.row, entries.col)
    low, high = low.astype(np.int64), high.astype(np.int64)
    pairs = np.zeros(n * (n + 1) // 2, np.int64)
    np.add.at(pairs, low * n - low * (low - 1) // 2 + high - low, entries.data)
    return pairs


def _packed(pairs: Rows, n_parties: int) -> Rows:
    """Round a party's pairs to quarters, so that the total has room, and put two in a number."""
    scale = _QUARTERS / STEPS
    largest = pairs.max(initial=0) * scale
    scale *= min(1.0, (_LARGEST // n_parties) / max(largest, 1.0))
    steps = np.zeros(len(pairs) + len(pairs) % 2, np.int64)
    steps[: len(pairs)] = np.rint(pairs * scale)
    packed: Rows = steps[::2] + (steps[1::2] << _HALF)
    return packed


def _unpacked(numbers: Rows) -> Rows:
    """Undo the second part of `_packed`: the pairs in quarters; the last may be no pair."""
    steps = np.empty(2 * len(numbers), np.int64)
    steps[::2], steps[1::2] = numbers & ((1 << _HALF) - 1), numbers >> _HALF
    return steps


def _matrix(pairs: Rows, n_items: int) -> Any:
    """Make a matrix of a triangle of quarters; with its transpose it is the symmetric counts."""
    places = np.flatnonzero(pairs)
    starts = np.concatenate([[0], np.cumsum(np.arange(n_items, 0, -1))])
    low = np.searchsorted(starts, places, side="right") - 1
    high = places - starts[low] + low
    values = pairs[places] / _QUARTERS
    return sparse.csr_matrix((values, (low, high)), shape=(n_items, n_items))
