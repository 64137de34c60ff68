"""Four processes write to a feedback log, one updates the bundle from it, one serves: for minutes.

    python benchmarks/feedback_soak.py --minutes 5

A small shop is trained first. Writers append events one by one and in batches, with keys, and note
what the log acknowledged. Another process runs `shortlist update` again and again. This one answers
with the log, records what it showed, and swaps to every new version. At the end every acknowledged
event must be in the log once, every update must have ended well, and no answer have failed.
"""

from __future__ import annotations

import argparse
import collections
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import shortlist
from shortlist.bench.machine import describe_machine

N_WRITERS, N_USERS, N_ITEMS = 4, 200, 60
START = 1_700_000_000
TRAIN = ["--set", "model.dim=16", "--set", "model.hidden=16", "--set", "train.epochs=5",
         "--seed", "1", "--quiet"]  # fmt: skip


def events_of(users: Any, random: np.random.Generator, start: int) -> dict[str, Any]:
    """Give one event of each of these users: they walk through the items, with gaps."""
    n = len(users)
    items = (7 * users + (start - START) // 60 + random.integers(0, 5, n)) % N_ITEMS
    times = start + np.sort(random.integers(0, 60, n))
    return {"user_id": users, "item_id": items, "kind": ["event"] * n, "timestamp": times}


def write(path: Path, name: str, until: float, acknowledged: Path) -> None:
    """Append until the time is over; note every key after the log has acknowledged it."""
    random, n = np.random.default_rng(int(name)), 0
    clock = START + 1_000_000
    with shortlist.FeedbackLog(path) as log, open(acknowledged, "w") as noted:
        while time.time() < until:
            size = int(random.choice([1, 1, 1, 20, 200]))
            users = random.integers(0, N_USERS, size)
            clock += 60
            events: dict[str, Any] = events_of(users, random, clock)
            keys = [f"{name}-{n + i}" for i in range(size)]
            if size == 1:
                one = {column: values[0] for column, values in events.items()}
                n_new = int(log.append(**one, key=keys[0]))
            else:
                n_new = log.append_many({**events, "key": keys})
            assert n_new == size, f"{n_new} of {size} events were new"
            noted.write("".join(f"{key}\n" for key in keys))
            noted.flush()
            n += size
            time.sleep(float(random.random()) * 0.05)


def update(bundle: Path, log: Path, until: float) -> None:
    """Update again and again; the first that fails ends it."""
    n = collections.Counter[str]()
    while time.time() < until:
        call = [sys.executable, "-m", "shortlist.cli", "update", bundle, "--feedback", log]
        flags = ["--quiet", "--ignore-drift", "--set", "update.epochs=1"]
        done = subprocess.run([*call, *flags], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"update: exit status {done.returncode}: {done.stderr[-2_000:]}")
        n["replaced" if "is now" in done.stdout else "kept"] += 1
    print(f"updates: {dict(n)}", flush=True)


class Host:
    """Answers with the log, and swaps to new versions."""

    def __init__(self, bundle: Path, log: Path) -> None:
        self.n_answers = self.n_swaps = self.n_shown = 0
        self._bundle, self._log = bundle, log

    def serve(self, until: float) -> None:
        """Answer batches of users until the time is over."""
        random = np.random.default_rng(99)
        with shortlist.load(self._bundle) as engine, shortlist.FeedbackLog(self._log) as log:
            stamp = self._stamp()
            while time.time() < until:
                users = random.integers(0, N_USERS + 20, 16)
                shown = engine.recommend(
                    user_ids=users, feedback=log, record=True, explore=shortlist.Epsilon(0.1)
                )
                self.n_answers += len(users)
                self.n_shown += int(shown.counts.sum())
                if self._stamp() != stamp:
                    stamp = self._stamp()
                    engine.swap(self._bundle)
                    self.n_swaps += 1
                time.sleep(0.05)

    def _stamp(self) -> int:
        return (self._bundle / "manifest.json").stat().st_mtime_ns


def train(folder: Path) -> Path:
    """Train a small bundle."""
    random = np.random.default_rng(0)
    parts = [
        pl.DataFrame(events_of(np.arange(N_USERS), random, START + 60 * step)) for step in range(15)
    ]
    pl.concat(parts).write_csv(folder / "events.csv")
    bundle = folder / "shop.shortlist"
    call = [sys.executable, "-m", "shortlist.cli", "train", "--data", folder / "events.csv"]
    subprocess.run([*call, *TRAIN, "--out", bundle], check=True, capture_output=True)
    return bundle


def check(log: Path, notes: list[Path], n_shown: int) -> None:
    """Compare the log with what was acknowledged."""
    acknowledged = [key for note in notes for key in note.read_text().split()]
    with shortlist.FeedbackLog(log) as opened:
        table, n = opened.read(), len(opened)
    keys = [key for key in table.column("key").to_pylist() if key is not None]
    assert len(keys) == len(set(keys)), "an event is there twice"
    lost, more = set(acknowledged) - set(keys), set(keys) - set(acknowledged)
    assert not lost, f"{len(lost)} acknowledged events are lost"
    assert not more, f"{len(more)} events were never acknowledged"
    assert n == len(keys) + n_shown, f"{n - len(keys)} impressions, expected {n_shown}"
    print(f"log: {len(keys):,} events, {n_shown:,} impressions: none lost, none twice")


def main() -> None:
    """Start everything, wait, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        role, *told = args.role
        if role == "write":
            write(Path(told[0]), told[1], float(told[2]), Path(told[3]))
        else:
            update(Path(told[0]), Path(told[1]), float(told[2]))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        soak(Path(name), args.minutes)


def soak(folder: Path, minutes: float) -> None:
    """Run all processes for some minutes."""
    bundle, log = train(folder), folder / "feedback.log"
    until = time.time() + 60 * minutes
    notes = [folder / f"writer{i}" for i in range(N_WRITERS)]
    roles = [["write", log, str(i), str(until), note] for i, note in enumerate(notes)]
    roles.append(["update", bundle, log, str(until)])
    call = [sys.executable, __file__, "--role"]
    processes = [subprocess.Popen([*call, *map(str, role)]) for role in roles]
    host = Host(bundle, log)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            host.serve(until)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    statuses = [process.wait() for process in processes]
    thread.join()
    if failed:
        raise failed[0]
    assert not any(statuses), f"exit statuses {statuses}"
    print(f"answers: {host.n_answers:,} with {host.n_swaps} swaps")
    check(log, notes, host.n_shown)


if __name__ == "__main__":
    main()
