"""Rank each event by what was known just before it: the user's events so far are the history.

The gate of an update and the replay judge lists in this way. An engine with a feedback log answers
from the same events, but for dislikes and skips: here they stay in the history like any event,
there they push down what is like them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shortlist.training.splits.parts import to_id_array
from shortlist.training.splits.weights import is_target

if TYPE_CHECKING:
    from shortlist.training.config.sections import EventsConfig
    from shortlist.training.data.arrays import Floats, Rows
    from shortlist.training.evaluation.evaluate import Ranker
    from shortlist.training.splits.parts import IdArray, Split

__all__ = ["NextEvents", "OwnCatalogue", "per_user"]

TOP_N = 10
AT_ONCE = 1024  # events ranked in one call


@dataclass(frozen=True)
class NextEvents:
    """Events to be ranked, each with its user's events before it.

    Attributes
    ----------
    user_ids : ndarray of shape (n_targets,)
    targets : ndarray of shape (n_targets,), int64
        Item rows.
    target_ids : ndarray of shape (n_targets,)
        Their item ids.
    n_known : ndarray of shape (n_targets,), int64
        Events of the history.
    rows : ndarray of shape (n_events,), int64
        Item rows of all events of these users, user after user, oldest first.
    places : ndarray of shape (n_targets,), int64
        Place of each target in ``rows``; its history is the ``n_known`` rows before it.
    n_seen, n_no_targets : int
        Events left out: of items that their user had before, and those that are no targets.
    include_seen : bool
        Items that a user has had before are ranked, and their events too.
    """

    user_ids: IdArray
    targets: Rows
    target_ids: IdArray
    n_known: Rows
    rows: Rows
    places: Rows
    n_seen: int = 0
    n_no_targets: int = 0
    include_seen: bool = False

    @classmethod
    def of(
        cls,
        split: Split,
        known: pl.DataFrame,
        targets: pl.DataFrame,
        weighting: EventsConfig,
        *,
        include_seen: bool = False,
    ) -> NextEvents:
        """Lay events out.

        Parameters
        ----------
        split : Split
            Gives the item rows.
        known, targets : polars.DataFrame
            Events before, and those to be ranked. Left out of the latter: events that are no
            targets by ``weighting``, and, without ``include_seen``, items that their user has had
            before, which are excluded.
        """
        before = known.with_columns(is_ranked=pl.lit(False))
        marked = [before, targets.with_columns(is_ranked=pl.lit(True))]
        events = pl.concat(marked).sort("user_id", "timestamp", maintain_order=True)
        events = events.join(targets.select("user_id").unique(), on="user_id", how="semi",
                             maintain_order="left")  # fmt: skip
        is_liked = is_target(weighting)
        is_new = pl.struct("user_id", "item_id").is_first_distinct() | include_seen
        asked = pl.col("is_ranked")
        is_ranked = events.select(asked & is_liked & is_new).to_series().to_numpy()
        n_seen, n_no_targets = events.select(
            seen=(asked & is_liked & ~is_new).sum(), no_target=(asked & ~is_liked).sum()
        ).row(0)
        counts = events.group_by("user_id", maintain_order=True).len()["len"]
        lengths = counts.to_numpy().astype(np.int64)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.flatnonzero(is_ranked)
        rows = split.item_rows(events["item_id"])
        return cls(
            to_id_array(events["user_id"].gather(places)),
            rows[places],
            to_id_array(events["item_id"].gather(places)),
            places - starts[places],
            rows,
            places,
            n_seen,
            n_no_targets,
            include_seen,
        )

    def __len__(self) -> int:
        """Return the number of events to be ranked."""
        return len(self.targets)

    def ndcg(self, ranker: Ranker) -> Floats:
        """Return NDCG@10 of each event: 1 / log2(1 + place) within the top 10, else 0."""
        ndcg = np.zeros(len(self), np.float64)
        for start in range(0, len(self), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            histories = [
                self.rows[place - n : place]
                for place, n in zip(self.places[part], self.n_known[part], strict=True)
            ]
            ranked = np.asarray(
                ranker.rank(
                    histories, self.user_ids[part], TOP_N, exclude_seen=not self.include_seen
                )
            )
            is_hit = ranked == self.targets[part, None]
            gains = 1.0 / np.log2(2.0 + np.arange(TOP_N))
            ndcg[part] = (is_hit * gains).sum(axis=1)
        return ndcg


class OwnCatalogue:
    """A ranker of a smaller catalogue, asked in the rows of a larger one.

    Items it does not know are left out of histories and never in its answers.
    """

    def __init__(self, ranker: Ranker, catalogue: IdArray, split: Split) -> None:
        self.ranker = ranker
        ids = pl.Series("item_id", catalogue.tolist())
        self._theirs = np.append(split.item_rows(ids), -1)  # the last: a missing place
        self._ours = np.full(len(split.catalogue), -1, np.int64)
        self._ours[self._theirs[:-1]] = np.arange(len(catalogue))

    def rank(
        self,
        histories: list[Rows],
        user_ids: IdArray,
        top_n: int,
        *,
        exclude_seen: bool = True,
    ) -> Rows:
        """Rank items for some users; see `evaluate.Ranker`."""
        own = [self._ours[rows] for rows in histories]
        lists = [rows[rows >= 0] for rows in own]
        ranked = self.ranker.rank(lists, user_ids, top_n, exclude_seen=exclude_seen)
        return self._theirs[ranked]


def per_user(user_ids: IdArray, values: Floats) -> Floats:
    """Average values of events (n_events,) over each user's events: (n_users,), by user id."""
    _, owner = np.unique(user_ids, return_inverse=True)
    return np.bincount(owner, values) / np.bincount(owner)
