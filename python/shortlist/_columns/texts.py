"""Lists of text as Arrow holds them: no Python object an entry, unless somebody asks for them."""

import itertools
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from shortlist._columns.ragged import Array, Ragged
from shortlist.errors import DataError


class ArrowTexts(NamedTuple):
    """Texts as Arrow holds them.

    Attributes
    ----------
    offsets : ndarray of shape (n_values + 1,), int64
        Text i is the bytes from offsets[i] to offsets[i + 1].
    data : ndarray of shape (n_bytes,), uint8
        UTF-8.
    """

    offsets: Array
    data: Array


class TextLists(Ragged):
    """Lists of text whose first entry, as the compiled engine takes it, are the `ArrowTexts`."""

    @cached_property
    def values(self) -> Array:
        """Values (n_values,), object (str)."""
        texts: ArrowTexts = self[0]  # type: ignore[assignment]
        data, ends = texts.data.tobytes(), texts.offsets.tolist()
        values = np.empty(len(ends) - 1, dtype=object)
        values[:] = [data[a:b].decode() for a, b in itertools.pairwise(ends)]
        return values


def text_lists(name: str, entries: Any, lengths: Array) -> TextLists:
    """Cut a pyarrow array of strings without nulls into lists of these lengths (n,) int64.

    Raises
    ------
    DataError
        It holds what is no UTF-8, or offsets that lead elsewhere. Names the column.
    """
    try:
        entries.validate(full=True)
    except ValueError as error:  # pyarrow's own
        raise DataError(
            f"requests: {name!r} holds what is no text ({error}), expected UTF-8. Fix: write the "
            "column again"
        ) from error
    ends: Array = np.zeros(1, dtype=np.int64)
    data: Array = np.empty(0, dtype=np.uint8)
    if len(entries):  # else it may have no buffers at all
        _, offsets, held = entries.buffers()
        kind = np.int64 if str(entries.type) == "large_string" else np.int32
        ends = np.frombuffer(offsets, dtype=kind)[entries.offset :][: len(entries) + 1]
        data = data if held is None else np.frombuffer(held, dtype=np.uint8)
    texts: Any = ArrowTexts(ends.astype(np.int64), data)
    return TextLists.of_lengths(texts, lengths)
