"""What `Engine.recommend_group` does: one list for several requests, exact over all items."""

from __future__ import annotations

from typing import Any

import numpy as np

from shortlist import _checks
from shortlist._catalogue.filters import NO_FILTERS, Filters, rows_of
from shortlist._catalogue.state import Catalogue
from shortlist._columns.ragged import Ragged
from shortlist._columns.reading import Array
from shortlist._columns.requests import Columns
from shortlist._serving.asked import Asked
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.options import RecommendOptions
from shortlist.errors import DataError
from shortlist.recommendations import POPULAR, Recommendations

HOWS = ("mean", "least_misery")
_FIRST_DEPTH = 64  # of each member's list


def check_how(how: Any) -> str:
    """Return how members' scores become one."""
    if not isinstance(how, str) or how not in HOWS:
        raise ValueError(f"how: got {how!r:.60}, expected one of {', '.join(HOWS)}")
    return how


class GroupAsked:
    """What the members of a group asked, as one request."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    @property
    def user_ids(self) -> Array:
        """None: a group is nobody."""
        return np.array([None], dtype=object)

    @property
    def n_given(self) -> Array:
        """How many ids all of them gave."""
        return np.array([self._asked.n_given.sum()])

    @property
    def n_known(self) -> Array:
        """How many of them are known."""
        return np.array([self._asked.n_known.sum()])


def recommend_group(
    loaded: LoadedBundle, columns: Columns, filters: Filters, top_n: int, how: str, seen: Any
) -> Recommendations:
    """Answer checked requests with one list."""
    if columns.n_requests == 0:
        raise DataError("requests: got none, expected at least one member of the group")
    state = loaded.state  # for the whole call: rows and scores are those of one moment
    _checks.check_answer_size(1, top_n, state.view.n_rows)
    if seen:
        filters = filters._replace(seen=_seen_by_all(loaded, columns))
    filters = _of_everyone(filters, columns.n_requests, state)
    first = loaded.answer(columns, filters, RecommendOptions(top_n, False, 1), state=state)
    is_known = first._source_codes != POPULAR
    if not is_known.any():  # nobody says anything: all lists are the same
        rows, scores, source = first.indices[0], first.scores[0], POPULAR
    else:
        members = np.flatnonzero(is_known)
        rows, scores = _best_of(loaded, state, columns.take(members), filters, top_n, how)
        source = int(first._source_codes.max())
    found = np.full((1, top_n), -1, dtype=np.int64)
    found_scores = np.full((1, top_n), -np.inf, dtype=np.float32)
    found[0, : len(rows)], found_scores[0, : len(rows)] = rows, scores
    return Recommendations(
        state.ids[found],
        found_scores,
        (found >= 0).sum(axis=1),
        found,
        np.array([source]),
        np.array([int(source != POPULAR)], dtype=np.int8),
        state.items,
        GroupAsked(loaded.asked(columns)),
        loaded.number,
    )


def _of_everyone(filters: Filters, n_members: int, state: Catalogue) -> Filters:
    """Return filters for all members that allow what each of them allows, in one list of ids."""
    if filters is NO_FILTERS:
        return filters
    left = rows_of(filters, n_members, state)
    if left.exclude is not None and left.allow is None and not left.masks.masks:
        excluded = np.unique(left.exclude.values)
        return Filters(exclude=state.ids[excluded[excluded >= 0]])
    is_allowed = np.ones(state.view.n_rows, dtype=np.bool_)
    for mask in left.masks.masks:
        if mask is not None:
            is_allowed &= mask
    for rows in [] if left.allow is None else left.allow.lists():
        is_allowed &= np.isin(np.arange(len(is_allowed)), rows)
    if left.exclude is not None:
        excluded = left.exclude.values
        is_allowed[excluded[excluded >= 0]] = False
    return Filters(allow=state.ids[:-1][is_allowed])


def _seen_by_all(loaded: LoadedBundle, columns: Columns) -> Ragged:
    """Return for each member the items that anyone has seen."""
    dtype = object if loaded.item_id_dtype == "string" else np.int64
    seen: list[Any] = [] if columns.histories is None else columns.histories.values.tolist()
    for user in [] if columns.ids is None else columns.ids.tolist():
        stored = loaded.stored_user(user)
        seen += [] if stored is None else stored[0]
    everyone = np.array(list(dict.fromkeys(seen)), dtype=dtype)
    return Ragged.of_lists([everyone] * columns.n_requests, dtype)


def _best_of(
    loaded: LoadedBundle,
    state: Catalogue,
    columns: Columns,
    filters: Filters,
    top_n: int,
    how: str,
) -> tuple[Array, Array]:
    """Return rows and scores of the best items, by a threshold (Fagin, Lotem and Naor, PODS 2001).

    The members' lists are read to some depth. What is in none of them has no better score than the
    last place of each list allows; once the top_n best of what was read are better, they are the
    best of all.
    """
    depth = max(_FIRST_DEPTH, 2 * top_n)
    while True:
        depth = min(depth, max(1, state.view.n_rows))
        lists = loaded.answer(columns, filters, RecommendOptions(depth, False, 1), state=state)
        rows = np.unique(lists.indices[lists.indices >= 0])
        if len(rows) == 0:
            return rows, np.empty(0, np.float32)
        judged = loaded.core.score(
            state.core, columns.for_core(loaded.schema), np.tile(rows, (columns.n_requests, 1)), 1
        )
        merged = _merged(judged, how)
        order = np.lexsort((rows, -merged))[:top_n]
        is_whole = bool((lists.counts < depth).any()) or depth >= state.view.n_rows
        ends = lists.scores[np.arange(len(lists)), np.maximum(lists.counts - 1, 0)]
        if is_whole or (len(order) == top_n and merged[order[-1]] > _merged(ends[:, None], how)[0]):
            return rows[order], merged[order]
        depth *= 4


def _merged(scores: Array, how: str) -> Array:
    """Merge members' scores (n_members, n) to one for each item."""
    merged = scores.astype(np.float64)
    merged = merged.mean(axis=0) if how == "mean" else merged.min(axis=0)
    rounded: Array = merged.astype(np.float32)
    return rounded
