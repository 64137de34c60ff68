"""Off-policy estimates: what a bundle would have earned, from what another one showed.

The log must have been written with exploration (`Engine.recommend(explore=..., record=True)`): only
then does it say how probable each list was. And requests must have been user ids alone: the log
keeps no `history`, features, `where` or ``exclude_seen=False`` of them and so no propensities of
their lists either, which are left out and counted.

A list is taken place by place (the cascade): the weight of place k is the product, over the places
down to k, of the bundle's probability of the shown item by the logged one. So a place's reward may
depend on the items above it, in any way.

`ips`, `snips` and `doubly_robust` are the estimators by themselves; `estimate` asks a bundle.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from shortlist import _checks
from shortlist._columns.reading import Array
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist.engine import Engine
from shortlist.errors import DataError
from shortlist.exploration import Epsilon, Exploration
from shortlist.feedback import FeedbackLog
from shortlist.feedback.acts import check_types
from shortlist.off_policy.lists import Lists, read_lists

__all__ = ["Estimate", "OffPolicy", "doubly_robust", "estimate", "ips", "snips"]

CLOCK_TOLERANCE = 10  # seconds
_BATCH = 512  # lists asked of the bundle at once
_PRIOR = 20.0  # expected rewards' worth of shrinkage of an item's rate
_Z = 1.959963984540054  # of a 95 % interval


class Estimate(NamedTuple):
    """A mean reward a list, and its 95 % interval: −inf to inf where it cannot be told.

    It takes two users (two lists, where users are not told) to see how they differ.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """What `estimate` found.

    Attributes
    ----------
    n_lists, n_users : int
        Lists that took part, and users they were shown to.
    n_unknown_propensity, n_before_training : int
        Lists left out: without propensities (shown without exploration, or for requests that were
        more than a user id), or not newer than the bundle's training data.
    n_unmatched : int
        Events newer than the training data that would be a reward and belong to no list: what
        users found elsewhere, or a clock that is further behind than `clock_tolerance`.
    n_stray_impressions : int
        Impressions left out: their ranks do not run from 1 on, so that they belong to no list.
    top_n : int
        Places counted of each list.
    logged : Estimate
        What was earned.
    ips, snips, doubly_robust : Estimate
        What the bundle would have earned.
    difference : Estimate
        `doubly_robust` less `logged`, list by list.
    effective_lists : list of float
        At each place, how many lists of equal weight would say as much.
    """

    n_lists: int
    n_users: int
    n_unknown_propensity: int
    n_before_training: int
    n_unmatched: int
    n_stray_impressions: int
    top_n: int
    logged: Estimate
    ips: Estimate
    snips: Estimate
    doubly_robust: Estimate
    difference: Estimate
    effective_lists: list[float]

    def to_dict(self) -> dict[str, object]:
        """Return plain values, ready for `json.dumps`; an infinite end of an interval is None."""
        plain = asdict(self)
        return {k: _plain(v) if isinstance(v, Estimate) else v for k, v in plain.items()}

    def __str__(self) -> str:
        """Show a table."""
        rows = {
            "logged": self.logged,
            "IPS": self.ips,
            "SNIPS": self.snips,
            "doubly robust": self.doubly_robust,
            "doubly robust − logged": self.difference,
        }
        lines = [
            f"{self.n_lists:,} lists of {self.n_users:,} users, first {self.top_n} places; left "
            f"out: {self.n_unknown_propensity:,} without propensities, "
            f"{self.n_before_training:,} not newer than the training data",
            f"{self.n_unmatched:,} events that would be a reward belong to no list, and "
            f"{self.n_stray_impressions:,} impressions",
            f"{'rewards a list':<24}{'value':>10}   95 % interval",
        ]
        for name, (value, low, high) in rows.items():
            lines.append(f"{name:<24}{value:>10.5f}   {low:.5f} to {high:.5f}")
        numbers = ", ".join(f"{n:,.0f}" for n in self.effective_lists)
        return "\n".join([*lines, f"effective number of lists by place: {numbers}"])


def ips(rewards: Array, weights: Array, users: Array | None = None) -> Estimate:
    """Estimate by inverse propensity: unbiased, however rare the weights.

    Parameters
    ----------
    rewards : ndarray of shape (n_lists, n_places), float64
    weights : ndarray of shape (n_lists, n_places), float64
        Probability of the list down to this place under the new policy by that under the old one.
    users : ndarray of shape (n_lists,), optional
        Whose lists: those of one user are not taken for independent.

    Examples
    --------
    >>> import numpy as np
    >>> rewards, weights = np.array([[1.0], [0.0], [1.0]]), np.array([[0.5], [2.0], [1.0]])
    >>> ips(rewards, weights).value
    0.5
    """
    return _mean((weights * rewards).sum(axis=1), users)


