"""What `Engine.explain` does: groups of items, the compiled engine's reasons, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shortlist._catalogue.filters import Filters, rows_of
from shortlist._catalogue.state import Catalogue
from shortlist._columns.reading import Array, to_array
from shortlist._columns.requests import Columns
from shortlist._columns.tables import near_name
from shortlist._serving.asked import Asked
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.options import RecommendOptions
from shortlist.errors import DataError
from shortlist.explanations import Explanations, Reason
from shortlist.recommendations import Recommendations

QUICK = 4  # pieces of evidence that are tried again for each item; 0 = all


class Groups:
    """Items that are left out together: those of one value in a column of the item table.

    Attributes
    ----------
    numbers : ndarray of shape (n_items,), int64
        Of each row of the bundle as exported; −1 where the column has no value.
    values : list
        Of each number.
    """

    def __init__(self, items: Any, column: str) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not isinstance(column, str):
            raise TypeError(f"explain_by: got {column!r:.60}, expected the name of a column")
        if column not in items.column_names:
            raise DataError(
                f"explain_by: unknown column {column!r}; {near_name(column, items.column_names)}"
                f"The item table has {', '.join(items.column_names)}"
            )
        values = items.column(column).combine_chunks()
        if pa.types.is_nested(values.type):
            raise DataError(
                f"explain_by: column {column!r} has several values an item ({values.type}), "
                "expected a column with one, such as a series or a brand"
            )
        coded = pc.dictionary_encode(values)
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        self.numbers: Array = to_array(coded.indices.fill_null(-1)).astype(np.int64)
        self.values: list[Any] = coded.dictionary.to_pylist()

    def value_of(self, row: int) -> Any:
        """Return the value of an item's row; None where it has none."""
        number = self.numbers[row]
        return None if number < 0 else self.values[number]


class BundleEvidence:
    """Names what the compiled engine gives as reasons."""

    def __init__(self, first: Catalogue, inputs: Sequence[str], groups: Groups | None) -> None:
        self._first = first
        self._inputs = inputs
        self._groups = groups

    def reason(self, what: int, drop: float, leaves_list: bool) -> Reason:
        """Return the reason of a number: an item row, or −2 minus the number of an input."""
        if what < -1:
            return Reason(None, self._inputs[-2 - what], None, None, drop, leaves_list)
        item_id = self._first.ids[what]
        item_id = item_id.item() if isinstance(item_id, np.generic) else item_id
        group = None if self._groups is None else self._groups.value_of(what)
        title = self._first.items.titles(np.array([what]))[0]
        return Reason(item_id, None, group, title or None, drop, leaves_list)


def explain(
    loaded: LoadedBundle,
    columns: Columns,
    filters: Filters,
    options: RecommendOptions,
    n_reasons: int,
    explain_by: str | None,
    *,
    thorough: bool,
) -> Explanations:
    """Answer checked requests, with reasons, from one state of the items."""
    core, state, n = loaded.core, loaded.state, columns.n_requests
    first = loaded.first
    groups = None if explain_by is None else Groups(first.items.stored, explain_by)
    rows_left = rows_of(filters, n, state)
    scores, rows, counts, sources, stages, what, drops, leaves = core.explain(
        state.core,
        n,
        columns.for_core(loaded.schema),
        options.top_n,
        options.exclude_seen,
        options.stages,
        n_reasons,
        0 if thorough else QUICK,
        None if groups is None else groups.numbers,
        exclude=rows_left.exclude,
        allow=rows_left.allow,
        masks=rows_left.masks.masks,
        mask_of=rows_left.masks.numbers,
    )
    answer = Recommendations(
        state.ids[rows],
        scores,
        counts,
        rows,
        sources,
        stages,
        state.items,
        Asked(columns, core, first),
        loaded.number,
    )
    evidence = BundleEvidence(first, tuple(core.inputs), groups)
    return Explanations(answer, n_reasons, what, drops, leaves, evidence)
