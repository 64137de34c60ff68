"""The parity gate: a bundle answers like the Keras model it came from, or it is not written.

Keras encoders and a float64 brute force rank the catalogue for held-out users; the bundle's engine,
loaded from its files, answers raw requests of the same users. The lists must be equal, except that
items whose reference scores differ by less than the tolerance may change places. An index that
rounds item vectors (`export.storage`) widens the tolerance by exactly what it rounds, a user
encoder in float16 (`export.precision`) by `half.ROUNDING`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shortlist.engine import Engine
from shortlist.export import half
from shortlist.export.errors import ExportError
from shortlist.training.data.arrays import Requests
from shortlist.training.features.features import align_users
from shortlist.training.features.history import HistoryEvents
from shortlist.training.fit.fit import TrainedModel

# Both sides sum float32 products in another order: 1e-6 was the largest difference seen on cosines.
TOLERANCE = 1e-5
SCORER_TOLERANCE = 1e-4  # relative to the largest score; sums over whole histories go in
SECOND_STAGE_USERS = 256
# What rounding to the index's storage may change in a number of a unit vector; of other vectors, in
# parts of their largest number. int4 cuts the largest numbers of a row off where that makes the
# whole row better.
ROUNDING = {
    **{"float32": 0.0, "disk8": 0.0, "disk6": 0.0, "disk4": 0.0},
    **{"float16": 2.0**-12, "bfloat16": 2.0**-9, "int8": 1 / 127, "int4": 2 / 3},
}
CHUNK = 512  # users whose score rows are in memory at once, …
MAX_SCORES = 1 << 24  # … but not more scores: 128 MiB of float64
BLOCK = 1 << 22  # numbers of item rows of which more than one array is in memory at once

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SecondStageParity:
    """What the gate found on lists of the second stage; the fields are those of `Parity`."""

    n_users: int
    n_identical: int
    n_tied: int
    tolerance: float
    largest_score_difference: float


@dataclass(frozen=True)
class Parity:
    """What the gate found; goes into the manifest.

    Attributes
    ----------
    n_users : int
        Held-out users compared.
    top_n : int
        Length of the lists.
    n_identical : int
        Users whose lists are equal place by place.
    n_tied : int
        Users whose lists differ only in the order of scores closer than the tolerance.
    tolerance : float
        On the score; wider by what the index's storage and float16 may round, and by the longest
        user's and item's embeddings where they are not of length 1.
    largest_score_difference : float
        Between the engine's scores and the float64 reference of the same items.
    largest_item_difference : float
        Between the item encoder graph on raw rows and the index.
    second_stage : SecondStageParity or None
        The same counts for lists of the second stage, against the Keras scorer on the same
        candidates; None without one.
    graphs : dict of str to dict
        Tolerance and counts of the graphs for hosts, see `host_graphs.check_host_graphs`.
    """

    n_users: int
    top_n: int
    n_identical: int
    n_tied: int
    tolerance: float
    largest_score_difference: float
    largest_item_difference: float
    second_stage: SecondStageParity | None = None
    graphs: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; an empty `second_stage` without one."""
        fields = asdict(self)
        return fields | {"second_stage": fields["second_stage"] or {}}


@dataclass(frozen=True)
class HeldOut:
    """Held-out users as the gate asks about them.

    Attributes
    ----------
    user_ids : ndarray of shape (n_users,)
    histories : list of ndarray
        Raw item ids, oldest first, never empty.
    table : polars.DataFrame
        The users' raw features, row by row.
    """

    user_ids: Array
    histories: list[Array]
    table: pl.DataFrame

    def part(self, start: int, stop: int) -> "HeldOut":
        """Return users `start` to `stop`."""
        return HeldOut(
            self.user_ids[start:stop], self.histories[start:stop], self.table[start:stop]
        )


def held_out_users(run: TrainedModel, n_users: int) -> HeldOut:
    """Choose up to `n_users` users with a history, evenly over the test users.

    Without test users, over the validation users; without those, over all users of train.
    """
    split = run.split
    lists: Any = ()
    for upto in ("valid", "train"):
        lists = split.histories(upto)
        if any(length > 0 for length in lists.lengths):
            break
    else:
        return _train_users(run, n_users)
    filled = np.flatnonzero(lists.lengths > 0)
    chosen = filled[_evenly(len(filled), n_users)]
    user_ids = lists.user_ids[chosen]
    return HeldOut(user_ids, [lists[int(i)] for i in chosen], align_users(split.dataset, user_ids))


def _train_users(run: TrainedModel, n_users: int) -> HeldOut:
    grouped = run.split.train.group_by("user_id", maintain_order=True).agg("item_id")
    grouped = grouped[_evenly(grouped.height, n_users)]
    user_ids = np.asarray(grouped["user_id"].to_list())
    histories = [np.asarray(items.to_list()) for items in grouped["item_id"]]
    return HeldOut(user_ids, histories, align_users(run.split.dataset, user_ids))


def _evenly(n: int, wanted: int) -> Array:
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(np.int64)) if n else np.arange(0)


