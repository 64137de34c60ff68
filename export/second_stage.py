"""A trained second stage as the operators of `reranking` take it."""

from __future__ import annotations

import numpy as np

from shortlist.export.rerankers import DenseReranker, FollowerReranker, FollowerTable, Reranker
from shortlist.training.config.sections import ScorerConfig
from shortlist.training.fit.second_stage import Scorer
from shortlist.training.models import candidates, followers
from shortlist.training.models.followers import Followers, FollowerScorer


def describe_reranker(scorer: Scorer) -> Reranker:
    """Describe the second stage as our operators take it."""
    settings = scorer.config
    if isinstance(scorer, FollowerScorer):
        return FollowerReranker(_table(scorer.followers, settings), settings.follower_weight)
    weights = list(scorer.scorer.get_weights().values())
    tables = scorer.tables
    return DenseReranker(
        tables.of_history,
        tables.of_candidate,
        tables.popularity,
        tables.mean,
        tables.std,
        layers=list(zip(weights[::2], weights[1::2], strict=True)),
        activation=settings.activation,
        output=settings.output,
        n_latest=candidates.N_LATEST,
        followers=None if tables.followers is None else _table(tables.followers, settings),
    )


def _table(counts: Followers, settings: ScorerConfig) -> FollowerTable:
    ages = np.arange(followers.N_LATEST - 1, -1, -1, dtype=np.float32)
    fading = (settings.follower_decay**ages).astype(np.float32)
    return FollowerTable(counts.codes, counts.shares, fading)
