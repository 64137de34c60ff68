"""What is wrong, where, and what to do; finished parts stay valid."""

from __future__ import annotations

import gzip
import json
import resource
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import files_of, n_parts
from worlds import make_world

import shortlist
from shortlist.batch import formats
from shortlist.errors import BundleError, DataError, ShortlistError

pytestmark = pytest.mark.usefixtures("in_threads")


def users(n=10, start=0):
    return pa.table({"user_id": pa.array(range(start, start + n), pa.int64())})


@pytest.fixture
def score(world, tmp_path):
    """Run a job on a folder of files; `out` lies beside it."""

    def run(source=None, bundle=world.path, **options):
        source = tmp_path / "in" if source is None else source
        return shortlist.score(
            bundle, source, out=tmp_path / "out", **({"workers": 1, "top_n": 3} | options)
        )

    (tmp_path / "in").mkdir()
    return run


def test_nothing_there(score, tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*none\*\.csv\. Fix: check"):
        score(tmp_path / "none*.csv")
    with pytest.raises(DataError, match="is a folder without tables, expected files: one of"):
        score()
    with pytest.raises(TypeError, match="source: got 7, expected a path, a list of paths, or None"):
        score(7)
    with pytest.raises(TypeError, match="source: got int 7, expected a path"):
        score([7])


def test_files_that_are_no_tables(score, tmp_path):
    (tmp_path / "in" / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read: .*; expected a Parquet file"):
        score()
    (tmp_path / "in" / "a.parquet").unlink()
    (tmp_path / "in" / "a.arrow").write_bytes(b"ARROW1 and nothing more")
    with pytest.raises(DataError, match=r"a\.arrow cannot be read: .*expected an Arrow IPC file"):
        score()
    (tmp_path / "in" / "a.arrow").unlink()
    (tmp_path / "in" / "a.jsonl").write_text('{"user_id": 5}\n[5]\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: got b'\[5\]', expected an object"):
        score()
    (tmp_path / "in" / "a.xlsx").touch()
    with pytest.raises(DataError, match=r"unknown file type '[.]xlsx', expected one of"):
        score(tmp_path / "in" / "a.xlsx")
    with pa.ipc.new_stream(tmp_path / "in" / "s.arrow", users().schema) as writer:
        writer.write_table(users())
    with pytest.raises(DataError, match=r"s\.arrow is an Arrow IPC stream, expected an Arrow file"):
        score(tmp_path / "in" / "s.arrow")


COLUMNS = {
    "unknown": (
        {"user_id": [1], "histroy": [[100]]},
        r"unknown column 'histroy'; did you mean 'history'\? This bundle knows user_id, history",
    ),
    "no user": ({"history": [[100]]}, "no column 'user_id' among history; expected one"),
    "text ids": (
        {"user_id": ["u1"]},
        "column 'user_id' is string: text, expected whole numbers as in this bundle. Fix: cast",
    ),
    "float ids": ({"user_id": [1.0]}, "column 'user_id' is double: numbers, expected whole"),
    "text items": (
        {"user_id": [1], "history": [["a"]]},
        "lists of text, expected lists of whole numbers as in this bundle",
    ),
    "one item": ({"user_id": [1], "history": [100]}, "whole numbers, expected lists of whole"),
}


@pytest.mark.parametrize(("columns", "said"), COLUMNS.values(), ids=COLUMNS.keys())
def test_columns_that_do_not_fit_the_bundle(columns, said, score, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: .*{said}"):
        score()
    assert not (tmp_path / "out").exists()


def test_files_that_differ_are_named_before_scoring_starts(score, tmp_path):
    for name, values in {"a": [1, 2], "b": None, "c": ["x", "y"], "d": [[1], [2]]}.items():
        columns = {"user_id": [1, 2]} | ({} if values is None else {"level": values})
        pq.write_table(pa.table(columns), tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(
        DataError,
        match=r"b\.parquet: column 'level' is missing, but whole numbers in .*a\.parquet; expected "
        "the same columns in all files",
    ):
        score()
    (tmp_path / "in" / "b.parquet").unlink()
    with pytest.raises(DataError, match=r"c\.parquet: column 'level' is text, but whole numbers"):
        score()
    assert not (tmp_path / "out").exists()
    (tmp_path / "in" / "c.parquet").unlink()
    null = pa.table({"user_id": [3], "level": pa.nulls(1)})  # as pandas writes an empty column
    pq.write_table(null, tmp_path / "in" / "d.parquet")
    assert score().n_requests == 3


def damage(path, column, group):
    """Turn over the bytes of one column in one row group."""
    chunk = pq.read_metadata(path).row_group(group).column(column)
    data = bytearray(path.read_bytes())
    at = chunk.data_page_offset
    data[at : at + 20] = bytes(255 - byte for byte in data[at : at + 20])
    path.write_bytes(data)


def test_a_damaged_fragment_in_the_middle(world, score, tmp_path):
    for number in range(3):
        path = tmp_path / "in" / f"{number}.parquet"
        table = users(90, number * 1000)
        pq.write_table(table, path, row_group_size=30, use_dictionary=False)
    bad = tmp_path / "in" / "1.parquet"
    good = bad.read_bytes()
    damage(bad, 0, 1)
    with pytest.raises(
        DataError,
        match=r"1 of 9 parts could not be made; the others are finished and stay\. (?s:.*)"
        r"1\.parquet, row group 1: it is damaged \(\S.*\S\), expected a whole Parquet file",
    ):
        score(partitions=9)
    out = tmp_path / "out"
    assert n_parts(out) == 8
    assert not (out / "_manifest.json").exists()
    before = files_of(out)
    bad.write_bytes(good)  # mended: the same command goes on with what is missing
    report = score(partitions=9)
    assert (report.n_parts, report.n_kept) == (9, 8)
    assert files_of(out).items() >= {n: v for n, v in before.items() if n != "_job.json"}.items()
    found = pq.read_table(out)["user_id"].to_numpy()
    expected = np.concatenate([users(90, n * 1000)["user_id"] for n in range(3)])
    assert np.array_equal(np.sort(found), np.repeat(expected, 3))


def test_values_that_are_wrong_name_file_and_lines(score, tmp_path):
    rows = [f'{{"user_id": {i}}}\n' for i in range(100)]
    rows[70] = '{"user_id": "seventy"}\n'
    (tmp_path / "in" / "a.jsonl").write_text("".join(rows))
    with pytest.raises(DataError, match=r"1 of 4 parts(?s:.*)a\.jsonl, lines 51 to 75: JSON parse"):
        score(partitions=4)
    shutil.rmtree(tmp_path / "out")
    rows[70] = '{"user_id": 70\n'
    (tmp_path / "in" / "a.jsonl").write_text("".join(rows))
    with pytest.raises(DataError, match=r"a\.jsonl, line 71: got b'\{\"user_id\": 70', expected"):
        score(partitions=4)
    (tmp_path / "in" / "a.jsonl").unlink()
    lines = ["user_id,level\n"] + [f"{i},1\n" for i in range(100)]
    lines[80] = "eighty,1\n"
    (tmp_path / "in" / "a.csv").write_text("".join(lines))
    with pytest.raises(DataError, match=r"a\.csv, lines 77 to 101: .*'eighty'"):
        score(partitions=4)


def test_other_files_in_the_folder_are_never_touched(score, tmp_path):
    pq.write_table(users(), tmp_path / "in" / "a.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        said = r"out holds 'notes\.txt', which no job of this command wrote"
        with pytest.raises(DataError, match=said):
            score(overwrite=overwrite)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    (tmp_path / "out" / "notes.txt").rename(tmp_path / "out" / "_job.json")
    with pytest.raises(DataError, match=r"_job\.json is no record of a job"):
        score()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ShortlistError, match=r"out: .*out cannot be written"):
        score()


def test_answers_do_not_go_among_the_requests(world, tmp_path):
    pq.write_table(users(), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"out: got .*out, which is in .*, whose files are requests"
    ):
        shortlist.score(world.path, tmp_path, out=tmp_path / "out")


def test_tables_with_a_log_are_refused(score, tmp_path):
    (tmp_path / "in" / "_delta_log").mkdir()
    with pytest.raises(DataError, match="in is a Delta table, whose files also hold rows that"):
        score()


def test_another_job_in_the_folder_is_named(world, score, tmp_path):
    path = tmp_path / "in" / "a.parquet"
    pq.write_table(users(), path)
    score()
    before = files_of(tmp_path / "out")
    other = make_world(tmp_path / "other.shortlist", sign=-1).path
    wrong = {
        r"its top_n was 3, this one's is 4": {"top_n": 4},
        r"its where was None, this one's is 'year > 1990'": {"where": "year > 1990"},
        r"its layout was 'long', this one's is 'lists'": {"layout": "lists"},
        r"its bundle was tiny\.shortlist .*, this one is other\.shortlist": {"bundle": other},
    }
    for said, options in wrong.items():
        with pytest.raises(DataError, match=f"holds results of another job: {said}.*--overwrite"):
            score(**options)
    pq.write_table(users(11), path)
    with pytest.raises(DataError, match=r"another job: a\.parquet has changed"):
        score()
    assert files_of(tmp_path / "out") == before
    report = score(overwrite=True)
    assert (report.n_kept, report.n_requests) == (0, 11)
    assert pq.read_table(tmp_path / "out").num_rows == 33


def test_files_that_come_later_are_added(score, tmp_path):
    pq.write_table(users(), tmp_path / "in" / "b.parquet")
    score()
    pq.write_table(users(5, 100), tmp_path / "in" / "a.parquet")
    report = score()
    assert (report.n_kept, report.n_parts, report.n_requests) == (1, 2, 15)
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text())["n_requests"] == 15


def test_a_damaged_part_is_made_again(score, tmp_path):
    pq.write_table(users(), tmp_path / "in" / "a.parquet")
    score()
    before = files_of(tmp_path / "out")
    (part,) = (tmp_path / "out").glob("part-*")
    part.write_bytes(part.read_bytes()[:100])
    assert score().n_kept == 0
    assert files_of(tmp_path / "out") == before


def test_equal_files_are_both_answered(score, tmp_path):
    for name in ("x/a.parquet", "y/a.parquet"):
        (tmp_path / "in" / name).parent.mkdir()
        pq.write_table(users(), tmp_path / "in" / name)
    report = score([tmp_path / "in" / "x", tmp_path / "in" / "y"])
    assert (report.n_parts, report.n_requests) == (2, 20)
    assert pq.read_table(tmp_path / "out").num_rows == 60


def test_a_full_disk_stops_the_job(score, tmp_path):
    pq.write_table(users(20_000), tmp_path / "in" / "a.parquet")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(ShortlistError, match=r"cannot be written: .*Finished parts stay\. Fix"):
            score(partitions=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert n_parts(tmp_path / "out") == 0
    assert score(partitions=4).n_parts == 4
    assert not [name for name in files_of(tmp_path / "out") if name.startswith(".")]


def test_a_bundle_swapped_during_the_job_stops_it(world, score, tmp_path):
    path = shutil.copytree(world.path, tmp_path / "shop.shortlist")
    pq.write_table(users(2000), tmp_path / "in" / "a.parquet")

    def swap(progress):
        if progress.n_done < 200:
            path.rename(tmp_path / "old.shortlist")
            (tmp_path / "new.shortlist").rename(path)

    make_world(tmp_path / "new.shortlist", sign=-1)
    with pytest.raises(BundleError, match=r"it was replaced meanwhile|found nothing there"):
        score(bundle=path, partitions=20, progress=swap)
    out = tmp_path / "out"
    assert 0 < n_parts(out) < 20
    with pytest.raises(DataError, match=r"another job: its bundle was shop\.shortlist"):
        score(bundle=path, partitions=20)
    path.rename(tmp_path / "new.shortlist")
    (tmp_path / "old.shortlist").rename(path)
    assert score(bundle=path, partitions=20).n_kept > 0
    engine = shortlist.load(path)
    answer = engine.recommend(user_ids=list(range(2000)), top_n=3)
    rows = pq.read_table(out).sort_by([("user_id", "ascending"), ("rank", "ascending")])
    assert rows["item_id"].to_pylist() == answer.item_ids.ravel().tolist()


def test_a_file_that_changes_during_the_job_is_named(score, tmp_path):
    path = tmp_path / "in" / "a.parquet"
    pq.write_table(users(2000), path)

    def change(progress):
        pq.write_table(users(2001), path)

    with pytest.raises(DataError, match=r"a\.parquet was changed or removed while the job ran"):
        score(partitions=20, progress=change)


def test_a_file_that_goes_during_the_job_is_no_fault_of_the_output_folder(score, tmp_path):
    path = tmp_path / "in" / "a.parquet"
    pq.write_table(users(2000), path)

    def remove(progress):
        path.unlink(missing_ok=True)

    with pytest.raises(DataError, match=r"a\.parquet was changed or removed while the job ran"):
        score(partitions=20, progress=remove)


def test_an_error_of_the_callers_progress_is_no_fault_of_the_output_folder(score, tmp_path):
    pq.write_table(users(2000), tmp_path / "in" / "a.parquet")

    def fail(progress):
        raise ConnectionError("the dashboard is gone")

    with pytest.raises(ConnectionError, match=r"^the dashboard is gone$"):
        score(partitions=20, progress=fail)
    assert score(partitions=20).n_kept > 0


def test_requests_that_cannot_be_read_are_no_fault_of_the_output_folder(
    score, tmp_path, monkeypatch
):
    for name in ("a", "b"):
        pq.write_table(users(), tmp_path / "in" / f"{name}.parquet")
    real = formats.Parquet.read

    def read(self, path, *arguments):
        if path.name == "a.parquet":
            raise OSError(5, "Input/output error")
        return real(self, path, *arguments)

    monkeypatch.setattr(formats.Parquet, "read", read)
    with pytest.raises(DataError, match=r"1 of 2 parts(?s:.*)a\.parquet cannot be read: .*Input"):
        score()
    assert n_parts(tmp_path / "out") == 1


def test_a_damaged_gzip_file_is_named(score, tmp_path):
    path = tmp_path / "in" / "a.csv.gz"
    ids = np.random.default_rng(1).integers(0, 1 << 60, 20_000).tolist()
    whole = gzip.compress("\n".join(["user_id", *map(str, ids)]).encode())
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
    for data in (whole[: len(whole) // 2], flipped):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.csv\.gz is a gzip file that is cut off"):
            score()


def test_wrong_options_stop_before_a_part_is_made(world, score, tmp_path):
    pq.write_table(users(), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataError, match="yeer"):
        score(where="yeer > 1990")
    said = (
        r"where: got 'year > 3000', which leaves none of the 40 items.*Fix: correct the condition"
    )
    with pytest.raises(DataError, match=said):
        score(where="year > 3000")
    with pytest.raises(DataError, match=r"where, exclude: got 'year > 1990' and .* leaves none of"):
        score(where="year > 1990", exclude=world.item_ids.tolist())
    with pytest.raises(DataError, match="at_most: unknown column 'brnd'"):
        score(at_most={"brnd": 1})
    with pytest.raises(ValueError, match="partitions: got 0"):
        score(partitions=0)
    with pytest.raises(TypeError, match="overwrite: got 1, expected True or False"):
        score(overwrite=1)
    assert n_parts(tmp_path / "out") == 0


def test_a_bundle_without_users_has_none_to_score(tmp_path):
    path = make_world(tmp_path / "a.shortlist", with_users=False).path
    said = r"a\.shortlist stores no users, so there are none to score.*export\.store_users = true"
    with pytest.raises(DataError, match=said):
        shortlist.score(path, out=tmp_path / "out")
