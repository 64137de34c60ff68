"""Forks, spawned processes, and ends of processes, beside an engine: real ones, many times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("process_life.py")
WHAT = ("recommend", "swap", "close", "exit")
pytestmark = pytest.mark.skipif(
    "libtsan" in os.environ.get("LD_PRELOAD", ""), reason="ThreadSanitizer ends forked children"
)


def check(bundle, start, n_threads, what, n):
    """Run the program: all its processes, and itself, must end with 0."""
    done = subprocess.run(
        [sys.executable, PROGRAM, bundle, start, str(n_threads), what, str(n)],
        capture_output=True, text=True, timeout=120 + 10 * n,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{n} of {n} ended with 0; others: {{}}\n"), (
        done.stderr[-2000:]
    )


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("start", ["fork", "fork-busy"])
def test_forked_children_work_and_end(world, start, n_threads, what):
    check(world.path, start, n_threads, what, 3)


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_other_children_work_and_end(world, start):
    check(world.path, start, 2, "swap", 1)


def test_a_program_ends_beside_daemon_threads(world):
    for _ in range(3):
        check(world.path, "end", 1, "exit", 0)


@pytest.mark.slow
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("n_threads", [1, 2, 4])
@pytest.mark.parametrize("start", ["fork", "fork-busy"])
def test_two_hundred_forked_children_work_and_end(world, start, n_threads, what):
    check(world.path, start, n_threads, what, 200)


@pytest.mark.slow
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_many_other_children_work_and_end(world, start, n_threads, what):
    check(world.path, start, n_threads, what, 25)


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_two_hundred_programs_end_beside_daemon_threads(world, n_threads):
    for _ in range(100):
        check(world.path, "end", n_threads, "exit", 0)
