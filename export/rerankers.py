"""The two rerankers as our operators take them: tables and weights, and the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shortlist.export.heads import PLUGIN_DOMAIN
from shortlist.training.graphs.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class FollowerTable:
    """What follows what, as both operators take it.

    Attributes
    ----------
    codes : ndarray of shape (n_items + 1, n_followers), int32
        Item codes; 0 = no more.
    shares : ndarray of shape (n_items + 1, n_followers), float32
    fading : ndarray of shape (n_latest,), float32
        What the latest items count for, the newest last.
    """

    codes: NDArray[np.int32]
    shares: NDArray[np.float32]
    fading: NDArray[np.float32]

    def constants(self, nodes: Nodes, history_length: int) -> list[str]:
        """Append the tables; returns their names."""
        fading = self.fading[-history_length:]
        return [
            nodes.constant(self.codes, np.int32),
            nodes.constant(self.shares, np.float32),
            nodes.constant(fading, np.float32),
        ]


@dataclass(frozen=True)
class DenseReranker:
    """The DNN scorer as ai.shortlist.RerankDense takes it.

    Attributes
    ----------
    of_history, of_candidate : ndarray of shape (n_items + 1, n_factors), float32
    popularity : ndarray of shape (n_items + 1,), float32
    mean, std : ndarray of shape (n_features,), float32
        As `training.models.candidates.Tables`.
    layers : sequence of (matrix, bias)
        (n_in, n_out) and (n_out,), float32; n_features numbers in at first, 1 out at the end.
    activation, output : str
        As the settings name them.
    n_latest : int
        Items of the history that the feature "linear of the latest" looks at.
    followers : FollowerTable or None
        Of the sixth feature; None: there are five.
    """

    of_history: NDArray[np.float32]
    of_candidate: NDArray[np.float32]
    popularity: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
    activation: str
    output: str
    n_latest: int
    followers: FollowerTable | None = None

    def add(self, nodes: Nodes, inputs: Sequence[str], history_length: int) -> list[str]:
        """Append the operator; returns the names of rows, scores and counts."""
        sizes = [self.layers[0][0].shape[0], *(matrix.shape[1] for matrix, _ in self.layers)]
        weights = np.concatenate([part.ravel() for layer in self.layers for part in layer])
        tables = (self.of_history, self.of_candidate, self.popularity, self.mean, self.std)
        constants = [nodes.constant(table, np.float32) for table in tables]
        constants.append(nodes.constant(sizes, np.int64))
        constants.append(nodes.constant(weights, np.float32))
        if self.followers is not None:
            constants += self.followers.constants(nodes, history_length)
        return nodes.add_many(
            "RerankDense",
            3,
            *inputs,
            *constants,
            domain=PLUGIN_DOMAIN,
            history_length=history_length,
            n_latest=self.n_latest,
            activation=self.activation,
            output=self.output,
        )


@dataclass(frozen=True)
class FollowerReranker:
    """The scorer of followers as ai.shortlist.RerankFollowers takes it.

    Attributes
    ----------
    followers : FollowerTable
    weight : float
    """

    followers: FollowerTable
    weight: float

    def add(self, nodes: Nodes, inputs: Sequence[str], history_length: int) -> list[str]:
        """Append the operator; returns the names of rows, scores and counts."""
        constants = self.followers.constants(nodes, history_length)
        constants.append(nodes.constant([self.weight], np.float32))
        return nodes.add_many("RerankFollowers", 3, *inputs, *constants, domain=PLUGIN_DOMAIN)


Reranker = DenseReranker | FollowerReranker
