"""The fuzz target builds, runs, and finds nothing in a short while (`make fuzz` for a long one)."""

import re
import shutil
import subprocess
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
