"""Train, valid and test parts without leakage; weights of events."""

from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import leave_one_out, make_split, temporal

__all__ = ["Split", "leave_one_out", "make_split", "temporal"]
