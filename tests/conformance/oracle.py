"""What `Engine.recommend` promises, one request at a time in float64: the rules, not the code.

Written from docs/serving.md, docs/plugin.md, docs/features.md and docs/feedback.md, and from the
docstrings; it shares no line with what it judges. `Oracle.answer` answers a case of the table.
"""

from dataclasses import dataclass, replace

import numpy as np
from conformance import tiny_model
from conformance.storage import stored_vector, unit
from conformance.variety import calibrated, diverse, shares_of, varied
from worlds import GAP

BORDER = 2e-5  # candidates must be further from the next item than rounding goes
PUSH = 0.1  # lengths of the user embedding that a skip pushes


@dataclass(frozen=True)
class Item:
    """An item as it is now. `code`: 1 + its row in the bundle, 0 if it came later."""

    item_id: object
    vector: np.ndarray
    code: int
    popularity: float
    content: dict


@dataclass(frozen=True)
class Event:
    item_id: object
    kind: str | None = None
    age: float | None = None  # seconds before now


@dataclass(frozen=True)
class Told:
    """What is known about a request; the history as the encoder gets it, whole."""

    source: str
    history: list
    values: dict
    seen: set
    skipped: set


@dataclass(frozen=True)
class Expected:
    """One request's answer: everything that may come back, best first, ties by the lower row."""

    source: str
    stages: int
    ranked: list  # of (item id, score)
    scale: float  # of the scores, which rounding is relative to
    top_n: int

    @property
    def count(self):
        return min(self.top_n, len(self.ranked))


