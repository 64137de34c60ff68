"""Tiny bundles made by hand: serving is tested without TensorFlow."""

import functools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from worlds import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Integer ids, users, four kinds of user features, a scorer."""
    return make_world(tmp_path_factory.mktemp("int") / "tiny.shortlist")


@pytest.fixture
def copy(world, tmp_path):
    """A private copy of the tiny bundle, to be damaged."""
    path = tmp_path / "tiny.shortlist"
    shutil.copytree(world.path, path)
    return path


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
    import shortlist.loading

    with shortlist.loading.load(world.path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def text_engine(text_world):
    import shortlist.loading

    with shortlist.loading.load(text_world.path) as loaded:
        yield loaded


class Champions:
    """Makes bundles with versions, as updates do."""

    def __init__(self, world):
        self.world = world

    def __call__(self, folder, number=99):
        """Copy the world's bundle under a version."""
        path = shutil.copytree(self.world.path, folder / "shop.shortlist")
        (path / "manifest.json").write_text(self.manifest(path, number, None, None))
        return path

    @staticmethod
    def version(number):
        return f"20261101T{number:06d}-abcdef"

    def manifest(self, champion, number, run, parent="own"):
        """Text of a manifest whose version came from a champion's."""
        manifest = json.loads((champion / "manifest.json").read_text(encoding="utf-8"))
        old = manifest.get("lineage", {})
        lineage = {"version": self.version(number), "created": manifest["created"], "run": run}
        if parent == "own":
            entry = {name: value for name, value in old.items() if name != "ancestors"}
            lineage |= {"parent": old["version"], "ancestors": [entry, *old["ancestors"]][:100]}
        else:
            lineage |= {"parent": parent, "ancestors": []}
        return json.dumps(manifest | {"lineage": lineage})


@pytest.fixture(scope="session")
def champion_of(world):
    """Make bundles with versions."""
    return Champions(world)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """URL of a PostgreSQL server of our own, on a socket in a temporary folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    tools = [Path(path).parent for path in [shutil.which("initdb")] if path] + found
    if not tools:
        pytest.skip("no initdb: install PostgreSQL to test the log in a server")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # sockets want short names
    as_user = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        if not shutil.which("runuser") or not any(u.pw_name == "postgres" for u in pwd.getpwall()):
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    data, bin_ = folder / "data", tools[0]
    run = functools.partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    run([*as_user, bin_ / "initdb", "-D", data, "-A", "trust", "-U", "shortlist", "--no-sync"])
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c shared_buffers=16MB"
    control = [*as_user, bin_ / "pg_ctl", "-D", data, "-w"]
    with open(folder / "server.log", "w") as said:
        subprocess.run(
            [*control, "start", "-o", options], check=True, cwd=folder, stdout=said, stderr=said
        )
    try:
        yield f"postgresql+psycopg://shortlist@/postgres?host={folder}"
    finally:
        run([*control, "stop", "-m", "immediate"])
        shutil.rmtree(folder)
