"""The graphs that answer without this package, written into a bundle and compared with the engine.

recommend.onnx needs libshortlist.so in the host's ONNX Runtime; recommend_portable.onnx needs
nothing. Both are snapshots: items that an engine adds later are not in them.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shortlist._columns.ragged import Ragged
from shortlist._columns.requests import MISSING_INT, Columns, RequestSchema, normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.engine import Engine
from shortlist.export.errors import ExportError
from shortlist.export.heads import Head, PluginHead
from shortlist.export.parts import Parts
from shortlist.export.portable import PortableHead
from shortlist.export.recommend import OUTPUTS, recommend_graph
from shortlist.export.tensors import SharedTensors
from shortlist.index import Index
from shortlist.plugin import plugin_path
from shortlist.recommendations import SOURCES, Recommendations
from shortlist.training.data.arrays import Requests
from shortlist.training.graphs.sessions import open_session

PLUGIN_GRAPH = "recommend.onnx"
PORTABLE_GRAPH = "recommend_portable.onnx"
BATCH = 100
# Float32 sums of the portable graph against float64 ones rounded once; a scorer adds its own.
TOLERANCE = 1e-5
SCORER_TOLERANCE = 1e-4

Array = npt.NDArray[Any]
Answer = dict[str, Array]


def write_host_graphs(parts: Parts, index: Index, directory: Path, *, portable: bool) -> None:
    """Write the graphs beside items.index, and the encoder and the scorer again.

    Large tensors of all of them go to graphs.data, each once.

    Parameters
    ----------
    parts : Parts
    index : Index
        As saved in `directory`.
    directory : Path
        Of the bundle.
    portable : bool
        Write recommend_portable.onnx too.
    """
    heads: dict[str, Head] = {PLUGIN_GRAPH: PluginHead(directory, index)}
    if portable:
        heads[PORTABLE_GRAPH] = PortableHead(directory, index)
    graphs = {name: recommend_graph(parts, head) for name, head in heads.items()}
    graphs["user_encoder.onnx"] = parts.encoder
    if parts.scorer is not None:
        graphs["scorer.onnx"] = parts.scorer
    if parts.session is not None:
        graphs["session_encoder.onnx"] = parts.session
    shared = SharedTensors(directory)
    for name, graph in graphs.items():
        shared.save(graph, name)


def graph_inputs(columns: Columns, schema: RequestSchema) -> Answer:
    """Lay requests out as the graphs take them: histories to the right, missing values marked."""
    n = columns.n_requests
    is_text = schema.history_dtype == "string"
    lists = columns.histories
    if lists is None:
        none = np.empty(0, dtype=object if is_text else np.int64)
        lists = Ragged(none, np.zeros(n + 1, dtype=np.int64))
    inputs = {"history": lists.right_aligned("" if is_text else MISSING_INT)}
    for name in schema.event_columns:
        missing: Any = "" if name == "history_kinds" else np.nan
        events = columns.events.get(name)
        if events is None:
            dtype: Any = object if name == "history_kinds" else np.float32
            events = Ragged(np.full(len(lists.values), missing, dtype), lists.splits)
        inputs[name] = events.right_aligned(missing)
    for name, feature in schema.features.items():
        inputs[name] = columns.features.get(name, feature.missing(n))
    return inputs


@dataclass
class Check:
    """Compares a graph with an engine, a batch of requests at a time.

    Attributes
    ----------
    graph : str
        File name.
    tolerance : float
        0: every bit of the answer must be the same.
    n_users, n_identical, n_tied : int
        Requests compared; lists equal place by place; lists in which only items closer than the
        tolerance changed places.
    """

    graph: str
    tolerance: float
    n_users: int = 0
    n_identical: int = 0
    n_tied: int = 0

    def compare(self, answer: Answer, expected: Recommendations, is_open: Array) -> None:
        """Count a batch.

        Parameters
        ----------
        answer : dict of ndarray
            The graph's outputs.
        expected : Recommendations
            The engine's answer to the same requests.
        is_open : ndarray of shape (n,), bool
            Requests whose last candidate of the first stage ties with the next item, so that
            another choice of candidates is right too.

        Raises
        ------
        ExportError
            At the first request that is answered otherwise.
        """
        for i, rows in enumerate(answer["rows"]):
            is_right = self._is_same(answer, expected, i) or (is_open[i] and self.tolerance > 0)
            if not is_right:
                raise ExportError(
                    f"{self.graph}: it answers otherwise than the engine; nothing was written. "
                    f"First such request: number {self.n_users + i}\n"
                    f"  engine: {expected.item_ids[i].tolist()} {expected.scores[i].tolist()}\n"
                    f"  graph:  {answer['item_ids'][i].tolist()} {answer['scores'][i].tolist()}"
                )
            self.n_identical += bool(np.array_equal(rows, expected.indices[i]))
        self.n_users += len(answer["rows"])
        self.n_tied = self.n_users - self.n_identical

    def _is_same(self, answer: Answer, expected: Recommendations, i: int) -> bool:
        scores, wanted = answer["scores"][i], expected.scores[i]
        rows, wanted_rows = answer["rows"][i], expected.indices[i]
        n = int(expected.counts[i])
        is_same = answer["counts"][i] == n and SOURCES[answer["source"][i]] == expected.source[i]
        if self.tolerance == 0:
            is_same &= scores.tobytes() == wanted.tobytes() and np.array_equal(rows, wanted_rows)
            return bool(is_same and np.array_equal(answer["item_ids"][i], expected.item_ids[i]))
        if not is_same or not np.array_equal(rows[n:], wanted_rows[n:]) or n == 0:
            return bool(is_same)
        limit = self.tolerance * max(1.0, float(np.abs(wanted[:n]).max()))
        # An item may stand elsewhere only beside one that is as good, or at the end of the list.
        is_clear = np.append(-np.diff(wanted[:n]) > 2 * limit, False)
        is_alone = is_clear & np.append(True, is_clear[:-1])
        same_ids = np.array_equal(
            answer["item_ids"][i][:n][is_alone], expected.item_ids[i][:n][is_alone]
        )
        return bool(same_ids and np.all(np.abs(scores[:n] - wanted[:n]) <= limit))

    def to_dict(self) -> dict[str, float]:
        """Return tolerance and counts, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "graph"}


