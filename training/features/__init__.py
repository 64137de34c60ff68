"""Columns that feed the encoders, and how values become codes and numbers."""

from shortlist.training.features.features import FeatureSet

__all__ = ["FeatureSet"]
