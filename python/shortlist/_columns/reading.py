"""One column of requests at a time: check its type row by row, say where it is wrong.

Plain lists and NumPy arrays never touch pyarrow; Arrow, pandas and polars columns do.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from shortlist._columns import fast
from shortlist._columns.fast import MISSING_INT as MISSING_INT
from shortlist._columns.ragged import Array as Array
from shortlist._columns.ragged import Ragged
from shortlist._columns.texts import TextLists, text_lists
from shortlist._columns.values import FLOAT_MAX as FLOAT_MAX
from shortlist.errors import DataError

_NUMBERS = (int, float, np.integer, np.floating, Decimal)
_NO_ID = np.empty(0, dtype=np.int64)
_NO_NAME = np.empty(0, dtype=object)


def history_column(name: str, values: Any, dtype: str) -> Ragged:
    """Read a column of id lists: int64 or object (str), one list for each row."""
    if dtype == "string" and (texts := _arrow_texts(name, values)) is not None:
        return texts
    if (read := _flat(values, dtype)) is not None:
        return Ragged.of_lengths(*read)
    lists = [_id_list(name, i, row, dtype) for i, row in enumerate(_plain_rows(values))]
    return Ragged.of_lists(lists, object if dtype == "string" else np.int64)


def id_column(name: str, values: Any, dtype: str) -> Array:
    """Read a column of ids (n,), int64 or object (str); None becomes INT64_MIN or ""."""
    return scalar_column(name, values, dtype, "ids")


def category_column(name: str, values: Any, dtype: str) -> Array:
    """Read categories or texts (n,), int64 or object (str); None becomes INT64_MIN or ""."""
    return scalar_column(name, values, dtype, "values")


def tag_column(name: str, values: Any, dtype: str, separator: str = "") -> Array:
    """Read a column of value lists as (n, longest), padded with INT64_MIN or ""; longest >= 1.

    With a separator, one text is a list too: "drama|war".
    """
    missing = "" if dtype == "string" else MISSING_INT
    if (read := _flat(values, dtype)) is not None:
        return _tags(name, *read, missing)
    lists = _plain_rows(values)
    if separator:
        lists = [_split(row, separator) if isinstance(row, str) else row for row in lists]
    lists = [_without_missing(row) for row in lists]
    rows = [_id_list(name, i, row, dtype) for i, row in enumerate(lists)]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    flat = np.concatenate(rows) if rows else _NO_NAME
    return _tags(name, flat.astype(object if dtype == "string" else np.int64), lengths, missing)


def _tags(name: str, flat: Array, lengths: Array, missing: object) -> Array:
    if isinstance(missing, str):
        check_unicode(name, flat.tolist(), lengths)
    return fast.lay_out(flat, lengths, missing)


def _without_missing(row: Any) -> Any:
    if isinstance(row, (list, tuple)) and any(map(is_missing, row)):
        return [tag for tag in row if not is_missing(tag)]
    return row


def is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, or what pandas writes for them: NaT and NA."""
    if value is None or isinstance(value, (float, np.floating)):
        return bool(value is None or value != value)
    return type(value).__name__ in ("NAType", "NaTType")


def _split(text: str, separator: str) -> list[str]:
    return [tag for part in text.split(separator) if (tag := part.strip())]


def number_column(name: str, values: Any) -> Array:
    """Read a numeric column as (n,) float32; None becomes NaN, infinity is an error."""
    rows = _plain_values(values)
    read = None if isinstance(rows, np.ndarray) else fast.numbers(rows)
    if read is not None:
        rows = read
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "iuf" and rows.ndim == 1:
        wide = rows.astype(np.float64)
        beyond = np.abs(wide) > FLOAT_MAX
        if beyond.any():
            i = int(beyond.argmax())
            raise _not_finite(name, i, float(wide[i]))
        return wide.astype(np.float32)
    return np.array([_number(name, i, value) for i, value in enumerate(rows)], dtype=np.float32)


def _number(name: str, i: int, value: Any) -> float:
    if is_missing(value):
        return float("nan")
    if isinstance(value, _NUMBERS) and type(value) is not bool:
        try:
            number = float(value)
        except OverflowError as error:
            raise DataError(f"requests: {name!r} row {i} is too large for a float") from error
        if abs(number) > FLOAT_MAX:
            raise _not_finite(name, i, number)
        return number
    raise TypeError(
        f"requests: {name!r} row {i} is {type(value).__name__} {value!r:.60}, expected a number"
    )


def _not_finite(name: str, i: int, number: float) -> DataError:
    return DataError(
        f"requests: {name!r} row {i} is {number}, expected a finite number below 3.4e38"
    )


