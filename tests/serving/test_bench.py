"""`shortlist bench`: the answers are checked first, and every figure is there."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import shortlist
from shortlist.bench import bench_bundle, format_markdown, plot
from shortlist.bench.measure import busy_machine, every_10_ms
from shortlist.cli import main


@pytest.fixture(scope="module")
def report(world):
    return bench_bundle(world.path, batches=(1, 4), history_length=5, seconds=0.01)


def test_every_stage_and_batch_is_measured(report):
    cells = [(row["stage"], row["batch"], row["pace"]) for row in report["results"]]
    whole = ("recommend", "recommend, reranked")
    warm = {(s, b, "warm") for s in ("encode", "search", *whole) for b in (1, 4)}
    assert set(cells) == warm | {(s, 1, "every 10 ms") for s in whole}
    assert len(cells) == len(set(cells))
    for row in report["results"]:
        assert row["n_calls"] >= 30
        assert 0 < row["p50_us"] <= row["p90_us"] <= row["p99_us"]
        assert row["requests_per_s"] > 0
        assert row["cpu_us"] > 0


def test_output_says_what_it_was_measured_on(report):
    machine = report["machine"]
    assert machine["cpu"]
    assert machine["simd_level"] == shortlist.simd_level()
    assert machine["n_cpus"] >= 1
    assert {"shortlist", "python", "numpy", "onnxruntime"} <= set(machine["versions"])
    markdown = format_markdown(report)
    assert machine["cpu"] in markdown
    assert "| 4 | recommend |" in markdown
    assert "| 1, every 10 ms | recommend, reranked |" in markdown


def test_a_compressed_bundle_says_its_bytes_and_quality(report):
    assert report["bundle"]["compression"] is None
    assert report["bundle"]["size"] > 1000
    assert "Compressed" not in format_markdown(report)
    record = {
        "steps": ["int8", "no users"],
        "n_users": 6040,
        "before": {"size": 2000, "metrics": {"HR@10": 0.3, "NDCG@10": 0.19}},
        "after": {"size": 500, "metrics": {"HR@10": 0.29, "NDCG@10": 0.18}},
    }
    small = report | {"bundle": report["bundle"] | {"compression": record}}
    assert (
        "Compressed by int8, no users: 500 bytes, 0.25 of 2,000; NDCG@10 0.1800 on 6,040 "
        "validation users, 0.1900 before."
    ) in format_markdown(small)


def test_a_busy_machine_is_named_in_the_output(report):
    of_a_free_core, of_a_shared_core = [(100, 99)] * 9, [(100, 70)] * 9
    assert busy_machine(1.9, 2, of_a_free_core) == []
    (warning,) = busy_machine(12.8, 2, of_a_free_core)
    assert "load average 12.8 on 2 cores before the run" in warning
    (warning,) = busy_machine(0.9, 2, of_a_shared_core)
    assert "waited 30% of their time for a core" in warning
    assert f"**Warning:** {warning}." in format_markdown(report | {"warnings": [warning]})
    assert "Warning" not in format_markdown(report | {"warnings": []})


def test_a_request_every_10_ms_is_one_every_10_ms():
    began, starts = time.perf_counter(), []
    times = every_10_ms(lambda _: starts.append(time.perf_counter() - began), range(3))
    assert len(times) == 3
    assert all(start >= 0.01 * (i + 1) - 1e-4 for i, start in enumerate(starts))


def test_a_small_catalogue_leaves_items_to_recommend_and_check(world):
    report = bench_bundle(world.path, batches=(1,), top_n=12, history_length=500, seconds=0.01)
    n_items = len(world.item_ids)
    assert report["settings"]["history_length"] == n_items - 12
    assert report["verified"]["n_scores"] == 64 * 12
    assert f"{n_items - 12} seen items a request excluded" in format_markdown(report)
    report = bench_bundle(world.path, batches=(1,), top_n=n_items, seconds=0.01)
    assert report["settings"]["history_length"] == 1
    assert report["verified"]["n_scores"] == 64 * (n_items - 1)


def test_nothing_to_compare_is_not_a_check(world, monkeypatch):
    everything = {"history": [world.item_ids] * 64}
    monkeypatch.setattr("shortlist.bench.measure._draw_requests", lambda *args: everything)
    with pytest.raises(shortlist.ShortlistError, match="no answer to check; no time reported"):
        bench_bundle(world.path, batches=(1,), seconds=0.01)


def test_wrong_answers_stop_the_benchmark_before_any_time(world, monkeypatch):
    search = shortlist.Index.search

    def off_by_a_little(self, *args, **kwargs):
        hits = search(self, *args, **kwargs)
        return hits._replace(scores=hits.scores + np.float32(1e-3))

    monkeypatch.setattr(shortlist.Index, "search", off_by_a_little)
    with pytest.raises(shortlist.ShortlistError, match="differ from the float64 reference"):
        bench_bundle(world.path, batches=(1,), history_length=5, seconds=0.01)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_reference_agrees_with_the_index_on_every_metric(metric):
    from shortlist.bench.measure import _reference_scores

    random = np.random.default_rng(0)
    items, queries = random.normal(size=(50, 8)), random.normal(size=(3, 8))
    items[7] = 0
    hits = shortlist.Index(items, metric=metric).search(queries, top_n=50)
    expected = np.take_along_axis(
        _reference_scores(queries.copy(), items.copy(), metric), hits.indices, axis=1
    )
    np.testing.assert_allclose(hits.scores, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batches": ()}, "batches: got 0, expected at least 1"),
        ({"batches": (0,)}, "batches: got 0, expected at least 1"),
        ({"top_n": 0}, "top_n: got 0, expected at least 1"),
        ({"history_length": -1}, "history_length: got -1, expected at least 1"),
        ({"seconds": 0}, "seconds: got 0, expected a positive number of seconds"),
    ],
)
def test_settings_out_of_range_are_refused(world, settings, message):
    with pytest.raises(ValueError, match=message):
        bench_bundle(world.path, **settings)


def test_command_writes_json_markdown_and_plot(world, tmp_path, capsys):
    markdown, png = tmp_path / "bench.md", tmp_path / "bench.png"
    argv = ["bench", str(world.path), "--batch", "1", "--seconds", "0.01", "--json",
            "--markdown", str(markdown), "--plot", str(png)]  # fmt: skip
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["batch"] == 1
    assert markdown.read_text(encoding="utf-8").startswith("| batch | stage |")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_plot_has_one_line_a_stage(report, tmp_path):
    plot(report, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
