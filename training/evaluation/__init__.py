"""Ranking metrics, baselines beside them, reports and plots."""
