"""What a list has to look like as a whole, checked: `at_most`, `at_least`, `diversity` and more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from shortlist import _checks
from shortlist._columns.calibration import (
    CoreCalibration,
    GroupColumn,
    Targets,
    read_dampening,
    read_targets,
    terms_of,
)

# As the core takes it: columns, at_most, masks of quotas, at_least, diversity, calibration, and
# terms of rows with weights.
CoreVariety = tuple[
    list[GroupColumn],
    NDArray[np.int32],
    list[NDArray[np.bool_]],
    NDArray[np.int32],
    NDArray[np.float64] | None,
    CoreCalibration | None,
    tuple[NDArray[np.float64], NDArray[np.float64]] | None,
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
    targets : Targets or None
    dampening : ndarray of shape (n_requests,), float64, or None
    """

    at_most: Counts
    at_least: Counts
    diversity: NDArray[np.float64] | None
    targets: Targets | None = None
    dampening: NDArray[np.float64] | None = None

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Return what some of the requests want."""
        at_most, at_least = (
            Counts(counts.names, counts.numbers[chosen]) for counts in (self.at_most, self.at_least)
        )
        diversity, dampening = (
            None if weights is None else weights[chosen]
            for weights in (self.diversity, self.dampening)
        )
        targets = None if self.targets is None else self.targets.take(chosen)
        return type(self)(at_most, at_least, diversity, targets, dampening)

    def for_core(
        self,
        columns: list[GroupColumn],
        quotas: list[NDArray[np.bool_]],
        calibration: CoreCalibration | None = None,
        terms: NDArray[np.float64] | None = None,
    ) -> CoreVariety:
        """Return it with what its names stand for; columns and masks in their order."""
        dampening = None
        if terms is not None and self.dampening is not None:
            dampening = (terms, self.dampening)
        return (
            columns,
            self.at_most.numbers,
            quotas,
            self.at_least.numbers,
            self.diversity,
            calibration,
            dampening,
        )


def read_wanted(
    at_most: Any,
    at_least: Any,
    diversity: Any,
    calibrate: Any,
    dampening: Any,
    n: int,
    top_n: int,
    one: str = "query",
) -> Wanted | None:
    """Check what a call wants of n lists of `top_n` items; None where it is nothing.

    `dampening` is the argument `popularity_dampening`; `one` is what messages call one of the
    lists.

    Raises
    ------
    TypeError, ValueError
        An argument has another form, or a number is out of range.
    """
    given = (at_most, at_least, diversity, calibrate, dampening)
    if all(one is None for one in given):  # the usual case
        return None
    most = _read_counts(at_most, n, "at_most", "brand", one)
    least = _read_counts(at_least, n, "at_least", "is_new", one)
    for name, numbers in zip(least.names, least.numbers.T, strict=True):
        if len(numbers) and int(numbers.max()) > top_n:
            raise ValueError(
                f"at_least[{name!r}]: got {int(numbers.max())} for lists of {top_n}; expected no "
                f"more than top_n; ask for longer lists, or for fewer"
            )
    wanted = Wanted(
        most,
        least,
        _read_diversity(diversity, n, one),
        read_targets(calibrate, n, one),
        read_dampening(dampening, n, one),
    )
    _check_one_rule(wanted, n, one)
    weighed = (wanted.diversity, wanted.targets, wanted.dampening)
    is_any = most.names or least.names or any(each is not None for each in weighed)
    return wanted if is_any else None


def _check_one_rule(wanted: Wanted, n: int, one: str) -> None:
    """Refuse two rules of order for one list."""
    if wanted.diversity is None:
        return
    for i in np.flatnonzero(wanted.diversity):
        target = None if wanted.targets is None else wanted.targets.each[i]
        is_dampened = wanted.dampening is not None and wanted.dampening[i] > 0
        if target is not None or is_dampened:
            other = "calibrate" if target is not None else "popularity_dampening"
            raise ValueError(
                f"diversity, {other}: got both for {one} {i}, expected one of them: each is a rule "
                "by which the next item is chosen"
            )


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


def variety_of_groups(
    groups: Any, wanted: Wanted | None, n_rows: int, popularity: Any = None
) -> CoreVariety | None:
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
    calibration, terms = None, None
    if wanted.targets is not None:
        calibration = _calibration(groups, wanted.targets, n_rows)
    if wanted.dampening is not None:
        terms = terms_of(_popularity(popularity, n_rows))
    return wanted.for_core(columns, quotas, calibration, terms)


def _calibration(groups: Mapping[str, Any], targets: Targets, n_rows: int) -> CoreCalibration:
    name = targets.column
    if any(target is not None and target.shares is None for target in targets.each):
        raise ValueError(
            f"calibrate[{name!r}]: got 'history', but an index knows no histories; expected shares "
            "by value, such as {3: 0.5, 7: 0.5}"
        )
    given = _of_name(groups, name, "calibrate")
    values = _array(given[0] if isinstance(given, tuple) and len(given) == 2 else given)
    column = _group_column(given, name, n_rows)

    def codes_of(wanted: list[Any]) -> NDArray[np.int64]:
        if not all(isinstance(value, (int, np.integer)) for value in wanted):
            raise TypeError(
                f"calibrate[{name!r}]: got shares of {wanted!r:.80}, expected integers as in groups"
            )
        numbers = np.array(wanted, dtype=np.int64)
        present = np.unique(values[values >= 0])
        at = np.searchsorted(present, numbers)
        is_there = (at < len(present)) & (present[np.minimum(at, len(present) - 1)] == numbers)
        codes = at if _has_gaps(values) else numbers
        return np.where(is_there, codes, -1)

    return targets.for_core(column, codes_of)


def _popularity(value: Any, n_rows: int) -> NDArray[Any]:
    if value is None:
        raise ValueError(
            "popularity: got None with popularity_dampening, expected the number of events of each "
            "row"
        )
    array = _array(value)
    if array.dtype.kind not in "fiu" or array.shape != (n_rows,):
        raise ValueError(
            f"popularity: got dtype {array.dtype} and shape {array.shape}; expected numbers of "
            f"shape ({n_rows},)"
        )
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError("popularity: expected numbers of 0 or more, got others")
    return array


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
    if _has_gaps(array):
        is_value = array >= 0
        present = np.unique(array[is_value])
        codes = np.where(is_value, np.searchsorted(present, array), -1)
        return codes.astype(np.int32)
    if array.dtype.kind == "i" and array.dtype != np.int32:
        array = np.maximum(array, -1)  # a large negative number must not become another one
    return np.ascontiguousarray(array, dtype=np.int32)


def _has_gaps(array: NDArray[Any]) -> bool:
    return bool(array.size) and int(array.max()) >= 2 * array.size + 256


def _array(value: Any) -> NDArray[Any]:
    """Return a value as an array; lists of different lengths, which are none, as objects."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, dtype=object)
