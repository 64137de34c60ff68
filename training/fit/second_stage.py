"""The second stage in the pipeline: the scorer learns to order the first stage's candidates.

The DNN mixes the first stage's score with what linear factors, followers and popularity say of a
candidate. It is trained on the validation events: on train events the encoders, which have seen
them, rank the targets far too well for the scorer to learn what it will meet in service. Whether
it helps is measured by cross-fitting: each user is ranked by a scorer that never saw them.
Followers (``scorer.kind``) are counted in the train part; validation only says whether they help.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.training.config.sections import ScorerConfig
from shortlist.training.evaluation.evaluate import Evaluation, evaluate_users
from shortlist.training.evaluation.ranker import TwoTowerRanker
from shortlist.training.features.features import align_users, pad_lists
from shortlist.training.features.history import HistoryEvents
from shortlist.training.fit import checkpoint
from shortlist.training.models.candidates import (
    CHUNK,
    INPUTS,
    CandidateScorer,
    Tables,
    restore,
)
from shortlist.training.models.factors import linear_factors
from shortlist.training.models.followers import Followers, FollowerScorer, restore_followers
from shortlist.training.models.scorer import DNNScorer, fit_candidates
from shortlist.training.models.sums import STEPS, sum_followers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.splits.parts import IdArray, Split

MAX_USERS = 10_000  # more hardly change a scorer of this size
MIN_USERS = 20  # with fewer there is nothing to judge by
N_FOLDS = 5
MAX_NUMBERS = 1 << 26  # of candidates' vectors in memory at once: 256 MiB
METRIC = "NDCG@10"
Scorer = CandidateScorer | FollowerScorer


@dataclass(frozen=True)
class RerankerReport:
    """What the second stage changes on validation, and the settings that serving needs.

    Attributes
    ----------
    kind : str
        As ``scorer.kind``.
    is_kept : bool
        It serves.
    n_candidates, history_length : int
        As the settings say.
    n_users : int
        Validation users that it was measured on; 0 where nothing was measured.
    ndcg_at_10_without, ndcg_at_10_with : float or None
        None where nothing was measured.
    standard_error : float or None
        Of their difference.
    """

    kind: str
    is_kept: bool
    n_candidates: int
    history_length: int
    n_users: int = 0
    ndcg_at_10_without: float | None = None
    ndcg_at_10_with: float | None = None
    standard_error: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; those that were not measured are left out."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Candidates:
    """First-stage candidates of some users.

    Attributes
    ----------
    inputs : dict of ndarray
        What the graph takes: ``history`` codes (n, length), ``candidates`` codes (n, m) and
        ``similarity`` (n, m); a missing place has code 0.
    rows : ndarray of shape (n, m), int64
        The candidates' item rows, best first; −1: missing.
    is_target : ndarray of shape (n, m), bool
    """

    inputs: dict[str, NDArray[Any]]
    rows: NDArray[np.int64]
    is_target: NDArray[np.bool_]


def train_reranker(
    model: TwoTower, split: Split, config: Config, run_dir: Path, *, progress: bool
) -> tuple[Scorer | None, RerankerReport]:
    """Train the scorer, measure what it changes, and save it.

    Returns
    -------
    scorer : CandidateScorer, FollowerScorer or None
        None if there are too few users with a history and validation events for a DNN.
    report : RerankerReport
    """
    settings = config.scorer
    scorer: Scorer | None = None
    if settings.kind == "followers":
        scorer = FollowerScorer(settings, fit_followers(split, settings))
    report = RerankerReport(
        kind=settings.kind,
        is_kept=scorer is not None,  # unless validation says otherwise
        n_candidates=settings.n_candidates,
        history_length=settings.history_length,
    )
    if split.valid.height and _count_users(split) >= MIN_USERS:
        evaluation = first_stage(model, split, settings.n_candidates)
        candidates = candidates_of(model, split, evaluation, settings)
        if isinstance(scorer, FollowerScorer):
            scores = _scores(scorer, candidates)
        else:
            scorer, scores = _train(split, candidates, evaluation, settings, progress)
        report = _judged(report, evaluation, rerank(scores, candidates.rows))
    weights = {} if scorer is None else scorer.get_weights()
    used = settings if scorer is None else scorer.config
    state = {"config": dataclasses.asdict(used), "report": report.to_dict()}
    checkpoint.save_arrays(run_dir / checkpoint.SCORER, weights, state)
    return scorer, report


def load_reranker(run_dir: Path, config: Config) -> tuple[Scorer | None, RerankerReport | None]:
    """Read the scorer of a run folder and its report; None for each that the run does not have."""
    if not config.scorer.enabled:
        return None, None
    weights, state = checkpoint.load_arrays(run_dir / checkpoint.SCORER)
    settings = ScorerConfig(**state["config"] | {"hidden": tuple(state["config"]["hidden"])})
    build = restore_followers if settings.kind == "followers" else restore
    # A run from before there were kinds does not name its own.
    report = RerankerReport(**{"kind": settings.kind, **state["report"]})
    return (build(settings, weights) if weights else None), report


def first_stage(model: TwoTower, split: Split, n_candidates: int) -> Evaluation:
    """Rank candidates for the validation users with a history."""
    ranker = TwoTowerRanker(model, split.dataset, n_threads=model.config.train.n_threads)
    ks, include_seen = (10, max(10, n_candidates)), model.config.split.include_seen
    return evaluate_users(ranker, split, "valid", ks, include_seen=include_seen)


def candidates_of(
    model: TwoTower, split: Split, evaluation: Evaluation, settings: ScorerConfig
) -> Candidates:
    """Put the candidates of evaluated users into the form of the graph."""
    histories = split.histories("train")
    chosen = np.flatnonzero(np.isin(histories.user_ids, evaluation.user_ids))
    lists = [histories.rows_of(int(i)) for i in chosen]
    lengths = np.array([len(rows) for rows in lists], np.int64)
    flat = np.concatenate(lists) + 1
    rows = evaluation.ranked_rows
    vectors = model.refresh()
    width = model.config.model.history_length
    users = encode_users(model, split, evaluation.user_ids, flat, lengths, width)
    similarity = np.empty(rows.shape, np.float32)
    at_once = max(1, MAX_NUMBERS // (rows.shape[1] * vectors.shape[1]))
    for start in range(0, len(rows), at_once):
        some = slice(start, start + at_once)
        similarity[some] = np.einsum("nd,nmd->nm", users[some], vectors[rows[some]])
    is_there = rows >= 0
    values, splits = evaluation.targets
    owners = np.repeat(np.arange(len(rows)), np.diff(splits))
    pairs = owners * len(vectors) + values
    is_target = np.isin(np.arange(len(rows))[:, None] * len(vectors) + rows, pairs) & is_there
    longest = min(int(lengths.max(initial=1)), settings.history_length)
    inputs = {
        "history": pad_lists(flat, lengths, longest, align="right"),
        "candidates": np.where(is_there, rows + 1, 0),
        "similarity": np.where(is_there, similarity, 0.0).astype(np.float32),
    }
    return Candidates(inputs, rows, is_target)


def encode_users(
    model: TwoTower,
    split: Split,
    user_ids: IdArray,
    codes: NDArray[np.int64],
    lengths: NDArray[np.int64],
    width: int,
) -> NDArray[np.float32]:
    """Encode users by their flat history codes and the user table."""
    table = align_users(split.dataset, user_ids)
    width = min(width, int(lengths.max(initial=1)))
    history = pad_lists(codes, lengths, width, align="right")
    inputs = model.features.encode_users(table)
    if model.features.event_features:
        lists = np.split(codes, np.cumsum(lengths)[:-1])
        events = HistoryEvents(model.features, split.dataset)
        inputs |= events.encoded(user_ids, lists, width)
    return model.encode_users(history, inputs)


def fit_tables(split: Split, settings: ScorerConfig) -> Tables:
    """Fit the item tables on the train targets; the features' scale comes later."""
    n_items = len(split.catalogue)
    liked = split.target_events("train")
    rows = split.item_rows(liked["item_id"])
    users = liked["user_id"].rle_id().to_numpy().astype(np.int64)
    factors = linear_factors(
        users, rows, n_items, n_factors=settings.n_factors, l2=settings.factor_l2
    )
    popularity = np.log1p(np.bincount(rows, minlength=n_items)).astype(np.float32)
    before, after, popular = (
        np.concatenate([np.zeros_like(table[:1]), table]) for table in (*factors, popularity)
    )
    followers = fit_followers(split, settings)
    return Tables(
        before, after, popular, np.zeros(6, np.float32), np.ones(6, np.float32), followers
    )


