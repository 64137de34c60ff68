"""`where=`: a condition on the item table, evaluated once to a mask; one for all or one a row."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shortlist._catalogue.conditions import evaluate_text
from shortlist._columns.reading import Array, to_array
from shortlist.errors import DataError

_EXAMPLE = "pyarrow.compute.field('price') < 20, polars.col('price') < 20, or text: 'price < 20'"


class Masks(NamedTuple):
    """What each request of a call may get.

    Attributes
    ----------
    masks : list of ndarray (n_rows,), bool, or None
        The different filters of the call; None allows everything.
    numbers : ndarray of shape (n_requests,), int64, or None
        Which of them each request has; None if all have the first, or there is none.
    """

    masks: list[Array | None]
    numbers: Array | None

    def narrowed(self, mask: Array) -> "Masks":
        """Return what a mask (n_rows,) for all requests leaves of them."""
        masks: list[Array | None] = [mask if own is None else own & mask for own in self.masks]
        return Masks(masks or [mask], self.numbers)


def check_length(where: Any, n_requests: int) -> None:
    """Refuse a list of expressions that has not one entry a request."""
    if isinstance(where, (list, tuple)) and len(where) != n_requests:
        raise DataError(
            f"where: got {len(where)} expressions for {n_requests} requests; expected one "
            "expression (or None) a request, or a single one for all"
        )


def read_where(where: Any, n_requests: int, mask: Callable[[Any], Array]) -> Masks:
    """Turn the argument `where` into the masks of the requests.

    Parameters
    ----------
    where : None, an expression, or a list of them
        A list has one expression (or None) a request.
    n_requests : int
    mask : callable
        Gives an expression's mask; called once for each different object.

    Raises
    ------
    TypeError, DataError
        As `evaluate`; of a list, the message says which entry.
    """
    if not isinstance(where, (list, tuple)):
        return Masks([] if where is None else [mask(where)], None)
    masks: list[Array | None] = []
    numbers: dict[int, int] = {}  # equal expressions share a mask, and so a number
    by_object: dict[int, int] = {}
    mask_of = np.empty(n_requests, dtype=np.int64)
    for i, expression in enumerate(where):
        number = by_object.get(id(expression))
        if number is None:
            try:
                flags = None if expression is None else mask(expression)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{error} (entry {i} of the list)") from error
            number = numbers.setdefault(id(flags), len(masks))
            if number == len(masks):
                masks.append(flags)
            by_object[id(expression)] = number
        mask_of[i] = number
    return Masks(masks, mask_of)


def is_same(one: Any, other: Any) -> bool:
    """Say whether two expressions are equal."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, str):
        return bool(one == other)
    return bool(one.meta.eq(other) if _is_polars(one) else one.equals(other))


def evaluate(where: Any, table: Any) -> Array:
    """Evaluate an expression on a pyarrow table.

    Returns
    -------
    ndarray of shape (n_rows,), bool
        False where the expression is null.

    Raises
    ------
    TypeError
        `where` is no text, and no pyarrow or polars expression.
    DataError
        It names a column the table lacks, compares values that do not compare, or is not boolean;
        or a text is no condition.
    """
    if isinstance(where, str):
        return evaluate_text(where, table)
    if _is_polars(where):
        return _with_polars(where, table)
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(where, pc.Expression):
        raise TypeError(
            f"where: got {type(where).__name__}, expected an expression such as {_EXAMPLE}"
        )
    rows = pa.array(np.arange(table.num_rows))
    try:
        passed = table.append_column("shortlist_row", rows).filter(where)
    except (pa.ArrowException, KeyError) as error:
        # pyarrow repeats the whole schema after a column it does not find
        raise _misfit(str(error).partition(" in item_id:")[0], table) from error
    mask = np.zeros(table.num_rows, dtype=np.bool_)
    mask[to_array(passed.column("shortlist_row"))] = True
    return mask


def _with_polars(where: Any, table: Any) -> Array:
    pl: Any = sys.modules["polars"]  # whoever made the expression has imported it
    try:
        column = pl.DataFrame(table).with_columns(where.alias("shortlist_kept"))["shortlist_kept"]
    except pl.exceptions.PolarsError as error:
        raise _misfit(str(error).partition("\n")[0], table) from error
    if column.dtype != pl.Boolean:
        raise _misfit(f"the expression gives {column.dtype}, expected true or false", table)
    mask: Array = column.fill_null(False).to_numpy()
    return np.ascontiguousarray(mask)


def _is_polars(where: Any) -> bool:
    # By name, so that polars is not imported to ask.
    kind = type(where)
    return kind.__name__ == "Expr" and kind.__module__.partition(".")[0] == "polars"


def _misfit(reason: str, table: Any) -> DataError:
    columns = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    return DataError(f"where: {reason}; the item table has {columns}")
