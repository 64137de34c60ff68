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
from shortlist._columns.requests import Columns, RequestSchema
from shortlist.errors import DataError

SKIP = "skip"
# What a bundle stores of a user: item ids, kinds and times of events, oldest first.
StoredUser = tuple[list[Any], list[str], list[int]]


class Users(Protocol):
    """What is asked of a loaded bundle."""

    schema: RequestSchema

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
    acts: dict[Any, Acts] = {}
    if rows:
        users, *columns = (list(column) for column in zip(*rows, strict=True))
        starts = [0, *(i for i in range(1, len(users)) if users[i] != users[i - 1])]
        for start, stop in zip(starts, [*starts[1:], len(users)], strict=True):
            acts[users[start]] = Acts(*(column[start:stop] for column in columns))
    return [acts.get(user_id) for user_id in user_ids.tolist()]


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
    now: Array,
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
    now : ndarray of shape (n_requests,), int64
        Seconds since 1970: ages of events count back from here.
    hidden : sequence of set, optional
        Items that each request's known history must not have, for requests of the past: those of
        the acts and of what was done later.

    Returns
    -------
    Columns
        With `histories` (and `events`) of the requests that have acts made anew, `is_joined` and
        `skipped`.
    """
    n, dtype = columns.n_requests, object if users.schema.history_dtype == "string" else np.int64
    empty = np.empty(0, dtype=dtype)
    histories = [empty] * n if columns.histories is None else columns.histories.lists()
    events = {name: _known_events(name, columns, histories) for name in users.schema.event_columns}
    skipped, is_joined = [empty] * n, np.zeros(n, dtype=np.bool_)
    user_ids = [None] * n if columns.ids is None else columns.ids.tolist()
    for i, done in enumerate(acts):
        if done is None:
            continue
        past = _Past(histories[i], {name: lists[i] for name, lists in events.items()})
        is_joined[i] = not users.knows(past.item_ids).any()
        if is_joined[i] and user_ids[i] is not None:
            past = _after_stored(users.stored_user(user_ids[i]), past, int(now[i]), dtype)
        gone = set(done.item_ids) if hidden is None else hidden[i]
        past, skipped[i] = _followed(past, done, dislikes, gone, int(now[i]), dtype)
        histories[i] = past.item_ids
        for name, values in past.events.items():
            events[name][i] = values
    return replace(
        columns,
        histories=Ragged.of_lists(histories, dtype),
        events={
            name: Ragged.of_lists(lists, object if name == "history_kinds" else np.float32)
            for name, lists in events.items()
        },
        is_joined=is_joined,
        skipped=Ragged.of_lists(skipped, dtype),
    )


class _Past(NamedTuple):
    """One request's history, and its columns of events, entry by entry."""

    item_ids: Array
    events: dict[str, Array]


def _after_stored(stored: StoredUser | None, past: _Past, now: int, dtype: Any) -> _Past:
    """Put the stored history before what the bundle does not know, which is seen all the same."""
    if stored is None:
        return past
    item_ids, kinds, times = stored
    return _Past(
        np.concatenate([np.array(item_ids, dtype=dtype), past.item_ids]),
        {
            name: np.concatenate([_event_values(name, kinds, times, now), values])
            for name, values in past.events.items()
        },
    )


def _followed(
    past: _Past, acts: Acts, dislikes: Dislikes, gone: set[Any], now: int, dtype: Any
) -> tuple[_Past, Array]:
    """Let acts follow a history without the items that are `gone`; and the items skipped."""
    is_skip = list(map(dislikes.has, acts.kinds, acts.values))
    newest = dict(zip(acts.item_ids, is_skip, strict=True))
    is_left = np.array([item not in gone for item in past.item_ids.tolist()], dtype=np.bool_)
    liked = [k for k, item in enumerate(acts.item_ids) if not (is_skip[k] or newest[item])]
    kinds, times = [acts.kinds[k] for k in liked], [acts.times[k] for k in liked]
    item_ids = [acts.item_ids[k] for k in liked]
    history = past.item_ids[is_left].astype(dtype)
    events = {
        name: np.concatenate([values[is_left], _event_values(name, kinds, times, now)])
        for name, values in past.events.items()
    }
    skipped = [item for item, is_last in newest.items() if is_last]
    joined = _Past(np.concatenate([history, np.array(item_ids, dtype=dtype)]), events)
    return joined, np.array(skipped, dtype=dtype)


def _known_events(name: str, columns: Columns, histories: Sequence[Array]) -> list[Array]:
    if name in columns.events:
        return columns.events[name].lists()
    unknown, dtype = ("", object) if name == "history_kinds" else (np.nan, np.float32)
    return [np.full(len(history), unknown, dtype) for history in histories]


def _event_values(name: str, kinds: list[str], times: list[int], now: int) -> Array:
    """Return one column of events."""
    if name == "history_kinds":
        return np.array(kinds, dtype=object)
    return np.maximum(now - np.array(times, dtype=np.int64), 0).astype(np.float32)
