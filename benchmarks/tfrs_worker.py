"""Process that answers with TensorFlow Recommenders, started by `serving_peers.TfrsBruteForce`.

It needs tensorflow-recommenders and tf-keras (Keras 2), hence its own environment.
Reads pickled batch numbers, writes pickled (seconds, item rows).
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    folder, top_n = Path(sys.argv[1]), int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print; the pipe is for answers
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import tensorflow_recommenders as tfrs

    encoder = tf.saved_model.load(str(folder / "encoder"))  # must outlive its function
    items = np.load(folder / "items.npy")
    layer = tfrs.layers.factorized_top_k.BruteForce(query_model=encoder.encode, k=top_n)
    layer.index(items, np.arange(len(items)))

    @tf.function
    def serve(codes: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        return layer.query_with_exclusions(codes, seen, k=top_n)[1]

    codes, seen = pickle.loads((folder / "batches.pickle").read_bytes())
    batches = [(tf.constant(c), tf.constant(s)) for c, s in zip(codes, seen)]  # noqa: B905
    while True:
        try:
            i = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        start = time.perf_counter()
        rows = serve(*batches[i]).numpy()
        pickle.dump((time.perf_counter() - start, rows), answers)
        answers.flush()


if __name__ == "__main__":
    main()
