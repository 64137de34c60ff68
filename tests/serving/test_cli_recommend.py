"""`shortlist recommend`: what it says, ids of any form, filters, files."""

import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from shortlist.cli import main
from shortlist.cli._lists import with_dashes


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--user", "5", "9"], ""),
        (["--history", "100", "107"], ""),
        (["--history", "100", "3"], "1 of 2 ids are known to this bundle\n"),
        (["--user", "777"], "0 of 1 ids are known to this bundle; 1 of 1 answers are the most po"),
        (["--user", "777", "5"], "1 of 2 ids are known to this bundle; 1 of 2 answers are the m"),
    ],
)
def test_unknown_ids_are_told(world, capsys, argv, said):
    assert main(["recommend", str(world.path), *argv]) == 0
    err = capsys.readouterr().err
    assert err.startswith(f"shortlist recommend: {said}") if said else err == ""
    assert main(["recommend", str(world.path), *argv, "--unknown", "error"]) == (1 if said else 0)
    assert ("which is no" in capsys.readouterr().err) == bool(said)


def test_json_has_the_users_and_how_many_ids_were_known(world, capsys):
    assert main(["recommend", str(world.path), "--user", "777", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["user_id"], one["n_known"], one["n_given"]) for one in told] == [
        (777, 0, 1),
        (5, 1, 1),
    ]


def test_all_that_was_asked_for_is_printed_under_the_users_ids(world, capsys):
    users = [str(user) for user in range(1, 9)]
    assert main(["recommend", str(world.path), "--user", *users, "--top-n", "20"]) == 0
    out = capsys.readouterr().out
    assert [f"request {i}, user {i + 1}, from " in out for i in range(8)] == [True] * 8
    assert out.count("\n") == 1 + 8 * 21
    assert "more" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--user", "-5"], ["--user=-5"]),
        (["--user=-5"], ["--user=-5"]),
        (["b", "--history", "-a", "b", "-c", "--json"],
         ["b", "--history=-a", "--history=b", "--history=-c", "--json"]),
        (["--exclude", "1", "--top-n", "-5", "-h"], ["--exclude=1", "--top-n", "-5", "-h"]),
        (["--user", "--json"], ["--user", "--json"]),
        (["--user", ""], ["--user="]),
    ],
)  # fmt: skip
def test_words_behind_a_flag_of_ids_are_ids(words, expected):
    assert with_dashes(words) == expected


