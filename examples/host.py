"""A Python host without the shortlist package: a raw history in, item ids out, in one run.

pip install onnxruntime
python examples/host.py movies.shortlist libshortlist.so 10  50 172 181

The library lies beside the package where that is installed: shortlist.plugin_path().
"""

import sys

import numpy as np
import onnxruntime

TYPES = {"tensor(int64)": np.int64, "tensor(string)": object, "tensor(float)": np.float32}
MISSING = {np.int64: np.iinfo(np.int64).min, object: "", np.float32: np.nan}


def open_bundle(bundle: str, library: str, n_threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3  # errors
    options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(f"{bundle}/recommend.onnx", options)


def recommend(
    session: onnxruntime.InferenceSession, histories: list[list[str]], top_n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answer requests of which only the history is known; returns ids, scores, counts."""
    feeds = {"top_n": np.array([top_n])}
    longest = max(1, *map(len, histories))
    for value in session.get_inputs():
        if value.name in feeds:
            continue
        kind = TYPES[value.type]
        shape = [size if isinstance(size, int) else 1 for size in value.shape[1:]]
        if value.name.startswith("history"):
            shape = [longest]
        feeds[value.name] = np.full([len(histories), *shape], MISSING[kind], kind)
    for row, history in zip(feeds["history"], histories, strict=True):
        if history:  # the newest item stands in the last column
            row[-len(history) :] = history
    return tuple(session.run(["item_ids", "scores", "counts"], feeds))


def main() -> None:
    bundle, library, top_n, *history = sys.argv[1:]
    item_ids, scores, counts = recommend(open_bundle(bundle, library), [history], int(top_n))
    for place in range(counts[0]):
        print(item_ids[0, place], float(scores[0, place]).hex())


if __name__ == "__main__":
    main()