def scalar_column(name: str, values: Any, dtype: str, noun: str) -> Array:
    """Read a column of ids or `noun` values (n,), int64 or object (str)."""
    column = _read_scalars(name, values, dtype, noun)
    if dtype == "string":
        check_unicode(name, column.tolist())
    return column


def check_unicode(name: str, texts: list[str], lengths: Array | None = None) -> None:
    """Refuse text with half a surrogate pair, of rows of one text or of `lengths` texts each."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        row = next(i for i, text in enumerate(texts) if not is_unicode(text))
        if lengths is not None:
            row = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
        raise DataError(
            f"requests: {name!r} row {row} holds half a surrogate pair, expected Unicode text; "
            "clean it with text.encode('utf-8', 'replace').decode()"
        ) from error


def is_unicode(text: str) -> bool:
    """Say whether UTF-8 can hold a text: without half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_scalars(name: str, values: Any, dtype: str, noun: str) -> Array:
    rows = _plain_values(values)
    if isinstance(rows, np.ndarray) and rows.dtype.kind != "O":
        return _typed_column(name, rows, dtype, noun)
    read_whole = fast.texts if dtype == "string" else fast.integers
    if (read := read_whole(list(rows))) is not None:
        return read
    if dtype == "string":
        texts = np.empty(len(rows), dtype=object)
        for i, value in enumerate(rows):
            if is_missing(value):
                texts[i] = ""
            elif isinstance(value, str):
                texts[i] = value
            elif isinstance(value, (bool, np.bool_)) and noun != "ids":
                texts[i] = "true" if value else "false"  # as tables of the training spell it
            else:
                raise _wrong_value(name, i, value, "a string")
        return texts
    ids = np.empty(len(rows), dtype=np.int64)
    for i, value in enumerate(rows):
        if is_missing(value):
            ids[i] = MISSING_INT
        elif isinstance(value, (int, np.integer)) and (noun != "ids" or type(value) is not bool):
            ids[i] = _int64(name, i, int(value))  # a category may be True or False, an id may not
        else:
            raise _wrong_value(name, i, value, "an integer")
    return ids


def _typed_column(name: str, rows: Array, dtype: str, noun: str) -> Array:
    if rows.ndim != 1:
        raise TypeError(f"requests: {name!r} has {rows.ndim} dimensions, expected one value a row")
    if len(rows) == 0:
        return (_NO_NAME if dtype == "string" else _NO_ID).copy()
    if dtype == "string" and rows.dtype.kind in "UT":
        return rows.astype(object)
    if dtype == "int64" and rows.dtype.kind in "iu":
        _check_unsigned(name, None, rows)
        return rows.astype(np.int64)
    if rows.dtype.kind == "b" and noun != "ids":
        is_text = dtype == "string"
        return np.where(rows, "true", "false").astype(object) if is_text else rows.astype(np.int64)
    wanted = "strings" if dtype == "string" else "integers"
    raise TypeError(
        f"requests: {name!r} has dtype {rows.dtype} (row 0 is {rows[0].item()!r:.60}), but this "
        f"bundle's {noun} are {wanted}{_fix(dtype, rows[0].item())}"
    )


def _id_list(name: str, i: int, row: Any, dtype: str) -> Array:
    """Read one row's list of ids, or of values of a tag column."""
    if is_missing(row):
        return _NO_NAME if dtype == "string" else _NO_ID
    if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
        raise TypeError(
            f"requests: {name!r} row {i} is {row!r:.60}, expected a list; one request with a list "
            f"is written {{{name!r}: [[…]]}}"
        )
    if isinstance(row, (set, frozenset)):
        if name == "history":
            raise TypeError(
                f"requests: {name!r} row {i} is a {type(row).__name__}, which has no order of "
                "time, expected a list, oldest first"
            )
        row = sorted(row, key=str)
    if len(row) == 0:
        return _NO_NAME if dtype == "string" else _NO_ID
    if dtype == "string" and type(row) is list and set(map(type, row)) == {str}:
        return np.array(row, dtype=object)
    try:
        ids = np.asarray(row)
    except ValueError as error:  # lists of different lengths inside
        raise TypeError(f"requests: {name!r} row {i} is nested, expected a flat list") from error
    except OverflowError as error:
        raise DataError(f"requests: {name!r} row {i} holds an integer past 64 bits") from error
    kind = ids.dtype.kind
    if ids.ndim != 1:
        raise TypeError(
            f"requests: {name!r} row {i} has {ids.ndim} dimensions, expected a flat list of ids"
        )
    if dtype == "int64" and kind in "iu":
        _check_unsigned(name, i, ids)
        return ids.astype(np.int64, copy=False)
    if dtype == "string" and kind in "UT" and _all_strings(row):
        return ids
    if dtype == "string" and kind == "O" and _all_strings(ids):
        return ids
    raise _wrong_list(name, i, row, dtype)


