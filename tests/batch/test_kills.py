"""Exactly once: whoever is killed, and whenever, nothing is lost, doubled or otherwise."""

from __future__ import annotations

import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from jobs import (
    N_PARTS,
    OPTIONS,
    WorkerKiller,
    files_of,
    kill_driver,
    n_parts,
    pool_workers,
    start,
    wait_for,
    write_requests,
)

import shortlist
from shortlist.batch.pool import Pool
from shortlist.batch.worker import Task
from shortlist.errors import ShortlistError


@pytest.fixture(scope="module")
def requests(world, tmp_path_factory):
    return write_requests(world, tmp_path_factory.mktemp("requests") / "users.parquet")


@pytest.fixture(scope="module")
def undisturbed(world, requests, tmp_path_factory):
    """The files of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    report = shortlist.score(world.path, requests, out=out, workers=1, **OPTIONS)
    assert report.n_parts == N_PARTS
    users = pq.read_table(out, columns=["user_id"])["user_id"].to_numpy()
    assert np.array_equal(np.sort(users), np.repeat(np.arange(30_000), 5))
    return files_of(out)


def kill_drivers(world, requests, undisturbed, tmp_path, n_kills, seed):
    """Kill a job again and again until so many kills are done; begin anew where it is done."""
    random = np.random.default_rng(seed)
    for number in range(n_kills):
        out = tmp_path / f"out{number // 3}"
        kill_driver(world.path, requests, out, random, workers=1 + number % 2)
        assert files_of(out).items() & undisturbed.items() >= {
            (name, value) for name, value in files_of(out).items() if name.startswith("part-")
        }
        if number % 3 == 2 or number == n_kills - 1:
            report = shortlist.score(world.path, requests, out=out, workers=1, **OPTIONS)
            assert report.n_requests == 30_000
            assert files_of(out) == undisturbed


def kill_workers(world, requests, undisturbed, tmp_path, n_kills, seed):
    random, n_left = np.random.default_rng(seed), n_kills
    for number in range(n_kills):
        killer = WorkerKiller(random, min(2, n_left))
        out = tmp_path / f"out{number}"
        shortlist.score(world.path, requests, out=out, workers=2, progress=killer, **OPTIONS)
        assert files_of(out) == undisturbed
        n_left -= len(killer.killed)
        if n_left <= 0:
            return
    pytest.fail(f"{n_left} kills missed")


def test_a_killed_driver_goes_on(world, requests, undisturbed, tmp_path):
    kill_drivers(world, requests, undisturbed, tmp_path, 6, seed=1)


def test_a_killed_worker_is_replaced(world, requests, undisturbed, tmp_path):
    kill_workers(world, requests, undisturbed, tmp_path, 4, seed=2)


@pytest.mark.slow
def test_fifty_killed_drivers_go_on(world, requests, undisturbed, tmp_path):
    kill_drivers(world, requests, undisturbed, tmp_path, 50, seed=3)


@pytest.mark.slow
def test_fifty_killed_workers_are_replaced(world, requests, undisturbed, tmp_path):
    kill_workers(world, requests, undisturbed, tmp_path, 50, seed=4)


def test_two_jobs_do_not_write_into_one_folder(world, requests, tmp_path):
    out = tmp_path / "out"
    driver = start(world.path, requests, out, workers=1)
    wait_for(lambda: (out / "_job.json").exists())
    os.kill(driver, signal.SIGSTOP)
    try:
        with pytest.raises(ShortlistError, match="is being written by another job"):
            shortlist.score(world.path, requests, out=out, workers=1, **OPTIONS)
    finally:
        os.kill(driver, signal.SIGKILL)
        os.waitpid(driver, 0)


def test_a_job_whose_workers_die_again_and_again_stops(world, requests, tmp_path, monkeypatch):
    from shortlist.batch import pool

    monkeypatch.setattr(pool, "_WORK", "import os; os.kill(os.getpid(), 9)")
    out = tmp_path / "out"
    said = r"workers: 3 died one after another \(killed by SIGKILL\) at opening the bundle"
    with pytest.raises(ShortlistError, match=said):
        shortlist.score(world.path, requests, out=out, workers=2, **OPTIONS)
    assert pool_workers(os.getpid()) == []
    assert n_parts(out) == 0


def test_an_interrupt_leaves_no_worker(world, requests, undisturbed, tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        shortlist.score(world.path, requests, out=out, workers=1, progress=interrupt, **OPTIONS)
    assert pool_workers(os.getpid()) == []
    shortlist.score(world.path, requests, out=out, workers=1, **OPTIONS)
    assert files_of(out) == undisturbed


def test_a_worker_that_is_ready_first_gets_no_more_than_its_share():
    class Process:
        def __init__(self, is_ready):
            self.tasks, self.is_ready = {}, is_ready

        def give(self, task):
            self.tasks[task.number] = task

    pool = Pool(None, [Task(number, None, "") for number in range(4)], 2, lambda done: None)
    first, second = Process(True), Process(False)
    pool._workers = {"first": first, "second": second}
    pool._hand_out()
    assert sorted(first.tasks) == [0, 1]
    second.is_ready = True
    pool._hand_out()
    assert sorted(second.tasks) == [2, 3]
