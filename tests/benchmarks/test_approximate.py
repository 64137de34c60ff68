"""Approximate engines are timed at the recall that is asked for, and beside exact answers."""

import json
import sys

import approximate
import approximate_engines
import numpy as np
import pytest

TINY = ["--n-items", "2000", "--dim", "8", "--batches", "1", "3", "--seconds", "0.01"]


class Half(approximate_engines.ApproximateEngine):
    """Looks at the first rows alone: `breadth` of them in a hundred."""

    breadths = (50, 90, 100)

    def __init__(self, items, n_threads):
        self.items = items

    def set_breadth(self, breadth):
        self.n_seen = len(self.items) * breadth // 100

    def search(self, queries, top_n):
        return np.argsort(-(queries @ self.items[: self.n_seen].T), axis=1)[:, :top_n]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(approximate_engines.ENGINES, "half", Half)

    def run(*arguments):
        command = ["approximate.py", *TINY, "--out", str(tmp_path), *arguments]
        monkeypatch.setattr(sys, "argv", command)
        approximate.main()
        return json.loads((tmp_path / "approximate.json").read_text()), capsys.readouterr().out

    return run


def test_the_narrowest_breadth_that_reaches_the_recall_is_timed(run, tmp_path):
    result, printed = run("--engines", "half", "--recall", "0.8", "0.99")
    (catalogue,) = result["catalogues"]
    assert [row["breadth"] for row in catalogue["chosen"]] == [90, 100]
    assert 0.8 <= catalogue["chosen"][0]["recall"] < 0.99
    assert catalogue["chosen"][1]["recall"] == 1
    assert set(catalogue["ms"]["3"]) == {"shortlist", "half at 0.8", "half at 0.99"}
    assert "| 2,000 × 8 | half | 1.000 |" in printed
    assert (tmp_path / "approximate.png").stat().st_size > 1000
    again, _ = run("--engines", "half", "--recall", "0.8", "0.99", "--n-items", "2000", "500")
    assert [each["n_items"] for each in again["catalogues"]] == [500, 2000]
    assert again["catalogues"][1] == catalogue
    with pytest.raises(SystemExit, match=r"--out: .* was measured with recall \[0\.8, 0\.99\]"):
        run("--engines", "half", "--recall", "0.9")


def test_a_recall_that_no_breadth_reaches_has_no_time(run, monkeypatch):
    monkeypatch.setattr(Half, "breadths", (50,))
    result, printed = run("--engines", "half", "--recall", "0.99")
    assert set(result["catalogues"][0]["ms"]["1"]) == {"shortlist"}
    assert "0.99 not reached" in printed


@pytest.mark.parametrize("name", ["FAISS IVF", "usearch HNSW"])
def test_an_engine_at_hand_reaches_the_recall(run, name):
    result, _ = run("--engines", name, "--recall", "0.95")
    assert result["catalogues"][0]["chosen"][0]["recall"] > 0.9
