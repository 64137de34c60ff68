"""Tiny bundles, and what batch jobs write."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from worlds import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Integer ids, users, four kinds of user features, a scorer."""
    return make_world(tmp_path_factory.mktemp("int") / "tiny.shortlist")


@pytest.fixture(scope="session")
def text_world(tmp_path_factory):
    """String ids, otherwise the same."""
    return make_world(tmp_path_factory.mktemp("text") / "tiny.shortlist", "string")


@pytest.fixture(scope="session")
def engine(world):
    import shortlist

    with shortlist.load(world.path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def text_engine(text_world):
    import shortlist

    with shortlist.load(text_world.path) as loaded:
        yield loaded
