"""Makes `import c_library` work here, and puts back the threads of the process after each test."""

import sys
from pathlib import Path

import pytest

import shortlist

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _threads_as_before():
    n_threads = shortlist.get_num_threads()
    yield
    shortlist.set_num_threads(n_threads)
