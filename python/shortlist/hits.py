"""What a search of an index gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Hits(NamedTuple):
    """The result of one search: score descending, then the lower item row first.

    Attributes
    ----------
    item_ids : ndarray of shape (n_queries, top_n), int64 or object (str)
        Ids of the items; missing places hold -1 or "".
    scores : ndarray of shape (n_queries, top_n), float32
        Similarities, bigger is closer; missing places hold -inf.
    counts : ndarray of shape (n_queries,), int64
        How many places of each row are real.
    indices : ndarray of shape (n_queries, top_n), int64
        Item rows; missing places hold -1.
    """

    item_ids: NDArray[Any]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    indices: NDArray[np.int64]


class VariedHits(Hits):
    """The result of a search with `at_least`.

    Attributes
    ----------
    unmet : dict of ndarray (n_queries,), int64
        How many items each list lacks of what `at_least` wants, by name.
    """

    unmet: dict[str, NDArray[np.int64]]
