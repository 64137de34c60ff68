"""One rule of an answer: a bundle, requests, options; and what a case asks of who answers it."""

from dataclasses import dataclass, field, replace

import numpy as np

NOON = 1_714_564_800


@dataclass(frozen=True)
class Where:
    """An expression on the item table, and what it means for one item's row of it."""

    expression: object
    passes: object


@dataclass(frozen=True)
class Filter:
    """What may come back; of what is given, everything must allow an item.

    Attributes
    ----------
    allow : list of ids (one list for all requests), or list of lists (one a request)
    exclude : list of lists, one a request
    mask : ndarray of bool, (n_items,) for all requests, or (n_requests, n_items)
        By rows of the bundle.
    where : Where, or a list with one (or None) a request
    """

    allow: list | None = None
    exclude: list | None = None
    mask: np.ndarray | None = None
    where: object = None

    @property
    def has_list_for_each(self):
        return self.allow is not None and any(isinstance(entry, list) for entry in self.allow)

    def forms(self):
        """Which of the ways to say it there are here."""
        if self.allow is not None:
            yield "allow each" if self.has_list_for_each else "allow"
        if self.exclude is not None:
            yield "exclude"
        if self.mask is not None:
            yield "mask" if self.mask.ndim == 1 else "mask each"
        if self.where is not None:
            yield "where"

    def alone(self, i):
        """What holds for request i, of that request alone."""
        return Filter(
            [self.allow[i]] if self.has_list_for_each else self.allow,
            None if self.exclude is None else [self.exclude[i]],
            self.mask if self.mask is None or self.mask.ndim == 1 else self.mask[i],
            self.where[i] if isinstance(self.where, list) else self.where,
        )

    def allows(self, i, item):
        """Whether request i may get an item."""
        if self.allow is not None:
            allowed = self.allow[i] if self.has_list_for_each else self.allow
            if item.item_id not in allowed:
                return False
        if self.exclude is not None and item.item_id in self.exclude[i]:
            return False
        if self.mask is not None:
            mask = self.mask if self.mask.ndim == 1 else self.mask[i]
            return bool(mask[item.code - 1])
        where = self.where[i] if isinstance(self.where, list) else self.where
        return where is None or bool(where.passes(item.content))


@dataclass(frozen=True)
class Quota:
    """So many items that pass a condition, at least; `text` is the condition as of `where`."""

    text: str
    passes: object
    least: int


@dataclass(frozen=True)
class Act:
    """An event of the feedback log."""

    user_id: object
    item_id: object
    kind: str = "click"
    time: int = NOON
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A rule, and a call that shows it.

    Attributes
    ----------
    rule : str
        What holds, in words; the test's name.
    bundle : str
        Of `bundles.BUNDLES`.
    requests : list of dict
        As `Engine.recommend` takes them.
    top_n, exclude_seen, stages
        As there; stages None is the bundle's default.
    filter : Filter
    at_most : dict of int
        By column of the item table.
    at_least : tuple of Quota
    diversity : float
    calibrate : tuple of (str, dict or "history", float), or None
        A column, its shares by value, and the strength.
    dampening : float
    changes : tuple of (str, list)
        ("upsert", dicts) and ("remove", ids), in this order, before the call.
    log : tuple of Act
        Of the feedback log.
    now : int
    dislikes : tuple of str, float
        Kinds that mean dislike, and the value below which one does, as the bundle was trained.
    n_reasons : int
        Reasons that each item is asked for; 0 = none are asked for.
    source, counts, first : list, optional
        Parts of the answer, said here for whoever reads the table: the source and the count of each
        request, and its best item.
    """

    rule: str
    bundle: str
    requests: list
    top_n: int = 10
    exclude_seen: bool = True
    stages: int | None = None
    filter: Filter = field(default_factory=Filter)
    at_most: dict = field(default_factory=dict)
    at_least: tuple = ()
    diversity: float = 0.0
    calibrate: tuple | None = None
    dampening: float = 0.0
    changes: tuple = ()
    log: tuple = ()
    now: int = NOON
    dislikes: tuple = (("skip",), -np.inf)
    n_reasons: int = 0
    source: list | None = None
    counts: list | None = None
    first: list | None = None

    def allows(self, i, item):
        return self.filter.allows(i, item)

    def alone(self, i):
        """The same call of request i alone."""
        return replace(self, requests=[self.requests[i]], filter=self.filter.alone(i))

    def is_dislike(self, act):
        kinds, below = self.dislikes
        return act.kind in kinds or (act.value is not None and act.value < below)

    @property
    def weighs_similarities(self):
        return self.diversity > 0 or self.calibrate is not None or self.dampening > 0

    def needs(self):
        """What who answers must be capable of, beyond histories and features of requests."""
        needs = set(self.filter.forms())
        if any("user_id" in request for request in self.requests):
            needs.add("users")
        if self.stages is not None:
            needs.add("stages")
        if self.at_most or self.at_least or self.weighs_similarities:
            needs.add("variety")
        if self.changes:
            needs.add("changed items")
        upserted = (
            item for change, values in self.changes if change == "upsert" for item in values
        )
        if any("n_events" in item for item in upserted):
            needs.add("changed counts")
        if self.log:
            needs.add("feedback")
        if self.n_reasons:
            needs.add("reasons")
        if any("history_ages" in request for request in self.requests):
            needs.add("ages")
        return needs