def test_ids_may_begin_with_a_dash(make_tiny_bundle, tmp_path, capsys, world):
    assert main(["--traceback", "recommend", str(world.path), "--user", "-5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["user_id"] == -5
    assert main(["recommend", str(world.path), "--history", "-5", "100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["n_known"] == 1


def test_text_ids_may_begin_with_a_dash(text_world, capsys):
    item = text_world.item_ids[3]
    argv = ["recommend", str(text_world.path), "--history", "-x", item, "-json", "--json"]
    assert main(argv) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["n_given"], told["n_known"]) == (3, 1)


def test_a_condition_and_excluded_items_narrow_the_answer(world, capsys):
    argv = ["recommend", str(world.path), "--user", "777", "--top-n", "40", "--json"]
    filters = ["--where", "year < 1984 and genres = 'war'", "--exclude", "100", "-7"]
    assert main([*argv, *filters]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert [item["item_id"] for item in told["items"]] == [int(world.item_ids[2])]
    assert main([*argv, "--where", "yeer < 1984"]) == 1
    assert "where: 'yeer < 1984': expected a column" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow", ".jsonl"])
def test_answers_go_into_a_file(world, engine, tmp_path, capsys, suffix):
    path = tmp_path / f"recs{suffix}"
    argv = ["recommend", str(world.path), "--user", "5", "9", "--top-n", "40", "--out", str(path)]
    assert main(argv) == 0
    assert capsys.readouterr().out == f"{path}: 2 answers, 73 items\n"
    expected = engine.recommend(user_ids=[5, 9], top_n=40)
    if suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == expected.to_dicts()
        return
    if suffix == ".parquet":
        table = pa.parquet.read_table(path)
    elif suffix == ".csv":
        table = pa.csv.read_csv(path)
    else:
        table = pa.ipc.open_file(path).read_all()
    for name in ("request", "user_id", "rank", "item_id"):
        assert table.column(name).to_pylist() == expected.to_arrow().column(name).to_pylist()


def test_a_file_that_cannot_be_written_is_named_before_the_work(tmp_path, capsys):
    for name, why in (("recs.xlsx", "a name that ends in .parquet, .arrow, .csv, .jsonl"),
                      ("no/recs.csv", "there is no folder")):  # fmt: skip
        assert (
            main(["recommend", "none.shortlist", "--user", "5", "--out", str(tmp_path / name)]) == 1
        )
        assert why in capsys.readouterr().err


def test_a_file_and_json_together_are_wrong_usage(world, tmp_path, capsys):
    argv = ["recommend", str(world.path), "--user", "5", "--json", "--out", str(tmp_path / "x.csv")]
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "not allowed with argument --json" in capsys.readouterr().err


def test_requests_are_read_before_the_bundle(tmp_path, capsys):
    (tmp_path / "requests.jsonl").write_text('{"history": [' + "1" * 5000 + "]}")
    for name, said in (("none.jsonl", "none.jsonl"), ("requests.jsonl", "line 1: got '{\"history")):
        argv = ["recommend", str(tmp_path / "none.shortlist"), "--requests", str(tmp_path / name)]
        assert main(argv) == 1
        assert said in capsys.readouterr().err


def test_caps_quotas_and_diversity(world, capsys):
    asked = ["recommend", str(world.path), "--history", "100", "170", "--top-n", "5", "--json"]
    assert main([*asked, "--at-most", "genres=2", "--at-most", "year=1"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert len(told["items"]) == 2
    assert main([*asked, "--at-least", "year >= 2010=2", "--at-least", "year = 1=3"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["unmet"] == {"year = 1": 3}
    assert main([*asked, "--calibrate", "genres=0.8"]) == 0
    assert main([*asked, "--calibrate", "genres", "--popularity-dampening", "0.1"]) == 0
    with pytest.raises(SystemExit):
        main([*asked, "--calibrate", "genres=much"])
    assert "expected COLUMN, or COLUMN=STRENGTH such as genres=0.8" in capsys.readouterr().err
    assert main([*asked, "--diversity", "0.9"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["stages"] == 2
    scores = [item["score"] for item in told["items"]]
    assert scores != sorted(scores, reverse=True)


@pytest.mark.parametrize("text", ["genres", "genres=many", "=3", "genres=-1"])
def test_a_cap_is_a_column_and_a_number(world, capsys, text):
    with pytest.raises(SystemExit):
        main(["recommend", str(world.path), "--user", "5", "--at-most", text])
    assert f"got {text!r}, expected COLUMN=N, such as brand=2" in capsys.readouterr().err


def test_reasons_are_printed_under_each_item(world, capsys):
    assert main(["recommend", str(world.path), "--user", "9", "--top-n", "3", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 request, top 3, up to 3 reasons each"
    sentences = [line for line in lines if line.startswith("       ")]
    assert len(sentences) == 3
    assert all("without" in line or "nothing" in line for line in sentences)


def test_reasons_as_json_and_in_files(world, capsys, tmp_path):
    argv = ["recommend", str(world.path), "--history", "100", "107", "121", "--explain", "2"]
    assert main([*argv, "--explain-by", "n_events", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    reasons = [reason for item in told["items"] for reason in item["reasons"]]
    assert reasons
    assert set(reasons[0]) == {"item_id", "group", "title", "drop", "leaves_list"}
    for name, read in (("r.parquet", pyarrow.parquet.read_table), ("r.csv", pyarrow.csv.read_csv)):
        assert main([*argv, "--out", str(tmp_path / name)]) == 0
        table = read(tmp_path / name)
        assert table.num_rows > 0
        assert {"reason_item_id", "drop", "leaves_list"} <= set(table.column_names)
    assert main([*argv, "--out", str(tmp_path / "r.jsonl")]) == 0
    (line,) = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["items"][0]["reasons"]


def test_a_group_without_reasons_is_refused(world, capsys):
    assert main(["recommend", str(world.path), "--user", "9", "--explain-by", "year"]) == 1
    assert "--explain-by: got it without --explain, expected both" in capsys.readouterr().err


def test_flags_that_would_do_nothing_are_refused(world, capsys):
    argv = ["recommend", str(world.path), "--user", "9"]
    assert main([*argv, "--by", "mix"]) == 1
    assert "--by: got it without --like, expected both" in capsys.readouterr().err
    assert main([*argv, "--at-most", "year=1", "--at-most", "year=2"]) == 1
    assert "--at-most: got 'year' twice, expected each once" in capsys.readouterr().err


@pytest.mark.parametrize("beside", [["--user", "9", "--explain"], ["--like", "100"]])
def test_variety_is_of_lists_alone(world, capsys, beside):
    assert main(["recommend", str(world.path), *beside, "--at-most", "genres=2"]) == 1
    assert "got one beside --explain or --like, expected it" in capsys.readouterr().err
