"""Scripts of `shortlist completion`, run in the shells that are installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from shortlist.cli import main

SHELLS = ("bash", "fish", "zsh")


def needs(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")


@pytest.fixture
def script(tmp_path, capsys):
    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"shortlist.{shell}"
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        return path

    return write


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    assert done.stderr == ""
    return done.stdout.split("\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_can_read_its_script(shell, script):
    needs(shell)
    run(shell, "-n", str(script(shell)))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command_flag_and_preset(shell, script):
    text = script(shell).read_text(encoding="utf-8")
    for word in ("doctor", "recommend", "overwrite", "balanced", "movielens-100k", "tensorrt"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["--ver"], ["--version", "--verbose"]),
        (["train", "--pre"], ["--preset"]),
        (["train", "--preset", "ba"], ["balanced"]),
        (["--verbose", "train", "--format", "s"], ["sasrec", "s3rec"]),
        (["train", "--data", "m"], ["movielens-100k", "movielens-1m", "mine.csv"]),
        (["federate", "join", "exchange", "--tls-c"], ["--tls-cert", "--tls-ca"]),
        (["inspect", "m"], []),  # files, which bash completes by itself
    ],
)
def test_bash_completes_commands_flags_and_values(words, expected, script, tmp_path):
    needs("bash")
    (tmp_path / "mine.csv").touch()
    code = (
        'source "$1"; shift; COMP_WORDS=(shortlist "$@"); COMP_CWORD=$#; _shortlist; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = run("bash", "-c", code, "-", str(script("bash")), *words, cwd=tmp_path)
    assert [line for line in found if line] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("shortlist tr", ["train"]),
        ("shortlist train --pre", ["--preset"]),
        ("shortlist train --preset ba", ["balanced"]),
        ("shortlist doctor --j", ["--json"]),
    ],
)
def test_fish_completes_commands_flags_and_values(line, expected, script, tmp_path):
    needs("fish")
    code = f"source {script('fish')}; complete -C '{line}'"
    found = run(
        "fish", "--no-config", "-c", code, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    )
    assert [text.split("\t")[0] for text in found if text] == expected


def test_a_shell_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "ksh"])
    error = capsys.readouterr().err
    assert "invalid choice: 'ksh'" in error
    assert all(shell in error for shell in SHELLS)
