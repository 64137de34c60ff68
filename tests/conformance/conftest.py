"""Makes `import conformance`, `import worlds`, `import c_engine` work; opens each bundle once."""

import sys
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), *(str(TESTS / "plugin" / name) for name in ("c_engine", "c_abi"))]

from conformance.answerers import ANSWERERS  # noqa: E402
from conformance.bundles import BUNDLES  # noqa: E402
from conformance.oracle import Oracle  # noqa: E402
from worlds import make_world  # noqa: E402


@pytest.fixture(scope="session")
def world_of(tmp_path_factory):
    """The world of a bundle of `BUNDLES`."""

    @cache
    def world_of(bundle):
        path = tmp_path_factory.mktemp("conformance") / "tiny.shortlist"
        return make_world(path, **BUNDLES[bundle])

    return world_of


@pytest.fixture(scope="session")
def ask(world_of, tmp_path_factory):
    """The answer of someone to a case."""
    opened = {}

    @cache
    def ask(case, name):
        key = (case.bundle, name)
        if key not in opened:
            opened[key] = ANSWERERS[name].opens(world_of(case.bundle))
        return opened[key].answer(case, tmp_path_factory.mktemp("log"))

    yield ask
    for answerer in opened.values():
        answerer.close()


@pytest.fixture(scope="session")
def expected_of(world_of):
    """The answer of the rules to a case."""

    @cache
    def expected_of(case):
        return Oracle(world_of(case.bundle), case.changes).answer(case)

    return expected_of
