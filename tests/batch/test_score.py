"""Jobs: every request answered once, in whole files, whatever format the requests have."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import shortlist
from shortlist.errors import DataError

pytestmark = pytest.mark.usefixtures("in_threads")
N = 500


def requests_of(world, n=N):
    """Requests with histories and a feature; some of them known users."""
    random = np.random.default_rng(8)
    known = list(world.users)
    kind = pa.string() if isinstance(world.item_ids[0], str) else pa.int64()
    users = [known[i % 3] if i % 50 == 0 else (f"u{i}" if kind == "string" else 10_000 + i)
             for i in range(n)]  # fmt: skip
    histories = [
        random.choice(world.item_ids, 1 + i % 4).tolist() if i % 5 else None for i in range(n)
    ]
    return pa.table(
        {
            "user_id": pa.array(users, kind),
            "history": pa.array(histories, pa.list_(kind)),
            "level": pa.array([i % 4 for i in range(n)]),
        }
    )


@pytest.fixture(scope="module")
def requests(world):
    return requests_of(world)


@pytest.fixture(scope="module")
def expected(world, requests):
    """The rows that one call gives for all requests."""
    score = shortlist.batch.scorer(world.path, top_n=4)
    return sorted_rows(pa.Table.from_batches([score(requests)]))


def sorted_rows(table):
    """Rows as tuples, whatever their order."""
    return sorted(zip(*table.to_pydict().values(), strict=True))


def scored(folder):
    return sorted_rows(pq.read_table(folder))


def write_parquet(table, path):
    pq.write_table(table, path, row_group_size=77)


def write_arrow(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=90)


def write_csv(table, path):
    lists = [
        None if row is None else "|".join(map(str, row)) for row in table["history"].to_pylist()
    ]
    table = table.set_column(1, "history", pa.array(lists, pa.string()))
    pyarrow.csv.write_csv(table, path)


def write_json(table, path):
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    path.write_text(lines, encoding="utf-8")


def gzipped(write):
    def write_it(table, path):
        write(table, path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_it


WRITERS = {
    "a.parquet": write_parquet,
    "a.arrow": write_arrow,
    "a.csv": write_csv,
    "a.jsonl": write_json,
    "a.csv.gz": gzipped(write_csv),
    "a.jsonl.gz": gzipped(write_json),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_lists(name, world, requests, expected, tmp_path):
    WRITERS[name](requests, tmp_path / name)
    report = shortlist.score(
        world.path, tmp_path / name, out=tmp_path / "out", top_n=4, partitions=4, workers=1
    )
    assert scored(tmp_path / "out") == expected
    assert (report.n_requests, report.n_rows) == (N, len(expected))
    assert report.n_parts >= 4
    streamed = shortlist.batch.stream(world.path, tmp_path / name, top_n=4)
    assert sorted_rows(pa.Table.from_batches(streamed)) == expected


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv", "a.jsonl"])
def test_text_ids_and_features_of_every_format(name, text_world, text_engine, tmp_path):
    table = requests_of(text_world, 60).drop_columns(["level"])
    cities = [["Köln", None, 'a, "b"\nc'][i % 3] for i in range(60)]
    table = table.append_column("city", pa.array(cities))
    table = table.append_column("age", pa.array([None if i % 7 else 30.5 + i for i in range(60)]))
    WRITERS[name](table, tmp_path / name)
    out = tmp_path / "out"
    shortlist.score(text_world.path, tmp_path / name, out=out, top_n=4, partitions=5)
    answer = text_engine.recommend(table, top_n=4).to_arrow()
    expected = answer.select(["user_id", "rank", "item_id", "score", "source"])
    assert scored(out) == sorted_rows(expected)


def test_utf_16_with_a_mark_is_read(world, tmp_path):
    text = "user_id,history\n5,100|107\n6,\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-16")
    (tmp_path / "b.csv").write_text(text, encoding="utf-8-sig")
    found = [
        pa.Table.from_batches(shortlist.batch.stream(world.path, tmp_path / name))
        for name in ("a.csv", "b.csv")
    ]
    assert found[0].equals(found[1])
    assert found[0]["source"].to_pylist() == ["history"] * 10 + ["popular"] * 10


def test_folders_patterns_and_lists_of_files(world, requests, expected, tmp_path):
    folder = tmp_path / "in"
    for number in range(4):
        path = folder / f"day={number}" / "part[1].parquet"
        path.parent.mkdir(parents=True)
        write_parquet(requests.slice(number * 125, 125), path)
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.parquet").write_text("no table")
    sources = {
        "folder": folder,
        "pattern": str(folder / "day=*" / "*.parquet"),
        "files": sorted(folder.rglob("part*.parquet")),
    }
    for name, source in sources.items():
        shortlist.score(world.path, source, out=tmp_path / name, top_n=4, workers=1)
        assert scored(tmp_path / name) == expected, name


def test_all_users_of_a_bundle_are_scored(world, engine, tmp_path):
    report = shortlist.score(world.path, out=tmp_path / "out", top_n=4, workers=1)
    users = list(world.users)
    answer = engine.recommend(user_ids=users, top_n=4)
    rows = pq.read_table(tmp_path / "out")
    assert rows["user_id"].to_pylist() == np.repeat(users, 4).tolist()
    assert rows["item_id"].to_pylist() == answer.item_ids.ravel().tolist()
    assert report.sources == dict(zip(*np.unique(answer.source, return_counts=True), strict=True))


def test_the_manifest_says_what_is_there(world, requests, tmp_path):
    write_parquet(requests, tmp_path / "a.parquet")
    out = tmp_path / "out"
    options = {"top_n": 6, "where": "year >= 2015", "at_least": {"year >= 2019": 3}}
    report = shortlist.score(
        world.path, tmp_path / "a.parquet", out=out, partitions=3, workers=1, **options
    )
    manifest = json.loads((out / "_manifest.json").read_text())
    assert manifest["options"]["where"] == "year >= 2015"
    assert manifest["n_requests"] == N == report.n_requests
    assert manifest["n_rows"] == pq.read_table(out).num_rows == report.n_rows
    assert sum(manifest["sources"].values()) == N
    assert {part["name"] for part in manifest["parts"]} == {p.name for p in out.glob("part-*")}
    for part in manifest["parts"]:
        assert part["bytes"] == (out / part["name"]).stat().st_size
    assert manifest["n_short"] == report.n_short > 0
    assert manifest["n_unmet"] == report.n_unmet > 0
    assert set(report.cpu_seconds) == {"open", "read", "score", "write"}


def test_a_job_that_is_done_is_not_done_again(world, requests, tmp_path):
    write_parquet(requests, tmp_path / "a.parquet")
    out, given = tmp_path / "out", {"partitions": 3, "workers": 1}
    shortlist.score(world.path, tmp_path / "a.parquet", out=out, **given)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}
    report = shortlist.score(world.path, tmp_path / "a.parquet", out=out, **given)
    assert (report.n_kept, report.n_parts) == (3, 3)
    assert report.n_requests == N
    assert before == {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}


def test_partitions_are_about_as_many_files(world, requests, tmp_path):
    write_parquet(requests, tmp_path / "a.parquet")
    for n in (1, 2, 9):
        out = tmp_path / f"{n}"
        report = shortlist.score(
            world.path, tmp_path / "a.parquet", out=out, partitions=n, workers=1
        )
        assert math.isclose(report.n_parts, n, abs_tol=1)


def test_requests_with_nobody_are_refused(world, tmp_path):
    pq.write_table(pa.table({"user_id": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="hold no row, expected requests"):
        shortlist.score(world.path, tmp_path / "a.parquet", out=tmp_path / "out")
