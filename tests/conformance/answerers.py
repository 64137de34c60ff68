"""Who answers the table, and what each is capable of: a new capability is one more name here."""

import ctypes
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pyarrow.compute as pc
from c_engine import CEngine, filter_of
from c_library import set_calibration, set_dampening, variety_of
from conformance.host_columns import c_columns, graph_tensors, item_columns

import shortlist
from shortlist.plugin import plugin_path

SOURCES = ("popular", "features", "stored history", "history")  # by the codes of the graphs
OUTPUTS = ("item_ids", "scores", "counts", "rows", "source")


@dataclass(frozen=True)
class Answer:
    """What came back; `stages` is None where the answerer does not say it.

    `reasons[i][j]`, where asked for: (item id, feature, drop, whether it leaves the list).
    """

    item_ids: np.ndarray
    scores: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    source: list
    stages: list | None = None
    reasons: list | None = None


class PythonEngine:
    """`shortlist.load(…).recommend`."""

    def __init__(self, world):
        self.engine, self.world = shortlist.load(world.path), world

    def answer(self, case, folder):
        if not case.changes:
            return self.ask(self.engine, case, folder)
        with shortlist.load(self.world.path) as engine:  # changes stay: one of its own
            for change, values in case.changes:
                getattr(engine, f"{change}_items")(values)
            return self.ask(engine, case, folder)

    def ask(self, engine, case, folder):
        options = {"where": where_of(case, self.world), "stages": case.stages, **wishes_of(case)}
        reasons = None
        if case.n_reasons:
            options |= {"exclude_seen": case.exclude_seen, "thorough": True}
            said = engine.explain(case.requests, case.top_n, case.n_reasons, **options)
            found, reasons = said.answer, said.reasons
        elif not case.log:
            found = engine.recommend(case.requests, case.top_n, case.exclude_seen, **options)
        else:
            with shortlist.FeedbackLog(folder / "feedback.log") as log:
                for act in case.log:
                    log.append(user_id=act.user_id, item_id=act.item_id, kind=act.kind,
                               timestamp=act.time, value=act.value)  # fmt: skip
                found = engine.recommend(case.requests, case.top_n, case.exclude_seen, **options,
                                         feedback=log, now=case.now)  # fmt: skip
        return Answer(
            found.item_ids, found.scores, found.counts, found.indices,
            found.source.tolist(), found.stages.tolist(), as_tuples(reasons),
        )  # fmt: skip

    def close(self):
        self.engine.close()


class PythonSessions(PythonEngine):
    """`Engine.session`: each request is a session to which its history happens."""

    def ask(self, engine, case, folder):
        if not case.requests:
            return super().ask(engine, case, folder)
        return joined([self.ask_one(engine, case.alone(i)) for i in range(len(case.requests))])

    def ask_one(self, engine, case):
        first, events = events_of(case.requests[0], self.world)
        session = engine.session(first)
        for item, kind in events:
            session.append([item], kind)
            session.recommend(2)  # a state comes from one before
        found = session.recommend(case.top_n, where_of(case, self.world),
                                  exclude_seen=case.exclude_seen, stages=case.stages,
                                  **wishes_of(case))  # fmt: skip
        return Answer(found.item_ids, found.scores, found.counts, found.indices,
                      found.source.tolist(), found.stages.tolist())  # fmt: skip


def events_of(request, world):
    """A request that a session begins with, and the events after it: [(item id, kind)].

    A history that is longer than the encoder looks is there at the beginning, as the last events.
    """
    history = request.get("history") or []
    if len(history) > world.manifest["max_history"]:
        return request, []
    kinds = request.get("history_kinds") or [None] * len(history)
    first = {k: v for k, v in request.items() if k not in ("history", "history_kinds")}
    return first, [(i, k or None) for i, k in zip(history, kinds, strict=True) if i is not None]


def joined(answers):
    """Answers of single requests as one."""
    columns = zip(*((a.item_ids, a.scores, a.counts, a.rows) for a in answers), strict=True)
    return Answer(*(np.concatenate(column) for column in columns),
                  [one for a in answers for one in a.source],
                  [one for a in answers for one in a.stages])  # fmt: skip


def wishes_of(case):
    """What a case wants of its lists as a whole, as Python takes it."""
    options = {}
    if "variety" in case.needs():
        options["at_most"] = case.at_most
        options["at_least"] = {quota.text: quota.least for quota in case.at_least}
        options["diversity"] = case.diversity
        options["popularity_dampening"] = case.dampening
    if case.calibrate is not None:
        column, shares, strength = case.calibrate
        options["calibrate"] = {column: (shares, strength)}
    return options


def as_tuples(reasons):
    """Reasons of Python as those of C are."""
    return reasons and [
        [[(r.item_id, r.feature, r.drop, r.leaves_list) for r in of_item] for of_item in of_request]
        for of_request in reasons
    ]


