"""The folder of shards: swaps that are seen whole, and wrong or damaged files."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from shortlist import BundleError, Index, ShortlistError
from shortlist.shards import Shard, ShardedIndex, answer_shard, merge, read_set
from shortlist.shards import folder as files


def rows(seed, n=40, dim=6):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    ShardedIndex.build(tmp_path / "items.shards", rows(0), n_shards=4)
    return tmp_path / "items.shards"


def test_a_replaced_shard_is_seen_by_those_that_refresh(folder):
    writer, reader = ShardedIndex.load(folder), ShardedIndex.load(folder)
    old = reader.index
    assert writer.replace({1: Index(rows(1, 10))}) is writer
    assert (writer.generation, reader.generation) == (2, 1)
    changed = rows(0).copy()
    changed[10:20] = rows(1, 10)
    expected = Index(changed).search(rows(2, 5), 20)
    before = Index(rows(0)).search(rows(2, 5), 20)
    assert writer.search(rows(2, 5), 20).scores.tobytes() == expected.scores.tobytes()
    assert reader.search(rows(2, 5), 20).scores.tobytes() == before.scores.tobytes()
    assert reader.refresh()
    assert not reader.refresh()
    assert reader.search(rows(2, 5), 20).scores.tobytes() == expected.scores.tobytes()
    assert old.search(rows(2, 5), 20).scores.tobytes() == before.scores.tobytes()


def test_only_files_of_the_last_two_sets_stay(folder):
    index = ShardedIndex.load(folder)
    for seed in range(1, 5):
        index.replace({0: Index(rows(seed, 10))})
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 4 + 1 + 1
    assert {shard.file for shard in index.shards} | {"shards.json"} <= names


def test_a_killed_writer_leaves_the_old_set(folder):
    code = (
        "import sys, os, numpy as np\n"
        "from shortlist import Index, _temporary\n"
        "from shortlist.shards import ShardedIndex\n"
        "from shortlist.shards import folder as files\n"
        "real = files._temporary.replacing\n"
        "files._temporary.replacing = lambda place: os._exit(9)\n"
        f"ShardedIndex.load({str(folder)!r}).replace({{2: Index(np.ones((10, 6)))}})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    index = ShardedIndex.load(folder)
    assert index.generation == 1
    assert index.vectors([20]).tobytes() == Index(rows(0)).vectors([20]).tobytes()
    index.replace({2: Index(rows(3, 10))})
    assert not list(folder.glob(".*"))


def test_readers_see_whole_sets_while_shards_are_replaced(folder):
    """Every set has the same number in all rows of two shards; a mixture would have two."""
    index = ShardedIndex.load(folder)
    index.replace({n: Index(np.ones((10, 6))) for n in range(4)})
    index = ShardedIndex.build(folder, np.ones((40, 6)), metric="dot", n_shards=4)
    reader, stop, seen = ShardedIndex.load(folder), threading.Event(), set()

    def read():
        while not stop.is_set():
            reader.refresh()
            scores = reader.search(np.ones((3, 6)), 40).scores
            assert len(np.unique(scores)) == 1, scores
            seen.add(float(scores[0, 0]))

    readers = [threading.Thread(target=read) for _ in range(3)]
    errors = []
    hook, threading.excepthook = threading.excepthook, errors.append
    try:
        for thread in readers:
            thread.start()
        for value in range(2, 30):
            part = Index(np.full((10, 6), value), metric="dot")
            index.replace(dict.fromkeys(range(4), part))
    finally:
        stop.set()
        for thread in readers:
            thread.join()
        threading.excepthook = hook
    assert not errors
    assert len(seen) > 1


def test_two_writers_do_not_meet(folder):
    index = ShardedIndex.load(folder)
    with files.writing(folder), pytest.raises(ShortlistError, match="another process is writing"):
        index.replace({0: Index(rows(1, 10))})
    assert index.replace({0: Index(rows(1, 10))}).generation == 2


def test_a_writer_starts_from_what_the_other_wrote(folder):
    one, other = ShardedIndex.load(folder), ShardedIndex.load(folder)
    one.replace({0: Index(rows(1, 10))})
    other.replace({3: Index(rows(2, 10))})
    assert other.generation == 3
    assert other.vectors([0]).tobytes() == Index(rows(1, 10)).vectors([0]).tobytes()


@pytest.mark.parametrize(
    ("number", "index", "error", "message"),
    [
        (4, Index(rows(1, 10)), ValueError, "number 4; expected 0 to 3"),
        ("0", Index(rows(1, 10)), TypeError, "'0' as the number"),
        (0, rows(1, 10), TypeError, r"shards\[0\]: got ndarray; expected an Index"),
        (0, Index(rows(1, 10, 7)), ValueError, "dim 7; the set in this folder has 6"),
        (0, Index(rows(1, 10), metric="dot"), ValueError, "metric dot; .* has cosine"),
        (0, Index(rows(1, 10), storage="int8"), ValueError, "storage int8; .* has float32"),
        (0, Index(rows(1, 9)), ValueError, "got 9 rows; the shard has 10, .* may_resize=True"),
        (0, Index(rows(1, 10), range(10)), ValueError, "row numbers"),
    ],
)
def test_a_shard_that_does_not_go_with_the_others_is_refused(folder, number, index, error, message):
    before = (folder / "shards.json").read_bytes()
    with pytest.raises(error, match=message):
        ShardedIndex.load(folder).replace({number: index})
    assert (folder / "shards.json").read_bytes() == before
    assert len(list(folder.iterdir())) == 5


def test_an_id_in_two_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match="item_ids"):
        ShardedIndex.build(tmp_path / "a", rows(0), [*range(39), 0], n_shards=4)
    assert not list((tmp_path / "a").iterdir())
    index = ShardedIndex.build(tmp_path / "a", rows(0), range(40), n_shards=4)
    with pytest.raises(ValueError, match="item_ids"):
        index.replace({1: Index(rows(1, 10), [*range(10, 19), 39])})
    index.replace({1: Index(rows(1, 10), [*range(10, 19), 99])})
    assert index.rows_of([99, 19]).tolist() == [19, -1]


def test_a_shard_may_grow_where_no_one_keeps_rows(folder):
    index = ShardedIndex.load(folder).replace({1: Index(rows(1, 15))}, may_resize=True)
    assert [shard.first_row for shard in index.shards] == [0, 10, 25, 35]
    parts = [rows(0)[:10], rows(1, 15), rows(0)[20:]]
    expected = Index(np.concatenate(parts)).search(rows(2, 3), 45)
    assert index.search(rows(2, 3), 45).indices.tolist() == expected.indices.tolist()


def change(folder, **changes):
    record = json.loads((folder / "shards.json").read_text())
    for key, value in changes.items():
        if key in record:
            record[key] = value
        else:
            record["shards"][1][key] = value
    (folder / "shards.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format"),
        ({"format_version": 9}, "format_version"),
        ({"generation": -1}, "generation"),
        ({"dim": 7}, r"expected the dim 7 of the set, found 6; build this shard again"),
        ({"dim": 1.5}, "dim"),
        ({"metric": "dot"}, "expected the metric dot of the set, found cosine"),
        ({"metric": "l1"}, "metric"),
        ({"storage": "int8"}, "expected the storage int8 of the set, found float32"),
        ({"item_ids": "string"}, "expected item ids that are string, found integers"),
        ({"shards": []}, "1 to 65536 shards"),
        ({"shards": {}}, "a list of shards"),
        ({"shards": [1]}, "shard 0 to be an object"),
        ({"file": "../x.index"}, "a plain file name of shard 1"),
        ({"file": "shards.json"}, r"expected .* bytes, found"),
        ({"file": "none.index"}, "none.index: expected a file, found no such file"),
        ({"first_row": 9}, "shard 1 to begin at row 10, where the one before ends, found row 9"),
        ({"n_rows": 11}, "shard 2 to begin at row 21"),
        ({"size": 3}, "expected 3 bytes"),
        ({"sha256": "0" * 64}, "expected sha256 0000"),
        ({"n_rows": 2**63}, "n_rows"),
    ],
)
def test_a_wrong_manifest_is_refused(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(BundleError, match=message):
        ShardedIndex.load(folder)
    with pytest.raises((BundleError, ValueError), match=message):
        Shard.load(folder, 1)


def test_a_shard_with_another_number_of_rows_than_the_manifest_says_is_refused(folder):
    record = json.loads((folder / "shards.json").read_text())
    last = record["shards"][3]
    last["n_rows"] = 9
    (folder / "shards.json").write_text(json.dumps(record))
    with pytest.raises(BundleError, match=r"expected 9 rows, as shards.json says, found 10 rows"):
        ShardedIndex.load(folder)


def test_text_that_is_no_manifest_is_refused(folder):
    for text in (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": NaN}'):
        (folder / "shards.json").write_bytes(text)
        with pytest.raises(BundleError, match=r"items.shards/shards.json"):
            read_set(folder)
    (folder / "shards.json").unlink()
    with pytest.raises(BundleError, match="no such file"):
        ShardedIndex.load(folder)
    with pytest.raises(BundleError, match="no such file"):
        ShardedIndex.load(folder / "nowhere")


def test_damaged_files_are_refused_by_name(folder):
    path = folder / read_set(folder).shards[2].file
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    for at in random.integers(0, len(whole), size=20):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BundleError, match=path.name):
            ShardedIndex.load(folder)
    path.write_bytes(whole[:-64])
    with pytest.raises(BundleError, match=path.name):
        Shard.load(folder, 2)
    path.unlink()
    os.mkfifo(path)  # must not wait
    with pytest.raises(BundleError, match="plain file"):
        ShardedIndex.load(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="plain file"):
        ShardedIndex.load(folder)


def test_a_failed_refresh_keeps_the_old_set(folder):
    index = ShardedIndex.load(folder)
    expected = index.search(rows(1, 3), 7)
    change(folder, sha256="0" * 64)
    with pytest.raises(BundleError):
        index.refresh()
    assert index.generation == 1
    assert index.search(rows(1, 3), 7).scores.tobytes() == expected.scores.tobytes()


def test_nothing_is_written_where_the_vectors_are_wrong(tmp_path):
    wrong = rows(0)
    wrong[35, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        ShardedIndex.build(tmp_path / "a", wrong, n_shards=4)
    assert not list((tmp_path / "a").iterdir())
    for arguments, error in (
        ({"n_shards": 0}, ValueError),
        ({"n_shards": True}, TypeError),
        ({"n_shards": 10**6}, ValueError),
        ({"item_ids": [1]}, ValueError),
        ({"metric": "l1"}, ValueError),
    ):
        with pytest.raises(error):
            ShardedIndex.build(tmp_path / "b", rows(0), **arguments)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="a folder that can be written to"):
        ShardedIndex.build(tmp_path / "file", rows(0))
    with pytest.raises(TypeError, match=r"use ShardedIndex\.build"):
        ShardedIndex(rows(0))
    with pytest.raises(TypeError, match="mmap"):
        ShardedIndex.load(tmp_path / "a", mmap=1)


def test_building_again_is_a_new_generation(folder):
    reader = ShardedIndex.load(folder)
    again = ShardedIndex.build(folder, rows(5, 60), n_shards=2)
    assert (again.generation, len(again), len(again.shards)) == (2, 60, 2)
    assert reader.refresh()
    assert len(reader) == 60


def test_a_pickled_index_opens_its_folder(folder):
    index = pickle.loads(pickle.dumps(ShardedIndex.load(folder, mmap=False)))
    assert index.search(rows(1, 3), 4).indices.shape == (3, 4)


def test_a_copied_folder_is_the_same_index(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    index = ShardedIndex.load(tmp_path / "copy")
    assert repr(index) == (
        "ShardedIndex(40 items in 4 shards, dim 6, cosine, float32, generation 1)"
    )
    index.index.save(tmp_path / "whole.index")
    Index(rows(0)).save(tmp_path / "one.index")
    assert (tmp_path / "whole.index").read_bytes() == (tmp_path / "one.index").read_bytes()


def test_a_task_answers_from_the_set_that_the_folder_holds(folder):
    call = {"queries": rows(2, 3), "top_n": 5}
    before = [answer_shard(folder, number, call) for number in range(4)]
    assert answer_shard(folder, 1, call).version == before[1].version
    ShardedIndex.load(folder).replace({1: Index(rows(1, 10))})
    after = [answer_shard(folder, number, call) for number in range(4)]
    with pytest.raises(ValueError, match=r"answered from the set .* ask again"):
        merge([before[0], *after[1:]], 5)
    expected = ShardedIndex.load(folder).search(rows(2, 3), 5)
    assert merge(after, 5).scores.tobytes() == expected.scores.tobytes()
