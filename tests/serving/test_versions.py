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
        f"{name_of(8)}.shortlist",
        "again.shortlist",
    ]


def test_bundles_under_a_name_of_their_own_stay(world, champion):
    folder = champion.with_suffix(".versions")
    for name, version in (("golden", name_of(10)), ("best", "20251101T000000-000000")):
        write_version(world, folder / f"{name}.shortlist", version, run="1.run")
    versions.prune(champion, 1)
    assert {path.stem for path in folder.glob("*.shortlist")} == {
        "golden", "best", name_of(2), name_of(8),
    }  # fmt: skip
    assert (folder / "1.run").is_dir()


def test_a_bundle_among_the_versions_is_no_champion(champion):
    oldest = champion.with_suffix(".versions") / f"{name_of(1)}.shortlist"
    assert versions.prune(oldest, 1) == []
    assert kept_days(champion) == (set(range(1, 9)), set(range(1, 10)))


def test_a_copy_of_the_champion_stays(champion):
    folder = champion.with_suffix(".versions")
    shutil.copytree(champion, folder / f"{name_of(9)}.shortlist")
    versions.prune(champion, 1)
    assert kept_days(champion)[0] == {2, 8, 9}


def test_zips_and_links_are_removed_but_not_what_links_lead_to(champion, tmp_path):
    folder = champion.with_suffix(".versions")
    zipped, linked = (folder / f"{name_of(day)}.shortlist" for day in (1, 3))
    shutil.make_archive(str(tmp_path / "one"), "zip", zipped)
    shutil.rmtree(zipped)
    (tmp_path / "one.zip").rename(zipped)
    for place in (linked, folder / "4.run"):
        place.rename(tmp_path / place.name)
        place.symlink_to(tmp_path / place.name)
    assert versions.prune(champion, 1) == [name_of(day) for day in (1, 3, 4, 5, 6, 7)]
    assert kept_days(champion) == ({2, 8}, {2, 8, 9})
    assert (tmp_path / linked.name / "manifest.json").is_file()
    assert (tmp_path / "4.run" / "config.toml").is_file()


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
