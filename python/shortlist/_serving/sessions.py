"""Sessions: what a user does goes on, and every list knows of it at once."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy as np

from shortlist import _checks, _core
from shortlist._catalogue.filters import read_filters, rows_of
from shortlist._catalogue.wishes import variety_of
from shortlist._columns.reading import Array, id_column
from shortlist._columns.requests import normalise
from shortlist._columns.variety import read_wanted
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.options import check_wanted, unmet_of
from shortlist._serving.similar import AskedItems
from shortlist._serving.switch import Switch
from shortlist.errors import DataError, ShortlistError
from shortlist.feedback import seconds_of
from shortlist.recommendations import Recommendations

_UNLIMITED = (1 << 63) - 1
_LEAST_BYTES = 4096  # of a store


class SessionReport(TypedDict):
    """How a session is answered, and what it did; see `Session.report`."""

    way: str  # "state" or "recompute"
    why: str
    n_items: int
    n_steps: int
    n_restarts: int
    n_bytes: int


class Session:
    """What one user does, event after event; `Engine.session` makes one.

    Calls of several threads take turns.
    """

    __slots__ = ("_core", "_switch")

    def __init__(self, switch: Switch, core: _core.Session) -> None:
        self._switch = switch
        self._core = core

    def append(self, item_ids: Any, kind: str | None = None, timestamp: Any = None) -> None:
        """Go on with items, in their order.

        Parameters
        ----------
        item_ids : array-like of shape (n,), ids
        kind : str, optional
            Of all these events. One that means dislike to the bundle takes the items out of the
            history instead; they stay excluded as seen. One that the encoder does not know counts
            as none.
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
        self._core.append(loaded.core, len(ids), _as_column(ids), kind or "", seconds)

    def forget(self, item_ids: Any) -> None:
        """Take items out of the history; they stay excluded as seen. The state is made anew.

        Raises
        ------
        TypeError, DataError
            As `append`.
        """
        ids = _read_ids(item_ids, self._switch.now())
        self._core.forget(len(ids), _as_column(ids))

    def recommend(
        self,
        top_n: int = 10,
        where: Any = None,
        exclude: Any = None,
        *,
        allow: Any = None,
        exclude_seen: bool = True,
        stages: Literal[1, 2] | None = None,
        now: Any = None,
        at_most: Any = None,
        at_least: Any = None,
        diversity: Any = None,
        calibrate: Any = None,
        popularity_dampening: Any = None,
    ) -> Recommendations:
        """Recommend the top-N items after all that was appended.

        Parameters
        ----------
        top_n, where, exclude, allow, stages
            As for `Engine.recommend`, of one request.
        at_most, at_least, diversity, calibrate, popularity_dampening
            The same.
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
            The engine is closed; or `stages` is 2 and the bundle has no second stage.
        """
        loaded = self._switch.now()
        core, state = loaded.core, loaded.state  # for the whole call
        top_n = _checks.positive_int(top_n, "top_n")
        options = loaded.options(top_n, _checks.flag(exclude_seen, "exclude_seen"), stages)
        seconds = None if now is None else seconds_of(now, "now")
        wanted = read_wanted(
            at_most, at_least, diversity, calibrate, popularity_dampening, 1, top_n, "request"
        )
        check_wanted(wanted, None)
        _checks.check_answer_size(1, top_n, state.view.n_rows)
        left = rows_of(read_filters(where, exclude, allow, 1, state, wanted), 1, state)
        scores, rows, counts, sources, made_by, missing, n_given, n_known, user = (
            self._core.recommend(
                core,
                state.core,
                top_n,
                options.exclude_seen,
                options.stages,
                seconds,
                exclude=left.exclude,
                allow=left.allow,
                masks=left.masks.masks,
                mask_of=left.masks.numbers,
                variety=variety_of(wanted, state.items),
            )
        )
        asked = AskedItems(np.array([user], dtype=object), np.array([n_given]), np.array([n_known]))
        return Recommendations(
            state.ids[rows],
            scores,
            counts,
            rows,
            sources,
            made_by,
            state.items,
            asked,
            loaded.number,
            _unmet=unmet_of(wanted, missing),
        )

    def report(self) -> SessionReport:
        """Say how the session is answered, why, and what it did.

        Returns
        -------
        dict
            `way`: "state" (an item costs one step of the encoder, however long the history is) or
            "recompute" (the whole history every time); `why`; `n_items` of the history; `n_steps`
            of the encoder; `n_restarts`: how often the state was made anew; `n_bytes` of memory.
        """
        has_state, why, n_items, n_steps, n_restarts, n_bytes = self._core.report(
            self._switch.now().core
        )
        return {
            "way": "state" if has_state else "recompute",
            "why": why,
            "n_items": n_items,
            "n_steps": n_steps,
            "n_restarts": n_restarts,
            "n_bytes": n_bytes,
        }

    @property
    def history(self) -> list[Any]:
        """The items of the session, oldest first."""
        return self._core.history()

    def __repr__(self) -> str:
        """Say how many items it has."""
        return f"Session({len(self.history)} items)"


