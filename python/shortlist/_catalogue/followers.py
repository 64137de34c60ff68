"""followers.arrow: what came after each item in histories of the training."""

import numpy as np

from shortlist._catalogue.state import Catalogue
from shortlist._columns.reading import Array
from shortlist.bundle import Bundle
from shortlist.bundle.fields import problem
from shortlist.bundle.tables import map_file, read_table
from shortlist.errors import ShortlistError

FOLLOWERS = "followers.arrow"


class Followers:
    """What followed each item in the training: followers.arrow, by rows as exported."""

    def __init__(self, bundle: Bundle, first: Catalogue) -> None:
        if not bundle.has(FOLLOWERS):
            raise ShortlistError(
                f"by: {bundle.name} has no {FOLLOWERS}, which 'followers' and 'mix' read; export "
                "the run again, or ask with by='vectors'"
            )
        n_items = len(first.ids) - 1
        table = read_table(
            map_file(bundle.file(FOLLOWERS)),
            n_items,
            {"followers": "list<item: int32>", "shares": "list<item: float>"},
        )
        self._first = first
        self._rows, self._shares = (
            table.column(name).combine_chunks() for name in ("followers", "shares")
        )
        rows = self._rows.values.to_numpy(zero_copy_only=False)
        if len(rows) and not (rows.min() >= 0 and rows.max() < n_items):
            raise problem(FOLLOWERS, f"rows below {n_items:,}", "another one")

    def of(self, row: int, state: Catalogue) -> tuple[Array, Array]:
        """Return rows and shares of what followed an item, as far as it is an item now."""
        first = int(self._first.rows_of(state.ids[row : row + 1])[0])
        if first < 0:  # it came after the training
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows = self._rows[first].values.to_numpy(zero_copy_only=False)
        shares = self._shares[first].values.to_numpy(zero_copy_only=False)
        now = state.rows_of(self._first.ids[rows])
        return now[now >= 0], shares[now >= 0]
