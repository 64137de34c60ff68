"""Fuzz targets build, run, and find nothing in a short while (`make fuzz` for a long one)."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_fuzzing_index_files_finds_nothing():
    done = subprocess.run(
        ["make", "fuzz", "SECONDS=20"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    # Our driver's line, or libFuzzer's.
    runs = re.search(r"fuzz: (\d+) runs|Done (\d+) runs", done.stdout + done.stderr)
    assert runs is not None
    assert int(runs.group(1) or runs.group(2)) > 180  # more than the seeds


def test_a_few_damaged_bundles_are_refused_in_python_and_c():
    command = [sys.executable, ROOT / "tests" / "fuzz_bundles.py", "--seconds", "3", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "no finding" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_fuzzing_bundles_finds_nothing():
    done = subprocess.run(
        ["make", "fuzz-bundles", "SECONDS=20"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "no finding" in done.stdout
