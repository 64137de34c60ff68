"""What a table of events holds, for people: how many, of whom, when, of which kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from shortlist.training.data.counted import counted

# Kinds that say more than a view, by what shops call them; without one it is the rarest kind.
_STRONG = ("purchase", "buy", "order", "sale", "checkout", "booking")


@dataclass(frozen=True)
class EventSummary:
    """Counts of a table of events.

    Attributes
    ----------
    n_events, n_users, n_items : int
    n_repeats : int
        Events with an item that their user had before.
    first, last : str or None
        Days (UTC) of the oldest and the newest event; None where the events have no times.
    kinds : dict of str to int
        Events of each kind, the most frequent first.
    """

    n_events: int
    n_users: int
    n_items: int
    n_repeats: int
    first: str | None
    last: str | None
    kinds: dict[str, int]

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    def lines(
        self, weights: Mapping[str, float] | None = None, dislikes: Collection[str] = ()
    ) -> list[str]:
        """Say all of it in sentences.

        Parameters
        ----------
        weights : mapping of str to float, optional
            How much a kind counts in training, as ``[events.weights]`` says; None says nothing of
            it.
        dislikes : collection of str
            ``events.negative_kinds``.
        """
        span = "" if self.first is None else f", {self.first} to {self.last}"
        share = self.n_repeats / max(self.n_events, 1)
        repeats = (
            f"{counted(self.n_repeats, 'event')} ({share:.0%})" if self.n_repeats else "no events"
        )
        repeats += (
            " repeats an item that its" if self.n_repeats == 1 else " repeat an item that their"
        )
        of_whom = f"{counted(self.n_users, 'user')} and {counted(self.n_items, 'item')}"
        lines = [
            f"{counted(self.n_events, 'event')} of {of_whom}{span}",
            f"{repeats} user had before",
        ]
        said = [_kind(*kind, weights, dislikes) for kind in self.kinds.items()]
        lines.append(f"kinds: {', '.join(said)}")
        if weights is not None and len(self.kinds) > 1 and not weights and not dislikes:
            rarest_first = [*reversed(self.kinds)]
            strong = next((k for k in rarest_first if k.lower() in _STRONG), rarest_first[0])
            weak = next(kind for kind in self.kinds if kind != strong)
            lines.append(
                f"every kind counts 1: a {strong} counts as a {weak}. Is that meant? If not, set "
                f"[events.weights] (--set events.weights.{strong}=5), or events.negative_kinds for "
                "kinds that mean dislike"
            )
        return lines


def summarise_events(
    parts: Iterable[pl.DataFrame], *, per_second: int = 1, has_times: bool = True
) -> EventSummary:
    """Count events that come in parts, each with users of its own.

    Parameters
    ----------
    parts : iterable of polars.DataFrame
        Columns ``user_id``, ``item_id``, ``timestamp`` and ``kind``. No user is in two parts.
    per_second : int
        Ticks of the timestamps in a second.
    has_times : bool
        False where a timestamp is only a place in the file.
    """
    n_events = n_users = n_pairs = 0
    items: list[pl.Series] = []
    times: list[int] = []
    kinds: Counter[str] = Counter()
    for part in parts:
        n_events += part.height
        n_users += part["user_id"].n_unique()
        n_pairs += part.select(pl.struct("user_id", "item_id").n_unique()).item()
        items.append(part["item_id"].unique())
        when = part["timestamp"]
        times += [tick for tick in (when.min(), when.max()) if isinstance(tick, int)]
        kinds.update(dict(part.group_by("kind").len().iter_rows()))
    span = [_day(tick, per_second) for tick in (min(times), max(times))] if times else []
    first, last = span if span and has_times else (None, None)
    return EventSummary(
        n_events,
        n_users,
        pl.concat(items).n_unique() if items else 0,
        n_events - n_pairs,
        first,
        last,
        dict(sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))),
    )


def _kind(
    kind: str, n_events: int, weights: Mapping[str, float] | None, dislikes: Collection[str]
) -> str:
    if kind in dislikes:
        return f"{kind} {n_events:,} (dislike)"
    weight = (weights or {}).get(kind)
    return f"{kind} {n_events:,}" + ("" if weight is None else f" (weight {weight:g})")


def _day(tick: int, per_second: int) -> str:
    return str(np.datetime64(tick // per_second, "s").astype("datetime64[D]"))  # any year
