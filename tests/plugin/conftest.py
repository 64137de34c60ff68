"""Makes `import worlds` work here; tiny bundles for hosts, made without TensorFlow."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from worlds import make_world


@pytest.fixture(scope="session")
def make_host_bundle():
    """Build a tiny bundle; returns its world."""

    def make(path, dtype="int64", *, with_scorer=True, **options):
        return make_world(path, dtype, scorer="sums" if with_scorer else None, **options)

    return make


@pytest.fixture(scope="session")
def host_bundle(make_host_bundle, tmp_path_factory):
    """Integer ids, user features, no scorer."""
    path = tmp_path_factory.mktemp("hosts") / "tiny.shortlist"
    return make_host_bundle(path, with_scorer=False)


@pytest.fixture
def rng():
    return np.random.default_rng(7)
