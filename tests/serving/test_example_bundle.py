"""The bundle in the package: it opens with this release, answers, and is what its script makes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pyarrow as pa
import pytest

import shortlist
from shortlist.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = [
    {"history": ["winter-garden-1", "winter-garden-2"]},
    {"user_id": "ada"},
    {"city": "Bergen", "age": 30},
    {},
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "make_example_bundle", ROOT / "examples" / "make_example_bundle.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_answers_with_the_next_volume():
    with shortlist.load(shortlist.datasets.example_bundle()) as engine:
        recs = engine.recommend(REQUESTS, top_n=3)
        assert recs.item_ids[0][0] == "winter-garden-3"
        assert recs.source.tolist() == ["history", "stored history", "features", "popular"]
        assert recs.counts.tolist() == [3, 3, 3, 3]


def test_the_example_is_small_and_whole():
    path = shortlist.datasets.example_bundle()
    assert sum(file.stat().st_size for file in path.iterdir()) < 200_000
    with Bundle.open(path) as bundle:  # of the present format, every hash compared
        assert bundle.manifest.n_items == 48
        assert [feature.name for feature in bundle.manifest.features_of("user")] == ["city", "age"]


def test_the_example_holds_what_its_script_generates(script):
    tables = script.make_tables()
    with pa.OSFile(str(shortlist.datasets.example_bundle() / "items.arrow")) as file:
        items = pa.ipc.open_file(file).read_all()
    wanted = tables["items"]
    assert items["item_id"].to_pylist() == wanted["item_id"].to_list()
    assert items["title"].to_pylist() == wanted["title"].to_list()
    assert items["genres"].to_pylist() == wanted["genres"].to_list()
    with shortlist.load(shortlist.datasets.example_bundle()) as engine:
        assert engine.report()["n_users"] == tables["users"].height


def test_the_first_lines_of_the_readme_run_on_the_example(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1]
    names = {}
    exec(block, names)
    names["engine"].close()
    assert "Salt Road, volume 3" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_makes_a_bundle_with_the_same_first_places(script, tmp_path):
    with pytest.warns(UserWarning, match="measured on 60 users"):
        report = script.make_bundle(tmp_path / "books.shortlist")
    with report.load() as new, shortlist.load(shortlist.datasets.example_bundle()) as old:
        first = [engine.recommend(REQUESTS[:2], top_n=1).item_ids.tolist() for engine in (new, old)]
    assert first[0] == first[1]