class Oracle:
    """A bundle's world, and its items as they are after a case's changes."""

    def __init__(self, world, changes=()):
        self.world = world
        self.rows = {item_id: row for row, item_id in enumerate(world.item_ids.tolist())}
        # In the order of rows: a changed item keeps its place, one that comes back goes to the end.
        self.items = {}
        names = world.items.column_names
        self.popular = "popular_score" if "popular_score" in names else "n_events"
        for row, content in enumerate(world.items.to_pylist()):
            item_id, vector = content["item_id"], self.stored(world.vectors[row])
            self.items[item_id] = Item(item_id, vector, row + 1, content[self.popular], content)
        self.users = {}
        if world.stored is not None:
            self.users = {user["user_id"]: user for user in world.stored.to_pylist()}
        for change, values in changes:
            for value in values:
                self.upsert(value) if change == "upsert" else self.items.pop(value, None)

    def stored(self, vector):
        return stored_vector(vector, self.world.manifest["metric"], self.world.manifest["storage"])

    def upsert(self, given):
        """A new item's vector is made from its content; a known one keeps what is not given."""
        item_id = given["item_id"]
        old = self.items.get(item_id)
        content = {**(old.content if old else {}), **given}
        vector, code = (old.vector, old.code) if old else (None, 0)
        if old is None or any(f.name in given for f in self.world.item_features):
            made = tiny_model.item_embedding(self.world, item_id, content)
            vector = self.stored(made.astype(np.float32))
        popularity = content.get(self.popular) or 0
        self.items[item_id] = Item(item_id, vector, code, popularity, content)

    def answer(self, case):
        return [self.one(case, i, request) for i, request in enumerate(case.requests)]

    def one(self, case, i, request):
        """Answer request i of a case."""
        told = self.told(request, case)
        allowed = [
            item
            for item in self.items.values()
            if not (case.exclude_seen and item.item_id in told.seen) and case.allows(i, item)
        ]
        if case.weighs_similarities and told.source != "popular":
            served = self.weighable(case, told, allowed)
            if case.diversity > 0 or case.calibrate is not None or served.stages == 2:
                return self.weighed(case, told, served)
        if not case.at_most and not case.at_least:
            return self.ranked(case, told, allowed)

        def order_of(items):
            return [self.items[item_id] for item_id, _ in self.ranked(case, told, items).ranked]

        # In the order of rows, which decides between equal scores.
        taken = varied(case, allowed, order_of)
        return self.chosen(case, told, [item for item in allowed if item in taken], allowed)

    def weighable(self, case, told, allowed):
        """The best of some items by scores that are similarities.

        The candidate at rank r of a second stage counts as similar as the r-th nearest.
        """
        plain = replace(case, dampening=0.0)
        nearest = self.ranked(replace(plain, stages=1), told, allowed)
        served = self.ranked(plain, told, allowed)
        pairs = zip(served.ranked, nearest.ranked, strict=served.stages == 1)
        ranked = [
            (item_id, score - dampened(case, self.items[item_id]))
            for (item_id, _), (_, score) in pairs
        ]
        return replace(served, ranked=best_first(ranked), scale=nearest.scale)

    def weighed(self, case, told, best):
        """A list whose items are chosen by more than their scores."""
        scored, scores = [(self.items[own], score) for own, score in best.ranked], dict(best.ranked)
        if case.diversity > 0:
            taken = diverse(case, scored)
            return replace(best, ranked=[(item.item_id, scores[item.item_id]) for item in taken])
        shares = None
        if case.calibrate is not None:
            column, shares, _ = case.calibrate
            if shares == "history":
                ids = [self.world.item_ids.tolist()[row] for row, _, _ in told.history]
                shares = shares_of([self.items[own] for own in ids if own in self.items], column)
        taken = calibrated(case, scored, shares) if shares else [item for item, _ in scored]
        return replace(best, ranked=[pair for pair in best.ranked if self.items[pair[0]] in taken])

    def ranked(self, case, told, allowed):
        """The best of some items."""
        if told.source == "popular":
            ranked = best_first([(item.item_id, item.popularity) for item in allowed])
            return Expected(told.source, 0, ranked, 1.0, case.top_n)
        return self.personal(case, told, allowed)

    def chosen(self, case, told, items, allowed):
        """Some items, all of which come back, with the scores that they have anyway."""
        return replace(self.ranked(case, told, items), scale=self.ranked(case, told, allowed).scale)

    def told(self, request, case):
        """What is known about a request: its history, else the stored one; its features, filled."""
        user = self.users.get(request.get("user_id"), {})
        given, stored, skipped = given_events(request), stored_events(user), set()
        acts = [act for act in case.log if act.user_id == request.get("user_id")]
        if acts:
            # A history of which nothing is known is none: the stored one is the request's then,
            # with the ages it has now.
            if not any(event.item_id in self.rows for event in given):
                given, stored = [*stored_events(user, case.now), *given], []
            given, skipped = joined(given, sorted(acts, key=lambda act: act.time), case)
        seen = {event.item_id for event in (*given, *stored)} | skipped
        values = {}
        for feature in self.world.features:
            value = request.get(feature.name)
            is_given = tiny_model.is_given(value)
            values[feature.name] = value if is_given else user.get(feature.name)
        own = [event for event in given if event.item_id in self.rows]
        kept = [event for event in stored if event.item_id in self.rows]
        if own or kept:
            source = "history" if own else "stored history"
        else:
            has_any = any(tiny_model.is_known(f, values[f.name]) for f in self.world.features)
            source = "features" if has_any else "popular"
        return Told(source, self.as_rows(own or kept), values, seen, skipped)

    def as_rows(self, events):
        """The events as the encoder gets them: rows; ages not told grow by the usual gap."""
        n = len(events)
        ages = [
            (n - 1 - i) * GAP if event.age is None else event.age for i, event in enumerate(events)
        ]
        if not self.world.manifest["event_features"]:
            return [(self.rows[event.item_id], None, None) for event in events]
        return [
            (self.rows[event.item_id], event.kind, age)
            for event, age in zip(events, ages, strict=True)
        ]

    def embedding(self, told):
        latest = told.history[-self.world.manifest["max_history"] :]
        user = tiny_model.user_embedding(self.world, latest, told.values)
        return self.pushed(user, told.skipped)

    def personal(self, case, told, allowed):
        manifest, source = self.world.manifest, told.source
        user = self.embedding(told)
        near = best_first(
            [(item.item_id, self.similarity(user, item) - dampened(case, item)) for item in allowed]
        )
        vectors = np.array([item.vector for item in allowed] or [np.zeros_like(user)])
        scale = scale_of(user, vectors, manifest["metric"])
        stages = case.stages or (1 if self.world.scorer is None else 2)
        if stages == 1 or source == "features":  # the reranker learned from histories only
            return Expected(source, 1, near, scale, case.top_n)
        second = manifest["second_stage"]
        n_candidates = max(case.top_n, second["n_candidates"])
        check_border(near, n_candidates, scale)
        candidates = dict(near[:n_candidates])
        scored = [
            (item.item_id, self.rerank_score(told, item, candidates[item.item_id]))
            for item in allowed
            if item.item_id in candidates
        ]
        scale *= max([1.0, *(abs(score) for _, score in scored)])
        return Expected(source, 2, best_first(scored), scale, case.top_n)

    def rerank_score(self, told, item, similarity):
        length = self.world.manifest["second_stage"]["history_length"]
        rows = [row for row, _, _ in told.history][-length:]
        return tiny_model.rerank_score(self.world, rows, item.code, similarity)

    def pushed(self, user, skipped):
        """Move a user away from the mean direction of the items that were skipped."""
        units = [unit(self.items[item_id].vector) for item_id in skipped & self.items.keys()]
        if not units:
            return user
        return user - PUSH * np.linalg.norm(user) * np.mean(units, axis=0)

    def similarity(self, user, item):
        match self.world.manifest["metric"]:
            case "cosine":
                return float((unit(user) * item.vector).sum())
            case "dot":
                return float((user * item.vector).sum())
        return -float(np.sqrt(((user - item.vector) ** 2).sum()))


