"""Old versions beside a bundle: what `prune` removes, and what it never does."""

import json
import multiprocessing
import os
import shutil
import threading

import pytest

from shortlist import ShortlistError, versions
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

    monkeypatch.setattr("shortlist._temporary.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        versions.prune(champion, 2)
    monkeypatch.undo()
    assert {row["version"] for row in versions.history(champion)} >= {name_of(2), name_of(9)}
    assert list(champion.with_suffix(".versions").glob(".*"))
    versions.prune(champion, 2)
    assert kept_days(champion) == ({2, 7, 8}, {2, 7, 8, 9})


def test_nothing_to_keep_is_refused(champion, capsys):
    with pytest.raises(ValueError, match="keep: got 0, expected at least 1 version"):
        versions.prune(champion, 0)
    (log := champion.parent / "feedback.log").touch()
    arguments = ["update", str(champion), "--feedback", str(log), "--keep", "0"]
    assert main(arguments) != 0
    assert "--keep: got 0, expected at least 1 version" in capsys.readouterr().err


def forked(work, n):
    """Run some work in children that begin at once; return their exit codes."""
    barrier = multiprocessing.get_context("fork").Barrier(n)
    children = []
    for number in range(n):
        child = os.fork()
        if child == 0:
            try:
                barrier.wait()
                os._exit(work(number))
            finally:
                os._exit(99)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_of_two_rollbacks_at_once_one_goes_back_and_the_other_is_refused(champion_of, tmp_path):
    """Even where there is a version before the one it goes back to."""
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        champion = champion_of(folder, 1)
        for number in (2, 3):
            old = champion.with_suffix(".versions") / f"{champion_of.version(number - 1)}.shortlist"
            shutil.copytree(champion, old)
            manifest = champion_of.manifest(old, number, None)
            (champion / "manifest.json").write_text(manifest)

        def back(_, champion=champion):
            try:
                versions.rollback(champion)
            except ShortlistError:
                return 1
            return 0

        codes = sorted(forked(back, 2))
        now = versions.history(champion)[0]["version"]
        n_back = codes.count(0)
        assert codes in ([0, 1], [0, 0])  # the second may have begun after the first had ended
        assert now == champion_of.version(3 - n_back)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_lock_of_updates_is_one_mans_and_never_ends_in_a_bare_error(champion_of, tmp_path):
    champion, inside = champion_of(tmp_path), tmp_path / "inside"

    def take(_):
        for _ in range(60):
            try:
                with versions.updating(champion):
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                    os.unlink(inside)
            except ShortlistError:
                pass
        return 0

    assert forked(take, 6) == [0] * 6
    assert not champion.with_suffix(".versions").exists()


def test_an_update_at_work_keeps_rollbacks_and_prunes_out(champion):
    calls = [versions.rollback, versions.prune, lambda path: versions.promote(path, path)]
    refused = []

    def call(which):
        try:
            which(champion)
        except ShortlistError as error:
            refused.append(str(error))

    with versions.updating(champion):
        for which in calls:
            thread = threading.Thread(target=call, args=[which])
            thread.start()
            thread.join()
        assert versions.prune(champion, 8) == []  # whoever has the lock may
    assert len(refused) == 3
    assert all(
        "another update of this bundle is at work, or a rollback" in said for said in refused
    )


def test_a_rollback_of_what_another_one_replaced_meanwhile_is_refused(champion, monkeypatch):
    take = versions._take

    def late(*place):
        monkeypatch.undo()
        versions.rollback(champion)
        return take(*place)

    monkeypatch.setattr(versions, "_take", late)
    with pytest.raises(ShortlistError, match=r"was to be replaced, but another update or rollback"):
        versions.rollback(champion)
    assert versions.history(champion)[0]["version"] == name_of(2)


def test_the_folder_of_versions_may_be_a_link(champion, tmp_path):
    folder = champion.with_suffix(".versions")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert versions.rollback(champion)["version"] == name_of(2)


def test_what_killed_updates_of_earlier_releases_left_is_removed(champion):
    folder = champion.with_suffix(".versions")
    before = {path.name for path in folder.iterdir()}
    for name in (
        ".new-20251130T114401123456.shortlist.k3_x9abz",
        ".removed-20251130T114401-abcdef.shortlist",
        "new-20251130T114401123456.shortlist",
        "20251130T114401123456.run",
    ):
        (folder / name).mkdir()
        (folder / name / "users.arrow").write_text("Kafka")
    with versions.updating(champion):
        pass
    assert {path.name for path in folder.iterdir()} == before
