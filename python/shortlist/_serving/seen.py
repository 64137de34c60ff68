"""Which items count as seen where a call names kinds of events: ``exclude_seen=("purchase",)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shortlist._columns.ragged import Array, Ragged
from shortlist._columns.requests import Columns
from shortlist.errors import DataError
from shortlist.feedback.acts import Acts, Users


def seen_items(
    columns: Columns,
    acts: Sequence[Acts | None] | None,
    skipped: Ragged | None,
    users: Users,
    kinds: frozenset[str],
) -> Ragged:
    """Return the items (n_requests lists of ids) of which an event is of one of these kinds.

    Events are those of the request's history, of the stored history of its user, and of the log.
    One whose kind is not known counts: better an item too few than a purchase shown again. So do
    items that the user skipped.

    Parameters
    ----------
    columns : Columns
        As they were given.
    acts : sequence of Acts or None, one a request, or None
        What the log says; None without a log.
    skipped : Ragged or None
        Items that it says were skipped.
    users : Users
        A loaded bundle.
    kinds : frozenset of str

    Raises
    ------
    DataError
        Neither the bundle, nor the requests, nor a log tell of any event's kind.
    """
    if acts is None and not {"history_kinds"} & {*users.schema.event_columns, *columns.events}:
        raise DataError(
            f"exclude_seen: got kinds {sorted(kinds)}, but no kind of an event is known: this "
            "bundle stores none, and no request has the column 'history_kinds'; give one of them, "
            "or feedback=FeedbackLog(path), or exclude_seen=True"
        )
    n, dtype = columns.n_requests, object if users.schema.history_dtype == "string" else np.int64
    none = [np.empty(0, dtype)] * n
    own = none if columns.histories is None else columns.histories.lists()
    own_kinds = columns.events.get("history_kinds")
    kinds_of = [[""] * len(ids) for ids in own] if own_kinds is None else own_kinds.lists()
    left = none if skipped is None else skipped.lists()
    user_ids = [None] * n if columns.ids is None else columns.ids.tolist()
    seen: list[Array] = []
    for i in range(n):
        items = [*left[i].tolist(), *_of_kinds(own[i], kinds_of[i], kinds)]
        stored = None if user_ids[i] is None else users.stored_user(user_ids[i])
        if stored is not None:
            items += _of_kinds(stored[0], stored[1] or [""] * len(stored[0]), kinds)
        done = None if acts is None else acts[i]
        if done is not None:
            items += _of_kinds(done.item_ids, done.kinds, kinds)
        seen.append(np.array(items, dtype=dtype))
    return Ragged.of_lists(seen, dtype)


def _of_kinds(item_ids: Any, kinds_of: Any, kinds: frozenset[str]) -> list[Any]:
    """Return the items of events of these kinds, or of none."""
    pairs = zip(item_ids, kinds_of, strict=True)
    return [item for item, kind in pairs if kind in kinds or not kind]
