"""What a column is that nobody declared, and why: nothing is left out without a word."""

from __future__ import annotations

import re

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.entities import first_no_number
from shortlist.training.features.feature import NEVER_INFERRED, infer_kind

# Columns that shops change by the hour: what they are now is a filter, not a taste.
_CHANGING = re.compile(
    r"(^|[_. ])(in_?stock|stock|inventory|availab\w*|qty|quantity|sold_?out|on_?sale)([_. ]|$)",
    re.IGNORECASE,
)
# A column of text is meant as numbers if more than half of it is numbers and it would be left out,
# or nine tenths of it are and it would be learned as text.
MOSTLY, NEARLY = 0.5, 0.9


def has_values(column: pl.Series) -> bool:
    """Say whether a column holds anything but null, NaN and empty text or lists."""
    given = column.drop_nulls()
    if given.dtype.is_float():
        given = given.drop_nans()
    elif given.dtype == pl.String:
        given = given.filter(given != "")
    elif isinstance(given.dtype, pl.List) and not given.dtype.inner.is_float():  # no vectors
        given = given.filter(given.list.len() > 0)
    return len(given) > 0


def changes_by_the_hour(name: str) -> bool:
    """Say whether a column's name is one of those whose values do not last, such as ``in_stock``.

    Examples
    --------
    >>> [changes_by_the_hour(name) for name in ("in_stock", "price", "stocking_size")]
    [True, False, False]
    """
    return _CHANGING.search(name) is not None


def inferred(
    table: pl.DataFrame, known: pl.DataFrame, name: str, side: str, *, is_file_text: bool
) -> tuple[str, str]:
    """Choose the kind of an undeclared column.

    Parameters
    ----------
    table : polars.DataFrame
        The item or user table.
    known : polars.DataFrame
        Its rows with train events.
    name : str
    side : str
        "item" or "user".
    is_file_text : bool
        Whether the table was text, whose columns are numbers if all their values are.

    Returns
    -------
    kind : str
        As `infer_kind` says; "ignore" for a column without values.
    why : str
        In words, where the column is ignored.

    Raises
    ------
    DataError
        Most of the column is numbers, and the others are numbers in another notation.
    """
    column = known[name]
    if not has_values(column):
        return "ignore", "no value in the train part"
    kind = infer_kind(column)
    if is_file_text and column.dtype == pl.String and name not in NEVER_INFERRED:
        row = first_no_number(table[name], MOSTLY if kind == "ignore" else NEARLY)
        if row is not None:
            key = f"{side}_id"
            raise DataError(
                f"{side} table: column {name!r}, row {row + 1} ({key} {table[key][row]!r}): got "
                f"{table[name][row]!r}, expected a number, as most values are. Fix: correct it, "
                f"leave it empty, or declare the column: data.features.{name} = 'categorical' or "
                f"'ignore' (--set 'data.features.{name}=\"ignore\"')"
            )
    if kind != "ignore":
        return kind, ""
    if name in NEVER_INFERRED:
        return kind, "a name; declare it to learn from it"
    if column.dtype.is_temporal():
        return kind, "dates; declare it to learn from it"
    if column.dtype == pl.String:
        return kind, f"{column.n_unique():,} different texts in {len(column):,} rows; declare it"
    return kind, f"of type {column.dtype}; declare it to learn from it"
