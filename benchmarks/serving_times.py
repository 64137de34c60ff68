"""How `serving.py` takes times: in turns, one call every 10 ms, and with requests at random."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shortlist.bench.measure import every_10_ms

TURN = 5e-3  # seconds of calls, after one that does not count, …
LONG = 5e-2  # … but one of so many seconds counts: caches are no matter to it
SLOW_TURN = 50  # calls, one every 10 ms
Calls = dict[str, Callable[[int], Any]]


def measure(calls: Calls, n_batches: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median and 99th percentile of each call in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names, stop, turn = list(calls), time.perf_counter() + seconds, 0
    while turn < 20 or time.perf_counter() < stop:
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name] += take_turn(calls[name], turn, n_batches)
        turn += 1
    return {name: quantiles(values[len(values) // 10 :]) for name, values in times.items()}


def measure_every_10_ms(
    calls: Calls, n_batches: int, seconds: float
) -> dict[str, dict[str, float]]:
    """The same of calls that come one every 10 ms, each way alone for half a second a turn."""
    own = {name: call for name, call in calls.items() if not hasattr(call, "own_seconds")}
    times: dict[str, list[int]] = {name: [] for name in own}
    stop, first = time.perf_counter() + seconds, 0
    while first < 2 * SLOW_TURN or time.perf_counter() < stop:
        for name, call in own.items():
            numbers = [(first + i) % n_batches for i in range(SLOW_TURN)]
            times[name] += [wall for wall, _ in every_10_ms(call, numbers)]
        first += SLOW_TURN
    return {name: quantiles(np.array(values) / 1e9) for name, values in times.items()}


def take_turn(call: Callable[[int], Any], first: int, n_batches: int) -> list[float]:
    """Return seconds of a turn's calls; the first one, which finds the caches cold, is left out."""
    times: list[float] = []
    began = time.perf_counter()
    while not times or (len(times) < 2 and times[0] < LONG) or time.perf_counter() - began < TURN:
        start = time.perf_counter()
        call((first + len(times)) % n_batches)
        seconds = time.perf_counter() - start
        times.append(getattr(call, "own_seconds", seconds))
    return times[1:] or times


def quantiles(seconds: Any) -> dict[str, float]:
    return {
        "p50_us": float(np.median(seconds)) * 1e6,
        "p99_us": float(np.percentile(seconds, 99)) * 1e6,
    }


def open_loop(
    calls: Calls, closed: dict[str, dict[str, float]], n_batches: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Time from arrival to answer, at random arrivals at half of each one's closed-loop rate."""
    told = {}
    for name, call in calls.items():
        if hasattr(call, "own_seconds"):
            continue  # what passes between the processes would count
        gap = 2e-6 * closed[name]["p50_us"]
        n_arrivals = int(np.clip(seconds / gap, 100, 100_000))
        arrivals = np.random.default_rng(9).exponential(gap, n_arrivals).cumsum()
        waits = []
        start = time.perf_counter()
        for turn, arrival in enumerate(arrivals):
            while time.perf_counter() - start < arrival:
                pass
            call(turn % n_batches)
            waits.append(time.perf_counter() - start - arrival)
        told[name] = quantiles(waits) | {"per_second": 1 / gap}
    return told