def snips(rewards: Array, weights: Array, users: Array | None = None) -> Estimate:
    """Estimate by weights that are made to sum to the number of lists at each place.

    Parameters as for `ips`. A little biased, far steadier where weights are large.

    Examples
    --------
    >>> import numpy as np
    >>> rewards, weights = np.array([[1.0], [0.0], [1.0]]), np.array([[0.5], [2.0], [0.5]])
    >>> round(snips(rewards, weights).value, 4)
    0.3333
    """
    means = weights.mean(axis=0)
    shares = weights / np.where(means > 0, means, 1)
    values = (shares * rewards).mean(axis=0)
    error = _mean((shares * (rewards - values)).sum(axis=1), users)
    value = float(values.sum())
    return Estimate(value, value + error.low - error.value, value + error.high - error.value)


def doubly_robust(
    rewards: Array,
    weights: Array,
    predicted: Array,
    expected: Array,
    users: Array | None = None,
) -> Estimate:
    """Estimate by a model of the rewards, corrected by `ips` of what it gets wrong.

    Right if either the propensities or the model are; steadier than `ips` the better the model is.

    Parameters
    ----------
    rewards, weights, users
        As for `ips`.
    predicted : ndarray of shape (n_lists, n_places), float64
        The model's reward of the item shown at each place.
    expected : ndarray of shape (n_lists, n_places), float64
        The model's mean reward under the new policy, given the items shown above.

    Examples
    --------
    >>> import numpy as np
    >>> rewards, weights = np.array([[1.0], [0.0]]), np.array([[2.0], [0.0]])
    >>> doubly_robust(rewards, weights, np.full((2, 1), 0.5), np.full((2, 1), 0.25)).value
    0.75
    """
    return _mean(_corrected(rewards, weights, predicted, expected), users)


def estimate(
    engine: Engine,
    log: FeedbackLog,
    *,
    explore: Exploration | None = None,
    top_n: int = 3,
    kinds: Sequence[str] | None = None,
    within: int = 86_400,
    clock_tolerance: int = CLOCK_TOLERANCE,
) -> OffPolicy:
    """Estimate what a bundle would have earned in place of what was shown.

    Parameters
    ----------
    engine : Engine
        The bundle in question. Each logged list is asked again, with the user's history as the
        log had it at that moment.
    log : FeedbackLog
    explore : Epsilon or Softmax, optional
        How the bundle would be run. Default: always its best.
    top_n : int
        Places of each list that count, from the top; weights grow fast with them.
    kinds : sequence of str, optional
        Events that are a reward, 1 each. Default: all that are no dislikes.
    within : int
        Seconds after an impression in which an event counts; it goes to the newest earlier
        impression of its user and item.
    clock_tolerance : int
        Seconds that an event may be older than the impression it was written after, for hosts
        whose clocks differ.

    Raises
    ------
    DataError
        The log's ids are of another type than the bundle's, or no list of it can take part.

    Notes
    -----
    The model of the doubly robust estimate is the mean reward of the place times a shrunken lift
    of the item; each half of the users is predicted from the other half. Lists that are not newer
    than the bundle's training data are left out: it may have learned what came of them. Intervals
    are normal ones over users; of a single user they are −inf to inf.
    """
    top_n = _checks.positive_int(top_n, "top_n")
    explore = Epsilon(0.0) if explore is None else explore
    loaded = engine._switch.now()
    check_types(log.id_types, loaded.user_id_dtype, loaded.item_id_dtype)
    wanted = None if kinds is None else set(kinds)
    lists = read_lists(log, loaded.dislikes, top_n, wanted, within, clock_tolerance)
    known_until = loaded.bundle.manifest.training_section("data").get("known_until")
    until = known_until if isinstance(known_until, (int, float)) else -np.inf
    lists, n_old = _without_old(lists, until)
    model = _Model(lists)
    weights, expected = _ask_again(lists, loaded, explore, model)
    rewards, users = lists.rewards, lists.users
    logged = rewards.sum(axis=1)
    corrected = _corrected(rewards, weights, model.shown(lists), expected)
    squares = np.maximum((weights**2).sum(axis=0), np.finfo(np.float64).tiny)
    return OffPolicy(
        n_lists=len(rewards),
        n_users=len(np.unique(users)),
        n_unknown_propensity=lists.n_unknown,
        n_before_training=n_old,
        n_unmatched=int((lists.unmatched_times > until).sum()),
        n_stray_impressions=lists.n_stray,
        top_n=top_n,
        logged=_mean(logged, users),
        ips=ips(rewards, weights, users),
        snips=snips(rewards, weights, users),
        doubly_robust=_mean(corrected, users),
        difference=_mean(corrected - logged, users),
        effective_lists=(weights.sum(axis=0) ** 2 / squares).tolist(),
    )