def where_of(case, world):
    """A case's filter as `where`: one expression for all, or one a request."""
    is_one, per_request, chosen = True, [[] for _ in case.requests], case.filter
    item_id = pc.field("item_id")
    for i, parts in enumerate(per_request):
        if chosen.allow is not None:
            is_one &= not chosen.has_list_for_each
            allow = chosen.allow[i] if chosen.has_list_for_each else chosen.allow
            parts.append(item_id.isin(allow))
        if chosen.exclude is not None:
            is_one = False
            parts.append(~item_id.isin(chosen.exclude[i]))
        if chosen.mask is not None:
            is_one &= chosen.mask.ndim == 1
            mask = chosen.mask if chosen.mask.ndim == 1 else chosen.mask[i]
            parts.append(item_id.isin(world.item_ids[mask].tolist()))
        if chosen.where is not None:
            is_one &= not isinstance(chosen.where, list)
            where = chosen.where[i] if isinstance(chosen.where, list) else chosen.where
            parts += [] if where is None else [where.expression]
    wheres = []
    for parts in per_request:
        whole = parts[0] if parts else None
        for part in parts[1:]:
            whole &= part
        wheres.append(whole)
    return next(iter(wheres), None) if is_one else wheres


def coded(contents, name):
    """A column as numbers and splits, and the numbers by value."""
    lists = [content.get(name) for content in contents]
    lists = [own if isinstance(own, list) else [own] for own in lists]
    known = {value: i for i, value in enumerate(sorted(set().union(*lists) - {None}))}
    values = [known.get(value, -1) for own in lists for value in own]
    return (values, np.cumsum([0, *map(len, lists)])), known


class COverCtypes:
    """The engine of the C ABI, called by a host that knows its items."""

    def __init__(self, world):
        self.engine, self.world = CEngine(world.path), world

    def answer(self, case, _):
        items = HostItems(self.world)
        if not case.changes:
            return self.ask(self.engine, case, items)
        with CEngine(self.world.path) as engine:  # changes stay: one of its own
            for change, values in case.changes:
                getattr(items, change)(engine, values)
            return self.ask(engine, case, items)

    def wanted(self, engine, case, items):
        """The filter of a case, with what it wants of its lists; None where there is neither."""
        made = self.filter(engine, case, items) if any(case.filter.forms()) else None
        if "variety" in case.needs():
            made = made or filter_of()
            made.variety = ctypes.pointer(self.variety(engine, case, items))
        return made

    def ask(self, engine, case, items):
        columns, n = c_columns(self.world, case.requests), len(case.requests)
        made = self.wanted(engine, case, items)
        options = {"stages": case.stages or 0}
        ask = engine.recommend
        if case.n_reasons:
            ask, options = engine.explain, options | {"n_reasons": case.n_reasons, "thorough": True}
        found = ask(columns, n, case.top_n, not case.exclude_seen, made, **options)
        source = [SOURCES[code] for code in found.sources]
        return Answer(found.item_ids, found.scores, found.counts, found.rows, source,
                      found.stages.tolist(), getattr(found, "reasons", None))  # fmt: skip

    def variety(self, engine, case, items):
        """Columns as numbers and quotas as masks of the rows as they are now."""
        view = engine.view()
        contents = [items.contents.get(item_id, {}) for item_id in view.item_ids()]
        view.close()
        columns = []
        for name, most in case.at_most.items():
            columns.append((coded(contents, name)[0], most))
        quotas = [
            ([bool(content) and quota.passes(content) for content in contents], quota.least)
            for quota in case.at_least
        ]
        n = len(case.requests)
        made = variety_of(len(contents), n, columns, quotas, case.diversity or None)
        if case.calibrate is not None:
            name, shares, strength = case.calibrate
            column, known = coded(contents, name)
            if shares != "history":
                shares = {known[value]: share for value, share in shares.items()}
            set_calibration(made, n, column, None if shares == "history" else shares, strength)
        if case.dampening > 0:
            events = [content.get("n_events") or 0 for content in contents]
            set_dampening(made, n, np.log1p(events), case.dampening)
        return made

    def filter(self, engine, case, items):
        """Lists and masks as they are; an expression is a mask of the rows as they are now."""
        chosen = case.filter
        if chosen.where is None:
            return filter_of(allow=chosen.allow, exclude=chosen.exclude, allow_mask=chosen.mask)
        wheres = chosen.where if isinstance(chosen.where, list) else [chosen.where]
        view = engine.view()
        contents = [items.contents.get(item_id) for item_id in view.item_ids()]
        view.close()
        mask = [
            [
                content is not None and (where is None or where.passes(content))
                for content in contents
            ]
            for where in wheres
        ]
        assert chosen.allow is None
        assert chosen.mask is None
        one = np.array(mask if isinstance(chosen.where, list) else mask[0])
        return filter_of(exclude=chosen.exclude, allow_mask=one)

    def close(self):
        self.engine.close()


