"""Batch scoring: lists for everyone, from one core to a cluster."""

from shortlist.batch.scorer import Scorer, scorer

__all__ = ["Scorer", "scorer"]
