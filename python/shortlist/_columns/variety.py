"""What a list has to look like as a whole: `at_most`, `at_least` and `diversity`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from shortlist import _checks

# Codes of values, and splits or None.
GroupColumn = tuple[NDArray[np.int32], NDArray[np.int64] | None]
# As the core takes it: columns, at_most, masks of quotas, at_least, diversity.
CoreVariety = tuple[
    list[GroupColumn],
    NDArray[np.int32],
    list[NDArray[np.bool_]],
    NDArray[np.int32],
    NDArray[np.float64] | None,
]
_FORMS = "expected a dict such as {{'{}': 2}}, or a list with one (or None) for each {}"


class Counts(NamedTuple):
    """Numbers of items by name, for every request.

    Attributes
    ----------
    names : tuple of str
    numbers : ndarray of shape (n_requests, n_names), int32
        0 where a request does not have the name.
    """

    names: tuple[str, ...]
    numbers: NDArray[np.int32]


class Wanted(NamedTuple):
    """What the requests of a call want of their lists.

    Attributes
    ----------
    at_most, at_least : Counts
    diversity : ndarray of shape (n_requests,), float64, or None
    """

    at_most: Counts
    at_least: Counts
    diversity: NDArray[np.float64] | None

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Return what some of the requests want."""
        at_most, at_least = (
            Counts(counts.names, counts.numbers[chosen]) for counts in (self.at_most, self.at_least)
        )
        diversity = None if self.diversity is None else self.diversity[chosen]
        return type(self)(at_most, at_least, diversity)

    def for_core(self, columns: list[GroupColumn], quotas: list[NDArray[np.bool_]]) -> CoreVariety:
        """Return it with the columns and masks that its names stand for, in their order."""
        return columns, self.at_most.numbers, quotas, self.at_least.numbers, self.diversity


def read_wanted(
    at_most: Any, at_least: Any, diversity: Any, n: int, top_n: int, one: str = "query"
) -> Wanted | None:
    """Check what a call wants of n lists of `top_n` items; None where it is nothing.

    `one` is what messages call one of the lists.

    Raises
    ------
    TypeError, ValueError
        An argument has another form, or a number is out of range.
    """
    if at_most is None and at_least is None and diversity is None:  # the usual case
        return None
    most = _read_counts(at_most, n, "at_most", "brand", one)
    least = _read_counts(at_least, n, "at_least", "is_new", one)
    for name, numbers in zip(least.names, least.numbers.T, strict=True):
        if len(numbers) and int(numbers.max()) > top_n:
            raise ValueError(
                f"at_least[{name!r}]: got {int(numbers.max())} for lists of {top_n}; expected no "
                f"more than top_n; ask for longer lists, or for fewer"
            )
    weights = _read_diversity(diversity, n, one)
    is_set = bool(most.names or least.names or weights is not None)
    return Wanted(most, least, weights) if is_set else None


def _read_counts(value: Any, n: int, argument: str, example: str, one: str) -> Counts:
    wants = value if isinstance(value, (list, tuple)) else [value] * min(n, 1)
    if isinstance(value, (list, tuple)) and len(value) != n:
        raise ValueError(
            f"{argument}: got {len(value)} entries; expected one for each {one}, {n} in all"
        )
    names: dict[str, int] = {}
    for want in wants:
        if want is not None and not isinstance(want, Mapping):
            raise TypeError(f"{argument}: got {want!r:.60}, {_FORMS.format(example, one)}")
        for name in want or ():
            if not isinstance(name, str):
                raise TypeError(f"{argument}: got the name {name!r:.60}, expected a str")
            names.setdefault(name, len(names))
    numbers = np.zeros((len(wants), len(names)), dtype=np.int32)
    for i, want in enumerate(wants):
        for name, number in (want or {}).items():
            checked = _checks.positive_int(number, f"{argument}[{name!r}]")
            numbers[i, names[name]] = min(checked, np.iinfo(np.int32).max)
    if len(wants) != n:
        numbers = np.repeat(numbers, n, axis=0)
    return Counts(tuple(names), np.ascontiguousarray(numbers))