def fit_followers(split: Split, settings: ScorerConfig) -> Followers:
    """Count what follows what in the train part, and keep the most frequent."""
    return Followers.of(count_split_followers(split, settings) / STEPS)


def count_split_followers(split: Split, settings: ScorerConfig) -> Any:
    """Count what follows what in the train part: CSR (n_items, n_items), int64, in steps."""
    return sum_followers(
        split.train["user_id"].rle_id().to_numpy().astype(np.int64),
        split.item_rows(split.train["item_id"]),
        np.maximum(split.weights(split.train), 0.0).astype(np.float64),
        len(split.catalogue),
        window=settings.follower_window,
        gap_decay=settings.follower_gap_decay,
    )


def rerank(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order candidate rows by score, ties by the lower row, missing places last."""
    order = np.lexsort((rows, np.where(rows < 0, np.inf, -scores)), axis=1)
    return np.take_along_axis(rows, order, axis=1)


def _count_users(split: Split) -> int:
    return int((split.histories("train").lengths > 0).sum())


def _train(
    split: Split,
    candidates: Candidates,
    evaluation: Evaluation,
    settings: ScorerConfig,
    progress: bool,
) -> tuple[CandidateScorer, NDArray[np.float32]]:
    """Train the network, or a linear one where that is better: few users cannot teach layers.

    The scores of the candidates are of networks that never saw their user.
    """
    tables = fit_tables(split, settings)
    raw = _features(CandidateScorer(settings, tables), candidates)
    known = candidates.rows >= 0
    mean, std = raw[known].mean(axis=0), raw[known].std(axis=0)
    scale = {"mean": mean, "std": np.where(std > 0, std, 1.0).astype(np.float32)}
    tables = dataclasses.replace(tables, **scale)
    features = _features(CandidateScorer(settings, tables), candidates)
    both = [settings, dataclasses.replace(settings, hidden=())]
    fitted = [_cross_fitted(features, candidates, own) for own in both]
    ndcg = [
        float(_with_order(evaluation, rerank(scores, candidates.rows)).mean()) for scores in fitted
    ]
    best = ndcg.index(max(ndcg))  # the settings' own, of equals
    scorer = CandidateScorer(both[best], tables)
    everyone = np.ones(len(features), np.bool_)
    rng = np.random.default_rng([settings.seed, 5])
    final = _fit(features, candidates, everyone, both[best], rng, progress)
    scorer.scorer.set_weights(final.get_weights())
    return scorer, fitted[best]


def _cross_fitted(
    features: NDArray[np.float32], candidates: Candidates, settings: ScorerConfig
) -> NDArray[np.float32]:
    """Score the candidates by networks that never saw their user."""
    rng = np.random.default_rng([settings.seed, 4])
    folds = rng.permutation(len(features)) % N_FOLDS
    scores = np.zeros(candidates.rows.shape, np.float32)
    for fold in range(N_FOLDS):
        part = _fit(features, candidates, folds != fold, settings, rng, False)
        scores[folds == fold] = _predict(part, features[folds == fold])
    return scores


def _with_order(evaluation: Evaluation, ranked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each user's NDCG@10 of the candidates in another order."""
    return dataclasses.replace(evaluation, ranked_rows=ranked).per_user()[METRIC]


def _scores(scorer: FollowerScorer, candidates: Candidates) -> NDArray[np.float32]:
    n, parts = len(candidates.rows), []
    for start in range(0, n, CHUNK):
        some = {name: candidates.inputs[name][start : start + CHUNK] for name in INPUTS}
        parts.append(np.asarray(scorer.model(some)))
    return np.concatenate(parts)


def _features(scorer: CandidateScorer, candidates: Candidates) -> NDArray[np.float32]:
    return np.concatenate(scorer.features({n: candidates.inputs[n] for n in INPUTS}), axis=-1)


def _fit(
    features: NDArray[np.float32],
    candidates: Candidates,
    chosen: NDArray[np.bool_],
    settings: ScorerConfig,
    rng: np.random.Generator,
    progress: bool,
) -> DNNScorer:
    users = np.flatnonzero(chosen & candidates.is_target.any(axis=1))
    if len(users) > MAX_USERS:
        users = np.sort(rng.choice(users, MAX_USERS, replace=False))
    return fit_candidates(
        features[users],
        candidates.is_target[users],
        candidates.rows[users] >= 0,
        settings,
        n_user_features=1,
        progress=progress,
    )


def _predict(scorer: DNNScorer, features: NDArray[np.float32]) -> NDArray[np.float32]:
    n, m, width = features.shape
    flat = features.reshape(n * m, width)
    return scorer.predict(flat[:, :1], flat[:, 1:]).reshape(n, m)


def _judged(
    report: RerankerReport, evaluation: Evaluation, ranked: NDArray[np.int64]
) -> RerankerReport:
    """Compare NDCG@10 of both orders; the second is kept if the gain is over its own error."""
    without = evaluation.per_user()[METRIC]
    with_it = _with_order(evaluation, ranked)
    gain = with_it - without
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return dataclasses.replace(
        report,
        is_kept=bool(gain.mean() > error),
        n_users=len(gain),
        ndcg_at_10_without=float(without.mean()),
        ndcg_at_10_with=float(with_it.mean()),
        standard_error=error,
    )
