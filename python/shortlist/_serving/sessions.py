"""Sessions: what a user does goes on, and every list knows of it at once."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple, TypedDict

import numpy as np

from shortlist import _checks
from shortlist._catalogue.filters import Filters, read_filters, rows_of
from shortlist._catalogue.state import Catalogue
from shortlist._columns.ragged import Ragged
from shortlist._columns.reading import Array, id_column
from shortlist._columns.requests import Columns, normalise
from shortlist._serving.asked import has_user
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.similar import AskedItems, search_by_vectors
from shortlist._serving.switch import Switch
from shortlist.errors import DataError, ShortlistError
from shortlist.feedback import seconds_of
from shortlist.recommendations import HISTORY, Recommendations

STATE = "session_state"
_PAIR = np.array([0, 2])
_OVERHEAD = 1_500  # bytes of a session without items: Python's objects
_EVENT_BYTES = 100  # of an item in it: its id, kind and time as Python's objects


class SessionReport(TypedDict):
    """How a session is answered, and what it did; see `Session.report`."""

    way: str  # "state" or "recompute"
    why: str
    n_items: int
    n_steps: int
    n_restarts: int
    n_bytes: int


class _Event(NamedTuple):
    item_id: Any
    kind: str
    time: int | None  # seconds since 1970


class Session:
    """What one user does, event after event; `Engine.session` makes one.

    Calls of several threads take turns.
    """

    __slots__ = (  # there may be a million of them
        "__weakref__",
        "_events",
        "_fixed",
        "_found",
        "_hidden",
        "_last_time",
        "_n_done",
        "_n_known",
        "_n_restarts",
        "_n_seen",
        "_n_steps",
        "_of",
        "_request",
        "_seen",
        "_seen_of",
        "_switch",
        "_turn",
    )

    def __init__(self, switch: Switch, request: Any) -> None:
        self._switch = switch
        self._turn = threading.RLock()
        loaded = switch.now()
        self._request, self._events = _taken(request, loaded)
        self._hidden: list[Any] = []  # disliked or forgotten items: excluded, no evidence
        self._of: LoadedBundle | None = None  # whose state it is
        self._found: Array | None = None  # (1, dim + width): the embedding, then the state
        self._n_done = 0  # events that are in the state
        self._fixed: list[tuple[str, Array, Array | None]] = []  # columns that stay
        self._last_time: int | None = None  # of the last of them that the encoder knows
        self._n_known = 0  # of these events
        self._seen = array("q")  # rows of events and of the stored history
        self._n_seen = 0  # events whose rows are there
        self._seen_of: Catalogue | None = None  # whose rows they are
        self._n_steps = self._n_restarts = 0

    def append(self, item_ids: Any, kind: str | None = None, timestamp: Any = None) -> None:
        """Go on with items, in their order.

        Parameters
        ----------
        item_ids : array-like of shape (n,), ids
        kind : str, optional
            Of all these events. One that means dislike to the bundle takes the items out of the
            history instead; they stay excluded as seen.
        timestamp : number, datetime or str, optional
            When, for encoders that read ages; give it always or never. Default: not known, then
            events count as one usual gap apart.

        Raises
        ------
        TypeError, DataError
            The ids are no list of the bundle's ids, or `kind` is no text.
        ShortlistError
            The engine is closed.
        """
        loaded = self._switch.now()
        ids = _read_ids(item_ids, loaded)
        if kind is not None and not isinstance(kind, str):
            raise TypeError(f"kind: got {kind!r:.60}, expected a text such as 'click'")
        seconds = None if timestamp is None else seconds_of(timestamp, "timestamp")
        if kind is not None and kind in loaded.dislikes.kinds:
            self.forget(ids)
            return
        with self._turn:
            gone = set(self._hidden) & set(ids)
            self._hidden = [item for item in self._hidden if item not in gone]
            self._events += [_Event(item, kind or "", seconds) for item in ids]

    def forget(self, item_ids: Any) -> None:
        """Take items out of the history; they stay excluded as seen. The state is made anew.

        Raises
        ------
        TypeError, DataError
            As `append`.
        """
        ids = _read_ids(item_ids, self._switch.now())
        with self._turn:
            gone = set(ids)
            self._events = [event for event in self._events if event.item_id not in gone]
            self._hidden = list(dict.fromkeys([*self._hidden, *ids]))
            self._drop()

    def recommend(
        self,
        top_n: int = 10,
        where: Any = None,
        exclude: Any = None,
        *,
        allow: Any = None,
        exclude_seen: bool = True,
        now: Any = None,
    ) -> Recommendations:
        """Recommend the top-N items after all that was appended.

        Parameters
        ----------
        top_n, where, exclude, allow
            As for `Engine.recommend`, of one request.
        exclude_seen : bool
            Leave out the session's items, those of the user's stored history, and those that were
            disliked or forgotten.
        now : number, datetime or str, optional
            What ages of events count from, where the encoder reads them. Default: the newest event.

        Returns
        -------
        Recommendations
            Of one request.

        Raises
        ------
        TypeError, ValueError, DataError
            As `Engine.recommend`.
        ShortlistError
            The engine is closed.
        """
        loaded = self._switch.now()
        top_n = _checks.positive_int(top_n, "top_n")
        seen = _checks.flag(exclude_seen, "exclude_seen")
        seconds = None if now is None else seconds_of(now, "now")
        with self._turn:
            filters = read_filters(where, exclude, allow, 1, loaded.state)
            if seen and self._hidden:
                hidden = _id_array(self._hidden, loaded)
                filters = filters._replace(seen=Ragged(hidden, np.array([0, len(hidden)])))
            if self._way(loaded)[0] == "state":
                self._step_all(loaded)
                if self._found is not None:  # an item is known
                    return self._search(loaded, filters, top_n, seen)
            columns = self._columns(loaded, seconds)
            return loaded.answer(columns, filters, loaded.options(top_n, seen, None))

    def report(self) -> SessionReport:
        """Say how the session is answered, why, and what it did.

        Returns
        -------
        dict
            `way`: "state" (an item costs one step of the encoder, however long the history is) or
            "recompute" (the whole history every time); `why`; `n_items` of the history; `n_steps`
            of the encoder; `n_restarts`: how often the state was made anew; `n_bytes`, an estimate.
        """
        loaded = self._switch.now()
        way, why = self._way(loaded)
        return {
            "way": way,
            "why": why,
            "n_items": len(self._events),
            "n_steps": self._n_steps,
            "n_restarts": self._n_restarts,
            "n_bytes": self.n_bytes,
        }

    @property
    def n_bytes(self) -> int:
        """About how much memory it takes."""
        n_events = len(self._events) + len(self._hidden)
        n_state = 0 if self._found is None else self._found.nbytes
        return _OVERHEAD + _EVENT_BYTES * n_events + n_state

    @property
    def history(self) -> list[Any]:
        """The items of the session, oldest first."""
        return [event.item_id for event in self._events]

    def __repr__(self) -> str:
        """Say how many items it has."""
        return f"Session({len(self._events)} items)"

    def _drop(self) -> None:
        self._found, self._n_done, self._of = None, 0, None
        self._last_time, self._n_known = None, 0
        self._seen, self._n_seen, self._seen_of = array("q"), 0, None

    def _way(self, loaded: LoadedBundle) -> tuple[str, str]:
        """Return how a bundle answers, and why."""
        if not loaded.bundle.has("session_encoder.onnx"):
            return "recompute", "the bundle has no session_encoder.onnx"
        if loaded.has_reranker:
            return "recompute", "the second stage reads the history"
        return "state", "session_encoder.onnx takes the state and one item"

    def _columns(self, loaded: LoadedBundle, now: int | None) -> Columns:
        """Return the session as a request."""
        request = dict(self._request)
        request["history"] = self.history
        if "history_kinds" in loaded.schema.event_columns:
            request["history_kinds"] = [event.kind or None for event in self._events]
        if "history_ages" in loaded.schema.event_columns:
            times = [event.time for event in self._events if event.time is not None]
            newest = max(times, default=0) if now is None else now
            request["history_ages"] = [
                None if event.time is None else max(newest - event.time, 0)
                for event in self._events
            ]
        return normalise([request], loaded.schema)

    def _step_all(self, loaded: LoadedBundle) -> None:
        """Take the encoder over the events that are not in the state yet."""
        if self._of is not loaded:
            self._n_restarts += self._of is not None or self._n_steps > 0
            self._drop()
            self._of = loaded
        new = self._events[self._n_done :]
        if not new:
            return
        is_known = loaded.knows(_id_array([event.item_id for event in new], loaded))
        self._n_known += int(is_known.sum())
        known = [event for event, is_one in zip(new, is_known, strict=True) if is_one]
        if self._found is None:  # as the encoder: from the oldest item that it looks at
            known = known[-loaded.bundle.manifest.max_history :]
            self._fixed = normalise([self._request], loaded.schema).for_core(loaded.schema)
        try:
            for event in known:
                self._step(event, loaded)
        except BaseException:  # some of them may be in the state: it is made anew
            self._drop()
            raise
        self._n_done = len(self._events)

    def _step(self, event: _Event, loaded: LoadedBundle) -> None:
        """Take the encoder over one item that it knows."""
        core, dim = loaded.core, loaded.index.dim
        is_first = self._found is None
        if self._found is None:
            state = np.zeros((1, core.session_width - dim), dtype=np.float32)
        else:
            state = np.ascontiguousarray(self._found[:, dim:])
        # Twice, as ages have a place for the item before; the graph reads the last one.
        columns = [*self._fixed, (STATE, state, None)]
        columns.append(("history", _id_array([event.item_id] * 2, loaded), _PAIR))
        if "history_kinds" in loaded.schema.event_columns:
            columns.append(("history_kinds", np.array(["", event.kind], dtype=object), _PAIR))
        if "history_ages" in loaded.schema.event_columns:
            pause = 0.0 if is_first else self._pause(event, loaded)
            columns.append(("history_ages", np.array([pause, 0.0], dtype=np.float32), _PAIR))
        self._found = core.step_sessions(1, columns)
        self._last_time = event.time
        self._n_steps += 1

    def _pause(self, event: _Event, loaded: LoadedBundle) -> float:
        """Return the seconds since the event before; the usual ones where a time is not known."""
        if event.time is None or self._last_time is None:
            return float(loaded.bundle.manifest.event_features["history_ages"].get("gap", 0.0))
        return float(max(event.time - self._last_time, 0))

    def _search(
        self, loaded: LoadedBundle, filters: Filters, top_n: int, seen: bool
    ) -> Recommendations:
        """Search with the embedding that the steps have left."""
        state = loaded.state
        _checks.check_answer_size(1, top_n, state.view.n_rows)
        assert self._found is not None
        embedding = self._found[:, : loaded.index.dim]
        left = rows_of(filters, 1, state)
        if seen:
            lists = [] if left.exclude is None else [left.exclude.values]
            rows = np.concatenate([*lists, self._seen_rows(loaded, state)])
            left = left._replace(exclude=Ragged(rows, np.array([0, len(rows)])))
        found = search_by_vectors(state, embedding, top_n, left, self._switch.n_threads)
        user = self._request.get("user_id")
        is_stored = user is not None and loaded.stored_user(user) is not None
        asked = AskedItems(
            np.array([user], dtype=object),
            np.array([len(self._events) + (user is not None)]),
            np.array([self._n_known + is_stored]),
        )
        return Recommendations(
            state.ids[found.rows],
            found.scores,
            found.counts,
            found.rows,
            np.array([HISTORY]),
            np.ones(1, dtype=np.int8),
            state.items,
            asked,
            loaded.number,
        )

    def _seen_rows(self, loaded: LoadedBundle, state: Catalogue) -> Array:
        """Return the rows of all that was seen, looked up once for each state of the items."""
        items = [event.item_id for event in self._events[self._n_seen :]]
        if self._seen_of is not state:
            self._seen, items, user = array("q"), self.history, self._request.get("user_id")
            stored = None if user is None else loaded.stored_user(user)
            items += [] if stored is None else stored[0]
        self._seen.extend(state.rows_of(_id_array(items, loaded)).tolist())
        self._n_seen, self._seen_of = len(self._events), state
        return np.array(self._seen, dtype=np.int64)


class Sessions:
    """Sessions by key, as many as fit; `Engine.sessions` makes such a store.

    Where the bytes of all would be more than `max_bytes`, those go that were not asked for longest.

    Attributes
    ----------
    max_bytes : int
    """

    def __init__(self, switch: Switch, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._switch = switch
        self._turn = threading.Lock()
        self._kept: OrderedDict[Hashable, Session] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._total = 0

    def get(self, key: Hashable, request: Any = None) -> Session:
        """Return the session of a key; a new one begins with `request` (default: nothing known).

        Raises
        ------
        TypeError, DataError
            As `Engine.session`.
        """
        with self._turn:
            session = self._kept.get(key)
            if session is None:
                session = self._kept[key] = Session(self._switch, request)
            self._kept.move_to_end(key)
            self._count(key, session)
            while self._total > self.max_bytes and len(self._kept) > 1:
                self._remove(next(iter(self._kept)))
            return session

    def drop(self, key: Hashable) -> bool:
        """Forget a session, such as that of a user who is erased; say whether there was one."""
        with self._turn:
            return self._remove(key)

    @property
    def n_bytes(self) -> int:
        """About how much memory all sessions take, as they were when they were last asked for."""
        return self._total

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        """Say whether there is a session of a key."""
        return key in self._kept

    def _count(self, key: Hashable, session: Session) -> None:
        size = session.n_bytes
        self._total += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _remove(self, key: Hashable) -> bool:
        self._total -= self._sizes.pop(key, 0)
        return self._kept.pop(key, None) is not None


def _taken(request: Any, loaded: LoadedBundle) -> tuple[dict[str, Any], list[_Event]]:
    """Take a request apart: what stays the same, and the events, own or stored."""
    if request is not None and not isinstance(request, dict):
        raise TypeError(
            f"request: got {type(request).__name__}, expected one request, such as "
            "{'user_id': 196} or {'history': [50, 172]}"
        )
    given = dict(request or {})
    columns = normalise([given], loaded.schema)  # refuses what is no request
    ids = [] if columns.histories is None else columns.histories.values.tolist()
    own = {name: given.pop(name, None) for name in ("history", "history_kinds", "history_ages")}
    if own["history_ages"] is not None:
        raise DataError("request: got history_ages, expected times: append(…, timestamp=…)")
    own_kinds = columns.events.get("history_kinds")
    kinds = [""] * len(ids) if own_kinds is None else own_kinds.values.tolist()
    events = [_Event(item, kind, None) for item, kind in zip(ids, kinds, strict=True)]
    if columns.ids is None or not has_user(columns.ids)[0]:
        given.pop("user_id", None)
        return given, events
    user = given["user_id"] = columns.ids.tolist()[0]
    stored = loaded.stored_user(user)
    if stored is not None and not loaded.knows(_id_array(ids, loaded)).any():
        items, stored_kinds, times = stored
        kinds = stored_kinds or [""] * len(items)
        own_times: list[int | None] = [*times] or [None] * len(items)
        known = [_Event(*one) for one in zip(items, kinds, own_times, strict=True)]
        events = known + events
    return given, events


def _read_ids(item_ids: Any, loaded: LoadedBundle) -> list[Any]:
    if isinstance(item_ids, (str, bytes)) or not hasattr(item_ids, "__len__"):
        raise TypeError(
            f"item_ids: got {item_ids!r:.60}, expected a list of ids; for one item: "
            f"[{item_ids!r:.60}]"
        )
    ids: list[Any] = id_column("item_ids", item_ids, loaded.item_id_dtype).tolist()
    return ids


def _id_array(ids: list[Any], loaded: LoadedBundle) -> Array:
    return np.array(ids, dtype=object if loaded.item_id_dtype == "string" else np.int64)


def read_max_bytes(max_bytes: Any) -> int:
    """Return the cap of a store of sessions."""
    n_bytes = _checks.positive_int(max_bytes, "max_bytes")
    if n_bytes < _OVERHEAD:
        raise ShortlistError(
            f"max_bytes: got {n_bytes}, expected room for one session, at least {_OVERHEAD}"
        )
    return n_bytes
