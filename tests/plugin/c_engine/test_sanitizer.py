"""ThreadSanitizer on the operator and the C engine: 16 callers, swaps, sessions of one thread."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from c_engine import RUNTIME

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "native-tsan"


def run_sanitized(target, *arguments):
    cmake = shutil.which("cmake", path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
    for command in (
        [cmake, "--preset", "native-tsan"],
        [cmake, "--build", BUILD, "--target", target],
    ):
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    options = f"suppressions={ROOT / 'tests' / 'cpp' / 'tsan.supp'}"
    done = subprocess.run(
        [BUILD / "tests" / "cpp" / target, RUNTIME, *arguments],
        env={**os.environ, "TSAN_OPTIONS": options},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_callers_and_swaps_do_not_race(bundle, other):
    found = run_sanitized("test_engine_threads", bundle.path, other.path, "10", "1")
    assert "every answer is one version's" in found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_callers_that_share_runs_do_not_race(bundle):
    assert "every answer is its request's" in run_sanitized("test_shared_runs", bundle.path, "60")
