"""Two environments side by side: every cell has a ratio, and other answers have no times."""

import json
import subprocess
import sys
from pathlib import Path

import against
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from worlds import make_world

PROGRAM = against.__file__
SHORT = ["--other", sys.executable, "--rounds", "1", "--seconds", "0.02", "--json"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("against") / "tiny.shortlist").path


def run(*options):
    command = [sys.executable, PROGRAM, *SHORT, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_cell_is_measured_on_both_sides(bundle):
    done = run("--bundle", bundle)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert set(stages) == {"1", "2"}
    for cells in stages.values():
        assert set(cells) == set(against.CELLS)
        assert all(cell["this"] > 0 < cell["other"] for cell in cells.values())
        assert all(cell["ratio"] > 0 for cell in cells.values())


def test_other_answers_have_no_times(bundle, tmp_path):
    other = make_world(tmp_path / "other.shortlist", sign=-1).path
    done = run("--bundle", bundle, "--other-bundle", other)
    assert done.returncode == 1
    assert "answers differ, first number 0" in done.stderr
    assert done.stdout == ""