class CSessions(COverCtypes):
    """Sessions of the C ABI: each request is one to which its history happens."""

    def ask(self, engine, case, items):
        n = len(case.requests)
        if n == 0:
            return super().ask(engine, case, items)
        return joined([self.ask_one(engine, case.alone(i), items) for i in range(n)])

    def ask_one(self, engine, case, items):
        first, events = events_of(case.requests[0], self.world)
        session = engine.session(c_columns(self.world, [first]))
        for item, kind in events:
            session.append([item], kind)
        found = session.recommend(
            case.top_n,
            not case.exclude_seen,
            self.wanted(engine, case, items),
            stages=case.stages or 0,
        )
        session.close()
        source = [SOURCES[code] for code in found.sources]
        return Answer(found.item_ids, found.scores, found.counts, found.rows, source,
                      found.stages.tolist())  # fmt: skip


class HostItems:
    """What a host keeps of its items, so that it can give all features of those that change."""

    def __init__(self, world):
        self.features = world.item_features
        self.contents = {content["item_id"]: content for content in world.items.to_pylist()}

    def upsert(self, engine, given):
        changed = []
        for content in given:
            item_id, old = content["item_id"], self.contents.get(content["item_id"])
            self.contents[item_id] = {**(old or {}), **content}
            if old is None or any(feature.name in content for feature in self.features):
                changed.append(self.contents[item_id])
        if changed:
            ids = [content["item_id"] for content in changed]
            engine.upsert(ids, item_columns(self.features, changed))

    def remove(self, engine, item_ids):
        for item_id in item_ids:
            self.contents.pop(item_id, None)
        engine.remove(item_ids)


class Graph:
    """A graph of the bundle in plain ONNX Runtime."""

    def __init__(self, world, name, library=None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        if library is not None:
            options.register_custom_ops_library(str(library))
        self.session = onnxruntime.InferenceSession(world.path / name, options)
        self.world = world
        optional = [given.name for given in self.session.get_overridable_initializers()]
        self.has_stages = "stages" in optional

    def answer(self, case, _):
        feeds = graph_tensors(self.world, case.requests)
        feeds["top_n"] = np.array([case.top_n])
        if not case.exclude_seen:
            feeds["exclude_seen"] = np.array([False])
        if case.stages is not None and self.has_stages:
            feeds["stages"] = np.array([case.stages])
        found = self.session.run(OUTPUTS, feeds | self.filters(case.filter))
        source = [SOURCES[code] for code in found[4]]
        return Answer(*found[:4], source)

    def filters(self, chosen):
        """The filter as rows and splits."""
        row_of = {item_id: row for row, item_id in enumerate(self.world.item_ids.tolist())}
        feeds = {}
        for name in ("allow", "exclude"):
            lists = getattr(chosen, name)
            if lists is None:
                continue
            lists = lists if lists and isinstance(lists[0], list) else [lists]
            rows = [[row_of[item] for item in part if item in row_of] for part in lists]
            feeds[name] = np.array([row for part in rows for row in part], np.int64)
            feeds[f"{name}_splits"] = np.cumsum([0, *map(len, rows)])
        if chosen.mask is not None:
            feeds["allow_mask"] = chosen.mask.astype(np.uint8)
        return feeds

    def close(self):
        self.session = None


@dataclass(frozen=True)
class Can:
    """An answerer: how it is opened on a world, what it can, and how exact it is.

    `can` holds names of `Case.needs`. Exact ones agree with each other to the bit; those that take
    requests one by one do with the others where there is one, as sums over longer rows round
    otherwise.
    """

    opens: object
    can: frozenset
    is_exact: bool = True
    is_one_by_one: bool = False


LISTS = frozenset({"allow", "allow each", "exclude", "mask"})
ANSWERERS = {
    "python engine": Can(
        PythonEngine,
        LISTS
        | {"users", "mask each", "where", "stages", "changed items", "changed counts", "feedback"}
        | {"variety", "reasons", "ages"},
    ),
    "python sessions": Can(
        PythonSessions,
        LISTS | {"mask each", "where", "stages", "changed items", "changed counts", "variety"},
        is_one_by_one=True,
    ),
    "c engine": Can(
        COverCtypes,
        LISTS
        | {"users", "mask each", "where", "stages", "changed items"}
        | {"variety", "reasons", "ages"},
    ),
    "c sessions": Can(
        CSessions,
        LISTS | {"mask each", "where", "stages", "changed items", "variety"},
        is_one_by_one=True,
    ),
    "recommend.onnx": Can(
        lambda world: Graph(world, "recommend.onnx", plugin_path()), LISTS | {"stages", "ages"}
    ),
    "recommend_portable.onnx": Can(
        lambda world: Graph(world, "recommend_portable.onnx"),
        frozenset({"stages", "ages"}),
        is_exact=False,
    ),
}
