"""Lists for everyone, read and written as Parquet: what a job costs, stage by stage.

A bundle of random weights and users with random histories, of 20 to 180 items each, which are
excluded. Lists of some users are compared with a float64 computation over all items before a time
is printed. Each row is one job in processes of its own:
  loop       one process: `shortlist.batch.stream` on one thread, written as it comes
  one core   `shortlist.score(workers=1)`, all of whose threads share one core
  N workers  `shortlist.score(workers=N, engine=…)`
CPU seconds are those of all processes, also of a cluster's own; "start" is what the same job needs
for one list a worker: processes, the bundle, the cluster. Efficiency is the loop's CPU time over
the job's, both without their start; "per 10⁶" is for a million lists.

    python benchmarks/score.py                                # 260,000 users, 39,000 items
    python benchmarks/score.py --users 1000000 --workers 1 2 4
    python benchmarks/score.py --engine pool ray spark        # after `make cluster`
    python benchmarks/score.py --folder build/score           # keeps bundle and users there
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from select import select
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shortlist
from shortlist.bench.machine import describe_machine

TOP_N = 10
N_CHECKED = 300
_MAKE = """
import sys
from pathlib import Path
from serving import export_untrained, synthetic
export_untrained(synthetic(int(sys.argv[1])), Path(sys.argv[2]), **{"model.dim": 64})
"""


def make_bundle(folder: Path, n_items: int) -> Path:
    """Export an untrained bundle, by a process of its own: TensorFlow stays out of this one."""
    path = folder / "untrained.shortlist"
    if not path.exists():
        here = Path(__file__).parent
        subprocess.run([sys.executable, "-c", _MAKE, str(n_items), str(folder.resolve())],
                       cwd=here, check=True)  # fmt: skip
    return path


def make_users(folder: Path, n_users: int, item_ids: Any) -> Path:
    """Write users with histories, in row groups of 65,536."""
    path = folder / f"users-{n_users}.parquet"
    if not path.exists():
        random = np.random.default_rng(7)
        schema = pa.schema({"user_id": pa.int64(), "history": pa.list_(pa.int64())})
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, n_users, 65_536):
                n = min(65_536, n_users - start)
                splits = np.append(0, np.cumsum(random.integers(20, 181, n))).astype(np.int32)
                # Some items are in many histories, most in few.
                ranks = (len(item_ids) * random.random(splits[-1]) ** 2).astype(np.int64)
                histories = pa.ListArray.from_arrays(pa.array(splits), pa.array(item_ids[ranks]))
                users = pa.array(np.arange(start, start + n) * 3 + 1)
                writer.write_table(pa.table([users, histories], schema=schema))
    return path


def check(bundle: Path, users: Path, out: Path) -> None:
    """Compare lists of some users with those of all similarities in float64."""
    requests = pq.ParquetFile(users).read_row_group(0).slice(1000, N_CHECKED)
    ids = requests["user_id"]
    rows = pq.read_table(out, filters=pa.compute.field("user_id").isin(ids))
    found = {
        (user, rank): (item, score)
        for user, rank, item, score, _ in zip(*rows.to_pydict().values(), strict=True)
    }
    assert len(found) == rows.num_rows == N_CHECKED * TOP_N, "a list is missing, or there twice"
    with shortlist.load(bundle) as engine:
        users_at = engine.encode_users(requests).astype(np.float64)
        vectors = engine.index.vectors(np.arange(len(engine.index))).astype(np.float64)
        item_ids = engine.index.item_ids
        metric = engine.bundle.manifest.metric
    if metric == "cosine":
        users_at /= np.linalg.norm(users_at, axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = users_at @ vectors.T
    rows_of = {item_id: row for row, item_id in enumerate(item_ids.tolist())}
    for at, (user, history) in enumerate(
        zip(ids.to_pylist(), requests["history"].to_pylist(), strict=True)
    ):
        seen = {rows_of[item] for item in history}
        scores[at, list(seen)] = -np.inf
        best = np.sort(scores[at])[::-1][:TOP_N]
        for rank in range(TOP_N):
            item, score = found[user, rank + 1]
            assert rows_of[item] not in seen, f"user {user} gets a seen item"
            assert abs(scores[at, rows_of[item]] - score) < 1e-5, f"user {user}: another score"
            assert abs(best[rank] - score) < 1e-5, f"user {user}: not the best"


def one_core(bundle: Path, users: Path, out: Path, parts: int | None) -> Any:
    """Score with one worker on one core: what two cores are compared with."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return shortlist.score(bundle, users, out=out, top_n=TOP_N, workers=1, partitions=parts)


def loop(bundle: Path, users: Path, out: Path) -> None:
    """Score in one process, as a few lines of one's own would."""
    out.mkdir()
    batches = shortlist.batch.stream(bundle, users, n_threads=1, top_n=TOP_N)
    schema = shortlist.batch.scorer(bundle).schema
    with pq.ParquetWriter(out / "all.parquet", schema, compression="zstd") as writer:
        for rows in batches:
            writer.write_batch(rows)


