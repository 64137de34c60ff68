"""The blocks of the pages work: commands parse, settings load, Python runs."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from worlds import make_world

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


# The first hour needs its commands in between: see tests/training/test_first_hour.py.
PYTHON_PAGES = [p for p in PAGES if p.name != "first_hour.md" and blocks(p, "python")]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Return a folder with what `make demo` and `shortlist train` leave, and events."""
    folder = tmp_path_factory.mktemp("sandbox")
    films = [50, 172, 181, *range(200, 237)]
    for name in ("build/demo/movielens-100k.shortlist", "shop.shortlist"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make_world(folder / name, numbers=films)
    users, days = range(30), range(6)
    rows = [(u, films[(u + d) % len(films)], 86_400 * (20_000 + d)) for u in users for d in days]
    names = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(folder / "events.parquet")
    return folder


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(page, sandbox):
    program = "\n".join(block for _, block in blocks(page, "python"))
    no_site = ["-S"] if sys.flags.no_site else []
    done = subprocess.run(
        [sys.executable, *no_site, "-W", "ignore", "-c", program],
        cwd=sandbox,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{page.name}: {done.stderr[-2000:]}"
