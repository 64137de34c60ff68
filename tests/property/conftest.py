"""Makes `import reference` work here, and runs each test with and without nibbles."""

import sys
from pathlib import Path

import pytest

from shortlist import _core

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True, params=["codes", "nibbles"])
def _default_level(request):
    level = _core.simd_level()
    limit = _core.min_code_bytes_for_nibbles()
    if request.param == "nibbles":  # as if every catalogue were larger than the caches
        _core.set_min_code_bytes_for_nibbles(0)
    yield
    _core.set_min_code_bytes_for_nibbles(limit)
    _core.set_simd_level(level)
