"""The second stage: the DNN scorer puts the first stage's candidates into a new order."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shortlist import _arguments
from shortlist._catalogue import Catalogue
from shortlist._columns import Array
from shortlist._graphs import Graphs
from shortlist._manifest import problem
from shortlist._signals import Ragged, pad_last, take
from shortlist.errors import ShortlistError

# Requests in one run of the graph: its largest array is (requests, longest history, factors).
MAX_BATCH = 128
_INPUTS = {
    "history": "tensor(int64)",
    "candidates": "tensor(int64)",
    "similarity": "tensor(float)",
}


class SecondStage:
    """The scorer of a bundle.

    Parameters
    ----------
    graphs : Graphs
        Opens scorer.onnx: ``history`` (batch, length) and ``candidates`` (batch, n) item codes,
        ``similarity`` (batch, n) → ``score`` (batch, n).
    settings : mapping
        The manifest's ``second_stage``.
    where : str
        How messages name the graph.
    """

    def __init__(self, graphs: Graphs, settings: Mapping[str, Any], where: str) -> None:
        self.n_candidates: int = settings["n_candidates"]
        self._history_length: int = settings["history_length"]
        self._session = graphs.session("scorer")
        found = {value.name: value.type for value in self._session.get_inputs()}
        if found != _INPUTS or [v.name for v in self._session.get_outputs()] != ["score"]:
            raise problem(where, f"inputs {_INPUTS} and the output score", f"{found}")

    def score(self, histories: Ragged, codes: Array, similarity: Array) -> Array:
        """Score candidates.

        Parameters
        ----------
        histories : Ragged
            Item rows of the bundle, oldest first, of each request.
        codes : ndarray of shape (n_requests, n), int64
            The candidates as the graph knows them; 0 for items that came after the training.
        similarity : ndarray of shape (n_requests, n), float32
            First-stage scores; −inf at missing places.

        Returns
        -------
        ndarray of shape (n_requests, n), float32
            −inf at missing places.
        """
        missing = np.isneginf(similarity)
        scores = np.full(codes.shape, -np.inf, dtype=np.float32)
        known = np.where(missing, np.float32(0), similarity)
        for start in range(0, len(codes), MAX_BATCH) if codes.shape[1] else ():
            part = slice(start, start + MAX_BATCH)
            chosen = np.arange(len(codes))[part]
            feeds = {
                "history": pad_last(take(histories, chosen), self._history_length) + 1,
                "candidates": codes[part],
                "similarity": known[part],
            }
            scores[part] = self._session.run(["score"], feeds)[0]
        scores[missing] = -np.inf
        return scores

    def rerank(
        self, histories: Ragged, found: tuple[Array, Array, Array], codes: Array, top_n: int
    ) -> tuple[Array, Array, Array]:
        """Return the best of the candidates: scores, item rows, counts.

        Parameters
        ----------
        histories : Ragged
        found : (scores, rows, counts)
            The first stage's answer.
        codes : ndarray
            `Catalogue.codes`.
        top_n : int
        """
        similarity, rows, counts = found
        scores = self.score(histories, codes[rows], similarity)
        # Score descending, ties by the lower item row, missing places last.
        order = np.lexsort((rows, -scores), axis=1)[:, :top_n]
        best = np.take_along_axis(scores, order, axis=1)
        return best, np.take_along_axis(rows, order, axis=1), np.minimum(counts, top_n)


def check_stages(stages: Any, second: SecondStage | None, told: Mapping[str, Any]) -> int:
    """Return how many stages a call runs: 1 or 2; None asks for the bundle's best."""
    if stages is None:
        return 1 if second is None else 2
    if isinstance(stages, bool) or stages not in (1, 2):
        raise ValueError(f"stages: got {stages!r}, expected 1, 2, or None for the bundle's default")
    if stages == 2 and second is None:
        raise ShortlistError(f"stages: got 2, but this bundle has no second stage: {_why(told)}")
    return int(stages)


def _why(told: Mapping[str, Any]) -> str:
    if not told:
        return "it was trained without one; set enabled = true under [scorer]"
    return (
        "it did not help on validation, so it was left out (NDCG@10 "
        f"{told['ndcg_at_10_with']:.4f} with it, {told['ndcg_at_10_without']:.4f} without)"
    )


def candidate_rows(item_ids: Any, n_requests: int, state: Catalogue) -> Array:
    """Return the rows (n_requests, n) of candidates to score; −1 at missing places.

    Raises
    ------
    ValueError
        Not one row of ids a request, or an id is unknown.
    """
    candidates = np.asarray(item_ids)
    if candidates.ndim != 2 or len(candidates) != n_requests:
        raise ValueError(
            f"item_ids: got shape {candidates.shape}, expected ({n_requests}, n), one row a request"
        )
    rows = _arguments.rows_of(state.view, candidates.ravel(), "item_ids")
    rows = rows.reshape(candidates.shape)
    wrong = (rows < 0) & (candidates != state.ids[-1])
    if wrong.any():
        row, place = divmod(int(wrong.argmax()), candidates.shape[1])
        raise ValueError(
            f"item_ids: row {row}, entry {place} is {candidates[row, place].item()!r}, which "
            "is no item of this bundle"
        )
    return rows
