"""Columns that feed the encoders, and how values become codes and numbers."""
