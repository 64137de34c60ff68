"""Search, upsert, remove, save and load at once for minutes; check every answer; watch the memory.

    python benchmarks/soak.py --minutes 10

How an answer is checked while the index changes: soak_model.py. Memory is the resident set of the
process, sampled every half second. After a warm-up of a fifth of the time, its median over the last
quarter must not exceed that over the first by more than 5 % and 8 MB.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from soak_model import (
    GROUP_ITEMS,
    GROUP_SIZE,
    N_GROUPS,
    N_JOURNAL,
    Change,
    Journal,
    State,
    WrongAnswer,
    check_groups,
    check_journal,
    group_query,
    group_vectors,
    journal_queries,
    journal_vectors,
)

import shortlist

N_READERS = 3  # two search, one saves and loads; each follows the journal
GROWTH, GROWTH_BYTES = 1.05, 8 * 2**20
PAGE = os.sysconf("SC_PAGESIZE")


class Soak:
    """One index, the threads that use it, and what they have seen."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.journal = Journal(N_READERS)
        # Generations of the groups: even ones are there, odd ones are removals.
        self.begun = np.full(N_GROUPS, 2)
        self.ended = self.begun.copy()
        random = np.random.default_rng([seed, 0])
        vectors = [journal_vectors(random, N_JOURNAL), *[group_vectors(2)] * N_GROUPS]
        self.start = Change(np.arange(N_JOURNAL), vectors[0])
        self.index = shortlist.Index(np.concatenate(vectors), metric="dot")
        self.counts: collections.Counter[tuple[str, int]] = collections.Counter()
        self.resident: list[int] = []
        self.failure = ""
        self.stop = threading.Event()

    def first_state(self) -> State:
        state = State()
        state.apply(self.start)
        state.n_changes = 0
        return state

    def count(self, name: str, n: int = 1) -> None:
        self.counts[name, threading.get_ident()] += n  # each thread its own: no lost additions

    def totals(self) -> dict[str, int]:
        totals: collections.Counter[str] = collections.Counter()
        for (name, _), n in self.counts.items():
            totals[name] += n
        return dict(sorted(totals.items()))

    # What each thread repeats until the end.

    def change_journal(self, random: np.random.Generator) -> None:
        n = int(random.choice([1, 1, 8, 40, 40, 300, 900]))
        ids = random.permutation(N_JOURNAL)[:n]
        is_removal = random.random() < 0.4
        change = Change(ids, None if is_removal else journal_vectors(random, n))
        self.journal.begin(change)
        if change.vectors is None:
            self.index.remove(ids)
            self.count("items removed", n)
        else:
            self.index.upsert(ids, change.vectors)
            self.count("items upserted", n)
        self.journal.end()
        self.count("updates")

    def change_group(self, random: np.random.Generator) -> None:
        group = int(random.integers(N_GROUPS))
        is_there = self.begun[group] % 2 == 0
        generation = int(self.begun[group]) + (1 if is_there and random.random() < 0.3 else 2)
        generation -= 0 if is_there else 1  # a removed group comes back with the next number
        self.begun[group] = generation
        if generation % 2:
            self.index.remove(GROUP_ITEMS[group])
            self.count("items removed", GROUP_SIZE)
        else:
            self.index.upsert(GROUP_ITEMS[group], group_vectors(generation))
            self.count("items upserted", GROUP_SIZE)
        self.ended[group] = generation
        self.count("updates")

    def search(self, reader: int, state: State, random: np.random.Generator) -> None:
        if random.random() < 0.3:
            self._search_groups(self.index, random, self.ended.copy())
        else:
            self._search_journal(self.index, reader, state, random)

    def save_and_load(self, reader: int, state: State, random: np.random.Generator) -> None:
        path = self.folder / f"index-{int(random.integers(3))}"
        n_ended, oldest = self.journal.n_ended, self.ended.copy()
        self.index.save(path)
        n_begun, newest = self.journal.n_begun, self.begun.copy()
        self.count("saves")
        loaded = shortlist.Index.load(path, mmap=bool(random.random() < 0.5))
        self.count("loads")
        queries = journal_queries(random, 4)
        hits = loaded.search(queries, top_n=10)
        self.journal.follow(reader, state, n_ended)
        changes = self.journal.window(n_ended, n_begun)
        check_journal(hits, state, changes, queries, np.empty(0, np.int64))
        self._search_groups(loaded, random, oldest, newest)
        known = loaded.item_ids
        if not np.array_equal(loaded.rows_of(known), np.arange(len(known))):
            raise WrongAnswer("the ids of a loaded index do not find their rows")
        loaded.remove(known[::2])
        if len(loaded) != len(known) // 2:
            raise WrongAnswer(f"{len(loaded)} of {len(known)} items are left of a loaded index")

    def _search_journal(
        self, index: shortlist.Index, reader: int, state: State, random: np.random.Generator
    ) -> None:
        queries = journal_queries(random, int(random.choice([1, 2, 8])))
        excluded = random.integers(0, N_JOURNAL, size=int(random.choice([0, 0, 50])))
        exclude = [excluded] * len(queries) if len(excluded) else None
        n_ended = self.journal.n_ended
        hits = index.search(
            queries, top_n=10, exclude=exclude, n_threads=int(random.choice([1, 2]))
        )
        n_begun = self.journal.n_begun
        self.journal.follow(reader, state, n_ended)
        changes = self.journal.window(n_ended, n_begun)
        check_journal(hits, state, changes, queries, excluded)
        self.count("answers checked", len(queries))
        self.count("answers during an update", len(queries) * (n_begun > n_ended))

    def _search_groups(
        self,
        index: shortlist.Index,
        random: np.random.Generator,
        oldest: np.ndarray,
        newest: np.ndarray | None = None,
    ) -> None:
        if random.random() < 0.7:
            groups = random.permutation(N_GROUPS)[: int(random.integers(1, 5))]
            hits = index.search(
                group_query(), top_n=5 * GROUP_SIZE, allow=GROUP_ITEMS[groups].ravel()
            )
        else:
            groups = np.arange(N_GROUPS)
            hits = index.search(group_query(), top_n=GROUP_ITEMS.size)
        newest = self.begun.copy() if newest is None else newest
        is_group = hits.scores[0] > 0  # journal items score 0, missing places -inf
        ids, scores = hits.item_ids[0, is_group], hits.scores[0, is_group]
        check_groups(ids, scores, groups, oldest, newest)
        self.count("answers checked")
        self.count("answers during an update", int((oldest[groups] != newest[groups]).any()))

    def sample_memory(self) -> None:
        self.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
        self.stop.wait(0.5)

    # Running.

    def repeat(self, work: Callable[[], None]) -> None:
        try:
            work()  # once at least, however late the thread starts
            while not self.stop.is_set():
                work()
        except BaseException:
            self.failure = self.failure or traceback.format_exc()
            self.stop.set()

    def run(self, seconds: float) -> None:
        works: list[Callable[[], None]] = [self.sample_memory]
        for number, change in enumerate((self.change_journal, self.change_group)):
            random = np.random.default_rng([self.seed, 1, number])
            works.append(lambda change=change, random=random: change(random))  # type: ignore[misc]
        for reader in range(N_READERS):
            random, state = np.random.default_rng([self.seed, 2, reader]), self.first_state()
            use = self.search if reader < N_READERS - 1 else self.save_and_load
            works.append(lambda u=use, r=reader, s=state, g=random: u(r, s, g))  # type: ignore[misc]
        threads = [threading.Thread(target=self.repeat, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join()
        if self.failure:
            raise WrongAnswer(self.failure)


def memory_of(resident: list[int]) -> dict[str, float]:
    """Medians of the first and the last quarter after the warm-up, in bytes, and the limit."""
    after = resident[len(resident) // 5 :]
    quarter = max(1, len(after) // 4)
    first, last = float(np.median(after[:quarter])), float(np.median(after[-quarter:]))
    limit = first * GROWTH + GROWTH_BYTES
    return {"first_quarter": first, "last_quarter": last, "limit": limit, "peak": max(resident)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write counts and memory samples here")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(args.seed, Path(folder))
        try:
            soak.run(args.minutes * 60)
        except WrongAnswer as wrong:
            sys.exit(f"WRONG after {time.monotonic() - start:.0f} s, {soak.totals()}:\n{wrong}")
    elapsed = time.monotonic() - start
    memory, totals = memory_of(soak.resident), soak.totals()
    print(
        f"{elapsed:.0f} s, no wrong answer; " + ", ".join(f"{n:,} {k}" for k, n in totals.items())
    )
    print("resident memory, MB: " + ", ".join(f"{k} {v / 2**20:.1f}" for k, v in memory.items()))
    if args.json:
        report = {"seconds": elapsed, "counts": totals, "memory": memory, "samples": soak.resident}
        args.json.write_text(json.dumps(report), encoding="utf-8")
    if memory["last_quarter"] > memory["limit"]:
        sys.exit("memory grew: the last quarter's median is above the limit")


if __name__ == "__main__":
    main()
