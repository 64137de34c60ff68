"""What a killed process leaves under a temporary name, the next one finds and removes."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shortlist import FeedbackLog, ShortlistError, _temporary, versions
from shortlist.bundle import Bundle, BundleWriter

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock", "os.chmod"}
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def killed_at(step, work):
    """Run some work in a child that is killed before its n-th step on files; False: it ended."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event, _):
            if event in STEPS:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            sys.addaudithook(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def all_kills(work, check, stride=1):
    """Kill some work at every step of it, or at every n-th."""
    step = 0
    while killed_at(step, work):
        check()
        step += stride
    check()
    return step


def in_child(work):
    """Whether some work is done well in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("has_exchange", [True, False])
def test_a_writer_killed_at_any_step_leaves_an_old_or_a_new_bundle_and_nothing_else(
    world, text_world, tmp_path, monkeypatch, is_there, has_exchange
):
    target = tmp_path / "shop.shortlist"
    if is_there:
        shutil.copytree(world.path, target)
    if not has_exchange:
        monkeypatch.setattr("shortlist.bundle.writer.ctypes.CDLL", lambda *_, **__: object())

    def write():
        with BundleWriter(target) as writer:
            shutil.copytree(text_world.path, writer.directory, dirs_exist_ok=True)
            writer.commit()

    def check():
        BundleWriter(tmp_path / "another.shortlist").__exit__(None, None, None)
        left = [path.name for path in tmp_path.iterdir()]
        assert left == (["shop.shortlist"] if left or is_there else [])
        if left:
            Bundle.open(target).close()

    assert all_kills(write, check) > 20
    with Bundle.open(target) as found:
        assert found.manifest["user_id_dtype"] == "string"


def test_a_file_killed_at_any_step_is_the_old_one_or_the_new_one(tmp_path):
    place = tmp_path / "events.parquet"
    place.write_bytes(b"old")

    def write():
        with _temporary.replacing(place) as file:
            file.write(b"new")

    def check():
        _temporary.sweep(tmp_path)
        assert os.listdir(tmp_path) == [place.name]
        assert place.read_bytes() in (b"old", b"new")

    assert all_kills(write, check) >= 4
    assert place.read_bytes() == b"new"


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_an_update_killed_at_any_step_leaves_nothing_that_the_next_one_keeps(
    champion_of, tmp_path, stride
):
    """What an update does to files: write under a name of its own, rename, promote, prune."""
    champion = champion_of(tmp_path)
    folder = champion.with_suffix(".versions")
    number = [0]

    def update():
        with versions.updating(champion) as name:
            (folder / f"{name}.run").mkdir()
            (folder / f"{name}.run" / "config.toml").touch()
            place = folder / f"new-{name}.shortlist"
            with BundleWriter(place) as writer:
                shutil.copytree(champion, writer.directory, dirs_exist_ok=True)
                manifest = champion_of.manifest(champion, number[0], f"{name}.run")
                (writer.directory / "manifest.json").write_text(manifest)
                writer.commit()
            kept = folder / f"{champion_of.version(number[0])}.shortlist"
            place.rename(kept)
            versions.promote(kept, champion)
            versions.prune(champion, 1)

    def check():
        number[0] += 1
        with versions.updating(champion):
            pass
        versions.prune(champion, 1)
        rows = versions.history(champion)
        assert {row["state"] for row in rows} <= {"champion", "ancestor", "other"}
        names = {Path(row["path"]).name for row in rows if row["path"]} - {champion.name}
        runs = {row.get("run") for row in rows} - {None}
        there = set(os.listdir(folder)) if folder.exists() else set()
        assert names <= there
        assert there - names <= runs
        assert {path.name for path in tmp_path.iterdir()} <= {champion.name, folder.name}

    assert all_kills(update, check, stride) > 50


def test_what_a_living_process_holds_stays(tmp_path):
    held = _temporary.new_folder(tmp_path / "a.shortlist")
    with _temporary.replacing(tmp_path / "b") as file:
        file.write(b"half")
        assert in_child(lambda: _temporary.sweep(tmp_path))
        _temporary.sweep(tmp_path)
        assert held.path.is_dir()
    assert (tmp_path / "b").read_bytes() == b"half"
    held.remove()
    held.remove()
    assert os.listdir(tmp_path) == ["b"]


def test_a_forked_child_does_not_remove_what_its_parent_made(tmp_path):
    held = _temporary.new_folder(tmp_path / "a")
    assert in_child(held.remove)
    assert held.path.is_dir()
    held.remove()


def test_other_files_stay(tmp_path):
    names = [".a.tmp", ".a.shortlist.abcdefgh", ".a.0123456789ab.shortlist-tmp.txt", "a"]
    for name in names:
        (tmp_path / name).touch()
    _temporary.sweep(tmp_path)
    _temporary.sweep(tmp_path / "none")
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_without_locks_only_what_is_a_day_old_is_removed(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError("not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    held = _temporary.new_folder(tmp_path / "a")
    (held.path / "file").touch()
    _temporary.sweep(tmp_path)
    assert held.path.is_dir()
    for path in (held.path / "file", held.path):
        os.utime(path, (time.time() - 90_000,) * 2)
    _temporary.sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_longest_name_gets_a_temporary_one(tmp_path):
    place = tmp_path / ("é" * 120 + "x.shortlist")
    held = _temporary.new_folder(place)
    assert held.path.is_dir()
    os.close(held.descriptor)  # as if its process had ended
    _temporary.sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_link_is_removed_and_its_target_stays(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / ".a.0123456789ab.shortlist-tmp").symlink_to(tmp_path / "target")
    _temporary.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_sweep_beside_a_removal_does_no_harm(tmp_path, monkeypatch, is_begun):
    """It may remove all of it, or a part that the removal has found already."""
    doomed = tmp_path / "old.run"
    (doomed / "weights").mkdir(parents=True)
    if is_begun:
        scan = os.scandir

        def scan_and_lose(folder):
            found = scan(folder)
            monkeypatch.undo()
            _temporary.sweep(tmp_path)
            return found

        monkeypatch.setattr(os, "scandir", scan_and_lose)
    else:
        rename = Path.rename

        def rename_and_lose(path, goal):
            rename(path, goal)
            _temporary.sweep(tmp_path)

        monkeypatch.setattr(Path, "rename", rename_and_lose)
    _temporary.discard(doomed)
    assert os.listdir(tmp_path) == []
    _temporary.discard(doomed)  # it is gone


def test_what_an_unpacked_zip_left_is_removed_by_the_next(world, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    zipped = shutil.make_archive(str(tmp_path / "tiny"), "zip", world.path)

    def die():
        opened = Bundle.open(zipped)
        assert opened.directory.is_dir()
        os.kill(os.getpid(), signal.SIGKILL)

    assert not in_child(die)
    assert len(os.listdir(tmp_path / "tmp")) == 1
    with Bundle.open(zipped) as opened:
        assert os.listdir(tmp_path / "tmp") == [opened.directory.name]
    assert os.listdir(tmp_path / "tmp") == []


def test_an_export_of_a_log_that_is_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    with FeedbackLog(tmp_path / "log") as log:
        log.append(user_id=1, item_id=2, kind="click", timestamp=3)
    monkeypatch.setattr("os.fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))

    def export():
        with FeedbackLog(tmp_path / "log") as log:
            log.export(folder / "events.parquet")

    assert not in_child(export)
    monkeypatch.undo()
    assert len(os.listdir(folder)) == 1
    with FeedbackLog(tmp_path / "log") as log:
        log.export(folder / "other.parquet")
    assert os.listdir(folder) == ["other.parquet"]


def test_a_folder_that_cannot_be_locked_is_named(world, tmp_path):
    champion = shutil.copytree(world.path, tmp_path / "shop.shortlist")
    (tmp_path / "shop.versions").touch()
    with pytest.raises(ShortlistError, match=r"expected a folder .*shop.versions .*File exists"):
        versions.rollback(champion)


KILLED_BETWEEN = """
import ctypes, os, pathlib, signal, sys
from shortlist.bundle import writer
new, old, step = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
ctypes.CDLL = lambda *_, **__: object()
rename, n_renames = pathlib.Path.rename, 0
def counted(path, target):
    global n_renames
    n_renames += 1
    if n_renames == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
pathlib.Path.rename = counted
writer.exchange(new, old)
"""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_exchange_killed_at_any_rename_loses_neither_of_the_two(tmp_path, step):
    versions = tmp_path / "versions"
    versions.mkdir()
    new, old = versions / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "content").write_text(folder.name)
    command = [sys.executable, "-c", KILLED_BETWEEN, str(new), str(old), str(step)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    _temporary.sweep(tmp_path)
    found = {(folder / "content").read_text() for folder in (new, old) if folder.exists()}
    assert found == {"new", "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "versions"]
