"""What was asked, beside the answer: the requests' ids, and which of them the bundle knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist._columns.reading import MISSING_INT, Array
from shortlist._columns.requests import Columns
from shortlist.errors import DataError

if TYPE_CHECKING:
    from shortlist import _core
    from shortlist._catalogue.state import Catalogue


class Asked:
    """The ids of requests, looked up when they are asked for: so they cost an answer nothing.

    Parameters
    ----------
    columns : Columns
        As they were given, without what a log adds.
    core : _core.LoadedBundle
        Knows the stored users.
    first : Catalogue
        The items that the bundle came with: those that its encoder knows.
    """

    __slots__ = ("_columns", "_core", "_first", "_users")

    def __init__(self, columns: Columns, core: _core.LoadedBundle, first: Catalogue) -> None:
        self._columns = columns
        self._core = core
        self._first = first
        self._users: Array | None = None

    @property
    def user_ids(self) -> Array:
        """User ids (n_requests,), object: None where a request has none."""
        if self._users is None:
            ids, users = self._columns.ids, np.full(self._columns.n_requests, None, dtype=object)
            if ids is not None:
                has_one = has_user(ids)
                users[has_one] = ids[has_one].tolist()
            self._users = users
        return self._users

    @property
    def n_given(self) -> Array:
        """How many ids each request has (n_requests,), int64."""
        n = np.zeros(self._columns.n_requests, dtype=np.int64)
        if self._columns.histories is not None:
            n += self._columns.histories.lengths
        if self._columns.ids is not None:
            n += has_user(self._columns.ids)
        return n

    @property
    def n_known(self) -> Array:
        """How many of them the bundle knows (n_requests,), int64."""
        n = np.zeros(self._columns.n_requests, dtype=np.int64)
        if self._columns.histories is not None:
            before = np.append(0, np.cumsum(self.are_known_items()))
            n += np.diff(before[self._columns.histories.splits])
        if self._columns.ids is not None:
            n += self.are_known_users()
        return n

    def are_known_items(self) -> Array:
        """Say of all histories' entries (n_values,) whether the encoder knows them."""
        assert self._columns.histories is not None
        return self._first.rows_of(self._columns.histories.values) >= 0

    def are_known_users(self) -> Array:
        """Say of each request (n_requests,) whether its user is stored."""
        assert self._columns.ids is not None
        known = [self._core.stored_user(user) is not None for user in self._columns.ids.tolist()]
        return np.array(known, dtype=np.bool_)

    def check_known(self) -> None:
        """Refuse an id that the bundle does not know.

        Raises
        ------
        DataError
            Names the first one, its column and its row.
        """
        fix = "leave it out, or ask with unknown='ignore'"
        ids, histories = self._columns.ids, self._columns.histories
        if ids is not None:
            unknown = np.flatnonzero(has_user(ids) & ~self.are_known_users())
            if len(unknown):
                row = int(unknown[0])
                raise DataError(
                    f"requests: 'user_id' row {row} is {_plain(ids[row])!r:.60}, which is no user "
                    f"that this bundle stores; {fix}"
                )
        if histories is not None:
            unknown = np.flatnonzero(~self.are_known_items())
            if len(unknown):
                at = int(unknown[0])
                row = int(np.searchsorted(histories.splits, at, side="right")) - 1
                raise DataError(
                    f"requests: 'history' row {row}, entry {at - int(histories.splits[row])} is "
                    f"{_plain(histories.values[at])!r:.60}, which is no item that this bundle was "
                    f"trained with; {fix}"
                )


def has_user(ids: Array) -> Array:
    """Say of each request (n,) whether it has a user id."""
    has_one: Array = ids != ("" if ids.dtype.kind == "O" else MISSING_INT)
    return has_one


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
