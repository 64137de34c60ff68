"""Varied lists: random and adversarial requests against brute force, then what variety costs.

    python benchmarks/variety.py --requests 100000
    python benchmarks/variety.py --times

Every answer is compared with brute force (varied_lists.py): rows, order, score bits, counts and
unmet quotas; one difference stops the run. Times are of one query on one thread, caps and
diversity taking turns with the plain search, and are printed after their answers were checked.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
import time
from typing import Any

import numpy as np
from kinds import KINDS
from timing import take_turns, timed
from varied_lists import Wish, brute_force

import shortlist
from shortlist import _core
from shortlist.bundle.storages import STORAGES

METRICS = ("cosine", "dot", "euclidean")
MAX_ITEMS, MAX_DIM, MAX_BATCH, MAX_TOP_N = 3000, 40, 12, 25
_NO_NIBBLES = _core.min_code_bytes_for_nibbles()
Generator = np.random.Generator


class Missed(Exception):
    """An answer that brute force does not give."""


def group(random: Generator, n: int) -> tuple[Any, list[list[int]]]:
    """Return values of a group as an index takes them, and as lists by row."""
    n_values = int(random.choice([1, 2, 5, 50, 10_000]))
    if random.random() < 0.5:
        values = random.integers(-1 if random.random() < 0.5 else 0, n_values, size=n)
        return values.astype(np.int32), [[int(v)] if v >= 0 else [] for v in values]
    lengths = random.integers(0, 4, size=n)
    splits = np.append(0, np.cumsum(lengths))
    values = random.integers(0, n_values, size=splits[-1])
    lists = [values[a:b].tolist() for a, b in itertools.pairwise(splits)]
    return (values, splits), lists


def catalogue(random: Generator) -> tuple[shortlist.Index, np.ndarray]:
    """Return an index, some of its items replaced or removed, and its stored rows."""
    n = int(random.integers(1, 300 if random.random() < 0.6 else MAX_ITEMS))
    dim = int(random.integers(1, MAX_DIM))
    rows = KINDS[str(random.choice(list(KINDS)))](random, n, dim).astype(np.float32)
    storage = str(random.choice(STORAGES, p=[0.3, *7 * [0.1]]))
    if storage == "float16":
        rows = np.clip(rows, -6e4, 6e4)
    index = shortlist.Index(rows, metric=str(random.choice(METRICS)), storage=storage)
    if random.random() < 0.3:
        index.upsert(random.integers(0, n + 20, size=5).tolist()[:1], rows[:1])
        index.remove(np.unique(random.integers(0, n, size=3)))
    stored = np.zeros((len(index.item_ids), dim), dtype=np.float32)
    known = index.item_ids >= 0
    stored[known] = index.vectors(np.flatnonzero(known))
    return index, stored


def wishes(random: Generator, n_rows: int, n_queries: int) -> tuple[list[Wish], dict[str, Any]]:
    """Return what each query wants, and the same as arguments of a search."""
    top_n = int(random.integers(1, MAX_TOP_N))
    groups: dict[str, Any] = {}
    by_row: dict[str, Any] = {}
    for name in [f"group {i}" for i in range(random.choice([0, 1, 1, 2]))]:
        groups[name], by_row[name] = group(random, n_rows)
    for name in [f"mask {i}" for i in range(random.choice([0, 0, 1, 2]))]:
        by_row[name] = groups[name] = random.random(n_rows) < random.choice([0, 0.01, 0.5])
    at_most: list[dict[str, int]] = [{} for _ in range(n_queries)]
    at_least: list[dict[str, int]] = [{} for _ in range(n_queries)]
    diversity = np.zeros(n_queries)
    for q in range(n_queries):
        for name in groups:
            if random.random() < 0.2:
                continue
            if name.startswith("group"):
                at_most[q][name] = int(random.integers(1, 4))
            else:
                at_least[q][name] = int(random.integers(1, top_n + 1))
        if random.random() < 0.4:
            diversity[q] = random.choice([0.1, 0.3, 0.5, 0.9, 1.0])
    # Quotas are met in the order in which the call names them first.
    quotas = dict.fromkeys(name for want in at_least for name in want)
    own = [
        Wish(
            top_n,
            [(by_row[name], most) for name, most in at_most[q].items()],
            [(by_row[name], at_least[q][name]) for name in quotas if name in at_least[q]],
            float(diversity[q]),
        )
        for q in range(n_queries)
    ]
    given = {"groups": groups, "at_most": at_most, "at_least": at_least, "diversity": diversity}
    return own, {"top_n": top_n, **given}


def adjustments(
    random: Generator, own: list[Wish], n_rows: int, groups: dict[str, Any]
) -> dict[str, Any]:
    """Calibrate or dampen some of the queries without diversity; return the arguments."""
    groups["target"], values = group(random, n_rows)
    present = sorted({value for row in values for value in row})
    popularity = np.floor(random.pareto(0.7, size=n_rows) * random.choice([0, 1, 100]))
    if random.random() < 0.2:
        popularity = np.full(n_rows, 3.0)
    calibrate: list[Any] = [None] * len(own)
    weights = np.zeros(len(own))
    for q, wish in enumerate(own):
        if wish.diversity > 0:
            continue
        if present and random.random() < 0.7:
            some = random.choice(present, size=min(len(present), int(random.integers(1, 20))))
            shares = dict.fromkeys(some.tolist(), 1.0)
            if random.random() < 0.7:
                shares = {value: float(random.random()) + 1e-9 for value in shares}
            strength = float(random.choice([0.001, 0.1, 0.5, 0.9, 1.0]))
            calibrate[q] = {"target": (shares, strength)}
            numbers = np.array([shares[value] for value in sorted(shares)])
            wanted = dict(zip(sorted(shares), (numbers / numbers.sum()).tolist(), strict=True))
            wish.target = (values, wanted, strength)
        if random.random() < 0.5:
            weights[q] = random.choice([1e-3, 0.05, 0.5, 1e30])
            wish.dampening, wish.terms = float(weights[q]), np.log1p(popularity)
    return {"calibrate": calibrate, "popularity": popularity, "popularity_dampening": weights}


def filters(random: Generator, n_rows: int, n_queries: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return which rows each query may return, and the same as arguments of a search."""
    allowed = np.ones((n_queries, n_rows), dtype=np.bool_)
    given: dict[str, Any] = {}
    if random.random() < 0.4:
        lists = [random.integers(0, n_rows, size=random.integers(0, 60)) for _ in allowed]
        for flags, rows in zip(allowed, lists, strict=True):
            flags[rows] = False
        given["exclude"] = lists
    kind = random.random()
    if kind < 0.15:
        mask = random.random(n_rows) < random.choice([0.01, 0.5])
        allowed &= mask
        given["allow"] = mask
    elif kind < 0.3:
        lists = [random.integers(0, n_rows, size=random.integers(0, n_rows)) for _ in allowed]
        for flags, rows in zip(allowed, lists, strict=True):
            flags &= np.isin(np.arange(n_rows), rows)
        given["allow"] = lists
    elif kind < 0.4:
        rows = np.unique(random.integers(0, n_rows, size=n_rows // 2 + 1))
        allowed &= np.isin(np.arange(n_rows), rows)
        given["allow"] = rows
    return allowed, given


def check(random: Generator, seen: collections.Counter[str]) -> int:
    """Make a catalogue and some requests, and compare; return how many they were."""
    _core.set_simd_level(str(random.choice(_core.simd_levels())))
    _core.set_min_code_bytes_for_nibbles(0 if random.random() < 0.3 else _NO_NIBBLES)
    index, stored = catalogue(random)
    n_rows, n_queries = len(stored), int(random.integers(1, MAX_BATCH))
    queries = KINDS[str(random.choice(list(KINDS)))](random, n_queries, stored.shape[1])
    queries = queries.astype(np.float32)
    if random.random() < 0.3:
        queries = stored[random.integers(0, n_rows, size=n_queries)]
    own, given = wishes(random, n_rows, n_queries)
    if random.random() < 0.5:
        given |= adjustments(random, own, n_rows, given["groups"])
    allowed, filtered = filters(random, n_rows, n_queries)
    ids = index.item_ids
    for name in ("exclude", "allow"):  # removed rows have no id; a mask stays one
        if isinstance(filtered.get(name), list):
            filtered[name] = [ids[rows][ids[rows] >= 0] for rows in filtered[name]]
        elif name in filtered and filtered[name].dtype != np.bool_:
            filtered[name] = ids[filtered[name]][ids[filtered[name]] >= 0]
    allowed &= ids >= 0
    hits = index.search(queries, **given, **filtered, n_threads=int(random.integers(1, 4)))
    unmet = getattr(hits, "unmet", {})
    for q, wish in enumerate(own):
        rows, scores, lacks = brute_force(stored, queries[q], index.metric, allowed[q], wish)
        count = int(hits.counts[q])
        got_lacks = [int(unmet[name][q]) for name in unmet if name in given["at_least"][q]]
        is_same = (
            hits.indices[q, :count].tolist() == rows
            and hits.scores[q, :count].tobytes() == scores.tobytes()
            and got_lacks == lacks
            and (hits.indices[q, count:] == -1).all()
        )
        if not is_same:
            raise Missed(
                f"query {q} of {index!r}, {wish.top_n=}, {wish.diversity=}, "
                f"{wish.dampening=}, calibrate {given.get('calibrate', [None] * n_queries)[q]}, "
                f"at_most {given['at_most'][q]}, at_least {given['at_least'][q]}, "
                f"{list(filtered)}: got {hits.indices[q]} lacking {got_lacks}, "
                f"expected {rows} lacking {lacks}"
            )
        seen["with caps"] += bool(wish.at_most)
        seen["with quotas"] += bool(wish.at_least)
        seen["with an unmet quota"] += any(lacks)
        seen["with diversity"] += wish.diversity > 0
        seen["calibrated"] += wish.target is not None
        seen["dampened"] += wish.dampening > 0
        seen["shorter than asked"] += count < wish.top_n
        seen["filtered"] += bool(filtered)
    return n_queries


def compare(n_requests: int, seed: int) -> None:
    """Compare so many requests with brute force."""
    seen: collections.Counter[str] = collections.Counter()
    done, number, start = 0, 0, time.monotonic()
    while done < n_requests:
        try:
            done += check(np.random.default_rng([seed, number]), seen)
        except Missed as missed:
            sys.exit(f"seed {seed}, catalogue {number}: {missed}")
        number += 1
        if number % 500 == 0:
            print(f"{done:,} requests, {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(f"{done:,} requests against brute force, 0 differences (seed {seed})")
    for name, count in sorted(seen.items(), key=lambda pair: -pair[1]):
        print(f"  {count:>9,} {name}")


def measure(n_items: int, dim: int, seconds: float) -> None:
    """Print what caps, quotas and diversity cost a query, once their answers are right."""
    random = np.random.default_rng(0)
    index = shortlist.Index(random.normal(size=(n_items, dim)).astype(np.float32))
    stored = index.vectors(np.arange(n_items))
    query = random.normal(size=(1, dim)).astype(np.float32)
    brand = random.integers(0, n_items // 100, size=n_items).astype(np.int32)
    one_brand = np.zeros(n_items, dtype=np.int32)
    is_new = random.random(n_items) < 0.001
    brands, ones = ([[int(v)] for v in values] for values in (brand, one_brand))
    cells: dict[str, tuple[Wish, dict[str, Any]]] = {
        "plain": (Wish(10), {}),
        "at_most 2 of 2,000 brands": (
            Wish(10, [(brands, 2)]),
            {"groups": {"brand": brand}, "at_most": {"brand": 2}},
        ),
        "at_most 2, all of one brand": (
            Wish(10, [(ones, 2)]),
            {"groups": {"brand": one_brand}, "at_most": {"brand": 2}},
        ),
        "at_least 2 of 0.1 % new items": (
            Wish(10, at_least=[(is_new, 2)]),
            {"groups": {"new": is_new}, "at_least": {"new": 2}},
        ),
        **{
            f"diversity {d}": (Wish(10, diversity=d), {"diversity": d})
            for d in (0.1, 0.3, 0.5, 0.7)
        },
    }
    calls, first = {}, {}
    for name, (wish, given) in cells.items():

        def call(given: dict[str, Any] = given) -> shortlist.Hits:
            return index.search(query, 10, n_threads=1, **given)

        hits, first[name] = timed(call)
        rows, _, _ = brute_force(stored, query[0], "cosine", np.ones(n_items, dtype=np.bool_), wish)
        if hits.indices[0, : hits.counts[0]].tolist() != rows:
            sys.exit(f"{name}: got {hits.indices[0]}, expected {rows}")
        calls[name] = call
    clocks = take_turns(calls, first, seconds)
    plain = clocks["plain"].median_ms(1)
    print(f"{n_items:,} × {dim}, one query, top 10, one thread, {shortlist.simd_level()}, CPU time")
    for name, clock in clocks.items():
        print(f"  {name:<32} {clock.median_ms(1):7.3f} ms  {clock.median_ms(1) / plain:5.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=0, help="compare so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", action="store_true", help="measure")
    parser.add_argument("--n-items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20, help="to measure for")
    args = parser.parse_args()
    if args.requests:
        compare(args.requests, args.seed)
    if args.times:
        measure(args.n_items, args.dim, args.seconds)


if __name__ == "__main__":
    main()
