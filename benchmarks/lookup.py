"""Id lookup at catalogue size: LabelEncoder in the graph against the index's own table.

For int64 and string ids: file size, load time, memory, and the time of a lookup of a whole batch
of histories (batch × 50 ids) on one thread. Each way runs in a process of its own, so that memory
is its own; the answers are compared with the codes that are expected.

    python benchmarks/lookup.py --n-ids 1000000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = 50  # ids of a history
WAYS = ("LabelEncoder", "LabelEncoder, tensors", "Index.rows_of", "Python dict")


def make_ids(n: int, dtype: str) -> np.ndarray:
    """Ids as shops have them: spread integers, or text of 12 characters."""
    numbers = np.random.default_rng(7).permutation(np.arange(n, dtype=np.int64) * 9_973 + 10**9)
    return numbers if dtype == "int64" else np.array([f"SKU-{i:08x}" for i in numbers])


def write_graph(path: Path, ids: np.ndarray, tensors: bool) -> None:
    """Write a graph that is one LabelEncoder; with `tensors`, in its form of ml opset 4."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    is_text = ids.dtype.kind == "U"
    codes = np.arange(1, len(ids) + 1)
    if tensors:
        flat = np.array([i.encode() for i in ids.tolist()], dtype=object) if is_text else ids
        keys = (
            helper.make_tensor("keys", TensorProto.STRING, [len(ids)], flat.tolist())
            if is_text
            else numpy_helper.from_array(ids, "keys")
        )
        options: dict[str, Any] = {
            "keys_tensor": keys,
            "values_tensor": numpy_helper.from_array(codes, "values"),
            "default_tensor": numpy_helper.from_array(np.array([0]), "default"),
        }
    else:
        options = {"keys_strings" if is_text else "keys_int64s": ids.tolist()}
        options |= {"values_int64s": codes.tolist(), "default_int64": 0}
    node = helper.make_node("LabelEncoder", ["ids"], ["codes"], domain="ai.onnx.ml", **options)
    raw = TensorProto.STRING if is_text else TensorProto.INT64
    graph = helper.make_graph(
        [node],
        "lookup",
        [helper.make_tensor_value_info("ids", raw, ["batch", "length"])],
        [helper.make_tensor_value_info("codes", TensorProto.INT64, ["batch", "length"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 4 if tensors else 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def prepare(way: str, path: Path, ids: np.ndarray) -> None:
    """Write what the way loads."""
    if way.startswith("LabelEncoder"):
        write_graph(path, ids, way.endswith("tensors"))
    elif way == "Index.rows_of":
        import shortlist

        shortlist.Index(np.ones((len(ids), 1), np.float32), ids, "dot").save(path)
    else:
        np.save(path.with_suffix(".npy"), ids)
        path.with_suffix(".npy").rename(path)


def load(way: str, path: Path) -> tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]:
    """Load; returns the lookup, and what makes its input of ids (batch, length)."""
    if way.startswith("LabelEncoder"):
        from shortlist.training.graphs.sessions import open_session

        session = open_session(path, name="lookup")
        return (
            lambda ids: session.run(["codes"], {"ids": ids})[0],
            lambda ids: ids.astype(object) if ids.dtype.kind == "U" else ids,
        )
    if way == "Index.rows_of":
        import shortlist

        index = shortlist.Index.load(path)
        return lambda ids: index.rows_of(ids) + 1, lambda ids: ids.ravel()
    codes = {value: code for code, value in enumerate(np.load(path).tolist(), 1)}

    def look_up(rows: list[list[Any]]) -> np.ndarray:
        return np.array([[codes.get(value, 0) for value in row] for row in rows])

    return look_up, lambda ids: ids.tolist()


def memory_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(way: str, dtype: str, n: int, path: Path) -> dict[str, Any]:
    """Measure one way in this process."""
    import onnxruntime  # noqa: F401  (loaded before memory is read, whichever the way)

    import shortlist  # noqa: F401

    ids = make_ids(n, dtype)
    np.random.default_rng(1).shuffle(order := np.arange(n))
    before, start = memory_mib(), time.perf_counter()
    look_up, as_input = load(way, path)
    row = {"way": way, "dtype": dtype, "load_s": time.perf_counter() - start}
    row["memory_mib"] = memory_mib() - before
    row["file_mib"] = path.stat().st_size / 2**20
    for batch in (1, 512):
        n_inputs = 200 if batch == 1 else 8
        inputs, expected = [], []
        for i in range(n_inputs):
            chosen = np.take(order, np.arange(i * batch * LENGTH, (i + 1) * batch * LENGTH) % n)
            inputs.append(as_input(ids[chosen].reshape(batch, LENGTH)))
            expected.append(chosen + 1)
        for given, wanted in zip(inputs, expected, strict=True):
            if not np.array_equal(np.ravel(look_up(given)), wanted):
                raise SystemExit(f"{way}: wrong codes")
        times = []
        for turn in range(1000 if batch == 1 else 80):
            start = time.perf_counter()
            look_up(inputs[turn % n_inputs])
            times.append(time.perf_counter() - start)
        row[f"batch_{batch}_us"] = float(np.median(times)) * 1e6
    return row


def main() -> None:
    """Measure every way and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n-ids", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "DTYPE", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        way, dtype, path = args.one
        print(json.dumps(measure(way, dtype, args.n_ids, Path(path))))
        return
    print("| ids | way | file MiB | load s | memory MiB | batch 1 µs | batch 512 µs | ns an id |")
    print("|---|---|---|---|---|---|---|---|")
    for dtype in ("int64", "string"):
        ids = make_ids(args.n_ids, dtype)
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "lookup"
                prepare(way, path, ids)
                command = [sys.executable, __file__, "--n-ids", str(args.n_ids), "--one"]
                done = subprocess.run(
                    [*command, way, dtype, str(path)], check=True, capture_output=True, text=True
                )
            row = json.loads(done.stdout)
            each = row["batch_512_us"] / 512 / LENGTH * 1000
            print(
                f"| {dtype} | {way} | {row['file_mib']:.1f} | {row['load_s']:.2f} | "
                f"{row['memory_mib']:.0f} | {row['batch_1_us']:.0f} | {row['batch_512_us']:.0f} | "
                f"{each:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
