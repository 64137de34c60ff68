"""Raw history → top-10, seen items excluded: what each way to serve one bundle costs.

On one thread, requests taking turns, for batches of 1, 32 and 1024:
  encoder    user_encoder.onnx in ONNX Runtime on the history's last items, as many as it looks at:
             the floor, without search, exclusion and ids
  whole      the same on whole histories, as a host has them: unknown items and old ones too
  graph      recommend.onnx with libshortlist.so: ids from one run
  portable   recommend_portable.onnx: the same with standard operators
  engine     `Engine.recommend`
Answers are compared before a time is printed. The weights are random: they change no time.

    python benchmarks/serving.py --data ml-1m.txt.gz          # 3,416 items
    python benchmarks/serving.py --items 100000               # a synthetic catalogue
    python benchmarks/serving.py --bundle movies.shortlist    # your own
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import shortlist
from shortlist._opening import request_schema
from shortlist._sessions import open_session
from shortlist.bench.machine import describe_machine
from shortlist.export.host_graphs import PLUGIN_GRAPH, PORTABLE_GRAPH, Check, graph_inputs
from shortlist.export.recommend import OUTPUTS
from shortlist.plugin import has_onnx_operator, plugin_path
from shortlist.requests import normalise

TOP_N = 10
N_BATCHES = 64  # different ones, taken in turn
Calls = dict[str, Callable[[int], Any]]


def synthetic(n_items: int) -> Any:
    """Events of 2,000 users, 20 to 200 each, over a catalogue of which every item is known."""
    import polars as pl

    from shortlist.training.events import Dataset

    random = np.random.default_rng(5)
    lengths = random.integers(20, 200, 2_000)
    items = np.concatenate([np.arange(n_items), random.integers(0, n_items, lengths.sum())])
    users = np.concatenate([np.arange(n_items) // 100, np.repeat(np.arange(2_000), lengths)])
    events = pl.DataFrame({"user_id": users, "item_id": items * 7 + 3})
    events = events.with_columns(
        pl.int_range(pl.len()).alias("timestamp"),
        pl.lit("event").alias("kind"),
        pl.lit(None, pl.Float32).alias("value"),
    )
    return Dataset("synthetic", events)


def export_untrained(dataset: Any, folder: Path) -> Path:
    """Write a bundle of the two-tower as it is before training."""
    from shortlist.export import export_bundle
    from shortlist.training.config import load_config
    from shortlist.training.features import FeatureSet
    from shortlist.training.fit import TrainedModel, build_model
    from shortlist.training.splits import make_split

    config = load_config(overrides={"export.parity_users": 100})
    split = make_split(dataset, "leave-one-out")
    features = FeatureSet.fit(dataset, split, config)
    model = build_model(config, features, dataset, split)
    random = np.random.default_rng(6)  # a bias of zero would be left out of the graph
    weights = {
        name: value + random.normal(0, 0.02, value.shape).astype(np.float32)
        for name, value in model.get_weights().items()
    }
    model.set_weights(weights)
    run = TrainedModel(config, features, split, model, None, [], folder)
    return export_bundle(run, folder / "untrained.shortlist").path


@contextmanager
def bundle_of(args: argparse.Namespace) -> Iterator[Path]:
    """Give the bundle to measure; one made for it is deleted afterwards."""
    if args.bundle:
        yield args.bundle
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.data:
            from shortlist.training.datasets import load_dataset

            yield export_untrained(load_dataset(args.data), Path(folder))
        else:
            yield export_untrained(synthetic(args.items), Path(folder))


def histories_of(engine: shortlist.Engine) -> list[Any]:
    """Stored histories of users who have one."""
    import pyarrow as pa

    with pa.OSFile(str(engine.bundle.file("users.arrow")), "rb") as file:
        column = pa.ipc.open_file(file).read_all().column("history")
    return [history for history in column.to_pylist() if history]


def make_calls(engine: shortlist.Engine, requests: list[dict[str, Any]]) -> Calls:
    """One call for each way to serve; the argument is the number of a batch."""
    bundle, schema = engine.bundle, request_schema(engine.bundle)
    feeds = [graph_inputs(normalise(batch, schema), schema) for batch in requests]
    top_n = {"top_n": np.array([TOP_N])}

    def graph(name: str, plugin: Path | None = None) -> Callable[[int], Any]:
        session = open_session(bundle.file(name), name=name, plugin=plugin)
        return lambda i: session.run(list(OUTPUTS), feeds[i] | top_n)

    encoder = open_session(bundle.file("user_encoder.onnx"), name="user_encoder")
    last = -bundle.manifest["max_history"]
    columns = ("history", *schema.event_columns)
    short = [f | {name: f[name][:, last:] for name in columns} for f in feeds]
    calls: Calls = {
        "encoder": lambda i: encoder.run(None, short[i]),
        "whole": lambda i: encoder.run(None, feeds[i]),
    }
    if has_onnx_operator():
        calls["graph"] = graph(PLUGIN_GRAPH, Path(plugin_path()))
    if bundle.has(PORTABLE_GRAPH):
        calls["portable"] = graph(PORTABLE_GRAPH)
    calls["engine"] = lambda i: engine.recommend(requests[i], TOP_N)
    return calls


def verify(calls: Calls, n_batches: int) -> None:
    """Compare every graph's answers with the engine's."""
    for i in range(n_batches):
        expected = calls["engine"](i)
        for name, tolerance in (("graph", 0.0), ("portable", 1e-4)):
            if name in calls:
                found = dict(zip(OUTPUTS, calls[name](i), strict=True))
                is_open = np.zeros(len(expected.counts), np.bool_)
                Check(name, tolerance).compare(found, expected, is_open)


def measure(calls: Calls, n_batches: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median and 99th percentile of each call in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names, stop, turn = list(calls), time.perf_counter() + seconds, 0
    while turn < 20 or time.perf_counter() < stop:
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name](turn % n_batches)
            times[name].append(time.perf_counter() - start)
        turn += 1
    return {
        name: {
            "p50_us": float(np.median(values[turn // 10 :])) * 1e6,
            "p99_us": float(np.percentile(values[turn // 10 :], 99)) * 1e6,
        }
        for name, values in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--bundle", type=Path, help="a bundle with stored users")
    which.add_argument("--data", help="a data set as `shortlist train --data` takes it")
    which.add_argument("--items", type=int, default=3_416, help="size of a synthetic catalogue")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 1024])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each batch size")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": describe_machine(), "top_n": TOP_N, "cells": []}
    with bundle_of(args) as path, shortlist.load(path, n_threads=1) as engine:
        result |= {key: engine.bundle.manifest[key] for key in ("n_items", "dim", "metric")}
        result["stages"] = engine.default_stages
        histories = histories_of(engine)
        random = np.random.default_rng(8)
        for size in args.batches:
            n_batches = max(1, min(N_BATCHES, 8 * 1024 // size))
            requests = [
                {"history": [histories[k] for k in random.integers(0, len(histories), size)]}
                for _ in range(n_batches)
            ]
            calls = make_calls(engine, requests)
            verify(calls, n_batches)
            times = measure(calls, n_batches, args.seconds)
            result["cells"].append({"batch": size, "times": times})
            if not args.json:
                floor = times["encoder"]["p50_us"]
                for name, told in times.items():
                    print(
                        f"batch {size:>4}  {name:<9} p50 {told['p50_us']:>10.1f} µs  "
                        f"p99 {told['p99_us']:>10.1f} µs  {told['p50_us'] / floor:>5.2f}× encoder"
                    )
    if args.json:
        print(json.dumps(result))
    else:
        print({key: value for key, value in result.items() if key != "cells"})


if __name__ == "__main__":
    main()