def _all_strings(row: Any) -> bool:
    if isinstance(row, np.ndarray) and row.dtype.kind in "UT":
        return True
    return all(isinstance(value, str) for value in row)  # asarray turns [1, "a"] into strings


def first_wrong(row: Any, kinds: tuple[type, ...]) -> tuple[int, Any] | None:
    """Return number and value of a list's first entry of another type; bool is no int."""
    pairs = enumerate(row)
    return next((p for p in pairs if isinstance(p[1], bool) or not isinstance(p[1], kinds)), None)


def wrong_entry(name: str, i: int, entry: int, value: Any, expected: str) -> TypeError:
    """Say that one entry of a list is of a wrong type."""
    return TypeError(
        f"requests: {name!r} row {i}, entry {entry} is {type(value).__name__} {value!r:.60}, "
        f"expected {expected}"
    )


def _wrong_list(name: str, i: int, row: Any, dtype: str) -> TypeError | DataError:
    wrong = first_wrong(row, (str,) if dtype == "string" else (int, np.integer))
    if wrong is None:
        return DataError(f"requests: {name!r} row {i} holds an integer past 64 bits")
    expected = "a string" if dtype == "string" else "an integer"
    return wrong_entry(name, i, *wrong, f"{expected}{_fix(dtype, wrong[1])}")


def _wrong_value(name: str, i: int, value: Any, expected: str) -> TypeError:
    dtype = "string" if expected == "a string" else "int64"
    return TypeError(
        f"requests: {name!r} row {i} is {type(value).__name__} {value!r:.60}, expected {expected}"
        f"{_fix(dtype, value)}"
    )


def _fix(dtype: str, value: Any) -> str:
    if isinstance(value, (bool, np.bool_)) and dtype == "string":
        return "; write it as the tables do: 'true' or 'false'"
    if isinstance(value, (float, np.floating)) and dtype == "int64":
        return (
            "; a column with missing ids turns to float in pandas: use dtype 'Int64', and leave "
            "missing ids out of lists"
        )
    if dtype == "int64" and isinstance(value, str) and value.lower() in ("true", "false"):
        return f"; if this is a truth value, give {value.title()}, not text"
    return "; convert with str(…)" if dtype == "string" else "; convert with int(…)"


