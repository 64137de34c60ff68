"""Retrieval by recommend_portable.onnx, on the encoder's device, in place of the CPU's index.

The graph holds the catalogue as it was exported and knows neither `where` nor items that came
later; such calls go to the index. Its scores equal the index's up to float32 rounding.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shortlist._catalogue import Catalogue
from shortlist._columns import Array
from shortlist._recommend import Answer, Asked
from shortlist._signals import FEATURES, POPULAR, Ragged, Signals, event_feeds, pad_last
from shortlist._where import Filter

PORTABLE_GRAPH = "recommend_portable.onnx"
SEARCHES = ("auto", "index", "graph")
CALIBRATED_BATCHES = (1, 32, 256)
_N_ROUNDS = 5
_OUTPUTS = ["scores", "rows", "counts"]


class GraphSearch:
    """Answers batches with the portable graph.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Of recommend_portable.onnx.
    first : Catalogue
        The items as the bundle has them.
    missing_id : object
        What the graph takes as no id.
    has_scorer : bool
        Whether the graph runs a second stage.
    """

    def __init__(
        self, session: Any, first: Catalogue, missing_id: object, *, has_scorer: bool
    ) -> None:
        self._session = session
        self._first = first
        self._stages = 2 if has_scorer else 1
        is_text = isinstance(missing_id, str)
        # By row; row −1, padding, is the last.
        self._ids = np.append(first.ids[:-1], np.array([missing_id], object if is_text else "i8"))
        # From these batch sizes on, up to the next, the graph answers; or not.
        self._is_faster: dict[int, bool] = {1: True}
        self.times_us: dict[int, dict[str, float]] = {}

    def answer(
        self, signals: Signals, state: Catalogue, allowed: Filter, asked: Asked
    ) -> Answer | None:
        """Answer a batch; None where the index has to."""
        n = len(signals.source)
        if not self._is_faster[max(size for size in self._is_faster if size <= max(1, n))]:
            return None
        is_plain = allowed.groups is None and allowed.masks[0] is None
        is_same = state.view.version == self._first.view.version and asked.stages == self._stages
        if not (is_plain and is_same and n) or signals.skipped is not None:
            return None
        if not _is_same(signals.seen, signals.histories):
            return None
        width = max(1, int(signals.histories.lengths.max()))
        feeds = {
            "history": self._ids[pad_last(signals.histories, width)],
            **event_feeds(signals, width),
            **signals.features,
            "top_n": np.array([asked.top_n]),
            "exclude_seen": np.array([asked.exclude_seen]),
        }
        scores, rows, counts = self._session.run(_OUTPUTS, feeds)
        stages = np.full(n, self._stages, dtype=np.int8)
        stages[signals.source == FEATURES] = 1
        stages[signals.source == POPULAR] = 0
        return Answer(scores, rows, counts, signals.source, stages)

    def calibrate(self, answer: Callable[[int], Any]) -> None:
        """Measure both ways on batches of a few sizes, and take the faster one for each.

        Parameters
        ----------
        answer : callable
            Answers so many requests by whatever way this object says.
        """
        for size in CALIBRATED_BATCHES:
            times: dict[str, list[float]] = {"index": [], "graph": []}
            for _ in range(_N_ROUNDS + 1):
                for way, seconds in times.items():  # in turns: a busy moment hits both
                    self._is_faster = {1: way == "graph"}
                    start = time.perf_counter()
                    answer(size)
                    seconds.append(time.perf_counter() - start)
            self.times_us[size] = {
                way: float(np.median(seconds[1:])) * 1e6 for way, seconds in times.items()
            }
        self._is_faster = {
            size: told["graph"] < told["index"] for size, told in self.times_us.items()
        }

    def report(self) -> dict[str, Any]:
        """Say from which batch size on which way is taken, and what was measured."""
        ways = {size: "graph" if is_it else "index" for size, is_it in self._is_faster.items()}
        return {"from_batch": ways, "times_us": self.times_us}


def _is_same(one: Ragged, other: Ragged) -> bool:
    """Say whether what must not come back is what the encoder sees: the graph has one history."""
    return one is other or (
        np.array_equal(one.splits, other.splits) and np.array_equal(one.values, other.values)
    )


def random_histories(n: int, n_items: int, width: int) -> list[Array]:
    """Return item rows of n made-up histories, for calibration: the same in every process."""
    random = np.random.default_rng(0)
    return list(random.integers(0, n_items, (n, min(width, n_items))))
