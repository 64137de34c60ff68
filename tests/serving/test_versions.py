"""Old versions beside a bundle: what `prune` removes, and what it never does."""

import json
import shutil

import pytest

from shortlist import versions
from shortlist.cli import main


def write_version(world, path, version, parent=None, run=None):
    """The world's bundle under another version."""
    shutil.copytree(world.path, path)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    created = manifest["created"]
    lineage = {"version": version, "parent": parent, "created": created, "run": run}
    manifest["lineage"] = {**lineage, "ancestors": []}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def name_of(day):
    return f"202611{day:02d}T000000-00000{day % 10}"


@pytest.fixture
def champion(world, tmp_path):
    """Version 9 came from version 2; 1 to 8 lie beside it, each with a run folder."""
    folder = tmp_path / "movies.versions"
    folder.mkdir()
    for day in range(1, 9):
        write_version(world, folder / f"{name_of(day)}.shortlist", name_of(day), run=f"{day}.run")
        (folder / f"{day}.run").mkdir()
        (folder / f"{day}.run" / "config.toml").touch()
    (folder / "9.run").mkdir()
    path = tmp_path / "movies.shortlist"
    write_version(world, path, name_of(9), parent=name_of(2), run="9.run")
    return path


def kept_days(champion):
    folder = champion.with_suffix(".versions")
    bundles = {int(path.name[6:8]) for path in folder.glob("*.shortlist")}
    runs = {int(path.stem) for path in folder.glob("*.run")}
    assert not list(folder.glob(".*"))
    return bundles, runs


def test_the_newest_and_the_one_a_rollback_takes_stay(champion):
    assert versions.prune(champion, 3) == [name_of(day) for day in (1, 3, 4, 5)]
    assert kept_days(champion) == ({2, 6, 7, 8}, {2, 6, 7, 8, 9})
    assert versions.prune(champion, 3) == []
    assert versions.rollback(champion)["version"] == name_of(2)
    assert versions.prune(champion, 1) == [name_of(day) for day in (6, 7, 8)]
    assert kept_days(champion) == ({9}, {2, 9})  # the champion is 2 now


def test_a_run_folder_that_a_kept_version_came_from_stays(world, champion):
    folder = champion.with_suffix(".versions")
    write_version(world, folder / "again.shortlist", name_of(10), run="1.run")
    versions.prune(champion, 1)
    assert (folder / "1.run").is_dir()
    assert sorted(path.name for path in folder.glob("*.shortlist")) == [
        f"{name_of(2)}.shortlist",
        "again.shortlist",
    ]


@pytest.mark.parametrize("n_removed", range(3))
def test_a_prune_that_was_killed_is_finished_by_the_next(champion, monkeypatch, n_removed):
    real, calls = shutil.rmtree, []

    def killed(path):
        calls.append(path)
        if len(calls) > n_removed:
            (path / "manifest.json").unlink(missing_ok=True)  # half of it
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(versions.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        versions.prune(champion, 2)
    monkeypatch.undo()
    assert {row["version"] for row in versions.history(champion)} >= {name_of(2), name_of(9)}
    versions.prune(champion, 2)
    assert kept_days(champion) == ({2, 7, 8}, {2, 7, 8, 9})


def test_nothing_to_keep_is_refused(champion, capsys):
    with pytest.raises(ValueError, match="keep: got 0, expected at least 1 version"):
        versions.prune(champion, 0)
    arguments = ["update", str(champion), "--feedback", "log", "--keep", "0"]
    assert main(arguments) != 0
    assert "--keep: got 0, expected at least 1 version" in capsys.readouterr().err
