"""What lists come near to: `calibrate` and `popularity_dampening`, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# Codes of values, and splits or None.
GroupColumn = tuple[NDArray[np.int32], NDArray[np.int64] | None]
# As the core takes it: column, strengths, splits, values, shares, flags.
CoreCalibration = tuple[
    GroupColumn,
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.bool_],
]
STRENGTH = 0.5
HISTORY = "history"
_FORM = "expected 'history', a dict of shares such as {'Drama': 0.5, 'War': 0.5}"


class Target(NamedTuple):
    """What one list is to have.

    Attributes
    ----------
    shares : dict, or None
        By value; None: those of the request's history.
    strength : float
    """

    shares: dict[Any, float] | None
    strength: float


class Targets(NamedTuple):
    """What lists are to have of the values of one column.

    Attributes
    ----------
    column : str
    each : tuple of Target or None, one a request
    """

    column: str
    each: tuple[Target | None, ...]

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Return those of some requests."""
        return self._replace(each=tuple(self.each[i] for i in chosen))

    def for_core(
        self, column: GroupColumn, codes_of: Callable[[list[Any]], NDArray[np.int64]]
    ) -> CoreCalibration:
        """Return it with the column that its name stands for.

        Parameters
        ----------
        column : GroupColumn
        codes_of : callable
            Returns the codes of some values, negative for one that no item has.

        Raises
        ------
        ValueError
            No item has any of the values that a request names.
        """
        strength = np.zeros(len(self.each))
        is_from_history = np.zeros(len(self.each), dtype=np.bool_)
        values: list[NDArray[np.int64]] = []
        shares: list[NDArray[np.float64]] = []
        for i, target in enumerate(self.each):
            codes, own = np.zeros(0, dtype=np.int64), np.zeros(0)
            if target is not None:
                strength[i] = target.strength
                is_from_history[i] = target.shares is None
                if target.shares is not None:
                    codes, own = self._coded(target.shares, codes_of)
            values.append(codes)
            shares.append(own)
        splits = np.cumsum([0, *map(len, values)]).astype(np.int64)
        flat = np.concatenate([np.zeros(0, dtype=np.int64), *values]).astype(np.int32)
        return column, strength, splits, flat, np.concatenate([[], *shares]), is_from_history

    def _coded(
        self, shares: dict[Any, float], codes_of: Callable[[list[Any]], NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return codes, ascending, and shares that sum to 1."""
        codes, own = codes_of(list(shares)), np.array(list(shares.values()))
        known = (codes >= 0) & (own > 0)
        if not known.any():
            names = [name for name, share in shares.items() if share > 0]
            raise ValueError(
                f"calibrate[{self.column!r}]: got shares of {names!r:.80}, which no item has; "
                "expected values of the column"
            )
        order = np.argsort(codes[known])
        left = own[known][order]
        return codes[known][order], left / left.sum()


def read_targets(value: Any, n: int, one: str) -> Targets | None:
    """Check what n lists are to have; None where it is nothing.

    Raises
    ------
    TypeError, ValueError
        The argument has another form, or a number is out of range.
    """
    if value is None:
        return None
    is_list = isinstance(value, (list, tuple))
    if is_list and len(value) != n:
        raise ValueError(
            f"calibrate: got {len(value)} entries; expected one for each {one}, {n} in all"
        )
    columns: list[str] = []
    each = [_read_one(entry, columns, one) for entry in (value if is_list else [value])]
    if len(set(columns)) > 1:
        raise ValueError(
            f"calibrate: got the columns {sorted(set(columns))}, expected one in a call"
        )
    if not columns:
        return None
    return Targets(columns[0], tuple(each) if is_list else tuple(each) * n)


def _read_one(value: Any, columns: list[str], one: str) -> Target | None:
    if value is None or (isinstance(value, Mapping) and not value):
        return None
    if not isinstance(value, Mapping):
        raise TypeError(
            f"calibrate: got {value!r:.60}, expected a dict such as {{'genres': 'history'}}, or a "
            f"list with one (or None) for each {one}"
        )
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"calibrate: got the name {name!r:.60}, expected a str")
    if len(value) > 1:
        raise ValueError(f"calibrate: got the columns {sorted(value)}, expected one in a call")
    ((name, wanted),) = value.items()
    columns.append(name)
    strength: Any = STRENGTH
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise TypeError(
                f"calibrate[{name!r}]: got a tuple of {len(wanted)}, expected (target, strength)"
            )
        wanted, strength = wanted
    strength = _number(strength, f"calibrate[{name!r}]: strength")
    if not strength <= 1:
        raise ValueError(
            f"calibrate[{name!r}]: got the strength {strength}, expected a number from 0 (by score "
            "alone) to 1 (by the distribution alone)"
        )
    if isinstance(wanted, str) and wanted == HISTORY:
        return Target(None, strength)
    return Target(_read_shares(wanted, name), strength)


def _read_shares(value: Any, name: str) -> dict[Any, float]:
    argument = f"calibrate[{name!r}]"
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}: got {value!r:.60}, {_FORM}, or (one of these, strength)")
    shares = {key: _number(share, f"{argument}[{key!r}]") for key, share in value.items()}
    if not sum(shares.values()) > 0:
        raise ValueError(f"{argument}: got no share above 0, {_FORM}")
    return shares


def _number(value: Any, argument: str) -> float:
    """Return a number of 0 or more."""
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if not is_number or isinstance(value, bool):
        raise TypeError(f"{argument}: got {value!r:.60}, expected a number")
    if not 0 <= value < np.inf:
        raise ValueError(f"{argument}: got {value}, expected a number of 0 or more")
    return float(value)


def read_dampening(value: Any, n: int, one: str) -> NDArray[np.float64] | None:
    """Check the weights of popularity; None where all are 0.

    Raises
    ------
    TypeError, ValueError
        It is no number, nor one for each request; or one is negative.
    """
    if value is None:
        return None
    try:
        weights = np.asarray(value)
    except ValueError:
        weights = np.empty(0, dtype=object)
    if weights.dtype.kind not in "fiu" or weights.ndim > 1:
        raise TypeError(
            f"popularity_dampening: got {value!r:.60}, expected a number of 0 or more, or one for "
            f"each {one}"
        )
    if weights.ndim == 1 and len(weights) != n:
        raise ValueError(
            f"popularity_dampening: got {len(weights)} numbers; expected one for each {one}, "
            f"{n} in all"
        )
    weights = np.full(n, weights, dtype=np.float64)
    wrong = ~((weights >= 0) & (weights < np.inf))
    if wrong.any():
        raise ValueError(
            f"popularity_dampening: got {weights[wrong][0]}, expected a number of 0 or more"
        )
    return weights if weights.any() else None


def terms_of(popularity: NDArray[Any]) -> NDArray[np.float64]:
    """Return what is taken off a score for each unit of weight: ln(1 + popularity), 0 at least."""
    return np.log1p(np.maximum(popularity.astype(np.float64), 0))