def _read_diversity(value: Any, n: int, one: str) -> NDArray[np.float64] | None:
    if value is None:
        return None
    wants = _array(value)
    if wants.dtype.kind not in "fiu" or wants.ndim > 1:
        raise TypeError(
            f"diversity: got {value!r:.60}, expected a number from 0 to 1, or one for each {one}"
        )
    if wants.ndim == 1 and len(wants) != n:
        raise ValueError(
            f"diversity: got {len(wants)} numbers; expected one for each {one}, {n} in all"
        )
    weights = np.full(n, wants, dtype=np.float64)
    wrong = ~((weights >= 0) & (weights <= 1))
    if wrong.any():
        raise ValueError(
            f"diversity: got {weights[wrong][0]}, expected a number from 0 (by score alone) to 1 "
            "(by unlikeness alone)"
        )
    return weights if weights.any() else None


def variety_of_groups(groups: Any, wanted: Wanted | None, n_rows: int) -> CoreVariety | None:
    """Return what a call wants, with the arrays of `groups` that its names stand for.

    Raises
    ------
    TypeError, ValueError
        `groups` lacks a name, or an array has another form.
    """
    if wanted is None:
        return None
    if groups is None:
        groups = {}
    if not isinstance(groups, Mapping):
        raise TypeError(
            f"groups: got {type(groups).__name__}, expected a dict of arrays, such as "
            "{'brand': codes}"
        )
    columns = [
        _group_column(_of_name(groups, name, "at_most"), name, n_rows)
        for name in wanted.at_most.names
    ]
    quotas = [
        _mask(_of_name(groups, name, "at_least"), name, n_rows) for name in wanted.at_least.names
    ]
    return wanted.for_core(columns, quotas)


def _of_name(groups: Mapping[str, Any], name: str, argument: str) -> Any:
    if name not in groups:
        known = ", ".join(map(repr, groups)) or "nothing"
        raise ValueError(f"{argument}: got the name {name!r}; groups has {known}; add it there")
    return groups[name]


def _mask(value: Any, name: str, n_rows: int) -> NDArray[np.bool_]:
    mask = _array(value)
    if mask.dtype != np.bool_ or mask.shape != (n_rows,):
        raise ValueError(
            f"groups[{name!r}]: got dtype {mask.dtype} and shape {mask.shape}; `at_least` expects "
            f"a bool mask of shape ({n_rows},)"
        )
    return np.ascontiguousarray(mask)


def _group_column(value: Any, name: str, n_rows: int) -> GroupColumn:
    if not (isinstance(value, tuple) and len(value) == 2):
        codes = _codes(value, name)
        if len(codes) != n_rows:
            raise ValueError(
                f"groups[{name!r}]: got {len(codes)} values; expected one for each of {n_rows} "
                "rows, or (values, row_splits)"
            )
        return codes, None
    values, splits = _checks.csr(value, n_rows, f"groups[{name!r}]", "n_rows")
    return _codes(values, name), splits


def _codes(value: Any, name: str) -> NDArray[np.int32]:
    """Return values as codes from 0 on, negative ones where there is no value."""
    array = _array(value)
    if array.dtype.kind not in "iub" or array.ndim != 1:
        raise TypeError(
            f"groups[{name!r}]: got dtype {array.dtype} and {array.ndim} dimensions; expected "
            "integers, one a row, negative where an item has no value; number texts with "
            "numpy.unique(texts, return_inverse=True)[1]"
        )
    if array.size and int(array.max()) >= 2 * array.size + 256:  # with large gaps
        is_value = array >= 0
        present = np.unique(array[is_value])
        codes = np.where(is_value, np.searchsorted(present, array), -1)
        return codes.astype(np.int32)
    if array.dtype.kind == "i":
        array = np.maximum(array, -1)
    return np.ascontiguousarray(array, dtype=np.int32)


def _array(value: Any) -> NDArray[Any]:
    """Return a value as an array; lists of different lengths, which are none, as objects."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, dtype=object)
