"""Lists of different lengths, one a request, in one flat array."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Ragged(NamedTuple):
    """Lists of values: list i is values[splits[i]:splits[i + 1]].

    Attributes
    ----------
    values : ndarray of shape (n_values,)
    splits : ndarray of shape (n + 1,), int64
        From 0 to n_values.
    """

    values: Array
    splits: Array

    @classmethod
    def of_lengths(cls, values: Array, lengths: Array) -> Self:
        """Cut flat values into lists of these lengths (n,) int64."""
        if len(lengths) == 1:  # one request: NumPy's calls cost more than they do
            return cls(values, np.array([0, lengths[0]]))
        splits = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=splits[1:])
        return cls(values, splits)

    @classmethod
    def of_lists(cls, lists: Sequence[Array], dtype: Any) -> Self:
        """Join lists; `dtype` is the values'."""
        values = np.concatenate(lists).astype(dtype) if lists else np.empty(0, dtype=dtype)
        return cls.of_lengths(values, np.fromiter(map(len, lists), np.int64, len(lists)))

    @property
    def lengths(self) -> Array:
        """Entries of each list, (n,) int64."""
        lengths: Array = self.splits[1:] - self.splits[:-1]
        return lengths

    def lists(self) -> list[Array]:
        """Return one array (a view) for each list."""
        ends = self.splits.tolist()
        return [self.values[a:b] for a, b in itertools.pairwise(ends)]

    def list_of(self, i: int) -> Array:
        """Return list i, a view."""
        return self.values[self.splits[i] : self.splits[i + 1]]

    def right_aligned(self, missing: Any) -> Array:
        """Lay the lists out as rows (n, longest), filled up on the left; longest is at least 1."""
        lengths = self.lengths
        longest = int(lengths.max(initial=1))
        rows = np.full((len(lengths), longest), missing, dtype=self.values.dtype)
        rows[np.arange(longest) >= longest - lengths[:, None]] = self.values
        return rows

    def take(self, chosen: Array) -> "Ragged":
        """Return the lists at the chosen positions (m,) int64."""
        lengths = self.lengths[chosen]
        splits = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=splits[1:])
        offsets = np.repeat(self.splits[chosen] - splits[:-1], lengths)
        return Ragged(self.values[np.arange(splits[-1]) + offsets], splits)
