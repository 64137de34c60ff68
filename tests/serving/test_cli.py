"""The command line as a stranger meets it: answers, JSON, exit status, errors."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys

import pytest

import shortlist
from shortlist.cli import main
from shortlist.cli._common import add_data_arguments, data_overrides, reading_said
from shortlist.cli._reading import data_flags

COMMANDS = (
    *("clean", "train", "export", "recommend", "evaluate", "erase", "bench", "inspect"),
    *("score", "demo", "doctor", "completion"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"example:\n  shortlist {command} " in capsys.readouterr().out


def test_unknown_command_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["recomend"])
    assert stop.value.code == 2
    assert "invalid choice: 'recomend'" in capsys.readouterr().err


def test_recommend_for_a_known_user_prints_titles(world, capsys):
    assert main(["recommend", str(world.path), "--user", "9", "--top-n", "3"]) == 0
    out = capsys.readouterr().out
    assert "from stored history: 3 items" in out
    assert "Film" in out


def test_recommend_json_leaves_out_seen_items(world, capsys):
    seen = [int(item) for item in world.item_ids[:3]]
    history = ["--history", *map(str, seen)]
    assert main(["recommend", str(world.path), *history, "--top-n", "40", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    found = [item["item_id"] for item in answer["items"]]
    assert answer["source"] == "history"
    assert sorted(found + seen) == sorted(world.item_ids.tolist())
    assert main(["recommend", str(world.path), *history, "--include-seen", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert set(seen) & {item["item_id"] for item in answer["items"]}


def test_recommend_reads_json_lines_from_file_and_stdin(world, tmp_path, capsys, monkeypatch):
    import io

    lines = '{"user_id": 5}\n\n{"history": [100]}\n{"city": "Köln"}\n'
    path = tmp_path / "requests.jsonl"
    path.write_text(lines, encoding="utf-8")
    assert main(["recommend", str(world.path), "--requests", str(path), "--json"]) == 0
    from_file = json.loads(capsys.readouterr().out)
    assert [a["source"] for a in from_file] == ["stored history", "history", "features"]
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["recommend", str(world.path), "--requests", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == from_file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"user_id": 5}\n{"user_id": \n',
            "line 2: got '{\"user_id\": ', expected one JSON object",
        ),
        ("[1, 2]\n", "line 1: got list, expected an object"),
        ('{"histry": [100]}\n', "'histry'"),
        (
            '{"history": ' + "[" * 100_000,
            'line 1: got \'{"history": [[[[[[[[[[[[[[[[',
        ),
    ],
)
def test_bad_requests_fail_with_line_and_fix(world, tmp_path, capsys, content, message):
    path = tmp_path / "requests.jsonl"
    path.write_text(content, encoding="utf-8")
    assert main(["recommend", str(world.path), "--requests", str(path)]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_line_may_hold_what_unicode_calls_a_line_end(world, tmp_path, capsys):
    path = tmp_path / "requests.jsonl"
    path.write_text('{"city": "K\u2028\u0085\x0cln"}\r\n{"user_id": 5}\r\n', encoding="utf-8")
    assert main(["recommend", str(world.path), "--requests", str(path), "--json"]) == 1
    assert "Invalid control character" in capsys.readouterr().err  # U+000C only; JSON forbids it
    path.write_text('{"city": "K\u2028\u0085ln"}\r\n{"user_id": 5}\r\n', encoding="utf-8")
    assert main(["recommend", str(world.path), "--requests", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_an_unreadable_requests_file_is_named_with_its_flag(world, tmp_path, capsys):
    latin, folder, missing = tmp_path / "latin", tmp_path / "folder", tmp_path / "none"
    latin.write_bytes('{"city": "Köln"}'.encode("latin-1"))
    folder.mkdir()
    for path, why in (
        (latin, f"{latin}, line 1: byte 0xf6 is not UTF-8, expected text in UTF-8"),
        (folder, f"{folder} cannot be read: Is a directory"),
        (missing, f"no such file: {missing}"),
    ):
        assert main(["recommend", str(world.path), "--requests", str(path)]) == 1
        assert f"--requests {path}: {why}" in capsys.readouterr().err


def test_text_where_ids_are_numbers_is_an_error(world, capsys):
    assert main(["recommend", str(world.path), "--history", "abc"]) == 1
    assert "--history: got ['abc'], expected integer ids" in capsys.readouterr().err


def test_string_ids_are_taken_as_they_are(text_world, capsys):
    item = str(text_world.item_ids[4])
    assert main(["recommend", str(text_world.path), "--history", item, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["source"] == "history"


@pytest.mark.parametrize("command", ["recommend", "inspect", "bench"])
def test_missing_bundle_is_one_line_and_status_1(command, tmp_path, capsys):
    extra = ["--user", "1"] if command == "recommend" else []
    missing = tmp_path / "none.shortlist"
    assert main([command, str(missing), *extra]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"shortlist {command}: error: ")
    assert "none.shortlist" in err
    assert "Traceback" not in err


def test_inspect_says_what_is_inside(world, capsys):
    assert main(["inspect", str(world.path)]) == 0
    out = capsys.readouterr().out
    for expected in ("40", "cosine", "user_encoder.onnx", "HR@10"):
        assert expected in out
    assert len(out.splitlines()) < 25  # one screen
    assert max(map(len, out.splitlines())) <= 100
    assert "this installation" not in out
    assert main(["inspect", str(world.path), "--all"]) == 0
    whole = capsys.readouterr().out
    assert "this installation" in whole
    assert "sha256 " in whole
    assert main(["inspect", str(world.path), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["n_items"] == 40
    assert described["installation"] == shortlist.build_info()


def test_inspect_without_a_bundle_says_what_this_installation_is(capsys):
    assert main(["inspect"]) == 0
    out = capsys.readouterr().out
    assert "index, engine, ONNX Runtime operators" in out
    assert "libonnxruntime.so" in out
    assert main(["inspect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"installation": shortlist.build_info()}
    assert main(["inspect", "--feedback", "log"]) == 1
    assert "--feedback: got a log, expected a bundle" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["epochs=5", "train.epochs"])
def test_malformed_override_shows_the_form(value, tmp_path, capsys):
    out = str(tmp_path / "x.shortlist")
    assert main(["train", "--data", "movielens-100k", "--out", out, "--set", value]) == 1
    assert f"--set: got {value!r}, expected SECTION.KEY=VALUE" in capsys.readouterr().err


def test_preset_and_config_together_are_refused(tmp_path, capsys):
    argv = ["train", "--preset", "fast", "--config", "x.toml", "--out", str(tmp_path / "x")]
    assert main(argv) == 1
    assert "--preset and --config: got both" in capsys.readouterr().err


def test_closed_output_pipe_is_not_an_error(world):
    command = f"{sys.executable} -m shortlist.cli inspect {world.path} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "x.shortlist", "--data", "x", "--k", "0"],
        ["recommend", "x.shortlist", "--user", "1", "--threads", "-1"],
        ["recommend", "x.shortlist", "--user", "1", "--top-n", "1e23"],
        ["bench", "x.shortlist", "--batch", "1", "0"],
        ["bench", "x.shortlist", "--history-length", "-1"],
        ["bench", "x.shortlist", "--top-n", "0"],
        ["bench", "x.shortlist", "--threads", "-1"],
    ],
)
def test_a_number_out_of_range_is_named_by_its_flag(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    least = 0 if argv[-2] == "--threads" else 1
    flag = next(text for text in reversed(argv) if text.startswith("--"))
    wanted = f"argument {flag}: got '{argv[-1]}', expected a whole number >= {least}"
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "path", "why"),
    [
        ("--plot", "none/x.png", "but there is no folder"),
        ("--markdown", ".", "which is a folder"),
    ],
)
def test_bench_finds_out_that_it_cannot_write_before_it_measures(
    world, flag, path, why, capsys, monkeypatch
):
    monkeypatch.setattr("shortlist.bench.bench_bundle", lambda *args, **kwargs: 1 / 0)
    assert main(["bench", str(world.path), flag, path]) == 1
    assert f"{flag}: got {path}, {why}" in capsys.readouterr().err


def test_evaluate_finds_out_that_it_cannot_write_before_it_ranks(world, capsys):
    argv = ["evaluate", str(world.path), "--data", "none.csv", "--report", "none/x.md"]
    assert main(argv) == 1
    assert "--report: got none/x.md, but there is no folder" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_named_in_full(tmp_path, capsys):
    assert main(["recommend", str(tmp_path), "--user", "1"]) == 1
    expected = f"{tmp_path}/manifest.json: expected a file, found no such file: the folder is no"
    assert expected in capsys.readouterr().err


def test_more_places_than_fit_into_memory_are_an_error_with_the_users_number(world, capsys):
    argv = ["recommend", str(world.path), "--user", "5", "--top-n"]
    for top_n in (10**13, 10**23):
        assert main([*argv, str(top_n)]) == 1
        error = capsys.readouterr().err
        assert f"top_n: got {top_n} for 1 queries;" in error
        assert "the index has 40 rows: ask for at most as many" in error


def test_running_out_of_memory_is_one_line(world, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr("shortlist.load", full)
    assert main(["recommend", str(world.path), "--user", "5"]) == 1
    expected = "shortlist recommend: error: not enough memory: Unable to allocate 3 TiB\n"
    assert capsys.readouterr().err == expected


def test_what_is_said_of_tables_is_said_once(capsys):
    """Not again for each training of a search."""
    with reading_said("tune"):
        for text in ("10 rows", "10 rows", "11 rows"):
            logging.getLogger("shortlist.reading").info(text)
    assert capsys.readouterr().err == "shortlist tune: 10 rows\nshortlist tune: 11 rows\n"


def test_the_flags_that_say_how_tables_are_read_can_be_given_on():
    settings = pytest.importorskip("shortlist.training.config.settings")
    parser = argparse.ArgumentParser()
    add_data_arguments(parser, required=False)
    given = ["--data", "a b.csv", "--format", "events", "--users", "u.csv"]
    given += ["--column", "user_id=who", "--user-column", "user_id=id", "--list", "tags=|"]
    given += ["--list", "x=;", "--ignore", "user.x", "--time-unit", "ms", "--time-format", "%Y"]
    given += ["--allow-future"]
    overrides = data_overrides(parser.parse_args(given))
    assert data_flags(settings.load_config(overrides=overrides).data) == given
    assert data_flags(settings.load_config().data) == []


_INTERRUPTED_IMPORT = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


@pytest.mark.parametrize("way", ["module", "script"])
def test_an_interrupt_while_the_command_imports_is_one_line(way, tmp_path):
    (tmp_path / "numpy.py").write_text(_INTERRUPTED_IMPORT)
    script = tmp_path / "shortlist"
    script.write_text("from shortlist.cli import main\nmain()\n")
    argv = {"module": ["-m", "shortlist.cli"], "script": [str(script)]}[way]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-P", *argv, "score", "--help"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "shortlist: interrupted\n"


def test_a_program_that_imports_the_package_keeps_its_interrupts(tmp_path):
    (tmp_path / "numpy.py").write_text(_INTERRUPTED_IMPORT)
    code = "try:\n    import shortlist\nexcept KeyboardInterrupt:\n    print('mine')\n"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "mine\n", "")
