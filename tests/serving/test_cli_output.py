"""No command fails on what its output can show, and no bundle speaks to the terminal."""

from __future__ import annotations

import io
import json
import shutil
import sys

import pytest

from shortlist.cli import main
from shortlist.cli._output import escaping, print_json, show

HOSTILE = "\x1b[31mred\x9b2J\u202egnp\r"
ESCAPED = r"\u001b[31mred\u009b2J\u202egnp\u000d"


@pytest.fixture
def stdout_of(monkeypatch):
    """Run a command on an output of an encoding: its exit status and the bytes it printed."""

    def run(encoding, *arguments):
        output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", output)
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as stop:
                code = stop.code
            output.flush()
        assert output.errors == "strict"  # as it was before
        return code, output.buffer.getvalue()

    return run


def hostile_copy(world, folder, **fields):
    """The world's bundle with other fields in its manifest."""
    path = folder / "hostile.shortlist"
    shutil.copytree(world.path, path)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    (path / "manifest.json").write_text(json.dumps(manifest | fields), encoding="utf-8")
    return path


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["recommend", "BUNDLE", "--user", "9", "--top-n", "40"],
        ["recommend", "BUNDLE", "--user", "9", "--json"],
        ["recommend", "--help"],
        ["inspect", "BUNDLE"],
        ["inspect", "BUNDLE", "--json"],
        ["history", "BUNDLE"],
        ["train", "--help"],
    ],
)
def test_every_encoding_can_show_every_answer(world, stdout_of, encoding, arguments):
    code, printed = stdout_of(encoding, *(world.path if a == "BUNDLE" else a for a in arguments))
    assert code == 0
    assert printed
    text = printed.decode(encoding)
    if "--json" in arguments:
        same = stdout_of("utf-8", *(world.path if a == "BUNDLE" else a for a in arguments))[1]
        assert json.loads(text) == json.loads(same)


def test_what_ascii_lacks_is_escaped(world, stdout_of):
    assert b"sha256 " in (printed := stdout_of("ascii", "inspect", "--all", world.path)[1])
    assert rb"\u2026" in printed


def test_an_error_is_printed_in_ascii(monkeypatch):
    errors = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", errors)
    assert main(["inspect", "Köln\x1b[2J\n.shortlist"]) == 1
    errors.flush()
    said = errors.buffer.getvalue()
    assert rb"K\u00f6ln\u001b[2J" in said


def test_json_stays_json_whatever_it_holds(capsys):
    value = {"a": "\x7f\x9b\u2028\u202e\U000e0001 Köln 😀\ud800", "b": HOSTILE}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert all(character == "\n" or character.isprintable() for character in printed)


def test_a_closed_output_is_no_error(monkeypatch, world):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["history", str(world.path)]) == 0


def test_output_is_as_before_afterwards(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", output)
    with escaping():
        show("…")
    assert output.errors == "replace"
    assert output.buffer.getvalue() == b"\\u2026\n"


def test_terminal_escapes_of_a_manifest_are_printed_escaped(world, tmp_path, capsys):
    path = hostile_copy(
        world,
        tmp_path,
        created=f"2026{HOSTILE}",
        metrics={f"HR{HOSTILE}": {HOSTILE: HOSTILE}},
        parity={"a": [HOSTILE], "b": "one\ntwo"},
        training={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
    )
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(ESCAPED) >= 6
    assert all(character == "\n" or character.isprintable() for character in printed)
    assert main(["inspect", "--all", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(ESCAPED) == 8
    assert r"one\u000atwo" in printed
    assert all(character == "\n" or character.isprintable() for character in printed)


def test_terminal_escapes_of_a_lineage_are_printed_escaped(world, tmp_path, capsys):
    lineage = {"version": "20260101T000000-000001", "parent": f"a{HOSTILE}\nb", "created": "now"}
    path = hostile_copy(world, tmp_path, lineage=lineage | {"run": None, "ancestors": []})
    assert main(["history", str(path)]) == 0
    printed = capsys.readouterr().out
    assert rf"a{ESCAPED}\u000ab" in printed
    assert printed.count("\n") == 2  # headings and a line
    assert main(["history", str(path), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)[0]["parent"] == f"a{HOSTILE}\nb"
    assert all(character == "\n" or character.isprintable() for character in printed)


def test_a_hostile_file_name_in_an_error_is_printed_escaped(world, tmp_path, capsys):
    path = hostile_copy(world, tmp_path)
    (path / "x\x1b[2J").write_bytes(b"")
    assert main(["inspect", str(path)]) == 1
    assert r"x\u001b[2J: expected only files" in capsys.readouterr().err


def test_requests_on_stdin_are_utf8_whatever_the_terminal(world, monkeypatch, capsys):
    lines = '{"city": "Köln"}\n'.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii"))
    assert main(["recommend", str(world.path), "--requests", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["source"] == "features"
