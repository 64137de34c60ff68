"""Public: how much each event counts."""

from shortlist.training.splits.weights import event_weights

__all__ = ["event_weights"]
