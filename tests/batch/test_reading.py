"""Files of requests are cut where their row groups end, and no row is decoded twice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import n_parts

import shortlist
from shortlist.batch import formats
from shortlist.batch.formats import even_cuts
from shortlist.batch.waiting import Waiting
from shortlist.batch.worker import Task
from shortlist.errors import DataError

pytestmark = pytest.mark.usefixtures("in_threads")
N = 40_000


@pytest.fixture(scope="module")
def table(world):
    random = np.random.default_rng(3)
    items = pa.array(random.choice(world.item_ids, 2 * N))
    splits = pa.array(np.arange(0, 2 * N + 1, 2, dtype=np.int32))
    return pa.table({"user_id": range(N), "history": pa.ListArray.from_arrays(splits, items)})


@pytest.fixture
def decoded(monkeypatch):
    """How many rows each decoding of a row group gave, as they come."""
    counts, real = [], formats._RowGroup._decoded

    def count(self):
        batch = real(self)
        counts.append(batch.num_rows)
        return batch

    monkeypatch.setattr(formats._RowGroup, "_decoded", count)
    return counts


@pytest.mark.parametrize("n_rows", [N, 15_000, 8_000])
def test_no_row_is_decoded_twice(n_rows, world, table, decoded, tmp_path):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=n_rows)
    report = shortlist.score(
        world.path, tmp_path / "a.parquet", out=tmp_path / "out", top_n=1, partitions=7, workers=1
    )
    assert (report.n_parts, report.n_requests) == (7, N)
    assert sum(decoded) == N
    assert formats._unfinished.held is None
    score = shortlist.batch.scorer(world.path, top_n=1)
    rows = pq.read_table(tmp_path / "out").sort_by("user_id")
    assert rows.equals(pa.Table.from_batches([score(table)]))


def test_two_workers_decode_hardly_more(world, table, decoded, tmp_path):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=N)
    shortlist.score(
        world.path, tmp_path / "a.parquet", out=tmp_path / "out", top_n=1, partitions=20, workers=2
    )
    users = pq.read_table(tmp_path / "out")["user_id"].to_numpy()
    assert np.array_equal(np.sort(users), np.arange(N))
    assert N <= sum(decoded) <= 2 * N + 4 * 8192


def test_a_changed_file_is_not_gone_on_with(table, tmp_path):
    path, reader = tmp_path / "a.parquet", formats.Parquet()
    pq.write_table(table, path)
    first = pa.concat_tables(reader.read(path, formats.Cut(0, 10, 10), None))
    assert first["user_id"].to_pylist() == list(range(10))
    pq.write_table(table.slice(1000), path)
    then = pa.concat_tables(reader.read(path, formats.Cut(10, 20, 10), None))
    assert then["user_id"].to_pylist() == list(range(1010, 1020))
    before = pa.concat_tables(reader.read(path, formats.Cut(5, 10, 5), None))
    assert before["user_id"].to_pylist() == list(range(1005, 1010))
    last = pa.concat_tables(reader.read(path, formats.Cut(10, N - 1000, 0), None))
    assert last["user_id"].to_pylist() == list(range(1010, N))
    assert formats._unfinished.held is None


def test_two_readers_of_a_thread_do_not_meet(table, tmp_path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(table, paths[0])
    pq.write_table(table.slice(1000), paths[1])
    found = [[], []]
    for start in range(0, 60, 20):
        cut = formats.Cut(start, start + 20, 20)
        readers = [formats.Parquet().read(path, cut, None) for path in paths]
        for tables in zip(*readers, strict=True):
            for users, one in zip(found, tables, strict=True):
                users += one["user_id"].to_pylist()
    assert found == [list(range(60)), list(range(1000, 1060))]


def ends(*arguments):
    return [cut.stop for cut in even_cuts(*arguments)]


def test_cuts_end_where_row_groups_end():
    groups = [65_536, 131_072, 196_608, 260_000]
    assert ends(groups, 65_536, 0) == groups
    assert ends([1_000_000], 65_536, 0) == [1_000_000 * n // 16 for n in range(1, 17)]
    small = list(range(1000, 200_001, 1000))
    assert ends(small, 65_536, 0) == [50_000, 100_000, 150_000, 200_000]
    assert ends([], 65_536, 0) == ends([0], 65_536, 0) == []
    for seed in range(200):
        random = np.random.default_rng(seed)
        groups = np.cumsum(random.integers(1, 3000, random.integers(1, 60))).tolist()
        n_rows = int(random.integers(1, 4000))
        cuts = even_cuts(groups, n_rows, 0)
        assert len(cuts) == -(-groups[-1] // n_rows)
        assert [cut.start for cut in cuts] == [0, *(cut.stop for cut in cuts[:-1])]
        assert cuts[-1].stop == groups[-1]
        assert all(cut.n_rows == cut.stop - cut.start for cut in cuts)
        assert all(0 < cut.n_rows <= 1.5 * n_rows + 1 for cut in cuts)


def numbers_of(waiting, worker, n):
    return [waiting.take(worker).number for _ in range(n)]


def test_a_worker_goes_on_where_it_was():
    tasks = [Task(number, None, "") for number in range(16)]
    waiting = Waiting(tasks)
    assert numbers_of(waiting, "a", 1) + numbers_of(waiting, "b", 1) == [0, 8]
    assert numbers_of(waiting, "a", 7) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers_of(waiting, "b", 3) == [9, 10, 11]
    assert numbers_of(waiting, "a", 1) == [14]  # the middle of what b has before it
    waiting.put_back("a", [tasks[7], tasks[14]])
    assert numbers_of(waiting, "c", 3) == [7, 14, 13]
    assert numbers_of(waiting, "b", 2) == [12, 15]
    assert len(waiting) == 0


def test_every_task_is_given_once():
    for seed in range(100):
        random = np.random.default_rng(seed)
        tasks = [Task(number, None, "") for number in range(random.integers(0, 40))]
        waiting, taken = Waiting(tasks), []
        while len(waiting):
            task = waiting.take(int(random.integers(0, 5)))
            if random.random() < 0.1:
                waiting.put_back(int(random.integers(0, 5)), [task])
            else:
                taken.append(task.number)
        assert sorted(taken) == list(range(len(tasks)))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_arrow_batches_of_any_size(compression, world, table, tmp_path):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=9000)
    batches = shortlist.batch.stream(world.path, tmp_path / "a.arrow", top_n=1)
    score = shortlist.batch.scorer(world.path, top_n=1)
    assert pa.Table.from_batches(batches).equals(pa.Table.from_batches([score(table)]))


def test_a_damaged_record_batch_stops_its_own_part_alone(world, tmp_path):
    lists = [[int(world.item_ids[0])] * n for n in (5, 3, 7, 2)]
    table = pa.table({"user_id": range(12), "history": lists * 3})
    path = tmp_path / "a.arrow"
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    data, offsets = path.read_bytes(), np.array([0, 5, 8, 15, 17], dtype=np.int32).tobytes()
    at = data.index(offsets, data.index(offsets) + 1)
    path.write_bytes(data[: at + 4] + b"\xff\xff\xff\x70" + data[at + 8 :])
    with pytest.raises(DataError, match=r"1 of 3 parts(?s:.*)a\.arrow, record batch 1: it is dam"):
        shortlist.score(world.path, path, out=tmp_path / "out", partitions=3, workers=1)
    assert n_parts(tmp_path / "out") == 2
