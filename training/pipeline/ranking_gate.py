"""The ranking gate: what a smaller bundle's lists lose on held-out events, and how fast it is.

Lists go through `Engine.recommend`, for the same users as those of the bundle that is to be made
smaller, and are compared user by user.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.export.host_graphs import graph_inputs
from shortlist.training.evaluation.compression_report import METRIC, Figures, Step
from shortlist.training.evaluation.engine_ranker import EngineRanker
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.graphs.sessions import open_session

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, TypeAlias

    from shortlist.engine import Engine
    from shortlist.export.host_graphs import Answer
    from shortlist.training.data.arrays import Floats, Requests
    from shortlist.training.evaluation.evaluate import Evaluation
    from shortlist.training.splits.parts import Split

    Encoder: TypeAlias = tuple[Any, list[Answer]]  # a session, and inputs by size of a batch

__all__ = ["RankingGate"]

BATCHES = (1, 64)  # requests in a call of the encoder that is timed
N_CALLS = 15  # of which the median counts
N_ASKED = 256  # users whose requests scales are measured on and graphs compared by
SHOWN = ("HR@10", METRIC)


class RankingGate:
    """Measures bundles beside one, the same in the same way.

    Parameters
    ----------
    bundle : Path
        The bundle that is to be made smaller.
    split : Split
        Its validation part judges.
    tolerance : float
        Part of NDCG@10 that may be lost.
    include_seen : bool
        Items of the history are ranked, and count as targets.

    Attributes
    ----------
    before : Figures
        Of the bundle.
    n_users : int
    """

    def __init__(self, bundle: Path, split: Split, *, tolerance: float, include_seen: bool) -> None:
        self.split, self.tolerance = split, tolerance
        self._include_seen = include_seen
        with shortlist.load(bundle, n_threads=1) as engine:
            evaluation = self._rank(engine, "valid")
            self._requests = self._ask(engine, evaluation)
            self._per_user = evaluation.per_user()
            self._encoder = self._open(engine)
            self.before = self._figures(engine, evaluation, encoder_ms(self._encoder)[0])
        self.n_users = evaluation.users.measured

    def batches(self, size: int = 64) -> list[Requests]:
        """Return requests of the histories that are known, at most `N_ASKED`, some at once."""
        n = len(self._requests["history"])
        return [
            {name: values[i : i + size] for name, values in self._requests.items()}
            for i in range(0, n, size)
        ]

    def encoder_inputs(self, engine: Engine, size: int = 64) -> list[Answer]:
        """Return the same as a bundle's engine gives them to its user encoder."""
        schema, most = request_schema(engine.bundle), engine.bundle.manifest.max_history
        batches = [_with_last(batch, most) for batch in self.batches(size)]
        return [graph_inputs(normalise(batch, schema), schema) for batch in batches]

    def judge(self, name: str, bundle: Path) -> Step:
        """Measure a smaller form of the bundle, and say whether it loses too much."""
        with shortlist.load(bundle, n_threads=1) as engine:
            evaluation = self._rank(engine, "valid")
            before_ms, own_ms = encoder_ms(self._encoder, self._open(engine))
            figures = self._figures(engine, evaluation, own_ms)
        before = self._per_user[METRIC]
        difference = evaluation.per_user()[METRIC] - before
        mean, whole = float(difference.mean()), float(before.mean())
        loss = -mean / whole if whole > 0 else 0.0
        interval = bootstrap_intervals({METRIC: difference})[METRIC]
        speedup = {n: round(before_ms[n] / max(ms, 1e-6), 3) for n, ms in own_ms.items()}
        return Step(name, figures, loss, mean, interval, speedup, loss <= self.tolerance)

    def test_metrics(self, bundle: Path) -> dict[str, float]:
        """Measure a bundle on the test users; empty where there are none."""
        if self.split.target_events("test").height == 0:
            return {}
        with shortlist.load(bundle, n_threads=1) as engine:
            metrics = self._rank(engine, "test").metrics()
        return {name: metrics[name] for name in SHOWN}

    def _rank(self, engine: Engine, on: str) -> Evaluation:
        ranker = EngineRanker(engine, self.split)
        return evaluate_users(ranker, self.split, on, (10,), include_seen=self._include_seen)

    def _ask(self, engine: Engine, evaluation: Evaluation) -> Requests:
        """Make requests of users that were measured, evenly over them."""
        histories = self.split.histories("train")
        rows = {user: i for i, user in enumerate(histories.user_ids.tolist())}
        n = len(evaluation.user_ids)
        chosen = np.unique(np.linspace(0, n - 1, min(n, N_ASKED)).astype(np.int64))
        users = evaluation.user_ids[chosen]
        lists = [histories.rows_of(rows[user]) for user in users.tolist()]
        return EngineRanker(engine, self.split).requests(lists, users)

    def _open(self, engine: Engine) -> Encoder:
        """Open a bundle's user encoder, with inputs of each size of a batch."""
        path = engine.bundle.file("user_encoder.onnx")
        inputs = [self.encoder_inputs(engine, size)[0] for size in BATCHES]
        return open_session(path, name=path.name), inputs

    def _figures(self, engine: Engine, evaluation: Evaluation, speed: dict[str, float]) -> Figures:
        per_user: dict[str, Floats] = {name: evaluation.per_user()[name] for name in SHOWN}
        metrics = {name: float(values.mean()) for name, values in per_user.items()}
        interval = bootstrap_intervals(per_user)[METRIC]
        return Figures(engine.bundle.manifest.size, metrics, interval, speed)


def _with_last(requests: Requests, n: int) -> Requests:
    """Cut histories, and what is known of their events, to the last n: an engine does so too."""
    return {
        name: [None if own is None else own[-n:] for own in values]
        if name.startswith("history")
        else values
        for name, values in requests.items()
    }


def encoder_ms(*encoders: Encoder) -> list[dict[str, float]]:
    """Time encoders on one thread, in turns: processor milliseconds of a call, by its requests."""
    found: list[dict[str, float]] = [{} for _ in encoders]
    for place, size in enumerate(BATCHES):
        calls: list[list[float]] = [[] for _ in encoders]
        for _ in range(N_CALLS):
            for own, (session, inputs) in zip(calls, encoders, strict=True):
                started = time.thread_time()
                session.run(None, inputs[place])
                own.append(time.thread_time() - started)
        for entry, own in zip(found, calls, strict=True):
            entry[str(size)] = round(1e3 * statistics.median(own), 4)
    return found
