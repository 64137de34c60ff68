"""What others would build for raw history → top-10 without seen items, for `serving.py`.

Each gets the same user encoder and the same item vectors, and is spared more than Shortlist is:
histories come as item rows, already cut and padded, and item rows go out. Each takes the fastest
form that was found for it.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from peers import FaissFlat, FaissFlatBlas

TOP_N = 10
MAX_SCORES = 1 << 26  # larger score matrices are made in parts


@dataclass
class Workload:
    """The requests, batch by batch, as the peers get them.

    Attributes
    ----------
    items : ndarray of shape (n_items, dim), float32
        Item embeddings, of unit length.
    codes : list of ndarray of shape (size, width), int64
        The histories' last items, row + 1, padded with 0 on the left.
    seen : list of list of ndarray, int64
        Distinct rows of each request's whole history.
    """

    items: NDArray[np.float32]
    codes: list[NDArray[np.int64]]
    seen: list[list[NDArray[np.int64]]]

    def padded_seen(self, i: int, multiple: int = 1) -> NDArray[np.int64]:
        """Rows of batch i to leave out, padded with -1 to a width that is such a multiple."""
        width = -(-max([1, *map(len, self.seen[i])]) // multiple) * multiple
        out = np.full((len(self.seen[i]), width), -1, np.int64)
        for row, seen in zip(out, self.seen[i], strict=True):
            row[: len(seen)] = seen
        return out


class KerasNumpy:
    """`model.predict`, a matrix product, -inf for seen items, partition, sort."""

    def __init__(self, model: Any, work: Workload) -> None:
        self.model, self.work = model, work
        self.part = max(1, MAX_SCORES // len(work.items))

    def __call__(self, i: int) -> NDArray[np.int64]:
        codes, seen = self.work.codes[i], self.work.seen[i]
        users = self.model.predict({"history": codes}, verbose=0, batch_size=len(codes))
        found = np.empty((len(users), TOP_N), np.int64)
        for start in range(0, len(users), self.part):
            scores = users[start : start + self.part] @ self.work.items.T
            for row, rows in zip(scores, seen[start : start + self.part], strict=True):
                row[rows] = -np.inf
            cut = scores.shape[1] - TOP_N
            least = np.partition(scores, cut, axis=1)[:, cut]
            for k, row in enumerate(scores):
                best = np.flatnonzero(row >= least[k])
                found[start + k] = best[np.argsort(-row[best], kind="stable")[:TOP_N]]
        return found


class OnnxFaiss:
    """ONNX Runtime, then FAISS flat asked for as many more as the longest history, then a filter.

    FAISS has one selector a call, not one a query. For a single request one is slower than asking
    for more: every item passes through it.
    """

    def __init__(self, encode: Callable[[int], NDArray[np.float32]], work: Workload) -> None:
        self.encode, self.work = encode, work
        is_single = len(work.codes[0]) < 4
        self.index = (FaissFlat if is_single else FaissFlatBlas)(work.items)
        self.index.use_threads(1)
        self.seen = [work.padded_seen(i) for i in range(len(work.codes))]

    def __call__(self, i: int) -> NDArray[np.int64]:
        seen = self.seen[i]
        n_asked = min(TOP_N + seen.shape[1], len(self.work.items))
        rows = self.index.search(self.encode(i), n_asked)
        found = np.empty((len(rows), TOP_N), np.int64)
        for k, row in enumerate(rows):
            found[k] = row[~np.isin(row, seen[k])][:TOP_N]
        return found


class ImplicitRecommend:
    """`implicit`'s factorisation: users solved from their histories, seen items filtered.

    Another model on the same item vectors, so its answers are compared with its own factors.
    """

    def __init__(self, work: Workload) -> None:
        als = importlib.import_module("implicit.cpu.als").AlternatingLeastSquares
        sparse = importlib.import_module("scipy.sparse")
        self.work = work
        self.model = als(factors=work.items.shape[1], num_threads=1)
        self.model.item_factors = work.items
        self.requests = []
        for seen in work.seen:
            splits = np.concatenate([[0], np.cumsum([len(rows) for rows in seen])])
            rows = np.concatenate(seen)
            shape = (len(seen), len(work.items))
            self.requests.append(
                sparse.csr_matrix((np.ones(len(rows), np.float32), rows, splits), shape=shape)
            )

    def __call__(self, i: int) -> NDArray[np.int64]:
        users = np.arange(len(self.work.codes[i]))
        found = self.model.recommend(users, self.requests[i], TOP_N, recalculate_user=True)
        return np.asarray(found[0], np.int64)

    def users(self, i: int) -> NDArray[np.float32]:
        users = np.arange(len(self.work.codes[i]))
        return np.asarray(self.model.recalculate_user(users, self.requests[i]))


class TfrsBruteForce:
    """TensorFlow Recommenders' BruteForce layer in a process with its own Python environment.

    Its time is taken there; what passes between the processes does not count.
    """

    def __init__(self, python: Path, model: Any, work: Workload) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        _save_encoder(model, path / "encoder")
        np.save(path / "items.npy", work.items)
        # Its function is compiled for each width; few widths, and it still asks for few items.
        seen = [work.padded_seen(i, multiple=32) for i in range(len(work.codes))]
        (path / "batches.pickle").write_bytes(pickle.dumps((work.codes, seen)))
        worker = Path(__file__).with_name("tfrs_worker.py")
        self.process = subprocess.Popen(
            [str(python), str(worker), str(path), str(TOP_N)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.own_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.folder.cleanup()

    def __call__(self, i: int) -> NDArray[np.int64]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(i, self.process.stdin)
        self.process.stdin.flush()
        try:
            self.own_seconds, found = pickle.load(self.process.stdout)
        except EOFError:
            sys.exit("the process with TensorFlow Recommenders ended; see its message above")
        return np.asarray(found, np.int64)


def _save_encoder(model: Any, path: Path) -> None:
    """Save the user encoder so that any TensorFlow can run it, whatever its Keras."""
    tf = importlib.import_module("tensorflow")
    module = tf.Module()
    module.model = model
    spec = tf.TensorSpec((None, None), tf.int64)
    module.encode = tf.function(lambda codes: model({"history": codes}), input_signature=[spec])
    tf.saved_model.save(module, str(path))


def check_best(
    found: NDArray[np.int64],
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    seen: list[NDArray[np.int64]],
    name: str,
) -> None:
    """Stop unless these are TOP_N distinct unseen rows as good as any, to float32 accuracy."""
    for k, rows in enumerate(found):
        scores = items @ users[k]
        tolerance = 1e-5 * max(1.0, float(np.abs(scores).max()))
        scores[seen[k]] = -np.inf
        expected = np.sort(np.partition(scores, -TOP_N)[-TOP_N:])[::-1]
        if len(set(rows)) != TOP_N or np.abs(scores[rows] - expected).max() > tolerance:
            sys.exit(f"{name}: request {k} got {rows.tolist()}, which are not the best items")
