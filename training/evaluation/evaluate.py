"""Rank all items for the users of a split and measure the lists.

Metrics and their formulas are in `shortlist.training.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows
from shortlist.training.evaluation.counts import UserCounts
from shortlist.training.evaluation.metrics import (
    bootstrap_intervals,
    per_user_metrics,
    ranking_metrics,
)
from shortlist.training.evaluation.segments import (
    Segment,
    format_table,
    segment_table,
)
from shortlist.training.splits.parts import IdArray, ItemLists, Split

__all__ = [
    "Evaluation",
    "Ranker",
    "Segment",
    "bootstrap_intervals",
    "evaluate",
    "evaluate_users",
    "format_table",
    "per_user_metrics",
    "ranking_metrics",
    "segment_table",
]


class Ranker(Protocol):
    """Anything that ranks items for users by their histories."""

    def rank(
        self,
        histories: list[Rows],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> Rows:
        """Rank items for some users.

        Parameters
        ----------
        histories : list of n_users int64 arrays
            Known item rows of each user, oldest first.
        user_ids : ndarray of shape (n_users,), int64 or str
        top_n : int
        exclude_seen : bool
            Leave items of the user's history out.

        Returns
        -------
        ndarray of shape (n_users, top_n), int64
            Item rows, best first; −1 for missing places.
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
    users : UserCounts
        How many users are evaluated, and why the others are not.
    item_rows : ndarray of shape (n_items,), int64
        Rows in the split's catalogue of the items that were ranked: the item rows above count
        these.
    """

    user_ids: IdArray
    ranked_rows: Rows
    targets: tuple[Rows, Rows]
    history_lengths: Rows
    train_popularity: Rows
    ks: tuple[int, ...]
    users: UserCounts
    item_rows: Rows

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
    include_seen: bool = False,
    max_users: int | None = None,
    ground: npt.NDArray[np.bool_] | None = None,
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
        Also evaluate users without any known event (a temporal split has them).
    include_seen : bool
        Items of the history are ranked and count as targets: for what is bought or played again.
    max_users : int, optional
        Evaluate so many users at most, drawn with a fixed seed.
    ground : ndarray of shape (n_items,), bool, optional
        The items of the catalogue that the ranker ranks; others are no targets. All by default.
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
    Without ``include_seen`` a target that is in the history cannot be recommended, so it is no
    target. A target that occurs twice counts once.
    """
    if on not in ("valid", "test"):
        raise DataError(f"on: got {on!r}, expected 'valid' or 'test'. Fix: use one of these")
    histories = split.histories("train" if on == "valid" else "valid")
    lists = split.targets(on)
    if ground is None:
        ground = np.ones(len(split.catalogue), np.bool_)
    values, splits, seen = _distinct_targets(lists, histories, ground, include_seen=include_seen)
    has_target, is_cold = np.diff(splits) > 0, histories.lengths == 0
    is_chosen = has_target if cold_users else has_target & ~is_cold
    chosen = np.flatnonzero(is_chosen)
    if len(chosen) == 0:
        raise DataError(_nobody(split, on, len(histories), int((has_target & is_cold).sum())))
    if max_users is not None and len(chosen) > max_users:
        drawn = np.random.default_rng(0).choice(len(chosen), max_users, replace=False)
        chosen = chosen[np.sort(drawn)]
    ranked = _rank(ranker, histories, chosen, max(ks), users_at_once, exclude_seen=not include_seen)
    keep = np.repeat(np.isin(np.arange(len(lists)), chosen), np.diff(splits))
    kept_splits = np.concatenate([[0], np.cumsum(np.diff(splits)[chosen])])
    row_on_ground = np.append(np.where(ground, np.cumsum(ground) - 1, -1), -1)  # of row −1 too
    return Evaluation(
        user_ids=histories.user_ids[chosen],
        ranked_rows=row_on_ground[ranked],
        targets=(row_on_ground[values[keep]], kept_splits),
        history_lengths=histories.lengths[chosen],
        train_popularity=_train_popularity(split)[ground],
        ks=tuple(ks),
        users=UserCounts(
            measured=len(chosen),
            no_target=_count_users(split) - len(lists),
            no_history=0 if cold_users else int((has_target & is_cold).sum()),
            seen_targets=int((~has_target & (seen > 0)).sum()),
            other_items=int((~has_target & (seen == 0)).sum()),
            not_drawn=int(is_chosen.sum()) - len(chosen),
            n_targets=int(kept_splits[-1]),
            n_seen_targets=int(seen.sum()),
            n_seen_beside=int(seen[has_target].sum()),
        ),
        item_rows=np.flatnonzero(ground),
    )


