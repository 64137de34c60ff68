"""Time a bundle's stages by batch size, after its answers were checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import shortlist
from shortlist.bench.machine import describe_machine
from shortlist.errors import ShortlistError

if TYPE_CHECKING:
    from shortlist.engine import Engine

__all__ = ["BenchResult", "bench_bundle", "every_10_ms"]

_N_CHECKED = 64  # requests whose answers are checked against the float64 reference
_MIN_CALLS = 30  # below this a p90 means nothing, however slow a call is
_GAP = 0.01  # seconds from one request to the next in a service that is not busy
_BUSY_LOAD = 1.0  # runnable threads a core, before the run, from which other work delays calls
_BUSY_WAIT = 0.2  # part of the search's time without a core, from which the same holds

Timing = tuple[int, int]  # wall and CPU nanoseconds of a call


@dataclass(frozen=True)
class BenchResult:
    """One cell: a stage at a batch size. Times are microseconds a call.

    `pace` is "warm" where call follows call, or "every 10 ms": then the caches have gone cold.
    `cpu_us` is the median CPU time of a call, of all threads of the process: other work on the
    machine hardly changes it.
    """

    stage: str
    batch: int
    pace: str
    n_calls: int
    p50_us: float
    p90_us: float
    p99_us: float
    cpu_us: float
    requests_per_s: float


def bench_bundle(
    path: str | Path,
    *,
    batches: Sequence[int] = (1, 8, 64, 512),
    top_n: int = 10,
    history_length: int = 50,
    n_threads: int = 1,
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
    seconds: float = 1.0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure latency and throughput of a bundle.

    Parameters
    ----------
    path : str or Path
        The bundle.
    batches : sequence of int
        Requests a call.
    top_n : int
        Items a request.
    history_length : int
        Items in each request's history, drawn from the catalogue; they are excluded as seen. In a
        small catalogue fewer are drawn, so that `top_n` items are left to recommend.
    n_threads : int
        Threads of the encoder and of the search; 0 = all cores.
    device : {"auto", "cpu", "cuda"}
        Where the encoder runs.
    seconds : float
        Time spent on each cell (stage × batch size).
    seed : int
        Seed of the histories.
    progress : callable, optional
        Called with one line of text before each batch size.

    Returns
    -------
    dict
        `machine`, `settings`, `bundle`, `verified`, `results` (one `BenchResult` as dict a cell)
        and `warnings` (list of str: that the times are those of a busy machine). `encode` is the
        user encoder with its lookups, `search` the exact top-N with the history excluded,
        `recommend` the whole call a host makes with one stage, and `recommend, reranked` with the
        second one, if the bundle has it. Single requests are measured twice: one right after the
        other, and one every 10 ms, as a host has them.

    Raises
    ------
    ShortlistError
        An answer differs from the reference, or there is none to compare: no time is reported then.
    """
    least = {"batches": min(batches, default=0), "top_n": top_n, "history_length": history_length}
    for name, value in least.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    if not seconds > 0:
        raise ValueError(f"seconds: got {seconds}, expected a positive number of seconds")
    machine, load, n_cpus = describe_machine(), os.getloadavg()[0], len(os.sched_getaffinity(0))
    with shortlist.load(path, device=device, n_threads=n_threads) as engine:
        history_length = max(1, min(history_length, len(engine.index) - top_n))
        requests = _draw_requests(engine, max(*batches, _N_CHECKED), history_length, seed)
        verified = _check_answers(engine, requests["history"][:_N_CHECKED], top_n)
        results: list[BenchResult] = []
        searches: list[Timing] = []
        for batch in batches:
            if progress:
                progress(f"batch {batch}")
            cells, own = _time_batch(engine, requests["history"], batch, top_n, n_threads, seconds)
            results += cells
            searches += own
        return {
            "machine": machine,
            "settings": {
                "top_n": top_n,
                "history_length": history_length,
                "n_threads": n_threads,
                "device": device,
                "seconds_per_cell": seconds,
                "seed": seed,
            },
            "bundle": {
                "path": str(path),
                "n_items": len(engine.index),
                "dim": engine.index.dim,
                "metric": engine.index.metric,
                "size": engine.bundle.manifest.size,
                "storage": engine.index.storage,
                "compression": engine.bundle.manifest.to_dict().get("compression"),
            },
            "engine": engine.report(),
            "verified": verified,
            "results": [asdict(result) for result in results],
            "warnings": busy_machine(load, n_cpus, searches),
        }


