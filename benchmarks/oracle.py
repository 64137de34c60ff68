"""Many searches, random and adversarial, against a float64 oracle: one miss stops the run.

    python benchmarks/oracle.py --searches 100000

Compared are the items, their order, the ties, the counts and the score bits of every answer
(exact_check.py). Every search is repeated on each instruction set of this CPU with other thread
counts and batch sizes, and must give the same bits.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from exact_check import misses, score_bounds
from kinds import KINDS
from numpy.typing import NDArray

import shortlist
from shortlist import _core
from shortlist.bundle.storages import STORAGES

METRICS = ("cosine", "dot", "euclidean")
_NO_NIBBLES = _core.min_code_bytes_for_nibbles()
# Half a unit in the last place: relative, and of the smallest numbers.
HALF_UNITS = {"float16": (2.0**-10.9, 2.0**-25), "bfloat16": (2.0**-7.9, 2.0**-134)}
# Of the row's largest number: half a step of 127, or what 15 with large numbers cut off lose.
CODE_ERRORS = {"int8": 1 / 253, "int4": 0.65}
MAX_DIM, MAX_BATCH, MAX_THREADS = 300, 70, 4
# n_items × dim of one catalogue: the oracle must stay fast.
MAX_VALUES = 1_000_000
Generator = np.random.Generator
Rows = NDArray[np.float32]


class Missed(Exception):
    """An answer that the oracle does not give."""


@dataclass
class Model:
    """What the index should hold, by id, in the order of its rows."""

    metric: str
    items: dict[Any, Rows]
    tags: list[str]
    id_kind: str
    storage: str

    def given(self, rows: Rows) -> Rows:
        """Keep what the storage can hold; larger magnitudes are refused."""
        return np.clip(rows, -6e4, 6e4) if self.storage == "float16" else rows

    def ids(self, numbers: NDArray[np.int64]) -> list[Any]:
        return [f"ü{i}" if self.id_kind == "str" else int(i) for i in numbers]

    def array(self, ids: list[Any]) -> NDArray[Any]:
        return np.array(ids, dtype=np.str_ if self.id_kind == "str" else np.int64)

    def vectors(self, dim: int) -> Rows:
        return np.array(list(self.items.values()), np.float32).reshape(-1, dim)


def some_rows(random: Generator, n: int, dim: int) -> tuple[Rows, str]:
    name = str(random.choice(list(KINDS)))
    return KINDS[name](random, n, dim).astype(np.float32), name


def some_items(random: Generator) -> tuple[Rows, list[str]]:
    dim = int(random.integers(1, MAX_DIM + 1))
    if random.random() < 0.3:
        dim = int(random.choice([1, 2, 3, 4, 8, 16, 32, 64, 128, 256]))
    n = int(random.integers(1, 4000))
    if random.random() < 0.5:
        n = int(np.exp(random.uniform(0, np.log(100_000))))
    n = min(n, MAX_VALUES // dim)
    items, name = some_rows(random, n, dim)
    tags = [name]
    if random.random() < 0.25:  # two kinds in one catalogue
        other, other_name = some_rows(random, n, dim)
        is_other = random.random(n) < random.random()
        items[is_other] = other[is_other]
        tags.append(other_name)
    if random.random() < 0.15:
        items[random.random(n) < 0.1] = 0
        tags.append("zero_rows")
    return items, tags


def some_queries(random: Generator, items: Rows) -> Rows:
    n, dim = int(random.integers(1, MAX_BATCH + 1)), items.shape[1]
    form = random.integers(0, 5) if len(items) else 4
    if form >= 3:
        return some_rows(random, n, dim)[0]
    picked = items[random.integers(0, len(items), size=n)]
    if form == 1:  # halfway between two items
        other = items[random.integers(0, len(items), size=n)]
        picked = (picked / 2 + other / 2).astype(np.float32)
    if form == 2:  # close to an item
        noise = random.normal(size=picked.shape) * 10.0 ** random.uniform(-7, 0)
        picked = (picked * (1 + noise)).astype(np.float32)
    return picked


def build(random: Generator) -> tuple[shortlist.Index, Model, int]:
    """Make an index, change it now and then, and note what it should hold."""
    items, tags = some_items(random)
    n, dim = items.shape
    storage = "float32" if random.random() < 0.5 else str(random.choice(STORAGES[1:]))
    id_kind = str(random.choice(["none", "int", "str"]))
    model = Model(str(random.choice(METRICS)), {}, [*tags, storage], id_kind, storage)
    items = model.given(items)
    if random.random() < 0.5:  # as if the catalogue were larger than the caches
        model.tags.append("nibbles")
    _core.set_min_code_bytes_for_nibbles(0 if "nibbles" in model.tags else _NO_NIBBLES)
    start = np.arange(n) if model.id_kind == "none" else random.permutation(2 * n + 50)[:n]
    ids = model.ids(start)
    model.items = dict(zip(ids, items, strict=True))
    index = shortlist.Index(
        items,
        item_ids=None if model.id_kind == "none" else model.array(ids),
        metric=model.metric,  # type: ignore[arg-type]
        storage=model.storage,  # type: ignore[arg-type]
    )
    if random.random() < 0.4:
        model.tags.append("updated")
        for _ in range(int(random.integers(1, 7))):
            change(random, index, model, dim)
    return index, model, dim


def change(random: Generator, index: shortlist.Index, model: Model, dim: int) -> None:
    n = int(random.choice([1, 2, 10, 100, 600]))
    ids = model.ids(random.permutation(2 * len(model.items) + 50)[:n])
    if random.random() < 0.6:
        rows = model.given(some_rows(random, len(ids), dim)[0])
        index.upsert(model.array(ids), rows)
        model.items.update(zip(ids, rows, strict=True))
        return
    known = [i for i in ids if i in model.items]
    if index.remove(model.array(ids)) != len(known):
        raise Missed(f"remove did not find the {len(known)} ids that are there")
    for i in known:
        del model.items[i]


def stored(index: shortlist.Index, rows: NDArray[np.int64], raw: Rows, what: str) -> Rows:
    """Return the vectors as they are scored, after comparing them with what was put in."""
    found = index.vectors(rows)
    expected = raw.astype(np.float64)
    limit = np.zeros_like(expected)
    if index.metric == "cosine":
        norms = np.linalg.norm(expected, axis=1, keepdims=True)
        expected = np.divide(expected, norms, out=expected, where=norms > 0)
        limit = np.abs(expected) * 2.0**-23 + 2.0**-149
    if index.storage in HALF_UNITS:
        relative, smallest = HALF_UNITS[index.storage]
        limit += np.abs(expected) * relative + smallest
    elif index.storage in CODE_ERRORS:
        # Of cosine rows scaled to length 1 again; rows of hardly anything become 0.
        largest = np.abs(expected).max(axis=1, keepdims=True, initial=0)
        half_step = largest * CODE_ERRORS[index.storage]
        limit += half_step + 1e-30
        if index.metric == "cosine":
            limit += 2 * (np.abs(expected) + half_step) * half_step * np.sqrt(expected.shape[1])
    if not (np.abs(found - expected) <= limit).all():
        raise Missed(f"{what}: the stored vectors are not those that were given")
    return found


def some_filters(
    random: Generator, index: shortlist.Index, model: Model, n_queries: int
) -> tuple[dict[str, Any], NDArray[np.bool_], str]:
    """Filters as arguments of `search`, as one flag for each query and item, and their name."""
    ids, n = model.array(list(model.items)), len(model.items)
    allowed, names = np.ones((n_queries, n), dtype=bool), []
    arguments: dict[str, Any] = {}
    form = random.integers(0, 10)
    if form in (1, 2):  # one list for all, short enough to be scored directly or not
        share = 0.02 if form == 1 else random.uniform(0.07, 1)
        allowed[:] = random.random(n) < share
        arguments["allow"] = ids[allowed[0]]
        names.append("allow ids")
    elif form == 3:
        allowed[:] = random.random(n) < random.choice([0.02, 0.5, 0.98])
        mask = random.random(len(index.item_ids)) < 0.5  # flags of removed rows must not matter
        mask[index.rows_of(ids)] = allowed[0]
        arguments["allow"] = mask
        names.append("allow mask")
    elif form == 4:
        allowed = random.random((n_queries, n)) < random.choice([0.0, 0.03, 0.3])
        arguments["allow"] = [ids[flags] for flags in allowed]
        names.append("allow lists")
    if random.random() < 0.4:
        excluded = random.random((n_queries, n)) < random.choice([0.0, 0.01, 0.3, 1.0])
        unknown = model.array(model.ids(np.array([10**9])))
        arguments["exclude"] = [np.concatenate([ids[flags], unknown]) for flags in excluded]
        allowed &= ~excluded
        names.append("exclude")
    return arguments, allowed, " + ".join(names) or "no filter"


def part_of(filters: dict[str, Any], first: int, end: int) -> dict[str, Any]:
    return {
        name: value[first:end] if isinstance(value, list) else value
        for name, value in filters.items()
    }


def variants(random: Generator, n_queries: int) -> Iterator[tuple[str, int, int]]:
    """Instruction set, threads, batch size: every level, every thread count in turn."""
    threads = random.permutation(MAX_THREADS) + 1
    levels = _core.simd_levels()
    for i in range(max(len(levels), 3)):
        batch = n_queries if random.random() < 0.3 else int(random.integers(1, n_queries + 1))
        yield levels[-1 - i % len(levels)], int(threads[i % MAX_THREADS]), batch


def same(a: shortlist.Hits, b: shortlist.Hits) -> bool:
    same_ids = a.item_ids.tolist() == b.item_ids.tolist()
    return same_ids and all(x.tobytes() == y.tobytes() for x, y in zip(a[1:], b[1:], strict=True))


def run_round(seed: int, number: int, seen: collections.Counter[str]) -> int:
    """Search one catalogue every way; return how many queries the oracle has checked."""
    random = np.random.default_rng([seed, number])
    index, model, dim = build(random)
    rows = index.rows_of(model.array(list(model.items)))
    if (np.diff(rows, prepend=-1) <= 0).any():
        raise Missed("rows are not in the order in which items came")
    items = stored(index, rows, model.vectors(dim), "items")
    raw = some_queries(random, model.vectors(dim))
    as_items = shortlist.Index(raw, metric=model.metric)  # type: ignore[arg-type]
    queries = stored(as_items, np.arange(len(raw)), raw, "queries")
    filters, allowed, filter_name = some_filters(random, index, model, len(raw))
    top_n = int(random.choice([1, 10, 100, len(rows) or 1, int(random.integers(1, len(rows) + 6))]))
    first: shortlist.Hits | None = None
    for level, n_threads, batch in variants(random, len(raw)):
        _core.set_simd_level(level)
        parts = [
            index.search(
                raw[at : at + batch], top_n, n_threads=n_threads, **part_of(filters, at, at + batch)
            )
            for at in range(0, len(raw), batch)
        ]
        hits = shortlist.Hits(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        seen[f"level {level}"] += len(raw)
        seen["compared bit for bit"] += len(raw) if first else 0
        if first is None:
            first = hits
            wrong = misses(hits, score_bounds(items, queries, model.metric), allowed, rows)
            if wrong:
                raise Missed(f"{wrong[0]} (level {level}, {n_threads} threads, batch {batch})")
        elif not same(first, hits):
            raise Missed(f"level {level}, {n_threads} threads, batch {batch}: other bits")
    for tag in (model.metric, filter_name, *model.tags):
        seen[tag] += len(raw)
    return len(raw)


def run(n_searches: int, seed: int, progress: bool = False) -> tuple[int, collections.Counter[str]]:
    """Search until the oracle has checked `n_searches` queries; raise Missed on the first miss."""
    seen: collections.Counter[str] = collections.Counter()
    level, start, done, number = _core.simd_level(), time.perf_counter(), 0, 0
    try:
        while done < n_searches:
            try:
                done += run_round(seed, number, seen)
            except Missed as miss:
                raise Missed(f"seed {seed}, round {number}: {miss}") from miss
            number += 1
            if progress and number % 200 == 0:
                print(f"{done:,} searches, {time.perf_counter() - start:.0f} s", flush=True)
    finally:
        _core.set_simd_level(level)
        _core.set_min_code_bytes_for_nibbles(_NO_NIBBLES)
    seen["catalogues"] = number
    return done, seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", type=int, help="repeat this round of the seed alone")
    args = parser.parse_args()
    if args.round is not None:
        run_round(args.seed, args.round, collections.Counter())
        return
    try:
        done, seen = run(args.searches, args.seed, progress=True)
    except Missed as miss:
        sys.exit(f"MISS: {miss}")
    print(f"{done:,} searches against the float64 oracle, 0 misses (seed {args.seed})")
    for name, count in sorted(seen.items(), key=lambda pair: -pair[1]):
        print(f"  {count:>9,} {name}")


if __name__ == "__main__":
    main()
