"""Item and user tables: unique ids, an optional title, and feature columns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping

import polars as pl

from shortlist._columns.values import FLOAT_MAX, MISSING_TEXTS
from shortlist.errors import DataError
from shortlist.training.data.columns import first_true, parse_ids
from shortlist.training.data.counted import counted
from shortlist.training.data.tables import Table, TableSource, log, read_table, require_columns

ID_COLUMNS = {"items": "item_id", "users": "user_id"}
# How pandas, R and Arrow call a column of row numbers that nobody named.
_UNNAMED = re.compile(r"(?:|Unnamed: \d+(?:_level_\d+)?|__index_level_\d+__|\.\.\.\d+)")
_ROW_NUMBERS = ("index", "level_0", "rownames", "row_number")
_SAMPLE = 1000  # rows that show most columns of text to be text
# A number as people write it: 1,500.00, 1.234,50, 9,90, $12, 12 %. Not versions (2.5.1), lists
# (1,2), codes (02138).
_NOTATION = (
    r"^[+-]?(?:"
    r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[1-9]\d{0,2}(?:\.\d{3})+,\d+|"  # groups of three
    r"(?:0|[1-9]\d*),\d\d|"  # a comma before two decimals
    r"[$€£¥₹]\s*\d[\d.,]*|\d[\d.,]*\s*[$€£¥₹%])$"
)


def read_items(
    source: TableSource,
    *,
    columns: Mapping[str, str] | None = None,
    lists: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    declared: Collection[str] = (),
) -> pl.DataFrame:
    """Read the item table: ``item_id``, optional ``title``, and feature columns.

    Parameters
    ----------
    source : path or frame
        As in `tables.read_table`.
    columns : mapping of str to str, optional
        Our column name → the name in the source.
    lists : mapping of str to str, optional
        Text columns that hold several values → their separator, e.g. ``{"genres": "|"}``. Without
        it "Action|Drama" is one value.
    ignore : collection of str, optional
        Columns of the source that are not read, also because they cannot be.
    declared : collection of str, optional
        Columns that are kept although they look like row numbers.

    Returns
    -------
    polars.DataFrame
        In source order. Columns of a CSV whose every value is a number become numeric ("02138" is
        not a number), those of true and false Boolean; lists hold String, Int64 or floats; Boolean,
        Date and Datetime stay as they are; ``title`` is String.

    Raises
    ------
    DataError
        ``item_id`` is missing, null or not unique; a column has a type that is no feature; a
        declared list column does not exist.
    """
    table = read_table(source, columns=columns, ignore=ignore, what="items")
    return entities_from_table(table, "item_id", lists=lists or {}, declared=declared)


def read_users(
    source: TableSource,
    *,
    columns: Mapping[str, str] | None = None,
    lists: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    declared: Collection[str] = (),
) -> pl.DataFrame:
    """Read the user table: ``user_id`` and feature columns; all else as in `read_items`."""
    table = read_table(source, columns=columns, ignore=ignore, what="users")
    return entities_from_table(table, "user_id", lists=lists or {}, declared=declared)


def entities_from_table(
    table: Table, id_column: str, *, lists: Mapping[str, str], declared: Collection[str] = ()
) -> pl.DataFrame:
    """Check a raw item or user table; arguments as in `read_items`."""
    what = "items" if id_column == "item_id" else "users"
    require_columns(table, (id_column, *lists), what)
    ids = parse_ids(table, id_column)
    if (row := first_true(~ids.is_first_distinct())) is not None:
        raise table.error(id_column, row, "each id once", "keep one row an id")
    kept = [
        name
        for name in table.frame.columns
        if name != id_column and (name in declared or _is_named(table, name))
    ]
    features = {name: _feature(table, name, lists.get(name)) for name in kept}
    log.info(
        "%s: %s of %s read; columns: %s",
        table.source,
        counted(len(ids), "row"),
        what,
        ", ".join([id_column, *kept]),
    )
    return pl.DataFrame({id_column: ids, **features})


def _is_named(table: Table, name: str) -> bool:
    """Say whether a column is one of the table's own, not the row numbers that came along."""
    if not _UNNAMED.fullmatch(name):
        if name not in _ROW_NUMBERS:
            return True
        values = typed_if_all(table.frame[name]) if table.is_text else table.frame[name]
        if not values.dtype.is_integer() or len(values) < 2:
            return True
        places = pl.int_range(len(values), eager=True)
        if not any(values.equals(places + first, check_dtypes=False) for first in (0, 1)):
            return True
    if table.frame[name].null_count() < table.frame.height:
        warnings.warn(
            f"{table.source}: column {name!r} is not read: it looks like row numbers that were "
            "written along. Write the table without them (in pandas: to_csv(index=False)), declare "
            f"the column in data.features ({name!r}), or give it a name of its own",
            stacklevel=2,
        )
    return False