def busy_machine(load_average: float, n_cpus: int, searches: Sequence[Timing]) -> list[str]:
    """Return a warning if other work delayed the calls, else nothing.

    Parameters
    ----------
    load_average : float
        Of the minute before the run.
    n_cpus : int
        Cores that this process may use.
    searches : sequence of (int, int)
        Wall and CPU nanoseconds of searches: they only compute, so what is more than the CPU time
        was spent waiting for a core.
    """
    wall, cpu = (sum(timing[i] for timing in searches) for i in (0, 1))
    waited = max(0.0, 1 - cpu / wall) if wall else 0.0
    if load_average <= _BUSY_LOAD * n_cpus and waited <= _BUSY_WAIT:
        return []
    return [
        f"the machine was busy (load average {load_average:.1f} on {n_cpus} cores before the run; "
        f"searches waited {waited:.0%} of their time for a core). On a free "
        "machine the times are shorter. Fix: stop other work and run it again"
    ]


def _draw_requests(
    engine: Engine, n_requests: int, history_length: int, seed: int
) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    item_ids = np.asarray(engine.index.item_ids)
    draws = (random.choice(item_ids, history_length, replace=False) for _ in range(n_requests))
    return {"history": list(draws)}


def _check_answers(engine: Engine, histories: list[Any], top_n: int) -> dict[str, float]:
    """Compare `recommend` and `search` with a float64 brute force over the same embeddings."""
    embeddings = engine.encode_users({"history": histories})
    index = engine.index
    items = index.vectors(np.arange(len(index))).astype(np.float64)
    queries = embeddings.astype(np.float64)
    scores = _reference_scores(queries, items, index.metric)
    for row, history in enumerate(histories):
        scores[row, index.rows_of(history)] = -np.inf
    best = -np.sort(-scores, axis=1)[:, :top_n]
    hits = index.search(embeddings, top_n=top_n, exclude=histories)
    recommendations = engine.recommend({"history": histories}, top_n=top_n, stages=1)
    if not np.array_equal(hits.item_ids, recommendations.item_ids):
        raise ShortlistError("bench: recommend and search disagree on item ids; no time reported")
    scores = np.where(hits.indices >= 0, hits.scores, -np.inf)[:, : best.shape[1]]
    with np.errstate(invalid="ignore"):  # −inf − −inf: both rows are short, which is equal
        difference = np.abs(scores - best)
    largest = float(np.nanmax(np.where(scores == best, 0.0, difference), initial=0.0))
    tolerance = 1e-5 * max(1.0, float(np.abs(best[np.isfinite(best)]).max(initial=0.0)))
    if not largest <= tolerance:
        raise ShortlistError(
            f"bench: scores differ from the float64 reference by {largest:.3g}, expected at most "
            f"{tolerance:.3g}; no time reported"
        )
    n_scores = int(np.isfinite(best).sum())
    if n_scores == 0:
        raise ShortlistError(
            f"bench: the bundle has {len(index)} item(s), expected more than the one in each "
            "history: there is no answer to check; no time reported"
        )
    return {
        "n_requests": len(histories),
        "n_scores": n_scores,
        "largest_score_difference": largest,
    }


