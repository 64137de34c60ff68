"""Public: ranking metrics of lists of item rows."""

from shortlist.training.evaluation.metrics import (
    bootstrap_intervals,
    per_user_metrics,
    ranking_metrics,
)

__all__ = ["bootstrap_intervals", "per_user_metrics", "ranking_metrics"]
