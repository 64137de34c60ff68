"""`shortlist score` as a stranger meets it; its workers are processes here."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shortlist
from shortlist.cli import main


@pytest.fixture
def requests(tmp_path, world):
    path = tmp_path / "users.parquet"
    users = [*world.users, *range(100, 297)]
    histories = [[int(world.item_ids[i % 40])] if i % 3 else None for i in range(200)]
    table = pa.table({"user_id": users, "history": pa.array(histories, pa.list_(pa.int64()))})
    pq.write_table(table, path)
    return path


def test_it_writes_what_recommend_answers(world, requests, engine, tmp_path, capsys):
    out = tmp_path / "recs"
    excluded = [str(item) for item in world.item_ids[30:33]]
    argv = ["score", str(world.path), "--requests", str(requests), "--out", str(out)]
    argv += ["--top-n", "5", "--where", "year >= 1990", "--at-most", "genres=4", "--stages", "1"]
    argv += ["--exclude", *excluded, "--titles", "--partitions", "3", "--workers", "2"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert f"{out}: 200 lists, " in said
    assert "made from: " in said
    assert "CPU seconds of 2 workers: open " in said
    assert main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_requests"], report["n_parts"], report["n_kept"]) == (200, 3, 3)
    asked = pq.read_table(requests)
    answer = engine.recommend(
        asked, 5, where="year >= 1990", at_most={"genres": 4}, stages=1,
        exclude=[int(item) for item in excluded],
    )  # fmt: skip
    rows = pq.read_table(out).sort_by([("user_id", "ascending"), ("rank", "ascending")])
    assert rows.schema.names == ["user_id", "rank", "item_id", "title", "score", "source"]
    expected = answer.to_arrow().sort_by([("user_id", "ascending"), ("rank", "ascending")])
    for name in ("user_id", "item_id", "title", "score", "source"):
        assert rows[name].to_pylist() == expected[name].to_pylist(), name


def test_all_users_as_lists(world, tmp_path, capsys):
    out = tmp_path / "recs"
    argv = ["score", str(world.path), "--all-users", "--out", str(out), "--layout", "lists"]
    assert main([*argv, "--quiet", "--include-seen", "--top-n", "40"]) == 0
    assert capsys.readouterr().err == ""
    table = pq.read_table(out)
    assert sorted(table["user_id"].to_pylist()) == sorted(world.users)
    assert [len(items) for items in table["item_ids"].to_pylist()] == [40, 40, 40]


def test_wrong_usage_is_said(world, requests, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["score", str(world.path), "--out", str(tmp_path / "out")])
    assert "one of the arguments --requests --all-users is required" in capsys.readouterr().err
    argv = ["score", str(world.path), "--requests", str(requests), "--out", str(tmp_path / "out")]
    assert main([*argv, "--exclude", "abc"]) == 1
    assert "--exclude: got ['abc'], expected integer ids" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "none"), *argv[2:]]) == 1
    assert "bundle: no such file or folder" in capsys.readouterr().err


def test_progress_says_rate_and_time_left(capsys, monkeypatch):
    from shortlist.batch import Progress
    from shortlist.cli.score import _ProgressLine

    line = _ProgressLine()  # a log: a line every 10 seconds
    for seconds in (1.0, 9.0, 12.0, 13.0, 25.0):
        line.tell(Progress(int(seconds * 100) + 1000, 11_000, seconds, 1000))
    line.end()
    assert capsys.readouterr().err.split("\n") == [
        "score:  20%  2,200 of 11,000 lists  100 lists/s  1:28 left",
        "score:  32%  3,500 of 11,000 lists  100 lists/s  1:15 left",
        "",
    ]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    line = _ProgressLine()
    line.tell(Progress(2000, 40_000_000, 1.0, 0))
    line.end()
    said = "score:   0%  2,000 of 40,000,000 lists  2,000 lists/s  5:33:19 left"
    assert capsys.readouterr().err == f"\r\x1b[K{said}\n"


def test_answers_become_tables(world, engine):
    users = [*world.users, 777]
    answer = engine.recommend(user_ids=users, top_n=3, where="year >= 2018")
    places = [(one.request, *place) for one in answer for place in zip(
        range(1, len(one) + 1), *zip(*one.places(), strict=True), strict=True)]  # fmt: skip
    table = answer.to_arrow()
    names = ("request", "rank", "item_id", "score", "title")
    assert list(zip(*(table[name].to_pylist() for name in names), strict=True)) == places
    assert table["user_id"].to_pylist() == [users[request] for request, *_ in places]
    assert table["source"].to_pylist() == [str(answer.source[request]) for request, *_ in places]
    for frame in (answer.to_pandas(), answer.to_polars()):
        assert list(frame.columns) == table.column_names
        assert frame["item_id"].to_list() == table["item_id"].to_pylist()


@pytest.mark.parametrize("name", ["pandas", "polars", "pyarrow"])
def test_a_missing_library_is_named(name, engine, monkeypatch):
    answer = engine.recommend(user_ids=[5], top_n=3)
    monkeypatch.setitem(__import__("sys").modules, name, None)
    way = {"pandas": answer.to_pandas, "polars": answer.to_polars, "pyarrow": answer.to_arrow}
    with pytest.raises(shortlist.ShortlistError, match=f"needs the package {name}, which is not"):
        way[name]()
