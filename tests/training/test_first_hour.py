"""The page docs/first_hour.md, block by block as it stands there, in one empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "first_hour.md"


def test_the_first_hour_runs_as_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    printed = {}
    names: dict[str, object] = {}
    for language, block in re.findall(
        r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M
    ):
        if language == "python":
            exec(block, names)
            continue
        done = subprocess.run(["bash", "-e", "-c", block], capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr[-2000:]}"
        printed[block.split()[1]] = done.stdout
    assert "events of 3,000 users and 2,000 items" in printed["clean"]
    assert "the model is better than ItemKNN with recency" in printed["train"]
    assert "Verdict: shop.shortlist is better than ItemKNN with recency" in printed["evaluate"]
    assert "user Anan-1258, from stored history: 5 items" in printed["recommend"]
    assert "drift since training, 501 new events" in printed["inspect"]
    assert "ALARM" not in printed["inspect"]
    assert "is version" in printed["rollback"]
    assert names["bought"] not in names["again"].item_ids
    names["engine"].close()
