"""Jobs that are killed, and what is left of them."""

import contextlib
import hashlib
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import shortlist

N_PARTS = 30
OPTIONS = {"partitions": N_PARTS, "top_n": 5}


def write_requests(world, path, n=30_000):
    """Write requests with histories; about 1,000 for each part."""
    items = world.item_ids.tolist()
    histories = [[items[i % 40], items[i * 7 % 40]] for i in range(n)]
    pq.write_table(pa.table({"user_id": range(n), "history": histories}), path)
    return path


def files_of(folder):
    """Hashes of all files of a folder by name, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def n_parts(folder):
    with contextlib.suppress(FileNotFoundError):
        return sum(name.startswith("part-") for name in os.listdir(folder))
    return 0


def children(pid):
    """Processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def pool_workers(pid):
    """Processes of a pool that a process has started; a JVM of another test is none."""
    found = []
    for one in children(pid):
        with contextlib.suppress(OSError):
            if b"\0-P\0-c\0" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(bundle, requests, out, **options):
    """Run a job in a forked child; gives its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        shortlist.score(bundle, requests, out=out, **OPTIONS, **options)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait_for(is_so, seconds=60.0):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.001)


def kill_driver(bundle, requests, out, random, **options):
    """Kill a job's driver when a random number of parts is there; its workers end with it."""
    driver = start(bundle, requests, out, **options)
    goal = n_parts(out) + int(random.integers(0, 8))
    done = []

    def is_due():
        done[:] = [] if os.waitpid(driver, os.WNOHANG) == (0, 0) else [True]
        return bool(done) or (n_parts(out) >= goal and (out / "_job.json").exists())

    wait_for(is_due)
    if done:
        return
    time.sleep(float(random.random()) * 0.02)
    workers = pool_workers(driver)
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    wait_for(lambda: not any(map(is_alive, workers)))


class WorkerKiller:
    """Kills a random worker of this process when random numbers of parts are done."""

    def __init__(self, random, n_kills):
        self.random = random
        self.moments = set(random.choice(N_PARTS - 4, n_kills, replace=False).tolist())
        self.n_told = 0
        self.killed = []

    def __call__(self, progress):
        self.n_told += 1
        workers = pool_workers(os.getpid())
        if self.n_told in self.moments and workers:
            time.sleep(float(self.random.random()) * 0.01)
            self.killed.append(int(self.random.choice(workers)))
            os.kill(self.killed[-1], signal.SIGKILL)
