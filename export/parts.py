"""What a graph that recommends is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from shortlist.export.columns import RawFeature
from shortlist.export.rerankers import Reranker


@dataclass(frozen=True)
class Parts:
    """What a graph that recommends is made of.

    Attributes
    ----------
    encoder : onnx.ModelProto
        The user encoder with its lookups, as `add_lookups` returns it. Not changed.
    features : sequence of RawFeature
        The user's features, without history and event features.
    gap : float or None
        Seconds between two events where ages are declared and not given; None = not declared.
    has_kinds : bool
        Whether the encoder takes kinds of events.
    max_history : int
        Items of a history the encoder looks at.
    item_ids : ndarray of shape (n_items,)
        int64 or str.
    popularity : ndarray of shape (n_items,), float32
        Score of each item for a request of which nothing is known: its events in training, or what
        the model says.
    scorer : onnx.ModelProto or None
        The second stage.
    session : onnx.ModelProto or None
        One step of a recurrent encoder; see `models.session`.
    reranker : DenseReranker, FollowerReranker or None
        The same as our operator takes it; without it the plugin's graph runs `scorer`.
    n_candidates, history_length : int
        Of the second stage.
    """

    encoder: onnx.ModelProto
    features: Sequence[RawFeature]
    gap: float | None
    has_kinds: bool
    max_history: int
    item_ids: npt.NDArray[Any]
    popularity: npt.NDArray[np.float32]
    scorer: onnx.ModelProto | None = None
    session: onnx.ModelProto | None = None
    reranker: Reranker | None = None
    n_candidates: int = 1
    history_length: int = 1
