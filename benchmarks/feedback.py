"""What the feedback log costs: writing events, and reading a user's recent ones in `recommend`.

    python benchmarks/feedback.py --bundle movies.shortlist --events 200000
    python benchmarks/feedback.py --bundle movies.shortlist --url postgresql+psycopg://user@host/db

Users do 20 events each (half of those asked about have none of their own before), impressions are
ten a request. Answers with the log are compared with those to the joined histories first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shortlist
from shortlist.bench.machine import describe_machine

EVENTS_A_USER = 20
IMPRESSIONS_A_USER = 100
NOON = 1_714_564_800


def fill(log: shortlist.FeedbackLog, item_ids: Any, n_events: int) -> None:
    """Write events and impressions, and say how fast events go in."""
    random = np.random.default_rng(1)
    n_users = n_events // EVENTS_A_USER
    users = 10_000_000 + np.repeat(np.arange(n_users), EVENTS_A_USER)
    order = random.permutation(n_events)
    events = {
        "user_id": users[order],
        "item_id": random.choice(item_ids, n_events),
        "kind": np.full(n_events, "click", dtype=object),
        "timestamp": NOON + np.arange(n_events),
        "key": np.array([f"event-{i}" for i in range(n_events)], dtype=object),
    }
    start = time.perf_counter()
    log.append_many(events)
    seconds = time.perf_counter() - start
    assert len(log) == n_events
    print(f"append_many: {n_events:,} events with keys, {n_events / seconds:,.0f} a second")
    n = n_users * IMPRESSIONS_A_USER
    shown = {
        "user_id": 10_000_000 + np.repeat(np.arange(n_users), IMPRESSIONS_A_USER),
        "item_id": random.choice(item_ids, n),
        "kind": np.full(n, "impression", dtype=object),
        "timestamp": NOON + np.arange(n) // 10,
        "rank": np.arange(n) % 10 + 1,
        "propensity": np.full(n, 0.5),
    }
    start = time.perf_counter()
    log.append_many(shown)
    seconds = time.perf_counter() - start
    print(f"append_many: {n:,} impressions, {n / seconds:,.0f} a second")


def median_ms(call: Callable[[], Any], seconds: float = 3.0) -> float:
    """Call for some seconds; return the median in milliseconds."""
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 20:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def main() -> None:
    """Fill a log, check the answers, print times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--url", help="an empty database, instead of a file")
    args = parser.parse_args()
    print(describe_machine())
    folder = tempfile.TemporaryDirectory(dir=Path.cwd())
    engine = shortlist.load(args.bundle)
    with folder, shortlist.FeedbackLog(args.url or Path(folder.name) / "log") as log:
        fill(log, engine.index.item_ids, args.events)
        for batch in (1, 512):
            compare(engine, log, batch)


def compare(engine: shortlist.Engine, log: shortlist.FeedbackLog, batch: int) -> None:
    """Time a batch with the log, and with the same histories in the request."""
    users = (10_000_000 + np.arange(batch)).tolist()
    acts = [found for found in log.acts(users) if found is not None]
    requests = {"user_id": users, "history": [done.item_ids for done in acts]}
    given = engine.recommend(requests, stages=1)
    found = engine.recommend(user_ids=users, feedback=log, stages=1)
    assert found.item_ids.tolist() == given.item_ids.tolist()
    explore = shortlist.Softmax(0.3, seed=1)
    for name, call in (
        ("history in the request", lambda: engine.recommend(requests, stages=1)),
        ("from the log", lambda: engine.recommend(user_ids=users, feedback=log, stages=1)),
        ("the log's query alone", lambda: log.acts(users)),
        (
            "from the log, exploring",
            lambda: engine.recommend(user_ids=users, feedback=log, stages=1, explore=explore),
        ),
    ):
        print(f"batch {batch:>3}, {name:<24} {median_ms(call):8.3f} ms")


if __name__ == "__main__":
    main()
