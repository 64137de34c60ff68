"""Bundles in object stores: copied once a machine, whole, and the ones that were meant."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from jobs import files_of

import shortlist
from shortlist.batch.remote import local_bundle
from shortlist.batch.scorer import _engine
from shortlist.errors import BundleError


@pytest.fixture
def store(world, tmp_path, monkeypatch):
    """A store with a bundle, and a cache that is empty."""
    monkeypatch.setenv("SHORTLIST_CACHE", str(tmp_path / "cache"))
    shutil.copytree(world.path, tmp_path / "store" / "tiny.shortlist")
    return tmp_path / "store"


@pytest.fixture
def copies(monkeypatch):
    """What is copied from a store."""
    copied, copy = [], pyarrow.fs.copy_files

    def counted(source, *args, **kwargs):
        copied.append(source)
        copy(source, *args, **kwargs)

    monkeypatch.setattr(pyarrow.fs, "copy_files", counted)
    return copied


def held(tmp_path):
    return [path for path in (tmp_path / "cache" / "bundles").iterdir() if path.name != ".lock"]


def test_answers_are_those_of_the_bundle_at_a_path(world, store, copies, tmp_path):
    score = shortlist.batch.scorer(f"file://{store}/tiny.shortlist/")
    other = pickle.loads(pickle.dumps(score))
    requests = pa.record_batch({"user_id": [1, 2]})
    assert other(requests).equals(shortlist.batch.scorer(world.path)(requests))
    other.check_untouched()
    assert len(copies) == 1
    (folder,) = held(tmp_path)
    assert folder.name == score.identity
    assert files_of(folder / "tiny.shortlist") == files_of(store / "tiny.shortlist")


def test_jobs_take_an_address(world, store, tmp_path, in_threads, monkeypatch):
    options = {"workers": 1, "partitions": 3}
    address = f"file://{store}/tiny.shortlist"
    shortlist.score(address, out=tmp_path / "a", **options)
    shortlist.score(world.path, out=tmp_path / "b", **options)
    assert pq.read_table(tmp_path / "a").equals(pq.read_table(tmp_path / "b"))
    from shortlist.cli import main

    out = str(tmp_path / "c")
    flags = ["--all-users", "--workers", "1", "--partitions", "3", "--quiet"]
    assert main(["score", address, "--out", out, *flags]) == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "c")


def test_a_zip_is_copied_too(store, tmp_path):
    shutil.make_archive(str(store / "z"), "zip", store / "tiny.shortlist")
    (store / "z.zip").rename(store / "z.shortlist")
    whole, zipped = (
        shortlist.batch.scorer(f"file://{store}/{name}.shortlist") for name in ("tiny", "z")
    )
    assert whole.identity == zipped.identity
    requests = pa.record_batch({"user_id": [1, 2]})
    assert whole(requests).equals(zipped(requests))


def test_workers_of_a_machine_copy_once(store, copies, tmp_path):
    address = f"file://{store}/tiny.shortlist"
    identity = shortlist.batch.scorer(address).identity
    shutil.rmtree(tmp_path / "cache")
    copies.clear()
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: local_bundle(address, identity), range(8)))
    assert found == {str(tmp_path / "cache" / "bundles" / identity / "tiny.shortlist")}
    assert len(copies) == 1


def test_a_worker_without_a_store_uses_what_the_machine_has(store, copies):
    address = f"file://{store}/tiny.shortlist"
    score = shortlist.batch.scorer(address)
    shutil.rmtree(store)
    assert score(pa.record_batch({"user_id": [1]})).num_rows == 10


def test_half_a_copy_is_none(store, tmp_path, monkeypatch):
    def half(source, target, **_):
        shutil.copy(f"{source}/manifest.json", target)
        raise KeyboardInterrupt

    address = f"file://{store}/tiny.shortlist"
    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.fs, "copy_files", half)
        with pytest.raises(KeyboardInterrupt):
            shortlist.batch.scorer(address)
        assert held(tmp_path) == []
    shortlist.batch.scorer(address)
    assert len(held(tmp_path)) == 1


def test_a_bundle_that_was_replaced_is_refused(text_world, store, tmp_path):
    address = f"file://{store}/tiny.shortlist"
    score = shortlist.batch.scorer(address)
    for folder in (tmp_path / "cache", store / "tiny.shortlist"):
        shutil.rmtree(folder)
    shutil.copytree(text_world.path, store / "tiny.shortlist")
    _engine.cache_clear()
    with pytest.raises(BundleError, match=r"file://.*: expected the bundle that this job began"):
        score(pa.record_batch({"user_id": [1]}))
    assert held(tmp_path) == []


def test_a_damaged_bundle_is_refused(store, tmp_path):
    path = store / "tiny.shortlist" / "items.arrow"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"items\.arrow"):
        shortlist.batch.scorer(f"file://{store}/tiny.shortlist")
    assert held(tmp_path) == []


def test_what_cannot_be_reached_is_named(store, tmp_path, monkeypatch):
    with pytest.raises(BundleError, match=r"file:///none\.shortlist: .*found nothing there"):
        shortlist.batch.scorer("file:///none.shortlist")
    with pytest.raises(BundleError, match=r"ftp://x/shop\.shortlist cannot be copied .* s3://"):
        shortlist.batch.scorer("ftp://x/shop.shortlist")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHORTLIST_CACHE", str(tmp_path / "file"))
    with pytest.raises(BundleError, match=r"Fix: set SHORTLIST_CACHE"):
        shortlist.batch.scorer(f"file://{store}/tiny.shortlist")
