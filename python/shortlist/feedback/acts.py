"""What users did according to the feedback log, and how it changes their requests at once.

The rule, in one place:

- Every event that is no impression counts. An item's newest event decides: a dislike (kind "skip",
  or what the bundle's training took for a dislike) makes the item a skipped one, anything else a
  part of the history.
- The log's events follow the history that the request gives, else the stored one. An item that both
  have is kept where the log has it: so a log that is complete since it began gives time order.
- Skipped items leave the history, are excluded as seen ones are, and push the user embedding away
  from them (`cpp_ext/ort_op/push_down.hpp`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from shortlist._columns.ragged import Array, Ragged
from shortlist._columns.requests import Columns
from shortlist.errors import DataError

SKIP = "skip"
# What a bundle stores of a user: item ids, kinds and times of events, oldest first.
StoredUser = tuple[list[Any], list[str], list[int]]


class Users(Protocol):
    """What is asked of a loaded bundle."""

    def stored_user(self, user_id: Any) -> StoredUser | None:
        """Return what is stored of a user, None where the user is not known."""

    def knows(self, item_ids: Array) -> Array:
        """Say which item ids (n,) its encoder knows."""


class Acts(NamedTuple):
    """What one user did, oldest first.

    Attributes
    ----------
    item_ids : list of int or str
    kinds : list of str
    times : list of int
        Seconds since 1970.
    values : list of float or None
    """

    item_ids: list[Any]
    kinds: list[str]
    times: list[int]
    values: list[float | None]


class Dislikes(NamedTuple):
    """What means dislike: kinds, and values below a limit."""

    kinds: frozenset[str]
    below: float

    @classmethod
    def of_settings(cls, events: Mapping[str, Any]) -> "Dislikes":
        """Read what the training's settings take for dislikes; "skip" is one in any case."""
        below = events.get("negative_below")
        return cls(
            frozenset([SKIP, *map(str, events.get("negative_kinds") or ())]),
            float(below) if isinstance(below, (int, float)) else -np.inf,
        )

    def has(self, kind: str, value: float | None) -> bool:
        """Say whether an event is one."""
        return kind in self.kinds or (value is not None and value < self.below)


def acts_of(user_ids: Array, rows: Sequence[tuple[Any, ...]]) -> list[Acts | None]:
    """Sort rows (user_id, item_id, kind, timestamp, value), user by user, to their users."""
    found: dict[Any, Acts] = {}
    if rows:
        users, *columns = (list(column) for column in zip(*rows, strict=True))
        starts = [0, *(i for i in range(1, len(users)) if users[i] != users[i - 1])]
        for start, stop in zip(starts, [*starts[1:], len(users)], strict=True):
            found[users[start]] = Acts(*(column[start:stop] for column in columns))
    return [found.get(user_id) for user_id in user_ids.tolist()]


def check_types(types: Mapping[str, str], user_id_dtype: str, item_id_dtype: str) -> None:
    """Refuse a log whose ids are of another type than the bundle's."""
    for name, expected in (("user_id", user_id_dtype), ("item_id", item_id_dtype)):
        if types.get(name, expected) != expected:
            raise DataError(
                f"feedback: its {name} is {types[name]}, but this bundle's is {expected}; give the "
                "log of this bundle's users and items"
            )


def with_acts(
    columns: Columns,
    acts: Sequence[Acts | None],
    users: Users,
    dislikes: Dislikes,
    item_id_dtype: str,
    now: Array,
    event_columns: Sequence[str],
    hidden: Sequence[set[Any]] | None = None,
) -> Columns:
    """Join what users did to their requests, by the rule above.

    Parameters
    ----------
    columns : Columns
        Checked requests.
    acts : sequence of Acts or None, one a request
    users : Users
        A loaded bundle.
    dislikes : Dislikes
    item_id_dtype : str
    now : ndarray of shape (n_requests,), int64
        Seconds since 1970: ages of events count back from here.
    event_columns : sequence of str
        Of `history_kinds` and `history_ages` those that the encoder takes.
    hidden : sequence of set, optional
        Items that each request's known history must not have, for requests of the past: those of
        the acts and of what was done later.

    Returns
    -------
    Columns
        With `histories` (and `events`) of the requests that have acts made anew, `is_joined` and
        `skipped`.
    """
    n = columns.n_requests
    empty = np.empty(0, dtype=object if item_id_dtype == "string" else np.int64)
    histories = [empty] * n if columns.histories is None else columns.histories.lists()
    events = {name: _known_events(name, columns, histories) for name in event_columns}
    skipped, is_joined = [empty] * n, np.zeros(n, dtype=np.bool_)
    user_ids = [None] * n if columns.ids is None else columns.ids.tolist()
    for i, done in enumerate(acts):
        if done is None:
            continue
        known, told = histories[i], {name: lists[i] for name, lists in events.items()}
        is_joined[i] = not users.knows(known).any()
        stored = None
        if is_joined[i] and user_ids[i] is not None:
            stored = users.stored_user(user_ids[i])
        if stored is not None:  # then what the bundle does not know, which is seen all the same
            before, said = _stored(stored, event_columns, int(now[i]), empty)
            known = np.concatenate([before, known])
            told = {name: np.concatenate([said[name], values]) for name, values in told.items()}
        is_skip = list(map(dislikes.has, done.kinds, done.values))
        newest = dict(zip(done.item_ids, is_skip, strict=True))
        gone = newest.keys() if hidden is None else hidden[i]
        is_kept = np.fromiter((item not in gone for item in known.tolist()), np.bool_, len(known))
        places = [
            place
            for place, item in enumerate(done.item_ids)
            if not (is_skip[place] or newest[item])
        ]
        liked = _ids([done.item_ids[place] for place in places], empty)
        histories[i] = np.concatenate([known[is_kept].astype(empty.dtype), liked])
        skipped[i] = _ids([item for item, is_last in newest.items() if is_last], empty)
        for name, lists in events.items():
            lists[i] = np.concatenate([told[name][is_kept], _told(name, done, places, int(now[i]))])
    return replace(
        columns,
        histories=Ragged.of_lists(histories, empty.dtype),
        events={
            name: Ragged.of_lists(lists, object if name == "history_kinds" else np.float32)
            for name, lists in events.items()
        },
        is_joined=is_joined,
        skipped=Ragged.of_lists(skipped, empty.dtype),
    )


def _ids(ids: list[Any], empty: Array) -> Array:
    return np.array(ids, dtype=empty.dtype)


def _known_events(name: str, columns: Columns, histories: Sequence[Array]) -> list[Array]:
    if name in columns.events:
        return columns.events[name].lists()
    return [_unknown(name, len(history)) for history in histories]


def _unknown(name: str, length: int) -> Array:
    if name == "history_kinds":
        return np.full(length, "", dtype=object)
    return np.full(length, np.nan, dtype=np.float32)


def _stored(
    stored: StoredUser,
    event_columns: Sequence[str],
    now: int,
    empty: Array,
) -> tuple[Array, dict[str, Array]]:
    items, kinds, times = stored
    told = {}
    for name in event_columns:
        if name == "history_ages":
            told[name] = np.maximum(now - np.array(times, dtype=np.int64), 0).astype(np.float32)
        else:
            told[name] = np.array(kinds, dtype=object)
    return _ids(items, empty), told


def _told(name: str, acts: Acts, places: list[int], now: int) -> Array:
    if name == "history_kinds":
        return np.array([acts.kinds[place] for place in places], dtype=object)
    ages = [max(now - acts.times[place], 0) for place in places]
    return np.array(ages, dtype=np.float32)
