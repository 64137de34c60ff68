"""The full cycle of docs/feedback.md, block by block as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl

from shortlist.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "feedback.md"


def blocks():
    text = PAGE.read_text(encoding="utf-8")
    section = text.split("## A full cycle\n")[1].split("\n## ")[0]
    return re.findall(r"```(python)?\n(.*?)```", section, re.DOTALL)


def walks(first, n_steps, start):
    """Give events of users who walk through 30 items in order."""
    users = np.repeat(np.arange(60), n_steps)
    items = (7 * users + first + np.tile(np.arange(n_steps), 60)) % 30
    times = start + 60 * np.tile(np.arange(n_steps), 60)
    return pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times, "kind": "event"})


def test_the_full_cycle_of_the_page_runs_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    walks(0, 12, 1_700_000_000).write_csv("events.csv")
    titles = pl.DataFrame({"item_id": range(30), "title": [f"Item {i}" for i in range(30)]})
    titles.write_csv("items.csv")
    names: dict[str, object] = {}
    done = []
    for language, block in blocks():
        if language == "python":
            exec(block, names)  # what the page tells a reader to run
        for line in [] if language == "python" else block.splitlines():
            command = shlex.split(line)
            assert command[0] == "shortlist"
            if command[1] == "inspect":  # meanwhile, everyone else goes on too
                names["log"].append_many(walks(12, 6, 1_700_100_000))
            capsys.readouterr()
            assert main(command[1:]) == 0, capsys.readouterr().err
            done.append(command[1])
            if command[1] == "update":
                told = capsys.readouterr().out
                assert "is now shop.shortlist" in told, told
            if command[1] == "history":
                assert len(capsys.readouterr().out.splitlines()) == 3
    assert done == ["train", "inspect", "update", "history", "rollback"]
    clicked, engine, log = names["clicked"], names["engine"], names["log"]
    shown, again, learned = names["shown"], names["again"], names["learned"]
    assert clicked in shown.item_ids
    assert clicked not in again.item_ids
    assert again.source.tolist() == ["history"]
    assert clicked not in learned.item_ids
    versions = [str(version) for version in log.read()["bundle"].unique() if version.as_py()]
    assert len(versions) == 2  # impressions of the old and of the new bundle
    assert engine.bundle.version in versions
    log.close()
    engine.close()
