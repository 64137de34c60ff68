"""Tiny bundles made by hand: serving is tested without TensorFlow."""

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
def plain_world(tmp_path_factory):
    """Histories only: no users, no user features."""
    path = tmp_path_factory.mktemp("plain") / "tiny.shortlist"
    return make_world(path, with_users=False, user_features=False)


@pytest.fixture(scope="session")
def make_tiny_bundle():
    """Build one more tiny bundle at a path."""
    return make_world


@pytest.fixture(scope="session")
def engine(world):
    import shortlist.engine

    with shortlist.engine.load(world.path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def text_engine(text_world):
    import shortlist.engine

    with shortlist.engine.load(text_world.path) as loaded:
        yield loaded