def _without_old(lists: Lists, until: float) -> tuple[Lists, int]:
    """Leave out, and count, what is not newer than the bundle's training data."""
    is_new = lists.times > until
    n_old = int((~is_new).sum())
    if not is_new.any():
        raise DataError(
            f"log: got {n_old} lists with propensities that are not newer than the bundle's "
            f"training data and {lists.n_unknown} without propensities, expected newer ones; "
            "answer user_ids with explore=… and record=True"
        )
    return lists.take(np.flatnonzero(is_new)), n_old


def _ask_again(
    lists: Lists, loaded: LoadedBundle, explore: Exploration, model: "_Model"
) -> tuple[Array, Array]:
    """Ask the bundle, batch by batch: the weights and the model's expectations, (n, k)."""
    parts = []
    for start in range(0, len(lists.times), _BATCH):
        part = lists.take(np.arange(start, min(start + _BATCH, len(lists.times))))
        scores, items = part.ask(loaded, explore)
        parts.append(_compare(part, scores, items, explore, model))
    ratios, expected = (np.concatenate(column) for column in zip(*parts, strict=True))
    return np.cumprod(ratios, axis=1), expected


class _Model:
    """Mean reward of the place × shrunken lift of the item, from the other half of the users."""

    def __init__(self, lists: Lists) -> None:
        self._halves = []
        for half in (0, 1):
            other = lists.take(np.flatnonzero(lists.users % 2 != half))
            n_shown = other.is_shown.sum(axis=0)
            rates = other.rewards.sum(axis=0) / np.maximum(n_shown, 1)
            earned: dict[Any, list[float]] = {}
            shown = other.is_shown
            pairs = zip(
                other.items[shown].tolist(),
                other.rewards[shown].tolist(),
                np.broadcast_to(rates, shown.shape)[shown].tolist(),
                strict=True,
            )
            for item, reward, rate in pairs:
                total = earned.setdefault(item, [0.0, 0.0])
                total[0] += reward
                total[1] += rate
            lifts = {i: (got + _PRIOR) / (usual + _PRIOR) for i, (got, usual) in earned.items()}
            self._halves.append((rates, lifts))

    def lifts(self, items: Array, users: Array) -> Array:
        """Return the lift of each item (n, m) for the list's user."""
        lifts = [
            [self._halves[half][1].get(item, 1.0) for item in row]
            for half, row in zip((users % 2).tolist(), items.tolist(), strict=True)
        ]
        return np.array(lifts, dtype=np.float64).reshape(items.shape)

    def rates(self, users: Array) -> Array:
        """Return the rate of each place (n, k) for the list's user."""
        rates: Array = np.stack([self._halves[half][0] for half in (0, 1)])[users % 2]
        return rates

    def shown(self, lists: Lists) -> Array:
        """Return what is predicted for the items shown, (n, k)."""
        lifts = self.lifts(lists.items, lists.users)
        predicted: Array = lifts * self.rates(lists.users) * lists.is_shown
        return predicted


def _compare(
    lists: Lists, scores: Array, items: Array, explore: Exploration, model: _Model
) -> tuple[Array, Array]:
    """Return the bundle's propensities by the logged ones, and the model's expectation, (n, k)."""
    is_same = lists.items[:, :, None] == items[:, None, :]
    is_same &= (scores > -np.inf)[:, None, :] & lists.is_shown[:, :, None]
    ranks = np.where(is_same.any(axis=2), is_same.argmax(axis=2), -1)
    rates = model.rates(lists.users)
    values = rates.T[:, :, None] * model.lifts(items, lists.users)
    propensities, expected = explore.shares(scores, ranks, values)
    return propensities / np.where(lists.is_shown, lists.propensities, 1.0), expected


def _corrected(rewards: Array, weights: Array, predicted: Array, expected: Array) -> Array:
    before = np.concatenate([np.ones((len(weights), 1)), weights[:, :-1]], axis=1)
    corrected: Array = (before * expected + weights * (rewards - predicted)).sum(axis=1)
    return corrected


def _mean(values: Array, users: Array | None) -> Estimate:
    """Mean, with a normal interval in which the lists of one user vary together."""
    n = len(values)
    value = float(values.mean())
    sums: Array = values - value
    if users is not None:
        sums = np.bincount(np.unique(users, return_inverse=True)[1], weights=sums)
    n_groups = len(sums)
    if n_groups < 2:
        return Estimate(value, -np.inf, np.inf)
    spread = n_groups / (n_groups - 1) * float((sums**2).sum())
    error = _Z * float(np.sqrt(spread)) / n
    return Estimate(value, value - error, value + error)


def _plain(estimate: Estimate) -> dict[str, float | None]:
    values = estimate._asdict().items()
    return {name: value if np.isfinite(value) else None for name, value in values}
