"""Answers of shards, and the one answer that they make together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shortlist._checks import positive_int
from shortlist.recommendations import Hits


class ShardAnswer(NamedTuple):
    """The exact top-N of one shard.

    Attributes
    ----------
    scores : ndarray of shape (n_queries, k), float32
        Descending; missing places hold -inf. k is `top_n`, or fewer where the shard has fewer rows.
    indices : ndarray of shape (n_queries, k), int64
        Rows of the whole catalogue; of equal scores the lower one first. Missing places hold -1.
    item_ids : ndarray of shape (n_queries, k), int64 or object (str)
    number, n_shards, n_rows : int
        Which shard of how many, and how many rows it has.
    version : str
        Of the set of shards it is part of.
    vectors : ndarray of shape (n_queries, k, dim), float32, or None
        Stored vectors of the items, where they were asked for; zeros in missing places.
    """

    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    item_ids: NDArray[Any]
    number: int
    n_shards: int
    n_rows: int
    version: str
    vectors: NDArray[np.float32] | None = None


def merge(answers: Iterable[ShardAnswer], n: int) -> Hits:
    """Merge the answers of all shards to the same queries.

    Parameters
    ----------
    answers : iterable of ShardAnswer
        One of every shard, in any order, each with `n` places or all rows of its shard.
    n : int
        Places per query.

    Returns
    -------
    Hits
        What one index of the whole catalogue answers: the same ids, order and score bits.

    Raises
    ------
    ValueError
        An answer is missing, comes twice, is of another set of shards, or has too few places.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from shortlist.shards import Shard, ShardedIndex
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "items.shards"
    >>> _ = ShardedIndex.build(folder, np.eye(4), n_shards=2)
    >>> shards = [Shard.load(folder, number) for number in range(2)]
    >>> merge([shard.search([[0.0, 0.1, 1.0, 0.0]], 2) for shard in shards], 2).item_ids.tolist()
    [[2, 1]]
    """
    n = positive_int(n, "n")
    ordered = sorted(answers, key=lambda answer: answer.number)
    _check(ordered, n)
    scores = np.concatenate([answer.scores for answer in ordered], axis=1)
    rows = np.concatenate([answer.indices for answer in ordered], axis=1)
    ids = np.concatenate([answer.item_ids for answer in ordered], axis=1)
    # Shards come in the order of their rows, and each has equal scores in that order.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    scores, rows, ids = (np.take_along_axis(part, best, axis=1) for part in (scores, rows, ids))
    is_missing = rows < 0
    ids[is_missing] = "" if ids.dtype == object else -1
    empty = n - best.shape[1]
    if empty > 0:
        pads = (-np.inf, -1, "" if ids.dtype == object else -1)
        scores, rows, ids = (
            np.pad(part, ((0, 0), (0, empty)), constant_values=pad)
            for part, pad in zip((scores, rows, ids), pads, strict=True)
        )
    counts = best.shape[1] - is_missing.sum(axis=1, dtype=np.int64)
    return Hits(ids, scores, counts, rows)


def _check(ordered: Sequence[ShardAnswer], n: int) -> None:
    if not ordered:
        raise ValueError("answers: got none; expected one of every shard")
    first = ordered[0]
    numbers = [answer.number for answer in ordered]
    if numbers != list(range(first.n_shards)):
        raise ValueError(
            f"answers: got those of shards {', '.join(map(str, numbers))}; expected one of each, "
            f"0 to {first.n_shards - 1}"
        )
    for answer in ordered:
        if answer.version != first.version:
            raise ValueError(
                f"answers: shard {answer.number} answered from the set {answer.version}, shard 0 "
                f"from {first.version}; ask again, all shards of one set"
            )
        if len(answer.scores) != len(first.scores):
            raise ValueError(
                f"answers: shard {answer.number} answered {len(answer.scores)} queries, shard 0 "
                f"{len(first.scores)}; merge answers to the same queries"
            )
        if answer.scores.shape[1] < min(n, answer.n_rows):
            raise ValueError(
                f"answers: shard {answer.number} has {answer.scores.shape[1]} places; expected "
                f"{n}, as are merged; ask every shard for top_n={n}"
            )
