"""What is known about each request: history, seen items, user features, and so the answer's source.

Everything here is item rows, not ids: an id is looked up once. Ragged lists are (values, splits).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from shortlist import _arguments, _core
from shortlist._columns import Array
from shortlist._history_events import gather_events
from shortlist._tables import UserTable
from shortlist.requests import Columns, FeatureColumn

POPULAR, FEATURES, STORED_HISTORY, HISTORY = range(4)
_NO_ROWS = np.empty(0, dtype=np.int64)


class Ragged(NamedTuple):
    """Lists of item rows: row i's are values[splits[i]:splits[i + 1]]."""

    values: Array
    splits: Array

    @property
    def lengths(self) -> Array:
        """Entries of each list, (n,) int64."""
        lengths: Array = self.splits[1:] - self.splits[:-1]
        return lengths


@dataclass
class Signals:
    """One batch, ready for the graph and the search.

    Attributes
    ----------
    source : ndarray of shape (n,), int8
        POPULAR, FEATURES, STORED_HISTORY or HISTORY.
    histories : Ragged
        Item rows of the bundle, oldest first: of the request, else stored. Items that came later
        are left out: the encoder does not know them.
    seen : Ragged
        Present rows of the request's history and of the stored history.
    features : dict of str to ndarray
        Raw user features, the request's own first, else stored, else missing.
    events : dict of str to ndarray
        Kinds and ages, if declared: flat, entry by entry like `histories.values`.
    skipped : Ragged or None
        Present rows of items that the user skipped; they are among `seen` too.
    """

    source: Array
    histories: Ragged
    seen: Ragged
    features: dict[str, Array]
    events: dict[str, Array] = field(default_factory=dict)
    skipped: Ragged | None = None

    def take(self, chosen: Array) -> "Signals":
        """Return the signals of some requests (m,) int64."""
        splits = self.histories.splits
        return Signals(
            self.source[chosen],
            take(self.histories, chosen),
            take(self.seen, chosen),
            {name: values[chosen] for name, values in self.features.items()},
            {name: take(Ragged(v, splits), chosen).values for name, v in self.events.items()},
            None if self.skipped is None else take(self.skipped, chosen),
        )


def gather(
    columns: Columns,
    first: _core.IndexView,
    present: _core.IndexView,
    users: UserTable | None,
    features: dict[str, FeatureColumn],
    event_features: Mapping[str, Any],
) -> Signals:
    """Look up what is known about each request.

    Parameters
    ----------
    columns : Columns
        Checked requests.
    first : IndexView
        The index as it was loaded: the items that the encoder knows; others in a history are
        skipped.
    present : IndexView
        The index that will be searched.
    users : UserTable or None
        Stored histories and features, if the bundle has them.
    features : dict of str to FeatureColumn
        The user features the encoder takes.
    event_features : mapping
        The manifest's `event_features`.
    """
    n = columns.n_requests
    is_changed = present.version != first.version
    given = _known_rows(columns.histories, n, first)
    given_now = _known_rows(columns.histories, n, present) if is_changed else given
    user_rows = None
    if users is not None and columns.ids is not None:
        user_rows = users.rows_of(columns.ids)
        if not (user_rows >= 0).any():
            user_rows = None
    source = _source_of(given)
    histories, seen = given, given_now
    if user_rows is not None and users is not None:
        joined = columns.is_joined  # these have the stored history in their own
        rows = user_rows if joined is None else np.where(joined, -1, user_rows)
        lists = [users.history(row) if row >= 0 else _NO_ROWS for row in rows.tolist()]
        stored = _known_rows(lists, n, first)
        source[(source == POPULAR) & (stored.lengths > 0)] = STORED_HISTORY
        seen = _join(given_now, _known_rows(lists, n, present) if is_changed else stored)
        histories = _choose(source == HISTORY, given, stored)
    skipped = None
    if columns.skipped is not None:
        skipped = _known_rows(columns.skipped, n, present)
        seen = _join(seen, skipped)
    values = _fill_features(columns, user_rows, users, features)
    if features and not source.all():
        known = np.zeros(n, dtype=np.bool_)
        for name, feature in features.items():
            known |= feature.is_known(values[name])
        source[(source == POPULAR) & known] = FEATURES
    events: dict[str, Array] = {}
    if event_features:
        events = gather_events(
            event_features,
            columns,
            source == HISTORY,
            histories.lengths,
            None if users is None or user_rows is None else (users, user_rows),
            lambda ids: _arguments.rows_of(first, ids, "history") >= 0,
        )
    return Signals(source, histories, seen, values, events, skipped)