def _feature(table: Table, name: str, separator: str | None) -> pl.Series:
    column = table.frame[name]
    dtype = column.dtype
    if dtype in (pl.Categorical, pl.Enum, pl.Null):
        column = column.cast(pl.String)
    if separator is not None and column.dtype == pl.String:
        return split_tags(column, separator)
    if isinstance(dtype, pl.List | pl.Array):
        return _list_column(table, column)
    if dtype == pl.Decimal:
        return _finite(table, column.cast(pl.Float64))
    if column.dtype == pl.String:
        if not table.is_text or name == "title":
            return column
        column = typed_if_all(column)
    elif not dtype.is_numeric() and dtype not in (pl.Boolean, pl.Date, pl.Datetime):
        raise _no_feature(table, name, dtype)
    if name == "title":
        return column.cast(pl.String)
    return _finite(table, column) if column.dtype.is_float() else column


def _finite(table: Table, column: pl.Series) -> pl.Series:
    """Refuse infinity, and numbers that float32 would make infinite; NaN becomes null."""
    beyond = (column.abs() > FLOAT_MAX).fill_null(False) & ~column.is_nan().fill_null(True)
    if (row := first_true(beyond)) is not None:
        expected, fix = "a finite number below 3.4e38", "correct it, or leave it empty (null)"
        raise table.error(column.name, row, expected, fix)
    return column.fill_nan(None)


def _list_column(table: Table, column: pl.Series) -> pl.Series:
    """Keep lists of whole numbers and of floats (vectors) as such; all others become text."""
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    inner = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
    if inner.is_float():
        return column
    if inner.is_nested() or inner.is_temporal() or inner in (pl.Binary, pl.Decimal):
        raise _no_feature(table, column.name, column.dtype)
    target = pl.Int64 if inner.is_integer() else pl.String
    try:
        return column.cast(pl.List(target))
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{table.source}: column {column.name!r} has integers beyond 64 bits. Fix: cast them "
            "to text"
        ) from error


def _no_feature(table: Table, name: str, dtype: pl.DataType) -> DataError:
    return DataError(
        f"{table.source}: column {name!r} has type {dtype}, expected text, numbers, true or false, "
        f"dates, or lists of text or numbers. Fix: cast it, or leave it out: --ignore item.{name} "
        f"or user.{name} (in Python: ignore=[{name!r}])"
    )


def split_tags(column: pl.Series, separator: str) -> pl.Series:
    """Split text into lists of tags; empty text and null become the empty list."""
    tags = pl.col(column.name).fill_null("").str.split(separator)
    tags = tags.list.eval(pl.element().str.strip_chars()).list.eval(
        pl.element().filter(pl.element() != "")
    )
    return column.to_frame().select(tags).to_series()


def typed_if_all(column: pl.Series) -> pl.Series:
    """Turn text into Boolean if all of it is true or false (in any case), else `numbers_if_all`."""
    sample = _given(column.head(_SAMPLE)).drop_nulls()
    if not _are_truths(sample):
        return numbers_if_all(column)
    given = _given(column)
    is_truth = given.null_count() < len(given) and _are_truths(given.drop_nulls())
    return given.str.to_lowercase() == "true" if is_truth else _numbers_of(column, given)


def _are_truths(text: pl.Series) -> bool:
    return bool(text.str.to_lowercase().is_in(["true", "false"]).all())


def numbers_if_all(column: pl.Series) -> pl.Series:
    """Turn text into Int64 or Float64 if every value is a finite number, else keep it.

    Text that means missing (`MISSING_TEXTS`) is no value, and a column of it alone has none. A
    value with a leading zero ("02138") is a code, not a number, and keeps the column text.
    """
    sample = _given(column.head(_SAMPLE)).drop_nulls()
    if not _are_numbers(sample).all():
        return column.replace("", None)
    return _numbers_of(column, _given(column))


def _numbers_of(column: pl.Series, given: pl.Series) -> pl.Series:
    """Do what `numbers_if_all` does, with the values of the column as `_given` has them."""
    n_given = len(given) - given.null_count()
    if n_given == 0:
        return given
    whole = given.cast(pl.Int64, strict=False)
    if (whole.cast(pl.String) == given).fill_null(False).sum() == n_given:
        return whole
    good = _are_numbers(given)
    if good.sum() == n_given:
        return given.cast(pl.Float64, strict=False)
    return column.replace("", None)


def first_no_number(column: pl.Series, least: float) -> int | None:
    """Find the first value that keeps a column of text from being numbers, as most of it is.

    None where fewer than ``least`` of the values are numbers, or where a value is no number in any
    notation ("T8H1N", "98107-2117", "02138"): then it is a column of text.
    """
    given = _given(column)
    good = _are_numbers(given)
    n_given = len(given) - given.null_count()
    bad = given.is_not_null() & ~good
    if not bad.any() or good.sum() < least * n_given:
        return None
    return first_true(bad) if given.filter(bad).str.contains(_NOTATION).all() else None


def _given(column: pl.Series) -> pl.Series:
    """Return text without blanks around it, null where it means that nothing is there."""
    text = column.str.strip_chars()
    return text.set(text.is_in(sorted(MISSING_TEXTS)).fill_null(False), None)


def _are_numbers(text: pl.Series) -> pl.Series:
    real = text.cast(pl.Float64, strict=False)
    is_code = text.str.contains(r"^[+-]?0\d").fill_null(False)
    return real.is_finite().fill_null(False) & ~is_code