def check_host_graphs(
    engine: Engine, batches: Iterable[Requests], *, top_n: int
) -> dict[str, dict[str, float]]:
    """Compare the graphs of a loaded bundle with its engine.

    Parameters
    ----------
    engine : Engine
    batches : iterable of dict of columns
        Requests, at most `BATCH` each, without `user_id`: the graphs know no stored users.
    top_n : int
        Length of the lists.

    Returns
    -------
    dict of str to dict
        ``tolerance``, ``n_users``, ``n_identical`` and ``n_tied`` of each graph, see `Check`.

    Raises
    ------
    ExportError
        recommend.onnx differs from the engine in a bit, or recommend_portable.onnx by more than
        rounding.
    """
    bundle, schema = engine.bundle, request_schema(engine.bundle)
    tolerance = TOLERANCE if engine.default_stages == 1 else SCORER_TOLERANCE
    checks = {}
    plugin = Path(plugin_path())
    for name, allowed, library in ((PLUGIN_GRAPH, 0.0, plugin), (PORTABLE_GRAPH, tolerance, None)):
        if bundle.has(name):
            session = open_session(bundle.file(name), name=name, plugin=library)
            checks[name] = (session, Check(name, allowed))
    for requests in batches:
        feeds = graph_inputs(normalise(requests, schema), schema)
        expected = engine.recommend(requests, top_n=top_n)
        is_open = _is_open(engine, requests, top_n, expected.stages)
        for session, check in checks.values():
            values = session.run(list(OUTPUTS), {**feeds, "top_n": np.array([top_n])})
            check.compare(dict(zip(OUTPUTS, values, strict=True)), expected, is_open)
    return {name: check.to_dict() for name, (_, check) in checks.items()}


def _is_open(engine: Engine, requests: Requests, top_n: int, stages: Array) -> Array:
    """Say for each request whether its candidates for a second stage are a matter of rounding."""
    if not (stages == 2).any():
        return np.zeros(len(stages), np.bool_)
    second = engine.bundle.manifest.second_stage
    last = max(top_n, 1 if second is None else second.n_candidates)
    scores = engine.recommend(requests, top_n=last + 1, stages=1).scores
    is_tied = scores[:, last - 1] <= scores[:, last] + 2 * TOLERANCE
    return np.asarray((stages == 2) & is_tied & np.isfinite(scores[:, last]))
