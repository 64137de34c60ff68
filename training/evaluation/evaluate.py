"""Rank all items for the users of a split and measure the lists; tables for people.

Metrics and their formulas are in `shortlist.training.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.evaluation.metrics import (
    bootstrap_intervals,
    per_user_metrics,
    ranking_metrics,
)
from shortlist.training.evaluation.segments import (
    Segment,
    format_segments,
    format_table,
    segment_table,
)
from shortlist.training.splits.parts import IdArray, ItemLists, Split

__all__ = [
    "Evaluation",
    "EvaluationReport",
    "Ranker",
    "Segment",
    "bootstrap_intervals",
    "evaluate",
    "evaluate_users",
    "format_segments",
    "format_table",
    "per_user_metrics",
    "ranking_metrics",
    "segment_table",
]


@dataclass(frozen=True)
class EvaluationReport:
    """Metrics of a bundle and of other rankers on one part of a split.

    Attributes
    ----------
    dataset, protocol, on : str
        What was ranked; ``on`` is "test" or "valid".
    n_users, n_items : int
    metrics : dict of str to dict
        Metrics of each ranker; the first is the bundle.
    intervals : dict of str to (low, high)
        95 % bootstrap intervals of the bundle's metrics.
    segments : tuple of Segment
        Of the bundle: by length of the history, then by popularity of the target.
    warnings : tuple of str
        Reasons to doubt the bundle's metrics, as sentences.
    """

    dataset: str
    protocol: str
    on: str
    n_users: int
    n_items: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)


class Ranker(Protocol):
    """Anything that ranks items for users by their histories."""

    def rank(self, histories: list[Rows], user_ids: IdArray, top_n: int) -> Rows:
        """Rank items for some users.

        Parameters
        ----------
        histories : list of n_users int64 arrays
            Known item rows of each user, oldest first.
        user_ids : ndarray of shape (n_users,), int64 or str
        top_n : int

        Returns
        -------
        ndarray of shape (n_users, top_n), int64
            Item rows, best first, none of the user's history; −1 for missing places.
        """
        ...


@dataclass(frozen=True)
class Evaluation:
    """The ranked lists of one ranker on one part of a split, and what follows from them.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
        The users evaluated.
    ranked_rows : ndarray of shape (n_users, max(ks)), int64
    targets : tuple of (values, row_splits)
        Target item rows of the users.
    history_lengths : ndarray of shape (n_users,), int64
    train_popularity : ndarray of shape (n_items,), int64
        Train events of each item.
    ks : tuple of int
    n_cold_users, n_known_targets : int
        Users left out for want of a history, and targets left out because they are in it.
    """

    user_ids: IdArray
    ranked_rows: Rows
    targets: tuple[Rows, Rows]
    history_lengths: Rows
    train_popularity: Rows
    ks: tuple[int, ...]
    n_cold_users: int
    n_known_targets: int

    def metrics(self) -> dict[str, float]:
        """Return all metrics, averaged over users."""
        return ranking_metrics(
            self.ranked_rows,
            self.targets,
            self.ks,
            n_items=len(self.train_popularity),
            train_popularity=self.train_popularity,
        )

    def per_user(self) -> dict[str, Floats]:
        """Return HR, Recall, NDCG, MRR and MAP of each user."""
        return per_user_metrics(self.ranked_rows, self.targets, self.ks)

    def intervals(
        self, *, n_resamples: int = 1000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Return 95 % bootstrap confidence intervals of the per-user metrics."""
        return bootstrap_intervals(self.per_user(), n_resamples=n_resamples, seed=seed)

    def by_history_length(self, edges: Sequence[int] = (5, 10, 20, 50, 100)) -> list[Segment]:
        """Return the metrics of users with short to long histories; edges are upper ends."""
        return segment_table(self.per_user(), self.history_lengths, edges, "history")

    def by_target_popularity(self, n_segments: int = 4) -> list[Segment]:
        """Return the metrics of users whose targets are rare to popular, in equal user groups.

        The popularity of a user's targets is the mean number of their train events.
        """
        values, splits = self.targets
        counts = self.train_popularity[values].astype(np.float64)
        mean = np.add.reduceat(counts, splits[:-1]) / np.diff(splits)
        inner = np.quantile(mean, np.arange(1, n_segments) / n_segments, method="lower")
        edges = sorted({int(edge) for edge in inner})
        return segment_table(self.per_user(), mean, edges, "target events")


