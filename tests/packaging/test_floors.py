"""Which folder may import which: a table of floors, and no circle among files anywhere.

A room imports from rooms of lower floors and from itself. Every import counts, also one inside a
function and one for types alone. The public face, `shortlist/__init__.py`, stands above all.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"shortlist": ROOT / "python" / "shortlist"} | {
    f"shortlist.{name}": ROOT / name for name in ("training", "export")
}
ROOMS = [
    {
        *("errors", "plugin", "threads", "recommendations", "explanations", "datasets"),
        *("_checks", "_arguments", "_forks", "_quiet", "_runtime", "_temporary"),
    },
    {"_columns", "bundle"},
    {"index", "versions", "exploration", "feedback"},
    {"_catalogue", "shards"},
    {"_serving"},
    {"engine", "_build"},
    {"loading", "off_policy"},
    {"batch", "bench"},
    {"cli"},
]
TRAINING_ROOMS = [
    {"training.config", "training.data", "training.graphs"},
    {"training.cleaning", "training.splits"},
    {"training.features", "training.privacy"},
    {"training.models", "training.federated"},
    {"training.evaluation"},
    {"training.fit"},
    {"training.updates"},
    {"export"},
    {"training.pipeline"},
]
# Serving never imports training or export, and these never import the command line.
FLOORS = {f"shortlist.{room}": floor for floor, rooms in enumerate(ROOMS, 1) for room in rooms} | {
    f"shortlist.{room}": 20 + floor for floor, rooms in enumerate(TRAINING_ROOMS) for room in rooms
}
FIRST_FLOOR = 1  # its files import one another, without circles
# Public modules of the training stand beside its rooms and give out names of theirs.
PUBLIC = {"events", "entities", "formats", "event_weights", "metrics"}
FACES = {"shortlist", "shortlist.training"} | {f"shortlist.training.{name}" for name in PUBLIC}
FORBIDDEN = {  # rooms of lower floors that a room must not import all the same
    "shortlist.feedback": {"shortlist.bundle"},
    "shortlist.bundle": {"shortlist.index", "shortlist._columns"},
}


@cache
def modules() -> dict[str, Path]:
    """Every module by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of ours that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                # The compiled core and the version are below everything.
                if whole in modules():
                    found.add(whole)
                elif whole not in ("shortlist._core", "shortlist.__version__"):
                    found.add(node.module)
    return frozenset(found & modules().keys() - {module})


def room_of(module: str) -> str:
    """The room a module lies in."""
    rooms = [room for room in FLOORS if module == room or module.startswith(f"{room}.")]
    assert len(rooms) == 1, f"{module} lies in no room of the table: {rooms}"
    return rooms[0]


def test_every_module_lies_in_a_room() -> None:
    assert len(modules()) > 100
    for module in modules().keys() - FACES:
        room_of(module)


@pytest.mark.parametrize("module", sorted(modules().keys() - FACES))
def test_no_import_leads_upward(module: str) -> None:
    room = room_of(module)
    for other in imports(module):
        if other in FACES:  # made for users, not for ourselves, but for the command line
            is_above = FLOORS[room] > FLOORS["shortlist.engine"]
            assert other == "shortlist" and is_above, f"{module} imports {other}"  # noqa: PT018
            continue
        goal = room_of(other)
        assert goal not in FORBIDDEN.get(room, set()), f"{module} imports {other}"
        if goal != room and not FLOORS[goal] == FLOORS[room] == FIRST_FLOOR:
            assert FLOORS[goal] < FLOORS[room], f"{module} imports {other}"


def test_nobody_imports_the_command_line() -> None:
    for module in modules():
        if not module.startswith("shortlist.cli"):
            assert not any(name.startswith("shortlist.cli") for name in imports(module)), module


def test_no_circle_among_files() -> None:
    graph = {module: imports(module) - FACES for module in modules().keys() - FACES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' → '.join(error.args[1])}")


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"a"}}
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_floors_and_root_stay_few() -> None:
    assert len(ROOMS) <= 10
    assert len(TRAINING_ROOMS) <= 9
    assert len(list(FOLDERS["shortlist"].glob("*.py"))) <= 18
    assert len(list(FOLDERS["shortlist.training"].glob("*.py"))) <= 6
