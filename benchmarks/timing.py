"""Interleaved timing: engines take turns, so that drift and neighbours hit all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Each turn repeats a short call for this long; the first repeat is a warm-up and does not count.
_TURN_SECONDS = 5e-3
# A call longer than this needs no warm-up within a turn.
_LONG_CALL = 50e-3
_MIN_ROUNDS = 5
_MIN_LONG_TURNS = 3  # of an engine whose turns have used up the time of the cell
# An engine this many times slower than the fastest one is timed once more after its checked call…
_SLOW_FACTOR = 20
# …and not even that if the checked call took longer than this.
_VERY_LONG_CALL = 10.0


@dataclass
class Clock:
    """Times of one engine's calls in seconds: wall and CPU time of the whole process."""

    first: tuple[float, float]
    turns: list[tuple[float, float]] = field(default_factory=list)
    n_calls: int = 0
    spent: float = 0.0

    def median_ms(self, clock: int) -> float:
        """Median over the turns; the checked call alone if there was none."""
        return float(np.median([turn[clock] for turn in self.turns or [self.first]])) * 1e3


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Return what the call returns, and its wall and CPU seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    answer = call()
    return answer, (time.perf_counter() - wall, time.process_time() - cpu)


def _turn(call: Callable[[], Any], clock: Clock) -> None:
    is_short = clock.first[0] < _LONG_CALL
    if is_short:
        call()
    start = time.perf_counter()
    times: list[tuple[float, float]] = []
    while not times or (is_short and time.perf_counter() - start < _TURN_SECONDS):
        times.append(timed(call)[1])
    clock.n_calls += len(times)
    clock.spent += time.perf_counter() - start
    wall, cpu = np.median(np.array(times), axis=0)
    clock.turns.append((float(wall), float(cpu)))


def take_turns(
    calls: dict[str, Callable[[], Any]], first: dict[str, tuple[float, float]], seconds: float
) -> dict[str, Clock]:
    """Time every call in turns for about `seconds`; five turns each, three of calls that long.

    Parameters
    ----------
    calls : dict
        By engine: what to time.
    first : dict
        Wall and CPU seconds of each engine's first call, the one whose answer was checked.
    """
    clocks = {name: Clock(first[name]) for name in calls}
    fastest = min(wall for wall, _ in first.values())
    deadline = time.perf_counter() + seconds
    n_rounds = 0
    names = list(calls)
    while n_rounds < _MIN_ROUNDS or time.perf_counter() < deadline:
        for name in names[n_rounds % len(names) :] + names[: n_rounds % len(names)]:
            clock = clocks[name]
            is_slow = clock.first[0] > max(_SLOW_FACTOR * fastest, seconds / _MIN_ROUNDS)
            if is_slow and (clock.turns or clock.first[0] > _VERY_LONG_CALL):
                continue
            if len(clock.turns) >= _MIN_LONG_TURNS and clock.spent > seconds:
                continue
            _turn(calls[name], clock)
        n_rounds += 1
    return clocks
