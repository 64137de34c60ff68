"""Raw history → top-10, seen items excluded: what each way to serve one bundle costs.

On one thread, for batches of 1, 32 and 1024, in turns of 5 ms after a call that does not count, as
a service answers one request after another:
  encoder    user_encoder.onnx in ONNX Runtime on the history's last items, as many as it looks at:
             the floor, without search, exclusion and ids
  whole      the same on whole histories, as a host has them: unknown items and old ones too
  graph      recommend.onnx with libshortlist.so: ids from one run
  portable   recommend_portable.onnx: the same with standard operators
  engine     `Engine.recommend`
  one stage  the same with stages=1, where the bundle has a reranker
Single requests are measured once more with one every 10 ms, as most hosts have them: their caches
are cold. And with --peers what others would build on the same encoder and items (`serving_peers`):
  keras      `model.predict` and NumPy
  tfrs       TensorFlow Recommenders' BruteForce layer, with --tfrs-python
  faiss      the encoder in ONNX Runtime, then FAISS flat
  implicit   `recommend` of a factorisation on the same item vectors (another model)
Answers are compared before a time is printed. The weights are random: they change no time.
--open-loop lets single requests arrive at random, at half of what each can do; the time of a
request then counts from its arrival, so that a slow answer shows in those that waited for it.

    python benchmarks/serving.py --data ml-1m.txt.gz          # 3,416 items
    python benchmarks/serving.py --items 100000 --peers       # a synthetic catalogue
    python benchmarks/serving.py --bundle movies.shortlist    # your own
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from serving_peers import (
    ImplicitRecommend,
    KerasNumpy,
    OnnxFaiss,
    TfrsBruteForce,
    Workload,
    check_best,
)
from serving_times import Calls, measure, measure_every_10_ms, open_loop

import shortlist
from shortlist._columns.requests import normalise
from shortlist._serving.loaded_bundle import request_schema
from shortlist.bench.machine import describe_machine
from shortlist.export.host_graphs import PLUGIN_GRAPH, PORTABLE_GRAPH, Check, graph_inputs
from shortlist.export.recommend import OUTPUTS
from shortlist.plugin import plugin_path
from shortlist.training.graphs.sessions import open_session

TOP_N = 10
N_BATCHES = 64  # different ones, taken in turn


def synthetic(n_items: int) -> Any:
    """Events of 2,000 users, 20 to 200 each, over a catalogue of which every item is known."""
    import polars as pl

    from shortlist.training.data.events import Dataset

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


def export_untrained(
    dataset: Any, folder: Path, seed: int = 6, **overrides: Any
) -> tuple[Path, Any]:
    """Write a bundle of the two-tower as it is before training; give its Keras user model too."""
    from shortlist.export import export_bundle
    from shortlist.training.config.settings import load_config
    from shortlist.training.features.features import FeatureSet
    from shortlist.training.fit.fit import TrainedModel, build_model
    from shortlist.training.splits.split import make_split

    config = load_config(overrides={"export.parity_users": 100, **overrides})
    split = make_split(dataset, "leave-one-out")
    features = FeatureSet.fit(dataset, split, config)
    model = build_model(config, features, dataset, split)
    random = np.random.default_rng(seed)  # a bias of zero would be left out of the graph
    weights = {
        name: value + random.normal(0, 0.02, value.shape).astype(np.float32)
        for name, value in model.get_weights().items()
    }
    model.set_weights(weights)
    run = TrainedModel(config, features, split, model, None, [], folder)
    path = export_bundle(run, folder / "untrained.shortlist").path
    return path, model.serving_user_model(model.item_vectors())


@contextmanager
def bundle_of(args: argparse.Namespace) -> Iterator[tuple[Path, Any]]:
    """Give the bundle to measure and its Keras user model, if it was made for it.

    Such a bundle is deleted afterwards.
    """
    if args.bundle:
        yield args.bundle, None
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.data:
            from shortlist.training.data.datasets import load_dataset

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
    last = -bundle.manifest.max_history
    columns = ("history", *schema.event_columns)
    short = [f | {name: f[name][:, last:] for name in columns} for f in feeds]
    calls: Calls = {
        "encoder": lambda i: encoder.run(None, short[i]),
        "whole": lambda i: encoder.run(None, feeds[i]),
        "graph": graph(PLUGIN_GRAPH, Path(plugin_path())),
    }
    if bundle.has(PORTABLE_GRAPH):
        calls["portable"] = graph(PORTABLE_GRAPH)
    calls["engine"] = lambda i: engine.recommend(requests[i], TOP_N)
    if engine.default_stages == 2:
        calls["one stage"] = lambda i: engine.recommend(requests[i], TOP_N, stages=1)
    return calls


def workload_of(engine: shortlist.Engine, requests: list[dict[str, Any]]) -> Workload:
    """The requests as the peers get them: rows for ids, the last items padded."""
    width = engine.bundle.manifest.max_history
    row_of = {item: row for row, item in enumerate(engine.index.item_ids.tolist())}
    codes, seen = [], []
    for request in requests:
        rows = [np.array([row_of[item] for item in items]) for items in request["history"]]
        codes.append(np.zeros((len(rows), width), np.int64))
        for place, known in zip(codes[-1], rows, strict=True):
            place[-min(width, len(known)) :] = known[-width:] + 1
        seen.append([np.unique(known) for known in rows])
    return Workload(engine.index.vectors(np.arange(len(engine.index))), codes, seen)


def add_peers(
    calls: Calls, work: Workload, model: Any, tfrs_python: Path | None, stack: ExitStack
) -> None:
    """Add the peers that this bundle and this environment allow, each checked on every batch."""
    encoder = calls["encoder"]
    users = [encoder(i)[0] for i in range(len(work.codes))]
    own = ImplicitRecommend(work)
    peers: Calls = {"faiss": OnnxFaiss(lambda i: encoder(i)[0], work), "implicit": own}
    if model is not None:
        peers["keras"] = KerasNumpy(model, work)
        if tfrs_python is not None:
            peers["tfrs"] = stack.enter_context(TfrsBruteForce(tfrs_python, model, work))
    for name, call in peers.items():
        for i, seen in enumerate(work.seen):
            asked = own.users(i) if name == "implicit" else users[i]
            check_best(call(i), asked, work.items, seen, name)
    calls |= peers


def verify(calls: Calls, n_batches: int) -> None:
    """Compare every graph's answers with the engine's."""
    for i in range(n_batches):
        expected = calls["engine"](i)
        for name, tolerance in (("graph", 0.0), ("portable", 1e-4)):
            if name in calls:
                found = dict(zip(OUTPUTS, calls[name](i), strict=True))
                is_open = np.zeros(len(expected.counts), np.bool_)
                Check(name, tolerance).compare(found, expected, is_open)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--bundle", type=Path, help="a bundle with stored users")
    which.add_argument("--data", help="a data set as `shortlist train --data` takes it")
    which.add_argument("--items", type=int, default=3_416, help="size of a synthetic catalogue")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 1024])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each batch size")
    parser.add_argument("--peers", action="store_true", help="measure what others would build too")
    parser.add_argument(
        "--tfrs-python",
        type=Path,
        metavar="PYTHON",
        help="interpreter of an environment with tensorflow-recommenders and tf-keras",
    )
    parser.add_argument("--open-loop", action="store_true", help="random arrivals too, batch 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": describe_machine(), "top_n": TOP_N, "cells": []}
    from threadpoolctl import threadpool_limits

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))  # NumPy's products and FAISS
        path, model = stack.enter_context(bundle_of(args))
        engine = stack.enter_context(shortlist.load(path, n_threads=1))
        manifest = engine.bundle.manifest
        result |= {"n_items": manifest.n_items, "dim": manifest.dim, "metric": manifest.metric}
        result["stages"] = engine.default_stages
        if args.peers and engine.default_stages != 1:
            sys.exit("--peers: the bundle has a second stage, expected one without")
        histories = histories_of(engine)
        random = np.random.default_rng(8)
        for size in args.batches:
            n_batches = max(1, min(N_BATCHES, 8 * 1024 // size))
            requests = [
                {"history": [histories[k] for k in random.integers(0, len(histories), size)]}
                for _ in range(n_batches)
            ]
            with ExitStack() as of_batch:
                calls = make_calls(engine, requests)
                verify(calls, n_batches)
                if args.peers:
                    work = workload_of(engine, requests)
                    add_peers(calls, work, model, args.tfrs_python, of_batch)
                cell = {"batch": size, "times": measure(calls, n_batches, args.seconds)}
                if size == 1:
                    cell["every_10_ms"] = measure_every_10_ms(calls, n_batches, args.seconds)
                if args.open_loop and size == 1:
                    cell["open_loop"] = open_loop(calls, cell["times"], n_batches, args.seconds)
            result["cells"].append(cell)
            if not args.json:
                show(cell)
    if args.json:
        print(json.dumps(result))
    else:
        print({key: value for key, value in result.items() if key != "cells"})


def show(cell: dict[str, Any]) -> None:
    """Print the times of one batch size, in multiples of the encoder and of the engine."""
    for title in ("times", "every_10_ms", "open_loop"):
        of = cell["times" if title == "open_loop" else title] if title in cell else {}
        for name, told in cell.get(title, {}).items():
            floor, engine = (of[name]["p50_us"] for name in ("encoder", "engine"))
            line = f"batch {cell['batch']:>4}  {name:<9} p50 {told['p50_us']:>10.1f} µs  "
            line += f"p99 {told['p99_us']:>10.1f} µs  "
            if title != "open_loop":
                line += f"{told['p50_us'] / floor:>6.2f}× encoder {told['p50_us'] / engine:>7.2f}×"
                line += " engine" + ", every 10 ms" * (title == "every_10_ms")
            else:
                line += f"from arrival, {told['per_second']:,.0f} a second"
            print(line)


if __name__ == "__main__":
    main()
