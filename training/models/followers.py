"""A second stage without training: the first stage's score and what follows the latest items.

An embedding cannot hold all that was counted of rare pairs of items (docs/quality.md); a table of
each item's followers can.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import ScorerConfig
    from shortlist.training.data.arrays import Tensor

N_FOLLOWERS = 20  # kept of each item
N_LATEST = 5  # items of the history that count
PREFIX = "followers."  # of the tables' names in a file


@dataclass(frozen=True)
class Followers:
    """What followed each item in the train part; row 0 is an item of which nothing is known.

    Attributes
    ----------
    codes : ndarray of shape (n_items + 1, N_FOLLOWERS), int32
        Item codes, the most frequent follower first; 0: there are no more.
    shares : ndarray of shape (n_items + 1, N_FOLLOWERS), float32
        How often each follows, as a part of the most frequent one: 1 for the first.
    """

    codes: NDArray[np.int32]
    shares: NDArray[np.float32]

    @classmethod
    def of(cls, follows: Any) -> Followers:
        """Keep the most frequent followers of a sparse matrix of counts, ties by the lower row."""
        entries = follows.tocoo()
        entries.eliminate_zeros()
        order = np.lexsort((entries.col, -entries.data, entries.row))
        row, column, count = entries.row[order], entries.col[order], entries.data[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        is_first = place < N_FOLLOWERS
        shape = (follows.shape[0] + 1, N_FOLLOWERS)
        codes, shares = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        most = count[np.searchsorted(row, row)]
        codes[row[is_first] + 1, place[is_first]] = column[is_first] + 1
        shares[row[is_first] + 1, place[is_first]] = (count / most)[is_first]
        return cls(codes, shares)

    def named(self) -> dict[str, NDArray[Any]]:
        """Return the tables by the names that they have in a file."""
        return {f"{PREFIX}{name}": table for name, table in vars(self).items()}

    @classmethod
    def from_named(cls, tables: dict[str, NDArray[Any]]) -> Followers | None:
        """Take them from what `named` gave, among others; None if they are not there."""
        names = [field.name for field in dataclasses.fields(cls)]
        if PREFIX + names[0] not in tables:
            return None
        return cls(**{name: tables[PREFIX + name] for name in names})


class FollowerShares(keras.layers.Layer):  # type: ignore[misc]
    """How much the latest items of a history speak for each candidate."""

    def __init__(self, followers: Followers, decay: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codes = self._table("codes", followers.codes)
        self.shares = self._table("shares", followers.shares)
        ages = np.arange(N_LATEST - 1, -1, -1, dtype=np.float32)
        self._fading = (decay**ages).astype(np.float32).reshape(1, N_LATEST, 1)

    def _table(self, name: str, values: NDArray[Any]) -> Tensor:
        table = self.add_weight(
            name=name, shape=values.shape, dtype=values.dtype.name, initializer="zeros",
            trainable=False,
        )  # fmt: skip
        table.assign(values)
        return table

    def call(self, history: Tensor, candidates: Tensor) -> Tensor:
        """Return ``Σ decay^age · share`` (batch, n) of the candidates; 0 for unknown ones."""
        # Always N_LATEST places, however long the lists of a batch are: sums keep their order.
        padded = ops.pad(history, [[0, 0], [N_LATEST, 0]])[:, -N_LATEST:]
        codes = ops.expand_dims(ops.take(self.codes, padded, axis=0), 2)
        shares = ops.expand_dims(ops.take(self.shares, padded, axis=0) * self._fading, 2)
        wanted = ops.expand_dims(ops.cast(candidates, "int32"), -1)
        total = 0.0
        for place in range(N_LATEST):  # one after another: (batch, n, N_FOLLOWERS) at a time
            is_follower = ops.cast(ops.equal(codes[:, place], wanted), "float32")
            total = total + ops.sum(is_follower * shares[:, place], axis=-1)
        return total * ops.cast(candidates > 0, "float32")


class FollowerScorer:
    """Score = first-stage score + ``follower_weight`` · what follows the latest items.

    Parameters
    ----------
    config : ScorerConfig
    followers : Followers

    Attributes
    ----------
    model : keras.Model
        Inputs and output as of `candidates.CandidateScorer`.
    """

    def __init__(self, config: ScorerConfig, followers: Followers) -> None:
        self.config = config
        self.followers = followers
        history = keras.Input((None,), dtype="int64", name="history")
        candidates = keras.Input((None,), dtype="int64", name="candidates")
        similarity = keras.Input((None,), dtype="float32", name="similarity")
        shares = FollowerShares(followers, config.follower_decay, name="follower_shares")
        gain = config.follower_weight * shares(history, candidates)
        score = keras.layers.Identity(name="score")(similarity + gain)
        inputs = {"history": history, "candidates": candidates, "similarity": similarity}
        self.model = keras.Model(inputs, score, name="second_stage")

    def get_weights(self) -> dict[str, NDArray[Any]]:
        """Copy the tables out, by name."""
        return self.followers.named()


def restore_followers(config: ScorerConfig, weights: dict[str, NDArray[Any]]) -> FollowerScorer:
    """Rebuild a scorer from what `FollowerScorer.get_weights` gave."""
    followers = Followers.from_named(weights)
    assert followers is not None
    return FollowerScorer(config, followers)