def evaluate(
    ranker: Ranker,
    split: Split,
    on: str = "test",
    ks: Sequence[int] = (10, 20),
    *,
    cold_users: bool = False,
    include_seen: bool = False,
    users_at_once: int = 1024,
) -> dict[str, float]:
    """Rank all items for each user of a part and return the metrics; see `evaluate_users`."""
    return evaluate_users(
        ranker,
        split,
        on,
        ks,
        cold_users=cold_users,
        include_seen=include_seen,
        users_at_once=users_at_once,
    ).metrics()


def _nobody(split: Split, on: str, n_users: int, n_cold: int) -> str:
    return (
        f"{split.dataset.name}: no user to evaluate on {on}: got {n_users} "
        f"users, {n_cold} without a history, expected some with new items. Fix: "
        "use another split or cold_users=True; where items come again, split.include_seen "
        "(evaluate --include-seen)"
    )


def _train_popularity(split: Split) -> Rows:
    rows = split.item_rows(split.train["item_id"])
    return np.bincount(rows, minlength=len(split.catalogue))


def _count_users(split: Split) -> int:
    frames = (split.dataset.events, split.dataset.test_events)
    ids = [frame["user_id"] for frame in frames if frame is not None]
    return int(pl.concat(ids).n_unique())


def _distinct_targets(
    targets: ItemLists,
    histories: ItemLists,
    ground: npt.NDArray[np.bool_],
    *,
    include_seen: bool,
) -> tuple[Rows, Rows, Rows]:
    """Return (values, row_splits) of distinct targets, and how many each user had before."""
    n_users, n_items = len(targets), len(ground)
    key = np.unique(np.repeat(np.arange(n_users), targets.lengths) * n_items + targets.rows)
    is_counted = np.ones(len(key), np.bool_)
    if not include_seen:
        seen = np.repeat(np.arange(n_users), histories.lengths) * n_items + histories.rows
        is_counted = np.isin(key, seen, invert=True)
    n_seen = np.bincount(key[~is_counted] // n_items, minlength=n_users)
    is_counted &= ground[key % n_items]
    counts = np.bincount(key[is_counted] // n_items, minlength=n_users)
    splits = np.concatenate([[0], np.cumsum(counts)])
    return key[is_counted] % n_items, splits, n_seen


def _rank(
    ranker: Ranker,
    histories: ItemLists,
    chosen: Rows,
    top_n: int,
    users_at_once: int,
    *,
    exclude_seen: bool,
) -> Rows:
    blocks = []
    for start in range(0, len(chosen), users_at_once):
        block = chosen[start : start + users_at_once]
        lists = [histories.rows_of(int(i)) for i in block]
        ids = histories.user_ids[block]
        ranked = np.asarray(ranker.rank(lists, ids, top_n, exclude_seen=exclude_seen))
        if ranked.shape != (len(block), top_n):
            raise DataError(
                f"{type(ranker).__name__}.rank: got shape {ranked.shape}, expected "
                f"{(len(block), top_n)}. Fix: pad missing places with −1"
            )
        if exclude_seen:
            _check_unseen(ranked, lists, ids, type(ranker).__name__)
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
