"""Makes `import reference` work here, and puts back the SIMD level and threads after each test."""

import sys
from pathlib import Path

import pytest

from shortlist import _core

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True)
def _default_level():
    level = _core.simd_level()
    yield
    _core.set_simd_level(level)
