"""Tables of any shape, taken apart into columns; messages name `requests` (`said_of`)."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from shortlist._columns.reading import need_pyarrow
from shortlist.errors import DataError


def near_name(name: object, known: Sequence[str]) -> str:
    """Return a hint at the known name that is like a wrong one, or nothing."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def columns_of(table: Any, needed: Sequence[str], known: Sequence[str] = ()) -> Mapping[str, Any]:
    """Take a dict of columns, a list of dicts, or a frame apart.

    Parameters
    ----------
    table : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
    needed : sequence of str
        The columns of an empty list.
    known : sequence of str
        Names that a frame must not have as its index.
    """
    if isinstance(table, Mapping):
        return dict(table)
    if not isinstance(table, (list, tuple)):
        return columns_of_frame(table, known)
    for i, row in enumerate(table):
        if not isinstance(row, Mapping):
            raise TypeError(f"requests: row {i} is {type(row).__name__}, expected a dict")
    names = dict.fromkeys(name for row in table for name in row) if table else needed
    return {name: [row.get(name) for row in table] for name in names}


def _check_frame(names: Sequence[Any], index: Sequence[Any], known: Sequence[str]) -> None:
    """Refuse a frame with two columns of one name, or with a column that is its index."""
    again = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if again is not None:
        raise DataError(f"requests: the frame has two columns {again!r}; drop or rename one")
    for name in index:
        if name in known and name not in names:
            raise DataError(
                f"requests: {name!r} is the frame's index, expected a column; call "
                "frame.reset_index() first"
            )


def columns_of_frame(frame: Any, known: Sequence[str]) -> Mapping[str, Any]:
    """Take a pandas or polars frame or an Arrow table apart; all of them go through Arrow."""
    module = type(frame).__module__.partition(".")[0]
    pa = need_pyarrow(f"a {module} frame" if module != "builtins" else type(frame).__name__)
    if module == "pandas" and hasattr(frame, "columns"):
        _check_frame(list(frame.columns), list(frame.index.names), known)
    try:
        if isinstance(frame, (pa.Table, pa.RecordBatch)):
            table = frame
        elif module == "pandas" and hasattr(frame, "columns"):
            table = pa.Table.from_pandas(frame, preserve_index=False)
        elif hasattr(frame, "__arrow_c_stream__") and hasattr(frame, "columns"):
            table = pa.table(frame)
        else:
            raise TypeError(
                f"requests: got {type(frame).__name__}, expected a dict of columns, a list of "
                "dicts, a pandas or polars DataFrame, or a pyarrow Table"
            )
    except pa.ArrowException as error:
        raise DataError(
            f"requests: the {module} frame has a column of mixed types ({error}); give every "
            "column one type"
        ) from error
    _check_frame(table.column_names, (), known)
    return dict(zip(table.column_names, table.columns, strict=True))


def common_length(columns: Mapping[str, Any]) -> int:
    """Return the number of entries of every column; an error names one that differs."""
    first, n_first = "", -1
    for name, values in columns.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise TypeError(
                f"requests: column {name!r} is the single value {values!r:.60}, expected a column "
                f"with one entry a request; for one request write [{values!r:.60}]"
            )
        if isinstance(values, (set, frozenset)):
            raise TypeError(
                f"requests: column {name!r} is a set, which has no order; give a list, one entry a "
                "request"
            )
        if getattr(values, "ndim", 1) == 0:
            raise TypeError(f"requests: column {name!r} is a 0-d array, expected one dimension")
        if n_first < 0:
            first, n_first = name, len(values)
        elif len(values) != n_first:
            raise DataError(
                f"requests: column {name!r} has {len(values)} entries but {first!r} has {n_first}; "
                "every column needs one entry a request (None where there is nothing)"
            )
    return max(n_first, 0)
