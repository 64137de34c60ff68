"""A Ray and a Spark on this machine, their worker processes, and jobs that are killed on them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from jobs import OPTIONS, children, is_alive, n_parts, wait_for

START_SECONDS = 300.0  # of a cluster, on a machine that is busy
_MARKS = {"ray": b"ray::Maker", "spark": b"pyspark.daemon"}  # in a worker's command line
_JOB = """
import sys, shortlist
shortlist.score(sys.argv[1], sys.argv[2], out=sys.argv[3], engine=sys.argv[4], workers=2, **{})
"""


def missing(engine):
    """Say what this machine lacks for an engine, if anything."""
    package = {"ray": "ray", "spark": "pyspark"}[engine]
    spec = importlib.util.find_spec(package)
    # No origin: a folder of that name, such as the one that Ray leaves beside a clone in /tmp.
    if spec is None or spec.origin is None:
        return f"{package} is not installed (make cluster)"
    if engine == "spark" and shutil.which("java") is None:
        return "there is no java (apt install default-jre-headless)"
    return None


def descendants(pid):
    """Processes that a process has started, and those that they have."""
    found = children(pid)
    return found + [one for child in found for one in descendants(child)]


def workers_of(engine, pid=None):
    """Processes of a cluster under a process that may have a part in hand."""
    found = []
    for one in descendants(pid or os.getpid()):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{one}/cmdline").read_bytes()
            if _MARKS[engine] in line.replace(b"\0", b" ") and not children(one):
                found.append(one)
    return found


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class WorkerKiller:
    """Kills a random worker at random numbers of done parts."""

    def __init__(self, engine, random, n_kills):
        self.engine, self.random = engine, random
        self.moments = set(random.choice(range(1, 20), n_kills, replace=False).tolist())
        self.n_told = 0
        self.killed = []

    def __call__(self, progress):
        self.n_told += 1
        if self.n_told in self.moments and (workers := workers_of(self.engine)):
            time.sleep(float(self.random.random()) * 0.01)
            self.killed.append(int(self.random.choice(workers)))
            kill(self.killed[-1])


@contextlib.contextmanager
def no_worker_lives(engine):
    """Kill every worker as soon as it is there, for a block."""
    is_over = threading.Event()

    def work():
        while not is_over.wait(0.02):
            for one in workers_of(engine):
                kill(one)

    killer = threading.Thread(target=work)
    killer.start()
    try:
        yield
    finally:
        is_over.set()
        killer.join()


def kill_driver(engine, bundle, requests, out, random):
    """Kill a job's driver when a random number of parts is there; says whether it was alive."""
    goal = n_parts(out) + int(random.integers(0, 6))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", _JOB.format(OPTIONS), bundle, requests, out, engine],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def is_due():
        is_begun = (out / "_job.json").exists() and bool(workers_of(engine, driver.pid))
        return driver.poll() is not None or (is_begun and n_parts(out) >= goal)

    wait_for(is_due, START_SECONDS)
    was_alive = driver.poll() is None
    time.sleep(float(random.random()) * 0.1)
    workers, others = workers_of(engine, driver.pid), descendants(driver.pid)
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(map(is_alive, workers)), START_SECONDS)
    for one in others:  # Ray's agents stay for minutes, and write nothing
        kill(one)
    return was_alive
