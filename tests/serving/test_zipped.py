"""A zipped bundle is the folder it holds, or a BundleError says what is wrong with it."""

import stat
import zipfile

import numpy as np
import pytest
from worlds import BUNDLE_FILES as FILES
from worlds import edit_manifest

import shortlist.loading
from shortlist.bundle import Bundle
from shortlist.errors import BundleError


def zip_of(folder, target, prefix="", compression=zipfile.ZIP_DEFLATED, only=None):
    with zipfile.ZipFile(target, "w", compression) as zipped:
        for file in sorted(folder.iterdir()):
            if only is None or file.name in only:
                zipped.write(file, prefix + file.name)
    return target


@pytest.mark.parametrize("prefix", ["", "tiny.shortlist/"])
def test_a_zip_gives_the_same_answers_and_leaves_nothing_behind(world, tmp_path, prefix, engine):
    zipped = zip_of(world.path, tmp_path / "tiny.zip", prefix)
    with shortlist.loading.load(zipped) as loaded:
        unpacked = loaded.bundle.directory
        request = [{"user_id": 5}, {}]
        found, expected = loaded.recommend(request), engine.recommend(request)
        assert found.item_ids.tolist() == expected.item_ids.tolist()
        assert unpacked.exists()
    assert not unpacked.exists()


def test_zips_with_paths_links_or_duplicates_are_refused(world, tmp_path):
    def refused(message, *extra, only=None):
        path = zip_of(world.path, tmp_path / "bad.zip", only=only)
        with zipfile.ZipFile(path, "a") as zipped:
            for name, data in extra:
                zipped.writestr(name, data)
        with pytest.raises(BundleError, match=message):
            Bundle.open(path)

    refused("expected files at the top or in one folder", ("../evil", b"x"))
    refused("expected files at the top or in one folder", ("/etc/evil", b"x"))
    refused("expected files at the top or in one folder", ("a/b/evil", b"x"))
    refused("expected all files in one folder, found 2 folders", ("other/evil", b"x"))
    refused("expected a plain file name", ("ev\\il", b"x"))
    refused(r"bad\.zip:extra: expected only files the manifest lists", ("extra", b"x"))
    refused(
        r"bad\.zip:scorer\.onnx: expected the file the manifest lists",
        only=set(FILES[:2]) | {"manifest.json", *FILES[3:]},
    )
    refused(r"manifest\.json: expected the file in the zip", only=set(FILES))
    link = zipfile.ZipInfo("scorer.onnx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(
        "expected a plain file, found a symbolic link",
        (link, b"/etc/passwd"),
        only={"manifest.json", *FILES} - {"scorer.onnx"},
    )
    with pytest.warns(UserWarning, match="Duplicate name"):
        refused("expected each file once", ("items.index", b"x"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(copy, tmp_path):
    huge = 64 << 20
    with (copy / "users.arrow").open("wb") as file:
        file.truncate(huge)
    edit_manifest(copy, lambda manifest: manifest["files"]["users.arrow"].update(size=huge))
    path = zip_of(copy, tmp_path / "bomb.zip")
    assert path.stat().st_size < 200_000
    with pytest.raises(BundleError, match=r"users\.arrow: expected at most 200 times the packed"):
        Bundle.open(path)


def test_a_zip_whose_sizes_lie_or_whose_bytes_are_damaged_is_refused(world, tmp_path, copy):
    edit_manifest(copy, lambda manifest: manifest["files"]["items.index"].update(size=7))
    with pytest.raises(BundleError, match=r"items\.index: expected 7 bytes, found"):
        Bundle.open(zip_of(copy, tmp_path / "lie.zip"))
    whole = zip_of(world.path, tmp_path / "whole.zip").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        (tmp_path / "flip.zip").write_bytes(data)
        try:
            Bundle.open(tmp_path / "flip.zip").close()
        except BundleError:
            continue
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.zip").write_bytes(whole[:size])
        with pytest.raises(BundleError, match=r"cut\.zip: expected a zip that can be read"):
            Bundle.open(tmp_path / "cut.zip")