class Sessions:
    """Sessions by key, as many as fit; `Engine.sessions` makes such a store.

    Where all take more than `max_bytes`, those go that were not asked for longest. The last one
    that was asked for stays, however large it is.
    """

    def __init__(self, switch: Switch, max_bytes: int) -> None:
        self._switch = switch
        self._core = _core.SessionStore(max_bytes)

    def get(self, key: str | int, request: Any = None) -> Session:
        """Return the session of a key; a new one begins with `request` (default: nothing known).

        Raises
        ------
        TypeError, DataError
            `key` is no text and no whole number; or as `Engine.session`.
        """
        return _session_of(self._core, _key_of(key), self._switch, request)

    def drop(self, key: str | int) -> bool:
        """Forget a session, such as that of a user who is erased; say whether there was one."""
        return self._core.drop(_key_of(key))

    @property
    def max_bytes(self) -> int:
        """How much memory all sessions may take."""
        return self._core.max_bytes

    @property
    def n_bytes(self) -> int:
        """How much memory the allocator keeps for all sessions, and for the table of their keys."""
        return self._core.n_bytes

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return self._core.n_sessions

    def __contains__(self, key: str | int) -> bool:
        """Say whether there is a session of a key."""
        return self._core.has(_key_of(key))


def new_session(switch: Switch, request: Any) -> Session:
    """Begin a session without a store; see `Engine.session`."""
    return _session_of(_core.SessionStore(_UNLIMITED), b"", switch, request)


def new_store(switch: Switch, max_bytes: Any) -> Sessions:
    """Make a store; see `Engine.sessions`."""
    n_bytes = _checks.positive_int(max_bytes, "max_bytes")
    if n_bytes < _LEAST_BYTES:
        raise ShortlistError(
            f"max_bytes: got {n_bytes}, expected room for one session, at least {_LEAST_BYTES}"
        )
    return Sessions(switch, min(n_bytes, _UNLIMITED))


def _session_of(store: _core.SessionStore, key: bytes, switch: Switch, request: Any) -> Session:
    loaded = switch.now()
    columns = [] if not request and request in (None, {}) else _request_columns(request, loaded)
    return Session(switch, store.get(key, loaded.core, columns))


def _request_columns(request: Any, loaded: LoadedBundle) -> Any:
    if not isinstance(request, dict):
        raise TypeError(
            f"request: got {type(request).__name__}, expected one request, such as "
            "{'user_id': 196} or {'history': [50, 172]}"
        )
    if request.get("history_ages") is not None:
        raise DataError("request: got history_ages, expected times: append(…, timestamp=…)")
    return normalise([request], loaded.schema).for_core(loaded.schema)


def _key_of(key: Any) -> bytes:
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return b"n%d" % int(key)
    raise TypeError(f"key: got {key!r:.60}, expected a text or a whole number, such as a user's id")


def _read_ids(item_ids: Any, loaded: LoadedBundle) -> Array:
    if isinstance(item_ids, (str, bytes)) or not hasattr(item_ids, "__len__"):
        raise TypeError(
            f"item_ids: got {item_ids!r:.60}, expected a list of ids; for one item: "
            f"[{item_ids!r:.60}]"
        )
    return id_column("item_ids", item_ids, loaded.item_id_dtype)


def _as_column(ids: Array) -> list[tuple[str, Array, None]]:
    return [("history", ids, None)]
