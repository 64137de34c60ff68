"""The blocks of the pages work: commands parse, settings load."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from shortlist.cli import _build_parser
from shortlist.training.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]


def blocks(page, language):
    """Fenced blocks of a page in one language, as (first line's number, text)."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    own = [fence for fence in fences if fence[1] == language]
    return [(text[: fence.start(2)].count("\n") + 1, fence[2]) for fence in own]


def commands(page):
    """Each `shortlist …` line of the unnamed and bash blocks, split as a shell does."""
    found = []
    for line, block in [*blocks(page, ""), *blocks(page, "bash")]:
        for text in re.sub(r"\\\n", " ", block).splitlines():
            text = text.removeprefix("$ ")
            if re.match(r"shortlist [a-z]+( |$)", text):  # else it is what one prints
                found.append((line, shlex.split(text, comments=True)[1:]))
    return found


COMMANDS = [(page.name, *command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "line", "argv"), COMMANDS, ids=str)
def test_commands_are_understood(page, line, argv, capsys):
    for shell in ("|", ">", "<", "&&", ";"):
        argv = argv[: argv.index(shell)] if shell in argv else argv
    try:
        _build_parser().parse_args(argv)
    except SystemExit:
        pytest.fail(f"{page}, block at line {line}: {' '.join(argv)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_load(page, tmp_path):
    for line, block in blocks(page, "toml"):
        path = tmp_path / f"{line}.toml"
        path.write_text(block, encoding="utf-8")
        assert load_config(path=path), tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_other_files_parse(page):
    for _, block in blocks(page, "yaml"):
        assert {"apiVersion", "kind", "spec"} <= set(yaml.safe_load(block))


def test_there_are_blocks_to_try():
    assert len(COMMANDS) > 15
    assert any(blocks(page, "toml") for page in PAGES)
    assert any(blocks(page, "yaml") for page in PAGES)