def _int64(name: str, i: int, value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise DataError(f"requests: {name!r} row {i} is {value}, expected a 64-bit integer")
    return value


def _check_unsigned(name: str, i: int | None, ids: Array) -> None:
    if ids.dtype.kind == "u" and ids.dtype.itemsize == 8 and int(ids.max()) >= 2**63:
        where = int(ids.argmax()) if i is None else i
        raise DataError(f"requests: {name!r} row {where} holds {ids.max()}, past signed 64 bits")


def _plain_values(values: Any) -> Array | Sequence[Any]:
    """Return a list or array of scalars; Arrow, pandas and polars columns become lists."""
    if isinstance(values, np.ma.MaskedArray):
        return list(values.tolist())  # None where masked
    if isinstance(values, (list, tuple, np.ndarray)):
        return values
    arrow = to_arrow(values)
    return list(values) if arrow is None else to_array(arrow)


def _plain_rows(values: Any) -> Sequence[Any]:
    """Return a sequence of rows, each list-like or None; Arrow lists become NumPy slices."""
    if isinstance(values, (list, tuple)):
        return values
    if isinstance(values, np.ndarray):
        return list(values)
    arrow = to_arrow(values)
    if arrow is None:
        return list(values)
    return _arrow_lists(arrow)


def _flat(values: Any, dtype: str) -> tuple[Array, Array] | None:
    """Read a column of lists at once, if it is plainly right: its values, and each row's number."""
    if isinstance(values, (list, tuple)):
        return fast.flat_lists(values, dtype)
    arrow = None if isinstance(values, np.ndarray) else to_arrow(values)
    return None if arrow is None else _arrow_flat(arrow, dtype)


def _arrow_flat(arrow: Any, dtype: str) -> tuple[Array, Array] | None:
    if (found := _arrow_entries(arrow, dtype)) is None:
        return None
    entries, lengths = found
    return to_array(entries).astype(object if dtype == "string" else np.int64), lengths


def _arrow_texts(name: str, values: Any) -> TextLists | None:
    """Read an Arrow column of lists of text as it lies, if it is plainly right."""
    arrow = None if isinstance(values, (list, tuple, np.ndarray)) else to_arrow(values)
    found = None if arrow is None else _arrow_entries(arrow, "string")
    return None if found is None else text_lists(name, *found)


def _arrow_entries(arrow: Any, dtype: str) -> tuple[Any, Array] | None:
    """Return all entries of a column of lists, and how many each row has; None: not plainly so."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if not (kinds.is_list(arrow.type) or kinds.is_large_list(arrow.type)):
        return None
    entry = arrow.type.value_type
    is_right = kinds.is_string(entry) or kinds.is_large_string(entry)
    if dtype == "int64":
        is_right = kinds.is_integer(entry) and not kinds.is_uint64(entry)
    if not is_right:
        return None
    chunk = arrow.combine_chunks() if isinstance(arrow, pa.ChunkedArray) else arrow
    offsets = to_array(chunk.offsets).astype(np.int64)
    lengths = np.diff(offsets)
    if chunk.null_count and lengths[np.array(chunk.is_null().to_pylist())].any():
        return None  # a null row that covers values: valid Arrow, but rare
    first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    entries = chunk.values.slice(first, last - first)
    return None if entries.null_count else (entries, lengths)


def _arrow_lists(arrow: Any) -> Sequence[Any]:
    import pyarrow as pa
    import pyarrow.types as kinds

    rows: list[Any] = []
    if not (kinds.is_list(arrow.type) or kinds.is_large_list(arrow.type)):
        rows = arrow.to_pylist()  # not lists: the row check says so, with the row's value
        return rows
    for chunk in arrow.chunks if isinstance(arrow, pa.ChunkedArray) else [arrow]:
        if chunk.values.null_count:
            rows += chunk.to_pylist()
            continue
        entries, starts = to_array(chunk.values), to_array(chunk.offsets)
        valid = chunk.is_valid().to_pylist()
        rows += [
            entries[starts[i] : starts[i + 1]] if valid[i] else None for i in range(len(chunk))
        ]
    return rows


def need_pyarrow(what: str) -> Any:
    """Import pyarrow, or say what needs it and how to get it."""
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise DataError(
            f"requests: {what} needs the package pyarrow, which is not installed. "
            "Fix: pip install 'shortlist[cpu]', or give lists or NumPy arrays"
        ) from error
    return pyarrow


def to_arrow(values: Any) -> Any | None:
    """Convert an Arrow, pandas or polars column to a pyarrow array; None for other sequences."""
    module = type(values).__module__.partition(".")[0]
    if module not in ("pyarrow", "pandas", "polars"):
        return None
    pa = need_pyarrow(f"a {module} column")
    try:
        if module == "pyarrow":
            arrow = values
        elif module == "polars":
            arrow = values.to_arrow()
        else:
            arrow = pa.Array.from_pandas(values)
        arrow = decoded(arrow)
    except pa.ArrowException as error:
        raise DataError(f"requests: a {module} column has mixed types ({error})") from error
    return arrow


def decoded(arrow: Any) -> Any:
    """Return a pyarrow column whose dictionaries, at any depth, are plain values.

    Polars gives its categories as string views, which pyarrow does not decode.
    """
    import pyarrow as pa

    if isinstance(arrow, pa.ChunkedArray):
        if not _holds_codes(arrow.type):
            return arrow
        chunks = [decoded(chunk) for chunk in arrow.chunks]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], pa.null())
    if pa.types.is_dictionary(arrow.type):
        kind = arrow.type.value_type
        kind = pa.large_string() if pa.types.is_string_view(kind) else kind
        codes = pa.DictionaryArray.from_arrays(arrow.indices, arrow.dictionary.cast(kind))
        return decoded(codes.dictionary_decode())
    if pa.types.is_run_end_encoded(arrow.type):
        import pyarrow.compute as pc

        return decoded(pc.run_end_decode(arrow))
    if not _holds_codes(arrow.type):
        return arrow
    if pa.types.is_fixed_size_list(arrow.type):
        arrow = arrow.cast(pa.list_(arrow.type.value_type))
    make = pa.LargeListArray if pa.types.is_large_list(arrow.type) else pa.ListArray
    # Copied, as pyarrow takes no mask beside a slice of offsets.
    offsets = pa.array(np.array(arrow.offsets), arrow.offsets.type)
    mask = arrow.is_null() if arrow.null_count else None
    return make.from_arrays(offsets, decoded(arrow.values), mask=mask)


def _holds_codes(kind: Any) -> bool:
    """Say whether an Arrow type is a dictionary or run-end encoded, or a list of such."""
    import pyarrow.types as kinds

    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return _holds_codes(kind.value_type)
    return bool(kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind))


def to_array(column: Any) -> Array:
    """Return a pyarrow column as NumPy: numbers without nulls uncopied, the rest as objects.

    pyarrow's own `to_numpy` imports pandas wherever it is installed, which takes half a second.
    """
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if len(column) == 0:
        return np.empty(0, dtype=np.int64)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if is_number and column.null_count == 0:
        return np.from_dlpack(column)
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