def pad_last(histories: Ragged, width: int) -> Array:
    """Lay out the last `width` rows of every list, right-aligned: (n, longest), −1 = padding.

    The longest is at least 1, as graphs want a length.
    """
    values, splits = histories
    if len(splits) == 2:  # one request
        last = values[-width:]
        return last[None, :] if len(last) else np.full((1, 1), -1, dtype=np.int64)
    kept = np.minimum(histories.lengths, width)
    longest = int(kept.max(initial=1))
    padded = np.full((len(kept), longest), -1, dtype=np.int64)
    total = int(kept.sum())
    firsts = np.cumsum(kept) - kept
    place = np.arange(total) - np.repeat(firsts, kept)
    owner = np.repeat(np.arange(len(kept)), kept)
    padded[owner, place + np.repeat(longest - kept, kept)] = values[
        place + np.repeat(splits[1:] - kept, kept)
    ]
    return padded


def event_feeds(signals: Signals, width: int) -> dict[str, Array]:
    """Lay kinds and ages out like `pad_last` lays out the items; padding is "" and NaN."""
    histories = signals.histories
    if not signals.events:
        return {}
    places = pad_last(Ragged(np.arange(len(histories.values)), histories.splits), width)
    feeds = {}
    for name, values in signals.events.items():
        is_text = name == "history_kinds"
        feeds[name] = np.append(values, "" if is_text else np.float32(np.nan))[places]
        feeds[name] = feeds[name].astype(object if is_text else np.float32)
    return feeds


def take(ragged: Ragged, chosen: Array) -> Ragged:
    """Return the lists at the chosen positions (m,) int64."""
    lengths = ragged.lengths[chosen]
    splits = np.concatenate([[0], np.cumsum(lengths)])
    source = np.arange(splits[-1]) + np.repeat(ragged.splits[chosen] - splits[:-1], lengths)
    return Ragged(ragged.values[source], splits)


def _known_rows(histories: list[Array] | None, n: int, view: _core.IndexView) -> Ragged:
    if histories is None:
        return Ragged(_NO_ROWS, np.zeros(n + 1, dtype=np.int64))
    if not view.has_string_ids:
        return Ragged(*view.known_rows_of_int64(histories))
    splits = np.zeros(n + 1, dtype=np.int64)
    np.cumsum([len(history) for history in histories], out=splits[1:])
    filled = [history for history in histories if len(history)]
    if not filled:
        return Ragged(_NO_ROWS, splits)
    return _drop_unknown(_arguments.rows_of(view, np.concatenate(filled), "history"), splits)


def _source_of(given: Ragged) -> Array:
    """Say which requests have a history of their own."""
    if len(given.splits) == 2:  # one request: NumPy's calls cost more than they do
        return np.array([HISTORY if len(given.values) else POPULAR], dtype=np.int8)
    source: Array = (given.lengths > 0) * np.int8(HISTORY)
    return source


def _drop_unknown(rows: Array, splits: Array) -> Ragged:
    if rows.min(initial=0) >= 0:
        return Ragged(rows, splits)
    known = rows >= 0
    before = np.concatenate([[0], np.cumsum(known)])
    return Ragged(rows[known], before[splits])


def _join(first: Ragged, second: Ragged) -> Ragged:
    """Append each list of `second` to the same list of `first`."""
    parts: list[Array] = []
    for i in range(len(first.splits) - 1):
        parts.append(first.values[first.splits[i] : first.splits[i + 1]])
        parts.append(second.values[second.splits[i] : second.splits[i + 1]])
    return Ragged(np.concatenate(parts), first.splits + second.splits)


def _choose(take_first: Array, first: Ragged, second: Ragged) -> Ragged:
    """Take each list from `first` or from `second`."""
    lengths = np.where(take_first, first.lengths, second.lengths)
    parts = [
        (first if chosen else second).values[
            (first if chosen else second).splits[i] : (first if chosen else second).splits[i + 1]
        ]
        for i, chosen in enumerate(take_first.tolist())
    ]
    return Ragged(np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)]))


def _fill_features(
    columns: Columns,
    user_rows: Array | None,
    users: UserTable | None,
    features: dict[str, FeatureColumn],
) -> dict[str, Array]:
    values = {}
    for name, feature in features.items():
        given = columns.features.get(name)
        if user_rows is None or users is None:
            values[name] = feature.missing(columns.n_requests) if given is None else given
            continue
        stored = users.feature(feature, user_rows)
        values[name] = stored if given is None else _merge(feature, given, stored)
    return values


def _merge(feature: FeatureColumn, given: Array, stored: Array) -> Array:
    """Take the stored value where the request gives none."""
    is_missing = ~feature.is_given(given)
    if given.ndim == 1:
        return np.where(is_missing, stored, given)
    if feature.kind == "vector":
        return np.where(is_missing[:, None], stored, given)
    width = max(given.shape[1], stored.shape[1])
    merged = np.repeat(feature.missing(len(given)), width, axis=1)
    merged[:, : given.shape[1]] = given
    merged[is_missing, : stored.shape[1]] = stored[is_missing]
    return merged