def check_parity(
    run: TrainedModel, engine: Engine, *, n_users: int = 1000, top_n: int = 10
) -> Parity:
    """Compare a loaded bundle with the run it came from.

    Parameters
    ----------
    run : TrainedModel
        Its Keras encoders are the truth.
    engine : Engine
        The bundle, loaded from its files.
    n_users : int
        Held-out users to compare, at most.
    top_n : int
        Length of the lists.

    Returns
    -------
    Parity

    Raises
    ------
    ExportError
        A list differs by more than ties; the message shows the first such user with both lists.
    """
    item_difference = _item_difference(run, engine)
    items = _scaled(run, run.two_tower.item_vectors())
    users = held_out_users(run, n_users)
    embeddings = _scaled(run, _encode(run, users))
    allowed = TOLERANCE + (half.ROUNDING if run.config.export.precision == "float16" else 0.0)
    rounding = allowed * _longest(run, items) + 2 * _rounding(items, engine)
    tolerance = rounding * _longest(run, embeddings)
    n_identical, n_tied, largest = 0, 0, 0.0
    n_total = len(users.user_ids)
    at_once = max(1, min(CHUNK, MAX_SCORES // len(items)))
    for start in range(0, n_total, at_once):
        part = users.part(start, start + at_once)
        scores = _reference_scores(run, part, embeddings[start : start + at_once], items)
        answer = engine.recommend(_requests(run, part), top_n=top_n, stages=1)
        for i, user_id in enumerate(part.user_ids.tolist()):
            rows = answer.indices[i, : answer.counts[i]]
            expected = _best(scores[i], top_n)
            difference = list_difference(scores[i], rows, expected, answer.scores[i])
            if not difference <= tolerance:
                raise _mismatch(engine, user_id, rows, expected, scores[i], answer.scores[i])
            largest = max(largest, difference)
            n_identical += int(np.array_equal(rows, expected))
            n_tied += int(not np.array_equal(rows, expected))
    return Parity(
        n_total,
        top_n,
        n_identical,
        n_tied,
        tolerance,
        largest,
        item_difference,
        _check_second_stage(run, engine, users.part(0, SECOND_STAGE_USERS), top_n),
    )


def _check_second_stage(
    run: TrainedModel, engine: Engine, users: HeldOut, top_n: int
) -> SecondStageParity | None:
    if run.scorer is None or engine.default_stages == 1:
        return None
    settings = run.scorer.config
    requests = _requests(run, users)
    n_candidates = max(settings.n_candidates, top_n)
    first = engine.recommend(requests, top_n=n_candidates, stages=1)
    inputs = {
        "history": run.features.encode_history(users.histories, settings.history_length),
        "candidates": first.indices + 1,
        "similarity": np.where(first.indices >= 0, first.scores, 0.0).astype(np.float32),
    }
    values = np.asarray(run.scorer.model(inputs), dtype=np.float64)
    answer = engine.recommend(requests, top_n=top_n, stages=2)
    tolerance = SCORER_TOLERANCE * max(1.0, float(np.abs(values).max(initial=0.0)))
    n_identical, largest = 0, 0.0
    for i, user_id in enumerate(users.user_ids.tolist()):
        scores = np.full(len(engine.index), -np.inf)
        is_there = first.indices[i] >= 0
        scores[first.indices[i][is_there]] = values[i][is_there]
        rows, expected = answer.indices[i, : answer.counts[i]], _best(scores, top_n)
        difference = list_difference(scores, rows, expected, answer.scores[i])
        if not difference <= tolerance:
            raise _mismatch(engine, user_id, rows, expected, scores, answer.scores[i])
        largest = max(largest, difference)
        n_identical += int(np.array_equal(rows, expected))
    n = len(users.user_ids)
    return SecondStageParity(n, n_identical, n - n_identical, tolerance, largest)


def _encode(run: TrainedModel, users: HeldOut) -> Array:
    """Encode users with Keras: (n_users, dim)."""
    features = run.features
    codes = features.encode_history(users.histories)
    inputs = features.encode_users(users.table)
    if features.event_features:
        events = HistoryEvents(features, run.split.dataset)
        inputs |= events.encoded(users.user_ids, _codes(run, users), codes.shape[1])
    return run.two_tower.encode_users(codes, inputs)


def _reference_scores(run: TrainedModel, users: HeldOut, embeddings: Array, items: Array) -> Array:
    """Score the catalogue in float64: (n_users, n_items), −inf for seen items."""
    scores: Array = embeddings @ items.T
    for row, history in zip(scores, users.histories, strict=True):
        row[run.split.item_rows(pl.Series("item_id", history.tolist()))] = -np.inf
    return scores


def _requests(run: TrainedModel, users: HeldOut) -> Requests:
    requests: Requests = {"history": users.histories}
    for feature in run.features.side("user"):
        if feature.name in users.table.columns:
            requests[feature.name] = users.table[feature.name]
    if run.features.event_features:
        events = HistoryEvents(run.features, run.split.dataset)
        requests |= events.raw(users.user_ids, _codes(run, users))
    return requests


def request_batches(run: TrainedModel, n_users: int, size: int) -> Iterator[Requests]:
    """Give held-out users' requests, then some without histories, then one with nothing at all."""
    users = held_out_users(run, n_users)
    for start in range(0, len(users.user_ids), size):
        yield _requests(run, users.part(start, start + size))
    few = _requests(run, users.part(0, size))
    nothing: list[Any] = [[]] * len(few["history"])
    yield {name: nothing if "history" in name else values for name, values in few.items()}
    yield {"history": [[]]}


def _codes(run: TrainedModel, users: HeldOut) -> list[Array]:
    item_id = run.features.item_id
    return [item_id.codes(pl.Series("item_id", h.tolist())) for h in users.histories]


def _scaled(run: TrainedModel, rows: Array) -> Array:
    """Give float64 rows whose dot products are scores."""
    scaled = np.empty(rows.shape, np.float64)
    for block in _blocks(*rows.shape):
        part = rows[block].astype(np.float64)
        scaled[block] = _unit(part) if run.two_tower.metric == "cosine" else part
    return scaled


def _blocks(n_rows: int, dim: int) -> Iterator[slice]:
    """Cut rows into blocks of at most `BLOCK` numbers."""
    n_at_once = max(1, BLOCK // max(1, dim))
    for start in range(0, n_rows, n_at_once):
        yield slice(start, min(n_rows, start + n_at_once))


def _longest(run: TrainedModel, rows: Array) -> float:
    if run.two_tower.metric == "cosine":
        return 1.0
    norms = [np.linalg.norm(rows[block], axis=1).max() for block in _blocks(*rows.shape)]
    return float(max(norms, default=0.0))


def _unit(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def _best(scores: Array, top_n: int) -> Array:
    cut = max(0, len(scores) - top_n)
    rows = np.flatnonzero(scores >= np.partition(scores, cut)[cut])
    order = rows[np.argsort(-scores[rows], kind="stable")[:top_n]]
    return order[np.isfinite(scores[order])]


def list_difference(scores: Array, rows: Array, expected: Array, engine_scores: Array) -> float:
    """Return the largest score difference of two lists, place by place; inf if they cannot tie."""
    if len(rows) != len(expected) or len(set(rows.tolist())) != len(rows):
        return float("inf")
    if not len(rows):
        return 0.0
    if not np.isfinite(scores[rows]).all():  # an item that should be excluded
        return float("inf")
    lists = np.abs(scores[rows] - scores[expected]).max()
    values = np.abs(scores[rows] - engine_scores[: len(rows)]).max()
    return float(max(lists, values))


def _item_difference(run: TrainedModel, engine: Engine) -> float:
    """Run the item encoder graph on the raw item table and compare with the index."""
    names = ["item_id", *(feature.name for feature in run.features.side("item"))]
    table = engine.items
    table = table.select([name for name in names if name in table.column_names])
    differences, largest = [0.0], [0.0]
    for block in _blocks(len(engine.index), run.two_tower.dim):
        rows = np.arange(block.start, block.stop)
        items = _scaled(run, engine.encode_items(table.slice(block.start, len(rows))))
        stored = engine.index.vectors(rows)
        differences.append(np.abs(items - stored).max())
        largest.append(np.abs(items).max())
    difference = float(np.max(differences))  # NaN too
    tolerance = TOLERANCE + ROUNDING[engine.index.storage]
    tolerance *= max(1.0, float(np.max(largest)))
    if not difference <= tolerance:
        raise ExportError(
            f"parity: the item encoder on raw rows differs from the index by {difference:.3g}, "
            f"expected at most {tolerance:.3g}; nothing was written"
        )
    return difference


def _rounding(items: Array, engine: Engine) -> float:
    """Return how far a score can be off because the index rounds: the longest ‖item − stored‖.

    Two such items may change places when their scores differ by twice that.
    """
    if ROUNDING[engine.index.storage] == 0:
        return 0.0
    longest = [0.0]
    for block in _blocks(*items.shape):
        stored = engine.index.vectors(np.arange(block.start, block.stop))
        longest.append(np.linalg.norm(items[block] - stored, axis=1).max())
    return float(np.max(longest))


def _mismatch(
    engine: Engine,
    user_id: object,
    rows: Array,
    expected: Array,
    scores: Array,
    engine_scores: Array,
) -> ExportError:
    ids = engine.index.item_ids

    def listed(listed_rows: Array, values: Array) -> str:
        pairs = zip(ids[listed_rows].tolist(), values.tolist(), strict=True)
        return ", ".join(f"{item} ({score:.6f})" for item, score in pairs)

    return ExportError(
        f"parity: the bundle's top-{len(expected)} is not Keras's; nothing was written. "
        f"First differing user: {user_id}\n"
        f"  Keras:  {listed(expected, scores[expected])}\n"
        f"  bundle: {listed(rows, engine_scores[: len(rows)])}"
    )
