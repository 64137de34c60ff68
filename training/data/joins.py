"""How many events meet a row of the item or user table, and a stop where nearly none does.

Ids that are written otherwise in two tables ("00123" and 123, "123.0" in a column of text) never
meet, and every feature would be missing without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.counted import counted
from shortlist.training.data.tables import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from shortlist.training.data.events import Dataset

MIN_COVERAGE = 0.1  # least part of the events whose item (user) has a row; data.min_coverage


def coverage(events: pl.DataFrame, table: pl.DataFrame, key: str) -> float:
    """Return the part of the events whose ``key`` has a row in a table, from 0 to 1."""
    counts = events.group_by(key).len()
    ids = table[key].cast(counts[key].dtype, strict=False)
    found = counts.filter(pl.col(key).is_in(ids.implode()))["len"].sum()
    return float(found / max(events.height, 1))


def check_joins(dataset: Dataset, least: float = MIN_COVERAGE) -> None:
    """Say the coverage of the item and the user table; DataError where it is below ``least``."""
    for key, what in (("item_id", "item"), ("user_id", "user")):
        table = dataset.items if what == "item" else dataset.users
        if table is None:
            continue
        share = coverage(dataset.events, table, key)
        n_events = dataset.events.height
        have = "has its" if n_events == 1 else "have their"
        said = f"{share:.1%} of {counted(n_events, 'event')} {have} {what} in the {what} table"
        if share < least:
            raise DataError(
                f"{dataset.name}: {said}, expected at least {least:.0%}: "
                f"{_examples(dataset.events, table, key)}. Fix: write the ids alike in both "
                "tables, or, if this is so, set data.min_coverage (--set data.min_coverage=0)"
            )
        log.info("%s: %s", dataset.name, said)


def coverage_error(source: str, share: float, events: pl.DataFrame, items: pl.Series) -> DataError:
    """Return the error of `shortlist clean` where nearly no event's item is in the item table."""
    table = items.alias("item_id").to_frame()
    return DataError(
        f"{source}: {share:.1%} of the events have their item in the item table, expected at least "
        f"{MIN_COVERAGE:.0%}: {_examples(events, table, 'item_id')}. Fix: write the ids alike in "
        "both tables, or keep these events (--set cleaning.unknown_items=false)"
    )


def _examples(events: pl.DataFrame, table: pl.DataFrame, key: str) -> str:
    """Show ids of both sides, and what would make them meet."""
    ids = [events[key].cast(pl.String).drop_nulls(), table[key].cast(pl.String).drop_nulls()]
    shown = [side.unique(maintain_order=True).head(3).to_list() for side in ids]
    ways: dict[str, Callable[[pl.Series], pl.Series]] = {
        "zeros in front": lambda ids: ids.str.strip_chars_start("0"),
        "'.0' at the end": lambda ids: ids.str.strip_suffix(".0"),
        "blanks around": lambda ids: ids.str.strip_chars(),
        "capitals": lambda ids: ids.str.to_lowercase(),
    }
    for way, change in ways.items():
        ours, theirs = (change(side) for side in ids)
        if 2 * int(ours.is_in(theirs.implode()).sum()) > len(ours):
            return f"events have {shown[0]}, the table {shown[1]}, which differ by {way}"
    return f"events have {shown[0]}, the table {shown[1]}"