class ProcessTimes:
    """CPU seconds and memory of a process and all that it starts, read again and again."""

    def __init__(self, pid: int) -> None:
        self.seconds: dict[int, float] = {pid: 0.0}
        self.mib: dict[int, int] = {}

    def read(self) -> None:
        """Look at all processes; what ended since the last look keeps what it had then."""
        tick = os.sysconf("SC_CLK_TCK")
        parents: dict[int, int] = {}
        spent: dict[int, float] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                pid = int(path.parent.name)
                parents[pid], spent[pid] = (
                    int(fields[1]),
                    (int(fields[11]) + int(fields[12])) / tick,
                )
        grown = True
        while grown:
            new = {pid for pid, one in parents.items() if one in self.seconds} - set(self.seconds)
            self.seconds |= dict.fromkeys(new, 0.0)
            grown = bool(new)
        for pid in set(self.seconds) & set(spent):
            self.seconds[pid] = max(self.seconds[pid], spent[pid])
            with suppress(OSError, IndexError):
                text = Path(f"/proc/{pid}/status").read_text()
                self.mib[pid] = int(text.split("VmHWM:")[1].split()[0]) // 1024


def measured(work: Callable[[], Any]) -> tuple[Any, float, float, int]:
    """Return what work returns, wall and CPU seconds, and MiB of the largest process.

    It runs in a child, with all of its own children, which are looked at 20 times a second.
    """
    begin = time.perf_counter()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        answer = work()
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    times = ProcessTimes(child)
    while not select([read], [], [], 0.05)[0]:
        times.read()
    times.read()
    wall = time.perf_counter() - begin
    with os.fdopen(read, "rb") as pipe:
        answer = pickle.load(pipe)
    os.waitpid(child, 0)
    return answer, wall, sum(times.seconds.values()), max(times.mib.values())


def main() -> None:
    """Make what is scored, check, measure, print."""
    parser = argparse.ArgumentParser(description="What batch scoring costs.")
    parser.add_argument("--users", type=int, default=260_000)
    parser.add_argument("--items", type=int, default=39_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engine", nargs="+", default=["pool"], choices=["pool", "ray", "spark"])
    parser.add_argument(
        "--rounds", type=int, default=1, help="the least CPU time of so many counts"
    )
    parser.add_argument("--folder", type=Path, help="keeps bundle and users for the next time")
    args = parser.parse_args()
    made = nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory()
    with made as name, tempfile.TemporaryDirectory() as temporary:
        folder, outs = Path(name), Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bundle = make_bundle(folder, args.items)
        item_ids = pa.ipc.open_file(str(bundle / "items.arrow")).read_all()["item_id"].to_numpy()
        users = make_users(folder, args.users, item_ids)
        print(describe_machine(), f"load {os.getloadavg()[0]:.1f}")
        size = users.stat().st_size / 2**20
        print(f"{args.users:,} users ({size:.0f} MiB), {len(item_ids):,} items, top {TOP_N}\n")
        jobs: dict[str, Callable[[Path, Path, int | None], Any]] = {
            "loop": lambda users, out, parts: loop(bundle, users, out),
            "one core": lambda users, out, parts: one_core(bundle, users, out, parts),
        }
        for engine in args.engine:
            for n in args.workers:
                jobs[f"{engine} {n}"] = lambda users, out, parts, engine=engine, n=n: (
                    shortlist.score(
                        bundle,
                        users,
                        out=out,
                        top_n=TOP_N,
                        workers=n,
                        engine=engine,
                        partitions=parts,
                    )
                )
        print(f"{'':>8} {'wall s':>7} {'CPU s':>7} {'start':>6} {'per 10⁶':>8} {'effic.':>6} "
              f"{'MiB':>6}   CPU s of stages")  # fmt: skip
        n_few = max(args.workers)
        few = make_users(folder, n_few, item_ids)
        best: dict[str, Any] = {}
        starts = {}
        for number in range(args.rounds):
            for job, work in jobs.items():
                start = measured(
                    lambda work=work, out=outs / f"{job}-{number}-few": work(few, out, n_few)
                )
                starts[job] = min(starts.get(job, start[2]), start[2])
                out = outs / f"{job}-{number}"
                result = measured(lambda work=work, out=out: work(users, out, None))
                if number == 0:
                    check(bundle, users, out)
                best[job] = min(best.get(job, result), result, key=lambda one: one[2])
        whole = best["loop"][2] - starts["loop"]
        for job, (report, wall, cpu, peak) in best.items():
            stages = {} if report is None else report.cpu_seconds
            shown = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
            million = cpu / args.users * 1e6
            print(f"{job:>8} {wall:>7.1f} {cpu:>7.1f} {starts[job]:>6.1f} {million:>8.1f} "
                  f"{whole / (cpu - starts[job]):>6.2f} {peak:>6}   {shown}")  # fmt: skip


if __name__ == "__main__":
    main()