def evaluate_users(
    ranker: Ranker,
    split: Split,
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    *,
    cold_users: bool = False,
    users_at_once: int = 1024,
) -> Evaluation:
    """Rank all items for each user of a part and keep the lists.

    Parameters
    ----------
    ranker : Ranker
    split : Split
    on : {"test", "valid"}
        On "test" a history is the user's train and valid events, on "valid" the train events.
    ks : sequence of int
        Cut-offs; max(ks) items are ranked.
    cold_users : bool
        Also evaluate users without any known event (a temporal split has them); default False:
        they are counted in ``n_cold_users``.
    users_at_once : int
        Users in one call of the ranker.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataError
        The part has no user to evaluate, or the ranker returned another shape or a seen item.

    Notes
    -----
    Targets that are in the history cannot be recommended, so they are no targets; a target that
    occurs twice counts once.
    """
    if on not in ("valid", "test"):
        raise DataError(f"on: got {on!r}, expected 'valid' or 'test'. Fix: use one of these")
    histories = split.histories("train" if on == "valid" else "valid")
    values, splits, n_known = _new_targets(split.targets(on), histories, len(split.catalogue))
    is_chosen = np.diff(splits) > 0
    is_cold = histories.lengths == 0
    n_cold = 0 if cold_users else int((is_chosen & is_cold).sum())
    if not cold_users:
        is_chosen &= ~is_cold
    chosen = np.flatnonzero(is_chosen)
    if len(chosen) == 0:
        raise DataError(
            f"{split.dataset.name}: no user to evaluate on {on}: got {len(histories)} "
            f"users, {n_cold} without a history, expected some with new items. Fix: "
            "use another split, or cold_users=True"
        )
    ranked = _rank(ranker, histories, chosen, max(ks), users_at_once)
    keep = np.repeat(is_chosen, np.diff(splits))
    kept_splits = np.concatenate([[0], np.cumsum(np.diff(splits)[chosen])])
    popularity = np.bincount(
        split.item_rows(split.train["item_id"]), minlength=len(split.catalogue)
    )
    return Evaluation(
        histories.user_ids[chosen],
        ranked,
        (values[keep], kept_splits),
        histories.lengths[chosen],
        popularity,
        tuple(ks),
        n_cold,
        n_known,
    )


def evaluate(
    ranker: Ranker,
    split: Split,
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    *,
    cold_users: bool = False,
    users_at_once: int = 1024,
) -> dict[str, float]:
    """Rank all items for each user of a part and return the metrics; see `evaluate_users`."""
    return evaluate_users(
        ranker, split, on, ks, cold_users=cold_users, users_at_once=users_at_once
    ).metrics()


def _new_targets(targets: ItemLists, histories: ItemLists, n_items: int) -> tuple[Rows, Rows, int]:
    """Return (values, row_splits) of distinct targets not in the history, and how many are."""
    n_users = len(targets)
    key = np.unique(np.repeat(np.arange(n_users), targets.lengths) * n_items + targets.rows)
    seen = np.repeat(np.arange(n_users), histories.lengths) * n_items + histories.rows
    is_new = np.isin(key, seen, invert=True)
    counts = np.bincount(key[is_new] // n_items, minlength=n_users)
    splits = np.concatenate([[0], np.cumsum(counts)])
    return key[is_new] % n_items, splits, int((~is_new).sum())


def _rank(
    ranker: Ranker, histories: ItemLists, chosen: Rows, top_n: int, users_at_once: int
) -> Rows:
    blocks = []
    for start in range(0, len(chosen), users_at_once):
        block = chosen[start : start + users_at_once]
        lists = [histories.rows_of(int(i)) for i in block]
        ranked = np.asarray(ranker.rank(lists, histories.user_ids[block], top_n))
        if ranked.shape != (len(block), top_n):
            raise DataError(
                f"{type(ranker).__name__}.rank: got shape {ranked.shape}, expected "
                f"{(len(block), top_n)}. Fix: pad missing places with −1"
            )
        _check_unseen(ranked, lists, histories.user_ids[block], type(ranker).__name__)
        blocks.append(ranked.astype(np.int64, copy=False))
    return np.concatenate(blocks)


def _check_unseen(ranked: Rows, lists: list[Rows], user_ids: IdArray, name: str) -> None:
    width = 1 + max(int(ranked.max(initial=0)), *(int(rows.max(initial=0)) for rows in lists))
    place = np.arange(len(ranked))
    seen = np.concatenate([rows + i * width for i, rows in enumerate(lists)])
    bad = np.isin(ranked + place[:, None] * width, seen) & (ranked >= 0)
    if bad.any():
        user, at = (int(i[0]) for i in np.nonzero(bad))
        raise DataError(
            f"{name}.rank: got item row {int(ranked[user, at])} for user "
            f"{user_ids[user].item()!r}, expected no item of the user's history. "
            "Fix: exclude seen items"
        )
