"""Kinds and ages of the events in a batch of histories, beside the item rows the encoder gets."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shortlist._columns import Array
from shortlist._tables import UserTable
from shortlist.requests import Columns


def gather_events(
    declared: Mapping[str, Mapping[str, Any]],
    columns: Columns,
    is_given: Array,
    lengths: Array,
    stored: tuple[UserTable, Array] | None,
    known: Callable[[Array], Array],
) -> dict[str, Array]:
    """Find what is known of the events of each request's history.

    Parameters
    ----------
    declared : mapping
        The manifest's `event_features`.
    columns : Columns
        Checked requests.
    is_given : ndarray of shape (n,), bool
        Whether the history is the request's own; else it is the stored one.
    lengths : ndarray of shape (n,), int64
        Items of each history that the encoder knows.
    stored : tuple of UserTable and ndarray of shape (n,), optional
        Stored histories, and each request's row there.
    known : callable
        Says which item ids of an array the encoder knows.

    Returns
    -------
    dict of str to ndarray
        One flat array a declared feature, entry by entry like the histories' known items: kinds
        object (str), ages float32 seconds. Where nothing is known kinds are "", and ages grow by
        the usual gap between two events.
    """
    parts: dict[str, list[Array]] = {name: [] for name in declared}
    for i, length in enumerate(lengths.tolist()):
        own = bool(is_given[i])
        ids = None
        if own and columns.histories is not None:
            ids = columns.histories[i]
        elif length and stored is not None:
            ids = stored[0].history(int(stored[1][i]))
        for name, options in declared.items():
            entries = None
            if own and name in columns.events:
                entries = columns.events[name][i]
            elif not own and length and stored is not None:
                entries = stored[0].events(name, int(stored[1][i]))
            if entries is not None and ids is not None and len(entries) != length:
                entries = entries[known(ids)]
            parts[name].append(_filled(name, entries, length, options))
    return {
        name: np.concatenate(lists) if lists else np.empty(0, np.float32)
        for name, lists in parts.items()
    }


def _filled(name: str, entries: Array | None, length: int, options: Mapping[str, Any]) -> Array:
    if name == "history_kinds":
        return np.full(length, "", dtype=object) if entries is None else entries.astype(object)
    usual = np.arange(length - 1, -1, -1, dtype=np.float32) * np.float32(options.get("gap", 0))
    if entries is None:
        return usual
    return np.where(np.isnan(entries), usual, entries).astype(np.float32)