def dampened(case, item):
    """What is taken off a score for popularity."""
    return case.dampening * float(np.log1p(item.content.get("n_events") or 0))


def given_events(request):
    """The history that a request gives, with what it tells of the events."""
    items = request.get("history") or []
    kinds = request.get("history_kinds") or [None] * len(items)
    ages = request.get("history_ages") or [None] * len(items)
    return [Event(*event) for event in zip(items, kinds, ages, strict=True)]


def stored_events(user, now=None):
    """The history of a known user; ages from the newest event, or from now."""
    items = user.get("history") or []
    kinds, times = user.get("history_kinds"), user.get("history_times")
    if not items or times is None:
        return [Event(item) for item in items]
    since = times[-1] if now is None else now
    events = zip(items, kinds, times, strict=True)
    return [Event(item, kind, max(since - time, 0)) for item, kind, time in events]


def joined(history, acts, case):
    """The log's events follow the history; returns it, and the items that were skipped.

    An item's newest event decides: a dislike takes it out, anything else keeps it where the log has
    it. `acts` in the order of time.
    """
    newest = {act.item_id: case.is_dislike(act) for act in acts}
    kept = [event for event in history if event.item_id not in newest]
    liked = [
        Event(act.item_id, act.kind, max(case.now - act.time, 0))
        for act in acts
        if not newest[act.item_id] and not case.is_dislike(act)
    ]
    return kept + liked, {item_id for item_id, is_dislike in newest.items() if is_dislike}


def best_first(scored):
    """Score descending; of equals the one that comes first, which has the lower row."""
    return sorted(scored, key=lambda pair: -pair[1])


def scale_of(user, vectors, metric):
    longest = float(np.linalg.norm(vectors, axis=1).max())
    size = float(np.linalg.norm(user))
    return {"cosine": 1.0, "dot": size * longest, "euclidean": size + longest}[metric]


def check_border(near, n, scale):
    """Refuse a case whose candidates for the second stage are a matter of rounding."""
    if len(near) > n:
        gap = near[n - 1][1] - near[n][1]
        assert gap == 0 or gap > BORDER * scale, f"the case is ambiguous: candidates {gap} apart"
