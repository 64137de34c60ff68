"""Batch scoring: lists for everyone, from one core to a cluster."""

from shortlist.batch.job import Progress, ScoreReport, score, stream
from shortlist.batch.on_ray import RayScorer
from shortlist.batch.scorer import Scorer, scorer

__all__ = ["Progress", "RayScorer", "ScoreReport", "Scorer", "score", "scorer", "stream"]
