"""The benchmark prints no time for a wrong answer, keeps what it has, and says what it left out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import peers
import pytest
import timing
import top_n
import vectors
from answers import Reference

import shortlist

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--n-items", "400", "--dims", "8", "--batches", "1", "3"]
TINY += ["--top-n", "5", "--seconds", "0.01"]


class NoCeilings:
    why_not = "a test"

    def update(self, n_threads):
        return {}


class FixedCeilings(NoCeilings):
    def update(self, n_threads):
        return {"peak_8bit_gmacs": 100.0, "peak_float32_gmacs": 50.0, "read_gb_per_s": 10.0}


class Wrong(peers.Numpy):
    def search(self, queries, top_n):
        rows = super().search(queries, top_n)
        rows[0, 0] = self.scores.shape[1] - 1 - rows[0, 0]
        return rows


class Absent(peers.Numpy):
    def __init__(self, items):
        raise ImportError("No module named 'absent'")


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.setattr(top_n, "Ceilings", NoCeilings)

    def run(*arguments, folder=tmp_path):
        monkeypatch.setattr(sys, "argv", ["top_n.py", *TINY, "--out", str(folder), *arguments])
        top_n.main()
        return json.loads((folder / "top_n.json").read_text())

    return run


def test_every_cell_is_written_as_json_table_and_plot(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(top_n, "Ceilings", FixedCeilings)
    result = bench("--peers", "NumPy", "--threads", "1", "2", "--top-n", "5", "7")
    assert result["complete"]
    cells = {(c["n_threads"], c["top_n"], c["batch"]) for c in result["results"]}
    assert cells == {(t, n, b) for t in (1, 2) for n in (5, 7) for b in (1, 3)}
    for cell in result["results"]:
        assert set(cell["median_ms"]) == set(cell["cpu_ms"]) == {"shortlist", "NumPy"}
        assert min(cell["median_ms"].values()) > 0
        assert min(cell["n_calls"].values()) >= 3
    lines = (tmp_path / "top_n.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("| 400 × 8 |")]) == 8
    assert "vs fastest peer" in lines[0]
    assert "NumPy ms" in lines[0]
    assert "% of 8-bit" in lines[2]
    assert "Ceilings of 2 thread(s)" in "\n".join(lines)
    assert (tmp_path / "top_n.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_with_another_answer_is_shown_without_a_time(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "wrong", Wrong)
    result = bench("--peers", "NumPy", "wrong")
    for cell in result["results"]:
        assert "wrong" not in cell["median_ms"]
        assert "differ from float64" in cell["differs"]["wrong"]
    text = (tmp_path / "top_n.md").read_text()
    assert text.count("| differs |") == 2
    assert "Other answers, so no time: wrong, 400 × 8, batch 3: 1 of 3 lists" in text


def test_a_wrong_answer_of_ours_stops_the_run(bench, monkeypatch):
    monkeypatch.setattr(peers, "ShortlistCosine", Wrong)
    with pytest.raises(SystemExit, match=r"shortlist: 1 of 1 lists .* nothing is timed"):
        bench("--peers", "NumPy")


def test_a_peer_that_is_not_installed_is_listed_with_the_reason(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "absent", Absent)
    result = bench("--peers", "absent")
    assert result["skipped"] == {"absent": "ImportError: No module named 'absent'"}
    assert "Skipped: absent (ImportError" in (tmp_path / "top_n.md").read_text()


def test_an_interrupted_run_goes_on_and_measures_only_what_is_missing(bench, monkeypatch):
    measured = []
    measure = top_n.measure

    def interrupted(engines, reference, queries, n, seconds):
        if len(measured) == 1:
            raise KeyboardInterrupt
        measured.append(len(queries))
        return measure(engines, reference, queries, n, seconds)

    monkeypatch.setattr(top_n, "measure", interrupted)
    first = bench("--peers", "NumPy")
    assert not first["complete"]
    monkeypatch.setattr(top_n, "measure", lambda *a: measured.append(len(a[2])) or measure(*a))
    second = bench("--peers", "NumPy")
    assert measured == [1, 3]
    assert second["complete"]
    assert second["results"][0] == first["results"][0]
    bench("--peers", "NumPy")
    assert measured == [1, 3]
    bench("--peers", "NumPy", "--fresh")
    assert measured == [1, 3, 1, 3]


def test_no_cell_begins_after_the_budget(bench, tmp_path):
    result = bench("--peers", "NumPy", "--budget", "0")
    assert result["results"] == []
    assert not result["complete"]


def test_results_of_other_data_or_machines_are_not_mixed(bench, tmp_path):
    bench("--peers", "NumPy")
    with pytest.raises(SystemExit, match=r"measured with metric cosine.*has dot.*--fresh"):
        bench("--peers", "NumPy", "--metric", "dot")
    with pytest.raises(SystemExit, match="measured with data gaussian"):
        bench("--peers", "NumPy", "--kind", "all_equal")
    file = tmp_path / "top_n.json"
    file.write_text(file.read_text().replace('"n_cpus": ', '"n_cpus": 9'))
    with pytest.raises(SystemExit, match="n_cpus 9"):
        bench("--peers", "NumPy")


@pytest.mark.parametrize("level", shortlist._core.simd_levels())
def test_simd_forces_the_instruction_set(bench, level):
    before = shortlist.simd_level()
    try:
        assert bench("--peers", "NumPy", "--simd", level)["machine"]["simd_level"] == level
    finally:
        shortlist._core.set_simd_level(before)


def test_real_vectors_come_from_a_matrix_or_an_index(bench, tmp_path):
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 6)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    result = bench("--peers", "NumPy", "--data", str(tmp_path / "rows.npy"))
    assert {(c["n_items"], c["dim"]) for c in result["results"]} == {(300, 6)}
    index = shortlist.Index(rows, metric="dot")
    index.remove([3, 4])
    index.save(tmp_path / "items.index")
    read = vectors.read(tmp_path / "items.index", None, 9)
    assert read.metric == "dot"
    assert np.array_equal(read.items, np.delete(rows, [3, 4], axis=0))
    assert read.queries.shape == (9, 6)
    shortlist.Index(rows, metric="euclidean").save(tmp_path / "far.index")
    with pytest.raises(SystemExit, match="compares inner products"):
        vectors.read(tmp_path / "far.index", None, 9)


def test_reference_accepts_ties_and_refuses_everything_else():
    items = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0]], np.float32)
    reference = Reference(items, np.array([[1, 0], [0, 1]], np.float32), 2)
    assert reference.why_wrong(np.array([[1, 0]]), 1, 2) == ""
    assert reference.why_wrong(np.array([[0], [2]]), 2, 1) == ""
    assert "1 of 1 lists differ" in reference.why_wrong(np.array([[1, 3]]), 1, 2)
    assert "twice" in reference.why_wrong(np.array([[1, 1]]), 1, 2)
    assert "do not exist" in reference.why_wrong(np.array([[1, 4]]), 1, 2)
    assert "do not exist" in reference.why_wrong(np.array([[1, -1]]), 1, 2)
    assert "shape (1, 1), expected (1, 2)" in reference.why_wrong(np.array([[1]]), 1, 2)


def test_reference_merges_parts_of_a_catalogue(monkeypatch):
    random = np.random.default_rng(2)
    items, queries = (random.normal(size=(n, 5)).astype(np.float32) for n in (1000, 4))
    whole = Reference(items, queries, 30)
    monkeypatch.setattr("answers._PART", 7)
    assert np.array_equal(whole.best, Reference(items, queries, 30).best)
    assert (np.diff(whole.best) <= 0).all()


def test_slow_engines_are_called_less_often():
    calls = dict.fromkeys(("fast", "slow", "very slow"), 0)

    def call(name):
        calls[name] += 1

    first = {"fast": (1e-3, 1e-3), "slow": (5.0, 5.0), "very slow": (60.0, 60.0)}
    clocks = timing.take_turns(
        {name: lambda name=name: call(name) for name in calls}, first, seconds=0.01
    )
    assert calls["slow"] == 1
    assert calls["very slow"] == 0
    assert clocks["very slow"].median_ms(0) == 60_000
    assert clocks["fast"].n_calls >= 3


CHECK_PEERS = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, peers
from answers import Reference
random = np.random.default_rng(0)
items, queries = (random.normal(size=(n, 24)).astype(np.float32) for n in (3000, 130))
engines, skipped = peers.build(items, "dot", list(peers.PEERS))
reference = Reference(items, queries, 20)
for n_threads in (1, 2, 1):
    with peers.limited_threads(engines, n_threads):
        for name, engine in engines.items():
            for batch in (1, 8, 130):
                wrong = reference.why_wrong(engine.search(queries[:batch], 20), batch, 20)
                assert not wrong, (name, n_threads, batch, wrong)
print(sorted(engines), skipped)
"""


def test_every_installed_peer_gives_the_right_answer():
    """In a process of its own: some peers and TensorFlow cannot live in one."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK_PEERS], cwd=BENCHMARKS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'FAISS flat'" in done.stdout
    assert "'shortlist'" in done.stdout
