"""What the requests of a call may get: `where`, and `exclude` and `allow` by ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shortlist import _arguments, _checks
from shortlist._catalogue.where import Masks, check_length, read_where
from shortlist._columns.ragged import Array, Ragged
from shortlist._columns.variety import Wanted

if TYPE_CHECKING:
    from shortlist._catalogue.state import Catalogue

# Ids for all requests, or a list of ids for each.
Ids = Array | Ragged


class Filters(NamedTuple):
    """The filters of a call, the same for every state of the items.

    Attributes
    ----------
    where : None, an expression, or a list of them
    exclude, allow : ndarray (n_ids,), Ragged, or None
        Checked item ids, int64 or object (str).
    seen : Ragged or None
        Item ids that each request's user has seen, where the call says what counts as seen.
    wanted : Wanted or None
        What each list has to look like as a whole.
    """

    where: Any = None
    exclude: Ids | None = None
    allow: Ids | None = None
    seen: Ragged | None = None
    wanted: Wanted | None = None

    def take(self, chosen: Array) -> Filters:
        """Return the filters of some requests, (m,) int64."""
        where = self.where
        if isinstance(where, (list, tuple)):
            where = [where[i] for i in chosen]
        exclude, allow = (
            ids.take(chosen) if isinstance(ids, Ragged) else ids
            for ids in (self.exclude, self.allow)
        )
        seen = None if self.seen is None else self.seen.take(chosen)
        wanted = None if self.wanted is None else self.wanted.take(chosen)
        return Filters(where, exclude, allow, seen, wanted)

    def are_free(self, n_requests: int) -> Array:
        """Say of each request (n,) whether it has no filter at all, and its list no conditions."""
        lists = (self.exclude, self.allow, self.seen, self.wanted)
        if any(one is not None for one in lists):
            return np.zeros(n_requests, dtype=np.bool_)
        is_list = isinstance(self.where, (list, tuple))
        wheres = self.where if is_list else [self.where] * n_requests
        return np.array([one is None for one in wheres], dtype=np.bool_)


class RowFilters(NamedTuple):
    """The filters as the compiled engine takes them.

    Attributes
    ----------
    exclude, allow : Ragged of int64, or None
        Item rows of each request, −1 where an id is unknown.
    masks : Masks
    """

    exclude: Ragged | None
    allow: Ragged | None
    masks: Masks


NO_FILTERS = Filters()
_FEW_IDS = 1024  # that are excluded one by one, not by a mask
_NO_ROWS = RowFilters(None, None, Masks([], None))


def read_filters(
    where: Any,
    exclude: Any,
    allow: Any,
    n_requests: int,
    state: Catalogue,
    wanted: Wanted | None = None,
) -> Filters:
    """Check the filters of a call; `wanted` is checked before.

    Raises
    ------
    TypeError, ValueError
        `exclude` or `allow` are no ids of this bundle's type, or not one list a request.
    DataError
        `where` is a list that has not one entry a request.
    """
    if where is None and exclude is None and allow is None:  # the usual case
        return NO_FILTERS if wanted is None else Filters(wanted=wanted)
    check_length(where, n_requests)
    return Filters(
        where,
        _read_ids(exclude, n_requests, "exclude", state),
        _read_ids(allow, n_requests, "allow", state),
        wanted=wanted,
    )


def _read_ids(value: Any, n_requests: int, name: str, state: Catalogue) -> Ids | None:
    if value is None:
        return None
    if hasattr(value, "to_list"):  # a column of pandas or polars
        value = value.to_list()
    splits = None
    if _arguments.is_one_list(value):
        ids = _checks.item_ids(value, name)
    else:
        ids, splits = _checks.ragged(value, n_requests, name, "request")
        missing = [i for i, own in enumerate(value) if own is None] if name == "allow" else []
        if missing:
            raise TypeError(
                f"allow[{missing[0]}]: got None, expected a list of ids; [] allows none"
            )
    if len(ids):
        _arguments.check_kind(state.view, ids, name)
    array = np.array(ids, dtype=object if state.view.has_string_ids else np.int64)
    return array if splits is None else Ragged(array, splits)


def rows_of(filters: Filters, n_requests: int, state: Catalogue) -> RowFilters:
    """Turn checked filters into rows and masks of one state of the items."""
    if filters is NO_FILTERS:
        return _NO_ROWS
    masks = read_where(filters.where, n_requests, state.items.mask)
    excluded = _for_each(filters.exclude, n_requests)
    own = _mask_of(excluded, filters.allow, state)
    masks = masks if own is None else masks.narrowed(own)
    lists = [ids for ids in (excluded, filters.seen) if isinstance(ids, Ragged)]
    exclude = lists[0] if len(lists) == 1 else _joined(*lists) if lists else None
    if isinstance(filters.allow, Ragged):
        left = _left(Ragged(state.rows_of(filters.allow.values), filters.allow.splits), masks)
        return RowFilters(as_rows(exclude, state), left, Masks([], None))
    return RowFilters(as_rows(exclude, state), None, masks)


def _for_each(exclude: Ids | None, n_requests: int) -> Ids | None:
    """Repeat ids for all requests where that is less than a mask of the catalogue costs."""
    if exclude is None or isinstance(exclude, Ragged) or len(exclude) * n_requests > _FEW_IDS:
        return exclude
    return Ragged(np.tile(exclude, n_requests), np.arange(n_requests + 1) * len(exclude))


def _mask_of(exclude: Ids | None, allow: Ids | None, state: Catalogue) -> Array | None:
    """Return what ids for all requests leave of the catalogue (n_rows,) bool; None: all of it."""
    mask = None
    for ids, is_allowed in ((allow, True), (exclude, False)):
        if ids is None or isinstance(ids, Ragged):
            continue
        if mask is None:
            mask = np.full(state.view.n_rows, not is_allowed, dtype=np.bool_)
        rows = state.rows_of(ids)
        mask[rows[rows >= 0]] = is_allowed
    return mask


def _joined(one: Ragged, other: Ragged) -> Ragged:
    pairs = zip(one.lists(), other.lists(), strict=True)
    return Ragged.of_lists([np.concatenate(pair) for pair in pairs], one.values.dtype)


def as_rows(lists: Ragged | None, state: Catalogue) -> Ragged | None:
    """Return the rows of lists of checked ids, −1 where unknown."""
    return None if lists is None else Ragged(state.rows_of(lists.values), lists.splits)


def _left(allow: Ragged, masks: Masks) -> Ragged:
    """Return lists of allowed rows without what the masks forbid: the search takes one of them."""
    rows = allow.values
    numbers = np.repeat(
        np.zeros_like(allow.lengths) if masks.numbers is None else masks.numbers, allow.lengths
    )
    for number, mask in enumerate(masks.masks):
        if mask is not None:
            rows = np.where((numbers == number) & ~mask[rows], -1, rows)
    return Ragged(rows, allow.splits)
