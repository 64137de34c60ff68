"""Makes `import c_engine` and `import c_library` work here; two bundles that answer differently."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "c_abi")]


@pytest.fixture(scope="session")
def bundle(make_host_bundle, tmp_path_factory):
    """Integer ids, user features, a scorer."""
    return make_host_bundle(tmp_path_factory.mktemp("c") / "tiny.shortlist")


@pytest.fixture(scope="session")
def other(make_host_bundle, tmp_path_factory):
    """The same items with opposite vectors: no answer of one bundle is one of the other."""
    return make_host_bundle(tmp_path_factory.mktemp("other") / "other.shortlist", sign=-1)


@pytest.fixture(scope="session")
def text_bundle(make_host_bundle, tmp_path_factory):
    """String ids, no scorer."""
    path = tmp_path_factory.mktemp("text") / "text.shortlist"
    return make_host_bundle(path, "string", with_scorer=False)
