"""Logged lists with what came of them, and what another bundle has to choose from instead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shortlist._catalogue.filters import NO_FILTERS
from shortlist._columns.reading import Array, id_column
from shortlist._columns.requests import Columns
from shortlist._serving.loop import n_candidates
from shortlist.exploration import Exploration
from shortlist.feedback import IMPRESSION, FeedbackLog
from shortlist.feedback.acts import Acts, Dislikes, with_acts

if TYPE_CHECKING:
    from shortlist._serving.loaded_bundle import LoadedBundle


class _History:
    """What one user did.

    Parameters
    ----------
    acts : list of (sequence, time, item, kind, value)
    """

    def __init__(self, acts: list[tuple[Any, ...]]) -> None:
        acts = sorted(acts, key=lambda act: act[1])  # of one time: in the order of writing
        self._sequences = np.array([act[0] for act in acts], dtype=np.int64)
        self._columns = np.empty((4, len(acts)), dtype=object)
        for column, field in zip(self._columns, (2, 3, 1, 4), strict=True):  # as `Acts` has them
            column[:] = [act[field] for act in acts]
        self.items = {act[2] for act in acts}

    def before(self, sequence: int) -> Acts | None:
        """Return what the log had when it had written up to `sequence`, in time order."""
        is_done = self._sequences < sequence
        return Acts(*self._columns[:, is_done].tolist()) if is_done.any() else None


class _Place(NamedTuple):
    """Where and when an item was shown: which list, which place of it."""

    list: int
    place: int
    time: int


@dataclass(frozen=True)
class Lists:
    """Lists shown with known propensities, cut to their first places.

    Attributes
    ----------
    users : ndarray of shape (n,), int64
        A number for each user.
    user_ids : list of int or str
    times, sequences : ndarray of shape (n,), int64
        Of the impression: seconds since 1970, and place in the log.
    items : ndarray of shape (n, k), int64 or object
    is_shown : ndarray of shape (n, k), bool
        Lists may be shorter than k.
    propensities, rewards : ndarray of shape (n, k), float64
    histories : dict of user id to _History
    n_unknown : int
        Lists without propensities.
    unmatched_times : ndarray of shape (m,), int64
        Of events that would be a reward and belong to no list.
    n_stray : int
        Impressions that belong to no list: their ranks do not run from 1 on.
    """

    users: Array
    user_ids: list[Any]
    times: Array
    sequences: Array
    items: Array
    is_shown: Array
    propensities: Array
    rewards: Array
    histories: dict[Any, _History]
    n_unknown: int
    dislikes: Dislikes
    unmatched_times: Array
    n_stray: int = 0

    def take(self, chosen: Array) -> Lists:
        """Return some of the lists."""
        return Lists(
            self.users[chosen],
            [self.user_ids[i] for i in chosen.tolist()],
            self.times[chosen],
            self.sequences[chosen],
            self.items[chosen],
            self.is_shown[chosen],
            self.propensities[chosen],
            self.rewards[chosen],
            self.histories,
            self.n_unknown,
            self.dislikes,
            self.unmatched_times,
            self.n_stray,
        )

    def ask(self, loaded: LoadedBundle, explore: Exploration) -> tuple[Array, Array]:
        """Return scores and item ids (n, m) of the candidates that a bundle would draw from."""
        ids = id_column("user_id", self.user_ids, loaded.user_id_dtype)
        pairs = list(zip(self.user_ids, self.sequences.tolist(), strict=True))
        none = _History([])
        acts = [self.histories.get(user, none).before(sequence) for user, sequence in pairs]
        # What the user did later must not come back through the bundle's stored history.
        hidden = [self.histories.get(user, none).items for user, _ in pairs]
        both = zip(acts, hidden, strict=True)
        columns = with_acts(
            Columns(len(ids), ids),
            [act if act is not None or not later else Acts([], [], [], []) for act, later in both],
            loaded,
            self.dislikes,
            self.times,
            hidden,
        )
        options = loaded.options(self.items.shape[1], True, None)
        answer = loaded.answer(
            columns, NO_FILTERS, options._replace(top_n=n_candidates(explore, options, loaded))
        )
        return answer.scores, answer.item_ids


def read_lists(
    log: FeedbackLog,
    dislikes: Dislikes,
    top_n: int,
    kinds: set[str] | None,
    within: int,
    clock_tolerance: int = 0,
) -> Lists:
    """Read the log: lists with propensities, and the rewards of their items.

    A list is a run of impressions of one user with ranks 1, 2, …, as `append_impressions` writes
    them. An event goes to the newest impression of its user and item that was written before it
    and is at most `within` seconds older, or `clock_tolerance` seconds newer, than it.
    """
    table = log.read()
    names = ("sequence", "user_id", "item_id", "kind", "timestamp", "value", "rank", "propensity")
    rows = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    done: dict[Any, list[tuple[Any, ...]]] = {}
    shown: dict[tuple[Any, Any], list[_Place]] = {}  # of a user and an item, as written
    lists: list[list[tuple[Any, ...]]] = []
    rewarded: set[tuple[int, int]] = set()
    unmatched: list[int] = []
    n_stray = 0
    for row in rows:
        sequence, user, item, kind, time, value, rank, _ = row
        if kind != IMPRESSION:
            done.setdefault(user, []).append((sequence, time, item, kind, value))
            if kind in kinds if kinds is not None else not dislikes.has(kind, value):
                place = _newest(shown.get((user, item), []), time + clock_tolerance)
                if place is not None and time - place.time <= within:
                    rewarded.add((place.list, place.place))
                else:
                    unmatched.append(time)
            continue
        if rank == 1:
            lists.append([])
        if not lists or rank != len(lists[-1]) + 1 or (lists[-1] and lists[-1][0][1] != user):
            n_stray += 1  # written by hand, and no list
            continue
        lists[-1].append(row)
        shown.setdefault((user, item), []).append(_Place(len(lists) - 1, rank - 1, time))
    histories = {user: _History(acts) for user, acts in done.items()}
    laid_out = _laid_out(lists, rewarded, histories, log.id_types, top_n, dislikes)
    unmatched_times = np.array(unmatched, dtype=np.int64)
    return replace(laid_out, unmatched_times=unmatched_times, n_stray=n_stray)


def _newest(places: list[_Place], until: int) -> _Place | None:
    """Return the last one written that is not of a later time."""
    return next((place for place in reversed(places) if place.time <= until), None)


def _laid_out(
    lists: list[list[tuple[Any, ...]]],
    rewarded: set[tuple[int, int]],
    histories: dict[Any, _History],
    id_types: dict[str, str],
    top_n: int,
    dislikes: Dislikes,
) -> Lists:
    known = [i for i, rows in enumerate(lists) if all(row[7] is not None for row in rows[:top_n])]
    n, is_text = len(known), id_types.get("item_id") == "string"
    items = np.full((n, top_n), "" if is_text else -1, dtype=object if is_text else np.int64)
    shown, propensities = np.zeros((n, top_n), dtype=np.bool_), np.zeros((n, top_n))
    rewards = np.zeros((n, top_n))
    codes: dict[Any, int] = {}
    for slot, i in enumerate(known):
        for k, row in enumerate(lists[i][:top_n]):
            items[slot, k], propensities[slot, k], shown[slot, k] = row[2], row[7], True
            rewards[slot, k] = (i, k) in rewarded
    first = [lists[i][0] for i in known]
    user_ids = [row[1] for row in first]
    users = [codes.setdefault(user, len(codes)) for user in user_ids]
    return Lists(
        np.array(users, dtype=np.int64),
        user_ids,
        np.array([row[4] for row in first], dtype=np.int64),
        np.array([row[0] for row in first], dtype=np.int64),
        items,
        shown,
        propensities,
        rewards,
        histories,
        len(lists) - n,
        dislikes,
        np.empty(0, dtype=np.int64),
    )
