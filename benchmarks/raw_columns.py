"""What raw columns cost: encoders with their lookups against the same encoders on ready codes.

For both encoders of a bundle and batches of 1 and 512, medians on one thread of
  engine   raw columns (lists of Python values) → `Engine.encode_users` / `encode_items`
  graph    the graph's own raw arrays → ONNX Runtime: lookups and arithmetic included
  codes    codes and numbers looked up before → ONNX Runtime: the encoder alone
Answers are compared before a time is printed.

    python benchmarks/raw_columns.py build/demo/movielens-100k.shortlist
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import shortlist
from shortlist._columns.requests import normalise
from shortlist.export.host_graphs import graph_inputs
from shortlist.training.graphs.sessions import open_session


def split_graph(path: Path) -> tuple[onnx.ModelProto, onnx.ModelProto, list[str]]:
    """Cut an exported encoder into its lookups and its core, at the ``coded/…`` values."""
    whole = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    output = whole.graph.output[0].name
    known = {value.name: value for value in whole.graph.value_info}
    front = [n for n in whole.graph.node if not n.name.startswith("core/")]
    made = [name for node in front for name in node.output if name in known]
    optional = {tensor.name for tensor in whole.graph.initializer}
    inputs = [value.name for value in whole.graph.input if value.name not in optional]
    names = [f"coded/{name}" for name in inputs]
    missing = set(names) - set(made)
    if missing:
        raise SystemExit(f"{path}: expected values {sorted(missing)} in the graph")
    extractor = onnx.utils.Extractor(whole)
    return (
        extractor.extract_model([value.name for value in whole.graph.input], names),
        extractor.extract_model(names, [output]),
        names,
    )


def medians_us(
    calls: dict[str, Callable[[int], Any]], n_inputs: int, seconds: float = 6.0
) -> dict[str, float]:
    """Median times in microseconds, calls taking turns so that noise meets all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    stop, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < stop or turn < 30:
        for name, call in calls.items():
            start = time.perf_counter()
            call(turn % n_inputs)
            times[name].append(time.perf_counter() - start)
        turn += 1
    return {name: float(np.median(values)) * 1e6 for name, values in times.items()}


def raw_rows(engine: shortlist.Engine, side: str, n: int) -> dict[str, list[Any]]:
    """Raw columns of n users or items of the bundle, as a host would pass them."""
    features = [feature.name for feature in engine.bundle.manifest.features_of(side)]
    if side == "item":
        names = ["item_id", *features]
        table = engine.items
    else:
        import pyarrow as pa

        names = ["history", *features]
        table = pa.ipc.open_file(str(engine.bundle.file("users.arrow"))).read_all()
    rows = np.random.default_rng(1).integers(0, table.num_rows, n)
    table = table.select([name for name in names if name in table.column_names]).take(rows)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def graph_feeds(
    engine: shortlist.Engine, side: str, columns: dict[str, list[Any]]
) -> dict[str, np.ndarray]:
    """The arrays the engine feeds to the graph for these columns."""
    loaded = engine._switch.loaded
    if side == "user":
        return graph_inputs(normalise(columns, loaded.schema), loaded.schema)
    schema = loaded.item_schema
    read = normalise(columns, schema)
    features = {
        name: read.features.get(name, feature.missing(read.n_requests))
        for name, feature in schema.features.items()
    }
    return {"item_id": read.ids, **features}


def measure(engine: shortlist.Engine, side: str, batch: int) -> dict[str, Any]:
    """Times of one encoder at one batch size, answers compared first."""
    path = engine.bundle.file(f"{side}_encoder.onnx")
    front, core, names = split_graph(path)
    output = f"{side}_embedding"
    whole = open_session(path, name="whole")
    lookups = open_session(front.SerializeToString(), name="lookups")
    encoder = open_session(core.SerializeToString(), name="core")
    rows = raw_rows(engine, side, 64 * batch if batch == 1 else 4 * batch)
    n = len(next(iter(rows.values()))) // batch
    parts = [{k: v[i * batch : (i + 1) * batch] for k, v in rows.items()} for i in range(n)]
    feeds = [graph_feeds(engine, side, part) for part in parts]
    codes = [dict(zip(names, lookups.run(names, feed), strict=True)) for feed in feeds]
    encode = engine.encode_users if side == "user" else engine.encode_items
    for part, feed, code in zip(parts, feeds, codes, strict=True):
        expected = encoder.run([output], code)[0]
        for found in (encode(part), whole.run([output], feed)[0]):
            if np.abs(found - expected).max() > 1e-5:
                raise SystemExit(f"{side}: the encoder on codes answers differently")
    loaded = engine._switch.loaded
    schema = loaded.schema if side == "user" else loaded.item_schema
    times = medians_us(
        {
            "engine_us": lambda i: encode(parts[i]),
            "reading_us": lambda i: normalise(parts[i], schema),
            "graph_us": lambda i: whole.run([output], feeds[i]),
            "codes_us": lambda i: encoder.run([output], codes[i]),
        },
        n,
    )
    return {"side": side, "batch": batch, **times}


def main() -> None:
    """Measure a bundle and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 512])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with shortlist.load(args.bundle, n_threads=1) as engine:
        sides = ["user", "item"] if engine.bundle.has("users.arrow") else ["item"]
        found = [measure(engine, side, batch) for side in sides for batch in args.batches]
    if args.json:
        print(json.dumps(found))
        return
    print("| encoder | batch | codes µs | graph µs | engine µs | of it reading | graph/codes | "
          "engine/codes |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for row in found:
        graph, engine_, base = row["graph_us"], row["engine_us"], row["codes_us"]
        print(
            f"| {row['side']} | {row['batch']} | {base:.1f} | {graph:.1f} | {engine_:.1f} | "
            f"{row['reading_us']:.1f} | {graph / base:.2f} | {engine_ / base:.2f} |"
        )


if __name__ == "__main__":
    main()