def _reference_scores(queries: Any, items: Any, metric: str) -> Any:
    if metric == "euclidean":
        squared = (queries**2).sum(1)[:, None] - 2 * queries @ items.T + (items**2).sum(1)
        return -np.sqrt(np.maximum(squared, 0))
    if metric == "cosine":
        for rows in (queries, items):
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            np.divide(rows, norms, out=rows, where=norms > 0)
    return queries @ items.T


def _time_batch(
    engine: Engine, histories: list[Any], batch: int, top_n: int, n_threads: int, seconds: float
) -> tuple[list[BenchResult], list[Timing]]:
    """Time the stages in turn, round by round, so that drift hits all of them alike.

    Returns the cells, and the timings of the searches.
    """
    groups = [histories[start : start + batch] for start in range(0, len(histories), batch)]
    groups = [group for group in groups if len(group) == batch]
    embeddings = [engine.encode_users({"history": group}) for group in groups]

    def encode(i: int) -> object:
        return engine.encode_users({"history": groups[i]})

    def search(i: int) -> object:
        return engine.index.search(
            embeddings[i], top_n=top_n, exclude=groups[i], n_threads=n_threads
        )

    def recommend(i: int) -> object:
        return engine.recommend({"history": groups[i]}, top_n=top_n, stages=1)

    def reranked(i: int) -> object:
        return engine.recommend({"history": groups[i]}, top_n=top_n, stages=2)

    calls = {"encode": encode, "search": search, "recommend": recommend}
    if engine.default_stages == 2:
        calls["recommend, reranked"] = reranked
    whole = [stage for stage in calls if stage.startswith("recommend")]
    times: dict[str, list[Timing]] = {stage: [] for stage in calls}
    for call in calls.values():  # warm-up: first calls allocate
        call(0)
    deadline = time.perf_counter() + seconds * len(calls)
    n_rounds = 0
    while n_rounds < _MIN_CALLS or time.perf_counter() < deadline:
        for stage, call in calls.items():
            times[stage].append(_clock(call, n_rounds % len(groups)))
        n_rounds += 1
    results = [_summarise(stage, batch, "warm", times[stage]) for stage in calls]
    if batch == 1:
        n_calls = max(_MIN_CALLS, int(seconds / _GAP))
        for stage in whole:
            slow = every_10_ms(calls[stage], [i % len(groups) for i in range(n_calls)])
            results.append(_summarise(stage, batch, "every 10 ms", slow))
    return results, times["search"]


def _clock(call: Callable[[int], object], i: int) -> Timing:
    cpu_start, start = time.process_time_ns(), time.perf_counter_ns()
    call(i)
    wall = time.perf_counter_ns() - start
    return wall, time.process_time_ns() - cpu_start


def every_10_ms(call: Callable[[int], object], numbers: Sequence[int]) -> list[Timing]:
    """Call with each of the numbers, one every 10 ms; return wall and CPU ns of each call.

    The thread sleeps in between, so that a call finds cold caches and a core that has rested.

    Parameters
    ----------
    call : callable
    numbers : sequence of int
        What it takes, call by call.
    """
    times, due = [], time.perf_counter()
    for i in numbers:
        due = max(due + _GAP, time.perf_counter())  # late calls are not made up for
        time.sleep(max(0.0, due - time.perf_counter()))
        times.append(_clock(call, i))
    return times


def _summarise(stage: str, batch: int, pace: str, timings: list[Timing]) -> BenchResult:
    microseconds, cpu = np.asarray(timings, dtype=np.float64).T / 1e3
    p50, p90, p99 = np.percentile(microseconds, [50, 90, 99])
    return BenchResult(
        stage=stage,
        batch=batch,
        pace=pace,
        n_calls=len(timings),
        p50_us=round(float(p50), 2),
        p90_us=round(float(p90), 2),
        p99_us=round(float(p99), 2),
        cpu_us=round(float(np.median(cpu)), 2),
        requests_per_s=round(batch * len(timings) / (microseconds.sum() / 1e6), 1),
    )
